import json
import os
import sqlite3
import stat
import struct
import subprocess
import sys
import zipfile

import pytest
from otf_session import display_name, migrations
from otf_session.bundles.draft import set_id
from otf_session.bundles.exporter import export_session
from otf_session.bundles.importer import import_bundle
from otf_session.bundles.provenance import read as read_provenance
from otf_session.bundles.verifier import verify
from otf_session.errors import (
    BundleRefused,
    BundleTooNew,
    NotImported,
    SessionError,
    SessionExists,
)
from otf_session.events import RunState
from otf_session.home import DATABASE, Home
from otf_session.queries import session_summary
from otf_session.resume import find_order, parse_target
from otf_session.store import SessionReader, SessionStore

from ..helpers.bundles import (
    bundle_of,
    contents,
    lineage,
    members_of,
    moments_cancelled,
    pack,
    saved,
    sign,
    tiny,
    tree,
    with_manifest,
    with_record,
)
from ..helpers.sessions import RUN, line, make_session, started, state, stored
from ..helpers.torchfiles import checkpoint

_CHECKPOINT = f"checkpoints/{RUN}-3-final.pt"


@pytest.fixture
def session(home):
    return tiny(home)


@pytest.fixture
def bundle(session, tmp_path):
    return bundle_of(session, tmp_path)


@pytest.fixture
def target(tmp_path):
    """A home in a folder of its own, in which nothing else may appear."""
    target = Home(tmp_path / "outer" / "home")
    target.ensure()
    return target


def refused(target, bundle, kind=BundleRefused):
    """The message of a refusal, after which nothing has been left behind."""
    before = tree(target.path.parent.parent)
    with pytest.raises(kind) as caught:
        import_bundle(target, bundle)
    assert tree(target.path.parent.parent) == before
    assert str(bundle) in str(caught.value)
    return str(caught.value)


# What arrives


def test_an_import_is_a_session_like_any_other(session, bundle, target):
    made = import_bundle(target, bundle)
    assert (made.session, made.original, made.project) == (session.id, session.id, "digits")
    assert (made.runs, made.checkpoints, made.final_models, made.notes) == ([RUN], 1, 0, [])
    folder = target.session_folder("latest")
    assert made.folder == str(folder)
    with SessionReader(folder) as reader:
        assert session_summary(reader).id == session.id
    assert contents(folder)[_CHECKPOINT] == contents(session.folder)[_CHECKPOINT]
    assert tree(target.sessions) == sorted(
        f"{session.id}{rest}"
        for rest in ("", "/checkpoints", f"/{_CHECKPOINT}", "/imported.json", f"/{DATABASE}")
    )
    assert verify(target, made.session).ok


def test_where_a_session_came_from_is_kept_with_it(session, bundle, target):
    folder = target.sessions / import_bundle(target, bundle).session
    found = read_provenance(folder)
    assert found.bundle == bundle.name
    assert found.manifest.session.id == session.id


def test_the_name_that_a_person_gave_a_session_comes_along(session, target, tmp_path):
    display_name.write(session.folder, "the good one")
    bundle = bundle_of(session, tmp_path)
    import_bundle(target, bundle)
    folder = target.session_folder("latest")
    assert display_name.read(folder) == "the good one"
    again = import_bundle(target, bundle, as_new=True)
    assert display_name.read(target.sessions / again.session) == "the good one"


@pytest.mark.parametrize("name", ["\x1b[2J", "two\nlines", "latest", "x" * 1000])
def test_what_is_no_name_is_not_taken_over(bundle, target, name):
    with_manifest(bundle, lambda manifest: manifest["session"].update(name=name))
    folder = target.sessions / import_bundle(target, bundle).session
    assert display_name.read(folder) == ""
    assert not (folder / display_name.FILE).exists()


