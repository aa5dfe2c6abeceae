"""Runs that went back: what of them still counts, in charts, in lists and for other tools."""

import contextlib
import sqlite3

import pytest
from otf_session.events import CheckpointRemoved, CheckpointSaved, Rewound, RunState
from otf_session.home import DATABASE
from otf_session.queries import (
    events_after,
    kept_checkpoints,
    run_summaries,
    series,
    session_summary,
    snapshot,
)
from otf_session.store import SessionReader

from ..helpers.sessions import BEGIN, RUN, line, make_session, metrics, started, state


@pytest.fixture(params=[10_000, 17], ids=["appended at once", "appended in parts"])
def read(home, request):
    """A session with these events, open for reading."""
    with contextlib.ExitStack() as stack:

        def read(*events):
            store = make_session(home)
            stack.callback(store.close)
            for start in range(0, len(events), request.param):
                store.append(events[start : start + request.param])
            return stack.enter_context(SessionReader(store.folder))

        yield read


def rewound(to, left, *, run=RUN, epoch=1):
    return Rewound(
        time=BEGIN + left,
        run=run,
        step=to,
        epoch=epoch,
        left_step=left,
        checkpoint=f"{run}@{to}",
    )


def flat(first, last, value, *, size=10, run=RUN):
    """The metric `loss` at `value` in these steps, in batches of `size`."""
    return [
        metrics(steps, run=run, loss=[float(value)] * len(steps))
        for steps in (
            range(start, min(start + size, last + 1)) for start in range(first, last + 1, size)
        )
    ]


def curve(reader, points=1_000_000, **chosen):
    (found,) = series(reader.database, points=points, **chosen)
    return dict(zip(found.steps, found.values)), found


# The curve

#: All points; fewer than there are; so few that most batches count by their extremes alone.
POINTS = [1_000_000, 400, 20]


@pytest.mark.parametrize("points", POINTS)
@pytest.mark.parametrize("size", [1, 7, 10, 1000])
@pytest.mark.parametrize("to", [0, 1, 500, 503, 999, 1000])
def test_what_came_after_the_step_is_gone_from_the_curve(read, points, size, to):
    # The points that have to go are the extremes of their batches: any that survives is seen.
    reader = read(
        started(), *flat(1, to, 1, size=size), *flat(to + 1, 1000, 9, size=size), rewound(to, 1000)
    )
    kept, found = curve(reader, points)
    assert set(kept) <= set(range(1, to + 1))
    assert set(kept.values()) <= {1.0}
    if to:
        assert (min(kept), max(kept)) == (1, to)
    if points > 1000:
        assert found.steps == list(range(1, to + 1))


@pytest.mark.parametrize("points", POINTS)
def test_a_batch_that_straddles_the_step_keeps_its_first_part(read, points):
    batch = metrics(range(1, 1001), loss=[float(step) for step in range(1, 1001)])
    kept, _ = curve(read(started(), batch, rewound(340, 1000)), points)
    assert (min(kept), max(kept)) == (1, 340)
    assert all(value == float(step) for step, value in kept.items())


@pytest.mark.parametrize("points", POINTS)
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_steps_that_are_trained_again_are_there_once_with_their_new_values(read, points, size):
    reader = read(
        started(),
        *flat(1, 1000, 9, size=size),
        rewound(300, 1000),
        *flat(301, 800, 2, size=size),
    )
    kept, found = curve(reader, points)
    assert len(found.steps) == len(set(found.steps))
    assert found.steps == sorted(found.steps)
    assert {value for step, value in kept.items() if step <= 300} == {9.0}
    assert {value for step, value in kept.items() if step > 300} == {2.0}
    assert (min(kept), max(kept)) == (1, 800)
    if points > 1000:
        assert found.steps == list(range(1, 801))


@pytest.mark.parametrize("points", POINTS)
@pytest.mark.parametrize(
    ("second", "expected"),
    [
        # Further back than the first time: of the second attempt nothing is left.
        (150, [(1, 150, 1.0), (151, 600, 3.0)]),
        # Less far: the second attempt keeps its beginning.
        (450, [(1, 300, 1.0), (301, 450, 2.0), (451, 600, 3.0)]),
        # To the very same step.
        (300, [(1, 300, 1.0), (301, 600, 3.0)]),
    ],
)
def test_a_run_that_went_back_twice(read, points, second, expected):
    reader = read(
        started(),
        *flat(1, 1000, 1, size=9),
        rewound(300, 1000),
        *flat(301, 700, 2, size=9),
        rewound(second, 700),
        *flat(second + 1, 600, 3, size=9),
    )
    kept, found = curve(reader, points)
    for step, value in kept.items():
        assert [value] == [want for first, last, want in expected if first <= step <= last]
    assert len(found.steps) == len(set(found.steps))
    assert (min(kept), max(kept)) == (1, 600)
    if points > 1000:
        assert found.steps == list(range(1, 601))


def test_values_that_were_not_finite_go_with_their_steps(read):
    batch = metrics(range(1, 11), loss=[1.0] * 5 + [None] * 5)
    for points in (1000, 5):
        kept, _ = curve(read(started(), batch, rewound(5, 10)), points)
        assert None not in kept.values()


def test_a_range_of_steps_shows_what_is_left_of_it(read):
    reader = read(
        started(), *flat(1, 100, 1, size=9), rewound(50, 100), *flat(51, 60, 2), rewound(55, 60)
    )
    kept, _ = curve(reader, bounds=(45, 70))
    assert kept == {**dict.fromkeys(range(45, 51), 1.0), **dict.fromkeys(range(51, 56), 2.0)}
    assert curve(reader, bounds=(80, 90))[0] == {}


