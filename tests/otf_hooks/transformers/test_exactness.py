"""Bit for bit: attached, steered, put somewhere else, killed and resumed."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest
import torch

pytest.importorskip("transformers")

from otf_session.commands import (
    CommandRequest,
    LoadCheckpoint,
    Pause,
    Resume,
    SaveCheckpoint,
    Stop,
    Test,
    Validate,
)
from otf_session.events import CommandChanged, Rewound
from otf_session.resume import How, find_order, parse_target
from transformers import EarlyStoppingCallback

from ..record import of, series, summary
from .trainers import SCENARIOS, STEPS, STEPS_PER_EPOCH, Sentences, Steered, Texts, bare, weights

#: In the midst of two epochs; where the Trainer evaluates; at an epoch's end.
FIRST, SECOND, EVALUATED, BOUNDARY = 3, STEPS_PER_EPOCH + 6, STEPS_PER_EPOCH + 5, STEPS_PER_EPOCH

_bare = {}


@pytest.fixture(params=SCENARIOS)
def name(request):
    return request.param


def expected(name):
    if name not in _bare:
        _bare[name] = bare(name)
    return _bare[name]


def assert_same(found, wanted):
    assert found.keys() == wanted.keys()
    for key in wanted:
        assert torch.equal(found[key], wanted[key]), key


def refusals():
    return [
        event.outcome.reason
        for event in of(CommandChanged)
        if event.outcome is not None and hasattr(event.outcome, "reason")
    ]


def resumed_when_held(engine):
    def resume():
        while not engine.gate.is_paused:
            time.sleep(0.01)
        engine.desk.receive(CommandRequest(id="resume", author="test", command=Resume()))

    threading.Thread(target=resume, daemon=True).start()


def test_attached_paused_evaluated_and_saved(name):
    data = (Texts if name == "accumulation" else Sentences)(12)
    steered = Steered(SCENARIOS[name], test_dataset=data, ckpt_every_steps=4)
    for step in (FIRST, BOUNDARY, EVALUATED, SECOND):
        steered.at(step, resumed_when_held, Pause(), Validate(), Test(), SaveCheckpoint())
    assert_same(steered.run(), expected(name))
    assert refusals() == []
    assert len(series("test_loss")) == 4
    assert [run.state.value for run in summary().runs] == ["finished"]


def test_gone_back_again_and_again(name):
    steered = Steered(SCENARIOS[name])
    for step in (FIRST, BOUNDARY, EVALUATED):
        steered.at(step, SaveCheckpoint(name=f"at-{step}"))
        steered.at(
            SECOND + (step > FIRST) + (step > BOUNDARY), LoadCheckpoint(checkpoint=f"at-{step}")
        )
    found = steered.run()
    assert refusals() == []
    assert [(e.step, e.left_step, e.exact) for e in of(Rewound)] == [
        (FIRST, SECOND, True),
        (BOUNDARY, SECOND + 1, True),
        (EVALUATED, SECOND + 2, True),
    ]
    assert_same(found, expected(name))
    assert steered.output.global_step == STEPS
    assert [step for step, _ in series("lr")] == [
        *range(1, SECOND + 1),
        *range(FIRST + 1, SECOND + 2),
        *range(BOUNDARY + 1, SECOND + 3),
        *range(EVALUATED + 1, STEPS + 1),
    ]


@pytest.mark.parametrize("name", ["dropout", "evaluated", "stream"])
def test_stopped_leaves_the_weights_of_that_very_step(name):
    # Where the Trainer evaluates it can only leave after one more step, which is undone.
    steered = Steered(SCENARIOS[name]).at(EVALUATED, SaveCheckpoint(name="here"), Stop())
    steered.trainer.remove_callback(EarlyStoppingCallback)
    steered.trainer.args.load_best_model_at_end = False
    found = steered.run()
    (run,) = summary().runs
    assert (run.state.value, run.step) == ("stopped", EVALUATED)
    assert steered.output.global_step == EVALUATED
    engine = steered.engine
    kept = [
        engine.keeper.path(engine.keeper.find(label, "baseline")) for label in ("here", "final")
    ]
    for path in kept:
        assert_same(torch.load(path)["model"], found)


class Failure(Exception):
    pass


def failing(engine):
    raise Failure


def test_resumed_after_a_failure(name, home, monkeypatch):
    failed = Steered(SCENARIOS[name]).at(EVALUATED, SaveCheckpoint()).at(SECOND + 1, failing)
    with pytest.raises(Failure):
        failed.run()
    failed.callback.close()
    order = find_order(home, parse_target(f"latest:baseline@{EVALUATED}"), How.SAME_RUN)
    for variable, value in order.environment().items():
        monkeypatch.setenv(variable, value)
    steered = Steered(SCENARIOS[name])
    assert_same(steered.run(), expected(name))
    (run,) = summary().runs
    assert (run.state.value, run.step) == ("finished", STEPS)
    assert steered.output.global_step == STEPS


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")
def test_resumed_where_it_was_killed(home, script, tmp_path):
    out = tmp_path / "weights.pt"
    done = script.run("dropout", out, f"{EVALUATED}=save", f"{SECOND + 1}=kill")
    assert done.returncode == -signal.SIGKILL, done.stderr
    order = find_order(home, parse_target("latest"), How.SAME_RUN)
    done = script.run("dropout", out, **order.environment())
    assert done.returncode == 0, done.stderr
    assert_same(torch.load(out), expected("dropout"))


def test_nothing_is_left_in_the_folders_of_a_run():
    steered = Steered(SCENARIOS["dropout"]).at(FIRST, SaveCheckpoint(name="here"))
    steered.at(SECOND, LoadCheckpoint(checkpoint="here"))
    steered.run()
    left = [path for path in steered.folder.iterdir() if path.name.startswith(".")]
    assert left == []
    assert weights(steered.trainer).keys() == expected("dropout").keys()