def test_training_goes_on_in_an_imported_session(session, bundle, target):
    folder = target.sessions / import_bundle(target, bundle).session
    order = find_order(target, parse_target("latest"))
    assert (order.folder, order.run, order.step) == (str(folder), RUN, 3)
    store = SessionStore(folder)
    assert store.append([line(4)]) == session.last_seq + 1
    store.close()
    assert stored(store) == [*stored(session), line(4)]
    # A trainer needs WAL, so that it is read while it writes.
    connection = sqlite3.connect(str(folder / DATABASE))
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()


def test_an_id_that_exists_is_refused_and_the_session_left_as_it_is(session, bundle, home):
    before = contents(session.folder)
    message = refused_by_its_home(home, bundle)
    assert session.id in message
    assert "--as-new" in message
    assert contents(session.folder) == before


def refused_by_its_home(home, bundle):
    before = tree(home.path)
    with pytest.raises(SessionExists) as caught:
        import_bundle(home, bundle)
    assert tree(home.path) == before
    return str(caught.value)


def test_as_new_it_gets_an_id_of_its_own_and_is_the_same_otherwise(session, bundle, home):
    made = import_bundle(home, bundle, as_new=True)
    assert made.session != session.id
    assert made.original == session.id
    folder = home.session_folder("latest")
    assert folder.name == made.session
    with SessionReader(folder) as reader:
        assert session_summary(reader).id == made.session
    assert stored(SessionStore(folder)) == stored(session)
    assert verify(home, made.session).ok


def test_a_session_that_appears_meanwhile_is_not_replaced(session, bundle, target):
    theirs = target.sessions / session.id

    def report(done, total):
        theirs.mkdir(exist_ok=True)
        (theirs / "theirs").touch()

    with pytest.raises(SessionExists):
        import_bundle(target, bundle, report=report)
    assert tree(target.sessions) == [session.id, f"{session.id}/theirs"]


def test_a_bundle_that_another_tool_packed_is_imported(bundle, target, tmp_path):
    members = members_of(bundle)
    again = tmp_path / "again.zip"
    with zipfile.ZipFile(again, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.comment = b"packed by somebody"
        archive.mkdir("checkpoints") if hasattr(archive, "mkdir") else archive.writestr(
            "checkpoints/", b""
        )
        for name in sorted(members):
            archive.writestr(name, members[name])
    assert import_bundle(target, again).checkpoints == 1


def test_a_record_of_an_older_schema_is_brought_to_the_newest(session, target, tmp_path):
    old = tmp_path / "old.sqlite"
    from otf_session.bundles import draft

    draft.make(old, 1)
    connection = sqlite3.connect(str(old), isolation_level=None)
    connection.execute(f"PRAGMA application_id = {draft.APPLICATION_ID}")
    connection.execute("INSERT INTO session VALUES ('20200101-000000-aaaa', 'old', 1.0)")
    connection.close()
    members = members_of(bundle_of(session, tmp_path))
    manifest = json.loads(members["manifest.json"])
    manifest["session"] = {**manifest["session"], "id": "20200101-000000-aaaa", "schema": 1}
    manifest["members"] = [each for each in manifest["members"] if each["name"] == DATABASE]
    packed = {DATABASE: old.read_bytes(), "manifest.json": json.dumps(manifest).encode()}
    made = import_bundle(target, pack(tmp_path / "old.zip", sign(packed)))
    connection = sqlite3.connect(str(target.sessions / made.session / DATABASE))
    assert connection.execute("PRAGMA user_version").fetchone() == (migrations.NEWEST,)
    connection.close()


def test_an_import_that_is_cancelled_at_any_moment_leaves_nothing(bundle, target):
    assert moments_cancelled(target, bundle) > 5


def test_progress_is_told_and_ends_at_its_total(bundle, target):
    told = []
    import_bundle(target, bundle, report=lambda done, total: told.append((done, total)))
    assert told[-1][0] == told[-1][1] > 0
    assert all(done <= total for done, total in told)


def test_what_a_killed_import_left_is_no_session_and_removed_by_the_next(bundle, target):
    script = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from otf_session.home import Home\n"
        "from otf_session.bundles.importer import import_bundle\n"
        "import_bundle(Home(sys.argv[1]), Path(sys.argv[2]), report=lambda d, t: d and os._exit(9))\n"
    )
    words = [sys.executable, "-c", script, str(target.path), str(bundle)]
    assert subprocess.run(words, timeout=60, check=False).returncode == 9
    (left,) = target.sessions.iterdir()
    assert left.name.startswith(".import-")
    assert target.session_folders() == []
    made = import_bundle(target, bundle)
    assert [path.name for path in target.sessions.iterdir()] == [made.session]


