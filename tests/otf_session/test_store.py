import os
import re
import shutil
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import peewee
import pytest
from otf_session.errors import SchemaTooNew, StoreDamaged
from otf_session.events import RunState
from otf_session.home import DATABASE, Home
from otf_session.queries import events_after, session_summary, snapshot
from otf_session.store import SessionReader, SessionStore, newest_seq

from ..helpers.sessions import line, losses, make_session, metrics, started, state, stored
from ..helpers.vocabulary import EVENTS


@pytest.fixture
def store(home):
    store = SessionStore.create(home, "digits")
    yield store
    store.close()


def seqs(store):
    """Every `seq` in the database, by plain SQLite."""
    connection = sqlite3.connect(store.folder / DATABASE)
    try:
        return sorted(
            seq
            for table in ("event", "log", "metric_batch")
            for (seq,) in connection.execute(f"SELECT seq FROM {table}")
        )
    finally:
        connection.close()


def test_a_new_session_is_empty(store, home):
    assert store.last_seq == 0
    assert stored(store) == []
    assert store.folder == home.session_folder(store.id)
    assert store.checkpoints.is_dir()
    with SessionReader(store.folder) as reader:
        assert session_summary(reader).project == "digits"


def test_every_kind_of_event_is_read_back_as_it_was_appended(store):
    assert store.append(EVENTS) == 1
    assert store.last_seq == len(EVENTS)
    assert stored(store) == EVENTS
    assert seqs(store) == list(range(1, len(EVENTS) + 1))


def test_events_are_read_in_parts_from_anywhere(store):
    store.append(EVENTS)
    parts = [stored(store, after, 3) for after in range(0, len(EVENTS), 3)]
    assert len(parts) > 3
    assert parts == [EVENTS[after : after + 3] for after in range(0, len(EVENTS), 3)]
    assert stored(store, len(EVENTS) - 1) == EVENTS[-1:]
    assert stored(store, len(EVENTS)) == []


def test_seq_goes_on_from_append_to_append(store):
    firsts = [store.append(EVENTS[:4]), store.append([line(1)]), store.append([losses(1, 3)])]
    assert firsts == [1, 5, 6]
    assert store.last_seq == 6
    assert seqs(store) == [1, 2, 3, 4, 5, 6]


def test_appending_nothing_changes_nothing(store):
    store.append([line(1)])
    assert store.append([]) == 2
    assert store.last_seq == 1
    assert stored(store) == [line(1)]


def test_many_events_in_one_append_come_back_in_order(store):
    events = [line(number) if number % 2 else losses(number, number) for number in range(1, 1401)]
    store.append(events)
    assert stored(store) == events


def test_null_is_measured_and_missing_is_not(store):
    measured = metrics([1, 2], loss=[None, 0.5])
    later = metrics([3, 4], loss=[0.25, None], accuracy=[None, None])
    store.append([started(), measured, later])
    assert stored(store, 1) == [measured, later]
    with SessionReader(store.folder) as reader:
        (run,) = session_summary(reader).runs
    assert run.latest == {"loss": None, "accuracy": None}


def test_metrics_without_a_metric_are_steps_all_the_same(store):
    empty = metrics([1, 2])
    store.append([started(), empty])
    assert stored(store, 1) == [empty]
    with SessionReader(store.folder) as reader:
        (run,) = session_summary(reader).runs
    assert (run.step, run.latest) == (2, {})


def test_texts_come_back_whatever_is_in_them(store):
    texts = ["", " ", "it's; DROP TABLE log;\n--", "\0", "\U0001f525 \u202e", "x" * 100_000]
    lines = [line(1).__class__(**{**fields(line(1)), "text": text}) for text in texts]
    store.append([started(), *lines, metrics([1], **{'a "name" % with \u00e4': [1.5]})])
    assert [event.text for event in stored(store, 1, len(texts))] == texts
    assert list(stored(store, 1 + len(texts))[0].values) == ['a "name" % with \u00e4']


def fields(struct):
    return {name: getattr(struct, name) for name in struct.__struct_fields__}


@pytest.mark.parametrize("value", [0.1 + 0.2, 1e-308, 1.7976931348623157e308, -0.0, 2**53 + 2.0])
def test_numbers_come_back_to_the_last_bit(store, value):
    store.append([started(), metrics([1], loss=[value])])
    (event,) = stored(store, 1)
    assert event.values["loss"][0].hex() == value.hex()


