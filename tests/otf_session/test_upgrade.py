"""Sessions of an older schema: read as any other, wherever they can be brought up to date."""

import os
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import peewee
import pytest
from otf_session import migrations
from otf_session.errors import SchemaTooOld
from otf_session.events import Rewound
from otf_session.home import DATABASE
from otf_session.migrations import m0001_initial
from otf_session.queries import events_after, series, session_summary, snapshot
from otf_session.store import SessionReader, SessionStore

from ..helpers.sessions import BEGIN, RUN, line, losses, make_session, metrics, started, stored
from ..helpers.vocabulary import EVENTS

SECONDS = 20.0


def as_schema_1(store):
    """The session's folder, as a version of OnTheFly that knew schema 1 alone would have left it."""
    store.close()
    path = store.folder / DATABASE
    newer = path.rename(path.with_suffix(".newer"))
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode = wal")
    connection.executescript(m0001_initial.SQL)
    connection.execute("PRAGMA user_version = 1")
    connection.execute("ATTACH ? AS newer", (str(newer),))
    tables = connection.execute("SELECT name FROM main.sqlite_master WHERE type = 'table'")
    for (table,) in tables.fetchall():
        columns = connection.execute(f"PRAGMA main.table_info({table})").fetchall()
        names = ", ".join(column[1] for column in columns)
        connection.execute(f"INSERT INTO main.{table} ({names}) SELECT {names} FROM newer.{table}")
    connection.commit()
    connection.close()
    newer.unlink()
    return store.folder


@pytest.fixture
def old(home):
    """Make sessions of schema 1 with these events."""

    def old(*events):
        return as_schema_1(make_session(home, *events))

    return old


def version(folder):
    connection = sqlite3.connect(folder / DATABASE)
    try:
        return connection.execute("PRAGMA user_version").fetchone()[0]
    finally:
        connection.close()


def test_an_older_session_is_read_whole(old):
    events = [event for event in EVENTS if not isinstance(event, Rewound)]
    folder = old(*events)
    assert version(folder) == 1
    with SessionReader(folder) as reader:
        assert events_after(reader.database, 0, 100) == events
        assert snapshot(reader, points=100).seq == len(events)
        (curve, *_) = series(reader.database, points=100, names=["loss"])
    assert curve.steps == [101, 102, 103]
    assert version(folder) == migrations.NEWEST


def test_it_is_brought_up_to_date_once(old, monkeypatch):
    folder = old(started())
    with SessionReader(folder):
        pass
    with monkeypatch.context() as patched:
        patched.setattr(migrations, "migrate", lambda database: pytest.fail("It was migrated."))
        with SessionReader(folder) as reader:
            assert session_summary(reader).last_seq == 1


def test_it_can_be_appended_to_and_goes_back_as_a_new_one(old):
    folder = old(started(), losses(1, 20))
    with SessionReader(folder):
        pass
    store = SessionStore(folder)
    back = Rewound(time=BEGIN, run=RUN, step=5, epoch=1, left_step=20, checkpoint=f"{RUN}@5")
    store.append([back])
    store.close()
    with SessionReader(folder) as reader:
        (curve,) = series(reader.database, points=100)
    assert curve.steps == [1, 2, 3, 4, 5]


def test_bringing_it_up_to_date_leaves_no_other_files_than_reading_does(old):
    folder = old(started())
    with SessionReader(folder):
        pass
    after_upgrade = sorted(path.name for path in folder.iterdir())
    with SessionReader(folder):
        pass
    assert sorted(path.name for path in folder.iterdir()) == after_upgrade


