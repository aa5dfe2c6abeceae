"""`otf resume`: which checkpoint is meant, and how training goes on from it. No training here."""

import json

import pytest
from otf_session import resume_cli
from otf_session.bundles import provenance
from otf_session.bundles.manifest import Manifest, SessionEntry
from otf_session.errors import NothingToResume
from otf_session.events import CheckpointRemoved, ProcessStarted, RunState
from otf_session.home import Home
from otf_session.liveness import AliveLock
from otf_session.resume import (
    RESUME_VARIABLE,
    How,
    ResumeOrder,
    find_order,
    parse_target,
    recorded_command,
    take_order,
)

from ..helpers.confined import read_only, without_overrides
from ..helpers.sessions import BEGIN, RUN, checkpoint, make_session, started, state
from ..helpers.shell import invoke


def process(time=BEGIN):
    return ProcessStarted(
        time=time, pid=1, host="h", argv=["train.py", "--epochs", "3"], python="3", versions={}
    )


@pytest.fixture
def store(home):
    """A session whose run was cut off: checkpoints at steps 0, 10 and 20, all of this home."""
    made = make_session(home, process(), started())
    made.append(
        [
            checkpoint(made, "initial", step=0, pinned=True),
            checkpoint(made, "periodic", step=10),
            state(RunState.RUNNING, step=25),
        ]
    )
    made.append([checkpoint(made, "late", step=20)])
    made.close()
    return made


def order(target="latest", how=None):
    return find_order(Home.find(), parse_target(target), how)


def append(store, *events):
    store.append(events)
    store.close()


# Which checkpoint


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("latest", ("latest", None, None)),
        ("k7fq:base", ("k7fq", "base", None)),
        ("k7fq:base@12", ("k7fq", "base", "12")),
        ("k7fq:a@b@best", ("k7fq", "a@b", "best")),
        ("k7fq:", ("k7fq", None, None)),
    ],
)
def test_a_target_is_taken_apart(text, target):
    assert parse_target(text) == target


@pytest.mark.parametrize(
    ("target", "step"),
    [
        ("latest", 20),
        (f"latest:{RUN}", 20),
        (f"latest:{RUN}@10", 10),
        (f"latest:{RUN}@periodic", 10),
        (f"latest:{RUN}@10-periodic", 10),
        (f"latest:{RUN}@0", 0),
    ],
)
def test_a_checkpoint_is_named_by_step_by_label_or_by_its_id(store, target, step):
    found = order(target)
    assert (found.folder, found.run, found.step) == (str(store.folder), RUN, step)


def test_without_a_run_it_is_the_one_that_moved_last(store):
    append(store, started("fork1", parents=[RUN], time=BEGIN + 100))
    append(store, checkpoint(store, "initial-fork", run="fork1", step=10))
    assert order().run == "fork1"


def test_what_is_not_there_is_said_with_what_is(store):
    with pytest.raises(NothingToResume, match=rf"no run 'x'. It has: {RUN}\."):
        order("latest:x")
    with pytest.raises(NothingToResume, match=r"@0 \(initial\), @10 \(periodic\), @20 \(late\)"):
        order(f"latest:{RUN}@11")
    append(store, CheckpointRemoved(time=BEGIN, run=RUN, id=f"{RUN}@20-late", reason="r"))
    with pytest.raises(NothingToResume, match="no checkpoint at 20"):
        order(f"latest:{RUN}@20")


def test_a_checkpoint_whose_file_is_missing_is_said_where_it_was_named(store):
    path = store.folder / "checkpoints" / "late.pt"
    path.unlink()
    with pytest.raises(NothingToResume, match=r"file is missing.*has: @0 \(initial\), @10"):
        order(f"latest:{RUN}@20")
    # Where none was named it is the newest that is there.
    assert order().step == 10


def test_a_live_session_is_steered_and_not_resumed(store):
    lock = AliveLock(store.folder)
    assert lock.acquire()
    try:
        with pytest.raises(NothingToResume, match="otf ctl"):
            order()
    finally:
        lock.release()


# How


def imported(store, time):
    entry = SessionEntry(id=store.id, project="p", created=0.0, last_seq=1, schema=2)
    manifest = Manifest(format=1, created=0.0, session=entry, runs=[], members=[])
    found = provenance.Provenance(time=time, bundle="b.otf.zip", manifest=manifest)
    provenance.write(store.folder, found)


def test_a_run_that_was_cut_off_goes_on_as_itself_from_its_newest_checkpoint(store):
    assert order().how is How.SAME_RUN
    assert order(f"latest:{RUN}@20").how is How.SAME_RUN


@pytest.mark.parametrize("end", [RunState.FAILED, RunState.STOPPED])
def test_so_does_one_that_failed_or_was_stopped(store, end):
    append(store, state(end, step=25))
    assert order().how is How.SAME_RUN


def test_an_earlier_checkpoint_begins_a_new_run(store):
    assert order(f"latest:{RUN}@10").how is How.NEW_RUN
    assert order(f"latest:{RUN}@initial").how is How.NEW_RUN


def test_so_does_one_whose_newer_ones_are_missing(store):
    (store.folder / "checkpoints" / "late.pt").unlink()
    assert order().how is How.NEW_RUN


