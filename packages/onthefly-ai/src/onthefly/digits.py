"""The demo's training: a small convolutional network on scikit-learn's handwritten digits."""

from typing import Any, Dict, Optional, Tuple

import torch
from otf_hooks import FitResult, Trainer
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset, random_split


class Shifted(Dataset[Tuple[torch.Tensor, torch.Tensor]]):
    """Digits moved by up to a pixel and noised, anew each time: the network never sees all."""

    def __init__(self, digits: Dataset[Any]) -> None:
        self._digits = digits

    def __len__(self) -> int:
        return len(self._digits)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> Tuple[torch.Tensor, torch.Tensor]:
        image, label = self._digits[index]
        down, right = torch.randint(-1, 2, (2,)).tolist()
        shifted = torch.roll(image, (down, right), dims=(1, 2))
        return shifted + 0.2 * torch.randn_like(shifted), label


def build_model() -> nn.Module:
    """A convolutional network for 8 x 8 images and ten classes."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.3),
        nn.Linear(64 * 4 * 4, 128),
        nn.ReLU(),
        nn.Linear(128, 10),
    )


def train(epochs: int, port: Optional[int] = None, *, linger: bool = True) -> FitResult:
    """Train on the digits for so many epochs, with validation, and test at the end."""
    torch.manual_seed(0)
    # The demo shares the machine with the server and a browser.
    torch.set_num_threads(1)
    data = load_digits()
    images = torch.tensor(data.images, dtype=torch.float32).unsqueeze(1) / 16
    labels = torch.tensor(data.target, dtype=torch.long)
    training, validation, test = random_split(TensorDataset(images, labels), [0.7, 0.15, 0.15])
    model = build_model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    trainer = Trainer(
        project="digits",
        run_name="baseline",
        max_epochs=epochs,
        do_test_after=True,
        linger=linger,
        dashboard_port=port,
    )

    @trainer.training_step
    def step(batch: Any, state: Dict[str, Any]) -> Dict[str, Any]:
        images, labels = batch
        logits = model(images)
        loss = nn.functional.cross_entropy(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return {"loss": loss, "accuracy": (logits.argmax(1) == labels).float().mean()}

    return trainer.fit(
        model=model,
        optimizer=optimizer,
        loss_fn=nn.CrossEntropyLoss(),
        train_loader=DataLoader(Shifted(training), batch_size=32, shuffle=True),
        val_loader=DataLoader(validation, batch_size=256),
        test_loader=DataLoader(test, batch_size=256),
    )
