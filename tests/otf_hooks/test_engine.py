"""Steering: what commands do to a run at its safe points."""

from __future__ import annotations

import itertools
import signal
import threading
import time
from typing import NamedTuple

import pytest
from otf_hooks.assembly import Address, open_engine
from otf_hooks.errors import TrainingError
from otf_hooks.front import Verdict
from otf_session.commands import Applied, CommandRequest, Pause, Refused, Resume, Stop
from otf_session.events import CommandChanged, CommandStatus, LogLine, RunState
from otf_session.home import Home

from ..helpers.waiting import wait_for
from .conftest import make_loop
from .record import of, series, states, summary

NO_SERVER = Address(host="127.0.0.1", port=1, connect=False)

numbers = itertools.count(1)


def request(command):
    return CommandRequest(id=str(next(numbers)), author="test", command=command)


@pytest.fixture
def engine():
    engine = open_engine(project="p", home=Home.find(), folder=None, address=NO_SERVER)
    engine.start(make_loop(engine))
    engine.start_run("baseline")
    engine.running()
    yield engine
    engine.close(RunState.FINISHED)


def outcomes(engine):
    engine.close(RunState.FINISHED)
    return [event.outcome for event in of(CommandChanged) if event.outcome is not None]


def test_without_a_command_a_safe_point_lets_training_go_on(engine):
    assert engine.safe_point() is Verdict.GO_ON


def test_a_paused_run_holds_at_its_step_until_it_is_resumed(engine):
    engine.step = 5
    passed = threading.Event()

    def train():
        assert engine.safe_point() is Verdict.GO_ON
        passed.set()

    engine.desk.receive(request(Pause()))
    thread = threading.Thread(target=train)
    thread.start()
    wait_for(lambda: engine.gate.is_paused, "what was asked for")
    assert not passed.wait(0.6)
    wait_for(lambda: summary().state.value == "paused", "what was asked for")
    assert summary().runs[0].step == 5
    engine.desk.receive(request(Resume()))
    thread.join(5)
    assert passed.is_set()
    assert [type(outcome) for outcome in outcomes(engine)] == [Applied, Applied]
    assert states() == ["running", "paused", "running", "finished"]


def test_a_stop_ends_training_also_out_of_a_pause(engine):
    engine.desk.receive(request(Pause()))
    engine.desk.receive(request(Stop()))
    assert engine.safe_point() is Verdict.END
    assert engine.safe_point() is Verdict.END


def test_what_makes_no_sense_is_refused_and_harms_nothing(engine):
    engine.desk.receive(request(Resume()))
    assert engine.safe_point() is Verdict.GO_ON
    for command in (Pause(), Pause(), Resume()):
        engine.desk.receive(request(command))
    assert engine.safe_point() is Verdict.GO_ON
    found = outcomes(engine)
    assert [type(outcome) for outcome in found] == [Refused, Applied, Refused, Applied]
    assert "not paused" in found[0].reason
    assert "already paused" in found[2].reason


def test_commands_to_a_run_that_ends_are_answered(engine):
    engine.desk.receive(request(Pause()))
    (outcome,) = outcomes(engine)
    assert isinstance(outcome, Refused)
    assert "has ended" in outcome.reason


def test_every_command_is_in_the_record_with_its_author_and_outcome(engine):
    engine.step = 7
    engine.desk.receive(request(Stop()))
    assert engine.safe_point() is Verdict.END
    engine.close(RunState.STOPPED, "stopped by a person")
    received, applied = of(CommandChanged)
    assert (received.status, applied.status) == (CommandStatus.RECEIVED, CommandStatus.APPLIED)
    assert received.author == applied.author == "test"
    assert received.command == applied.command == Stop()
    assert applied.step == 7
    assert summary().runs[0].reason == "stopped by a person"


def test_what_was_recorded_is_in_the_store_within_the_writers_interval(engine):
    for step in range(1, 101):
        engine.step = step
        engine.record({"loss": 1.0 / step})
    wait_for(lambda: len(series("loss")) == 100, "what was asked for")


def test_nobody_watching_ends_a_lingering_run(engine, monkeypatch, capfd):
    monkeypatch.setattr("otf_hooks.engine.LINGER_GRACE_SECONDS", 0.3)
    began = time.monotonic()
    assert not engine.linger("training is done")
    assert time.monotonic() - began < 3
    assert "nobody is watching" in capfd.readouterr().err


def test_a_session_is_open_in_one_process_only(engine):
    # The lock is per open file, so a second engine stands for a second process.
    with pytest.raises(TrainingError, match="Another process"):
        open_engine(
            project="p",
            home=Home.find(),
            folder=engine.store.folder,
            address=NO_SERVER,
        )


def test_without_a_front_ctrl_c_is_as_ever_because_no_safe_point_comes():
    engine = open_engine(project="p", home=Home.find(), folder=None, address=NO_SERVER)
    engine.start()
    engine.start_run("logged")
    engine.running()
    try:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    finally:
        engine.close(RunState.STOPPED)
    assert states()[-1] == "stopped"


def test_closing_twice_is_closing_once(engine):
    engine.close(RunState.FINISHED)
    engine.close(RunState.FAILED)
    assert states() == ["running", "finished"]


def test_an_errand_that_fails_is_told_and_ends_nothing(engine):
    class Fault(NamedTuple):
        at_end: bool = False

        def run(self, engine):
            raise ZeroDivisionError("in a guard")

    engine.desk.post(Fault())
    assert engine.safe_point() is Verdict.GO_ON
    engine.close(RunState.FINISHED)
    assert any("in a guard" in line.text for line in of(LogLine))
