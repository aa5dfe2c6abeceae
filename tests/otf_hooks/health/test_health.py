"""Checks as commands: recorded, cancelled, planned, guarded, and without a trace in training."""

import pytest
import torch
from otf_hooks import HealthCheck, LossSpike, Trainer
from otf_hooks.errors import ArgumentError
from otf_session.commands import (
    Applied,
    Cancel,
    CheckHealth,
    CommandRequest,
    LoadCheckpoint,
    Pause,
    Refused,
    Resume,
    SaveCheckpoint,
)
from otf_session.events import CommandChanged, GuardTripped, HealthReported, StateChanged
from otf_session.health import CHECKS
from otf_session.queries import snapshot
from otf_session.store import SessionReader
from torch.utils.data import Subset

from ..record import latest_folder, of, series, states
from ..scenarios import SCENARIOS, STEPS, STEPS_PER_EPOCH, Steered, bare, make
from ..test_commands import Commanded
from .checked import data, loader, outcomes, parts, reports, run


@pytest.mark.parametrize("name", SCENARIOS)
def test_checks_leave_no_trace_in_training(name):
    """In the midst of an epoch, twice in a row, at an epoch's end, and with a proof."""
    if name == "stateful-loader":
        pytest.importorskip("torchdata")
    steered = Steered(name).at(5, CheckHealth(), CheckHealth(check="numerics"))
    steered.at(STEPS_PER_EPOCH, CheckHealth())
    steered.at(STEPS_PER_EPOCH + 5, CheckHealth(check="determinism", proof=2))
    found = steered.run()
    wanted = bare(make(name))
    assert all(torch.equal(found[key], wanted[key]) for key in wanted)
    assert [step for step, _ in series("loss")] == list(range(1, STEPS + 1))
    answers = outcomes()
    assert {type(answer) for answer in answers} == {Applied}
    made = [report for report in answers[0].result.reports if not report.refusal]
    # A loader that keeps its own place is not read a second time.
    assert [report.check for report in made] == [
        check for check in CHECKS if name != "stateful-loader" or check != "distribution"
    ]
    assert answers[3].result.reports[0].facts["proof"] == "every bit the same"


def test_the_planned_checks_leave_no_trace_either():
    steered = Steered("dropout", health={"numerics": 3, "activations": STEPS_PER_EPOCH})
    found = steered.run()
    wanted = bare(make("dropout"))
    assert all(torch.equal(found[key], wanted[key]) for key in wanted)
    made = [(event.step, event.report.check) for event in of(HealthReported)]
    assert [step for step, check in made if check == "numerics"] == list(range(3, STEPS + 1, 3))
    assert [step for step, check in made if check == "activations"] == [12, 24, 36]
    assert {event.author for event in of(HealthReported)} == {"schedule"}
    assert not any(event.report.refusal for event in of(HealthReported))


def test_checks_leave_no_trace_after_going_back_and_while_validating():
    steered = Commanded("dropout").at(5, SaveCheckpoint(name="one"))
    steered.at(
        9,
        LoadCheckpoint(checkpoint="one"),
        CheckHealth(check="numerics"),
        Pause(),
        CheckHealth(),
        Resume(),
    )
    steered.at_batch(2, CheckHealth())
    found = steered.run()
    wanted = bare(make("dropout"))
    assert all(torch.equal(found[key], wanted[key]) for key in wanted)
    whole, paused, validating = (
        event.outcome
        for event in of(CommandChanged)
        if isinstance(event.command, CheckHealth) and event.outcome is not None
    )
    assert [report.refusal for report in [*whole.result.reports, *paused.result.reports]] == [
        ""
    ] * 6
    refused = {each.check for each in validating.result.reports if each.refusal}
    assert refused == {"activations", "throughput"}
    assert "An evaluation is under way" in validating.result.reports[0].facts["replayed batch"]


