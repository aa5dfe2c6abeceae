import json
import os
import time
from pathlib import Path

import pytest
from otf_session.cli import app
from otf_session.events import RunState
from otf_session.home import DATABASE, Home
from otf_session.store import SessionStore

from ..helpers.sessions import line, losses, make_session, metrics, started, state
from ..helpers.shell import invoke, modules_after, undocumented

_FIELDS = ["id", "project", "created", "updated", "state", "runs", "last_seq", "connected"]
_RUN_FIELDS = [
    *("name", "parents", "state", "reason", "step", "epoch", "created", "updated", "latest"),
]


@pytest.fixture
def sessions(home, monkeypatch):
    """Three sessions, the last of which is the newest."""
    names = ["20260101-100000-aaab", "20260101-110000-aabb", "20260202-120000-cccc", "later"]
    ids = iter(names)
    monkeypatch.setattr("otf_session.home.new_id", lambda others: next(ids))
    stores = [
        make_session(home, started(), losses(1, 30), state(RunState.FINISHED, step=30)),
        make_session(home),
        make_session(
            home,
            started(),
            metrics([1, 2], loss=[0.75, None], accuracy=[0.25, 0.5]),
            state(RunState.FAILED, step=2, reason="ValueError: [enforce fail] at :smile: [/x]"),
            started("fork1", parents=["baseline"], time=2e9),
            metrics([3], run="fork1", loss=[0.5]),
            state(RunState.STOPPED, run="fork1", step=3),
            project="a [bold]project[/bold]",
        ),
    ]
    for store in stores:
        store.close()
    return stores


def damage(store):
    (store.folder / DATABASE).write_bytes(b"no database" * 1000)


def refused(*words):
    result = invoke(app, *words)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    return result.stderr


# list


def test_no_sessions_are_said_with_what_to_do(home):
    result = invoke(app, "list")
    assert (result.exit_code, result.stderr) == (0, "")
    assert str(home.sessions) in result.stdout
    assert "otf demo" in result.stdout
    assert not home.sessions.exists()
    assert json.loads(invoke(app, "list", "--json").stdout) == []


def test_sessions_are_listed_the_newest_first(sessions):
    result = invoke(app, "list")
    assert (result.exit_code, result.stderr) == (0, "")
    rows = [row for row in result.stdout.splitlines() if "-1" in row]
    assert [row.split()[0] for row in rows] == [store.id for store in sessions[::-1]]
    assert "a [bold]project[/bold]" in rows[0]
    assert rows[0].split()[-2:] == ["loss", "0.5"]
    assert " fork1 " in rows[0]
    assert " baseline " in rows[2]
    assert " lost " in rows[1]
    assert " finished " in rows[2]
    assert " 30 " in rows[2]


def test_the_run_that_is_listed_is_the_one_that_moved_last(home):
    make_session(
        home,
        started("first", time=10.0),
        started("second", time=20.0),
        state(RunState.RUNNING, run="second", step=1),
        state(RunState.RUNNING, run="first", step=7),
    ).close()
    (row,) = [row for row in invoke(app, "list").stdout.splitlines() if "digits" in row]
    assert " first " in row
    assert " second " not in row
    assert " 7 " in row


def test_a_list_for_programs_holds_the_same(sessions):
    result = invoke(app, "list", "--json")
    found = json.loads(result.stdout)
    assert [each["id"] for each in found] == [store.id for store in sessions[::-1]]
    assert all(list(each) == _FIELDS for each in found)


@pytest.mark.parametrize("words", [["list"], ["list", "--json"]])
def test_a_damaged_session_is_a_warning_and_no_end(sessions, words):
    damage(sessions[1])
    result = invoke(app, *words)
    assert result.exit_code == 0
    assert result.stderr.startswith(f"warning: The session in {sessions[1].folder}")
    assert result.stderr.count("\n") == 1
    assert sessions[1].id not in result.stdout
    assert sessions[0].id in result.stdout
    assert sessions[2].id in result.stdout


def test_a_session_whose_trainer_was_killed_while_it_made_it_is_a_warning(sessions, home):
    folder = home.sessions / "20260303-000000-half"
    folder.mkdir()
    SessionStore(folder).close()
    result = invoke(app, "list")
    assert result.exit_code == 0
    assert "warning: " in result.stderr
    assert sessions[0].id in result.stdout


def test_another_home_is_named_by_an_option(sessions, tmp_path):
    make_session(Home(tmp_path / "other"), line(1), project="elsewhere").close()
    result = invoke(app, "list", "--home", tmp_path / "other")
    assert "elsewhere" in result.stdout
    assert sessions[0].id not in result.stdout


