"""What `otf ctl` shows: results, and the state, the commands and the checkpoints of a session."""

import contextlib
import json
import re

import pytest
from otf_serve import ctl_text
from otf_serve.ctl_cli import app
from otf_session import results
from otf_session.commands import (
    Applied,
    CommandRequest,
    LoadCheckpoint,
    Note,
    Pause,
    Refused,
    RunFor,
    SetHyperparameters,
)
from otf_session.events import (
    CheckpointRemoved,
    CheckpointSaved,
    CommandStatus,
    DeterminismAssessed,
    EpochStarted,
    Hyperparameter,
    HyperparametersDeclared,
    LimitsChanged,
    RunState,
)
from otf_session.frames import CommandProgress, CommandReply
from otf_session.liveness import AliveLock

from ..helpers.sessions import BEGIN, RUN, losses, make_session, metrics, started, state
from ..helpers.shell import invoke
from .peers import changed
from .processes import LiveTrainer


def answer(result=None, message="Done."):
    outcome = Applied(step=120, message=message, result=result)
    return ctl_text.answered(CommandReply(id="1", session="s", outcome=outcome))


# Results


def test_a_checkpoint_is_shown_with_its_size_and_hash():
    written = results.CheckpointWritten(
        id="baseline@120", path="checkpoints/baseline-120.pt", size=3_500_000, sha256="9f86"
    )
    assert answer(written) == [
        "Done.",
        "  baseline@120  3.3 MiB  checkpoints/baseline-120.pt",
        "  sha256 9f86",
    ]


def test_an_evaluation_is_a_table():
    found = results.Evaluation(
        split="test", samples=360, values={"test_loss": 0.25, "test_accuracy": None}
    )
    assert answer(found) == [
        "Done.",
        "  metric               test",
        "  test_loss            0.25",
        "  test_accuracy  not finite",
    ]


def test_changes_show_what_was_asked_for_and_what_is():
    found = results.HyperparametersSet(
        changes=[
            results.HyperparameterChange(
                name="lr", group=0, before=0.1, requested=0.05, applied=0.049999
            ),
            results.HyperparameterChange(name="mixup", before=False, requested=True, applied=True),
        ],
        lr_rule="Held by hand at 0.05.",
    )
    assert answer(found) == [
        "Done.",
        "  name   group  before  requested   applied",
        "  lr     0         0.1       0.05  0.049999",
        "  mixup          false       true      true",
        "Held by hand at 0.05.",
    ]


@pytest.mark.parametrize(
    ("limits", "line"),
    [
        ({}, "  no end is set"),
        ({"max_epochs": 3}, "  ends after epoch 3"),
        (
            {"max_epochs": 3, "max_steps": 900, "pause_at_step": 150},
            "  ends after epoch 3 or at step 900; pauses at step 150",
        ),
        ({"pause_after_epoch": 2}, "  no end is set; pauses after epoch 2"),
    ],
)
def test_limits_are_a_line(limits, line):
    assert answer(results.LimitsSet(**limits)) == ["Done.", line]


def test_released_memory_is_a_line():
    found = results.Released(device="cuda:0", moved=1_610_612_736, freed=2_147_483_648)
    assert answer(found)[1:] == ["  1.5 GiB moved to host memory; cuda:0 has 2.0 GiB more."]


def test_a_rewinding_says_what_was_not_exact():
    exact = results.Rewinding(run=RUN, step=5, checkpoint="c")
    assert answer(exact) == ["Done."]
    found = results.Rewinding(
        run=RUN, step=5, checkpoint="c", exact=False, findings=["The dataset cannot be replayed."]
    )
    assert answer(found)[1:] == ["  Not exact:", "  - The dataset cannot be replayed."]


def test_a_proof_says_whether_every_bit_was_the_same():
    assert answer(results.Proof(steps=10, exact=True))[1:] == [
        "  10 steps trained twice: every bit is the same."
    ]
    found = results.Proof(
        steps=10, exact=False, step=3, difference="the sampler's order", hint="Seed it."
    )
    assert answer(found)[1:] == [
        "  The first difference, at step 3: the sampler's order",
        "  Seed it.",
    ]


def test_every_kind_of_result_is_shown():
    shown = {name for name in dir(results) if f"results.{name})" in _text()}
    kinds = {kind.__name__ for kind in results.Result.__args__}
    assert kinds <= shown


def _text():
    from pathlib import Path

    return Path(ctl_text.__file__).read_text()


