import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from otf_session.errors import AmbiguousSession, HomeUnusable, SessionNotFound
from otf_session.home import DATABASE, Home
from otf_session.queries import session_summary
from otf_session.store import SessionReader

from ..helpers.sessions import make_session


def folder(home, name):
    """A session's folder as a listing sees it."""
    path = home.sessions / name
    path.mkdir(parents=True)
    (path / DATABASE).touch()
    return path


@pytest.fixture
def three(home):
    names = ["20260101-100000-abcd", "20260101-110000-abef", "20260202-120000-xyzw"]
    return [folder(home, name) for name in names]


def test_the_home_is_what_is_named_else_the_variable_else_the_data_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("ONTHEFLY_HOME", str(tmp_path / "variable"))
    assert Home.find(tmp_path / "named").path == tmp_path / "named"
    assert Home.find().path == tmp_path / "variable"
    monkeypatch.setattr("platformdirs.user_data_dir", lambda name: str(tmp_path / name))
    monkeypatch.setenv("ONTHEFLY_HOME", "")
    assert Home.find().path == tmp_path / "onthefly"
    monkeypatch.delenv("ONTHEFLY_HOME")
    assert Home.find().path == tmp_path / "onthefly"


def test_a_home_may_be_relative_or_begin_with_a_tilde(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "me"))
    assert Home("here").path == tmp_path / "here"
    assert Home("~/there").path == tmp_path / "me" / "there"


def new_session(home):
    return home.new_session(lambda draft, session_id: (draft / DATABASE).touch())


def test_a_new_session_has_a_folder_of_its_own_that_sorts_by_age(home):
    first, second = new_session(home), new_session(home)
    assert first != second
    for made in (first, second):
        assert re.fullmatch(r"\d{8}-\d{6}-[a-hj-km-np-z2-9]{4}", made.name)
        assert made.parent == home.sessions
        assert sorted(path.name for path in made.iterdir()) == ["checkpoints", DATABASE]


def test_of_many_that_begin_at_once_the_last_is_the_newest(home):
    made = [new_session(home) for _ in range(30)]
    assert home.session_folders() == made
    assert home.session_folder("latest") == made[-1]


def test_one_that_is_still_being_made_is_older_than_what_begins_later(home):
    later = []

    def fill(draft, session_id):
        (draft / DATABASE).touch()
        later.append(new_session(home))

    earlier = home.new_session(fill)
    assert home.session_folders() == [earlier, *later]


_MAKE = """
import sys
from otf_session.home import Home
from otf_session.store import SessionStore
home = Home(sys.argv[1])
for _ in range(10):
    print(SessionStore.create(home, "p").id, flush=True)
"""


def test_of_several_processes_that_begin_sessions_at_once_each_has_its_own(home):
    makers = [
        subprocess.Popen(
            [sys.executable, "-c", _MAKE, str(home.path)], stdout=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    ids = [maker.communicate(timeout=60)[0].split() for maker in makers]
    assert [maker.returncode for maker in makers] == [0] * 4
    assert ids == [sorted(each) for each in ids]
    folders = home.session_folders()
    assert sorted(sum(ids, [])) == [folder.name for folder in folders]
    created = []
    for folder in folders:
        with SessionReader(folder) as reader:
            created.append(session_summary(reader).created)
    # Their order is that of their beginnings, but for what no clock can tell apart.
    assert all(after > before - 0.02 for before, after in zip(created, created[1:]))


def test_a_session_that_another_process_makes_at_this_moment_is_not_taken(home, monkeypatch):
    ids = iter(["20260101-100000-aaaa", "20260101-100000-bbbb", None, "20260101-100000-cccc"])
    monkeypatch.setattr("otf_session.home.new_id", lambda others: next(ids))
    home.ensure()
    (home.sessions / ".20260101-100000-aaaa").mkdir()
    folder(home, "20260101-100000-bbbb")
    assert new_session(home).name == "20260101-100000-cccc"
    assert sorted(path.name for path in home.sessions.iterdir()) == [
        ".20260101-100000-aaaa",
        "20260101-100000-bbbb",
        "20260101-100000-cccc",
    ]


def test_a_session_that_is_being_made_is_not_there_yet(home):
    seen = []

    def fill(draft, session_id):
        (draft / DATABASE).touch()
        seen.append((session_id, home.session_folders()))
        with pytest.raises(SessionNotFound):
            home.session_folder("latest")
        with pytest.raises(SessionNotFound):
            home.session_folder(draft.name)

    made = home.new_session(fill)
    assert seen == [(made.name, [])]
    assert home.session_folders() == [made]


def test_a_session_that_cannot_be_made_leaves_nothing(home):
    def fill(draft, session_id):
        (draft / DATABASE).touch()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        home.new_session(fill)
    assert list(home.sessions.iterdir()) == []


def test_sessions_are_listed_the_newest_last(home, three):
    assert home.session_folders() == three


def test_what_holds_no_database_is_no_session(home, three):
    (home.sessions / "notes.txt").touch()
    (home.sessions / "20270101-000000-empt").mkdir()
    assert home.session_folders() == three
    with pytest.raises(SessionNotFound):
        home.session_folder("20270101-000000-empt")


def test_a_home_that_does_not_exist_yet_has_no_sessions(tmp_path):
    nowhere = Home(tmp_path / "nowhere")
    assert nowhere.session_folders() == []
    assert not nowhere.path.exists()


@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("20260101-100000-abcd", 0),
        ("20260101-10", 0),
        ("abc", 0),
        ("abcd", 0),
        ("abe", 1),
        ("20260202", 2),
        ("x", 2),
        ("latest", 2),
    ],
)
def test_a_session_answers_to_its_id_and_its_beginnings(home, three, name, index):
    assert home.session_folder(name) == three[index]


