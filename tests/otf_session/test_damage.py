"""Damage: every session opens as far as it can, or it is said what is wrong; nothing is lost."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys

import pytest
from otf_session.cli import app
from otf_session.damage import diagnosis, missing_bytes
from otf_session.errors import StoreDamaged
from otf_session.events import RunState
from otf_session.home import DATABASE
from otf_session.resume_cli import app as resume_app
from otf_session.store import DamagedReader, SessionReader

from ..helpers.confined import (
    files,
    fill,
    freely,
    read_only,
    small_disk,
    with_no_room,
    without_overrides,
)
from ..helpers.sessions import RUN, checkpoint, losses, make_session, started, state
from ..helpers.shell import invoke
from .test_upgrade import as_schema_1

#: The steps of the session that is damaged, in batches of a hundred.
STEPS = 20_000


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A session of some hundred pages with a checkpoint, closed."""
    from otf_session.home import Home

    home = Home(tmp_path_factory.mktemp("whole"))
    store = make_session(home, started(), project="precious")
    for first in range(1, STEPS, 100):
        store.append([losses(first, first + 99)])
    store.append([checkpoint(store, "final"), state(RunState.FINISHED, step=STEPS)])
    store.close()
    return store.folder


@pytest.fixture
def damaged(home, whole):
    """A copy of it in the test's home, beside another session."""
    make_session(home, started(), project="other").close()
    return shutil.copytree(whole, home.sessions / whole.name)


def cut(folder, size):
    os.truncate(folder / DATABASE, size)
    return (folder / DATABASE).read_bytes()


def commands(session):
    """What a person tries: each command with its result."""
    return {
        "list": invoke(app, "list"),
        "sizes": invoke(app, "list", "--size"),
        "json": invoke(app, "list", "--json"),
        "show": invoke(app, "show", session),
        "show-json": invoke(app, "show", session, "--json"),
        "metrics": invoke(app, "metrics", session),
        "resume": invoke(resume_app, session, "--", "true"),
        "prune": invoke(app, "prune", "--older-than", "0d", "--keep-last", "1", "--dry-run"),
    }


# A database that is cut short, empty, or none


@pytest.mark.parametrize("part", [0, 1, 50, 100, 4096, 8192, 0.25, 0.5, 0.75, 0.99])
def test_a_database_that_is_cut_short_is_said_and_left_as_it_is(damaged, part):
    size = (damaged / DATABASE).stat().st_size
    left = cut(damaged, part if isinstance(part, int) else int(size * part))
    found = commands(damaged.name)
    wrong = "is empty" if part == 0 else "is cut short"
    for name in ("list", "sizes", "json"):
        assert found[name].exit_code == 0
        assert found[name].stderr.count("\n") == 1
        assert wrong in found[name].stderr
    assert "other" in found["list"].stdout
    assert damaged.name in found["sizes"].stdout
    assert [each["project"] for each in json.loads(found["json"].stdout)] == ["other"]
    for name in ("show", "show-json", "resume"):
        assert found[name].exit_code == 1
        assert f"error: The session in {damaged} cannot be read" in found[name].stderr or (
            f"error: {damaged / DATABASE} holds no session" in found[name].stderr
        )
        assert wrong in found[name].stderr
    assert found["show-json"].stdout == ""
    assert found["metrics"].exit_code == 1
    assert wrong in found["metrics"].stderr
    assert (damaged / DATABASE).read_bytes() == left
    assert (damaged / "checkpoints" / "final.pt").exists()


def test_what_is_left_of_it_is_shown(damaged):
    size = (damaged / DATABASE).stat().st_size
    cut(damaged, int(size * 0.75))
    result = invoke(app, "show", damaged.name)
    assert "This is what can be read of it:" in result.stderr
    assert "Project   precious" in result.stdout
    (row,) = [row for row in result.stdout.splitlines() if row.strip().startswith(RUN)]
    assert f" {STEPS} " in row


def test_of_the_head_alone_its_first_table_is_shown(damaged):
    cut(damaged, 3 * 4096)
    result = invoke(app, "show", damaged.name)
    assert result.exit_code == 1
    assert "Project   precious" in result.stdout


@pytest.mark.parametrize("words", [[], ["--format", "jsonl"], ["--wide"]])
def test_the_points_before_the_damage_are_written(damaged, words, tmp_path):
    size = (damaged / DATABASE).stat().st_size
    left = cut(damaged, int(size * 0.75))
    result = invoke(app, "metrics", damaged.name, *words)
    assert result.exit_code == 1
    assert "cannot be read to its end" in result.stderr
    count = len(result.stdout.splitlines())
    assert 1000 < count < STEPS
    target = tmp_path / "out"
    again = invoke(app, "metrics", damaged.name, *words, "-o", target)
    assert again.exit_code == 1
    assert target.read_text() == result.stdout
    assert (damaged / DATABASE).read_bytes() == left


