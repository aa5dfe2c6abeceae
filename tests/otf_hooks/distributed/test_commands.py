"""Commands to two processes, by the Trainer and by a loop of one's own: done on both, and alike.

What is asked of rank 0 several times is asked in one training: a training of two processes takes
seconds to start.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time

import pytest
import torch
import torch.distributed as dist
from otf_hooks import NonFinite, watch
from otf_hooks.distributed import agreement
from otf_hooks.engine import Engine
from otf_hooks.meters.sampling import SampleBudget
from otf_session.commands import (
    Cancel,
    CheckHealth,
    Command,
    CommandRequest,
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
from otf_session.events import (
    CheckpointSaved,
    CommandChanged,
    LogLine,
    NoteAdded,
    RunStarted,
    StateChanged,
)
from otf_session.resume import How
from torch.utils.data import DataLoader

from ..going_on import go_on
from ..record import of, series, states, summary
from . import work
from .ranks import Ranks, on_each
from .test_exact import FIRST, SECOND, assert_same, expected
from .work import STEPS, STEPS_PER_EPOCH, Steered, data, make, weights


def give(engine, command):
    engine.desk.receive(CommandRequest(id=f"{id(command)}", author="ada", command=command))


class Script:
    """What a script does beside training: it reads a tunable, logs, and is asked for things."""

    def __init__(self, plan):
        self.rank = dist.get_rank()
        self.is_spoilt = plan.get("spoilt", False)
        self.plan = dict(plan) if self.rank == plan.get("rank", 0) else {}
        self.values = []
        self.losses = []
        self.began = None

    def step(self, engine, tunable, net, loss):
        if self.began is None:
            self.began = weights(net)
            logging.getLogger("script").warning("from rank %d", self.rank)
        self.values.append(tunable("smoothing", 0.1, 0.0, 1.0))
        # What is asked for in step n is done behind it.
        for what in self.plan.pop(engine.step + 1, []):
            if isinstance(what, Command.__args__):
                give(engine, what)
            else:
                what(engine)
        return loss * float("nan") if self.is_spoilt else loss

    def evaluating(self, engine):
        if engine.desk.long_command is not None and "cancel" in self.plan:
            give(engine, self.plan.pop("cancel"))

    def result(self, net):
        return {"weights": weights(net), "values": self.values, "began": self.began}


def native(plan, options):
    training = Steered("ddp", **options)
    script, net, loss_fn = Script(plan), training.parts["model"], training.parts["loss_fn"]

    def loss(output, target):
        found = loss_fn(output, target)
        if not found.requires_grad:
            script.evaluating(training.engine)
            return found
        return script.step(training.engine, training.trainer.tunable, net, found)

    training.parts["loss_fn"] = loss
    training.run()
    return script.result(net)


def own_loop(plan, options):
    agreement.SECONDS = 0.0
    parts, script = make("ddp"), Script(plan)
    net, optimizer, loss_fn = parts["model"], parts["optimizer"], parts["loss_fn"]
    loader = parts["train_loader"]
    given = {"project": "exact", "run_name": "baseline", "auto_connect": False, **options}
    with watch(net, optimizer, **given) as run:
        engine = run._training.engine

        @run.evaluator("test", DataLoader(data(), batch_size=8))
        def evaluate(batch):
            script.evaluating(engine)
            return {"loss": loss_fn(net.module(batch[0]), batch[1])}

        for epoch in run.epochs(work.EPOCHS):
            loader.sampler.set_epoch(epoch)
            for batch in run.batches(loader):
                optimizer.zero_grad()
                loss = loss_fn(net(batch[0]), batch[1])
                loss = script.step(engine, run.tunable, net, loss)
                loss.backward()
                optimizer.step()
                run.step(loss=loss)
    return script.result(net)


@pytest.fixture(params=[native, own_loop], ids=["native", "own-loop"])
def train(request):
    """A training on two processes: what each comes to."""
    return lambda plan, **options: on_each(request.param, plan, options)


@pytest.fixture(params=[native, own_loop], ids=["native", "own-loop"])
def trained(request):
    """The function that each process of such a training runs."""
    return request.param


def longer():
    work.EPOCHS += 1
    return work.bare("ddp")


class WhenHeld:
    """Gives commands when the run is next held."""

    def __init__(self, *commands):
        self.commands = commands

    def __call__(self, engine):
        threading.Thread(target=self.wait, args=(engine,), daemon=True).start()

    def wait(self, engine):
        while not engine.gate.is_paused:
            time.sleep(0.01)
        for command in self.commands:
            give(engine, command)


def all_weights(found):
    return [each["weights"] for each in found]


def outcomes(kind):
    return [
        event.outcome
        for event in of(CommandChanged)
        if isinstance(event.command, kind) and event.outcome is not None
    ]


def test_noted_tuned_released_run_for_and_extended(train):
    tuned = SetHyperparameters(values={"smoothing": 0.4})
    first = [Note(text="look"), tuned, Pause(release=True), Resume()]
    plan = {
        FIRST: first,
        FIRST + 1: [RunFor(steps=2), WhenHeld(Resume())],
        SECOND: [Extend(epochs=1)],
    }
    found = train(plan)
    assert_same(all_weights(found), on_each(longer))
    assert [step for step, _ in series("loss")] == list(range(1, STEPS + STEPS_PER_EPOCH + 1))
    steps = STEPS + STEPS_PER_EPOCH - FIRST
    assert [each["values"] for each in found] == [[0.1] * FIRST + [0.4] * steps] * 2
    assert [note.step for note in of(NoteAdded)] == [FIRST]
    held = [event.step for event in of(StateChanged) if event.state == "paused"]
    assert held == [FIRST, FIRST + 3]
    assert "in host memory already" in outcomes(Pause)[0].message
    # The others' go nowhere.
    assert [line.text for line in of(LogLine) if line.logger == "script"] == ["from rank 0"]


def test_tested_broken_off_loaded_as_a_new_run_and_reset(train):
    plan = {
        "cancel": Cancel(),
        FIRST: [SaveCheckpoint(name="one"), Test()],
        FIRST + 1: [Test()],
        SECOND: [LoadCheckpoint(checkpoint="one", as_new_run=True, run="other")],
        SECOND + 1: [Reset(run="again")],
    }
    assert_same(all_weights(train(plan)), expected("ddp"))
    broken_off, made = outcomes(Test)
    assert "broken off" in broken_off.reason
    assert made.result.samples > 0
    assert [(run.name, run.parents, run.step) for run in summary().runs] == [
        ("baseline", [], SECOND),
        ("other", ["baseline"], SECOND + 1),
        # From the state before step 1, which is the first one's.
        ("again", ["baseline"], STEPS),
    ]


def lingers(script, plan):
    Engine.is_watched = property(lambda engine: True)
    return script(plan, {"linger": True})


def test_a_lingering_run_trains_as_much_again_until_it_is_stopped(trained):
    plan = {STEPS: [WhenHeld(Resume())], 2 * STEPS - 2: [Stop()]}
    found = on_each(lingers, trained, plan)
    assert [len(each["values"]) for each in found] == [2 * STEPS - 2] * 2
    held = [event.step for event in of(StateChanged) if event.state == "paused"]
    assert (held, states()[-1]) == ([STEPS], "stopped")


def test_a_replay_and_one_with_weights_alone(train, monkeypatch):
    wanted = all_weights(train({FIRST: [SetHyperparameters(values={"lr": 0.05})]}))
    assert not torch.equal(wanted[0]["module.0.weight"], expected("ddp")[0]["module.0.weight"])
    go_on(monkeypatch, "latest:baseline@final", How.REPLAY)
    assert_same(all_weights(train({})), wanted)
    assert [line for line in of(LogLine) if "bit for bit" in line.text]
    go_on(monkeypatch, "latest:baseline@final", How.WEIGHTS_ONLY)
    for each in train({}):
        assert torch.equal(each["began"]["module.0.weight"], wanted[0]["module.0.weight"])
    assert [event.step for event in of(RunStarted)] == [0, 0, 0]


def sampled(script, plan):
    SampleBudget.is_due = lambda self, now: True
    return script(plan, {})


def test_checks_of_health_and_sampling_change_nothing(trained):
    checks = [CheckHealth(check=name) for name in ("numerics", "determinism", "activations")]
    assert_same(all_weights(on_each(sampled, trained, {FIRST: checks})), expected("ddp"))
    *looked_at, trained_on = outcomes(CheckHealth)
    assert [type(outcome).__name__ for outcome in looked_at] == ["Applied"] * 2
    assert "steps on trial are made with one only" in trained_on.reason
    assert len(series("weight_norm")) > 1


def terminate(engine):
    os.kill(os.getpid(), signal.SIGTERM)


def test_a_signal_to_one_ends_both_after_the_same_step(trained):
    plan = {"rank": 1, SECOND: [terminate]}
    assert Ranks(trained, plan, {}).join() == [-signal.SIGTERM] * 2
    assert states()[-1] == "stopped"
    assert [saved.step for saved in of(CheckpointSaved)][-1] == SECOND


def spoilt(script):
    """Whose loss is not finite, for longer than it takes to look."""
    work.EPOCHS = 500
    return script({"spoilt": True}, {"guards": [NonFinite("stop")]})


def test_a_guard_stops_both_at_the_same_step(trained):
    found = on_each(spoilt, trained)
    assert len({len(each["values"]) for each in found}) == 1
    assert states()[-1] == "stopped"
