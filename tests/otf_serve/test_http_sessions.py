"""Sessions over HTTP: named, looked through, deleted, taken along and taken in."""

import asyncio
import json
import shutil
import threading
import zipfile

import pytest
from otf_serve import transfers, work
from otf_serve.endpoints import TooLarge
from otf_session import display_name
from otf_session.bundles.importer import import_bundle
from otf_session.bundles.staging import TRANSFER
from otf_session.frames import SessionChanged, SessionGone
from otf_session.home import DATABASE, Home
from otf_session.jobs import Job
from otf_session.liveness import AliveLock

from ..helpers.bundles import bundle_of, contents, lineage, members_of, pack, sign, tiny, tree
from ..helpers.sessions import RUN, losses, started
from ..helpers.waiting import wait_for
from .peers import InThread, decode, joined, refused, serve, viewer_of

SECONDS = 20


@pytest.fixture
def session(home):
    return lineage(home)


@pytest.fixture
def bundle(tmp_path):
    """A bundle from another home."""
    return bundle_of(lineage(Home(tmp_path / "elsewhere")), tmp_path)


@pytest.fixture
def held(monkeypatch):
    """Exports stand still at their first byte until this is set."""
    go_on = threading.Event()
    real = work.export_session

    def export_session(*words, report, is_cancelled, **options):
        def wait(done, total):
            report(done, total)
            while done and not (go_on.wait(0.01) or is_cancelled()):
                pass

        return real(*words, report=wait, is_cancelled=is_cancelled, **options)

    monkeypatch.setattr(work, "export_session", export_session)
    yield go_on
    go_on.set()


def done(response):
    """The result of a job that is done."""
    assert response.status_code == 200, response.text
    job = decode(response.content, Job)
    assert job.state == "done"
    return job


def export(api, session, query=""):
    """An export, and what was fetched of it."""
    job = done(api.post(f"/api/sessions/{session.id}/export{query}"))
    fetched = api.get(f"/api/jobs/{job.id}/file")
    assert fetched.status_code == 200
    return job, fetched


def upload(api, content, query=""):
    if hasattr(content, "read_bytes"):
        content = content.read_bytes()
    return api.post(f"/api/sessions{query}", content=content)


def on_their_way(home):
    """The files that the server keeps for transfers."""
    return [
        path
        for path in home.sessions.glob(f"{TRANSFER}*/**/*")
        if path.is_file() and path.name != "making.lock"
    ]


# Taking a session along


def test_an_export_is_fetched_as_the_file_that_the_shell_makes(api, home, session, tmp_path):
    job, fetched = export(api, session)
    assert (job.kind, job.session, job.name) == ("export", session.id, "a project / of mine")
    assert (job.result.checkpoints, job.result.runs) == (6, [RUN, "fork1", "other"])
    assert job.done == job.total > 0
    name = f"a-project-of-mine-{session.id}.otf.zip"
    assert fetched.headers["content-disposition"] == f'attachment; filename="{name}"'
    assert int(fetched.headers["content-length"]) == job.result.size == len(fetched.content)
    bundle = tmp_path / name
    bundle.write_bytes(fetched.content)
    made = import_bundle(Home(tmp_path / "other"), bundle)
    assert contents(tmp_path / "other" / "sessions" / made.session).keys() == (
        contents(session.folder).keys()
    )


def test_an_export_takes_what_was_asked_for(api, session, tmp_path):
    job, fetched = export(api, session, "?run=fork1&checkpoints=pinned&final_models=true")
    assert job.result.runs == [RUN, "fork1"]
    bundle = tmp_path / "bundle"
    bundle.write_bytes(fetched.content)
    stored = sorted(name for name in members_of(bundle) if name.startswith("checkpoints/"))
    assert stored == [
        f"checkpoints/{RUN}-0-initial.pt",
        f"checkpoints/{RUN}-20-periodic.pt",
        "checkpoints/fork1-25-mine.pt",
    ]
    # The tests' checkpoints hold no weights, which is said.
    assert any("fork1" in note for note in job.result.notes)


def test_a_run_that_is_not_there_is_refused(api, home, session):
    message = refused(api.post(f"/api/sessions/{session.id}/export?run=nothing"), 422)
    assert f"has no run 'nothing'. It has: {RUN}, fork1, other." in message
    assert on_their_way(home) == []


