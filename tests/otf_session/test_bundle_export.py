import json
import shutil
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path

import pytest
from otf_session.bundles.choice import Checkpoints
from otf_session.bundles.exporter import export_session
from otf_session.bundles.importer import import_bundle
from otf_session.bundles.selection import select
from otf_session.errors import Cancelled, NotExported, StoreDamaged
from otf_session.events import CheckpointRemoved, RunState
from otf_session.home import DATABASE, Home
from otf_session.liveness import AliveLock
from otf_session.queries import events_after, kept_checkpoints, run_summaries
from otf_session.store import SessionReader, SessionStore

from ..helpers.bundles import bundle_of, contents, lineage, members_of, saved, tiny, tree
from ..helpers.sessions import RUN, line, losses, make_session, started, state, stored


@pytest.fixture
def session(home):
    return lineage(home)


@pytest.fixture
def elsewhere(tmp_path):
    return Home(tmp_path / "elsewhere")


def manifest_of(bundle):
    return json.loads(members_of(bundle)["manifest.json"])


def imported(elsewhere, bundle):
    """What a reader finds in the bundle: its events, runs and kept checkpoints."""
    made = import_bundle(elsewhere, bundle)
    with SessionReader(elsewhere.sessions / made.session) as reader:
        return (
            events_after(reader.database, 0, 1000),
            [run.name for run in run_summaries(reader.database)],
            [event.id for event in kept_checkpoints(reader.database)],
        )


def test_a_bundle_is_a_plain_zip_with_weights_stored(session, tmp_path):
    made = export_session(session.folder, tmp_path)
    assert made.path == str(tmp_path / f"a-project-of-mine-{session.id}.otf.zip")
    assert made.size == Path(made.path).stat().st_size
    assert (made.session, made.checkpoints, made.final_models) == (session.id, 6, 0)
    assert (made.runs, made.notes) == ([RUN, "fork1", "other"], [])
    with zipfile.ZipFile(made.path) as archive:
        assert archive.testzip() is None
        infos = {info.filename: info for info in archive.infolist()}
    assert list(infos) == [
        *(f"checkpoints/{RUN}-{name}.pt" for name in ("0-initial", "20-periodic", "20-best")),
        *("checkpoints/fork1-25-mine.pt", "checkpoints/fork1-30-final.pt"),
        *("checkpoints/other-5-final.pt", DATABASE, "manifest.json"),
    ]
    weights = [info for name, info in infos.items() if name.startswith("checkpoints/")]
    assert {info.compress_type for info in weights} == {zipfile.ZIP_STORED}


def test_the_manifest_says_what_the_bundle_holds(session, tmp_path):
    bundle = bundle_of(session, tmp_path)
    found = manifest_of(bundle)
    assert found["format"] == 1
    assert found["session"]["id"] == session.id
    assert found["session"]["project"] == "a project / of mine"
    assert found["session"]["last_seq"] == session.last_seq
    assert [(run["name"], run["parents"]) for run in found["runs"]] == [
        *((RUN, []), ("fork1", [RUN]), ("other", [])),
    ]
    assert found["versions"]["torch"] == "2.13.0"
    assert found["versions"]["python"] == "3.11.7"
    assert "otf-session" in found["versions"]
    (intervention,) = found["interventions"]
    assert intervention["command"] == {"kind": "set-hyperparameters", **intervention["command"]}
    assert intervention["step"] == 4
    members = members_of(bundle)
    from hashlib import sha256

    assert {(each["name"], each["size"], each["sha256"]) for each in found["members"]} == {
        (name, len(content), sha256(content).hexdigest())
        for name, content in members.items()
        if name != "manifest.json"
    }
    (best,) = [each for each in found["members"] if each["label"] == "best"]
    assert (best["checkpoint"], best["run"], best["step"]) == (f"{RUN}@20-best", RUN, 20)


