"""A session's name: beside the record, so that it can be given while its trainer writes."""

import os
import subprocess
import sys

import pytest
from otf_session import display_name
from otf_session.errors import InvalidName
from otf_session.home import DATABASE
from otf_session.queries import session_summary
from otf_session.store import SessionReader

from ..helpers.sessions import losses, make_session, started


@pytest.fixture
def store(home):
    with_session = make_session(home, started())
    yield with_session
    with_session.close()


def test_a_session_has_no_name_until_it_is_given_one(store):
    assert display_name.read(store.folder) == ""
    display_name.write(store.folder, "best so far")
    assert display_name.read(store.folder) == "best so far"
    display_name.write(store.folder, "Größe 日本語 🔥")
    assert display_name.read(store.folder) == "Größe 日本語 🔥"
    display_name.clear(store.folder)
    display_name.clear(store.folder)
    assert display_name.read(store.folder) == ""


def test_it_is_given_while_the_trainer_writes_and_leaves_the_record_alone(store):
    store.append([losses(1, 10)])
    before = (store.folder / DATABASE).read_bytes()
    display_name.write(store.folder, "live")
    assert (store.folder / DATABASE).read_bytes() == before
    store.append([losses(11, 20)])
    with SessionReader(store.folder) as reader:
        summary = session_summary(reader)
    assert (summary.name, summary.runs[0].step) == ("live", 20)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "at least one letter"),
        ("   ", "at least one letter"),
        (" a", "begins or ends with a space"),
        ("a ", "begins or ends with a space"),
        ("a\nb", "cannot be shown"),
        ("a\x1b[31mb", "cannot be shown"),
        ("\ud800", "cannot be shown"),
        ("x" * 101, "may have 100"),
        ("latest", "newest session"),
    ],
)
def test_what_cannot_be_a_name_is_refused_and_the_old_one_stays(store, name, why):
    display_name.write(store.folder, "before")
    with pytest.raises(InvalidName, match=why):
        display_name.write(store.folder, name)
    assert display_name.read(store.folder) == "before"
    assert sorted(path.name for path in store.folder.glob("*name*")) == ["name.txt"]


def test_a_name_may_have_100_characters(store):
    display_name.write(store.folder, "\U0001f525" * 100)
    assert display_name.read(store.folder) == "\U0001f525" * 100


@pytest.mark.parametrize(
    "content", [b"\xff\xfe", b"latest\n", b"a\nb\n", b"\x1b[2J", b"x" * 10_000, b""]
)
def test_a_file_that_holds_no_name_gives_none(store, content):
    (store.folder / display_name.FILE).write_bytes(content)
    assert display_name.read(store.folder) == ""


@pytest.mark.skipif(os.name != "posix", reason="limits are POSIX's")
def test_a_full_disk_leaves_the_name_as_it_was(store):
    display_name.write(store.folder, "before")
    code = (
        "import resource, sys\nfrom pathlib import Path\n"
        "from otf_session import display_name, errors\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))\n"
        "try:\n    display_name.write(Path(sys.argv[1]), 'after')\n"
        "except errors.InvalidName as error:\n    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(store.folder)], capture_output=True, text=True, check=True
    )
    assert "cannot be changed" in done.stdout
    assert display_name.read(store.folder) == "before"
    assert sorted(path.name for path in store.folder.glob("*name*")) == ["name.txt"]