def test_two_readers_at_once_bring_it_up_to_date_once(old, monkeypatch):
    readers = 4
    folder = old(started(), losses(1, 50))
    # All have seen the older schema before the first of them has the lock.
    barrier = threading.Barrier(readers, timeout=SECONDS)
    real = migrations.check

    def check(database):
        found = real(database)
        if threading.current_thread().name == "migrating":
            barrier.wait()
        return found

    def migrate(database):
        threading.current_thread().name = "migrating"
        try:
            migrate_really(database)
        finally:
            threading.current_thread().name = "reading"

    migrate_really = migrations.migrate
    monkeypatch.setattr(migrations, "check", check)
    monkeypatch.setattr(migrations, "migrate", migrate)
    found = []

    def read():
        try:
            with SessionReader(folder) as reader:
                found.append(len(series(reader.database, points=100)[0].steps))
        except BaseException as error:  # noqa: BLE001 - compared below
            found.append(error)

    threads = [threading.Thread(target=read) for _ in range(readers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=SECONDS)
    assert found == [50] * readers
    assert version(folder) == migrations.NEWEST


def test_two_processes_at_once_bring_it_up_to_date_once(old):
    folder = old(started(), losses(1, 50))
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from otf_session.queries import series\n"
        "from otf_session.store import SessionReader\n"
        "sys.stdin.readline()\n"
        f"with SessionReader(Path({str(folder)!r})) as reader:\n"
        "    print(len(series(reader.database, points=100)[0].steps))\n"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for process in processes:
        process.stdin.write("now\n")
        process.stdin.flush()
    ends = [process.communicate(timeout=SECONDS) for process in processes]
    assert ends == [("50\n", "")] * 2


class OldTrainer:
    """Appends as a trainer that knows schema 1 does: in short transactions, naming its columns."""

    def __init__(self, folder):
        self._connection = sqlite3.connect(
            folder / DATABASE, isolation_level=None, timeout=SECONDS, check_same_thread=False
        )
        (self.seq,) = self._connection.execute("SELECT max(seq) FROM metric_batch").fetchone()

    def append(self, step):
        self.seq += 1
        run = self._connection.execute
        run("BEGIN IMMEDIATE")
        run(
            "INSERT INTO metric_batch (seq, run, steps, times) VALUES (?, ?, ?, ?)",
            (self.seq, RUN, f"[{step}]", f"[{BEGIN + step}]"),
        )
        run(
            "INSERT INTO metric_column (run, name, seq, count, nonfinite, first_step, last_step, "
            "low, low_step, high, high_step, value_list) "
            "VALUES (?, 'loss', ?, 1, 0, ?, ?, 0.5, ?, 0.5, ?, '[0.5]')",
            (RUN, self.seq, step, step, step, step),
        )
        run("UPDATE metric_series SET count = count + 1, last_step = ?", (step,))
        run("UPDATE run SET step = ?", (step,))
        run("COMMIT")

    def close(self):
        self._connection.close()


def test_an_older_trainer_goes_on_while_it_is_read(old):
    folder = old(started(), losses(1, 1))
    trainer = OldTrainer(folder)
    failed, enough, last = [], threading.Event(), 1

    def train():
        nonlocal last
        try:
            while not enough.is_set():
                trainer.append(last + 1)
                last += 1
                # A trainer's writer rests between two batches; SQLite's locks are not fair.
                time.sleep(0.01)
        except BaseException as error:  # noqa: BLE001 - shown below
            failed.append(error)

    writer = threading.Thread(target=train)
    writer.start()
    seen = []
    try:
        while len(seen) < 20 and not failed:
            with SessionReader(folder) as reader:
                (curve,) = series(reader.database, points=1_000_000)
                seen.append(curve.steps)
    finally:
        enough.set()
        writer.join(timeout=SECONDS)
    trainer.close()
    assert failed == []
    assert all(steps == list(range(1, len(steps) + 1)) for steps in seen)
    assert len(seen[-1]) > len(seen[0])
    with SessionReader(folder) as reader:
        assert series(reader.database, points=1_000_000)[0].steps == list(range(1, last + 1))


def test_a_trainer_in_the_middle_of_an_append_is_waited_for(old):
    folder = old(started(), losses(1, 1))
    trainer = OldTrainer(folder)
    trainer._connection.execute("BEGIN IMMEDIATE")
    timer = threading.Timer(0.3, trainer._connection.execute, ["COMMIT"])
    timer.start()
    with SessionReader(folder) as reader:
        assert session_summary(reader).last_seq == 2
    timer.join(timeout=SECONDS)
    trainer.append(2)
    trainer.close()
    assert version(folder) == migrations.NEWEST


def test_a_reader_in_the_middle_of_reading_sees_what_it_saw(old):
    folder = old(started(), losses(1, 5))
    other = sqlite3.connect(folder / DATABASE, isolation_level=None)
    other.execute("BEGIN")
    before = other.execute("SELECT * FROM metric").fetchall()
    with SessionReader(folder):
        pass
    assert other.execute("SELECT * FROM metric").fetchall() == before
    other.execute("ROLLBACK")
    other.close()


# Where it cannot be written


def message_of(folder):
    with pytest.raises(SchemaTooOld) as caught, SessionReader(folder):
        pass
    message = str(caught.value)
    assert str(folder) in message
    assert "older version of OnTheFly" in message
    assert "cannot be written" in message
    assert "copy it" in message
    return message


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_an_older_session_that_cannot_be_written_says_what_to_do(old, monkeypatch, kind):
    folder = old(started())
    spared = folder if kind == "folder" else folder / DATABASE
    real = os.access

    def access(path, mode):
        return not (mode & os.W_OK and Path(path) == spared) and real(path, mode)

    with monkeypatch.context() as patched:
        patched.setattr(os, "access", access)
        message_of(folder)
    assert version(folder) == 1
    with SessionReader(folder) as reader:
        assert session_summary(reader).last_seq == 1


def test_a_database_that_turns_out_to_be_read_only_is_said(old, monkeypatch):
    folder = old(started())

    def migrate(database):
        raise peewee.OperationalError("attempt to write a readonly database")

    monkeypatch.setattr(migrations, "migrate", migrate)
    message_of(folder)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_rights_to_write_is_said(old):
    folder = old(started())
    folder.chmod(0o500)
    try:
        message_of(folder)
    finally:
        folder.chmod(0o700)


def test_an_older_session_is_opened_by_its_trainer_as_ever(old):
    folder = old(started(), line(1))
    store = SessionStore(folder)
    store.append([metrics([1], loss=[1.0])])
    assert stored(store) == [started(), line(1), metrics([1], loss=[1.0])]
    store.close()
