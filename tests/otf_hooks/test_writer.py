from __future__ import annotations

import threading

import peewee
import pytest
from otf_hooks.recorder import Recorder
from otf_hooks.writer import Writer
from otf_session.events import LogLine, Metrics, RunStarted
from otf_session.home import Home
from otf_session.store import SessionStore

from .record import events, series


class FullDisk(SessionStore):
    """A store on a disk that is full for a while."""

    full = False
    attempts = 0

    def append(self, events):
        self.attempts += 1
        if self.full:
            raise peewee.OperationalError("database or disk is full")
        return super().append(events)


def looked_at_by_nobody(events):
    pass


@pytest.fixture
def store():
    return FullDisk.create(Home.find(), "p")


@pytest.fixture
def warnings():
    return []


@pytest.fixture
def published():
    return []


@pytest.fixture
def writer(store, warnings, published):
    recorder = Recorder(warn=warnings.append)
    recorder.add(RunStarted(time=1.0, run="baseline"))
    writer = Writer(
        store=store,
        recorder=recorder,
        publish=published.append,
        look=looked_at_by_nobody,
        warn=warnings.append,
        interval=0.02,
    )
    writer.recorder = recorder
    writer.start()
    yield writer
    writer.close()


def line(step, text):
    return LogLine(time=1.0, run="baseline", step=step, level=20, logger="x", text=text)


def test_batches_are_numbered_without_gaps_and_published_after_they_are_stored(
    writer, published, store
):
    for step in range(1, 500):
        writer.recorder.record("baseline", step, {"loss": 1.0})
        if step % 50 == 0:
            writer.recorder.add(line(step, "fifty more"))
            writer.wake()
    writer.close()
    numbers = [(batch.first, batch.last) for batch in published]
    assert numbers[0][0] == 1
    assert all(second[0] == first[1] + 1 for first, second in zip(numbers, numbers[1:]))
    assert [step for step, _ in series("loss")] == list(range(1, 500))
    assert sum((list(batch.events) for batch in published), []) == events(store.folder)


def test_a_log_line_between_steps_does_not_part_their_columns(store, published, warnings):
    recorder = Recorder(warn=warnings.append)
    recorder.add(RunStarted(time=1.0, run="baseline"))
    for step in range(1, 11):
        recorder.record("baseline", step, {"loss": 1.0})
        recorder.add(line(step, "a line"))
    writer = Writer(
        store=store,
        recorder=recorder,
        publish=published.append,
        look=looked_at_by_nobody,
        warn=warnings.append,
    )
    writer.start()
    writer.close()
    (metrics,) = [event for event in published[0].events if isinstance(event, Metrics)]
    assert metrics.steps == list(range(1, 11))


def test_a_full_disk_costs_one_warning_and_loses_nothing(writer, store, warnings, published):
    store.full = True
    for step in range(1, 51):
        writer.recorder.record("baseline", step, {"loss": 1.0})
    writer.wake()
    for _ in range(200):
        if store.attempts:
            break
        threading.Event().wait(0.01)
    assert store.attempts
    store.full = False
    writer.close()
    assert [step for step, _ in series("loss")] == list(range(1, 51))
    assert len(warnings) == 1
    assert "disk is full" in warnings[0]


def test_an_event_that_cannot_be_stored_keeps_back_no_other(writer, warnings):
    writer.recorder.record("baseline", 1, {"loss": 1.0})
    writer.recorder.add(line(1, "half a pair: \ud83d"))
    writer.recorder.record("baseline", 2, {"loss": 2.0})
    writer.close()
    assert [step for step, _ in series("loss")] == [1, 2]
    assert len([warning for warning in warnings if "lost by a fault" in warning]) == 1


def test_a_fault_in_one_round_is_reported_and_does_not_end_the_record(
    writer, store, warnings, monkeypatch
):
    failing = threading.Event()

    def publish(batch):
        if not failing.is_set():
            failing.set()
            raise RuntimeError("a fault")

    monkeypatch.setattr(writer, "_publish", publish)
    writer.recorder.record("baseline", 1, {"loss": 1.0})
    writer.wake()
    assert failing.wait(5)
    writer.recorder.record("baseline", 2, {"loss": 2.0})
    writer.close()
    assert [step for step, _ in series("loss")] == [1, 2]
    assert any("RuntimeError: a fault" in warning for warning in warnings)
