"""What the shell offers when the tab key is pressed; asked as a shell asks."""

import os
import subprocess
import sys

import pytest
from otf_session.cli import app
from otf_session.home import DATABASE

from ..helpers.sessions import losses, make_session, metrics, started
from ..helpers.shell import invoke, modules_after

_ASK = "import sys; from otf_session.{module} import app; app(prog_name='otf-session')"


@pytest.fixture
def sessions(home, monkeypatch):
    ids = iter(["20260101-100000-aaab", "20260202-110000-aabb"])
    monkeypatch.setattr("otf_session.home.new_id", lambda others: next(ids))
    stores = [
        make_session(home, started(), losses(1, 3), started("fork1"), metrics([1], lr=[1.0])),
        make_session(home, started("other")),
    ]
    for store in stores:
        store.close()
    return [store.id for store in stores]


def offered(*words, module="cli", shell="bash"):
    """The words that are offered for the last of `words`, which is being typed."""
    environment = {**os.environ, "_OTF_SESSION_COMPLETE": f"complete_{shell}"}
    line = " ".join(["otf-session", *words])
    environment["COMP_WORDS"] = environment["_TYPER_COMPLETE_ARGS"] = line
    environment["COMP_CWORD"] = str(len(words))
    done = subprocess.run(
        [sys.executable, "-c", _ASK.format(module=module)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == ""
    return done.stdout if shell != "bash" else done.stdout.split()


@pytest.mark.parametrize("command", ["show", "path", "metrics", "delete", "rename"])
def test_ids_are_offered_the_newest_first_and_latest(sessions, command):
    assert offered(command, "") == [sessions[1], sessions[0], "latest"]


def test_what_was_typed_narrows_it(sessions):
    assert offered("show", "202602") == [sessions[1]]
    assert offered("show", "la") == ["latest"]
    # The last part is what people type.
    assert offered("show", "aa") == ["aabb", "aaab"]
    assert offered("show", "aab") == ["aabb"]
    assert offered("show", "zz") == []


def test_several_ids_may_be_completed(sessions):
    assert sessions[0] in offered("delete", sessions[1], "")


def test_the_name_of_a_session_is_its_explanation(sessions):
    invoke(app, "rename", sessions[0], "best so far")
    assert "best so far" in offered("show", "20260101", shell="zsh")


def test_runs_and_metrics_are_those_of_the_session_that_was_typed(sessions):
    assert offered("metrics", sessions[0], "--run", "") == ["baseline", "fork1"]
    assert offered("metrics", sessions[0], "--run", "f") == ["fork1"]
    assert offered("metrics", sessions[0], "--metric", "") == ["loss", "lr"]
    assert offered("metrics", "latest", "--run", "") == ["other"]
    assert offered("metrics", "zzz", "--run", "") == []


def test_formats_and_orders_are_offered(sessions):
    assert offered("metrics", sessions[0], "--format", "p") == ["parquet"]
    assert offered("list", "--sort", "") == ["age", "size", "name"]


def test_another_home_is_looked_in(sessions, tmp_path):
    assert offered("show", "--home", str(tmp_path), "") == []


def test_what_is_resumed_is_offered_with_its_runs(sessions):
    assert offered("", module="resume_cli") == [sessions[1], sessions[0], "latest"]
    shown = offered(f"{sessions[0]}:f", module="resume_cli", shell="zsh")
    assert "fork1" in shown
    assert "baseline" not in shown


def test_damage_offers_nothing_and_says_nothing(sessions, home):
    (home.sessions / sessions[0] / DATABASE).write_bytes(b"no database")
    assert offered("metrics", sessions[0], "--run", "") == []
    assert offered("show", "") == [sessions[1], sessions[0], "latest"]


def test_no_home_offers_nothing(home):
    assert offered("show", "") == []
    assert not home.sessions.exists()


def test_completing_an_id_reads_no_database(sessions):
    statement = (
        "import os; os.environ.update(COMP_WORDS='otf-session show ', COMP_CWORD='2',"
        " _OTF_SESSION_COMPLETE='complete_bash');"
        " import otf_session.cli as cli; cli.app(prog_name='otf-session')"
    )
    assert modules_after(statement, ["peewee", "msgspec", "torch"]) == []
