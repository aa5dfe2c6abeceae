"""A training loop as many write it: handwritten digits, a scheduler, a validation an epoch.

    python examples/own_loop_before.py

Needs scikit-learn, whose data it trains on. `own_loop.py` is the same loop, watched.
"""

import argparse

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split


def accuracy(model, loader):
    """The share of digits that are told right."""
    model.eval()
    with torch.no_grad():
        right = sum((model(images).argmax(1) == labels).sum().item() for images, labels in loader)
    model.train()
    return right / len(loader.dataset)


def main() -> None:
    """Train for as many epochs as asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=10)
    epochs = parser.parse_args().epochs

    torch.manual_seed(0)
    data = load_digits(return_X_y=True)
    digits = TensorDataset(torch.tensor(data[0]).float() / 16, torch.tensor(data[1]).long())
    training, validation = random_split(digits, [0.8, 0.2])
    train_loader = DataLoader(training, batch_size=32, shuffle=True)
    val_loader = DataLoader(validation, batch_size=256)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.2), nn.Linear(64, 10))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs)

    for epoch in range(epochs):
        for images, labels in train_loader:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(images), labels)
            loss.backward()
            optimizer.step()
        scheduler.step()
        print(f"epoch {epoch}: val_accuracy {accuracy(model, val_loader):.3f}")


if __name__ == "__main__":
    main()