def test_what_comes_after_an_end_is_a_new_run(store):
    append(store, state(RunState.FINISHED, step=25))
    assert order().how is How.NEW_RUN
    append(store, state(RunState.STOPPED, step=25), checkpoint(store, "final", step=25))
    assert order().how is How.NEW_RUN


def test_in_a_session_from_elsewhere_it_is_a_new_run_until_one_began_here(store):
    imported(store, BEGIN + 500)
    assert order().how is How.NEW_RUN
    here = BEGIN + 1000
    append(store, process(here), started("baseline-2", parents=[RUN], time=here + 1))
    append(store, checkpoint(store, "mine", run="baseline-2", step=30))
    assert (order().run, order().how) == ("baseline-2", How.SAME_RUN)
    assert order(f"latest:{RUN}").how is How.NEW_RUN


def test_a_run_that_no_process_is_known_of_came_from_elsewhere(home):
    store = make_session(home, started())
    append(store, checkpoint(store, "periodic"))
    assert order().how is How.NEW_RUN


@pytest.mark.parametrize("how", list(How))
def test_what_a_person_wishes_is_done(store, how):
    assert order(how=how).how is how


def test_an_order_reaches_the_script_once(store, monkeypatch):
    found = order()
    monkeypatch.setenv(RESUME_VARIABLE, found.environment()[RESUME_VARIABLE])
    assert take_order() == found
    assert take_order() is None


@pytest.mark.parametrize("text", ["{", "{}", '{"how": "sideways"}'])
def test_an_order_that_nobody_wrote_is_said(monkeypatch, text):
    monkeypatch.setenv(RESUME_VARIABLE, text)
    with pytest.raises(NothingToResume, match="otf resume SESSION"):
        take_order()


# The command


@pytest.fixture
def resumed(monkeypatch):
    """Run `otf resume`; the order that the script gets, and the result."""

    def resumed(*words):
        started = []
        monkeypatch.setattr(resume_cli, "_run", lambda command, env: started.append((command, env)))
        result = invoke(resume_cli.app, *words)
        if not started:
            return None, result
        ((command, environment),) = started
        found = json.loads(environment[RESUME_VARIABLE])
        return (command, found), result

    return resumed


@pytest.mark.parametrize(
    ("words", "how"),
    [
        (["latest", "--"], "same-run"),
        (["latest"], "same-run"),
        (["--as-new-run", "latest", "--"], "new-run"),
        (["--weights-only", "latest", "--"], "weights-only"),
        (["--replay", "latest"], "replay"),
        # Behind the target too.
        (["latest", "--weights-only", "--"], "weights-only"),
        (["latest", "--weights-only"], "weights-only"),
        (["latest", "--as-new-run", "--"], "new-run"),
    ],
)
def test_options_say_how(store, resumed, words, how):
    (command, found), result = resumed(*words, "python", "train.py", "--replay", "--", "x")
    assert command == ["python", "train.py", "--replay", "--", "x"]
    assert found["how"] == how
    assert f"{RUN}@20-late" in result.stderr
    assert result.exit_code == 0


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["latest"], "It was started as: train.py --epochs 3"),
        (["latest", "--"], "say how to start the script"),
        (["latest", "--weights-only"], "say how to start the script"),
        (["latest", "--sideways", "--", "python"], "Put it before"),
        (["latest", "--home", "h", "--", "python"], "Put it before"),
        (["latest", "--sideways", "python"], "Put it before"),
        (["--replay", "--weights-only", "latest", "--", "python"], "exclude each other"),
        (["--replay", "latest", "--as-new-run", "--", "python"], "exclude each other"),
        (["--sideways", "latest", "--", "python"], ""),
    ],
)
def test_what_was_typed_wrongly_is_said(store, resumed, words, why):
    started, result = resumed(*words)
    assert started is None
    assert result.exit_code == 2
    assert why in result.stderr


def test_a_script_that_cannot_be_started_is_said(store):
    result = invoke(resume_cli.app, "latest", "--", "/no/such/program")
    assert result.exit_code == 127
    assert "cannot be started" in result.stderr


def test_what_a_record_says_does_nothing_to_the_terminal(home, resumed):
    event = ProcessStarted(
        time=BEGIN, pid=1, host="h", argv=["\x1b]0;evil\x07.py"], python="3", versions={}
    )
    store = make_session(home, event, started())
    append(store, checkpoint(store, "periodic"))
    assert recorded_command(store.folder) == ["\x1b]0;evil\x07.py"]
    _, result = resumed("latest")
    assert "\x1b" not in result.stderr


def test_a_session_that_cannot_be_written_is_not_resumed(home, store):
    with read_only(home.path):
        (result,) = without_overrides(["resume_cli", "latest", "--", "true"])
    assert result.exit_code == 1
    assert "cannot be written by this user" in result.stderr


def test_an_order_is_a_document_of_its_own():
    order = ResumeOrder(folder="f", run="r", checkpoint="c", step=1, how=How.REPLAY)
    assert json.loads(order.environment()[RESUME_VARIABLE]) == {
        "folder": "f",
        "run": "r",
        "checkpoint": "c",
        "step": 1,
        "how": "replay",
    }