def test_a_page_that_was_overwritten_is_no_reason_to_lose_the_others(damaged):
    with sqlite3.connect(damaged / DATABASE) as connection:
        (root,) = connection.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = 'log'"
        ).fetchone()
    connection.close()
    with (damaged / DATABASE).open("r+b") as file:
        file.seek((root - 1) * 4096)
        file.write(b"\xff" * 4096)
    before = (damaged / DATABASE).read_bytes()
    result = invoke(app, "metrics", damaged.name)
    assert len(result.stdout.splitlines()) == STEPS + 1
    assert result.exit_code == 0
    assert (damaged / DATABASE).read_bytes() == before


@pytest.mark.parametrize(
    "content", [b"no database" * 1000, b"\0" * 40_960, b"SQLite format 3\0" + b"\xff" * 8000]
)
def test_what_is_no_database_is_said_and_left_as_it_is(damaged, content):
    (damaged / DATABASE).write_bytes(content)
    found = commands(damaged.name)
    for name in ("list", "json"):
        assert found[name].exit_code == 0
        assert f"warning: The session in {damaged} cannot be read" in found[name].stderr
    for name in ("show", "metrics", "resume"):
        assert found[name].exit_code == 1
        assert found[name].stderr.startswith(f"error: The session in {damaged} cannot be read")
        assert found[name].stdout == ""
    assert (damaged / DATABASE).read_bytes() == content


def test_a_session_of_an_older_schema_that_is_cut_short_is_not_brought_up_to_date(home):
    store = make_session(home, started(), *(losses(n, n + 99) for n in range(1, 2000, 100)))
    folder = as_schema_1(store)
    left = cut(folder, (folder / DATABASE).stat().st_size - 4096)
    for reader in (SessionReader, DamagedReader):
        with pytest.raises(StoreDamaged, match="cut short"), reader(folder):
            pass
    assert (folder / DATABASE).read_bytes() == left


def test_the_missing_bytes_are_counted(damaged):
    path = damaged / DATABASE
    size = path.stat().st_size
    assert (missing_bytes(path), diagnosis(damaged)) == (0, "")
    cut(damaged, size - 5000)
    assert missing_bytes(path) == 5000
    assert f"{size - 5000:,} bytes are there, at least 5,000 are missing" in diagnosis(damaged)
    path.unlink()
    assert missing_bytes(path) == 0
    assert "is missing" in diagnosis(damaged)


# A checkpoint that is missing


def test_a_missing_checkpoint_is_said_where_it_matters_and_nowhere_else(damaged):
    (damaged / "checkpoints" / "final.pt").unlink()
    found = commands(damaged.name)
    for name in ("list", "sizes", "json", "show", "show-json", "metrics"):
        assert (found[name].exit_code, found[name].stderr) == (0, "")
    assert "its file is missing" in found["show"].stdout
    assert json.loads(found["show-json"].stdout)["checkpoints"][0]["missing"] is True
    assert found["resume"].exit_code == 1
    assert "is in the record, but its file is missing" in found["resume"].stderr
    assert str(damaged / "checkpoints" / "final.pt") in found["resume"].stderr


# A WAL that a killed process left

_KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from otf_session.home import Home
from otf_session.liveness import AliveLock
from tests.helpers.sessions import losses, make_session, started
store = make_session(Home.find(), started(), project="killed")
assert AliveLock(store.folder).acquire()
for step in range(1, 21):
    store.append([losses(step, step)])
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def killed(home):
    """A session whose trainer was killed: what it wrote is in the WAL."""
    from pathlib import Path

    root = str(Path(__file__).parents[2])
    done = subprocess.run([sys.executable, "-c", _KILLED, root], check=False)
    assert done.returncode != 0
    folder = home.session_folder("latest")
    assert (folder / f"{DATABASE}-wal").stat().st_size > 0
    return folder


def steps_in(result):
    return [int(line.split(",")[2]) for line in result.stdout.splitlines()[1:]]


def test_a_wal_that_was_left_is_read_to_its_end(killed):
    (found,) = json.loads(invoke(app, "list", "--json").stdout)
    assert (found["state"], found["runs"][0]["step"]) == ("lost", 20)
    assert steps_in(invoke(app, "metrics", "latest")) == list(range(1, 21))


def test_looking_at_it_does_not_touch_it(killed):
    before = files(killed)
    for words in (["list"], ["list", "--size"], ["show", "latest"], ["metrics", "latest"]):
        assert invoke(app, *words).exit_code == 0
    assert files(killed) == before


