"""A run that is checked: the reports, and what the run comes to."""

from __future__ import annotations

import time
from typing import Any, Callable, Dict, List, Optional

import torch
from otf_hooks import Trainer
from otf_hooks.assembly import Address, open_engine
from otf_hooks.fronts.setup import check as check_setup
from otf_hooks.fronts.steps import validation_step
from otf_hooks.fronts.training import TrainingLoop
from otf_hooks.health import CHECKS, Examination
from otf_hooks.hyperparameters import Hyperparameters, Tunables
from otf_hooks.limits import Limits
from otf_session.commands import CheckHealth, Command, CommandRequest
from otf_session.events import CommandChanged, HealthReported
from otf_session.health import HealthFinding, HealthReport
from otf_session.home import Home
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from ..record import of

FEATURES, CLASSES = 8, 3


def data(size: int = 240, *, seed: int = 7) -> TensorDataset:
    """Three classes that can be told apart, with normalised inputs."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.arange(size) % CLASSES
    centres = torch.randn(CLASSES, FEATURES, generator=torch.Generator().manual_seed(1))
    inputs = centres[targets] + 0.5 * torch.randn(size, FEATURES, generator=generator)
    return TensorDataset(inputs, targets)


def loader(dataset: Any = None, **options: Any) -> DataLoader[Any]:
    given = {"batch_size": 24, "shuffle": True, **options}
    return DataLoader(data() if dataset is None else dataset, **given)


def parts(*middle: nn.Module, seed: int = 0, **given: Any) -> Dict[str, Any]:
    """What `fit` needs; `middle` stands between two linear layers."""
    # Small sums are not made faster by several threads, and tests share a machine.
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    hidden = middle or (nn.ReLU(),)
    model = nn.Sequential(nn.Linear(FEATURES, 16), *hidden, nn.Linear(16, CLASSES))
    found = {
        "model": model,
        "loss_fn": nn.CrossEntropyLoss(),
        "train_loader": loader(),
        "val_loader": loader(data(seed=8), shuffle=False),
        **given,
    }
    found.setdefault("optimizer", torch.optim.AdamW(found["model"].parameters(), lr=1e-3))
    return found


def run(
    given: Dict[str, Any],
    *commands: Any,
    at: int = 3,
    steps: int = 6,
    step: Optional[Callable[..., Any]] = None,
    **options: Any,
) -> Trainer:
    """Train, with these commands (or functions of the engine) at the safe point after step `at`."""
    trainer = Trainer(
        project="p", run_name="r", max_steps=steps, auto_connect=False, guards=[], **options
    )
    if step is not None:
        trainer.training_step(step)
    waiting: List[Any] = list(commands)

    def ask(module: nn.Module, args: Any) -> None:
        engine = trainer._engine
        if not module.training or engine is None or engine.step != at - 1:
            return
        for what in waiting:
            if isinstance(what, Command.__args__):
                request = CommandRequest(id=str(id(what)), author="ada", command=what)
                engine.desk.receive(request)
            else:
                what(engine)
        waiting.clear()

    given["model"].register_forward_pre_hook(ask)
    trainer.fit(**given)
    return trainer


def reports() -> List[HealthReport]:
    return [event.report for event in of(HealthReported)]


def outcomes() -> List[Any]:
    return [event.outcome for event in of(CommandChanged) if event.outcome is not None]


def checked(given: Dict[str, Any], check: str, **options: Any) -> HealthReport:
    """The report of a check in the midst of a real training."""
    run(given, CheckHealth(check=check), **options)
    (answer,) = outcomes()
    (report,) = reports()
    assert answer.result.reports == [report]
    return report


def examined(given: Dict[str, Any], check: str, **options: Any) -> HealthReport:
    """The report of a check of a loop that has not begun, with parts handed in."""
    engine = open_engine(
        project="p", home=Home.find(), folder=None, address=Address("127.0.0.1", 1, connect=False)
    )
    try:
        loop = make_loop(engine, given)
        exam = Examination(
            front=loop,
            probe=loop.probe(),
            keep_going=lambda done, total: True,
            prover=loop,
            **{"clock": time.perf_counter, **options},
        )
        CHECKS[check](exam)
        return exam.notes.report(check, 0.0)
    finally:
        engine.abandon()


def make_loop(engine: Any, given: Dict[str, Any]) -> TrainingLoop:
    setup = check_setup(
        **{"val_loader": None, **given},
        test_loader=None,
        scheduler=None,
        scheduler_interval="epoch",
        device=None,
        amp=False,
        grad_clip_norm=None,
        needs_loss_fn=True,
        needs_test_loader=False,
    )
    return TrainingLoop(
        engine=engine,
        setup=setup,
        training_step=None,
        validation_step=validation_step,
        val_every=1,
        test_after=False,
        limits=Limits(script_epochs=1, script_steps=None, steps_per_epoch=8),
        hyperparameters=Hyperparameters(
            optimizer=setup.optimizer, scheduler=None, grad_clip_norm=None, tunables=Tunables()
        ),
    )


def found(report: HealthReport, where: str = "", what: str = "") -> HealthFinding:
    """The one finding whose place and sentence hold these words."""
    matching = [f for f in report.findings if where in f.where and what in f.what]
    assert len(matching) == 1, report.findings
    (finding,) = matching
    assert finding.value
    assert finding.meaning
    assert finding.remedy
    return finding
