"""Guards at work in real trainings, and the watchdog beside them."""

from __future__ import annotations

import threading
import time

import pytest
import torch
from otf_hooks import LossSpike, NoImprovement, NonFinite, Trainer
from otf_hooks.errors import ArgumentError
from otf_session.commands import CommandRequest, LoadCheckpoint, Resume
from otf_session.events import (
    CheckpointSaved,
    GuardTripped,
    LogLine,
    Rewound,
    StallEnded,
    StallNoticed,
    StateChanged,
)
from torch.utils.data import DataLoader, TensorDataset

from ..helpers.waiting import wait_for
from .conftest import make_loader
from .record import of, series, states, summary

BAD = 37  # the index of the sample that spoils its batch


def poisoned(value=float("nan")):
    """A shuffled loader with one sample that no model can learn."""
    inputs, targets = (tensor.clone() for tensor in make_loader().dataset.tensors)
    inputs[BAD] = value
    return DataLoader(TensorDataset(inputs, targets), batch_size=8, shuffle=True)


def slow(trainer):
    """Steps that leave the writer the time to look at them before the next one."""

    @trainer.training_step
    def step(batch, state):
        loss = state["loss_fn"](state["model"](batch[0]), batch[1])
        loss.backward()
        state["optimizer"].step()
        state["optimizer"].zero_grad()
        time.sleep(0.15)
        return {"loss": loss}

    return trainer


def guarded(action):
    """A slow trainer that saves after each step, and acts on a loss that is not finite."""
    trainer = Trainer(
        project="p",
        run_name="r",
        max_epochs=2,
        auto_connect=False,
        guards=[NonFinite(action)],
        ckpt_every_steps=1,
    )
    return slow(trainer)


def test_by_default_a_loss_that_is_not_finite_is_warned_of_and_training_goes_on(parts, capfd):
    given = {**parts(), "train_loader": poisoned()}
    result = Trainer(project="p", run_name="r", max_epochs=2, auto_connect=False).fit(**given)
    assert (result.state, result.step) == ("finished", 16)
    (trip,) = of(GuardTripped)
    assert (trip.guard, trip.action) == ("non-finite", "warn")
    assert "Training goes on" in capfd.readouterr().err
    first = next(step for step, value in series("loss") if value is None)
    assert trip.step == first
    assert states() == ["running", "finished"]


def test_the_batch_and_the_last_good_checkpoint_are_in_the_record(parts):
    given = {**parts(), "train_loader": poisoned()}
    trainer = guarded("stop")
    result = trainer.fit(**given)
    assert result.state == "stopped"
    (trip,) = of(GuardTripped)
    assert BAD in trip.indices
    assert len(trip.indices) == 8
    saved = {event.id: event.step for event in of(CheckpointSaved)}
    assert saved[trip.checkpoint] == trip.step - 1
    # It ends at the safe point after the writer has looked, not at once and not much later.
    assert trip.step <= result.step <= trip.step + 1


def test_a_guard_may_pause_so_that_a_person_goes_back(parts):
    given = {**parts(), "train_loader": poisoned()}
    trainer = guarded("pause")

    def person():
        wait_for(lambda: trainer._engine is not None and trainer._engine.gate.is_paused, "a pause")
        wait_for(lambda: of(GuardTripped), "the trip in the record")
        back = LoadCheckpoint(checkpoint=of(GuardTripped)[0].checkpoint)
        for number, command in enumerate((back, Resume())):
            request = CommandRequest(id=str(number), author="person", command=command)
            trainer._engine.desk.receive(request)
        wait_for(lambda: of(Rewound), "the way back")
        wait_for(lambda: trainer._engine is None or trainer._engine.gate.is_paused, "the bad batch")
        if trainer._engine is not None:
            request = CommandRequest(id="9", author="person", command=Resume())
            trainer._engine.desk.receive(request)

    helper = threading.Thread(target=person)
    helper.start()
    result = trainer.fit(**given)
    helper.join(30)
    assert result.state == "finished"
    # The same batch comes again after the rewind, and so does the trip.
    first, second = of(GuardTripped)
    assert (first.step, first.indices) == (second.step, second.indices)
    reasons = [e.reason for e in of(StateChanged) if e.state.value == "paused"]
    assert all("guard non-finite" in reason for reason in reasons)


