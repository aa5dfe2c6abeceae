"""Retention: what `otf session prune` lets go, and what it leaves."""

import json
import os
import time

import pytest
from otf_session import retention
from otf_session.bundles import provenance
from otf_session.bundles.manifest import Manifest, SessionEntry
from otf_session.cli import app
from otf_session.events import CheckpointRemoved, RunState, StateChanged
from otf_session.home import DATABASE
from otf_session.liveness import AliveLock
from otf_session.queries import events_of, kept_checkpoints
from otf_session.retention import Policy, parse_duration, plan
from otf_session.store import SessionReader, SessionStore

from ..helpers.sessions import RUN, checkpoint, make_session, started
from ..helpers.shell import invoke

DAY = 86400.0
NOW = time.time()


def ended(home, days, *, pinned=True):
    """A session that changed last so many days ago, with a checkpoint of 1000 bytes, one of 300."""
    then = NOW - days * DAY
    end = StateChanged(time=then, run=RUN, state=RunState.FINISHED, step=30)
    store = make_session(home, started(time=then), end)
    saved = [checkpoint(store, "one", 1000)]
    saved += [checkpoint(store, "two", 300, pinned=True)] if pinned else []
    store.append(saved)
    store.close()
    return store.folder


@pytest.fixture
def folders(home):
    """Sessions that ended 40, 20 and 0 days ago; the oldest last but one."""
    return [ended(home, 20), ended(home, 40), ended(home, 0)]


def kept(folder):
    with SessionReader(folder) as reader:
        return [saved.id for saved in kept_checkpoints(reader.database)]


def left(home):
    return [folder.name for folder in home.session_folders()]


def prune(*words):
    return invoke(app, "prune", *words)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("45m", 2700),
        ("12h", 43200),
        ("30d", 2_592_000),
        ("2w", 1_209_600),
        ("1.5h", 5400),
        (" 3 d ", 3 * DAY),
        ("0d", 0),
    ],
)
def test_durations_are_numbers_with_units(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "30", "d", "30 days", "-3d", "1e3d", "3y", "1d12h", "nan d"])
def test_what_is_no_duration_is_said_with_what_to_type(home, text):
    with pytest.raises(ValueError, match="30d or 2w"):
        parse_duration(text)
    result = prune("--older-than", text)
    assert result.exit_code == 2
    assert "--older-than" in result.stderr


def test_sessions_that_have_not_changed_for_so_long_go(folders, home):
    result = prune("--older-than", "30d", "--yes")
    assert result.exit_code == 0
    assert "Deleted" in result.stdout
    assert left(home) == [folders[0].name, folders[2].name]


def test_a_dry_run_says_the_same_and_changes_nothing(folders, home):
    found = json.loads(prune("--older-than", "30d", "--dry-run", "--json").stdout)
    size = sum(path.stat().st_size for path in folders[1].rglob("*") if path.is_file())
    (item,) = found["items"]
    assert (item["session"], item["whole"], item["size"]) == (folders[1].name, True, size)
    assert (found["dry_run"], found["size"], found["failed"]) == (True, size, [])
    shown = prune("--older-than", "30d", "--dry-run").stdout
    assert folders[1].name in shown
    assert "the session" in shown
    assert folders[0].name not in shown
    assert len(left(home)) == 3


def test_the_newest_are_kept_whatever_their_age(folders, home):
    assert prune("--keep-last", "2", "--yes").exit_code == 0
    assert left(home) == [folders[1].name, folders[2].name]
    assert prune("--older-than", "30d", "--keep-last", "2", "--yes").exit_code == 0
    assert left(home) == [folders[1].name, folders[2].name]


def test_it_wants_to_know_which(folders, home):
    result = prune("--yes")
    assert result.exit_code == 2
    assert "--older-than" in result.stderr
    assert prune("--checkpoints-only", "--yes").exit_code == 2
    assert len(left(home)) == 3


def test_checkpoints_alone_go_and_the_record_says_so(folders, home):
    result = prune("--older-than", "30d", "--checkpoints-only", "--yes")
    assert result.exit_code == 0
    assert "2 checkpoints" in result.stdout
    assert "Deleted 1.3 kB" in result.stdout
    assert len(left(home)) == 3
    assert kept(folders[1]) == []
    assert os.listdir(folders[1] / "checkpoints") == []
    assert len(kept(folders[0])) == 2
    with SessionReader(folders[1]) as reader:
        gone = events_of(reader.database, CheckpointRemoved)
    assert {event.reason for event in gone} == {"pruned by `otf session prune`"}
    # Nothing is left to be done; and the session has not become younger by it.
    assert "Nothing" in prune("--older-than", "30d", "--checkpoints-only", "--yes").stdout
    prune("--older-than", "30d", "--yes")
    assert left(home) == [folders[0].name, folders[2].name]


