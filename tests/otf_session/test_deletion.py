"""Deleting sessions, and checkpoints of them."""

import json
import os
import subprocess
import sys
import time

import pytest
from otf_session import deletion
from otf_session.cli import app
from otf_session.errors import NotDeleted, SessionLive
from otf_session.events import CheckpointRemoved
from otf_session.home import DATABASE
from otf_session.liveness import AliveLock
from otf_session.queries import events_of, kept_checkpoints
from otf_session.store import SessionReader

from ..helpers.sessions import checkpoint, losses, make_session, started
from ..helpers.shell import invoke


@pytest.fixture
def folders(home):
    """Two ended sessions with two checkpoints each, the second of them pinned."""
    made = []
    for _ in range(2):
        store = make_session(home, started(), losses(1, 30))
        store.append([checkpoint(store, "one", 1000), checkpoint(store, "two", 300, pinned=True)])
        store.close()
        made.append(store.folder)
    return made


def contents(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_session_is_deleted_with_everything(folders, home):
    result = invoke(app, "delete", folders[0].name, "--yes")
    assert result.exit_code == 0
    assert result.stdout.startswith(f"Deleted {folders[0].name} (")
    assert os.listdir(home.sessions) == [folders[1].name]


def test_several_are_deleted_at_once_each_once(folders, home):
    names = [folders[0].name, "latest", folders[0].name]
    found = json.loads(invoke(app, "delete", *names, "--yes", "--json").stdout)
    assert [each["session"] for each in found["deleted"]] == [each.name for each in folders]
    assert found["size"] == sum(each["size"] for each in found["deleted"]) > 2600
    assert os.listdir(home.sessions) == []


@pytest.mark.parametrize("unknown", ["zzz", "2"])
def test_where_one_cannot_be_found_none_is_deleted(folders, home, unknown):
    result = invoke(app, "delete", folders[0].name, unknown, "--yes")
    assert result.exit_code == 1
    assert sorted(os.listdir(home.sessions)) == sorted(each.name for each in folders)


def test_a_session_that_is_being_trained_is_refused_and_so_are_those_with_it(folders):
    before = contents(folders[0]), contents(folders[1])
    lock = AliveLock(folders[1])
    assert lock.acquire()
    try:
        result = invoke(app, "delete", folders[0].name, folders[1].name, "--yes")
        with pytest.raises(SessionLive):
            deletion.delete_session(folders[1])
    finally:
        lock.release()
    assert result.exit_code == 1
    assert f"{folders[1].name} is being trained right now" in result.stderr
    assert "otf ctl stop" in result.stderr
    for folder, files in zip(folders, before):
        assert files.items() <= contents(folder).items()


def test_without_a_terminal_it_is_not_asked_and_not_done(folders, home):
    result = invoke(app, "delete", "latest")
    assert result.exit_code == 2
    assert "add --yes" in result.stderr
    assert len(os.listdir(home.sessions)) == 2


@pytest.mark.skipif(os.name != "posix", reason="terminals are POSIX's")
@pytest.mark.parametrize(("answer", "code", "left"), [("y", 0, 1), ("n", 1, 2), ("", 1, 2)])
def test_on_a_terminal_it_is_asked(folders, home, answer, code, left):
    import pty

    ours, theirs = pty.openpty()
    words = "import sys; from otf_session.cli import app; app(sys.argv[1:])"
    process = subprocess.Popen(
        [sys.executable, "-c", words, "delete", folders[0].name],
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(theirs)
    os.write(ours, f"{answer}\n".encode())
    out, err = process.communicate(timeout=60)
    os.close(ours)
    assert process.returncode == code
    assert f"Delete {folders[0].name} (" in err
    assert len(os.listdir(home.sessions)) == left
    assert ("Deleted" in out) is (answer == "y")
    assert ("Nothing was deleted" in err) is (answer != "y")


def test_a_damaged_session_can_be_deleted(folders, home):
    (folders[0] / DATABASE).write_bytes(b"no database")
    assert invoke(app, "delete", folders[0].name, "--yes").exit_code == 0
    assert os.listdir(home.sessions) == [folders[1].name]


def test_it_is_gone_before_its_files_are(folders, home):
    seen = []

    def look(_):
        seen.append([folder.name for folder in home.session_folders()])

    deletion.delete_session(folders[0], look)
    assert len(seen) > 2
    assert seen == [[folders[1].name]] * len(seen)


def test_what_a_killed_deletion_left_is_removed_by_the_next(folders, home):
    code = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom otf_session import deletion\n"
        "deletion.delete_session(Path(sys.argv[1]), lambda _: os.kill(os.getpid(), signal.SIGKILL))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folders[0])], check=False)
    assert done.returncode != 0
    assert [folder.name for folder in home.session_folders()] == [folders[1].name]
    (left,) = home.other_folders()
    assert folders[0].name in left.name
    assert invoke(app, "delete", "latest", "--yes").exit_code == 0
    assert os.listdir(home.sessions) == []


def test_what_is_being_made_is_left_and_what_was_abandoned_is_removed(folders, home):
    fresh, old = home.sessions / ".20260101-000000-aaaa", home.sessions / ".20260101-000000-bbbb"
    for folder in (fresh, old):
        folder.mkdir()
    day = time.time() - 25 * 3600
    os.utime(old, (day, day))
    deletion.clean_up(home)
    assert home.other_folders() == [fresh]


def test_checkpoints_elsewhere_go_with_their_session(home, tmp_path):
    store = make_session(home, started())
    outside = tmp_path / store.id
    store.append([checkpoint(store, "far", folder=outside)])
    store.close()
    deletion.delete_session(store.folder)
    assert not outside.exists()


@pytest.mark.parametrize("path", ["precious.pt", "../precious.pt", "/absolute"])
def test_a_file_that_is_none_of_the_session_s_stays_whatever_its_record_says(home, tmp_path, path):
    import msgspec

    store = make_session(home, started())
    named = str(tmp_path / "precious.pt") if path == "/absolute" else path
    target = (store.folder / named).resolve()
    target.write_bytes(b"precious")
    saved = msgspec.structs.replace(checkpoint(store, "own"), path=named)
    store.append([saved])
    store.close()
    deletion.delete_checkpoints(store.folder, [saved], "asked for")
    assert target.read_bytes() == b"precious"
    deletion.delete_session(store.folder)
    # What lies in the session's own folder goes with it.
    assert target.exists() is (path != "precious.pt")


def test_checkpoints_are_deleted_and_the_record_says_so_and_why(folders):
    with SessionReader(folders[0]) as reader:
        one, two = kept_checkpoints(reader.database)
    deletion.delete_checkpoints(folders[0], [one], "asked for")
    assert os.listdir(folders[0] / "checkpoints") == ["two.pt"]
    with SessionReader(folders[0]) as reader:
        assert kept_checkpoints(reader.database) == [two]
        (gone,) = events_of(reader.database, CheckpointRemoved)
    assert (gone.id, gone.run, gone.reason) == (one.id, one.run, "asked for")


def test_checkpoints_of_a_live_session_stay(folders):
    with SessionReader(folders[0]) as reader:
        saved = kept_checkpoints(reader.database)
    lock = AliveLock(folders[0])
    assert lock.acquire()
    try:
        with pytest.raises(SessionLive):
            deletion.delete_checkpoints(folders[0], saved, "asked for")
    finally:
        lock.release()
    assert len(os.listdir(folders[0] / "checkpoints")) == 2


def test_a_checkpoint_that_cannot_be_removed_is_told(folders):
    with SessionReader(folders[0]) as reader:
        one, two = kept_checkpoints(reader.database)
    path = folders[0] / one.path
    path.unlink()
    # A folder in its place: no file is unlinked there, by nobody.
    path.mkdir()
    with pytest.raises(NotDeleted, match="1 checkpoint"):
        deletion.delete_checkpoints(folders[0], [one, two], "asked for")
    assert os.listdir(folders[0] / "checkpoints") == ["one.pt"]
