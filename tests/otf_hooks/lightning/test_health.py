"""Checks of health and sampled figures under Lightning, which leave every bit as it was."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("lightning")

from otf_hooks.errors import ArgumentError
from otf_hooks.health.guard import HealthCheck
from otf_hooks.meters.sampling import SampleBudget
from otf_session.commands import CheckHealth, LoadCheckpoint, SaveCheckpoint
from otf_session.events import HealthReported

from ..distributed.ranks import on_each
from ..record import of, series
from . import ddp
from .scenarios import LIGHTNING_WARNS, STEPS, STEPS_PER_EPOCH, Net, Steered, bare
from .test_exactness import assert_same

pytestmark = pytest.mark.filterwarnings(*LIGHTNING_WARNS)

#: In the midst of the first and of the second epoch.
FIRST, SECOND = 5, STEPS_PER_EPOCH + 5


def reports():
    return {event.report.check: event.report for event in of(HealthReported)}


@pytest.mark.parametrize(
    "name", ["plain", "random-dataset", "accumulated", "manual", "bf16", "metric", "limits"]
)
def test_every_check_leaves_the_run_as_it_was(name):
    # In `limits` Lightning validates behind every fifth batch: what would be read next after the
    # second one goes beyond that.
    steered = Steered(name).at(FIRST, CheckHealth()).at(SECOND, CheckHealth())
    steered.at(STEPS_PER_EPOCH, CheckHealth())
    assert_same(steered.run(), bare(name))
    made = [event.report for event in of(HealthReported) if event.step == SECOND]
    assert {each.check for each in made if not each.refusal} >= {
        "numerics",
        "activations",
        "distribution",
        "determinism",
    }
    throughput = next(each for each in made if each.check == "throughput")
    assert "do not call the model as a whole" in throughput.refusal


def test_a_rewind_behind_a_check_is_exact():
    steered = Steered("workers").at(3, SaveCheckpoint(name="one"), CheckHealth(check="numerics"))
    steered.at(SECOND, CheckHealth(check="activations"), LoadCheckpoint(checkpoint="one"))
    assert_same(steered.run(), bare("workers"))


def test_what_was_logged_is_not_recorded_again_behind_a_check():
    Steered("plain").at(SECOND, CheckHealth()).run()
    assert [step for step, _ in series("val_loss")] == [12, 24, 36]
    assert [step for step, _ in series("loss")] == list(range(1, STEPS + 1))


def test_numerics_finds_the_layer_that_makes_it_infinite():
    class Broken(Net):
        def loss(self, batch):
            return super().loss((batch[0] * (1e30 if self.training else 1.0), batch[1]))

    steered = Steered("plain", max_epochs=1).at(FIRST, CheckHealth(check="numerics"))
    steered.module.__class__ = Broken
    steered.module.net[1] = torch.nn.Sequential(torch.nn.Linear(16, 16), _Squared())
    steered.run()
    found = reports()["numerics"]
    assert found.facts["replayed batch"] == "one, forward and backward"
    assert any(each.severity.value == "critical" for each in found.findings), found


class _Squared(torch.nn.Module):
    def forward(self, inputs):
        return inputs * inputs


def test_determinism_is_looked_at_and_proved():
    Steered("plain").at(FIRST, CheckHealth(check="determinism", proof=2)).run()
    (event,) = of(HealthReported)
    assert not event.report.refusal
    assert any("prov" in name or "proof" in name for name in event.report.facts), event.report


def test_distribution_reads_both_epochs_again():
    Steered("plain").at(SECOND, CheckHealth(check="distribution")).run()
    found = reports()["distribution"].facts
    assert "epoch" not in found, found
    assert "the epoch before" not in found, found


def test_planned_checks_and_guards_by_them():
    given = {"health": {"numerics": 10}, "guards": [HealthCheck("activations", every=15)]}
    Steered("plain", given=given).run()
    made = [(event.report.check, event.step) for event in of(HealthReported)]
    assert [step for check, step in made if check == "numerics"] == [10, 20, 30]
    assert [step for check, step in made if check == "activations"] == [15, 30]


def test_between_two_epochs_it_is_said_why_not():
    steered = Steered("stream").at(FIRST, CheckHealth(check="numerics"))
    steered.run()
    found = reports()["numerics"]
    assert "number of batches" in " ".join([found.refusal, *map(str, found.facts.values())])


def test_options_are_checked():
    with pytest.raises(ArgumentError, match="no check"):
        Steered("plain", given={"health": {"wellbeing": 3}})
    with pytest.raises(ArgumentError, match="telemetry_budget"):
        Steered("plain", given={"telemetry_budget": 2})


@pytest.mark.parametrize("name", ["accumulated", "manual", "metric"])
def test_sampling_every_step_changes_nothing(name, monkeypatch):
    monkeypatch.setattr(SampleBudget, "is_due", lambda self, now: True)
    assert_same(Steered(name).run(), bare(name))
    for metric in ("grad_norm", "weight_norm", "update_ratio", "activation_zeros"):
        assert series(metric), metric
    waited = series("data_wait")
    assert [step for step, _ in waited] == list(range(1, STEPS + 1))
    assert all(value > 0 for _, value in waited)


def test_nothing_is_sampled_where_that_is_said():
    Steered("plain", given={"telemetry_budget": 0.0}, max_epochs=1).run()
    assert series("weight_norm") == []


def checked():
    return ddp.steered("plain", {2: [CheckHealth()]})


def test_two_processes_check_what_one_can_and_say_why_not_the_rest():
    found = on_each(checked)
    for one, other in zip(found, on_each(ddp.bare, "plain")):
        assert_same(one, other)
    made = reports()
    assert "one process" in made["throughput"].refusal
    assert not made["distribution"].refusal
    assert not made["determinism"].refusal