def test_no_room_is_found_out_beforehand(bundle, target, monkeypatch):
    from shutil import disk_usage

    usage = disk_usage(target.path)._replace(free=1000)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    message = refused(target, bundle, NotImported)
    assert "1,000 are free" in message
    assert "--home" in message


def test_a_disk_that_is_full_meanwhile_leaves_nothing(bundle, target):
    pytest.importorskip("resource")
    script = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from otf_session.home import Home\n"
        "from otf_session.bundles.importer import import_bundle\n"
        "from otf_session.errors import NotImported\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]),) * 2)\n"
        "try:\n"
        "    import_bundle(Home(sys.argv[1]), Path(sys.argv[2]))\n"
        "except NotImported as error:\n"
        "    sys.exit(str(error))\n"
    )
    # Of the record as it comes, and of the one that it is copied to.
    for limit in (10, 20_000):
        words = [sys.executable, "-c", script, str(target.path), str(bundle), str(limit)]
        done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 1
        assert "cannot be imported" in done.stderr
        assert "Traceback" not in done.stderr
        assert tree(target.path.parent) == ["home", "home/sessions"]


@pytest.mark.parametrize("what", ["missing", "folder"])
def test_what_is_no_file_is_refused(target, tmp_path, what):
    path = tmp_path / what
    if what == "folder":
        path.mkdir()
    message = refused(target, path, (NotImported, BundleRefused))
    assert "No such file" in message or "bundle.json" in message


# What is refused of the file


def test_a_bundle_cut_short_anywhere_is_refused(bundle, target):
    whole = bundle.read_bytes()
    for length in range(0, len(whole), 97):
        bundle.write_bytes(whole[:length])
        message = refused(target, bundle)
        assert "copy it again" in message


def test_a_bundle_cut_short_behind_a_checkpoint_is_said_to_be_cut_short(home, target, tmp_path):
    store = make_session(home, started())
    store.append([saved(store, number, "final", content=checkpoint()) for number in (1, 2)])
    store.close()
    bundle = bundle_of(store, tmp_path)
    whole = bundle.read_bytes()
    # A checkpoint is a zip file too, whose end is the last thing in this one.
    bundle.write_bytes(whole[: whole.index(b"session.sqlite")])
    assert "copy it again" in refused(target, bundle)


@pytest.mark.parametrize("name", [_CHECKPOINT, DATABASE, "manifest.json"])
def test_an_altered_member_is_refused(bundle, target, name):
    with zipfile.ZipFile(bundle) as archive:
        info = archive.getinfo(name)
        begin = info.header_offset + 30 + len(name) + info.compress_size // 2
    data = bytearray(bundle.read_bytes())
    data[begin] ^= 1
    bundle.write_bytes(bytes(data))
    assert name in refused(target, bundle)


