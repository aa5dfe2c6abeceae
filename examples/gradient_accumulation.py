"""A training step of one's own: gradients of four batches, then one step of the optimizer.

    python examples/gradient_accumulation.py

Needs scikit-learn, whose handwritten digits it trains on.
"""

import argparse

import torch
from onthefly import Trainer
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

ACCUMULATE = 4


def main() -> None:
    """Train for as many epochs as asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=20)
    epochs = parser.parse_args().epochs

    torch.manual_seed(0)
    data = load_digits(return_X_y=True)
    digits = TensorDataset(torch.tensor(data[0]).float() / 16, torch.tensor(data[1]).long())
    training, validation = random_split(digits, [0.8, 0.2])
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    trainer = Trainer(project="digits", run_name="accumulated", max_epochs=epochs)

    @trainer.training_step
    def step(batch, state):
        images, labels = batch
        loss = state["loss_fn"](state["model"](images), labels)
        (loss / ACCUMULATE).backward()
        if (state["step"] + 1) % ACCUMULATE == 0:
            state["optimizer"].step()
            state["optimizer"].zero_grad()
        return {"loss": loss}

    result = trainer.fit(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.3),
        loss_fn=nn.CrossEntropyLoss(),
        train_loader=DataLoader(training, batch_size=16, shuffle=True),
        val_loader=DataLoader(validation, batch_size=256),
    )
    print(f"val_accuracy {result.metrics['val_accuracy']:.3f} after {result.step} steps")


if __name__ == "__main__":
    main()
