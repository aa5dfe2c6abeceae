"""What a script can get wrong, and what it is told."""

from __future__ import annotations

import pytest
import torch
from otf_hooks import TrainingError, watch
from otf_hooks.errors import ArgumentError, LoaderError, StepError
from otf_session.events import DeterminismAssessed, LogLine
from otf_session.home import Home
from torch import nn

from ..conftest import make_loader, make_parts
from ..record import of, states
from .conftest import Loop


def watching(**given):
    return watch(**{"project": "p", "auto_connect": False, **given})


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"model": "net"}, "model is a str"),
        ({"model": nn.Linear(2, 2), "optimizer": "sgd"}, "optimizer is a str"),
        ({"optimizer": torch.optim.SGD(nn.Linear(2, 2).parameters())}, "no model"),
        (
            {"model": nn.ReLU(), "optimizer": torch.optim.SGD(nn.Linear(2, 2).parameters())},
            "no parameters",
        ),
        (
            {"model": nn.Linear(2, 2), "optimizer": torch.optim.SGD(nn.Linear(2, 2).parameters())},
            "holds none of model's parameters",
        ),
        ({"model": {"a.b": nn.Linear(2, 2), "c": nn.ReLU()}}, "words without dots"),
        ({"scheduler": object()}, "scheduler is a object"),
        ({"max_steps": 0}, "max_steps is 0"),
        ({"run_name": ""}, "watch needs run_name="),
        ({"project": " "}, "project must be a name"),
        ({"ckpt_every_steps": -1}, "ckpt_every_steps"),
    ],
)
def test_arguments_that_cannot_be_what_they_are(given, told):
    with pytest.raises(ArgumentError, match=told):
        watching(**given)
    assert not Home.find().sessions.exists() or not list(Home.find().sessions.iterdir())


@pytest.mark.parametrize(
    "use",
    [
        lambda run: run.step(loss=1.0),
        lambda run: run.log(loss=1.0),
        lambda run: next(run.epochs(2)),
        lambda run: run.batches([1]),
        lambda run: run.evaluate(len, [1]),
        lambda run: run.evaluator("test"),
        lambda run: run.should_stop,
        lambda run: run.evaluation().__enter__(),
        lambda run: run.steps,
    ],
)
def test_outside_of_with(use):
    with pytest.raises(TrainingError, match="outside of its `with`"):
        use(watching())


def test_after_its_with():
    with watching() as run:
        run.step()
    with pytest.raises(TrainingError, match=r"run\.step is used outside"):
        run.step()
    with pytest.raises(TrainingError, match="watched before"), run:
        pass


def failing(match, kind=TrainingError):
    return pytest.raises(kind, match=match)


def test_a_pass_within_a_pass():
    loop = Loop()
    with failing("within a pass"), loop.watching as run:
        for _ in run.batches(loop.loader):
            next(iter(run.batches(make_loader())))
    assert states() == ["running", "failed"]


def test_two_passes_at_once():
    loop = Loop()
    with failing("as by zip"), loop.watching as run:
        for _ in zip(run.batches(loop.loader), run.batches(make_loader())):
            pass


def test_epochs_asked_for_twice():
    loop = Loop()
    with failing("once more"), loop.watching as run:
        for _ in run.epochs(2):
            for _ in run.epochs(2):
                pass


@pytest.mark.parametrize(
    ("loader", "told"),
    [
        (iter([1, 2]), "an iterator, which is empty after one pass"),
        (torch.utils.data.TensorDataset(torch.ones(2)), "yields no batches"),
        (3, "yields no batches"),
    ],
)
def test_what_is_no_loader(loader, told):
    with failing(told, ArgumentError), watching() as run:
        run.batches(loader)


def test_a_loader_without_batches():
    with failing("yielded no batch in epoch 1", LoaderError), Loop().watching as run:
        for _ in run.epochs(2):
            list(run.batches([]))


def test_a_pass_without_steps_is_told_once():
    loop = Loop()
    with loop.watching as run:
        for _ in run.epochs(3):
            for _ in run.batches(loop.loader):
                pass
    told = [line.text for line in of(LogLine) if "run.step was not called" in line.text]
    assert len(told) == 1
    assert "8 batches" in told[0]


def test_a_scheduler_that_watch_was_not_given_is_a_finding():
    parts = make_parts()
    scheduler = torch.optim.lr_scheduler.StepLR(parts["optimizer"], 1)
    with watching(model=parts["model"], optimizer=parts["optimizer"]) as run:
        for _ in run.batches(parts["train_loader"]):
            parts["optimizer"].step()
            run.step()
        scheduler.step()
    assessed = of(DeterminismAssessed)[-1]
    assert not assessed.exact
    assert "scheduler=" in assessed.findings[0]


def test_what_an_evaluation_cannot_be():
    loop = Loop()
    with loop.watching as run:
        with failing("'validation' or 'test'", ArgumentError):
            run.evaluate(lambda batch: {"loss": 1.0}, loop.loader, split="valid")
        with failing("function of a batch", ArgumentError):
            run.evaluator("test", loop.loader)("no function")
        with failing("no 'loss'", StepError):
            run.evaluate(lambda batch: {"f1": 1.0}, loop.loader)
        with failing("one number", StepError), run.evaluation() as found:
            found(loss=torch.ones(2))