def test_gradients_are_watched_where_that_is_asked_for(parts):
    given = parts()
    trainer = Trainer(
        project="p",
        run_name="r",
        max_epochs=1,
        auto_connect=False,
        guards=[NonFinite("warn", gradients=True)],
    )
    first = next(given["model"].parameters())
    calls = []

    def spoil(gradient):
        calls.append(1)
        return gradient * float("inf") if len(calls) == 3 else gradient

    first.register_hook(spoil)
    trainer.fit(**given)
    assert any("grad_norm" in trip.message and trip.step == 3 for trip in of(GuardTripped))
    assert [value for _, value in series("grad_norm")][2] is None


def test_a_spike_is_found_at_its_step(parts):
    given = parts()
    losses = iter([1.0 + 0.01 * (n % 5) for n in range(60)])
    trainer = Trainer(
        project="p", run_name="r", max_steps=60, auto_connect=False, guards=[LossSpike()]
    )

    @trainer.training_step
    def step(batch, state):
        return {"loss": next(losses) + (50.0 if state["step"] == 49 else 0.0)}

    trainer.fit(**given)
    assert [(trip.guard, trip.step) for trip in of(GuardTripped)] == [("loss-spike", 50)]


def test_no_improvement_ends_training_where_that_is_asked_for(parts):
    given = parts()
    trainer = Trainer(
        project="p",
        run_name="r",
        max_epochs=40,
        auto_connect=False,
        guards=[NoImprovement("stop", validations=3)],
    )

    @trainer.validation_step
    def validate(batch, state):
        time.sleep(0.02)
        return {"loss": torch.tensor(1.0)}

    result = trainer.fit(**given, val_loader=make_loader())
    assert result.state == "stopped"
    assert result.epoch < 40
    assert of(GuardTripped)[0].guard == "no-improvement"


def test_what_is_found_in_the_last_measurements_is_recorded_too(parts):
    given = {**parts(), "train_loader": poisoned()}
    trainer = Trainer(project="p", run_name="r", max_epochs=1, auto_connect=False)
    trainer.fit(**given)
    assert len(of(GuardTripped)) == 1


def test_a_guard_that_could_never_look_is_refused(parts):
    trainer = Trainer(project="p", run_name="r", max_steps=1, guards=[NoImprovement()])
    with pytest.raises(ArgumentError, match=r"val_loader= there is none"):
        trainer.fit(**parts())


def hold_up():
    """What the training thread is in when the watchdog looks: it looks once a second."""
    time.sleep(2.5)


def test_a_stall_is_told_with_the_stack_and_nothing_is_done(parts):
    given = parts()
    trainer = Trainer(project="p", run_name="r", max_steps=3, auto_connect=False, stall_after=0.5)

    @trainer.training_step
    def step(batch, state):
        if state["step"] == 1:
            hold_up()
            wait_for(lambda: of(StallNoticed), "the stall in the record")
        return {"loss": 1.0}

    result = trainer.fit(**given)
    assert result.state == "finished"
    stall, end = of(StallNoticed)[0], of(StallEnded)[0]
    assert stall.step == 1
    assert "hold_up" in stall.stack
    assert end.seconds >= stall.seconds
    assert any("Nothing has moved" in line.text for line in of(LogLine))


def test_a_pause_is_no_stall(parts):
    given = parts()
    trainer = Trainer(project="p", run_name="r", max_steps=3, auto_connect=False, stall_after=0.3)

    @trainer.training_step
    def step(batch, state):
        if state["step"] == 1:
            from otf_session.commands import Pause

            request = CommandRequest(id="1", author="person", command=Pause())
            trainer._engine.desk.receive(request)
            threading.Thread(target=resume_later).start()
        return {"loss": 1.0}

    def resume_later():
        wait_for(lambda: trainer._engine.gate.is_paused, "the pause")
        time.sleep(2.5)
        request = CommandRequest(id="2", author="person", command=Resume())
        trainer._engine.desk.receive(request)

    trainer.fit(**given)
    assert of(StallNoticed) == []
    assert summary().state.value == "finished"
