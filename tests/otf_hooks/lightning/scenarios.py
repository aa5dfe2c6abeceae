"""Trainings with Lightning that must be exact, bit for bit, however they are interrupted.

As a script, `python -m tests.otf_hooks.lightning.scenarios NAME OUT [AT=ACTION ...]` trains one of
them and writes its weights to OUT. Each `AT=ACTION` says what happens after step AT: `save`, `kill`.
"""

from __future__ import annotations

import importlib
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional

import torch
from otf_hooks import randomness
from otf_hooks.fronts.lightning import attach_lightning
from otf_session.commands import Command, CommandRequest, SaveCheckpoint
from otf_session.events import CheckpointSaved
from torch import nn
from torch.utils.data import DataLoader

from ...helpers.waiting import wait_for
from ..record import of
from ..scenarios import Augmented, Stream, data

#: Where the tests are started from.
ROOT = Path(__file__).parents[3]

SAMPLES, BATCH, EPOCHS = 48, 4, 3
STEPS_PER_EPOCH = SAMPLES // BATCH
STEPS = EPOCHS * STEPS_PER_EPOCH
#: The package that the tests train with; the other one runs with another value of this.
PACKAGE = os.environ.get("OTF_TEST_LIGHTNING", "lightning.pytorch")

L: Any = importlib.import_module(PACKAGE)

#: What Lightning says on the terminal about small loaders, and its own use of what torch gives up.
LIGHTNING_WARNS = tuple(
    f"ignore::{kind}"
    for kind in ("UserWarning", "RuntimeWarning", "FutureWarning", "DeprecationWarning")
)
logging.getLogger(PACKAGE).setLevel(logging.ERROR)


class Net(L.LightningModule):  # type: ignore[misc]
    """A small classifier that is logged in the usual ways."""

    def __init__(self, dropout: float = 0.2, optimizers: Optional[Callable[..., Any]] = None):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(dropout), nn.Linear(16, 2)
        )
        self._optimizers_of = optimizers
        self.seen: List[str] = []

    def loss(self, batch: Any) -> torch.Tensor:
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = self.loss(batch)
        self.log("train_loss", loss, on_step=True, on_epoch=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", self.loss(batch))

    def on_test_start(self) -> None:
        self.seen.append("on_test_start")

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.seen.append(os.environ.get("ONTHEFLY_TEST_LABEL", ""))
        self.log("test_loss", self.loss(batch))

    def configure_optimizers(self) -> Any:
        if self._optimizers_of is not None:
            return self._optimizers_of(self)
        return torch.optim.AdamW(self.parameters(), lr=0.01)


class Manual(Net):
    """Two optimizers with a scheduler each, stepped by the module itself."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        first, second = self.optimizers()
        loss = self.loss(batch)
        self.manual_backward(loss)
        if (batch_idx + 1) % 2 == 0:
            first.step()
            second.step()
            first.zero_grad()
            second.zero_grad()
            for scheduler in self.lr_schedulers():
                scheduler.step()
        self.log("train_loss", loss)
        return loss

    def configure_optimizers(self) -> Any:
        first = torch.optim.AdamW(self.net[0].parameters(), lr=0.01)
        second = torch.optim.SGD(self.net[4].parameters(), lr=0.1, momentum=0.9)
        schedule = torch.optim.lr_scheduler.ExponentialLR
        return [first, second], [schedule(first, 0.99), schedule(second, 0.98)]


class Two(Net):
    """Trains on two loaders at once."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return super().training_step(batch["one"], batch_idx) + self.loss(batch["other"])


class WithMetric(Net):
    """Logs a metric of torchmetrics, which gathers over an epoch."""

    def __init__(self) -> None:
        super().__init__()
        import torchmetrics

        self.accuracy = torchmetrics.Accuracy(task="multiclass", num_classes=2)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.accuracy(self.net(batch[0]), batch[1])
        self.log("accuracy", self.accuracy, on_step=False, on_epoch=True)
        return super().training_step(batch, batch_idx)


def one_cycle(module: Any) -> Any:
    optimizer = torch.optim.SGD(module.parameters(), lr=0.05, momentum=0.9)
    steps = module.trainer.estimated_stepping_batches
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=int(steps))
    return [optimizer], [{"scheduler": scheduler, "interval": "step"}]


def by_epoch(module: Any) -> Any:
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.01)
    return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)]


def plateau(module: Any) -> Any:
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.05)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, factor=0.5)
    return {
        "optimizer": optimizer,
        "lr_scheduler": {"scheduler": scheduler, "monitor": "val_loss", "strict": False},
    }


def shuffled(**options: Any) -> DataLoader[Any]:
    return DataLoader(data(), batch_size=BATCH, shuffle=True, **options)


