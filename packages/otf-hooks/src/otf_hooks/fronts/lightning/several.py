"""Several processes of one Lightning training: which can be steered, and where they agree."""

from __future__ import annotations

import math
from typing import Any, Iterable

import torch

from ...engine import Engine
from ...errors import TrainingError

#: They have one of their own for each process, and are made on those of `DDPStrategy`.
_SHARDING = ("DeepSpeedStrategy",)


def check_strategy(package: Any, trainer: Any) -> None:
    """Raise `TrainingError` where a trainer of several processes does not have the model on each."""
    if trainer.world_size == 1:
        return
    strategy = trainer.strategy
    kind = type(strategy).__name__
    if isinstance(strategy, package.strategies.DDPStrategy) and kind not in _SHARDING:
        return
    raise TrainingError(
        f"This trainer uses {trainer.world_size} processes with {kind}, under which a process has a "
        "part of the model or of the optimizer's state only: what a checkpoint needs cannot be put "
        "together from its hooks. Train with strategy='ddp', or leave the callback out."
    )


def is_first() -> bool:
    """Whether this process is the first one of a training, as far as there is a group of several."""
    distributed = torch.distributed
    is_alone = not (distributed.is_available() and distributed.is_initialized())
    return is_alone or distributed.get_rank() == 0


class Turns:
    """The batches of an evaluation that Lightning makes: between which of them the processes agree.

    Each process goes through its own. They meet before as many as all of them have; where a
    number is not known, before none.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._common = math.inf
        self._number = 0

    def begin(self, batches: Iterable[float]) -> None:
        """An evaluation over loaders of so many batches begins; every process says so at once."""
        self._number, self._common = 0, math.inf
        peers = self._engine.peers
        if peers.size > 1:
            of_each = peers.gathered(float(sum(batches)))
            self._common = 0 if math.inf in of_each else min(of_each)

    def take(self) -> bool:
        """Before a batch: whether it is a safe point, of all processes."""
        number = self._number
        self._number += 1
        if number >= self._common:
            return False
        self._engine.desk.inbox.keep_step(number)
        return True