@pytest.mark.parametrize(
    ("size", "said"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (5 * 1024**3, "5.0 GiB"),
        (3 * 1024**5, "3072.0 TiB"),
    ],
)
def test_sizes_are_said_in_their_units(size, said):
    assert ctl_text.size(size) == said


def test_progress_is_said_in_a_few_words():
    def pending(**values):
        return ctl_text.Pending(id="1", session="s", **values)

    def going(total):
        return CommandProgress(session="s", id="1", done=12, total=total, unit="steps")

    assert ctl_text.progress(pending(status="queued")) == "queued"
    assert ctl_text.progress(pending(status="received")) == "received"
    assert ctl_text.progress(pending(status="received", progress=going(40))) == "12 of 40 steps"
    assert ctl_text.progress(pending(status="received", progress=going(0))) == "12 steps"
    said = ctl_text.waiting(pending(status="received", progress=going(40)))
    assert "is with the trainer (12 of 40 steps)" in said


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (Pause(), "pause"),
        (Pause(release=True), "pause release=true"),
        (RunFor(steps=5), "run-for steps=5"),
        (LoadCheckpoint(checkpoint="best"), "load-checkpoint checkpoint=best"),
        (
            SetHyperparameters(values={"lr": 0.05, "mixup": True}, group=0, hold=False),
            "set-hyperparameters lr=0.05 mixup=true group=0 hold=false",
        ),
        (Note(text="two\nlines"), "note text=two lines"),
    ],
)
def test_a_command_is_said_on_one_line(command, said):
    assert ctl_text.words(command) == said


# Reading


@pytest.fixture
def served(start, port, home):
    """What is typed at a server of this home."""
    start("--json", "--port", port).ready()

    def ctl(*words):
        result = invoke(app, *words, "--port", port)
        assert (result.exit_code, result.stderr) == (0, "")
        return result.stdout

    return ctl


def saved(step, **values):
    return CheckpointSaved(
        time=BEGIN,
        run=RUN,
        step=step,
        label="periodic",
        epoch=1,
        path=f"checkpoints/{step}.pt",
        size=2048,
        sha256="",
        id=f"{RUN}@{step}",
        **values,
    )


STEERED = [
    started(),
    EpochStarted(time=BEGIN, run=RUN, epoch=2, step=0),
    losses(1, 20),
    metrics([20], accuracy=[None]),
    HyperparametersDeclared(
        time=BEGIN,
        run=RUN,
        step=20,
        values=[
            Hyperparameter(name="lr", value=0.05, group=0, low=0.0),
            Hyperparameter(name="mixup", value=True),
        ],
        lr_owner="held",
        lr_rule="Held by hand at 0.05.",
    ),
    LimitsChanged(time=BEGIN, run=RUN, step=20, max_epochs=3, pause_at_step=150),
    DeterminismAssessed(
        time=BEGIN, run=RUN, exact=False, findings=["The dataset cannot be replayed."]
    ),
    saved(10),
    saved(15, pinned=True),
    saved(20),
    CheckpointRemoved(time=BEGIN, run=RUN, id=f"{RUN}@10", reason="newer ones"),
    state(RunState.PAUSED, step=20, reason="asked for"),
]


def test_the_status_is_what_the_session_is_doing(served, home, port):
    store = make_session(home, *STEERED)
    with LiveTrainer(home, port, store):
        lines = served("status").splitlines()
        document = json.loads(served("status", "--json"))
    assert lines == [
        f"Session      {store.id}  (digits)",
        "State        paused (asked for)",
        "Trainer      connected",
        "Run          baseline",
        "Step         20, in epoch 2",
        "Latest       accuracy not finite  loss 0.05",
        "Limits       ends after epoch 3; pauses at step 150",
        "Going back   not exact",
        "             - The dataset cannot be replayed.",
        "Rate rule    Held by hand at 0.05.",
        "",
        "  hyperparameter  group  value  lowest  highest",
        "  lr              0       0.05       0",
        "  mixup                   true",
    ]
    assert (document["session"]["id"], document["session"]["connected"]) == (store.id, True)
    assert (document["run"]["name"], document["run"]["step"]) == (RUN, 20)
    assert document["limits"]["pause_at_step"] == 150
    assert document["hyperparameters"]["lr_owner"] == "held"
    assert document["determinism"]["exact"] is False
    store.close()