class Parts(NamedTuple):
    """What one training is made of."""

    module: Any
    loader: Any
    options: Dict[str, Any] = {}  # noqa: RUF012


MAKERS: Dict[str, Callable[[], Parts]] = {
    "plain": lambda: Parts(Net(optimizers=by_epoch), shuffled()),
    "workers": lambda: Parts(
        Net(), DataLoader(Augmented(), batch_size=BATCH, shuffle=True, num_workers=2)
    ),
    "random-dataset": lambda: Parts(
        Net(),
        DataLoader(
            Augmented(),
            batch_size=BATCH,
            shuffle=True,
            generator=torch.Generator().manual_seed(11),
        ),
    ),
    "accumulated": lambda: Parts(
        Net(optimizers=one_cycle),
        shuffled(),
        {"accumulate_grad_batches": 3, "gradient_clip_val": 0.5},
    ),
    "manual": lambda: Parts(Manual(), shuffled()),
    "bf16": lambda: Parts(Net(), shuffled(), {"precision": "bf16-mixed"}),
    "limits": lambda: Parts(
        Net(),
        shuffled(),
        {"limit_train_batches": 10, "limit_val_batches": 1, "val_check_interval": 0.5},
    ),
    "plateau": lambda: Parts(
        Net(optimizers=plateau), shuffled(), {"check_val_every_n_epoch": 2, "max_epochs": 4}
    ),
    "stream": lambda: Parts(Net(), DataLoader(Stream(), batch_size=BATCH)),
    "two-loaders": lambda: Parts(
        Two(),
        {"one": shuffled(), "other": shuffled(generator=torch.Generator().manual_seed(5))},
    ),
    "metric": lambda: Parts(WithMetric(), shuffled()),
}


def make(name: str) -> Parts:
    torch.set_num_threads(1)
    randomness.seed_all(3)
    return MAKERS[name]()


def trainer(parts: Parts, **options: Any) -> Any:
    quiet = {
        "accelerator": "cpu",
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
        "max_epochs": EPOCHS,
    }
    return L.Trainer(**{**quiet, **parts.options, **options})


def validation() -> DataLoader[Any]:
    return DataLoader(data(), batch_size=16)


def weights(module: Any) -> Dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def bare(name: str, **options: Any) -> Dict[str, torch.Tensor]:
    """The weights that Lightning alone comes to."""
    parts = make(name)
    trainer(parts, **options).fit(parts.module, parts.loader, validation())
    return weights(parts.module)


class Steered(L.Callback):  # type: ignore[misc]
    """Trains one of the above, attached, and gives commands behind the batches named."""

    def __init__(self, name: str, given: Optional[Dict[str, Any]] = None, **options: Any) -> None:
        self.parts = make(name)
        self.module = self.parts.module
        self.plan: Dict[int, List[Any]] = {}
        self.trainer = trainer(self.parts, **options)
        wanted = {"project": "demo", "run_name": "baseline", "auto_connect": False}
        loaders = {"train_loader": self.parts.loader, "test_loader": validation()}
        self.handle = attach_lightning(
            trainer=self.trainer, model=self.module, **{**wanted, **loaders, **(given or {})}
        )
        self.trainer.callbacks.append(self)
        self.given = 0
        self.saves_at = 0

    @property
    def engine(self) -> Any:
        loop = self.handle.callback._loop
        return None if loop is None else loop._engine

    def at(self, step: int, *what: Any) -> Steered:
        """Have these done at the safe point behind a step."""
        self.plan.setdefault(step, []).extend(what)
        return self

    def run(self, **options: Any) -> Dict[str, torch.Tensor]:
        self.trainer.fit(self.module, self.parts.loader, validation(), **options)
        return weights(self.module)

    def give(self, command: Command) -> None:
        self.given += 1
        request = CommandRequest(id=f"{self.given}", author="ada", command=command)
        self.engine.desk.receive(request)

    def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
        for what in self.plan.pop(self.engine.step + 1, []):
            self.do(what)

    def do(self, what: Any) -> None:
        if isinstance(what, Command.__args__):
            self.give(what)
        else:
            what(self)


def _kill(steered: Steered) -> None:
    steered.engine.keeper.flush()
    kept = f"kept-{steered.saves_at}"
    wait_for(lambda: any(saved.label == kept for saved in of(CheckpointSaved)), kept)
    os.kill(os.getpid(), signal.SIGKILL)


def main(words: List[str]) -> None:
    name, out, *plan = words
    steered = Steered(name)
    for word in plan:
        step, action = word.split("=")
        if action == "save":
            steered.saves_at = int(step)
            steered.at(int(step), SaveCheckpoint(name=f"kept-{step}"))
        else:
            steered.at(int(step), _kill)
    torch.save(steered.run(), out)


if __name__ == "__main__":
    main(sys.argv[1:])
