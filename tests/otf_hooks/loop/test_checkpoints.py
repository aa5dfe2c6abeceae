"""The checkpoints that a watched run makes by itself."""

from __future__ import annotations

import threading
import time

import torch
from otf_hooks import watch
from otf_session.commands import CommandRequest, LoadCheckpoint, Resume, RunFor
from otf_session.events import CheckpointRemoved, CheckpointSaved
from otf_session.queries import kept_checkpoints
from otf_session.store import SessionReader

from ..record import latest_folder, of, states
from .conftest import EPOCH, Loop


def settle(run):
    """What was due before is written: one that comes too soon behind another is left out."""
    run._training.engine.keeper.flush()


def resumed_when_held(run):
    engine = run._training.engine

    def resume():
        while not engine.gate.is_paused:
            time.sleep(0.01)
        engine.desk.receive(CommandRequest(id="resume", author="test", command=Resume()))

    threading.Thread(target=resume, daemon=True).start()


def periodic():
    return [saved.step for saved in of(CheckpointSaved) if saved.label == "periodic"]


def test_a_pause_that_is_due_at_the_same_step_leaves_no_checkpoint_out():
    plan = {step: [settle] for step in range(1, 2 * EPOCH + 1)}
    plan[1] += [resumed_when_held, RunFor(steps=3)]
    Loop(plan, ckpt_every_steps=4).run()
    assert "paused" in states()
    assert periodic() == [4, 8, 12, 16]


def test_after_a_going_back_they_are_made_at_their_steps_again():
    plan = {step: [settle] for step in range(1, 2 * EPOCH + 1)}
    plan[6] += [LoadCheckpoint(checkpoint="initial")]
    Loop(plan, ckpt_every_steps=4).run()
    assert periodic() == [4, 4, 8, 12, 16]


def test_of_the_state_before_the_first_step_only_the_one_with_the_place_in_the_data_is_kept():
    loop = Loop({3: [settle, LoadCheckpoint(checkpoint="initial")]})
    found = loop.run()
    made = [saved.id for saved in of(CheckpointSaved) if saved.label == "initial"]
    assert [removed.id for removed in of(CheckpointRemoved)] == made[:1]
    folder = latest_folder()
    with SessionReader(folder) as reader:
        (kept,) = [s for s in kept_checkpoints(reader.database) if s.label == "initial"]
    assert kept.id == made[1]
    assert torch.load(folder / kept.path, weights_only=True)["data"]["under_way"]
    wanted = Loop().run()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_without_batches_the_first_one_is_kept():
    with watch(project="p", run_name="r", auto_connect=False) as run:
        run.step(loss=1.0)
    assert [saved.label for saved in of(CheckpointSaved)] == ["initial", "final"]
    assert of(CheckpointRemoved) == []
