"""What a snapshot holds of the facts that steering leaves behind."""

import contextlib

import pytest
from otf_session.events import (
    CheckpointFailed,
    CheckpointRemoved,
    DeterminismAssessed,
    GuardTripped,
    Hyperparameter,
    HyperparametersDeclared,
    LimitsChanged,
    NoteAdded,
    RecordsDropped,
    Rewound,
    StallEnded,
    StallNoticed,
)
from otf_session.queries import SNAPSHOT_STALLS, kept_checkpoints, snapshot
from otf_session.store import SessionReader
from otf_session.summaries import Snapshot

from ..helpers.sessions import BEGIN, RUN, checkpoint, make_session, started
from ..helpers.vocabulary import EVENTS


@pytest.fixture
def taken(home):
    """A snapshot of a session with these events."""
    with contextlib.ExitStack() as stack:

        def taken(*events):
            store = make_session(home, *events)
            stack.callback(store.close)
            with SessionReader(store.folder) as reader:
                return snapshot(reader, points=100)

        yield taken


def of(kind):
    """The sample events of one kind."""
    return [event for event in EVENTS if isinstance(event, kind)]


def test_a_new_session_has_nothing_of_them(taken):
    found = taken(started())
    empty = [name for name in Snapshot.__struct_fields__ if getattr(found, name) == []]
    assert set(empty) >= {
        *("commands", "evaluations", "checkpoints", "checkpoint_failures", "hyperparameters"),
        *("limits", "notes", "determinism", "guards", "stalls", "rewinds", "dropped"),
    }


@pytest.mark.parametrize(
    ("field", "kind"),
    [
        ("checkpoint_failures", CheckpointFailed),
        ("hyperparameters", HyperparametersDeclared),
        ("limits", LimitsChanged),
        ("notes", NoteAdded),
        ("determinism", DeterminismAssessed),
        ("guards", GuardTripped),
        ("rewinds", Rewound),
        ("dropped", RecordsDropped),
    ],
)
def test_every_fact_is_in_its_field(taken, field, kind):
    assert of(kind)
    assert getattr(taken(*EVENTS), field) == of(kind)


def test_stalls_and_their_ends_are_together_in_the_order_of_time(taken):
    def stall(kind, second, **values):
        return kind(time=BEGIN + second, run=RUN, step=1, phase="data", seconds=1.0, **values)

    noticed = [stall(StallNoticed, 2 * number, stack="") for number in range(80)]
    ended = [stall(StallEnded, 2 * number + 1) for number in range(80)]
    every = [event for pair in zip(noticed, ended) for event in pair]
    assert taken(started(), *every).stalls == every[-SNAPSHOT_STALLS:]


def declared(run, value):
    return HyperparametersDeclared(
        time=BEGIN,
        run=run,
        step=1,
        values=[Hyperparameter(name="lr", value=value, group=0)],
        lr_owner="constant",
        lr_rule="Constant.",
    )


def test_of_what_is_declared_the_newest_of_each_run_counts(taken):
    found = taken(
        started("a"),
        started("b"),
        *(declared("a", 0.5), declared("b", 0.25), declared("a", 0.125)),
        *(LimitsChanged(time=BEGIN, run="a", step=1, max_steps=most) for most in (10, 20)),
        *(DeterminismAssessed(time=BEGIN, run="b", exact=exact) for exact in (True, False)),
    )
    assert {each.run: each.values[0].value for each in found.hyperparameters} == {
        "a": 0.125,
        "b": 0.25,
    }
    assert [(each.run, each.max_steps) for each in found.limits] == [("a", 20)]
    assert [(each.run, each.exact) for each in found.determinism] == [("b", False)]


def test_checkpoints_are_those_that_are_kept(home):
    store = make_session(home, started())
    saved = [checkpoint(store, name) for name in ("one", "two", "three")]
    gone = CheckpointRemoved(time=BEGIN, run=RUN, id=saved[0].id, reason="ten newer ones")
    store.append([*saved, gone])
    with SessionReader(store.folder) as reader:
        assert snapshot(reader, points=100).checkpoints == saved[1:]
        assert kept_checkpoints(reader.database) == saved[1:]


def test_a_checkpoint_whose_file_is_missing_is_not_offered(home):
    store = make_session(home, started())
    saved = [checkpoint(store, name) for name in ("one", "two")]
    store.append(saved)
    (store.folder / saved[0].path).unlink()
    with SessionReader(store.folder) as reader:
        assert snapshot(reader, points=100).checkpoints == saved[1:]