@pytest.mark.parametrize("part", [0, 10, 0.5, 0.9])
def test_a_wal_that_is_cut_short_is_read_up_to_the_last_whole_write(killed, part):
    wal = killed / f"{DATABASE}-wal"
    size = wal.stat().st_size
    os.truncate(wal, part if isinstance(part, int) else int(size * part))
    (killed / f"{DATABASE}-shm").unlink()
    result = invoke(app, "metrics", "latest")
    found = steps_in(result)
    assert found == list(range(1, len(found) + 1))
    assert len(found) < 20
    if isinstance(part, float):
        assert len(found) > 2
        assert result.exit_code == 0


# A home that cannot be written


def readable(run, session):
    """What can be done in any home that can be read; the metrics are returned."""
    words = [["list"], ["list", "--size"], ["show", session], ["path", session]]
    found = run(*(["cli", *each] for each in [*words, ["metrics", session]]))
    assert [(each.exit_code, each.stderr) for each in found] == [(0, "")] * 5
    return found[-1]


def test_a_read_only_home_is_read_and_what_would_change_it_is_refused(home, damaged):
    name, prune = damaged.name, ["cli", "prune", "--older-than", "0d", "--yes"]
    before = files(home.path)
    with read_only(home.path):
        assert len(steps_in(readable(without_overrides, name))) == STEPS
        refused = without_overrides(
            ["cli", "rename", name, "another"],
            ["cli", "delete", name, "--yes"],
            prune,
            [*prune, "--checkpoints-only"],
            ["resume_cli", name, "--", "true"],
        )
    for result in refused:
        assert result.exit_code == 1
        assert "error: " in result.stderr
        assert "Permission denied" in result.stderr or "cannot be written" in result.stderr
    assert files(home.path) == before


@pytest.mark.parametrize("has_index", [True, False])
def test_what_a_killed_trainer_left_is_read_in_a_read_only_home(home, killed, has_index):
    if not has_index:
        (killed / f"{DATABASE}-shm").unlink()
    before = files(home.path)
    with read_only(home.path):
        assert steps_in(readable(without_overrides, "latest")) == list(range(1, 21))
        (listed,) = without_overrides(["cli", "list", "--json"])
    assert json.loads(listed.stdout)[0]["state"] == "lost"
    assert files(home.path) == before


# A full disk


@pytest.mark.skipif(os.name != "posix", reason="limits are POSIX's")
def test_where_no_file_may_grow_everything_is_read(home, damaged):
    assert len(steps_in(readable(with_no_room, damaged.name))) == STEPS


@pytest.mark.skipif(os.name != "posix", reason="limits are POSIX's")
def test_where_no_file_may_grow_what_a_killed_trainer_left_is_read(home, killed):
    (killed / f"{DATABASE}-shm").unlink()
    before = files(home.path)
    assert steps_in(readable(with_no_room, "latest")) == list(range(1, 21))
    assert files(home.path) == before


@pytest.fixture
def full(tmp_path, whole, monkeypatch):
    """A home on a disk that is full, with the session in it."""
    from otf_session.home import Home

    with small_disk(tmp_path / "disk", megabytes=4) as disk:
        home = Home(disk / "home")
        home.ensure()
        folder = shutil.copytree(whole, home.sessions / whole.name)
        (folder / "checkpoints" / "final.pt").write_bytes(bytes(300_000))
        fill(disk)
        monkeypatch.setenv("ONTHEFLY_HOME", str(home.path))
        yield folder


def test_a_home_on_a_full_disk_is_read(full):
    before = (full / DATABASE).read_bytes()
    assert len(steps_in(readable(freely, full.name))) == STEPS
    assert (full / DATABASE).read_bytes() == before


def test_on_a_full_disk_what_cannot_be_written_is_said(full):
    found = freely(
        ["cli", "rename", "latest", "n"], ["cli", "metrics", "latest", "-o", full / "out.csv"]
    )
    for result in found:
        assert result.exit_code == 1
        assert "No space left on device" in result.stderr
    names = {path.name for path in full.iterdir() if not path.name.startswith(DATABASE)}
    assert names - {"alive.lock"} == {"checkpoints"}


def test_on_a_full_disk_checkpoints_can_be_pruned_and_the_record_says_so(full):
    pruned, shown = freely(
        ["cli", "prune", "--older-than", "0d", "--checkpoints-only", "--yes"],
        ["cli", "show", "latest", "--json"],
    )
    assert (pruned.exit_code, pruned.stderr) == (0, "")
    assert os.listdir(full / "checkpoints") == []
    assert json.loads(shown.stdout)["checkpoints"] == []


def test_on_a_full_disk_a_session_can_be_deleted(full):
    (deleted,) = freely(["cli", "delete", "latest", "--yes"])
    assert (deleted.exit_code, deleted.stderr) == (0, "")
    assert os.listdir(full.parent) == []