def test_the_record_in_a_bundle_is_one_compact_file_that_any_tool_reads(session, tmp_path):
    import sqlite3

    record = tmp_path / "record.sqlite"
    record.write_bytes(members_of(bundle_of(session, tmp_path))[DATABASE])
    connection = sqlite3.connect(str(record))
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    assert connection.execute("PRAGMA freelist_count").fetchone() == (0,)
    rows = connection.execute("SELECT step, value FROM metric WHERE run = 'other'").fetchall()
    connection.close()
    assert rows == [(1, 2.0)]


def test_all_of_a_session_arrives(session, tmp_path, elsewhere):
    events, runs, kept = imported(elsewhere, bundle_of(session, tmp_path))
    assert events == stored(session)
    assert runs == [RUN, "fork1", "other"]
    assert len(kept) == 6


def test_of_chosen_runs_their_ancestors_come_along_and_what_they_began_from(
    session, tmp_path, elsewhere
):
    made = export_session(session.folder, tmp_path, runs=["fork1"])
    assert made.runs == [RUN, "fork1"]
    found = manifest_of(Path(made.path))
    assert found["left_out_runs"] == ["other"]
    assert [run["chosen"] for run in found["runs"]] == [False, True]
    events, runs, kept = imported(elsewhere, Path(made.path))
    assert runs == [RUN, "fork1"]
    assert kept == [
        *(f"{RUN}@0-initial", f"{RUN}@20-periodic", "fork1@25-mine", "fork1@30-final"),
    ]
    assert {getattr(event, "run", "") for event in events} == {"", RUN, "fork1"}
    # The numbers of events are without a gap: the others were left out of the middle.
    expected = [e for e in stored(session) if getattr(e, "run", "") != "other"]
    assert events[: len(expected)] == expected
    (gone,) = events[len(expected) :]
    assert isinstance(gone, CheckpointRemoved)
    assert gone.id == f"{RUN}@20-best"


@pytest.mark.parametrize("runs", [["fork1,other"], ["fork1", "other"]])
def test_runs_are_named_one_by_one_or_with_commas(session, tmp_path, runs):
    assert export_session(session.folder, tmp_path, runs=runs).runs == [RUN, "fork1", "other"]


def test_an_unknown_run_is_an_error_that_lists_those_there_are(session, tmp_path):
    with pytest.raises(NotExported, match=f"no run 'fork9'. It has: {RUN}, fork1, other"):
        export_session(session.folder, tmp_path, runs=["fork9"])
    assert tree(tmp_path) == []


@pytest.mark.parametrize(
    ("which", "expected"),
    [
        (Checkpoints.LATEST, [f"{RUN}@20-best", "fork1@30-final", "other@5-final"]),
        (Checkpoints.PINNED, [f"{RUN}@0-initial", f"{RUN}@20-best", "fork1@25-mine"]),
        (Checkpoints.NONE, []),
    ],
)
def test_checkpoints_are_chosen(session, tmp_path, elsewhere, which, expected):
    made = export_session(session.folder, tmp_path, checkpoints=which)
    assert made.checkpoints == len(expected)
    left_out = {
        each["checkpoint"]: each["reason"] for each in manifest_of(Path(made.path))["left_out"]
    }
    assert len(left_out) == 6 - len(expected)
    assert all(which.value in reason for reason in left_out.values())
    _, _, kept = imported(elsewhere, Path(made.path))
    assert kept == expected


def test_a_checkpoint_that_is_missing_or_damaged_is_left_out_and_said(session, tmp_path, elsewhere):
    (session.folder / f"checkpoints/{RUN}-20-best.pt").unlink()
    damaged = session.folder / "checkpoints/fork1-30-final.pt"
    damaged.write_bytes(damaged.read_bytes()[::-1])
    (session.folder / "checkpoints/other-5-final.pt").write_bytes(b"short")
    made = export_session(session.folder, tmp_path)
    assert made.checkpoints == 3
    assert [note.split(" is left out: ")[0][15:] for note in made.notes] == [
        *(f"{RUN}@20-best", "fork1@30-final", "other@5-final"),
    ]
    assert "missing" in made.notes[0]
    assert "SHA-256" in made.notes[1]
    assert "size" in made.notes[2]
    with zipfile.ZipFile(made.path) as archive:
        assert archive.testzip() is None
    _, _, kept = imported(elsewhere, Path(made.path))
    assert kept == [f"{RUN}@0-initial", f"{RUN}@20-periodic", "fork1@25-mine"]


