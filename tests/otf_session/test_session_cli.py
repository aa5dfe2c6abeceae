import json
import os
import time
from pathlib import Path

import pytest
from otf_session.cli import app
from otf_session.events import RunState
from otf_session.home import DATABASE, Home
from otf_session.store import SessionStore
from otf_session.tables import size_text

from ..helpers.sessions import checkpoint, line, losses, make_session, metrics, started, state
from ..helpers.shell import invoke, modules_after, undocumented

_FIELDS = ["id", "project", "created", "updated", "state", "runs", "last_seq", "connected", "name"]
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
    assert list(found) == [*_FIELDS, "size", "folder", "checkpoints"]
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


# What sessions take


def with_files(store):
    """Give a session checkpoints of 1000 and 300 bytes, of which the second is pinned, and a model."""
    saved = [
        checkpoint(store, "one", 1000),
        checkpoint(store, "two", 300, pinned=True),
    ]
    store.append(saved)
    store.close()
    (store.folder / "final_models").mkdir()
    (store.folder / "final_models" / "model.pt").write_bytes(bytes(50))


def record_size(folder):
    names = ("session.sqlite", "session.sqlite-wal", "session.sqlite-shm", "name.txt")
    return sum((folder / name).stat().st_size for name in names if (folder / name).exists())


def test_what_a_session_takes_is_told_by_kind(sessions):
    with_files(sessions[0])
    found = {each["id"]: each["size"] for each in listed("--size")}
    size = found[sessions[0].id]
    record = record_size(sessions[0].folder)
    assert size == {
        "database": record,
        "checkpoints": 1000,
        "pinned": 300,
        "other": 50,
        "total": record + 1350,
    }
    assert invoke(app, "show", sessions[0].id, "--json").stdout.count('"pinned":300') == 1


def test_the_table_of_sizes_ends_with_what_all_take(sessions):
    with_files(sessions[0])
    result = invoke(app, "list", "--size")
    assert (result.exit_code, result.stderr) == (0, "")
    row = next(row for row in result.stdout.splitlines() if sessions[0].id in row)
    assert "1.0 kB" in row
    assert "300 B" in row
    assert "50 B" in row
    last = result.stdout.splitlines()[-2]
    assert last.split()[:2] == ["in", "all"]
    total = sum(each["size"]["total"] for each in listed("--size"))
    assert last.rstrip().endswith(size_text(total))


def test_sizes_count_what_cannot_be_read_and_what_is_unfinished(sessions, home):
    damage(sessions[1])
    left = home.sessions / ".deleted-20260101-000000-zzzz-00"
    left.mkdir()
    (left / "x.pt").write_bytes(bytes(2_000_000))
    bare = home.sessions / "20260101-000000-bare"
    bare.mkdir()
    result = invoke(app, "list", "--size")
    assert result.exit_code == 0
    rows = {row.split()[0]: row for row in result.stdout.splitlines() if row.split()}
    assert " unreadable " in rows[sessions[1].id]
    assert " unfinished " in rows[left.name]
    assert " no record " in rows[bare.name]
    assert "2.0 MB" in rows[left.name]
    total = sum(path.stat().st_size for path in home.sessions.rglob("*") if path.is_file())
    assert rows["in"].rstrip().endswith(size_text(total))


def test_a_checkpoint_outside_the_folder_counts_too(sessions, tmp_path):
    store = sessions[0]
    saved = checkpoint(store, "far", 700, folder=tmp_path / store.id)
    store.append([saved])
    store.close()
    (found,) = [each for each in listed("--size") if each["id"] == store.id]
    assert found["size"]["checkpoints"] == 700


def test_a_list_is_sorted_as_asked(sessions):
    with_files(sessions[1])
    invoke(app, "rename", sessions[0].id, "Zebra")
    ids = [store.id for store in sessions]
    assert [each["id"] for each in listed("--sort", "age")] == ids[::-1]
    by_size = listed("--sort", "size")
    totals = [each["size"]["total"] for each in by_size]
    assert totals == sorted(totals, reverse=True)
    # By the name where there is one, else by the project.
    assert [each["id"] for each in listed("--sort", "name")] == [ids[2], ids[1], ids[0]]
    sized = listed("--sort", "name", "--size")
    assert [each["id"] for each in sized] == [ids[2], ids[1], ids[0]]


