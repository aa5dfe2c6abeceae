import contextlib
import sqlite3

import pytest
from otf_session.commands import Applied, Pause
from otf_session.events import (
    CommandChanged,
    CommandStatus,
    EpochStarted,
    EvaluationFinished,
    RunState,
)
from otf_session.home import DATABASE
from otf_session.liveness import AliveLock
from otf_session.queries import (
    SNAPSHOT_LOG_LINES,
    events_of,
    log_page,
    run_summaries,
    series,
    session_summary,
    snapshot,
)
from otf_session.store import SessionReader
from otf_session.summaries import SessionState

from ..helpers.sessions import BEGIN, RUN, line, losses, make_session, metrics, started, state
from ..helpers.vocabulary import EVENTS


@pytest.fixture
def read(home):
    """A session with these events, open for reading."""
    with contextlib.ExitStack() as stack:

        def read(*events):
            store = make_session(home, *events)
            stack.callback(store.close)
            return stack.enter_context(SessionReader(store.folder))

        yield read


def epoch(number, step):
    return EpochStarted(time=BEGIN + step, run=RUN, epoch=number, step=step)


# Runs


def test_a_run_that_only_began_is_starting(read):
    (run,) = run_summaries(read(started()).database)
    assert (run.name, run.parents, run.state) == (RUN, [], RunState.STARTING)
    assert (run.reason, run.step, run.epoch, run.latest) == ("", 0, 0, {})
    assert run.created == run.updated == BEGIN


def test_a_run_is_where_its_newest_events_left_it(read):
    reader = read(
        started(),
        state(RunState.RUNNING),
        epoch(1, 0),
        losses(1, 40),
        epoch(2, 40),
        losses(41, 50),
        state(RunState.FAILED, step=50, reason="ValueError: no"),
    )
    (run,) = run_summaries(reader.database)
    assert (run.state, run.reason) == (RunState.FAILED, "ValueError: no")
    assert (run.step, run.epoch, run.updated) == (50, 2, BEGIN + 50)
    assert run.latest == {"loss": 1 / 50}


def test_a_new_state_replaces_the_reason(read):
    reader = read(
        started(),
        state(RunState.PAUSED, step=3, reason="asked for"),
        state(RunState.RUNNING, step=3),
    )
    assert run_summaries(reader.database)[0].reason == ""


@pytest.mark.parametrize("step", [5, 9, 12])
def test_the_step_is_that_of_the_last_event_that_says_one(read, step):
    before, after = state(RunState.RUNNING, step=step), state(RunState.PAUSED, step=step)
    (paused,) = run_summaries(read(started(), losses(1, 9), after).database)
    assert (paused.step, paused.updated) == (step, BEGIN + step)
    (running,) = run_summaries(read(started(), before, losses(1, 9)).database)
    assert (running.step, running.updated) == (9, BEGIN + 9)


def test_several_runs_keep_to_themselves(read):
    reader = read(
        started("baseline"),
        losses(1, 10, run="baseline"),
        state(RunState.FINISHED, run="baseline", step=10),
        started("fork1", parents=["baseline"], time=BEGIN + 20),
        metrics([11], run="fork1", loss=[0.5], extra=[1.0]),
        started("merge1", parents=["baseline", "fork1"], time=BEGIN + 30),
    )
    runs = run_summaries(reader.database)
    assert [(run.name, run.parents, run.step) for run in runs] == [
        ("baseline", [], 10),
        ("fork1", ["baseline"], 11),
        ("merge1", ["baseline", "fork1"], 0),
    ]
    assert runs[0].latest == {"loss": 0.1}
    assert runs[1].latest == {"loss": 0.5, "extra": 1.0}
    found = {(each.run, each.name): each.count for each in series(reader.database, points=100)}
    assert found == {("baseline", "loss"): 10, ("fork1", "extra"): 1, ("fork1", "loss"): 1}


# Sessions


