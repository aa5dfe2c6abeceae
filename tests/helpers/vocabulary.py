"""One message of every kind, with fixed values, and the golden files that hold them.

`python -m tests.helpers.vocabulary` writes `tests/fixtures/golden/`, which the tests of the
dashboard read too.
"""

import json
from pathlib import Path
from typing import Any, Dict, List

import msgspec
from otf_session import events, frames
from otf_session.commands import (
    Applied,
    CommandRequest,
    Pause,
    Refused,
    Resume,
    SetHyperparameters,
    Stop,
)
from otf_session.health import HealthFinding, HealthReport, Severity
from otf_session.results import HyperparameterChange, HyperparametersSet
from otf_session.summaries import RunSummary, SessionState, SessionSummary

GOLDEN = Path(__file__).parents[1] / "fixtures" / "golden"

_SESSION = "20261124-093000-k7fq"
_TIME = 1_795_512_600.25

EVENTS: List[events.AnyEvent] = [
    events.ProcessStarted(
        time=_TIME,
        pid=4711,
        host="workstation",
        argv=["train.py", "--epochs", "3"],
        python="3.11.7",
        versions={"otf-hooks": "0.2.0", "torch": "2.13.0"},
    ),
    events.RunStarted(time=_TIME, run="fork1", parents=["baseline"]),
    events.StateChanged(
        time=_TIME, run="baseline", state=events.RunState.PAUSED, step=120, reason="asked for"
    ),
    events.EpochStarted(time=_TIME, run="baseline", epoch=2, step=100),
    events.Metrics(
        run="baseline",
        steps=[101, 102, 103],
        times=[_TIME, _TIME + 0.125, _TIME + 0.25],
        values={"loss": [0.75, None, 0.5], "accuracy": [0.5, 0.625, 0.75]},
    ),
    events.LogLine(
        time=_TIME,
        run="baseline",
        step=102,
        level=30,
        logger="train",
        text='The loss is "not finite" at step 102 \u2014 \u65e5\u672c\u8a9e \U0001f525\n\ttwice',
    ),
    events.CheckpointSaved(
        time=_TIME,
        run="baseline",
        step=120,
        label="stop",
        path="checkpoints/baseline-120.pt",
        size=1_048_576,
        sha256="9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    ),
    events.EvaluationFinished(
        time=_TIME,
        run="baseline",
        step=120,
        split="validation",
        samples=360,
        values={"val_loss": 0.25, "val_accuracy": 0.9375, "val_margin": None},
    ),
    events.CommandChanged(
        time=_TIME,
        run="baseline",
        step=120,
        id="c0ffee",
        author="dashboard",
        command=Pause(),
        status=events.CommandStatus.APPLIED,
        outcome=Applied(step=120, message="Paused."),
    ),
    events.CommandChanged(
        time=_TIME,
        run="baseline",
        step=120,
        id="facade",
        author="otf ctl",
        command=SetHyperparameters(values={"lr": 0.05}, hold=True),
        status=events.CommandStatus.APPLIED,
        outcome=Applied(
            step=120,
            message="lr is 0.05.",
            result=HyperparametersSet(
                changes=[
                    HyperparameterChange(
                        name="lr", group=0, before=0.1, requested=0.05, applied=0.05
                    )
                ],
                lr_rule="Held by hand at 0.05.",
            ),
        ),
        phase="train",
    ),
    events.Rewound(
        time=_TIME,
        run="baseline",
        step=100,
        epoch=1,
        left_step=120,
        checkpoint="baseline@100",
        reason="asked for",
        exact=False,
        findings=["The dataset cannot be replayed."],
    ),
    events.CheckpointRemoved(
        time=_TIME, run="baseline", id="baseline@50", reason="ten newer ones are kept"
    ),
    events.CheckpointFailed(
        time=_TIME, run="baseline", step=120, label="periodic", reason="The disk is full."
    ),
    events.HyperparametersDeclared(
        time=_TIME,
        run="baseline",
        step=120,
        values=[
            events.Hyperparameter(name="lr", value=0.05, group=0, low=0.0),
            events.Hyperparameter(name="mixup", value=True),
        ],
        lr_owner="held",
        lr_rule="Held by hand at 0.05.",
        lr_factors=[1.0],
    ),
    events.LimitsChanged(
        time=_TIME,
        run="baseline",
        step=120,
        max_epochs=3,
        pause_at_step=150,
        steps_per_epoch=60,
    ),
    events.NoteAdded(
        time=_TIME, run="baseline", step=110, author="dashboard", text="Here it turned."
    ),
    events.DeterminismAssessed(
        time=_TIME, run="baseline", exact=False, findings=["The dataset cannot be replayed."]
    ),
    events.GuardTripped(
        time=_TIME,
        run="baseline",
        step=118,
        guard="non-finite",
        action="pause",
        message="loss is not finite.",
        indices=[3, 1, 4],
        checkpoint="baseline@100",
    ),
    events.HealthReported(
        time=_TIME,
        run="baseline",
        step=120,
        author="otf ctl",
        report=HealthReport(
            check="numerics",
            findings=[
                HealthFinding(
                    severity=Severity.CRITICAL,
                    where="head.weight",
                    what="This parameter holds values that are not finite.",
                    value="3 NaN and 0 infinite of 48 values",
                    meaning="Every output that depends on it is not finite.",
                    remedy="Go back to a checkpoint from before it.",
                )
            ],
            measures={"parameter max": None, "gradient max": 0.5},
            facts={"replayed batch": "one, forward and backward"},
            seconds=0.25,
        ),
    ),
    events.StallNoticed(
        time=_TIME,
        run="baseline",
        step=118,
        phase="data",
        seconds=61.5,
        stack='  File "train.py", line 3, in <module>',
    ),
    events.StallEnded(time=_TIME, run="baseline", step=118, phase="data", seconds=70.25),
    events.RecordsDropped(time=_TIME, run="baseline", count=12, reason="The disk is full."),
]

SUMMARY = SessionSummary(
    id=_SESSION,
    project="digits",
    created=_TIME,
    updated=_TIME + 60,
    state=SessionState.PAUSED,
    runs=[
        RunSummary(
            name="baseline",
            parents=[],
            state=events.RunState.PAUSED,
            reason="asked for",
            step=120,
            epoch=2,
            created=_TIME,
            updated=_TIME + 60,
            latest={"loss": 0.5, "grad_norm": None},
        )
    ],
    last_seq=10,
    connected=True,
    name="the one for the paper",
)

FRAMES: List[frames.Frame] = [
    frames.TrainerHello(session=_SESSION, last_seq=10, protocol=1, versions={"otf-hooks": "0.2.0"}),
    frames.TrainerWelcome(server_version="0.2.0", viewers=2),
    frames.Refusal(
        reason="The trainer did not say its version.",
        remedy="pip install --upgrade onthefly-ai",
    ),
    frames.Viewers(count=1),
    frames.CommandDelivery(
        request=CommandRequest(id="c0ffee", author="dashboard", command=Resume())
    ),
    frames.CommandQueued(
        session=_SESSION,
        request=CommandRequest(id="c0ffee", author="dashboard", command=Resume()),
    ),
    frames.CommandProgress(session=_SESSION, id="c0ffee", done=12, total=40, unit="batches"),
    frames.Batch(session=_SESSION, first=1, events=EVENTS),
    frames.CommandReply(
        id="c0ffee", session=_SESSION, outcome=Refused(reason="The run has ended.")
    ),
    frames.DashboardWelcome(
        server_version="0.2.0", protocol=1, home="/home/user/onthefly", sessions=[SUMMARY]
    ),
    frames.Subscribe(session=_SESSION, after=10),
    frames.Unsubscribe(session=_SESSION),
    frames.CommandSubmission(id="c0ffee", session=_SESSION, command=Stop()),
    frames.SessionChanged(session=SUMMARY),
    frames.SessionGone(session=_SESSION),
    frames.Behind(session=_SESSION),
]


def tag(message: msgspec.Struct) -> str:
    """The message's name on the wire."""
    return str(type(message).__struct_config__.tag)


def golden_messages() -> Dict[str, Any]:
    """Every message under the name of its file."""
    return {
        **{_event_file(event): event for event in EVENTS},
        **{f"frame.{tag(frame)}.json": frame for frame in FRAMES},
    }


def _event_file(event: events.AnyEvent) -> str:
    # Of some kinds there are several, told apart by their ids.
    is_second = getattr(event, "id", "") == "facade"
    return f"event.{tag(event)}{'.facade' if is_second else ''}.json"


def write_golden() -> None:
    """Write the golden files anew."""
    GOLDEN.mkdir(parents=True, exist_ok=True)
    for name, message in golden_messages().items():
        text = json.dumps(msgspec.to_builtins(message), indent=2, ensure_ascii=False)
        (GOLDEN / name).write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    write_golden()