def listed(*words):
    return json.loads(invoke(app, "list", *words, "--json").stdout)


# Checkpoints


def test_the_checkpoints_of_a_session_are_shown_with_those_whose_file_is_missing(sessions):
    store = sessions[0]
    with_files(store)
    (store.folder / "checkpoints" / "one.pt").unlink()
    result = invoke(app, "show", store.id)
    assert result.exit_code == 0
    rows = {row.split()[0]: row for row in result.stdout.splitlines() if "@" in row}
    assert rows["baseline@30-one"].rstrip().endswith("its file is missing")
    assert rows["baseline@30-two"].rstrip().endswith("pinned")
    found = json.loads(invoke(app, "show", store.id, "--json").stdout)["checkpoints"]
    assert [(each["id"], each["missing"]) for each in found] == [
        ("baseline@30-one", True),
        ("baseline@30-two", False),
    ]


# path


def test_a_path_is_that_of_the_session_or_of_all(sessions, home):
    assert invoke(app, "path", "cccc").stdout == f"{sessions[2].folder}\n"
    assert invoke(app, "path").stdout == f"{home.sessions}\n"
    found = json.loads(invoke(app, "path", "latest", "--json").stdout)
    assert found == {"path": str(sessions[2].folder)}
    assert "no session 'zzz'" in refused("path", "zzz")


# rename


def test_a_session_that_is_renamed_is_shown_by_its_name_and_answers_to_it(sessions):
    result = invoke(app, "rename", "cccc", "best so far")
    assert result.stdout == f"{sessions[2].id} is now called 'best so far'.\n"
    assert "Name      best so far\n" in invoke(app, "show", "best so far").stdout
    assert " best so far " in invoke(app, "list").stdout
    assert [each["name"] for each in listed()] == ["best so far", "", ""]
    assert sessions[2].folder.name == sessions[2].id


def test_a_name_is_taken_away(sessions):
    invoke(app, "rename", "cccc", "once")
    result = invoke(app, "rename", "cccc", "--clear", "--json")
    assert json.loads(result.stdout) == {"session": sessions[2].id, "name": "", "before": "once"}
    assert [each["name"] for each in listed()] == ["", "", ""]
    assert invoke(app, "rename", "cccc", "--clear").exit_code == 0


@pytest.mark.parametrize("words", [["cccc"], ["cccc", "name", "--clear"]])
def test_a_renaming_needs_a_name_or_none(sessions, words):
    result = invoke(app, "rename", *words)
    assert result.exit_code == 2
    assert "--clear" in result.stderr


def test_a_name_that_cannot_be_is_refused_with_why(sessions):
    assert "'latest' is the newest session" in refused("rename", "cccc", "latest")
    assert listed()[0]["name"] == ""


def test_a_name_of_several_sessions_is_ambiguous(sessions):
    for store in sessions[:2]:
        invoke(app, "rename", store.id, "twin")
    message = refused("show", "twin")
    assert "2 sessions are called 'twin'" in message
    assert sessions[0].id in message


def test_an_empty_id_is_no_session_s(sessions):
    assert "no session ''" in refused("show", "")


# The commands themselves


def test_every_command_and_option_is_explained():
    assert undocumented(app) == []


@pytest.mark.parametrize(
    "words", [["--help"], *([name, "--help"] for name in ("list", "show", "path", "rename"))]
)
def test_help_is_given(words):
    result = invoke(app, *words)
    assert result.exit_code == 0
    assert "Usage" in result.stdout


def test_an_unknown_option_is_a_misuse():
    assert invoke(app, "list", "--nothing").exit_code == 2
    assert invoke(app, "list", "--sort", "colour").exit_code == 2


def test_help_is_quick():
    heavy = ["torch", "peewee", "msgspec", "platformdirs", "filelock"]
    assert modules_after("import otf_session.cli", heavy) == []
    words = "import otf_session.cli as cli; cli.app(['list', '--help'])"
    assert modules_after(words, heavy) == []


def test_listing_needs_no_torch(sessions):
    words = "import otf_session.cli as cli; cli.app(['list'])"
    assert modules_after(words, ["torch", "peewee"]) == ["peewee"]