def test_an_append_that_fails_leaves_nothing(store):
    store.append([started(), line(1)])
    with pytest.raises(peewee.DatabaseError):
        store.append([line(2), losses(1, 5), started(), line(3)])
    assert store.last_seq == 2
    assert stored(store) == [started(), line(1)]
    assert seqs(store) == [1, 2]
    with SessionReader(store.folder) as reader:
        assert session_summary(reader).runs[0].latest == {}


def test_after_a_failed_append_the_next_one_goes_on_without_a_gap(store):
    store.append([started()])
    with pytest.raises(peewee.DatabaseError):
        store.append([started()])
    assert store.append([line(1)]) == 2
    assert stored(store) == [started(), line(1)]


def test_a_locked_database_is_a_database_error_and_loses_nothing(store, monkeypatch):
    store.append([started()])
    monkeypatch.setattr(store._database, "_timeout", 0.05)
    store.close()
    other = sqlite3.connect(store.folder / DATABASE, isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(peewee.DatabaseError, match="locked"):
            store.append([line(1)])
        other.execute("ROLLBACK")
    finally:
        other.close()
    assert store.append([line(1)]) == 2


def test_a_session_that_is_opened_again_goes_on(store):
    store.append(EVENTS)
    store.close()
    again = SessionStore(store.folder)
    assert again.id == store.id
    assert again.last_seq == len(EVENTS)
    assert again.append([line(1)]) == len(EVENTS) + 1
    assert stored(again) == [*EVENTS, line(1)]
    again.close()


@pytest.mark.parametrize("last", [line(1), losses(1, 3), state(RunState.RUNNING)])
def test_the_newest_seq_is_found_in_whichever_table_it_is(store, last):
    store.append([started(), line(9), losses(7, 9), last])
    store.close()
    assert SessionStore(store.folder).last_seq == 4


def test_one_thread_may_open_and_another_append(store):
    first = []

    def write():
        first.append(store.append([started()]))
        store.close()

    writer = threading.Thread(target=write)
    writer.start()
    writer.join(timeout=10)
    assert first == [1]
    assert stored(store) == [started()]


def test_sessions_do_not_mix(home):
    one, two = make_session(home, started("one")), make_session(home, started("two"), line(1))
    with SessionReader(one.folder) as first, SessionReader(two.folder) as second:
        assert events_after(first.database, 0, 10) == [started("one")]
        assert events_after(second.database, 0, 10) == [started("two"), line(1)]
    one.close()
    two.close()


def test_all_reads_of_one_reader_see_the_same_state(store):
    store.append([started(), losses(1, 10)])
    with SessionReader(store.folder) as reader:
        before = snapshot(reader, points=100)
        store.append([losses(11, 20), line(20)])
        assert snapshot(reader, points=100) == before
        assert newest_seq(reader.database) == 2
    with SessionReader(store.folder) as reader:
        assert newest_seq(reader.database) == 4


def test_what_is_read_while_writing_goes_on_is_consistent(store):
    store.append([started()])
    batches = 150
    done = threading.Event()

    def write():
        for number in range(batches):
            store.append([losses(number * 2 + 1, number * 2 + 2), line(number)])
        store.close()
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    seen = []
    finished = False
    while not finished:
        finished = done.is_set()
        with SessionReader(store.folder) as reader:
            seen.append((snapshot(reader, points=10_000), events_after(reader.database, 0, 10_000)))
    writer.join(timeout=10)
    for found, events in seen:
        # The run, then two events per batch.
        assert found.seq == len(events) == found.session.last_seq
        written = (found.seq - 1) // 2
        assert found.seq == 1 + 2 * written
        assert sum(len(series.steps) for series in found.series) == 2 * written
        assert found.session.runs[0].step == 2 * written
        assert [entry.seq for entry in found.log.entries] == list(range(3, found.seq + 1, 2))
    assert seen[-1][0].seq == 1 + 2 * batches


def test_a_reader_cannot_write(store):
    with pytest.raises(StoreDamaged, match="readonly"), SessionReader(store.folder) as reader:
        reader.database.execute_sql("DELETE FROM session")


def test_a_reader_leaves_other_errors_alone(store):
    with pytest.raises(ZeroDivisionError), SessionReader(store.folder):
        _ = 1 / 0


def test_a_session_of_a_newer_schema_is_refused(store):
    store.append([started()])
    store.close()
    connection = sqlite3.connect(store.folder / DATABASE)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    for use in (
        lambda: SessionReader(store.folder).__enter__(),
        lambda: SessionStore(store.folder),
    ):
        with pytest.raises(
            SchemaTooNew, match=r"schema 99.*up to 2.*pip install --upgrade"
        ) as raised:
            use()
        # The path as a person would type it, and no address that SQLite was given.
        assert str(raised.value).startswith(f"{store.folder / DATABASE} has schema")
    assert seqs(store) == [1]


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def garbage(path):
    path.write_bytes(b"This is no database. " * 500)


def spoil(path):
    content = bytearray(path.read_bytes())
    content[4096 : 4096 * 3] = b"\xff" * 8192
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("damage", [cut, garbage, spoil])
def test_a_damaged_database_is_said_to_be_one(store, damage):
    store.append([started(), *[losses(step, step + 99) for step in range(1, 5000, 100)]])
    store.close()
    damage(store.folder / DATABASE)
    message = rf"{re.escape(str(store.folder))} .*Its checkpoints are untouched"
    with pytest.raises(StoreDamaged, match=message), SessionReader(store.folder) as reader:
        snapshot(reader, points=100)


def test_an_empty_or_a_missing_database_holds_no_session(home):
    folder = home.sessions / "20260101-000000-half"
    folder.mkdir(parents=True)
    with pytest.raises(StoreDamaged, match="unable to open"), SessionReader(folder):
        pass
    (folder / DATABASE).touch()
    with pytest.raises(StoreDamaged, match="holds no session"), SessionReader(folder):
        pass


def test_a_database_without_the_row_that_names_the_session_holds_none(tmp_path):
    SessionStore(tmp_path).close()
    with pytest.raises(StoreDamaged, match="holds no session"), SessionReader(tmp_path) as reader:
        session_summary(reader)


def test_a_trainer_that_is_killed_while_it_makes_its_session_leaves_none(home, monkeypatch):
    class Killed(BaseException):
        pass

    def killed(*_, **__):
        raise Killed

    for place in ("otf_session.migrations.migrate", "otf_session.models.SessionRow.insert"):
        with monkeypatch.context() as patched:
            patched.setattr(place, killed)
            # Nothing is cleared up after a `kill -9`.
            patched.setattr("shutil.rmtree", lambda *_, **__: None)
            with pytest.raises(Killed):
                SessionStore.create(home, "digits")
    assert list(home.sessions.iterdir()) != []
    assert home.session_folders() == []


def test_a_damaged_database_is_not_opened_for_appending(store):
    store.close()
    garbage(store.folder / DATABASE)
    with pytest.raises(StoreDamaged):
        SessionStore(store.folder)


def test_a_copy_of_the_closed_database_alone_is_the_whole_session(store, tmp_path):
    store.append(EVENTS)
    store.close()
    assert sorted(path.name for path in store.folder.iterdir()) == ["checkpoints", DATABASE]
    shutil.copy(store.folder / DATABASE, tmp_path / DATABASE)
    with SessionReader(tmp_path) as reader:
        assert events_after(reader.database, 0, 100) == EVENTS


def test_a_session_that_cannot_be_written_is_read_without_touching_its_folder(store, monkeypatch):
    store.append(EVENTS)
    store.close()
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK and real(path, mode))
    before = sorted(store.folder.iterdir())
    with SessionReader(store.folder) as reader:
        assert events_after(reader.database, 0, 100) == EVENTS
        assert sorted(store.folder.iterdir()) == before
    assert sorted(store.folder.iterdir()) == before


def test_a_folder_with_marks_of_addresses_in_its_name_is_opened(tmp_path):
    store = make_session(Home(tmp_path / "a?b#c%20d \u00e4"), started())
    assert stored(store) == [started()]
    store.close()


def test_another_process_reads_what_a_killed_one_appended(home):
    script = (
        "import os\n"
        "from otf_session.home import Home\n"
        "from tests.helpers.sessions import *\n"
        "store = make_session(Home.find(), started(), losses(1, 5), line(5))\n"
        "os._exit(9)\n"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", script], cwd=root, timeout=60, check=False)
    assert done.returncode == 9
    store = SessionStore(home.session_folder("latest"))
    assert store.last_seq == 3
    assert stored(store) == [started(), losses(1, 5), line(5)]
    store.close()
