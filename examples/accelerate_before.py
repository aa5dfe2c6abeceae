"""A loop with Accelerate: breast cancer told from measurements, gradients of two batches a step.

    python examples/accelerate_before.py

Needs scikit-learn, whose data it trains on, and accelerate. `accelerate_loop.py` is the same, watched.
"""

import argparse

import torch
from accelerate import Accelerator
from sklearn.datasets import load_breast_cancer
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def main() -> None:
    """Train for as many epochs as asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=10)
    epochs = parser.parse_args().epochs

    torch.manual_seed(0)
    accelerator = Accelerator(gradient_accumulation_steps=2)
    data = load_breast_cancer(return_X_y=True)
    inputs = torch.tensor(data[0]).float()
    inputs = (inputs - inputs.mean(0)) / inputs.std(0)
    samples = TensorDataset(inputs, torch.tensor(data[1]).float())
    loader = DataLoader(samples, batch_size=16, shuffle=True)
    model = nn.Sequential(nn.Linear(30, 16), nn.ReLU(), nn.Linear(16, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)

    for epoch in range(epochs):
        for measured, label in loader:
            with accelerator.accumulate(model):
                loss = nn.functional.binary_cross_entropy_with_logits(model(measured)[:, 0], label)
                accelerator.backward(loss)
                optimizer.step()
                optimizer.zero_grad()
        accelerator.print(f"epoch {epoch}: loss {loss.item():.4f}")


if __name__ == "__main__":
    main()