@pytest.mark.parametrize("words", [["list"], ["show", "latest"], ["show", "k7fq"]])
@pytest.mark.parametrize("named", [True, False])
def test_a_home_that_cannot_be_read_is_an_error_however_it_is_named(
    home, monkeypatch, words, named
):
    def denied(path, *words, **options):
        raise PermissionError(13, "Permission denied")

    home.ensure()
    # Root may read everything: the system's answers to somebody else.
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    monkeypatch.setattr(Path, "iterdir", denied)
    monkeypatch.setattr(Path, "is_file", denied)
    message = refused(*words, *(["--home", home.path] if named else []))
    assert f"The OnTheFly home {home.path} cannot be used: Permission denied" in message


def test_a_home_that_is_a_file_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    assert "cannot be used" in refused("list", "--home", tmp_path / "file")


# show


@pytest.mark.parametrize("name", ["20260202-120000-cccc", "202602", "cc", "latest"])
def test_a_session_is_shown_by_its_id_its_beginning_or_as_the_latest(sessions, name):
    result = invoke(app, "show", name)
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["Session", "20260202-120000-cccc"]
    assert lines[1] == "Project   a [bold]project[/bold]"
    assert lines[2].split() == ["State", "stopped"]
    assert lines[4] == f"Folder    {sessions[2].folder}"


def test_a_session_is_shown_with_its_runs_and_metrics(sessions):
    shown = invoke(app, "show", "latest").stdout
    rows = [row.split() for row in shown.splitlines() if row.strip()]
    assert ["run", "from", "state", "epoch", "step", "last", "change", "reason"] in rows
    assert ["fork1", "baseline", "stopped", "0", "3"] in [row[:5] for row in rows]
    assert ["metric", "baseline", "fork1"] in rows
    assert ["loss", "not", "finite", "0.5"] in rows
    assert ["accuracy", "0.5"] in rows


def test_a_reason_is_shown_as_it_is(sessions):
    assert "ValueError: [enforce fail] at :smile: [/x]" in invoke(app, "show", "latest").stdout


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="needs tzset")
def test_times_are_local(sessions, monkeypatch):
    monkeypatch.setenv("TZ", "Etc/GMT-5")
    time.tzset()
    try:
        shown = invoke(app, "show", "latest").stdout
    finally:
        monkeypatch.delenv("TZ")
        time.tzset()
    # 22:13:23 UTC, five hours east of Greenwich.
    assert "2023-11-15 03:13:23" in shown


def test_a_session_for_programs_is_one_document(sessions):
    result = invoke(app, "show", "latest", "--json")
    assert result.stdout.count("\n") == 1
    found = json.loads(result.stdout)
    assert list(found) == _FIELDS
    assert (found["id"], found["state"], found["last_seq"]) == (sessions[2].id, "stopped", 6)
    assert found["connected"] is False
    assert [list(run) for run in found["runs"]] == [_RUN_FIELDS] * 2
    assert found["runs"][0]["latest"] == {"accuracy": 0.5, "loss": None}
    assert found["runs"][1]["parents"] == ["baseline"]


def test_an_unknown_session_is_an_error_with_what_to_do(sessions, home):
    message = refused("show", "zzz")
    assert "no session 'zzz'" in message
    assert str(home.sessions) in message
    assert "otf session list" in message
    assert "no session" in refused("show", "zzz", "--json")


def test_an_ambiguous_beginning_is_an_error_with_the_candidates(sessions):
    message = refused("show", "aa")
    assert sessions[0].id in message
    assert sessions[1].id in message


def test_a_damaged_session_is_an_error(sessions):
    damage(sessions[0])
    assert str(sessions[0].folder) in refused("show", "aaab")


# The commands themselves


def test_every_command_and_option_is_explained():
    assert undocumented(app) == []


@pytest.mark.parametrize("words", [["--help"], ["list", "--help"], ["show", "--help"]])
def test_help_is_given(words):
    result = invoke(app, *words)
    assert result.exit_code == 0
    assert "Usage" in result.stdout


def test_an_unknown_option_is_a_misuse():
    assert invoke(app, "list", "--nothing").exit_code == 2


def test_help_is_quick():
    heavy = ["torch", "peewee", "msgspec", "platformdirs", "filelock"]
    assert modules_after("import otf_session.cli", heavy) == []
    words = "import otf_session.cli as cli; cli.app(['list', '--help'])"
    assert modules_after(words, heavy) == []


def test_listing_needs_no_torch(sessions):
    words = "import otf_session.cli as cli; cli.app(['list'])"
    assert modules_after(words, ["torch", "peewee"]) == ["peewee"]
