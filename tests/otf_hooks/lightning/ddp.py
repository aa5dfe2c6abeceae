"""The trainings of `scenarios` on two processes, those of `distributed.ranks`.

As a script, `python -m tests.otf_hooks.lightning.ddp` trains one as a person starts it, by `python`
alone: Lightning starts the other process.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any, Dict, List, Optional

import torch
import torch.distributed as dist
from otf_hooks import randomness
from otf_hooks.distributed import agreement
from otf_session.commands import SaveCheckpoint, Stop
from torch.utils.data import DataLoader

from ..distributed import ranks
from ..distributed.work import kill
from ..scenarios import Augmented
from . import scenarios
from .scenarios import PACKAGE, Net, validation, weights

# Where these tests are collected, a rank has this imported from the beginning.
ranks._context.set_forkserver_preload(["tests.otf_hooks.distributed.preload", __name__])

strategies: Any = importlib.import_module(f"{PACKAGE}.strategies")

#: Scenarios, and the arguments of `DDPStrategy` where there are any.
SCENARIOS: Dict[str, Dict[str, Any]] = {
    "plain": {},
    "worker": {},
    "random-dataset": {},
    "accumulated": {},
    "manual": {},
    "metric": {},
    "own-buffers": {"broadcast_buffers": False},
}
STEPS_PER_EPOCH = scenarios.STEPS_PER_EPOCH // 2
STEPS = scenarios.STEPS // 2


class Reduced(Net):
    """Has what it logs in an evaluation reduced over the processes."""

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", self.loss(batch), sync_dist=True)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.log("test_loss", self.loss(batch), sync_dist=True)
        self.log("test_rank", float(self.global_rank), sync_dist=True)
        self.log("test_own_rank", float(self.global_rank))


def _on_this_rank(name: str) -> Dict[str, Any]:
    """The trainer's arguments; each rank draws differently from here on."""
    rank, world = dist.get_rank(), dist.get_world_size()
    os.environ.update(LOCAL_RANK=str(rank), NODE_RANK="0", WORLD_SIZE=str(world))
    randomness.seed_all(3 + rank)
    return {"strategy": strategies.DDPStrategy(**SCENARIOS.get(name, {})), "devices": 2}


def _scenario(name: str) -> str:
    return name if name in scenarios.MAKERS else "plain"


def _loader(name: str, parts: Any) -> Any:
    """What is trained on: a worker less than alone, because each rank has its own."""
    if name != "worker":
        return parts.loader
    return DataLoader(Augmented(), batch_size=scenarios.BATCH, shuffle=True, num_workers=1)


def bare(name: str) -> Dict[str, torch.Tensor]:
    """The weights that Lightning alone comes to."""
    parts = scenarios.make(_scenario(name))
    trainer = scenarios.trainer(parts, **_on_this_rank(name))
    trainer.fit(parts.module, _loader(name, parts), validation())
    return weights(parts.module)


class Steered(scenarios.Steered):
    """Trains one of them attached; commands are given on rank 0, functions called on a rank."""

    def __init__(
        self, name: str, given: Optional[Dict[str, Any]] = None, *, every_step: bool = True
    ) -> None:
        if every_step:
            # Agreed on after every step, so that a test can say when.
            agreement.SECONDS = 0.0
        # As the trainer is made: nothing is drawn in between.
        options = _on_this_rank(name)
        super().__init__(_scenario(name), given, **options)
        randomness.seed_all(3 + dist.get_rank())
        self.parts = self.parts._replace(loader=_loader(name, self.parts))
        if name == "reduced":
            self.module.__class__ = Reduced

    def at(self, step: int, *what: Any, rank: Optional[int] = 0) -> Steered:
        """Have these done at the safe point behind a step, on one rank or with None on each."""
        if rank is None or rank == dist.get_rank():
            super().at(step, *what)
        return self


def steered(
    name: str,
    plan: Dict[int, List[Any]],
    given: Optional[Dict[str, Any]] = None,
    every_step: bool = True,
) -> Dict[str, torch.Tensor]:
    """What a scenario comes to, attached, with commands behind steps."""
    training = Steered(name, given, every_step=every_step)
    for step, what in plan.items():
        training.at(step, *what)
    return training.run()


def killed(name: str, step: int) -> None:
    """Saved behind a step, and all ranks killed two steps later."""
    training = Steered(name).at(step, SaveCheckpoint())
    training.at(step + 2, lambda steered: kill(steered.engine), rank=None)
    training.run()


def main() -> None:
    """Two epochs with DDP, or from where `otf resume` says; stopped behind a step where one is named."""
    stop_at = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    agreement.SECONDS = 0.0
    training = scenarios.Steered("plain", strategy="ddp", devices=2, max_epochs=2)
    if stop_at and os.environ.get("LOCAL_RANK", "0") == "0":
        training.at(stop_at, Stop())
    training.run()


if __name__ == "__main__":
    main()
