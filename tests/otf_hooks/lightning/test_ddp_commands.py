"""Commands to two processes under Lightning: done on both, and alike.

What is asked of rank 0 several times is asked in one training: a training of two processes takes
seconds to start.
"""

from __future__ import annotations

import logging
import os
import signal

import pytest
import torch

pytest.importorskip("lightning")

import torch.distributed as dist
from otf_hooks import NonFinite
from otf_hooks.engine import Engine
from otf_session.commands import (
    Cancel,
    Extend,
    LoadCheckpoint,
    Note,
    Pause,
    Reset,
    Resume,
    RunFor,
    SaveCheckpoint,
    SetHyperparameters,
    Stop,
    Test,
)
from otf_session.events import CheckpointSaved, CommandChanged, LogLine, NoteAdded, StateChanged
from otf_session.resume import How

from ..distributed.ranks import Ranks, on_each
from ..distributed.test_commands import WhenHeld, all_weights
from ..going_on import go_on
from ..record import of, series, states, summary
from . import scenarios
from .ddp import STEPS, STEPS_PER_EPOCH, Steered, bare
from .scenarios import LIGHTNING_WARNS, L, weights
from .test_ddp import FIRST, SECOND, assert_same, expected

pytestmark = pytest.mark.filterwarnings(*LIGHTNING_WARNS)


@pytest.fixture(autouse=True)
def _variables_are_not_ours(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)


class WhenHeldHere(WhenHeld):
    """The same, of a training with Lightning."""

    def __call__(self, steered):
        super().__call__(steered.engine)


class Script(L.Callback):
    """What a script does beside training: it reads a tunable, and logs."""

    def __init__(self, training):
        self.training, self.values, self.began = training, [], None

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if self.began is None:
            self.began = weights(module)
            logging.getLogger("script").warning("from rank %d", trainer.global_rank)
        callback = self.training.handle.callback
        self.values.append(callback.tunable("smoothing", 0.1, 0.0, 1.0))


def asked(plan, given=None, cancels=0, rank=0):
    """What it comes to where a rank is asked for things, and the first tests are cancelled."""
    training = Steered("plain", given)
    script = Script(training)
    training.trainer.callbacks.append(script)
    for step, what in plan.items():
        training.at(step, *what, rank=rank)
    waiting = [Cancel()] * cancels if dist.get_rank() == 0 else []

    def cancel(*_):
        if "ONTHEFLY_TEST_LABEL" in os.environ and waiting:
            training.give(waiting.pop())

    training.module.net.register_forward_pre_hook(cancel)
    return {"weights": training.run(), "values": script.values, "began": script.began}


def longer():
    scenarios.EPOCHS += 1
    return bare("plain")


def outcomes(kind):
    return [
        event.outcome
        for event in of(CommandChanged)
        if isinstance(event.command, kind) and event.outcome is not None
    ]


def test_noted_tuned_released_run_for_and_extended():
    tuned = SetHyperparameters(values={"smoothing": 0.4})
    plan = {
        FIRST: [Note(text="look"), tuned, Pause(release=True), Resume()],
        FIRST + 1: [RunFor(steps=2), WhenHeldHere(Resume())],
        SECOND: [Extend(epochs=1)],
    }
    found = on_each(asked, plan)
    assert_same(all_weights(found), on_each(longer))
    steps = STEPS + STEPS_PER_EPOCH
    assert [step for step, _ in series("loss")] == list(range(1, steps + 1))
    assert [each["values"] for each in found] == [[0.1] * FIRST + [0.4] * (steps - FIRST)] * 2
    assert [note.step for note in of(NoteAdded)] == [FIRST]
    held = [event.step for event in of(StateChanged) if event.state == "paused"]
    assert held == [FIRST, FIRST + 3]
    assert "in host memory already" in outcomes(Pause)[0].message
    # The others' go nowhere.
    assert [line.text for line in of(LogLine) if line.logger == "script"] == ["from rank 0"]


def test_a_test_is_broken_off_and_a_checkpoint_loaded_as_a_new_run():
    plan = {
        FIRST: [SaveCheckpoint(name="one"), Test()],
        FIRST + 1: [Test()],
        SECOND: [LoadCheckpoint(checkpoint="one", as_new_run=True, run="other")],
        SECOND + 1: [Reset(run="again")],
    }
    assert_same(all_weights(on_each(asked, plan, None, 1)), expected("plain"))
    broken_off, made = outcomes(Test)
    assert "broken off" in broken_off.reason
    assert made.result.samples == 48
    assert [(run.name, run.parents, run.step) for run in summary().runs] == [
        ("baseline", [], SECOND),
        ("other", ["baseline"], SECOND + 1),
        ("again", ["baseline"], STEPS),
    ]


def lingers(plan):
    Engine.is_watched = property(lambda engine: True)
    return asked(plan, {"linger": True})


def test_a_lingering_run_trains_as_much_again_until_it_is_stopped():
    found = on_each(lingers, {STEPS: [WhenHeldHere(Resume())], 2 * STEPS - 2: [Stop()]})
    assert [len(each["values"]) for each in found] == [2 * STEPS - 2] * 2
    held = [event.step for event in of(StateChanged) if event.state == "paused"]
    assert (held, states()[-1]) == ([STEPS], "stopped")


def test_a_replay_and_one_with_weights_alone(monkeypatch):
    changed = {FIRST: [SetHyperparameters(values={"lr": 0.05})]}
    wanted = all_weights(on_each(asked, changed))
    go_on(monkeypatch, "latest:baseline@final", How.REPLAY)
    assert_same(all_weights(on_each(asked, {})), wanted)
    assert [line for line in of(LogLine) if "bit for bit" in line.text]
    go_on(monkeypatch, "latest:baseline@final", How.WEIGHTS_ONLY)
    for each in on_each(asked, {}):
        assert torch.equal(each["began"]["net.0.weight"], wanted[0]["net.0.weight"])


def interrupt(steered):
    os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_at_one_ends_both_after_the_same_step():
    Ranks(asked, {SECOND: [interrupt]}, None, 0, 1).join()
    assert (states()[-1], of(StateChanged)[-1].reason) == ("stopped", "interrupted by Ctrl-C")
    assert [saved.step for saved in of(CheckpointSaved)][-1] == SECOND


def spoilt():
    """Whose loss is not finite, for longer than it takes to look."""
    scenarios.EPOCHS = 500
    training = Steered("plain", {"guards": [NonFinite("stop")]})
    training.module.net.register_forward_hook(lambda module, args, output: output * float("nan"))
    training.run()
    return training.trainer.global_step


def test_a_guard_stops_both_at_the_same_step():
    one, other = on_each(spoilt)
    assert one == other
    assert states()[-1] == "stopped"