def test_what_is_there_is_replaced_only_when_asked(session, tmp_path):
    target = tmp_path / "mine.otf.zip"
    target.write_bytes(b"something else")
    with pytest.raises(NotExported, match="exists already"):
        export_session(session.folder, target)
    assert target.read_bytes() == b"something else"
    export_session(session.folder, target, force=True)
    assert zipfile.is_zipfile(target)
    assert tree(tmp_path) == ["mine.otf.zip"]


@pytest.mark.parametrize("force", [False, True])
def test_a_bundle_that_appears_meanwhile_is_not_replaced_unasked(session, tmp_path, force):
    target = tmp_path / "mine.otf.zip"

    def report(done, total):
        target.write_bytes(b"somebody else's")

    if force:
        export_session(session.folder, target, force=True, report=report)
        assert zipfile.is_zipfile(target)
        return
    with pytest.raises(NotExported, match="exists already"):
        export_session(session.folder, target, report=report)
    assert target.read_bytes() == b"somebody else's"
    assert tree(tmp_path) == ["mine.otf.zip"]


def test_progress_is_told_and_ends_at_its_total(session, tmp_path):
    told = []
    export_session(session.folder, tmp_path, report=lambda done, total: told.append((done, total)))
    assert told[-1][0] == told[-1][1] > 0
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert all(done <= total for done, total in told)


def test_an_export_that_is_cancelled_at_any_moment_leaves_nothing(session, tmp_path):
    before = contents(session.folder)
    moments = 0
    while True:
        left = iter([False] * moments)
        try:
            export_session(
                session.folder, tmp_path, is_cancelled=lambda left=left: next(left, True)
            )
        except Cancelled:
            assert tree(tmp_path) == []
        else:
            break
        moments += 1
    assert moments > 10
    assert contents(session.folder) == before


def test_what_a_killed_export_left_is_hidden_and_removed_by_the_next(session, tmp_path):
    script = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from otf_session.bundles.exporter import export_session\n"
        "export_session(Path(sys.argv[1]), Path(sys.argv[2]), report=lambda d, t: d and os._exit(9))\n"
    )
    words = [sys.executable, "-c", script, str(session.folder), str(tmp_path)]
    assert subprocess.run(words, timeout=60, check=False).returncode == 9
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".otf-export-")
    assert not any(path.name.endswith(".otf.zip") for path in tmp_path.rglob("*"))
    bundle = bundle_of(session, tmp_path)
    assert tree(tmp_path) == [bundle.name]


def test_a_full_disk_is_an_error_that_leaves_nothing(home, tmp_path):
    resource = pytest.importorskip("resource")
    assert resource
    store = make_session(home, started(), losses(1, 50))
    store.append([saved(store, 1, "final", content=bytes(300_000))])
    store.close()
    # As for a disk that is full, writing on is refused by the system.
    script = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from otf_session.bundles.exporter import export_session\n"
        "from otf_session.errors import NotExported\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]),) * 2)\n"
        "try:\n"
        "    export_session(Path(sys.argv[1]), Path(sys.argv[2]))\n"
        "except NotExported as error:\n"
        "    sys.exit(str(error))\n"
    )
    out = tmp_path / "out"
    out.mkdir()
    # Of the weights, and of the record.
    for limit in (100_000, 20_000):
        words = [sys.executable, "-c", script, str(store.folder), str(out), str(limit)]
        done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 1
        assert "cannot be written" in done.stderr
        assert "Nothing of it was left behind" in done.stderr
        assert tree(out) == []


