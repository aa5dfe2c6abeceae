"""Many sessions at a glance: what has ended is read once, and a kept summary is never a wrong one."""

import json
import os

import pytest
from otf_session import display_name, listing
from otf_session.errors import SessionError
from otf_session.events import RunState
from otf_session.home import DATABASE
from otf_session.listing import FILE, summaries

from ..helpers.sessions import losses, make_session, started, state


@pytest.fixture
def reads(monkeypatch):
    """The sessions that were read, one entry each time."""
    seen = []
    real = listing.session_summary

    def session_summary(reader):
        seen.append(reader.folder.name)
        return real(reader)

    monkeypatch.setattr(listing, "session_summary", session_summary)
    return seen


def ended(home, *, old=True):
    """A session that has ended a while ago."""
    store = make_session(home, started(), losses(1, 3), state(RunState.FINISHED, step=3))
    store.close()
    if old:
        age(store)
    return store


def age(store):
    for name in (DATABASE, display_name.FILE):
        if (store.folder / name).exists():
            os.utime(store.folder / name, (1_700_000_000, 1_700_000_000))


def look(home):
    problems = []
    return summaries(home, problems.append), problems


def test_what_has_ended_is_read_once_and_looks_the_same(home, reads):
    one, other = ended(home), ended(home)
    first = look(home)
    assert [summary.id for summary in first[0]] == [other.id, one.id]
    assert sorted(reads) == sorted([one.id, other.id])
    reads.clear()
    assert look(home) == first
    assert reads == []


def test_what_may_still_change_is_read_each_time(home, reads):
    lost = make_session(home, started())
    lost.close()
    age(lost)
    fresh = ended(home, old=False)
    for _ in range(2):
        reads.clear()
        look(home)
        assert sorted(reads) == sorted([lost.id, fresh.id])


@pytest.mark.parametrize("change", ["name", "events", "replaced"])
def test_what_has_changed_is_read_anew(home, reads, change):
    store = ended(home)
    look(home)
    reads.clear()
    if change == "name":
        display_name.write(store.folder, "mine")
    elif change == "events":
        store.append([state(RunState.STOPPED, step=9)])
        store.close()
    else:
        another = ended(home)
        (another.folder / DATABASE).replace(store.folder / DATABASE)
        os.utime(store.folder / DATABASE, (1_700_000_001, 1_700_000_001))
    found = look(home)[0][-1]
    assert store.id in reads
    assert change != "name" or found.name == "mine"
    assert change != "events" or found.state.value == "stopped"


def test_what_is_gone_is_forgotten(home):
    store = ended(home)
    look(home)
    (store.folder / DATABASE).unlink()
    assert look(home) == ([], [])
    assert json.loads((home.path / FILE).read_bytes())["sessions"] == {}


@pytest.mark.parametrize(
    "text",
    [b"", b"[]", b"\xff", b"[" * 100_000, b'{"version": "0", "sessions": {}}'],
    ids=["empty", "none", "no text", "nested", "another version"],
)
def test_a_file_that_cannot_be_used_is_replaced(home, text):
    ended(home)
    expected = look(home)
    whole = (home.path / FILE).read_bytes()
    (home.path / FILE).write_bytes(text)
    assert look(home) == expected
    assert (home.path / FILE).read_bytes() == whole


def test_a_home_that_cannot_be_written_is_listed_all_the_same(home, monkeypatch):
    def denied(*words):
        raise PermissionError(13, "Permission denied")

    store = ended(home)
    monkeypatch.setattr("pathlib.Path.replace", denied)
    assert [summary.id for summary in look(home)[0]] == [store.id]
    assert [path.name for path in home.path.iterdir()] == ["sessions"]


def test_what_cannot_be_read_is_told_each_time(home):
    whole, damaged = ended(home), ended(home)
    (damaged.folder / DATABASE).write_bytes(b"no database" * 1000)
    for _ in range(2):
        found, problems = look(home)
        assert [summary.id for summary in found] == [whole.id]
        assert len(problems) == 1
        assert isinstance(problems[0], SessionError)