def test_pinned_checkpoints_are_kept_with_the_records_they_belong_to(folders, home):
    bare = ended(home, 50, pinned=False)
    assert prune("--older-than", "30d", "--keep-pinned", "--yes").exit_code == 0
    assert bare.name not in left(home)
    assert kept(folders[1]) == [f"{RUN}@30-two"]
    assert os.listdir(folders[1] / "checkpoints") == ["two.pt"]


def test_with_checkpoints_only_pinned_ones_stay_and_every_record_does(folders, home):
    bare = ended(home, 50, pinned=False)
    words = ["--older-than", "30d", "--keep-pinned", "--checkpoints-only", "--yes"]
    assert prune(*words).exit_code == 0
    assert bare.name in left(home)
    assert kept(bare) == []
    assert kept(folders[1]) == [f"{RUN}@30-two"]


def test_a_live_session_is_left_as_it_is(folders, home):
    lock = AliveLock(folders[1])
    assert lock.acquire()
    try:
        result = prune("--older-than", "30d", "--yes")
        words = ["--older-than", "30d", "--checkpoints-only", "--yes", "--json"]
        found = json.loads(prune(*words).stdout)
    finally:
        lock.release()
    assert result.exit_code == 0
    assert f"{folders[1].name} is left as it is: it is being trained." in result.stderr
    assert found["items"] == []
    assert [each["session"] for each in found["spared"]] == [folders[1].name]
    assert len(left(home)) == 3
    assert len(kept(folders[1])) == 2


def test_one_that_became_live_since_it_was_planned_is_left_and_the_others_go(folders, home):
    found = plan(home, Policy(older_than=10 * DAY), NOW)
    assert [item.session for item in found.items] == [each.name for each in folders[:2]]
    lock = AliveLock(folders[0])
    assert lock.acquire()
    try:
        with pytest.raises(retention.deletion.SessionLive):
            retention.prune(home, found.items[0])
    finally:
        lock.release()
    retention.prune(home, found.items[1])
    assert left(home) == [folders[0].name, folders[2].name]


def test_a_damaged_session_is_left_and_said(folders, home):
    (folders[1] / DATABASE).write_bytes(b"no database")
    result = prune("--older-than", "1d", "--yes")
    assert result.exit_code == 0
    assert f"{folders[1].name} is left as it is: it cannot be read" in result.stderr
    assert left(home) == [folders[1].name, folders[2].name]
    assert (folders[1] / DATABASE).read_bytes() == b"no database"


def test_an_import_is_a_change(folders, home):
    entry = SessionEntry(id=folders[1].name, project="p", created=0.0, last_seq=1, schema=2)
    manifest = Manifest(format=1, created=0.0, session=entry, runs=[], members=[])
    provenance.write(
        folders[1], provenance.Provenance(time=NOW, bundle="b.otf.zip", manifest=manifest)
    )
    assert "Nothing" in prune("--older-than", "30d", "--yes").stdout
    assert len(left(home)) == 3


def test_checkpoints_that_are_gone_already_are_taken_off_the_record(folders):
    (folders[1] / "checkpoints" / "one.pt").unlink()
    prune("--older-than", "30d", "--keep-pinned", "--checkpoints-only", "--yes")
    assert kept(folders[1]) == [f"{RUN}@30-two"]


def test_without_a_terminal_it_is_not_asked_and_not_done(folders, home):
    result = prune("--older-than", "30d")
    assert result.exit_code == 2
    assert "add --yes" in result.stderr
    assert folders[1].name in result.stdout
    assert len(left(home)) == 3


def test_what_fails_is_said_and_the_rest_is_done(folders, home, tmp_path):
    path = folders[1] / "checkpoints" / "one.pt"
    path.unlink()
    path.mkdir()
    result = prune("--older-than", "10d", "--checkpoints-only", "--yes")
    assert result.exit_code == 1
    assert result.stderr.count("error: ") == 1
    assert folders[1].name in result.stderr
    assert kept(folders[0]) == []


def test_a_pruned_session_can_be_gone_on_writing(folders):
    prune("--older-than", "30d", "--checkpoints-only", "--yes")
    store = SessionStore(folders[1])
    before = store.last_seq
    store.append([started("fork1")])
    store.close()
    assert store.last_seq == before + 1