def test_the_status_of_a_session_that_is_gone(served, home):
    store = make_session(home, started(), state(RunState.RUNNING, step=9))
    text = served("status")
    assert "State        lost\n" in text
    assert "Trainer      not connected to this server\n" in text
    store.close()
    make_session(home).close()
    empty = served("status", "--session", "latest")
    assert "Run " not in empty or "Step " in empty


def test_the_status_is_that_of_the_run_that_moved_last(served, home):
    store = make_session(
        home,
        started("baseline"),
        state(RunState.STOPPED, run="baseline", step=30),
        started("fork1", parents=["baseline"], time=BEGIN + 31),
        LimitsChanged(time=BEGIN, run="baseline", step=1, max_steps=10),
        LimitsChanged(time=BEGIN, run="fork1", step=1, max_steps=70),
    )
    text = served("status")
    assert "Run          fork1, from baseline\n" in text
    assert "ends at step 70" in text
    store.close()


def test_commands_are_listed_once_with_what_became_of_them(served, home):
    def request(number, command):
        return CommandRequest(id=str(number), author="Ada", command=command)

    pause, lower = request(1, Pause()), request(2, SetHyperparameters(values={"lr": 0.1}))
    store = make_session(
        home,
        started(),
        changed(pause, CommandStatus.RECEIVED),
        changed(pause, CommandStatus.APPLIED, Applied(step=1, message="Paused\nat step 1.")),
        changed(lower, CommandStatus.RECEIVED),
        changed(request(3, Pause()), CommandStatus.REFUSED, Refused(reason="No.")),
    )
    head, *rows = served("list").splitlines()
    assert head.split() == ["time", "step", "command", "author", "status", "outcome"]
    assert [re.split(r"\s{2,}", row.strip())[1:] for row in rows] == [
        ["1", "pause", "Ada", "applied", "Paused at step 1."],
        # Nobody trains here: its process was killed.
        ["1", "set-hyperparameters lr=0.1", "Ada", "received", "not answered: the process ended"],
        ["1", "pause", "Ada", "refused", "No."],
    ]
    document = json.loads(served("list", "--json"))
    assert [(each["id"], each["status"]) for each in document] == [
        ("1", "received"),
        ("1", "applied"),
        ("2", "received"),
        ("3", "refused"),
    ]
    store.close()


def test_a_command_that_is_under_way_may_still_be_answered(served, home, port):
    request = CommandRequest(id="1", author="Ada", command=Pause())
    events = [started(), changed(request, CommandStatus.RECEIVED)]
    with contextlib.closing(make_session(home, *events)) as store:
        alive = AliveLock(store.folder)
        assert alive.acquire()
        assert served("list").splitlines()[1].endswith("received")
        alive.release()
        assert served("list").splitlines()[1].endswith("not answered: the process ended")
        with LiveTrainer(home, port, store):
            assert served("list").splitlines()[1].endswith("received")


def test_an_outcome_without_words_is_no_missing_one():
    request = CommandRequest(id="1", author="Ada", command=Pause())
    event = changed(request, CommandStatus.APPLIED, Applied(step=1))
    assert ctl_text.commands([event], is_lost=True)[1].endswith("applied")


def test_checkpoints_are_those_that_are_kept(served, home):
    store = make_session(home, *STEERED)
    # One that somebody has taken away is none that is kept.
    assert served("checkpoints") == "No checkpoint is kept yet.\n"
    store.checkpoints.mkdir(exist_ok=True)
    for step in (15, 20):
        (store.checkpoints / f"{step}.pt").touch()
    head, *rows = served("checkpoints").splitlines()
    assert head.split() == ["checkpoint", "run", "step", "epoch", "label", "size", "written"]
    assert [row.split()[:5] for row in rows] == [
        ["baseline@15", "baseline", "15", "1", "periodic"],
        ["baseline@20", "baseline", "20", "1", "periodic"],
    ]
    assert [("pinned" in row, "2.0 KiB" in row) for row in rows] == [(True, True), (False, True)]
    document = json.loads(served("checkpoints", "--json"))
    assert [(each["id"], each["pinned"]) for each in document] == [
        (f"{RUN}@15", True),
        (f"{RUN}@20", False),
    ]
    store.close()


def test_nothing_to_list_is_said(served, home):
    make_session(home, started()).close()
    assert served("list") == "No command has been received yet.\n"
    assert served("checkpoints") == "No checkpoint is kept yet.\n"
    assert json.loads(served("list", "--json")) == []
    assert json.loads(served("checkpoints", "--json")) == []