def test_a_member_that_was_replaced_is_refused_by_its_hash(bundle, target):
    members = members_of(bundle)
    members[_CHECKPOINT] = members[_CHECKPOINT][::-1]
    message = refused(target, pack(bundle, members))
    assert "SHA-256 differs" in message
    assert _CHECKPOINT in message


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("../evil", "would leave its folder"),
        ("checkpoints/../../evil", "would leave its folder"),
        ("checkpoints\\..\\..\\evil", "would leave its folder"),
        ("/etc/evil", "absolute"),
        ("C:/evil", "absolute"),
        ("\\\\server\\evil", "absolute"),
        ("evil", "lies neither"),
        ("checkpoints/a/evil", "character"),
        ("checkpoints/a\\evil", "character"),
        ("checkpoints/evil\0.pt", "character"),
        ("checkpoints/evil:stream", "character"),
        ("checkpoints/.hidden", "no plain file name"),
        ("checkpoints/NUL.pt", "no plain file name"),
        ("checkpoints/ends. ", "no plain file name"),
        ("checkpoints/" + "x" * 300, "too long"),
        ("elsewhere/", "lies neither"),
    ],
)
def test_a_member_with_such_a_name_is_refused(bundle, target, name, why):
    data = b"" if name.endswith("/") else b"evil"
    packed = pack_raw(bundle, [*members_of(bundle).items(), (name, data)])
    assert why in refused(target, packed)


def pack_raw(bundle, members):
    """A bundle whose members have names that zipfile would change."""
    with zipfile.ZipFile(bundle, "w") as archive:
        for name, content in members:
            info = zipfile.ZipInfo("x")
            info.filename = name
            info.external_attr = 0o100644 << 16
            if name == "link":
                info.filename, info.external_attr = _CHECKPOINT, (stat.S_IFLNK | 0o777) << 16
            archive.writestr(info, content)
    return bundle


def test_a_link_is_refused(bundle, target):
    members = members_of(bundle)
    members.pop(_CHECKPOINT)
    packed = pack_raw(bundle, [*members.items(), ("link", b"/etc/passwd")])
    assert "is a link" in refused(target, packed)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_duplicate_is_refused(bundle, target):
    members = members_of(bundle)
    again = [*members.items(), (_CHECKPOINT, members[_CHECKPOINT])]
    assert "is there twice" in refused(target, pack_raw(bundle, again))


def test_a_name_that_is_another_one_on_many_systems_is_refused(bundle, target):
    members = members_of(bundle)
    again = [*members.items(), (_CHECKPOINT.upper().replace("CHECKPOINTS", "checkpoints"), b"x")]
    assert "same file" in refused(target, pack_raw(bundle, again))


@pytest.mark.parametrize(
    ("place", "flag", "why"),
    [(8, 0x1, "encrypted"), (8, 0x40, "encrypted"), (10, 14, "compressed")],
)
def test_an_encrypted_or_oddly_compressed_member_is_refused(bundle, target, place, flag, why):
    data = bytearray(bundle.read_bytes())
    at = data.index(b"PK\x01\x02")
    data[at + place] |= flag
    bundle.write_bytes(bytes(data))
    assert why in refused(target, bundle)


