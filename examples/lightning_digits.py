"""A Lightning module, recorded and steered: one call before `trainer.fit`.

    python examples/lightning_digits.py

Needs Lightning and scikit-learn, whose handwritten digits it trains on.
"""

import argparse

import lightning.pytorch as pl
import torch
from onthefly import attach_lightning
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split


class Digits(pl.LightningModule):
    """A small network that knows nothing of who watches it."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 10))

    def training_step(self, batch, batch_idx):
        """Take the loss of a batch."""
        images, labels = batch
        loss = nn.functional.cross_entropy(self.net(images), labels)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        """Look how good it is on data that it is not trained on."""
        self._evaluate(batch, "val")

    def test_step(self, batch, batch_idx):
        """Look how good it is on data that nobody has looked at."""
        self._evaluate(batch, "test")

    def configure_optimizers(self):
        """Make the optimizer."""
        return torch.optim.AdamW(self.parameters(), lr=2e-3)

    def _evaluate(self, batch, split):
        images, labels = batch
        output = self.net(images)
        accuracy = (output.argmax(dim=1) == labels).float().mean()
        self.log(f"{split}_loss", nn.functional.cross_entropy(output, labels))
        self.log(f"{split}_accuracy", accuracy)


def main() -> None:
    """Train for as many epochs as asked for, and test."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=20)
    epochs = parser.parse_args().epochs

    pl.seed_everything(0)
    data = load_digits(return_X_y=True)
    digits = TensorDataset(torch.tensor(data[0]).float() / 16, torch.tensor(data[1]).long())
    training, validation, testing = random_split(digits, [0.7, 0.15, 0.15])
    train_loader = DataLoader(training, batch_size=32, shuffle=True)
    val_loader = DataLoader(validation, batch_size=256)

    model = Digits()
    trainer = pl.Trainer(
        max_epochs=epochs, logger=False, enable_checkpointing=False, enable_progress_bar=False
    )
    attach_lightning(
        trainer=trainer,
        model=model,
        project="digits",
        run_name="lightning-baseline",
        train_loader=train_loader,
        val_loader=val_loader,
        test_loader=DataLoader(testing, batch_size=256),
        do_test_after=True,
    )
    trainer.fit(model, train_loader, val_loader)
    print(f"val_accuracy {trainer.callback_metrics['val_accuracy']:.3f}")


if __name__ == "__main__":
    main()