def test_a_report_is_in_the_record_and_in_the_answer():
    run(parts(), CheckHealth(check="numerics"))
    (event,) = of(HealthReported)
    (answer,) = outcomes()
    assert (event.run, event.step, event.author) == ("r", 3, "ada")
    assert answer.result.reports == [event.report]
    assert answer.message == "numerics: nothing found."
    assert event.report.seconds > 0


def test_a_snapshot_holds_the_newest_report_of_each_check():
    run(parts(), CheckHealth(check="numerics"), CheckHealth(), CheckHealth(check="numerics"))
    with SessionReader(latest_folder()) as reader:
        newest = snapshot(reader, points=10).health
    assert sorted(event.report.check for event in newest) == sorted(CHECKS)
    last = [event for event in of(HealthReported) if event.report.check == "numerics"][-1]
    assert last in newest


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (CheckHealth(check="heart"), "'heart' is no check. There are: numerics,"),
        (CheckHealth(proof=-1), "-1 steps cannot be proved"),
        (CheckHealth(every=-5), "-5 is no number of steps"),
    ],
)
def test_what_cannot_be_done_is_refused(command, reason):
    run(parts(), command)
    (answer,) = outcomes()
    assert isinstance(answer, Refused)
    assert answer.reason.startswith(reason)
    assert reports() == []


def test_a_check_is_broken_off_between_two_of_its_steps():
    given = parts()
    cancel = CommandRequest(id="stop", author="ada", command=Cancel())
    run(given, CheckHealth(), lambda engine: engine.desk.receive(cancel))
    health, _ = sorted(
        (event for event in of(CommandChanged) if event.outcome is not None),
        key=lambda event: isinstance(event.command, Cancel),
    )
    assert health.outcome == Refused(reason="The check was broken off; the run is as it was.")
    wanted = parts()
    run(wanted)
    for name, tensor in wanted["model"].state_dict().items():
        assert torch.equal(tensor, given["model"].state_dict()[name]), name


def test_what_fails_in_one_check_keeps_no_other_from_being_made(monkeypatch):
    from otf_hooks.health import CHECKS as FUNCTIONS

    def broken(exam):
        raise RuntimeError("planted")

    monkeypatch.setitem(FUNCTIONS, "activations", broken)
    run(parts(), CheckHealth())
    refused = [report for report in reports() if report.refusal]
    assert [report.check for report in refused] == ["activations"]
    assert "RuntimeError: planted" in refused[0].refusal
    assert outcomes()[0].message.endswith("Not made: activations.")


def test_a_check_is_planned_and_ended_by_command():
    planned = CheckHealth(check="numerics", every=2)
    run(parts(), planned, at=1, steps=6)
    assert outcomes()[0].message == "Planned: numerics every 2 steps."
    assert [event.step for event in of(HealthReported)] == [2, 4, 6]
    ended = CheckHealth(check="all", every=0)
    run(parts(), ended, at=3, steps=6, health={"numerics": 2})
    assert [event.step for event in of(HealthReported)] == [2]
    assert [answer.message for answer in outcomes()][-1] == "Planned: no check."


def test_after_going_back_checks_are_made_where_they_are_due():
    run(parts(), LoadCheckpoint(checkpoint="initial"), at=5, steps=8, health={"numerics": 4})
    assert [event.step for event in of(HealthReported)] == [4, 4, 8]


@pytest.mark.parametrize(
    ("health", "message"),
    [
        ({"heart": 10}, "'heart', which is no check"),
        ({"numerics": 0}, "health['numerics'] is 0"),
        ({"numerics": True}, "health['numerics'] is True"),
        ("numerics", "health is a str"),
    ],
)
def test_a_schedule_that_is_none_is_refused(health, message):
    with pytest.raises(ArgumentError) as error:
        Trainer(project="p", max_steps=1, health=health)
    assert message in str(error.value)


# As a guard


def spoilt():
    """A weight is spoilt by the first step."""
    given = parts()

    def hook(*_):
        with torch.no_grad():
            given["model"][2].weight[0, 0] = float("nan")

    given["optimizer"].register_step_post_hook(hook)
    return given