def test_a_bomb_is_refused_before_it_unfolds(bundle, target):
    members = members_of(bundle)
    size = 100 << 20
    with zipfile.ZipFile(bundle, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, content in members.items():
            if name == _CHECKPOINT:
                with archive.open(name, "w") as file:
                    for _ in range(size >> 20):
                        file.write(bytes(1 << 20))
            else:
                archive.writestr(name, content)
    assert "bomb" in refused(target, bundle)


def test_a_member_that_unfolds_to_more_than_it_says_is_cut_off_there(bundle, target):
    members = members_of(bundle)
    with zipfile.ZipFile(bundle, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, bytes(10 << 20) if name == _CHECKPOINT else content)
    data = bytearray(bundle.read_bytes())
    size = len(members[_CHECKPOINT])
    # Both headers say the size that the manifest says.
    for mark, place in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        at = data.index(mark)
        data[at + place : at + place + 4] = struct.pack("<I", size)
    bundle.write_bytes(bytes(data))
    assert _CHECKPOINT in refused(target, bundle)


def test_members_that_share_their_bytes_are_refused(bundle, target):
    data = bytearray(bundle.read_bytes())
    first = data.index(b"PK\x01\x02")
    second = data.index(b"PK\x01\x02", first + 1)
    data[second + 42 : second + 46] = data[first + 42 : first + 46]
    bundle.write_bytes(bytes(data))
    assert "overlaps" in refused(target, bundle)


# What is refused of the manifest


def test_a_newer_format_is_refused_with_what_to_do(bundle, target):
    with_manifest(bundle, lambda manifest: manifest.update(format=2, runs="of another shape"))
    message = refused(target, bundle, BundleTooNew)
    assert "format 2" in message
    assert "pip install --upgrade" in message


def test_what_a_newer_version_added_to_the_format_is_no_obstacle(bundle, target):
    with_manifest(bundle, lambda manifest: manifest.update(further=[1]))
    assert import_bundle(target, bundle).checkpoints == 1


@pytest.mark.parametrize("name", [_CHECKPOINT, DATABASE, "manifest.json"])
def test_a_missing_member_is_refused(bundle, target, name):
    members = members_of(bundle)
    members.pop(name)
    assert name in refused(target, pack(bundle, members))


def test_a_member_that_is_not_listed_is_refused(bundle, target):
    packed = pack(bundle, {**members_of(bundle), "checkpoints/more.pt": b"more"})
    assert "not in the manifest" in refused(target, packed)


def test_a_member_that_is_listed_twice_is_refused(bundle, target):
    with_manifest(bundle, lambda manifest: manifest["members"].append(manifest["members"][0]))
    assert "twice" in refused(target, bundle)


@pytest.mark.parametrize(
    "name", ["", "..", "../evil", "latest", "a/b", "a\\b", ".hidden", "nul", "x" * 99, "ends."]
)
def test_an_id_that_is_none_is_refused(bundle, target, name):
    with_manifest(bundle, lambda manifest: manifest["session"].update(id=name))
    assert "which is none" in refused(target, bundle)


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"\xff", b"{}", b"[" * 100_000])
def test_a_manifest_that_is_none_is_refused(bundle, target, text):
    members = {**members_of(bundle), "manifest.json": text}
    assert "manifest.json is none" in refused(target, pack(bundle, members))


def test_a_record_of_another_session_is_refused(bundle, target, tmp_path):
    members = members_of(bundle)
    record = tmp_path / "record"
    record.write_bytes(members[DATABASE])
    set_id(record, "20200101-000000-aaaa")
    members[DATABASE] = record.read_bytes()
    record.unlink()
    assert "another session" in refused(target, pack(bundle, sign(members)))


def test_a_checkpoint_that_the_record_knows_otherwise_is_refused(bundle, target):
    members = members_of(bundle)
    members[_CHECKPOINT] = members[_CHECKPOINT][::-1]
    assert "not the checkpoint" in refused(target, pack(bundle, sign(members)))


# What is refused of the record


@pytest.mark.parametrize(
    ("statement", "why"),
    [
        ("CREATE TRIGGER t AFTER INSERT ON event BEGIN DELETE FROM log; END", "trigger 't'"),
        ("CREATE VIEW v AS SELECT load_extension('evil')", "view 'v'"),
        ("CREATE TABLE more (a)", "table 'more'"),
        ("CREATE INDEX i ON log (time)", "index 'i'"),
        ("DROP VIEW metric", "view 'metric'"),
        ("ALTER TABLE log ADD COLUMN more", "table 'log'"),
        ("PRAGMA application_id = 7", "not one of OnTheFly"),
        ("PRAGMA user_version = 0", "not one of OnTheFly"),
        ("DELETE FROM session", "0 sessions"),
        ("INSERT INTO session VALUES ('20200101-000000-aaaa', 'x', 1.0)", "2 sessions"),
        ("UPDATE session SET created = 1e300", "time"),
        ("UPDATE run SET updated = -1.0", "time"),
        ("UPDATE run SET state = 'x'", "unknown state"),
        ("UPDATE run SET parents = '{}'", "cannot be read"),
        ("UPDATE run SET step = 'x'", "str where none"),
        ("UPDATE log SET text = x'00'", "bytes where none"),
        ("UPDATE log SET text = CAST(x'ff' AS TEXT)", "cannot be read"),
        ("UPDATE event SET body = '{}' WHERE seq = 1", "cannot be read"),
        ("UPDATE event SET run = 'other' WHERE seq = 1", "what it is not"),
        ("UPDATE metric_batch SET steps = '[1]'", "one time for each step"),
        ("UPDATE metric_batch SET steps = '[]', times = '[]'", "one time for each step"),
        ("UPDATE metric_column SET value_list = '[1.0]'", "as many values"),
        ("UPDATE metric_column SET low = NULL", "extremes"),
        ("UPDATE metric_column SET seq = 4", "metrics have no steps"),
        ("DELETE FROM log", "events are missing"),
        ("UPDATE log SET seq = 99", "events are missing"),
    ],
)
def test_a_record_that_is_not_what_we_write_is_refused(bundle, target, statement, why):
    assert why in refused(target, with_record(bundle, statement))


