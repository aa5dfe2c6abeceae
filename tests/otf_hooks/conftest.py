from __future__ import annotations

from typing import Any, Callable, Dict

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def make_loader(size: int = 64, *, shuffle: bool = False, batch_size: int = 8) -> DataLoader[Any]:
    """A small classification problem, the same each time."""
    generator = torch.Generator().manual_seed(7)
    inputs = torch.randn(size, 6, generator=generator)
    targets = (inputs.sum(dim=1) > 0).long()
    return DataLoader(TensorDataset(inputs, targets), batch_size=batch_size, shuffle=shuffle)


def make_parts(seed: int = 0, **loader: Any) -> Dict[str, Any]:
    """Everything that `fit` needs, the same for the same seed."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.Dropout(0.2), nn.Linear(16, 2))
    return {
        "model": model,
        "optimizer": torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9),
        "loss_fn": nn.CrossEntropyLoss(),
        "train_loader": make_loader(**loader),
    }


@pytest.fixture
def parts() -> Callable[..., Dict[str, Any]]:
    return make_parts