def test_a_live_session_is_exported(api, make):
    store = make(started(), losses(1, 5))
    lock = AliveLock(store.folder)
    assert lock.acquire()
    try:
        _, fetched = export(api, store)
        store.append([losses(6, 10)])
    finally:
        lock.release()
    assert fetched.content.startswith(b"PK")


def test_how_far_an_export_is_can_be_seen(api, session, held):
    asked = api.post(f"/api/sessions/{session.id}/export?wait=0")
    assert asked.status_code == 202
    job = asked.json()["id"]

    def seen():
        response = api.get(f"/api/jobs/{job}?wait=0")
        assert response.status_code == 202
        found = decode(response.content, Job)
        return found.done and found

    found = wait_for(seen, "the first bytes", SECONDS)
    assert (found.state, found.result) == ("running", None)
    assert 0 < found.done < found.total
    assert [each["id"] for each in api.get("/api/jobs").json()] == [job]
    assert "made no file" in refused(api.get(f"/api/jobs/{job}/file"), 404)
    held.set()
    done(api.get(f"/api/jobs/{job}"))


def test_an_export_that_is_cancelled_leaves_nothing(api, home, session, held):
    job = api.post(f"/api/sessions/{session.id}/export?wait=0").json()["id"]
    wait_for(lambda: api.get(f"/api/jobs/{job}?wait=0").json()["done"], "the first bytes", SECONDS)
    assert api.delete(f"/api/jobs/{job}").json()["state"] == "cancelled"
    assert "cancelled" in refused(api.get(f"/api/jobs/{job}"), 410)
    assert on_their_way(home) == []
    # Once it has ended, it is forgotten.
    assert api.delete(f"/api/jobs/{job}").status_code == 200
    refused(api.get(f"/api/jobs/{job}"), 404)


def test_reads_are_answered_while_many_exports_stand(api, session, held):
    jobs = [api.post(f"/api/sessions/{session.id}/export?wait=0").json()["id"] for _ in range(8)]
    assert api.get(f"/api/sessions/{session.id}/snapshot").status_code == 200
    held.set()
    for job in jobs:
        done(api.get(f"/api/jobs/{job}"))


def test_a_fetched_file_is_removed_once_it_has_been_sent_whole(api, home, session, monkeypatch):
    monkeypatch.setattr("otf_serve.jobs._FOR_A_RETRY", 0.0)
    job = done(api.post(f"/api/sessions/{session.id}/export"))
    path = f"/api/jobs/{job.id}/file"
    (kept,) = on_their_way(home)
    assert api.head(path).headers["content-length"] == str(job.result.size)
    first = api.get(path, headers={"range": "bytes=0-99"})
    # The end alone, as those look at it who read a zip file's list.
    last = api.get(path, headers={"range": "bytes=100-"})
    assert kept.exists() or last.content
    assert len(first.content + last.content) == job.result.size
    wait_for(lambda: not on_their_way(home), "that the file is removed", SECONDS)
    assert "forgotten" in refused(api.get(path), 404)


def test_a_part_of_a_file_is_not_all_of_it(api, home, session, monkeypatch):
    monkeypatch.setattr("otf_serve.jobs._FOR_A_RETRY", 0.0)
    job = done(api.post(f"/api/sessions/{session.id}/export"))
    path = f"/api/jobs/{job.id}/file"
    for part in ("bytes=-50", "bytes=0-0"):
        response = api.get(path, headers={"range": part})
        assert response.status_code == 206
        assert response.headers["content-range"].endswith(f"/{job.result.size}")
    size = job.result.size
    gone_too_far = api.get(path, headers={"range": f"bytes={size}-"})
    assert f"{size} bytes" in refused(gone_too_far, 416)
    assert gone_too_far.headers["content-range"] == f"bytes */{size}"
    assert api.get(path).status_code == 200


def test_a_file_that_nobody_fetches_is_removed(api, home, session, monkeypatch):
    monkeypatch.setattr("otf_serve.jobs._KEPT", 0.05)
    done(api.post(f"/api/sessions/{session.id}/export"))
    wait_for(lambda: not on_their_way(home), "that the file is removed", SECONDS)
    assert api.get("/api/jobs").json() == []


def test_the_server_leaves_nothing_behind(settings, home, session):
    with serve(settings) as api:
        api.headers.update({"authorization": f"Bearer {settings.token}"})
        done(api.post(f"/api/sessions/{session.id}/export"))
        assert on_their_way(home)
    assert tree(home.sessions) == sorted(
        [session.id, *[f"{session.id}/{name}" for name in tree(session.folder)]]
    )


