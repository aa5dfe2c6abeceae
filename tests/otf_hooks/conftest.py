from __future__ import annotations

from typing import Any, Callable, Dict

import pytest
import torch
from otf_hooks.engine import Engine
from otf_hooks.fronts.setup import check
from otf_hooks.fronts.steps import validation_step
from otf_hooks.fronts.training import TrainingLoop
from otf_hooks.hyperparameters import Hyperparameters, Tunables
from otf_hooks.limits import Limits
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


def make_loop(engine: Engine, **given: Any) -> TrainingLoop:
    """A training loop over the usual parts, for an engine that is driven by hand."""
    found = {**make_parts(), **given}
    setup = check(
        **found,
        val_loader=make_loader(),
        test_loader=make_loader(),
        scheduler=None,
        scheduler_interval="epoch",
        device=None,
        amp=False,
        grad_clip_norm=None,
        needs_loss_fn=True,
        needs_test_loader=True,
    )
    return TrainingLoop(
        engine=engine,
        setup=setup,
        training_step=None,
        validation_step=validation_step,
        val_every=1,
        test_after=False,
        limits=Limits(script_epochs=3, script_steps=None, steps_per_epoch=8),
        hyperparameters=Hyperparameters(
            optimizer=setup.optimizer,
            scheduler=None,
            grad_clip_norm=None,
            tunables=Tunables(),
        ),
    )


@pytest.fixture
def parts() -> Callable[..., Dict[str, Any]]:
    return make_parts