def test_a_folder_that_is_not_there_is_an_error(session, tmp_path):
    with pytest.raises(NotExported, match="cannot be written"):
        export_session(session.folder, tmp_path / "nowhere" / "mine.otf.zip")


def test_a_damaged_session_is_an_error(session, tmp_path):
    (session.folder / DATABASE).write_bytes(b"no database" * 1000)
    with pytest.raises(StoreDamaged):
        export_session(session.folder, tmp_path)
    assert tree(tmp_path) == []


def test_a_live_session_is_exported_as_it_was_at_one_moment(home, tmp_path, elsewhere):
    store = make_session(home, started())
    stop = threading.Event()

    def train():
        live = SessionStore(store.folder)
        for number in range(1, 100_000):
            if stop.is_set():
                break
            # Of two, one is kept: as a trainer's ring of checkpoints does.
            live.append([losses(number, number), line(number), saved(live, number, "periodic")])
            if number > 2:
                gone = number - 2
                live.append(
                    [CheckpointRemoved(time=2e9, run=RUN, id=f"{RUN}@{gone}-periodic", reason="")]
                )
                (live.folder / f"checkpoints/{RUN}-{gone}-periodic.pt").unlink()
            time.sleep(0.02)
        live.close()

    trainer = threading.Thread(target=train)
    trainer.start()
    try:
        while store.last_seq < 20:
            with SessionReader(store.folder) as reader:
                store.last_seq = len(events_after(reader.database, 0, 50))
        for number in range(5):
            bundle = bundle_of(store, tmp_path, force=True)
            events, _, kept = imported(Home(tmp_path / f"home{number}"), bundle)
            # Whole from the first event to some last one, with the checkpoints that were kept then.
            assert events == stored(store, 0, len(events))
            assert 1 <= len(kept) <= 3
    finally:
        stop.set()
        trainer.join()


def test_a_checkpoint_that_its_trainer_deletes_meanwhile_is_not_missed(
    session, tmp_path, elsewhere, monkeypatch
):
    moments = []

    def select_and_delete(*words):
        found = select(*words)
        if not moments:
            live = SessionStore(session.folder)
            live.append(
                [CheckpointRemoved(time=2e9, run=RUN, id=f"{RUN}@20-periodic", reason="old")]
            )
            live.close()
            (session.folder / f"checkpoints/{RUN}-20-periodic.pt").unlink()
        moments.append(found)
        return found

    monkeypatch.setattr("otf_session.bundles.exporter.select", select_and_delete)
    made = export_session(session.folder, tmp_path)
    assert len(moments) == 2
    assert (made.checkpoints, made.notes) == (5, [])
    events, _, _ = imported(elsewhere, Path(made.path))
    assert events == stored(session)


def test_a_trainer_has_time_to_write_down_what_it_deleted(session, tmp_path, monkeypatch):
    slept = []

    def write_down(seconds):
        slept.append(seconds)
        live = SessionStore(session.folder)
        live.append([CheckpointRemoved(time=2e9, run=RUN, id=f"{RUN}@20-best", reason="old")])
        live.close()

    monkeypatch.setattr("otf_session.bundles.exporter.time.sleep", write_down)
    lock = AliveLock(session.folder)
    assert lock.acquire()
    (session.folder / f"checkpoints/{RUN}-20-best.pt").unlink()
    made = export_session(session.folder, tmp_path)
    lock.release()
    assert len(slept) == 1
    assert (made.checkpoints, made.notes) == (5, [])


def test_a_checkpoint_that_is_deleted_while_it_is_exported_is_in_the_bundle(session, tmp_path):
    def report(done, total):
        for path in session.folder.glob("checkpoints/*-periodic.pt"):
            path.unlink()

    # Told for the first time when the record has been copied, before a checkpoint is read.
    made = export_session(session.folder, tmp_path, report=report)
    assert (made.checkpoints, made.notes) == (6, [])