def test_what_a_killed_server_left_is_removed_by_the_next(settings, home, session):
    left = home.sessions / f"{TRANSFER}0123" / "0123"
    left.mkdir(parents=True)
    (left / "bundle.otf.zip").write_bytes(b"half")
    (left.parent / "making.lock").touch()
    with serve(settings):
        assert not left.parent.exists()


def test_an_export_ends_with_the_server(settings, home, session, held):
    with serve(settings) as api:
        api.headers.update({"authorization": f"Bearer {settings.token}"})
        assert api.post(f"/api/sessions/{session.id}/export?wait=0").status_code == 202
    assert list(home.sessions.glob(".*")) == []


# Measurements


@pytest.mark.parametrize(("kind", "begin"), [("csv", b"run,name"), ("jsonl", b'{"run"')])
def test_measurements_are_fetched_as_a_file(api, session, kind, begin):
    job = done(api.post(f"/api/sessions/{session.id}/metrics/export?format={kind}&name=loss"))
    assert (job.kind, job.result.points, job.result.damage) == ("metrics", 23, "")
    fetched = api.get(f"/api/jobs/{job.id}/file")
    assert f'-{session.id}.{kind}"' in fetched.headers["content-disposition"]
    assert fetched.content.startswith(begin)
    assert len(fetched.content.splitlines()) == job.result.points + (kind == "csv")


def test_measurements_are_fetched_as_parquet(api, session):
    pytest.importorskip("pyarrow")
    job = done(api.post(f"/api/sessions/{session.id}/metrics/export?format=parquet&wide=true"))
    assert api.get(f"/api/jobs/{job.id}/file").content.startswith(b"PAR1")


def test_measurements_that_there_are_none_of_are_not_found(api, home, session):
    path = f"/api/sessions/{session.id}/metrics/export"
    assert "nothing" in refused(api.post(f"{path}?name=nothing"), 404)
    assert "it is one of csv, jsonl, parquet" in refused(api.post(f"{path}?format=xls"), 400)
    assert "it is true or false" in refused(api.post(f"{path}?wide=1"), 400)
    assert on_their_way(home) == []


# Taking a session in


def test_an_upload_becomes_the_session_that_was_exported(api, home, bundle, tmp_path):
    with viewer_of(api) as viewer:
        job = done(upload(api, bundle, "?name=run.otf.zip"))
        changed = viewer.get(SessionChanged)
    assert (job.kind, job.name) == ("import", "run.otf.zip")
    assert changed.session.id == job.result.session == job.result.original
    assert job.result.checkpoints == 6
    imported = contents(home.sessions / job.result.session)
    direct = import_bundle(Home(tmp_path / "direct"), bundle)
    assert imported == contents(tmp_path / "direct" / "sessions" / direct.session)
    origin = json.loads((home.sessions / job.result.session / "imported.json").read_bytes())
    assert origin["bundle"] == "run.otf.zip"
    assert on_their_way(home) == []


def test_a_session_that_is_there_is_refused_unless_as_new(api, home, bundle):
    first = done(upload(api, bundle)).result.session
    before = tree(home.sessions / first)
    message = refused(upload(api, bundle), 409)
    assert f"The session {first} is in this home already" in message
    second = done(upload(api, bundle, "?as_new=true")).result
    assert second.session != second.original == first
    assert tree(home.sessions / first) == before


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda text: b"", "cannot be read"),
        (lambda text: b"no bundle at all" * 100, "cannot be read"),
        (lambda text: text[: len(text) // 2], "cannot be read"),
        (lambda text: text.replace(b"weights of baseline at 0", b"Weights of baseline at 0"), ""),
    ],
    ids=["empty", "no zip", "cut short", "altered"],
)
def test_a_damaged_upload_is_refused_and_leaves_nothing(api, home, bundle, damage, why):
    home.ensure()
    message = refused(upload(api, damage(bundle.read_bytes()), "?name=C:%5Ctemp%5Crun.zip"), 422)
    assert message.startswith("run.zip is refused; nothing of it was imported. ")
    assert why in message
    assert str(home.path) not in message
    assert on_their_way(home) == []
    assert home.session_folders() == []


def test_a_bundle_of_a_newer_version_is_refused(api, bundle, tmp_path):
    members = members_of(bundle)
    members["manifest.json"] = members["manifest.json"].replace(b'"format": 1', b'"format": 99')
    message = refused(upload(api, pack(tmp_path / "newer", members)), 422)
    assert "format 99" in message