@pytest.mark.parametrize("last", RunState)
def test_a_session_in_a_living_process_has_the_state_of_its_run(read, last):
    reader = read(started(), state(last, step=3))
    lock = AliveLock(reader.folder)
    assert lock.acquire()
    try:
        assert session_summary(reader).state.value == last.value
    finally:
        lock.release()


@pytest.mark.parametrize("last", RunState)
def test_an_unfinished_session_without_a_process_is_lost(read, last):
    reader = read(started(), state(last, step=3))
    expected = last.value if last.is_final else "lost"
    assert session_summary(reader).state.value == expected


def test_a_connected_trainer_is_alive(read):
    summary = session_summary(read(started(), state(RunState.PAUSED)), connected=True)
    assert (summary.state, summary.connected) == (SessionState.PAUSED, True)


def test_the_session_is_in_the_state_of_its_newest_run(read):
    reader = read(
        started("baseline"),
        state(RunState.FINISHED, run="baseline"),
        started("fork1", time=BEGIN + 5),
    )
    assert session_summary(reader, connected=True).state is SessionState.STARTING


def test_a_session_without_runs_is_starting_or_lost(read):
    reader = read()
    assert session_summary(reader, connected=True).state is SessionState.STARTING
    lost = session_summary(reader)
    assert lost.state is SessionState.LOST
    assert (lost.runs, lost.last_seq, lost.updated) == ([], 0, lost.created)


def test_a_session_is_as_new_as_its_newest_run(read):
    summary = session_summary(read(started(), losses(1, 7), line(9)))
    assert summary.updated == BEGIN + 7
    assert summary.last_seq == 3


# The log


def pages(reader, limit):
    found, before = [], None
    while True:
        page = log_page(reader.database, before=before, limit=limit)
        assert page.more == (len(page.entries) == limit and page.entries[0].seq > 2)
        found.insert(0, page.entries)
        assert before is None or page.entries[0].seq < before
        if not page.more:
            return found
        before = page.entries[0].seq


@pytest.mark.parametrize("limit", [1, 7, 20, 39, 40, 41])
def test_paging_the_log_shows_every_line_once_and_in_order(read, limit):
    # Lines have the even seqs from 2 to 80.
    events = [started()]
    for number in range(1, 41):
        events += [line(number), losses(number, number)]
    entries = [entry for page in pages(read(*events), limit) for entry in page]
    assert [entry.line for entry in entries] == [line(number) for number in range(1, 41)]
    assert [entry.seq for entry in entries] == list(range(2, 82, 2))


def test_an_empty_log_is_one_empty_page(read):
    page = log_page(read(started()).database, limit=10)
    assert (page.entries, page.more) == ([], False)


def test_nothing_is_older_than_the_first_line(read):
    page = log_page(read(line(1), line(2)).database, before=1, limit=10)
    assert (page.entries, page.more) == ([], False)


# Series


def test_few_points_are_all_there(read):
    reader = read(started(), losses(1, 30), losses(31, 50))
    (found,) = series(reader.database, points=50)
    assert (found.count, found.steps) == (50, list(range(1, 51)))
    assert found.values == [1.0 / step for step in range(1, 51)]


def test_series_are_chosen_by_run_and_name(read):
    reader = read(
        started("a"),
        started("b"),
        metrics([1], run="a", loss=[1.0], accuracy=[0.1]),
        metrics([1], run="b", loss=[2.0], accuracy=[0.2]),
    )

    def names(**chosen):
        return [(each.run, each.name) for each in series(reader.database, points=10, **chosen)]

    assert names() == [("a", "accuracy"), ("a", "loss"), ("b", "accuracy"), ("b", "loss")]
    assert names(runs=["b"]) == [("b", "accuracy"), ("b", "loss")]
    assert names(names=["loss"]) == [("a", "loss"), ("b", "loss")]
    assert names(runs=["a"], names=["loss", "nothing"]) == [("a", "loss")]
    assert names(runs=["c"]) == []


