import subprocess
import sys

import pytest
from otf_serve import catalog as catalog_module
from otf_serve.catalog import Catalog
from otf_session import display_name
from otf_session.errors import SessionNotFound
from otf_session.events import RunState
from otf_session.home import DATABASE
from otf_session.liveness import AliveLock

from ..helpers.sessions import losses, started, state
from ..helpers.waiting import wait_for

NOBODY = frozenset()


@pytest.fixture
def catalog(home):
    return Catalog(home)


@pytest.fixture
def reads(monkeypatch):
    """The sessions that were read, one entry each time."""
    seen = []
    real = catalog_module.session_summary

    def session_summary(reader, **options):
        seen.append(reader.folder.name)
        return real(reader, **options)

    monkeypatch.setattr(catalog_module, "session_summary", session_summary)
    return seen


def test_what_has_not_changed_is_read_once(catalog, make, reads):
    running, finished = make(started()), make(started(), state(RunState.FINISHED))
    first = catalog.summaries(NOBODY)
    assert [catalog.summaries(NOBODY) for _ in range(3)] == [first] * 3
    assert sorted(reads) == sorted([running.id, finished.id])


def test_what_was_appended_is_seen(catalog, make, reads):
    store, _ = make(started()), make(started())
    catalog.summaries(NOBODY)
    reads.clear()
    for step in range(1, 6):
        store.append([losses(step, step)])
        summary = catalog.summary(store.id, NOBODY)
        assert (summary.last_seq, summary.runs[0].step) == (step + 1, step)
    catalog.summaries(NOBODY)
    assert reads == [store.id] * 5


def test_a_session_that_is_renamed_is_seen(catalog, make, reads):
    store, _ = make(started()), make(started())
    assert catalog.summary(store.id, NOBODY).name == ""
    for name in ("once", "else"):
        display_name.write(store.folder, name)
        assert catalog.summary(store.id, NOBODY).name == name
    display_name.clear(store.folder)
    assert catalog.summary(store.id, NOBODY).name == ""
    assert set(reads) == {store.id}


def test_what_was_appended_and_folded_in_is_seen(catalog, make):
    store = make(started())
    catalog.summaries(NOBODY)
    store.append([state(RunState.FINISHED, step=3)])
    store.close()
    assert catalog.summary(store.id, NOBODY).state.value == "finished"


def test_what_is_appended_while_it_reads_is_seen_the_next_time(catalog, make, monkeypatch):
    store = make(started())
    real = catalog_module.session_summary

    def session_summary(reader, **options):
        found = real(reader, **options)
        # The trainer's last words before a long pause.
        if store.last_seq == 1:
            store.append([state(RunState.PAUSED, step=3)])
        return found

    monkeypatch.setattr(catalog_module, "session_summary", session_summary)
    connected = frozenset([store.id])
    assert catalog.summary(store.id, connected).state.value == "starting"
    assert catalog.summary(store.id, connected).state.value == "paused"


def test_a_trainer_that_is_linked_is_connected(catalog, make):
    store = make(started())
    assert catalog.summary(store.id, NOBODY).connected is False
    linked = catalog.summary(store.id, frozenset([store.id]))
    assert (linked.connected, linked.state.value) == (True, "starting")
    assert catalog.summary(store.id, NOBODY).state.value == "lost"


def test_a_killed_trainer_s_session_is_lost(catalog, make, reads):
    store = make(started(), state(RunState.RUNNING))
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from otf_session.liveness import AliveLock\n"
        "lock = AliveLock(Path(sys.argv[1]))\n"
        "print(lock.acquire(), flush=True)\n"
        "sys.stdin.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(store.folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout.readline() == "True\n"
        (summary,) = catalog.summaries(NOBODY)
        assert summary.state.value == "running"
    finally:
        process.kill()
        process.communicate(timeout=10)
    wait_for(lambda: catalog.summaries(NOBODY)[0].state.value == "lost", "that the trainer is gone")
    lock = AliveLock(store.folder)
    assert lock.acquire()
    assert catalog.summary(store.id, NOBODY).state.value == "running"
    lock.release()


def test_a_damaged_session_is_left_out_and_said_once(catalog, make, caplog):
    whole, damaged = make(started()), make(started())
    damaged.close()
    (damaged.folder / DATABASE).write_bytes(b"no database" * 1000)
    for _ in range(3):
        assert [summary.id for summary in catalog.summaries(NOBODY)] == [whole.id]
    assert [damaged.id in record.getMessage() for record in caplog.records] == [True]


def test_a_session_that_goes_is_gone(catalog, make):
    store = make(started())
    assert len(catalog.summaries(NOBODY)) == 1
    store.close()
    (store.folder / DATABASE).unlink()
    assert catalog.summaries(NOBODY) == []
    with pytest.raises(SessionNotFound):
        catalog.summary(store.id, NOBODY)


@pytest.mark.parametrize("name", ["", "latest", "..", "nothing", "20"])
def test_only_a_whole_id_names_a_folder(catalog, make, name):
    store = make(started())
    assert catalog.folder(store.id) == store.folder
    with pytest.raises(SessionNotFound):
        catalog.folder(name)
    with pytest.raises(SessionNotFound):
        catalog.folder(store.id[:-1])