def test_a_member_that_would_leave_its_folder_is_refused(api, home, bundle, tmp_path):
    members = members_of(bundle)
    members["../outside"] = b"x"
    message = refused(upload(api, pack(tmp_path / "evil", sign(members))), 422)
    assert "would leave its folder" in message
    assert not (home.path / "outside").exists()


def test_what_there_is_no_room_for_is_refused_before_it_is_sent(api, home):
    read = []

    def body():
        for _ in range(1000):
            read.append(1)
            yield b"x" * 1000

    headers = {"content-length": str(10**18)}
    response = api.post("/api/sessions", content=body(), headers=headers)
    assert "are free" in refused(response, 413)
    assert len(read) < 1000
    assert on_their_way(home) == []


def test_an_upload_that_does_not_say_its_size_leaves_the_disk_room(tmp_path, monkeypatch):
    free = shutil.disk_usage(tmp_path).free
    monkeypatch.setattr(transfers, "_RESERVE", free - (8 << 20))

    async def endless():
        while True:
            yield bytes(1 << 20)

    with pytest.raises(TooLarge, match="No space left"):
        asyncio.run(transfers.receive(endless(), tmp_path / "bundle"))
    assert (tmp_path / "bundle").stat().st_size <= 9 << 20


def test_a_full_disk_is_told(api, home, bundle, monkeypatch):
    content = bundle.read_bytes()

    def full(self, *words):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.open", full)
    response = upload(api, content)
    monkeypatch.undo()
    assert "No space left on device" in refused(response, 413)
    assert on_their_way(home) == []


# Looking through, naming


def test_a_sound_session_is_verified(api, session):
    result = done(api.post(f"/api/sessions/{session.id}/verify")).result
    assert (result.ok, result.files, result.faults) == (True, 7, [])
    assert result.size > 0


def test_what_is_wrong_with_a_session_is_told(api, session):
    (session.folder / f"checkpoints/{RUN}-0-initial.pt").write_bytes(b"else")
    (session.folder / f"checkpoints/{RUN}-20-best.pt").unlink()
    result = done(api.post(f"/api/sessions/{session.id}/verify")).result
    assert not result.ok
    found = {fault.name: fault.problem for fault in result.faults}
    assert "4 bytes" in found[f"checkpoints/{RUN}-0-initial.pt"]
    assert "missing" in found[f"checkpoints/{RUN}-20-best.pt"]


def test_a_name_is_seen_by_everyone(api, session):
    with viewer_of(api) as viewer:
        renamed = api.put(f"/api/sessions/{session.id}/name", json={"name": "best so far"})
        assert (renamed.status_code, renamed.json()["name"]) == (200, "best so far")
        viewer.get(SessionChanged, lambda frame: frame.session.name == "best so far")
        assert display_name.read(session.folder) == "best so far"
        cleared = api.put(f"/api/sessions/{session.id}/name", json={"name": ""})
        assert cleared.json()["name"] == ""
        viewer.get(SessionChanged, lambda frame: frame.session.name == "")


def test_a_session_is_named_while_it_is_trained(api, make):
    store = make(started())
    with joined(api, store):
        assert api.put(f"/api/sessions/{store.id}/name", json={"name": "live"}).status_code == 200


@pytest.mark.parametrize(
    ("body", "status", "why"),
    [
        (b'{"name": "latest"}', 422, "'latest' is the newest session"),
        (b'{"name": "   "}', 422, "at least one letter"),
        (b'{"name": "a\\nb"}', 422, "cannot be shown"),
        (json.dumps({"name": "x" * 101}).encode(), 422, "101 characters"),
        (b"{}", 400, "no name"),
        (b"\xff", 400, "no name"),
        (b'"' + b"x" * 5000 + b'"', 413, "4096 bytes"),
    ],
)
def test_what_is_no_name_is_refused(api, session, body, status, why):
    message = refused(api.put(f"/api/sessions/{session.id}/name", content=body), status)
    assert why in message
    assert display_name.read(session.folder) == ""


def test_details_say_what_a_session_takes(api, session):
    found = api.get(f"/api/sessions/{session.id}/details").json()
    assert found["size"]["total"] == sum(
        path.stat().st_size for path in session.folder.rglob("*") if path.is_file()
    )
    assert len(found["checkpoints"]) == 6
    assert found["folder"] == str(session.folder)


# Deleting


