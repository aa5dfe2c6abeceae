"""What a person did to a run that its weights depend on, kept and replayed."""

from __future__ import annotations

import pytest
from otf_hooks import checkpoint
from otf_hooks.interventions import Intervention, Interventions, Replay, read
from otf_hooks.snapshot import Snapshot
from otf_session import commands
from otf_session.commands import Extend, LoadCheckpoint, Note, Pause, SetHyperparameters, Stop

CHANGE = SetHyperparameters(
    values={"lr": 0.002, "layers": 3, "augment": True, "mode": "fast"}, group=1, hold=True
)


def through_a_checkpoint(interventions, folder):
    state = Snapshot({"interventions": interventions.state()}).wait()
    return checkpoint.load(checkpoint.write(folder / "a.pt", state).path)["interventions"]


def test_they_survive_a_checkpoint_with_their_types(tmp_path):
    interventions = Interventions()
    interventions.note(3, "train", CHANGE)
    interventions.note(8, "between", Extend(epochs=2))
    found = read(through_a_checkpoint(interventions, tmp_path))
    assert found == [
        Intervention(3, "train", CHANGE),
        Intervention(8, "between", Extend(epochs=2)),
    ]
    values = found[0].command.values
    assert [type(value) for value in values.values()] == [float, int, bool, str]


@pytest.mark.parametrize(
    "command",
    [
        Pause(),
        Note(text="hm"),
        LoadCheckpoint(checkpoint="one"),
        Stop(),
        commands.Test(),
        commands.Validate(),
        commands.SaveCheckpoint(),
        commands.Prove(),
        commands.RunFor(steps=3),
        commands.Reset(),
        commands.Resume(),
        commands.Cancel(),
    ],
)
def test_what_changes_no_step_that_follows_is_not_kept(command):
    interventions = Interventions()
    interventions.note(3, "train", command)
    assert interventions.state() == []


def test_going_back_takes_back_what_came_after():
    interventions = Interventions()
    interventions.note(3, "train", CHANGE)
    then = interventions.state()
    interventions.note(8, "train", Extend(steps=10))
    interventions.load(then)
    assert interventions.state() == then
    interventions.note(5, "train", Extend(steps=1))
    assert [item["step"] for item in interventions.state()] == [3, 5]


def test_what_a_checkpoint_holds_does_not_change_with_what_follows():
    interventions = Interventions()
    interventions.note(3, "train", CHANGE)
    state = interventions.state()
    interventions.note(4, "train", CHANGE)
    assert len(state) == 1


def test_a_stop_is_kept_and_undone_by_going_on():
    interventions = Interventions()
    interventions.note(3, "train", CHANGE)
    interventions.stopped(9, "train")
    state = interventions.state()
    assert read(state)[-1] == Intervention(9, "train", Stop())
    interventions.load(state)
    assert read(interventions.state()) == [Intervention(3, "train", CHANGE)]


def test_a_replay_applies_each_at_its_step_and_in_its_phase():
    applied = []
    replay = Replay(
        [
            Intervention(3, "train", CHANGE),
            Intervention(3, "train", Extend(epochs=1)),
            Intervention(4, "validate", Extend(epochs=2)),
            Intervention(4, "between", Stop()),
        ],
        applied.append,
    )
    assert replay.next_step == 3
    replay.run_due(2, "train")
    replay.run_due(3, "validate")
    assert applied == []
    replay.run_due(3, "train")
    assert applied == [CHANGE, Extend(epochs=1)]
    assert replay.next_step == 4
    # Step 4 was trained: its phases follow.
    replay.run_due(4, "train")
    assert len(applied) == 2
    replay.run_due(4, "validate")
    replay.run_due(4, "validate")
    assert applied[2:] == [Extend(epochs=2)]
    replay.run_due(4, "between")
    assert applied[3:] == [Stop()]
    assert replay.next_step is None
    replay.run_due(4, "between")
    assert len(applied) == 4
