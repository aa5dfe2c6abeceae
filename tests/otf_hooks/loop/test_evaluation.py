"""Evaluation by the script and by commands, which leaves no trace in training."""

from __future__ import annotations

import pytest
import torch
from otf_session.commands import Test, Validate
from otf_session.events import CheckpointSaved, CommandChanged, EvaluationFinished
from torch import nn

from ..conftest import make_loader
from ..record import of, series
from .conftest import Loop


def by_batch(loop):
    def evaluate(batch):
        assert not loop.model.training
        assert not torch.is_grad_enabled()
        output = loop.model(batch[0])
        torch.rand(3)
        accuracy = (output.argmax(1) == batch[1]).float().mean()
        return {"loss": nn.functional.cross_entropy(output, batch[1]), "accuracy": accuracy}

    return evaluate


def outcomes():
    return [event.outcome for event in of(CommandChanged) if event.outcome is not None]


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in other)


def test_it_is_the_mean_over_samples_and_leaves_no_trace():
    bare, loop = Loop().run(), Loop()
    # Batches of 8, 8 and 4, drawn at random.
    loader, found = make_loader(20, shuffle=True), []
    weights = loop.run(2, lambda run: found.append(run.evaluate(by_batch(loop), loader)))
    assert same(weights, bare)
    assert loop.model.training
    loop.model.eval()
    inputs, targets = loader.dataset.tensors
    wanted = nn.functional.cross_entropy(loop.model(inputs), targets).item()
    assert found[-1]["val_loss"] == pytest.approx(wanted, rel=1e-5)
    assert found[-1].keys() == {"val_loss", "val_accuracy"}
    assert [(event.split, event.step, event.samples) for event in of(EvaluationFinished)] == [
        ("validation", 8, 20),
        ("validation", 16, 20),
    ]
    assert [step for step, _ in series("val_accuracy")] == [8, 16]
    best = [saved for saved in of(CheckpointSaved) if saved.label == "best"]
    assert best[-1].score == min(value["val_loss"] for value in found)


def test_commands_evaluate_as_the_script_said():
    bare, loop = Loop().run(), Loop({3: [Test(), Validate()], 11: Validate()})

    with loop.watching as run:

        @run.evaluator("test")
        def whole():
            torch.rand(2)
            return {"loss": 0.25, "test_f1": torch.tensor(0.5)}

        for _ in run.epochs(2):
            for batch in run.batches(loop.loader):
                loop.one(run, batch)
            # From here on the command knows how.
            run.evaluate(by_batch(loop), make_loader(20))
    assert same(loop.model.state_dict(), bare)
    tested, refused, validated = outcomes()
    assert tested.result.values == {"test_loss": 0.25, "test_f1": 0.5}
    assert "@run.evaluator('validation', loader)" in refused.reason
    assert (validated.step, validated.result.samples) == (11, 20)


def test_in_a_way_of_ones_own():
    bare, loop = Loop().run(), Loop()

    def after_epoch(run):
        with run.evaluation("test") as found:
            assert not loop.model.training
            loop.model(torch.randn(4, 6))
            found(loss=torch.tensor(0.5), f1=float("inf"))

    assert same(loop.run(2, after_epoch), bare)
    assert [event.values for event in of(EvaluationFinished)] == [
        {"test_loss": 0.5, "test_f1": None}
    ] * 2
    assert series("test_loss") == [(8, 0.5), (16, 0.5)]


def test_an_error_in_it_is_the_scripts_own_and_modes_are_as_before():
    loop = Loop()

    def broken(batch):
        raise ZeroDivisionError

    def after_epoch(run):
        with pytest.raises(ZeroDivisionError):
            run.evaluate(broken, make_loader(20))
        assert loop.model.training

    loop.run(1, after_epoch)


def test_a_command_that_fails_in_the_scripts_function_is_refused():
    loop = Loop({3: Test()})
    with loop.watching as run:

        @run.evaluator("test", make_loader(20))
        def broken(batch):
            raise ZeroDivisionError("of the script")

        for batch in run.batches(loop.loader):
            loop.one(run, batch)
    assert "ZeroDivisionError: of the script" in outcomes()[0].reason