def test_a_deleted_session_is_gone_for_everyone_and_says_what_is_free(api, home, session):
    size = sum(path.stat().st_size for path in session.folder.rglob("*") if path.is_file())
    with viewer_of(api) as viewer:
        viewer.get(SessionChanged)
        result = done(api.delete(f"/api/sessions/{session.id}")).result
        assert viewer.get(SessionGone).session == session.id
    # Whoever reads a database has an index of its log beside it, which goes as well.
    assert size <= result.freed <= size + 32768
    assert tree(home.sessions) == []
    refused(api.get(f"/api/sessions/{session.id}"), 404)


def test_a_deleted_session_comes_back_by_an_import(api, session):
    _, fetched = export(api, session)
    done(api.delete(f"/api/sessions/{session.id}"))
    assert done(upload(api, fetched.content)).result.session == session.id
    assert api.get(f"/api/sessions/{session.id}").status_code == 200


def test_a_session_that_is_trained_is_not_deleted(api, make):
    store = make(started())
    lock = AliveLock(store.folder)
    assert lock.acquire()
    try:
        message = refused(api.delete(f"/api/sessions/{store.id}"), 409)
    finally:
        lock.release()
    assert "is being trained right now" in message
    assert (store.folder / DATABASE).exists()


@pytest.mark.parametrize("name", ["latest", "20", "nothing"])
def test_only_a_whole_id_is_deleted(api, session, name):
    refused(api.delete(f"/api/sessions/{name}"), 404)
    assert session.folder.exists()


def test_a_session_that_is_being_exported_is_not_deleted(api, session, held):
    job = api.post(f"/api/sessions/{session.id}/export?wait=0").json()["id"]
    assert "'export' is at work on it" in refused(api.delete(f"/api/sessions/{session.id}"), 409)
    held.set()
    done(api.get(f"/api/jobs/{job}"))
    done(api.delete(f"/api/sessions/{session.id}"))


def test_a_deletion_is_not_broken_off(api, home, monkeypatch):
    store, go_on = tiny(home), threading.Event()
    real = work.deletion.delete_session

    def delete_session(*words):
        real(*words)
        go_on.wait(SECONDS)

    monkeypatch.setattr(work.deletion, "delete_session", delete_session)
    job = api.delete(f"/api/sessions/{store.id}?wait=0").json()["id"]
    wait_for(lambda: not store.folder.exists(), "the deletion", SECONDS)
    assert "cannot be broken off" in refused(api.delete(f"/api/jobs/{job}"), 409)
    go_on.set()
    done(api.get(f"/api/jobs/{job}"))


def test_a_damaged_session_can_be_deleted(api, home):
    store = tiny(home)
    (store.folder / DATABASE).write_bytes(b"no database" * 1000)
    assert done(api.delete(f"/api/sessions/{store.id}")).name == store.id


# Jobs


def test_a_fault_of_our_own_is_told_and_logged(api, session, monkeypatch, caplog):
    def broken(*words, **options):
        raise ZeroDivisionError("by design")

    monkeypatch.setattr(work, "verify_session", broken)
    message = refused(api.post(f"/api/sessions/{session.id}/verify"), 500)
    assert "ZeroDivisionError: by design" in message
    assert any(record.exc_info for record in caplog.records)
    (job,) = api.get("/api/jobs").json()
    assert (job["state"], job["error"]) == ("failed", message)


def test_ended_jobs_are_forgotten_in_the_end(api, session, monkeypatch):
    monkeypatch.setattr("otf_serve.jobs._MOST_ENDED", 3)
    jobs = [done(api.post(f"/api/sessions/{session.id}/verify")).id for _ in range(6)]
    assert [each["id"] for each in api.get("/api/jobs").json()] == jobs[-3:]


def test_waiting_for_a_job_ends_with_it(api, session, held):
    job = api.post(f"/api/sessions/{session.id}/export?wait=0").json()["id"]
    waiting = InThread(api.get, f"/api/jobs/{job}?wait=60")
    held.set()
    done(waiting.result())


def test_without_the_token_nothing_is_done(client, session):
    client.headers.pop("authorization", None)
    for method, path in [
        ("DELETE", f"/api/sessions/{session.id}"),
        ("POST", "/api/sessions"),
        ("POST", f"/api/sessions/{session.id}/export"),
        ("GET", "/api/jobs"),
    ]:
        assert client.request(method, path).status_code == 401
    assert zipfile.is_zipfile(bundle_of(session, session.folder))
