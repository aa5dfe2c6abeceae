import zipfile

import pytest
from otf_session.bundles.importer import import_bundle
from otf_session.bundles.verifier import verify
from otf_session.errors import Cancelled, NotVerified, SessionNotFound
from otf_session.events import CheckpointRemoved
from otf_session.home import DATABASE, Home
from otf_session.store import SessionStore

from ..helpers.bundles import (
    bundle_of,
    contents,
    lineage,
    members_of,
    pack,
    saved,
    sign,
    tree,
    with_record,
)
from ..helpers.sessions import RUN, make_session, started

_FINAL = "checkpoints/fork1-30-final.pt"


@pytest.fixture
def session(home):
    return lineage(home)


@pytest.fixture
def bundle(session, tmp_path):
    return bundle_of(session, tmp_path)


def problems(home, target):
    """What is wrong, by file; under '' what no file has alone."""
    found = verify(home, str(target))
    wrong = {each.name: each.problem for each in found.members if each.problem}
    if found.problem:
        wrong[""] = found.problem
    assert found.ok is not bool(wrong)
    return wrong


def test_a_sound_bundle_is_sound(home, session, bundle, tmp_path):
    before = tree(tmp_path)
    found = verify(home, str(bundle))
    assert (found.ok, found.kind, found.session, found.problem) == (True, "bundle", session.id, "")
    sizes = {name: len(content) for name, content in members_of(bundle).items()}
    sizes.pop("manifest.json")
    assert {each.name: each.size for each in found.members} == sizes
    assert tree(tmp_path) == before


def test_every_damaged_member_is_named(home, bundle):
    members = members_of(bundle)
    members[_FINAL] = members[_FINAL][::-1]
    members[DATABASE] = members[DATABASE][:-1] + b"\1"
    pack(bundle, members)
    wrong = problems(home, bundle)
    assert list(wrong) == [_FINAL, DATABASE]
    assert all("SHA-256" in problem for problem in wrong.values())


@pytest.mark.parametrize(
    ("statement", "why"),
    [
        ("UPDATE run SET state = 'x'", "unknown state"),
        ("CREATE VIEW v AS SELECT 1", "view 'v'"),
        ("UPDATE event SET body = replace(body, 'fork1-30-final', 'other')", "checkpoint"),
        ("PRAGMA user_version = 99", "schema 99"),
    ],
)
def test_a_record_that_would_not_be_imported_is_a_problem(home, bundle, statement, why):
    assert why in problems(home, with_record(bundle, statement))[""]


def test_what_would_not_be_opened_is_a_problem(home, bundle):
    whole = bundle.read_bytes()
    bundle.write_bytes(whole[:-10])
    assert "copy it again" in problems(home, bundle)[""]
    with zipfile.ZipFile(bundle, "w") as archive:
        archive.writestr("../evil", "x")
    assert "leave its folder" in problems(home, bundle)[""]


def test_a_sound_session_is_sound(home, session):
    before = contents(session.folder)
    found = verify(home, "latest")
    assert (found.ok, found.kind, found.session) == (True, "session", session.id)
    assert found.members[0].name == DATABASE
    assert len(found.members) == 7
    assert contents(session.folder) == before


def test_a_session_s_damaged_and_missing_files_are_named(home, session):
    altered = session.folder / _FINAL
    altered.write_bytes(altered.read_bytes()[::-1])
    (session.folder / "checkpoints/other-5-final.pt").write_bytes(b"short")
    (session.folder / f"checkpoints/{RUN}-20-best.pt").unlink()
    wrong = problems(home, session.id)
    assert "SHA-256" in wrong.pop(_FINAL)
    assert "5 bytes" in wrong.pop("checkpoints/other-5-final.pt")
    assert "missing" in wrong.pop(f"checkpoints/{RUN}-20-best.pt")
    assert wrong == {}


def test_a_damaged_record_is_a_problem_and_no_end(home, session):
    path = session.folder / DATABASE
    data = bytearray(path.read_bytes())
    data[4096:8192] = bytes(4096)
    path.write_bytes(bytes(data))
    assert list(problems(home, session.id)) == [DATABASE]


def test_a_row_that_is_not_what_we_write_is_a_problem(home, session):
    store = SessionStore(session.folder)
    store._database.execute_sql("UPDATE metric_batch SET steps = '[1]' WHERE run = 'baseline'")
    store.close()
    assert "one time for each step" in problems(home, session.id)[DATABASE]


def test_a_damaged_final_model_of_an_imported_session_is_named(home, session, bundle, tmp_path):
    import json

    members = members_of(bundle)
    manifest = json.loads(members["manifest.json"])
    manifest["members"].append({"name": "final_models/m.pt", "size": 0, "sha256": "", "run": RUN})
    members.update({"manifest.json": json.dumps(manifest).encode(), "final_models/m.pt": b"model"})
    elsewhere = Home(tmp_path / "elsewhere")
    made = import_bundle(elsewhere, pack(bundle, sign(members)))
    assert problems(elsewhere, made.session) == {}
    (elsewhere.sessions / made.session / "final_models/m.pt").write_bytes(b"MODEL")
    assert list(problems(elsewhere, made.session)) == ["final_models/m.pt"]


def test_a_checkpoint_that_its_trainer_deletes_meanwhile_is_no_problem(home):
    store = make_session(home, started())
    # More than are held open at once.
    store.append([saved(store, step, "periodic") for step in range(250)])

    def report(done, total):
        last = store.folder / f"checkpoints/{RUN}-249-periodic.pt"
        if last.exists():
            event = CheckpointRemoved(time=2e9, run=RUN, id=f"{RUN}@249-periodic", reason="old")
            store.append([event])
            last.unlink()

    found = verify(home, store.id, report=report)
    store.close()
    assert found.ok
    assert len(found.members) == 250


def test_nothing_is_left_where_it_is_cancelled(home, session, bundle, tmp_path):
    before = tree(tmp_path)
    for target in (session.id, str(bundle)):
        with pytest.raises(Cancelled):
            verify(home, target, is_cancelled=lambda: True)
    assert tree(tmp_path) == before


def test_what_is_not_there_is_an_error(home, session, tmp_path):
    with pytest.raises(NotVerified, match="No such file"):
        verify(home, str(tmp_path / "missing.otf.zip"))
    with pytest.raises(SessionNotFound):
        verify(home, "zzzz")
