import json
import os
import signal
import subprocess
import sys

import pytest
from otf_session.cli import app

from ..helpers.bundles import bundle_of, lineage, members_of, pack, tree
from ..helpers.predecessor import predecessor
from ..helpers.sessions import RUN, make_session, started
from ..helpers.shell import invoke, modules_after


@pytest.fixture
def session(home):
    return lineage(home)


@pytest.fixture
def bundle(session, tmp_path):
    return bundle_of(session, tmp_path / "made.otf.zip")


def refused(*words):
    result = invoke(app, *words)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    return result.stderr


def test_a_session_goes_from_one_home_to_another(session, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = invoke(app, "export")
    assert (result.exit_code, result.stderr) == (0, "")
    name = f"a-project-of-mine-{session.id}.otf.zip"
    assert result.stdout.startswith(f"Exported {session.id} (3 runs, 6 checkpoints) to {name}, ")
    elsewhere = ["--home", tmp_path / "elsewhere"]
    result = invoke(app, "import", name, *elsewhere)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith(f"Imported {session.id} (3 runs, 6 checkpoints), ")
    assert f"otf resume {session.id} -- python train.py" in result.stdout
    assert session.id in invoke(app, "show", "latest", *elsewhere).stdout
    for target in (name, "latest"):
        result = invoke(app, "verify", target, *elsewhere)
        assert (result.exit_code, result.stderr) == (0, "")
        assert "is sound: 7 files" in result.stdout


def test_what_is_exported_is_chosen_by_options(session, tmp_path):
    words = ["--runs", "fork1", "--checkpoints", "none", "--final-models", "--json"]
    result = invoke(app, "export", session.id[-4:], "-o", tmp_path, *words)
    found = json.loads(result.stdout)
    assert list(found) == [
        *("path", "size", "session", "runs", "checkpoints", "final_models", "notes"),
    ]
    assert (found["runs"], found["checkpoints"], found["final_models"]) == ([RUN, "fork1"], 0, 0)
    assert [f"note: {note}" for note in found["notes"]] == result.stderr.splitlines()
    assert any("fork1@30-final" in note for note in found["notes"])


def test_a_file_that_is_there_is_replaced_by_force(session, bundle):
    assert "--force" in refused("export", "-o", bundle)
    assert invoke(app, "export", "-o", bundle, "--force").exit_code == 0


def test_an_import_for_programs_is_one_document(session, bundle, tmp_path):
    result = invoke(app, "import", bundle, "--home", tmp_path / "elsewhere", "--json")
    assert (result.exit_code, result.stderr, result.stdout.count("\n")) == (0, "", 1)
    found = json.loads(result.stdout)
    assert list(found) == [
        *("session", "folder", "project", "original", "runs", "checkpoints", "final_models"),
        *("size", "notes"),
    ]
    assert found["session"] == session.id


def test_a_session_that_is_there_is_imported_as_new_when_asked(session, bundle):
    assert "--as-new" in refused("import", bundle)
    result = invoke(app, "import", bundle, "--as-new")
    assert f", which was {session.id} (" in result.stdout


def test_a_bundle_of_the_predecessor_is_imported_with_what_it_lacks(tmp_path):
    folder = predecessor(tmp_path / "bundle")
    result = invoke(app, "import", folder)
    assert result.exit_code == 0
    assert "(3 runs, 3 checkpoints)" in result.stdout
    assert "note: " in result.stderr
    assert "not exactly" in result.stderr


def test_what_is_not_sound_is_listed(bundle):
    members = members_of(bundle)
    name = f"checkpoints/{RUN}-20-best.pt"
    pack(bundle, {**members, name: members[name][::-1]})
    result = invoke(app, "verify", bundle)
    assert result.exit_code == 1
    assert result.stdout.splitlines()[0].startswith(f"{name}: ")
    assert result.stderr == f"error: The bundle {bundle} is not sound. 1 of its 7 files.\n"
    result = invoke(app, "verify", bundle, "--json")
    assert (result.exit_code, result.stderr) == (1, "")
    assert json.loads(result.stdout)["ok"] is False
    assert name in refused("import", bundle, "--as-new")


def test_what_is_damaged_as_a_whole_is_one_message(bundle):
    bundle.write_bytes(b"no bundle")
    for word in ("verify", "import"):
        assert "copy it again" in refused(word, bundle)


@pytest.mark.parametrize(
    "words",
    [["export", "zzz"], ["import", "missing"], ["verify", "zzz"], ["verify", "missing.zip"]],
)
def test_what_is_not_there_is_an_error(session, words):
    refused(*words)


@pytest.mark.parametrize(
    "words", [["export", "--checkpoints", "some"], ["import"], ["export", "--nothing"]]
)
def test_what_is_typed_wrongly_is_a_misuse(words):
    assert invoke(app, *words).exit_code == 2


@pytest.mark.parametrize("word", ["export", "import", "verify"])
def test_help_is_quick(word):
    heavy = ["torch", "peewee", "msgspec", "rich.progress"]
    words = f"import otf_session.cli as cli; cli.app(['{word}', '--help'])"
    assert modules_after(words, heavy) == []


def test_no_torch_is_needed(session, bundle, tmp_path):
    for words in (
        ["export", "-o", str(tmp_path), "--final-models"],
        ["import", str(bundle), "--as-new"],
        ["verify", str(bundle)],
    ):
        statement = f"import otf_session.cli as cli; cli.app({words!r})"
        assert modules_after(statement, ["torch", "peewee"]) == ["peewee"]


@pytest.mark.skipif(os.name != "posix", reason="needs a pseudo-terminal")
def test_a_person_sees_a_bar_on_stderr(bundle, tmp_path):
    import pty

    mine, theirs = pty.openpty()
    words = [sys.executable, "-c", "from otf_session.cli import app; app()", "import", str(bundle)]
    done = subprocess.run(
        [*words, "--home", str(tmp_path / "elsewhere")],
        stdout=subprocess.PIPE,
        stderr=theirs,
        timeout=60,
        check=True,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
    )
    os.close(theirs)
    shown = os.read(mine, 100_000).decode()
    os.close(mine)
    assert "importing" in shown
    assert done.stdout.startswith(b"Imported ")


@pytest.mark.skipif(os.name != "posix", reason="sends a signal")
def test_ctrl_c_leaves_nothing(home, tmp_path):
    store = make_session(home, started())
    store.close()
    script = (
        "import sys, time\n"
        "from otf_session.bundles.work import Work\n"
        "def did(self, count):\n"
        "    print('working', flush=True)\n"
        "    time.sleep(60)\n"
        "Work.did = did\n"
        "from otf_session.cli import app\n"
        "app()\n"
    )
    out = tmp_path / "out"
    out.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-c", script, "export", "-o", str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "working\n"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors == "Broken off. Nothing was left behind.\n"
    assert tree(out) == []