@pytest.mark.parametrize(
    "statement",
    [
        f"PRAGMA user_version = {migrations.NEWEST + 1}",
        "UPDATE event SET kind = 'new' WHERE seq = 1",
    ],
)
def test_a_record_of_a_newer_version_is_refused_with_what_to_do(bundle, target, statement):
    message = refused(target, with_record(bundle, statement), BundleTooNew)
    assert "pip install --upgrade" in message


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("../../../evil.pt", "in its record, but not in it"),
        ("/etc/passwd", "in its record, but not in it"),
        ("checkpoints/other.pt", "in its record, but not in it"),
    ],
)
def test_a_checkpoint_elsewhere_is_refused(bundle, target, path, why):
    statement = f"UPDATE event SET body = replace(body, '{_CHECKPOINT}', '{path}')"
    message = refused(target, with_record(bundle, statement))
    assert "checkpoint" in message


def test_a_damaged_page_is_refused(bundle, target):
    members = members_of(bundle)
    record = bytearray(members[DATABASE])
    record[4096:8192] = bytes(4096)
    members[DATABASE] = bytes(record)
    refused(target, pack(bundle, sign(members)))


def test_what_lies_unused_in_a_record_is_not_taken_over(bundle, target):
    made = "CREATE TABLE t AS SELECT 'hidden words' AS a"
    packed = with_record(bundle, "PRAGMA secure_delete = off", made, "DROP TABLE t")
    assert b"hidden words" in members_of(packed)[DATABASE]
    folder = target.sessions / import_bundle(target, packed).session
    assert b"hidden words" not in (folder / DATABASE).read_bytes()


def test_final_models_come_along(home, target, tmp_path):
    store = lineage(home)
    bundle = bundle_of(store, tmp_path)
    members = members_of(bundle)
    manifest = json.loads(members["manifest.json"])
    entry = {"name": "final_models/fork1-final.pt", "size": 0, "sha256": "", "run": "fork1"}
    manifest["members"].append(entry)
    members["manifest.json"] = json.dumps(manifest).encode()
    members["final_models/fork1-final.pt"] = b"a model"
    made = import_bundle(target, pack(bundle, sign(members)))
    assert made.final_models == 1
    folder = target.sessions / made.session
    assert (folder / "final_models" / "fork1-final.pt").read_bytes() == b"a model"
    # They come along once more, with or without the checkpoint that they were made from.
    again = export_session(folder, tmp_path / "again.zip", final_models=True)
    assert members_of(tmp_path / "again.zip")["final_models/fork1-final.pt"] == b"a model"
    assert again.final_models == 1


def test_a_home_that_cannot_be_written_is_an_error(bundle, target, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(SessionError, match="not writable"):
        import_bundle(target, bundle)


def test_a_session_that_was_being_trained_reads_as_lost(home, target, tmp_path):
    store = make_session(home, started(), state(RunState.RUNNING, step=1))
    made = import_bundle(target, bundle_of(store, tmp_path))
    store.close()
    with SessionReader(target.sessions / made.session) as reader:
        assert session_summary(reader).state.value == "lost"