def test_what_training_removes_meanwhile_is_said_to_be_removed_by_it(
    session, tmp_path, monkeypatch
):
    # More than can be held open at once, as far as this test goes.
    monkeypatch.setattr("otf_session.bundles.heldfiles._MOST", 0)
    removed = []

    def report(done, total):
        if not removed:
            removed.append(f"{RUN}@20-periodic")
            (session.folder / f"checkpoints/{RUN}-20-periodic.pt").unlink()
            (session.folder / f"checkpoints/{RUN}-20-best.pt").unlink()
            live = SessionStore(session.folder)
            live.append([CheckpointRemoved(time=2e9, run=RUN, id=removed[0], reason="old")])
            live.close()

    made = export_session(session.folder, tmp_path, report=report)
    older, missing = made.notes
    assert older.startswith(
        f"The checkpoint {RUN}@20-periodic is left out: training has removed it"
    )
    assert missing == f"The checkpoint {RUN}@20-best is left out: its file is missing."


def test_a_checkpoint_of_a_run_that_the_record_does_not_know_is_left_out(home, tmp_path, elsewhere):
    store = make_session(home, started())
    store.append([saved(store, 3, "final"), saved(store, 5, "final", run="unknown")])
    store.close()
    _, _, kept = imported(elsewhere, bundle_of(store, tmp_path))
    assert kept == [f"{RUN}@3-final"]


def test_an_export_of_an_import_has_the_same_store_content(session, tmp_path, elsewhere):
    first = bundle_of(session, tmp_path / "..", force=True)
    made = import_bundle(elsewhere, first)
    again = tmp_path / "again.otf.zip"
    export_session(elsewhere.sessions / made.session, again)
    third = Home(tmp_path / "third")
    copied = import_bundle(third, again)
    assert copied.session == session.id
    before = contents(elsewhere.sessions / made.session)
    assert contents(third.sessions / copied.session) == before
    assert len(before) == 7
    one, other = members_of(first), members_of(again)
    assert {name: one[name] for name in one if name != "manifest.json"} == {
        name: other[name] for name in other if name != "manifest.json"
    }


def test_times_beyond_what_a_zip_file_can_state_are_no_obstacle(home, tmp_path, elsewhere):
    from msgspec.structs import replace

    store = make_session(home, started())
    store.append([replace(saved(store, 1, "final"), time=time) for time in (1e300, -1e300)][:1])
    store.close()
    _, _, kept = imported(elsewhere, bundle_of(store, tmp_path))
    assert kept == [f"{RUN}@1-final"]


def test_checkpoints_with_one_name_in_two_folders_are_two_members(home, tmp_path, elsewhere):
    store = make_session(home, started())
    one = saved(store, 1, "final", content=b"one")
    away = tmp_path / "away"
    away.mkdir()
    moved = away / Path(one.path).name
    shutil.move(str(store.folder / one.path), str(moved))
    from msgspec.structs import replace

    other = replace(saved(store, 1, "final", content=b"other"), id="other")
    store.append([replace(one, path=str(moved)), other, state(RunState.FINISHED)])
    store.close()
    bundle = bundle_of(store, tmp_path)
    members = members_of(bundle)
    assert members[f"checkpoints/{RUN}-1-final.pt"] == b"one"
    assert members[f"checkpoints/{RUN}-1-final-2.pt"] == b"other"
    made = import_bundle(elsewhere, bundle)
    assert set(contents(elsewhere.sessions / made.session).values()) >= {b"one", b"other"}


def test_an_export_needs_no_torch(home, tmp_path):
    store = tiny(home)
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from otf_session.bundles.exporter import export_session\n"
        "export_session(Path(sys.argv[1]), Path(sys.argv[2]), final_models=True)\n"
        "assert 'torch' not in sys.modules\n"
    )
    words = [sys.executable, "-c", script, str(store.folder), str(tmp_path)]
    assert subprocess.run(words, timeout=60, check=False).returncode == 0