def test_an_exact_id_wins_over_longer_ones(home):
    exact = folder(home, "20260101-100000-ab")
    folder(home, "20260101-100000-abcd")
    assert home.session_folder("20260101-100000-ab") == exact


@pytest.mark.parametrize("name", ["2026", "20260101", "ab"])
def test_an_ambiguous_beginning_is_refused_with_the_candidates(home, three, name):
    with pytest.raises(AmbiguousSession, match=rf"sessions begin with '{name}'.*-abcd.*-abef"):
        home.session_folder(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "zzzz",
        "bcd",
        "LATEST",
        ".",
        "..",
        "a\0b",
        "*",
        "20260101-100000-abcd-and-more",
        "a" * 9999,
    ],
)
def test_an_unknown_session_is_not_found(home, three, name):
    with pytest.raises(SessionNotFound, match="otf session list"):
        home.session_folder(name)


def test_the_latest_of_no_sessions_is_not_found(home):
    with pytest.raises(SessionNotFound, match="'latest'"):
        home.session_folder("latest")


def test_no_name_leads_out_of_the_sessions_folder(home, three, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / DATABASE).touch()
    (home.path / DATABASE).touch()
    relative = os.path.relpath(outside, home.sessions)
    names = [str(outside), relative, relative.replace("/", "\\"), "..", "../", f"{three[0].name}/"]
    names.append(f"../sessions/{three[0].name}")
    for name in names:
        with pytest.raises(SessionNotFound):
            home.session_folder(name)


def test_a_home_is_made_with_its_parents(tmp_path):
    home = Home(tmp_path / "a" / "b")
    home.ensure()
    home.ensure()
    assert home.sessions.is_dir()


def test_a_file_where_the_home_should_be_is_unusable(tmp_path):
    (tmp_path / "file").touch()
    home = Home(tmp_path / "file")
    for use in (home.ensure, lambda: new_session(home), home.session_folders):
        with pytest.raises(HomeUnusable, match=r"file cannot be used: .*ONTHEFLY_HOME"):
            use()


def test_a_file_where_sessions_should_be_is_unusable(home):
    home.path.mkdir(exist_ok=True)
    home.sessions.touch()
    for use in (home.ensure, lambda: new_session(home), home.session_folders):
        with pytest.raises(HomeUnusable, match="cannot be used"):
            use()


def test_an_unwritable_home_is_said_before_a_session_is_made(home, monkeypatch):
    home.ensure()
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(HomeUnusable, match="not writable.*permissions"):
        new_session(home)
    assert list(home.sessions.iterdir()) == []


def test_an_unreadable_home_is_unusable(home, monkeypatch):
    def denied(path):
        raise PermissionError(13, "Permission denied")

    home.ensure()
    monkeypatch.setattr(os, "listdir", denied)
    with pytest.raises(HomeUnusable, match="cannot be used: Permission denied"):
        home.ensure()


@pytest.mark.parametrize("name", ["latest", "20260101-100000-abcd", "abcd"])
def test_a_session_in_an_unreadable_home_is_said(home, three, name, monkeypatch):
    def denied(path, *words, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "stat", denied)
    monkeypatch.setattr(Path, "iterdir", denied)
    monkeypatch.setattr(Path, "is_file", denied)
    with pytest.raises(HomeUnusable, match="cannot be used: Permission denied"):
        home.session_folder(name)


@pytest.mark.parametrize("folder", ["checkpoints", ".2"])
def test_a_full_disk_is_said_in_its_words(home, monkeypatch, folder):
    mkdir = Path.mkdir

    def full(path, *words, **options):
        if path.name.startswith(folder):
            raise OSError(28, "No space left on device")
        mkdir(path, *words, **options)

    home.ensure()
    monkeypatch.setattr(Path, "mkdir", full)
    with pytest.raises(HomeUnusable, match="No space left on device"):
        new_session(home)
    monkeypatch.undo()
    assert list(home.sessions.iterdir()) == []


def test_a_made_session_is_found_by_the_last_part_of_its_id(home):
    store = make_session(home)
    store.close()
    assert home.session_folder(store.id.rpartition("-")[2]) == store.folder


def test_a_session_answers_to_its_name_where_no_id_does(home, three):
    from otf_session import display_name

    display_name.write(three[0], "best so far")
    display_name.write(three[1], three[2].name[:15])
    assert home.session_folder("best so far") == three[0]
    # Ids come first: a name that looks like one leads nobody astray.
    assert home.session_folder(three[2].name) == three[2]
    with pytest.raises(SessionNotFound):
        home.session_folder("best")


def test_folders_that_are_no_sessions_are_listed_apart(home, three):
    hidden, bare = home.sessions / ".import-1", home.sessions / "bare"
    for folder in (hidden, bare):
        folder.mkdir()
    (home.sessions / "file").touch()
    assert home.other_folders() == [hidden, bare]
    assert home.session_folders() == three