def test_other_runs_and_later_metrics_keep_theirs(read):
    reader = read(
        started("a"),
        started("b"),
        *flat(1, 20, 1, run="a"),
        *flat(1, 20, 1, run="b"),
        rewound(5, 20, run="a"),
    )
    found = {each.run: each.steps for each in series(reader.database, points=100)}
    assert found == {"a": list(range(1, 6)), "b": list(range(1, 21))}


def test_the_record_itself_keeps_everything(read):
    events = [started(), *flat(1, 20, 1), rewound(5, 20), *flat(6, 8, 2)]
    assert events_after(read(*events).database, 0, 100) == events


def test_any_sqlite_tool_sees_which_rows_were_rewound(read):
    reader = read(
        started(),
        metrics([1, 2, 3], loss=[1.0, 2.0, 3.0]),
        rewound(1, 3),
        metrics([2], loss=[20.0]),
    )
    connection = sqlite3.connect(reader.folder / DATABASE)
    rows = connection.execute("SELECT step, value, rewound FROM metric ORDER BY step, value")
    assert rows.fetchall() == [(1, 1.0, 0), (2, 2.0, 1), (2, 20.0, 0), (3, 3.0, 1)]
    connection.close()


# Runs and sessions


def test_a_run_that_went_back_is_where_it_went(read):
    reader = read(started(), *flat(1, 20, 1), rewound(5, 20, epoch=2))
    (run,) = run_summaries(reader.database)
    assert (run.step, run.epoch, run.updated) == (5, 2, BEGIN + 20)
    reader = read(started(), *flat(1, 20, 1), rewound(5, 20), *flat(6, 9, 2))
    assert run_summaries(reader.database)[0].step == 9


def test_a_session_is_in_the_state_of_the_run_that_moved_last(read):
    # A fork was tried, and given up for its parent.
    events = [
        started("baseline"),
        state(RunState.RUNNING, run="baseline", step=10),
        started("fork1", parents=["baseline"], time=BEGIN + 11),
        state(RunState.STOPPED, run="fork1", step=20),
    ]
    assert session_summary(read(*events), connected=True).state.value == "stopped"
    back = [rewound(5, 25, run="baseline"), state(RunState.PAUSED, run="baseline", step=30)]
    found = session_summary(read(*events, *back), connected=True)
    assert (found.state.value, found.updated) == ("paused", BEGIN + 30)
    assert [run.name for run in found.runs] == ["baseline", "fork1"]


def test_of_two_runs_that_moved_at_once_the_newer_counts(read):
    reader = read(
        started("baseline"),
        state(RunState.STOPPED, run="baseline", step=10),
        started("fork1", parents=["baseline"], time=BEGIN + 10),
    )
    assert session_summary(reader, connected=True).state.value == "starting"


# Checkpoints


def saved(step, *, checkpoint_id=None, label="periodic", pinned=False):
    return CheckpointSaved(
        time=BEGIN + step,
        run=RUN,
        step=step,
        label=label,
        path=f"checkpoints/{RUN}-{step}.pt",
        size=10,
        sha256="00",
        id=f"{RUN}@{step}" if checkpoint_id is None else checkpoint_id,
        pinned=pinned,
    )


def removed(checkpoint_id):
    return CheckpointRemoved(time=BEGIN, run=RUN, id=checkpoint_id, reason="ten newer ones")


def test_checkpoints_are_kept_until_they_are_removed(read):
    reader = read(started(), saved(10), saved(20), removed(f"{RUN}@10"), saved(30), removed("none"))
    assert kept_checkpoints(reader.database) == [saved(20), saved(30)]


def test_a_checkpoint_that_was_removed_and_is_written_again_is_kept(read):
    reader = read(started(), saved(10), saved(20), removed(f"{RUN}@10"), saved(10, label="again"))
    assert kept_checkpoints(reader.database) == [saved(20), saved(10, label="again")]


def test_a_checkpoint_that_is_written_again_is_the_newer_one(read):
    reader = read(started(), saved(10), saved(20), saved(10, pinned=True))
    assert kept_checkpoints(reader.database) == [saved(20), saved(10, pinned=True)]


def test_checkpoints_of_older_sessions_are_told_apart_by_their_paths(read):
    old = [saved(step, checkpoint_id="") for step in (10, 20)]
    assert kept_checkpoints(read(started(), *old, line(1)).database) == old


def test_a_session_without_checkpoints_has_none(read):
    reader = read(started())
    assert kept_checkpoints(reader.database) == []
    assert snapshot(reader, points=10).checkpoints == []


@pytest.mark.parametrize("size", [1, 2, 3, 10_000])
def test_what_one_append_holds_after_a_rewind_is_counted_once(home, size):
    events = [
        started(),
        *flat(1, 5, 1, size=5),
        rewound(3, 5),
        *flat(4, 8, 2, size=5),
        rewound(6, 8),
        *flat(7, 8, 3, size=2),
    ]
    store = make_session(home)
    for start in range(0, len(events), size):
        store.append(events[start : start + size])
    store.close()
    with SessionReader(store.folder) as reader:
        points, found = curve(reader)
        assert sorted(points) == list(range(1, 9))
        assert found.count == 8
        (run,) = run_summaries(reader.database)
        assert (run.step, run.latest) == (8, {"loss": 3.0})
