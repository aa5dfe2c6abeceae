"""Checks of health, sampled figures, and data that draws at random, under transformers.Trainer."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("transformers")

from otf_hooks.health.guard import HealthCheck
from otf_hooks.meters.sampling import SampleBudget
from otf_session.commands import (
    Applied,
    CheckHealth,
    LoadCheckpoint,
    SaveCheckpoint,
)
from otf_session.events import (
    CommandChanged,
    DeterminismAssessed,
    GuardTripped,
    HealthReported,
    StateChanged,
)
from transformers import TrainerCallback

from ..record import of, series
from .trainers import SCENARIOS, STEPS, Sentences, Steered, bare, make_trainer, weights


def plain(callbacks=(), **options):
    return make_trainer(callbacks=callbacks, **options)


def short(callbacks=(), **options):
    return plain(callbacks, max_steps=8, **options)


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in other)


def reports():
    return {event.report.check: event.report for event in of(HealthReported)}


def outcomes(kind):
    changed = [event for event in of(CommandChanged) if isinstance(event.command, kind)]
    return [event.outcome for event in changed if event.outcome is not None]


def test_every_check_is_made_or_says_why_not_and_changes_nothing():
    found = Steered(plain).at(13, CheckHealth(check="all")).run()
    (answer,) = outcomes(CheckHealth)
    assert isinstance(answer, Applied)
    made = {name: report for name, report in reports().items() if not report.refusal}
    assert set(made) == {"numerics", "distribution", "determinism"}
    for name in ("activations", "throughput"):
        assert "steps that do not count" in reports()[name].refusal
    assert made["numerics"].findings == []
    assert same(found, bare("dropout"))


def test_numerics_finds_what_was_planted_by_its_name():
    class Breaks(TrainerCallback):
        def on_step_end(self, args, state, control, model=None, **kwargs):
            if state.global_step == 4:
                with torch.no_grad():
                    model.classifier.bias.fill_(float("nan"))

    def broken(callbacks):
        return short([Breaks(), *callbacks])

    Steered(broken).at(4, CheckHealth(check="numerics")).run()
    grave = [each for each in reports()["numerics"].findings if each.severity.value == "critical"]
    assert [each for each in grave if "classifier.bias" in each.where]


def test_classes_that_are_never_trained_on_are_found():
    def lacking(callbacks):
        trainer = short(callbacks, num_train_epochs=1)
        trainer.train_dataset.late[:] = 0
        trainer.eval_dataset = Sentences(60)
        return trainer

    Steered(lacking).at(4, CheckHealth(check="distribution")).run()
    assert [each for each in reports()["distribution"].findings if "validation" in each.what]


def test_checks_are_planned_and_a_guard_of_them_pauses_or_warns():
    class Breaks(TrainerCallback):
        def on_step_begin(self, args, state, control, model=None, **kwargs):
            if state.global_step == 4:
                with torch.no_grad():
                    model.classifier.bias.fill_(float("nan"))

    def broken(callbacks):
        return short([Breaks(), *callbacks])

    steered = Steered(
        broken,
        health={"determinism": 4},
        guards=[HealthCheck("numerics", "stop", every=2)],
    )
    steered.run()
    made = [(event.report.check, event.step) for event in of(HealthReported)]
    assert {("numerics", 2), ("numerics", 4), ("determinism", 4), ("numerics", 6)} <= set(made)
    (trip,) = of(GuardTripped)
    assert (trip.guard, trip.step, trip.action) == ("health", 6, "stop")
    assert of(StateChanged)[-1].state.value == "stopped"


@pytest.mark.parametrize("name", ["dropout", "accumulation"])
def test_what_is_sampled_changes_nothing(name, monkeypatch):
    monkeypatch.setattr(SampleBudget, "is_due", lambda self, now: True)
    steered = Steered(SCENARIOS[name])
    assert same(steered.run(), bare(name))
    for metric in ("weight_norm", "update_ratio", "activation_zeros"):
        assert [step for step, _ in series(metric)] == [*range(1, STEPS + 1)], metric
    norms = torch.stack([each.detach().norm() for each in steered.trainer.model.parameters()])
    assert series("weight_norm")[-1][1] == pytest.approx(norms.norm().item(), rel=1e-4)


def test_the_gradients_norm_is_the_trainers_own(monkeypatch):
    monkeypatch.setattr(SampleBudget, "is_due", lambda self, now: True)
    Steered(short).run()
    assert [step for step, _ in series("grad_norm")] == [4, 8]


def test_without_a_budget_nothing_is_sampled(monkeypatch):
    monkeypatch.setattr(SampleBudget, "is_due", lambda self, now: True)
    Steered(short, telemetry_budget=0).run()
    assert series("weight_norm") == []
    assert len(series("lr")) == 8


def test_the_seconds_that_a_step_waits_for_its_batches_are_a_part_of_its_time():
    Steered(lambda callbacks: short(callbacks, eval_strategy="steps", eval_steps=3)).run()
    waits, seconds = dict(series("data_wait")), dict(series("step_time"))
    assert waits.keys() == seconds.keys() == set(range(1, 9))
    assert all(0 < waits[step] < seconds[step] for step in waits)


class Noisy(Sentences):
    """Words that are now and then another one."""

    def __getitem__(self, index):
        found = super().__getitem__(index)
        words = found["input_ids"].clone()
        words[int(torch.randint(0, 8, ()))] = 1
        return {**found, "input_ids": words}


def noisy(callbacks=(), **options):
    return plain(callbacks, data=Noisy(), **options)


def test_data_that_draws_at_random_is_said_when_it_is_seen_and_where_it_is_gone_back_in():
    unsteered = noisy()
    unsteered.train()
    steered = Steered(noisy).at(3, SaveCheckpoint(name="here"))
    found = steered.at(6, LoadCheckpoint(checkpoint="here")).run()
    first, later = of(DeterminismAssessed)
    assert first.exact
    assert not later.exact
    (answer,) = outcomes(LoadCheckpoint)
    for findings in (later.findings, answer.result.findings):
        assert ["draws from the global generators" in each for each in findings] == [True]
    # And so it is.
    assert not same(found, weights(unsteered))


@pytest.mark.parametrize("name", ["dropout", "evaluated", "stream", "accumulation"])
def test_data_that_draws_nothing_is_not_accused(name):
    Steered(SCENARIOS[name]).run()
    assert [assessed.findings for assessed in of(DeterminismAssessed)] == [[]]