def test_bounds_choose_steps_and_not_the_count(read):
    reader = read(started(), *[losses(step, step + 9) for step in range(1, 100, 10)])
    (found,) = series(reader.database, points=1000, bounds=(15, 34))
    assert found.steps == list(range(15, 35))
    assert found.count == 100
    (outside,) = series(reader.database, points=1000, bounds=(500, 600))
    assert (outside.steps, outside.values) == ([], [])


def test_a_range_without_an_end_is_as_fine_as_the_whole(read):
    reader = read(started(), *[losses(step, step + 99) for step in range(1, 10_000, 100)])
    (whole,) = series(reader.database, points=200)
    for bounds in [(0, 2**62), (1, 2**62), (-(2**62), 10_000)]:
        (found,) = series(reader.database, points=200, bounds=bounds)
        assert (found.steps, found.values) == (whole.steps, whole.values)


def test_a_series_in_very_many_batches_is_read(read):
    reader = read(started(), *[metrics([step], loss=[float(step)]) for step in range(1, 1302)])
    (found,) = series(reader.database, points=5000)
    assert found.steps == list(range(1, 1302))
    (thinned,) = series(reader.database, points=100)
    assert (thinned.steps[0], thinned.steps[-1]) == (1, 1301)
    assert len(thinned.steps) <= 110


# Snapshots


def test_a_snapshot_holds_everything_a_dashboard_begins_with(read):
    evaluated = EvaluationFinished(
        time=BEGIN, run=RUN, step=9, split="test", samples=5, values={"test_loss": None}
    )
    asked = CommandChanged(
        time=BEGIN,
        run=RUN,
        step=9,
        id="1",
        author="http",
        command=Pause(),
        status=CommandStatus.APPLIED,
        outcome=Applied(step=9),
    )
    reader = read(started(), epoch(1, 0), losses(1, 9), line(1), evaluated, asked)
    found = snapshot(reader, points=100, connected=True)
    assert found.seq == 6
    assert found.session == session_summary(reader, connected=True)
    assert found.series == series(reader.database, points=100)
    assert [entry.line for entry in found.log.entries] == [line(1)]
    assert (found.epochs, found.evaluations, found.commands) == (
        [epoch(1, 0)],
        [evaluated],
        [asked],
    )


def test_a_snapshot_has_the_newest_lines_of_a_long_log(read):
    reader = read(*[line(number) for number in range(SNAPSHOT_LOG_LINES + 10)])
    log = snapshot(reader, points=10).log
    assert log.more
    assert len(log.entries) == SNAPSHOT_LOG_LINES
    assert log.entries[-1].line == line(SNAPSHOT_LOG_LINES + 9)


@pytest.mark.parametrize(
    "event",
    [event for event in EVENTS if type(event).__name__ not in ("Metrics", "LogLine")],
    ids=lambda event: type(event).__name__,
)
def test_events_of_one_kind_are_found_in_order(read, event):
    reader = read(*EVENTS)
    same = [each for each in EVENTS if type(each) is type(event)]
    assert events_of(reader.database, type(event)) == same
    twice = read(epoch(1, 0), line(1), epoch(2, 10))
    assert events_of(twice.database, EpochStarted) == [epoch(1, 0), epoch(2, 10)]


# Other tools


def test_any_sqlite_tool_sees_plain_rows(read):
    reader = read(
        started(), metrics([1, 2], loss=[0.5, None]), metrics([3], loss=[0.25], accuracy=[1.0])
    )
    connection = sqlite3.connect(reader.folder / DATABASE)
    rows = connection.execute(
        "SELECT run, name, step, time, value FROM metric ORDER BY name, step"
    ).fetchall()
    connection.close()
    assert rows == [
        (RUN, "accuracy", 3, BEGIN + 3, 1.0),
        (RUN, "loss", 1, BEGIN + 1, 0.5),
        (RUN, "loss", 2, BEGIN + 2, None),
        (RUN, "loss", 3, BEGIN + 3, 0.25),
    ]
