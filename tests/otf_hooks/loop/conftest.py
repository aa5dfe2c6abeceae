from __future__ import annotations

from typing import Any, Callable, Dict, Optional

import pytest
import torch
from otf_hooks import watch
from otf_session.commands import CommandRequest
from torch import nn

from ..conftest import make_loader, make_parts

#: The steps of an epoch of `Loop`.
EPOCH = 8


class Loop:
    """A loop as a person writes it, over the usual small problem, watched.

    `plan` has what is done right after a step, by its number: a command that is asked for, or a
    function of the run that is called.
    """

    def __init__(self, plan: Optional[Dict[int, Any]] = None, **options: Any) -> None:
        self.parts = make_parts()
        self.model, self.optimizer = self.parts["model"], self.parts["optimizer"]
        self.loader = self.parts["train_loader"]
        self.plan = dict(plan or {})
        given = {"project": "p", "run_name": "r", "auto_connect": False, **options}
        self.watching = watch(self.model, self.optimizer, **given)
        self.epochs_seen: list[int] = []
        self.losses: list[float] = []

    def one(self, run: Any, batch: Any) -> None:
        """A step, recorded, and what the plan has for it."""
        self.optimizer.zero_grad()
        loss = nn.functional.cross_entropy(self.model(batch[0]), batch[1])
        loss.backward()
        self.optimizer.step()
        self.losses.append(loss.item())
        run.step(loss=loss)
        planned = self.plan.pop(run.steps, [])
        for what in planned if isinstance(planned, list) else [planned]:
            if callable(what):
                what(run)
            else:
                ask(run, what)

    def run(
        self, epochs: int = 2, after_epoch: Callable[[Any], None] = lambda run: None
    ) -> Dict[str, torch.Tensor]:
        """Train; the weights afterwards."""
        with self.watching as run:
            for epoch in run.epochs(epochs):
                self.epochs_seen.append(epoch)
                for batch in run.batches(self.loader):
                    self.one(run, batch)
                after_epoch(run)
        return {name: tensor.clone() for name, tensor in self.model.state_dict().items()}


def ask(run: Any, command: Any) -> None:
    """Ask for a command, as a dashboard does; it is executed at the next safe point."""
    request = CommandRequest(id=f"{id(command)}", author="test", command=command)
    run._training.engine.desk.receive(request)


@pytest.fixture
def other_loader() -> Any:
    return make_loader(20)