def guarded(given, *guards, **options):
    trainer = Trainer(
        project="p", run_name="r", max_steps=8, auto_connect=False, guards=guards, **options
    )
    trainer.fit(**given)
    return of(GuardTripped)


def test_a_check_is_a_guard_that_stops_the_run():
    (trip,) = guarded(spoilt(), HealthCheck("numerics", action="stop", every=2))
    assert (trip.guard, trip.action, trip.step) == ("health", "stop", 2)
    assert trip.message.startswith("numerics: 0.weight: This parameter holds values")
    assert states()[-1] == "stopped"
    assert of(StateChanged)[-1].step < 8


def test_a_guard_trips_once_as_long_as_it_is_the_same():
    trips = guarded(spoilt(), HealthCheck("numerics", every=2))
    assert [trip.step for trip in trips] == [2]
    assert [event.step for event in of(HealthReported)] == [2, 4, 6, 8]


def test_a_guard_that_finds_nothing_lets_the_run_be():
    assert guarded(parts(), HealthCheck("all", "stop", every=4)) == []
    assert states()[-1] == "finished"
    assert len(of(HealthReported)) == 2 * len(CHECKS)


def test_a_guard_may_be_content_with_less_grave_findings():
    given = parts(train_loader=loader(shuffle=False, dataset=sorted_data()))
    assert guarded(given, HealthCheck("distribution", every=4)) == []
    given = parts(train_loader=loader(shuffle=False, dataset=sorted_data()))
    (trip,) = guarded(given, HealthCheck("distribution", every=4, severity="warning"))
    assert "come in an order" in trip.message


def sorted_data():
    dataset = data()
    return Subset(dataset, torch.argsort(dataset.tensors[1], stable=True).tolist())


def test_of_two_schedules_the_more_frequent_one_counts():
    guarded(parts(), HealthCheck("numerics", every=4), LossSpike(), health={"numerics": 8})
    assert [event.step for event in of(HealthReported)] == [4, 8]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"check": "heart"}, "is no check"),
        ({"action": "shout"}, "action is 'shout'"),
        ({"every": 0}, "every is 0"),
        ({"severity": "grave"}, "severity is 'grave'"),
    ],
)
def test_a_guard_that_is_none_is_refused(given, message):
    with pytest.raises(ArgumentError) as error:
        HealthCheck(**given)
    assert message in str(error.value)


def test_what_a_step_keeps_and_no_checkpoint_can_hold_is_not_trained_on_trial():
    class Average:
        def __init__(self):
            self.seen = 0

    average = Average()

    def step(batch, state):
        state["average"] = average
        average.seen += 1
        loss = state["loss_fn"](state["model"](batch[0]), batch[1])
        state["optimizer"].zero_grad()
        loss.backward()
        state["optimizer"].step()
        return {"loss": loss}

    run(parts(), CheckHealth(), step=step)
    assert average.seen == 6
    refused = {report.check: report.refusal for report in reports() if report.refusal}
    assert set(refused) == {"activations", "throughput"}
    assert "state['average'] is a Average" in refused["activations"]
    numerics = next(report for report in reports() if report.check == "numerics")
    assert numerics.facts["replayed batch"].startswith("none: state['average']")
    assert numerics.measures["parameter tensors"] == 4


def test_reports_are_part_of_bundles(tmp_path, home):
    from otf_session.cli import app

    from ...helpers.shell import invoke

    run(parts(), CheckHealth(check="numerics"))
    (event,) = of(HealthReported)
    bundle = tmp_path / "session.zip"
    assert invoke(app, "export", "latest", "--output", bundle).exit_code == 0
    elsewhere = tmp_path / "elsewhere"
    assert invoke(app, "import", bundle, "--home", elsewhere).exit_code == 0
    (folder,) = (elsewhere / "sessions").iterdir()
    assert of(HealthReported, folder) == [event]
