"""Every command, given to a real training: what it does, what it answers, and what it leaves alone."""

from __future__ import annotations

import threading
from typing import Any, List, NamedTuple

import pytest
import torch
from otf_hooks.engine import Engine
from otf_session.commands import (
    Applied,
    Cancel,
    CheckHealth,
    Command,
    CommandRequest,
    Extend,
    LoadCheckpoint,
    Note,
    Pause,
    Prove,
    Refused,
    Reset,
    Resume,
    RunFor,
    SaveCheckpoint,
    SetHyperparameters,
    Stop,
    Test,
    Validate,
)
from otf_session.events import (
    CheckpointSaved,
    CommandChanged,
    CommandStatus,
    EvaluationFinished,
    HyperparametersDeclared,
    LimitsChanged,
    LogLine,
    NoteAdded,
    Rewound,
    RunStarted,
    StateChanged,
)
from torch import nn
from torch.utils.data import DataLoader

from ..helpers.waiting import wait_for
from .record import events, of, series, states, summary
from .scenarios import (
    EPOCHS,
    SAMPLES,
    STEPS,
    STEPS_PER_EPOCH,
    Steered,
    bare,
    data,
    make,
    model,
    shuffled,
)

#: In the midst of the first, the second and the third epoch.
FIRST, SECOND, THIRD = 5, STEPS_PER_EPOCH + 5, 2 * STEPS_PER_EPOCH + 3
#: Batches of the loader that evaluations read.
BATCHES = 3

_bare = {}


def expected(name="dropout"):
    if name not in _bare:
        _bare[name] = bare(make(name))
    return _bare[name]


def assert_same(found, wanted):
    assert found.keys() == wanted.keys()
    for key in wanted:
        assert torch.equal(found[key], wanted[key]), key


class Commanded(Steered):
    """Also takes commands that are given at a batch of an evaluation, counted over the run."""

    def __init__(self, name="dropout", **options):
        super().__init__(name, **options)
        self.in_evaluations = {}
        self.batches = 0
        self.given = 0
        self.ids = {}
        self.parts["model"].register_forward_pre_hook(self._before_evaluation)

    def at_batch(self, number, *what):
        self.in_evaluations.setdefault(number, []).extend(what)
        return self

    def run(self, **options):
        loader = DataLoader(data(), batch_size=SAMPLES // BATCHES, shuffle=True)
        loaders = {"val_loader": loader, "test_loader": loader}
        self.result = self.trainer.fit(**{**self.parts, **loaders, **options})
        return {name: value.clone() for name, value in self.parts["model"].state_dict().items()}

    def give(self, command):
        self.given += 1
        request = CommandRequest(id=f"{self.given}", author="ada", command=command)
        self.engine.desk.receive(request)
        return request.id

    def _do(self, what):
        if isinstance(what, Command.__args__):
            self.give(what)
        else:
            what(self)

    def _before_forward(self, module, args):
        if module.training and self.engine is not None:
            for what in self.plan.pop(self.engine.step + 1, []):
                self._do(what)

    def _before_evaluation(self, module, args):
        if not module.training:
            self.batches += 1
            for what in self.in_evaluations.pop(self.batches, []):
                self._do(what)


class Resumer:
    """Waits in a thread of its own until the run is paused, notes where, and has it go on."""

    def __init__(self, *commands):
        self.commands = list(commands) or [[Resume()]]
        self.seen: List[Any] = []
        self.failed: List[BaseException] = []

    def __call__(self, steered):
        self.thread = threading.Thread(target=self._run, args=(steered,))
        self.thread.start()

    def _run(self, steered):
        engine = steered.engine
        try:
            for commands in self.commands:
                wait_for(lambda: engine.gate.is_paused, "a pause")
                # Not before the pause is in the record, as for somebody who looks.
                wait_for(lambda: summary().state.value == "paused", "a pause in the record")
                before = (engine.step, steered.batches)
                self.seen.append((engine.step, engine.phase))
                steered.give(Note(text="still there"))
                wait_for(lambda: answered(Note), "an answer in the pause")
                assert (engine.step, steered.batches) == before
                for command in commands:
                    number = steered.give(command)
                    wait_for(lambda: is_answered(number), f"an answer to {command}")  # noqa: B023
        except BaseException as error:  # noqa: BLE001
            self.failed.append(error)
            engine.desk.receive(CommandRequest(id="0", author="test", command=Stop()))

    def join(self):
        self.thread.join(20)
        assert not self.thread.is_alive()
        assert self.failed == []
        return self.seen


class Answer(NamedTuple):
    """A command's end, as the record has it."""

    command: Any
    outcome: Any
    step: int
    phase: str


def answered(*kinds):
    """The answers, in their order; to commands of some kinds."""
    return [
        Answer(event.command, event.outcome, event.step, event.phase)
        for event in of(CommandChanged)
        if event.outcome is not None and (not kinds or isinstance(event.command, kinds))
    ]


def is_answered(number):
    return any(event.id == number and event.outcome is not None for event in of(CommandChanged))


def only(kind):
    (answer,) = answered(kind)
    return answer


def plain_evaluation(state, prefix):
    """What a person would compute of a checkpoint's weights: means over all samples."""
    net = model(0.3)
    net.load_state_dict(state["model"])
    net.eval()
    inputs, target = data().tensors
    with torch.no_grad():
        output = net(inputs)
    return {
        f"{prefix}loss": nn.functional.cross_entropy(output, target).item(),
        f"{prefix}accuracy": (output.argmax(1) == target).float().mean().item(),
    }


def load(saved):
    from .record import latest_folder

    return torch.load(latest_folder() / saved.path, weights_only=True)


# Pause and resume


def test_a_paused_run_stays_at_its_step_until_it_is_resumed():
    resumer = Resumer()
    steered = Commanded().at(FIRST - 1, resumer).at(FIRST, Pause())
    assert_same(steered.run(), expected())
    assert resumer.join() == [(FIRST, "train")]
    pause, resume = only(Pause), only(Resume)
    assert pause.outcome == Applied(step=FIRST, message=f"Paused at step {FIRST}.")
    assert resume.outcome == Applied(step=FIRST, message=f"Training goes on from step {FIRST}.")
    assert states() == ["running", "paused", "running", "finished"]


def test_pausing_what_is_paused_and_resuming_what_runs_is_refused_without_harm():
    steered = Commanded().at(FIRST, Resume(), Pause(), Pause(), Resume(), Resume())
    assert_same(steered.run(), expected())
    found = [type(answer.outcome) for answer in answered()]
    assert found == [Refused, Applied, Refused, Applied, Refused]
    assert f"already paused, at step {FIRST}" in answered(Pause)[1].outcome.reason
    assert f"not paused: it is at step {FIRST}" in answered(Resume)[0].outcome.reason


def test_a_pause_holds_in_the_midst_of_a_validation():
    resumer = Resumer()
    steered = Commanded().at(1, resumer).at_batch(2, Pause())
    assert_same(steered.run(), expected())
    assert resumer.join() == [(STEPS_PER_EPOCH, "validate")]
    # One evaluation for each epoch, none of them begun again.
    assert steered.batches == EPOCHS * BATCHES
    assert [event.samples for event in of(EvaluationFinished)] == [SAMPLES] * EPOCHS


def test_a_pause_holds_a_test_that_was_asked_for_in_its_midst():
    resumer = Resumer()
    steered = Commanded().at(1, resumer).at(FIRST, Test()).at_batch(2, Pause())
    assert_same(steered.run(), expected())
    assert resumer.join() == [(FIRST, "train")]
    assert "in the midst of a scan" in only(Pause).outcome.message
    assert only(Test).outcome.result.samples == SAMPLES
    # The pause was answered, and what was asked in it, before the test that it held.
    kinds = [type(answer.command) for answer in answered()]
    assert kinds == [Pause, Note, Resume, Test]


def test_a_held_test_that_is_cancelled_leaves_the_run_paused():
    resumer = Resumer([Cancel(), Resume()])
    steered = Commanded().at(1, resumer).at(FIRST, Test()).at_batch(2, Pause())
    assert_same(steered.run(), expected())
    resumer.join()
    assert "broken off" in only(Test).outcome.reason
    assert isinstance(only(Cancel).outcome, Applied)


def test_a_pause_in_the_test_after_training_holds_it():
    resumer = Resumer()
    steered = Commanded(do_test_after=True, linger=False)
    steered.at(1, resumer).at_batch(EPOCHS * BATCHES + 1, Pause())
    assert_same(steered.run(), expected())
    assert resumer.join() == [(STEPS, "test")]


# Run for


@pytest.mark.parametrize("at", [FIRST, STEPS_PER_EPOCH - 2])
def test_run_for_steps_pauses_exactly_there(at):
    resumer = Resumer()
    steered = Commanded().at(1, resumer).at(at, RunFor(steps=6))
    assert_same(steered.run(), expected())
    assert [step for step, _ in resumer.join()] == [at + 6]
    answer = only(RunFor)
    assert answer.step == at
    assert answer.outcome.result.pause_at_step == at + 6
    assert [event.pause_at_step for event in of(LimitsChanged)] == [None, at + 6, None]


def test_run_for_epochs_pauses_at_the_end_of_one_after_its_validation():
    resumer = Resumer()
    steered = Commanded().at(1, resumer).at(FIRST, RunFor(epochs=2))
    assert_same(steered.run(), expected())
    assert resumer.join() == [(2 * STEPS_PER_EPOCH, "between")]
    assert only(RunFor).outcome.result.pause_after_epoch == 2
    values = [event for event in events() if isinstance(event, (EvaluationFinished, StateChanged))]
    paused = [getattr(event, "reason", "") for event in values].index(
        "ran for as long as was asked"
    )
    assert sum(isinstance(event, EvaluationFinished) for event in values[:paused]) == 2
    assert [event.pause_after_epoch for event in of(LimitsChanged)] == [None, 2, None]


def test_run_for_lets_a_paused_run_go_on_and_again_and_again():
    resumer = Resumer([RunFor(steps=1)], [RunFor(steps=3)], [RunFor(epochs=1)], [Resume()])
    steered = Commanded().at(1, resumer).at(FIRST, Pause())
    assert_same(steered.run(), expected())
    assert resumer.join() == [
        (FIRST, "train"),
        (FIRST + 1, "train"),
        (FIRST + 4, "train"),
        (STEPS_PER_EPOCH, "between"),
    ]


def test_between_two_epochs_one_epoch_is_the_next_one():
    resumer = Resumer([RunFor(epochs=1)], [Resume()])
    steered = Commanded().at(1, resumer, RunFor(epochs=1))
    assert_same(steered.run(), expected())
    assert resumer.join() == [(STEPS_PER_EPOCH, "between"), (2 * STEPS_PER_EPOCH, "between")]


def test_the_last_run_for_counts():
    resumer = Resumer()
    steered = Commanded().at(1, resumer).at(FIRST, RunFor(epochs=1), RunFor(steps=2))
    steered.run()
    assert [step for step, _ in resumer.join()] == [FIRST + 2]


def test_a_run_that_ends_before_does_not_pause():
    steered = Commanded().at(FIRST, RunFor(steps=1000))
    assert_same(steered.run(), expected())
    assert states() == ["running", "finished"]


def test_what_is_no_amount_to_run_for_is_refused_and_pauses_stay():
    refused = {
        RunFor(): "Say either how many steps or how many epochs to run for.",
        RunFor(steps=1, epochs=1): "Say either how many steps or how many epochs to run for.",
        RunFor(steps=0): "0 is no number to run for: it must be at least 1.",
        RunFor(epochs=-2): "-2 is no number to run for: it must be at least 1.",
    }
    resumer = Resumer([*refused, Resume()])
    steered = Commanded().at(1, resumer).at(FIRST, Pause())
    assert_same(steered.run(), expected())
    assert [step for step, _ in resumer.join()] == [FIRST]
    assert [a.outcome for a in answered(RunFor)] == [Refused(reason=r) for r in refused.values()]


# Stop


def test_a_stop_is_answered_when_the_final_checkpoint_is_on_disk():
    steered = Commanded().at(SECOND, Stop())
    found = steered.run()
    assert (steered.result.state, steered.result.step) == ("stopped", SECOND)
    (final,) = [event for event in of(CheckpointSaved) if event.label == "final"]
    answer = only(Stop)
    assert answer.step == SECOND
    result = answer.outcome.result
    assert (result.id, result.path, result.size, result.sha256) == (
        final.id,
        final.path,
        final.size,
        final.sha256,
    )
    assert final.id in answer.outcome.message
    # However long a disk takes for the checkpoints before: received; saved; answered.
    told = [e for e in events() if isinstance(e, CommandChanged) or e == final]
    kinds = [type(event).__name__ for event in told]
    assert kinds[-3:] == ["CommandChanged", "CheckpointSaved", "CommandChanged"]
    assert_same(load(final)["model"], found)
    assert steered.result.checkpoint.exists()


def test_a_stop_ends_a_pause():
    resumer = Resumer([Stop()])
    steered = Commanded().at(1, resumer).at(FIRST, Pause())
    steered.run()
    resumer.join()
    assert (steered.result.state, steered.result.step) == ("stopped", FIRST)


def test_after_a_stop_everything_is_refused():
    after = [
        Stop(),
        Pause(),
        Resume(),
        RunFor(steps=1),
        SetHyperparameters(values={"lr": 0.5}),
        Extend(epochs=1),
        LoadCheckpoint(checkpoint="initial"),
        Reset(),
        Prove(),
    ]
    steered = Commanded().at(FIRST, Stop(), *after)
    found = steered.run()
    assert steered.result.step == FIRST
    refused = [answer for answer in answered() if isinstance(answer.outcome, Refused)]
    assert [type(answer.command) for answer in refused] == [type(command) for command in after]
    assert all("The run is stopping" in answer.outcome.reason for answer in refused)
    (stop,) = [answer for answer in answered(Stop) if isinstance(answer.outcome, Applied)]
    assert_same(load(stop.outcome.result)["model"], found)


def test_a_stop_breaks_a_test_off():
    steered = Commanded().at(FIRST, Test()).at_batch(1, Stop())
    steered.run()
    assert steered.batches == 1
    assert steered.result.step == FIRST
    assert "broken off" in only(Test).outcome.reason
    assert isinstance(only(Stop).outcome, Applied)


def test_a_stop_ends_a_test_that_is_held():
    resumer = Resumer([Stop()])
    steered = Commanded().at(1, resumer).at(FIRST, Test()).at_batch(1, Pause())

    # Where the stop did not do it, the test shall end all the same.
    def give_up():
        engine = steered.engine
        if engine is not None and engine.desk.long_command is not None:
            gave_up.append(True)
            engine.desk.receive(CommandRequest(id="give up", author="test", command=Cancel()))

    gave_up: List[bool] = []
    timer = threading.Timer(5, give_up)
    timer.start()
    steered.run()
    timer.cancel()
    resumer.join()
    assert gave_up == []
    assert (steered.result.state, steered.result.step) == ("stopped", FIRST)


def test_a_stop_in_a_validation_ends_there_and_keeps_what_was_trained():
    steered = Commanded().at_batch(2, Stop())
    found = steered.run()
    assert (steered.result.state, steered.result.step) == ("stopped", STEPS_PER_EPOCH)
    assert only(Stop).outcome.result.id == f"baseline@{STEPS_PER_EPOCH}-final"
    assert_same(load(only(Stop).outcome.result)["model"], found)
    assert of(EvaluationFinished) == []


def test_a_stop_whose_checkpoint_cannot_be_written_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    steered = Commanded(save_dir=tmp_path / "file").at(FIRST, Stop())
    steered.run()
    outcome = only(Stop).outcome
    assert isinstance(outcome, Applied)
    assert outcome.result is None
    assert "could not be written" in outcome.message
    assert steered.result.checkpoint is None


# Cancel


@pytest.mark.parametrize("kind", [Test, Validate])
def test_a_long_command_is_broken_off_and_training_is_where_it_was(kind):
    steered = Commanded().at(FIRST, kind()).at_batch(1, Cancel())
    assert_same(steered.run(), expected())
    assert steered.batches == 1 + EPOCHS * BATCHES
    assert isinstance(only(Cancel).outcome, Applied)
    assert (
        f"'{'test' if kind is Test else 'validate'}' is broken off" in only(Cancel).outcome.message
    )
    split = "test" if kind is Test else "validation"
    reason = f"The evaluation on the {split} data was broken off."
    assert only(kind).outcome == Refused(reason=reason)
    assert len(of(EvaluationFinished)) == EPOCHS


def test_a_proof_is_broken_off_and_the_run_is_as_it_was():
    # The first pass is steps 6 to 8; the cancel comes within it.
    steered = Commanded().at(FIRST, Prove(steps=3))
    calls = []

    def cancel(module, args):
        calls.append(steered.engine.step if steered.engine else 0)
        if calls.count(FIRST) == 2:
            steered.give(Cancel())

    steered.parts["model"].register_forward_pre_hook(cancel)
    assert_same(steered.run(), expected())
    assert only(Prove).outcome == Refused(reason="The proof was broken off; the run is as it was.")


def test_a_cancel_names_what_it_cancels_or_is_refused():
    steered = Commanded().at(FIRST, Cancel(), Test())
    # The first command that was given has the id 1, the test 2.
    steered.at_batch(1, Cancel(command="1"), Cancel(command="2"))
    assert_same(steered.run(), expected())
    nothing, other, right = [answer.outcome for answer in answered(Cancel)]
    assert nothing == Refused(reason="No command is under way that could be cancelled.")
    assert other == Refused(reason="Under way is 'test' with the id 2, not that one.")
    assert isinstance(right, Applied)


# Test and validate


@pytest.mark.parametrize("kind", [Test, Validate])
def test_an_evaluation_is_that_of_the_live_weights_and_disturbs_nothing(kind):
    parts = make("dropout")
    parts["model"][1].eval()
    wanted = bare(parts)
    steered = Commanded().at(FIRST, SaveCheckpoint(name="here"), kind())
    modes = []
    steered.at(FIRST + 1, lambda s: modes.append([m.training for m in s.parts["model"].modules()]))
    steered.parts["model"][1].eval()
    assert_same(steered.run(), wanted)
    assert modes == [[True, True, False, True, True, True]]
    result = only(kind).outcome.result
    prefix, split = ("test_", "test") if kind is Test else ("val_", "validation")
    (saved,) = [event for event in of(CheckpointSaved) if event.label == "here"]
    assert result.values == pytest.approx(plain_evaluation(load(saved), prefix), rel=1e-5)
    assert (result.split, result.samples) == (split, SAMPLES)
    event = next(event for event in of(EvaluationFinished) if event.step == FIRST)
    assert (event.split, event.samples, event.values) == (split, SAMPLES, result.values)
    assert dict(series(f"{prefix}loss"))[FIRST] == result.values[f"{prefix}loss"]
    for value in result.values.values():
        assert f"{value:.5g}" in only(kind).outcome.message


def test_an_evaluation_in_the_midst_of_another_disturbs_neither():
    steered = Commanded().at_batch(2, Validate(), Test())
    assert_same(steered.run(), expected())
    found = {(e.step, e.split): e.values for e in of(EvaluationFinished)}
    inner = only(Validate)
    assert (inner.step, inner.phase) == (STEPS_PER_EPOCH, "validate")
    values = [e.values for e in of(EvaluationFinished) if e.split == "validation"]
    assert values[0] == pytest.approx(values[1], rel=1e-5)
    assert (STEPS_PER_EPOCH, "test") in found
    # The run's own was not begun again.
    assert steered.batches == (EPOCHS + 2) * BATCHES


@pytest.mark.parametrize(
    ("kind", "loader", "reason"),
    [
        (Test, "test_loader", "There is no test data: the script gave fit no test_loader=."),
        (
            Validate,
            "val_loader",
            "There is no validation data: the script gave fit no val_loader=.",
        ),
    ],
)
def test_without_data_an_evaluation_is_refused(kind, loader, reason):
    steered = Commanded().at(FIRST, kind())
    assert_same(steered.run(**{loader: None}), expected())
    assert only(kind).outcome == Refused(reason=reason)


def test_what_the_validation_step_raises_is_a_refusal_with_its_traceback_in_the_log():
    steered = Commanded().at(FIRST, Test()).at(SECOND, Validate())
    failing = []

    @steered.trainer.validation_step
    def validate(batch, state):
        state["model"](batch[0])
        if state["step"] in (FIRST - 1, SECOND - 1) and steered.batches in (2, 5):
            failing.append(state["step"])
            raise ZeroDivisionError("my own")
        return {"loss": torch.tensor(0.5)}

    steered.parts["model"][3].p = 0.3
    assert_same(steered.run(), expected())
    assert failing
    (reason,) = [a.outcome.reason for a in answered() if isinstance(a.outcome, Refused)]
    assert reason == (
        "'test' failed, and training is where it was: ZeroDivisionError: my own. "
        "The log has the traceback."
    )
    (line,) = [line for line in of(LogLine) if "ZeroDivisionError" in line.text]
    assert "in validate" in line.text
    assert line.text.startswith("Traceback")
    assert (line.level, line.step) == (40, FIRST)
    assert only(Validate).outcome.result.values == {"val_loss": 0.5}
    assert steered.result.state == "finished"


def test_a_mean_that_is_not_finite_is_said():
    steered = Commanded().at(FIRST, Test())

    @steered.trainer.validation_step
    def validate(batch, state):
        return {"loss": torch.tensor(float("nan"))}

    steered.run()
    outcome = only(Test).outcome
    assert outcome.result.values == {"test_loss": None}
    assert "test_loss not finite" in outcome.message


# While a long command is under way


def test_commands_wait_for_the_long_one_that_is_under_way_and_keep_their_order():
    steered = Commanded().at(FIRST, Test())
    steered.at_batch(
        1, SetHyperparameters(values={"lr": 0.5}), Note(text="now"), SaveCheckpoint(name="later")
    )
    # After its last look at what waits.
    steered.at_batch(BATCHES, SetHyperparameters(values={"lr": 0.25}), Validate())
    steered.run()
    # The one that is saved is answered when it is on disk.
    kinds = [type(answer.command) for answer in answered(*(set(RESULTS) - {SaveCheckpoint}))]
    assert kinds == [Note, Test, SetHyperparameters, SetHyperparameters, Validate]
    changes = [answer.command.values["lr"] for answer in answered(SetHyperparameters)]
    assert changes == [0.5, 0.25]
    assert dict(series("lr"))[FIRST + 1] == 0.25
    # It was saved between the two changes, in the order in which they were given.
    state = load(only(SaveCheckpoint).outcome.result)
    assert state["optimizer"]["param_groups"][0]["lr"] == 0.5
    assert only(Test).outcome.result.samples == SAMPLES


def test_a_second_long_command_waits_for_the_first():
    steered = Commanded().at(FIRST, Test(), Validate(), Prove(steps=2)).at_batch(1, Test())
    assert_same(steered.run(), expected())
    kinds = [type(answer.command) for answer in answered()]
    assert kinds == [Test, Validate, Prove, Test]
    assert all(isinstance(answer.outcome, Applied) for answer in answered())


# Set hyperparameters


def test_a_change_is_in_force_at_the_next_step_and_in_the_record():
    steered = Commanded("scheduler-epoch").at(FIRST, SetHyperparameters(values={"lr": 0.002}))
    steered.run()
    rates = [rate for _, rate in series("lr")]
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(
        torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.01), T_max=EPOCHS
    )
    own = []
    for _ in range(EPOCHS):
        own.append(scheduler.optimizer.param_groups[0]["lr"])
        scheduler.optimizer.step()
        scheduler.step()
    assert rates[:FIRST] == [0.01] * FIRST
    assert rates[FIRST:STEPS_PER_EPOCH] == [0.002] * (STEPS_PER_EPOCH - FIRST)
    factor = 0.002 / 0.01
    assert rates[STEPS_PER_EPOCH : 2 * STEPS_PER_EPOCH] == [own[1] * factor] * STEPS_PER_EPOCH
    assert rates[2 * STEPS_PER_EPOCH :] == [own[2] * factor] * STEPS_PER_EPOCH
    (change,) = only(SetHyperparameters).outcome.result.changes
    assert (change.name, change.group, change.before) == ("lr", 0, 0.01)
    assert (change.requested, change.applied) == (0.002, 0.002)
    before, after = of(HyperparametersDeclared)
    assert (before.step, before.lr_owner) == (0, "scheduler")
    assert (after.step, after.lr_owner, after.lr_factors) == (FIRST, "scaled", [factor])
    assert after.lr_rule == "CosineAnnealingLR sets the learning rate, times 0.2."
    assert {row.name: row.value for row in after.values}["lr"] == 0.002
    assert "lr of group 0: 0.01 -> 0.002" in only(SetHyperparameters).outcome.message
    assert after.lr_rule in only(SetHyperparameters).outcome.message


def test_held_and_released_through_a_training():
    steered = Commanded("scheduler-step")
    steered.at(FIRST, SetHyperparameters(values={"lr": 0.002}, hold=True))
    steered.at(SECOND, SetHyperparameters(hold=False))
    steered.run()
    plain = Commanded("scheduler-step")
    held = dict(series("lr"))
    plain.run()
    own = dict(series("lr"))
    for step in range(1, STEPS + 1):
        assert held[step] == (0.002 if FIRST < step <= SECOND else own[step])


def test_what_is_set_and_not_saved_is_gone_after_going_back():
    steered = Commanded("scheduler-step")
    steered.at(FIRST, SaveCheckpoint(name="one"))
    change = SetHyperparameters(values={"lr": 0.5, "grad_clip_norm": 0.01, "betas.0": 0.5})
    steered.at(FIRST + 1, change)
    steered.at(FIRST + 3, LoadCheckpoint(checkpoint="one"))
    assert_same(steered.run(), expected("scheduler-step"))
    assert [event.lr_owner for event in of(HyperparametersDeclared)] == [
        "scheduler",
        "scaled",
        "scheduler",
    ]


def test_clipping_begins_at_the_next_step_and_ends_again():
    steered = Commanded("shuffled").at(FIRST, SetHyperparameters(values={"grad_clip_norm": 1e-4}))
    steered.at(FIRST + 2, SetHyperparameters(values={"grad_clip_norm": 0}))
    norms = {}

    def norm(module, args):
        if module.training and steered.engine is not None and steered.engine.step:
            gradients = [p.grad.norm() for p in module.parameters() if p.grad is not None]
            norms[steered.engine.step] = torch.stack(gradients).norm().item()

    # Gradients are cleared before the forward pass; what the step left is looked at afterwards.
    original = steered.parts["optimizer"].step

    def step(*args, **kwargs):
        gradients = [p.grad.norm() for p in steered.parts["model"].parameters()]
        norms[steered.engine.step + 1] = torch.stack(gradients).norm().item()
        return original(*args, **kwargs)

    steered.parts["optimizer"].step = step
    steered.run()
    small = [number for number, norm in sorted(norms.items()) if norm < 2e-4]
    assert small == [FIRST + 1, FIRST + 2]


def test_a_tunable_is_read_back_at_the_next_step_and_survives_what_a_checkpoint_does():
    steered = Commanded("shuffled")
    read = []

    @steered.trainer.training_step
    def step(batch, state):
        number = state["step"] + 1
        read.append((number, steered.trainer.tunable("mixup", 0.5, low=0.0, high=1.0)))
        state["model"](batch[0])
        return {"loss": torch.tensor(1.0)}

    steered.at(2, SetHyperparameters(values={"mixup": 2}))
    steered.at(3, SetHyperparameters(values={"mixup": 0.75}), SaveCheckpoint(name="set"))
    steered.at(5, SetHyperparameters(values={"mixup": 1}), LoadCheckpoint(checkpoint="set"))
    steered.at(6, Reset())
    steered.run()
    assert read[:8] == [(1, 0.5), (2, 0.5), (3, 0.5), (4, 0.75), (5, 0.75), (4, 0.75), (5, 0.75),
                        (6, 0.75)]  # fmt: skip
    # Before step 1 nobody had registered it yet: it is its default again.
    assert read[8:] == [(number, 0.5) for number in range(1, STEPS + 1)]
    refused, *_ = answered(SetHyperparameters)
    assert refused.outcome.reason == "mixup is 2; it must be from 0 to 1."
    # Once when it was first read; the first declaration does not know it.
    names = [{row.name for row in event.values} for event in of(HyperparametersDeclared)]
    assert "mixup" not in names[0]
    assert all("mixup" in found for found in names[1:])


def test_a_group_of_several_is_changed_and_recorded_by_itself():
    steered = Commanded("shuffled")
    first, *rest = steered.parts["model"].parameters()
    groups = [{"params": [first], "lr": 0.5}, {"params": rest}]
    steered.parts["optimizer"] = torch.optim.SGD(groups, lr=0.1)
    steered.at(FIRST, SetHyperparameters(values={"lr": 0.01}, group=1))
    steered.run()
    assert {rate for _, rate in series("lr/0")} == {0.5}
    assert [rate for _, rate in series("lr/1")] == [0.1] * FIRST + [0.01] * (STEPS - FIRST)


# Extend


def test_extended_by_epochs_it_trains_so_many_more():
    steered = Commanded().at(FIRST, Extend(epochs=1)).at(SECOND, Extend(epochs=1))
    steered.run()
    assert (steered.result.step, steered.result.epoch) == (STEPS + 2 * STEPS_PER_EPOCH, EPOCHS + 2)
    found = [answer.outcome.result.max_epochs for answer in answered(Extend)]
    assert found == [EPOCHS + 1, EPOCHS + 2]
    assert [event.max_epochs for event in of(LimitsChanged)] == [EPOCHS, EPOCHS + 1, EPOCHS + 2]
    assert only_message(Extend)[-1] == f"Training ends after epoch {EPOCHS + 2}."


def only_message(kind):
    return [answer.outcome.message for answer in answered(kind)]


def by_steps(**options):
    steered = Commanded()
    steered.trainer._max_epochs, steered.trainer._max_steps = None, SECOND
    for name, value in options.items():
        setattr(steered.trainer, name, value)
    return steered


def test_extended_by_steps_it_trains_so_many_more():
    steered = by_steps().at(FIRST, Extend(steps=4))
    steered.run()
    assert steered.result.step == SECOND + 4
    assert only_message(Extend) == [f"Training ends at step {SECOND + 4}."]
    assert only(Extend).outcome.result.max_steps == SECOND + 4


def test_extended_at_its_last_step_it_goes_on():
    steered = by_steps().at(SECOND, Extend(steps=4))
    steered.run()
    assert steered.result.step == SECOND + 4


def test_extended_in_its_last_validation_it_goes_on():
    steered = Commanded().at_batch(EPOCHS * BATCHES, Extend(epochs=1))
    steered.run()
    assert steered.result.step == STEPS + STEPS_PER_EPOCH


def test_with_both_limits_each_is_extended_and_the_first_one_ends_it():
    steered = Commanded()
    steered.trainer._max_steps = SECOND
    steered.at(FIRST, Extend(epochs=1, steps=1000))
    steered.run()
    assert steered.result.step == STEPS + STEPS_PER_EPOCH
    (message,) = only_message(Extend)
    assert message == f"Training ends after epoch {EPOCHS + 1} or at step {SECOND + 1000}."


@pytest.mark.parametrize(
    ("make_run", "wanted", "refused"),
    [
        (
            Commanded,
            STEPS,
            {
                Extend(steps=3): f"This run ends after epoch {EPOCHS}: extend it by epochs.",
                Extend(epochs=1, steps=3): f"This run ends after epoch {EPOCHS}: extend it by",
                Extend(): "Say by how many epochs or steps, at least 1, to extend the run.",
                Extend(epochs=-1): "Say by how many epochs or steps, at least 1",
            },
        ),
        (
            by_steps,
            SECOND,
            {
                Extend(epochs=3): f"This run ends at step {SECOND}: extend it by steps.",
                Extend(steps=-5): "Say by how many epochs or steps, at least 1",
            },
        ),
    ],
)
def test_what_does_not_extend_this_run_is_refused(make_run, wanted, refused):
    steered = make_run().at(FIRST, *refused)
    steered.run()
    for answer, reason in zip(answered(Extend), refused.values()):
        assert answer.outcome.reason.startswith(reason)
    assert len(answered(Extend)) == len(refused)
    assert steered.result.step == wanted
    assert len(of(LimitsChanged)) == 1


def test_going_back_takes_an_extension_back_that_came_after():
    steered = Commanded().at(FIRST, SaveCheckpoint(name="one")).at(FIRST + 1, Extend(epochs=2))
    steered.at(FIRST + 2, LoadCheckpoint(checkpoint="one"))
    assert_same(steered.run(), expected())
    assert of(LimitsChanged)[-1].max_epochs == EPOCHS


# Note


def test_a_note_is_pinned_to_a_step_with_its_author():
    steered = (
        Commanded().at(FIRST, Note(text="  here it turned \n")).at(SECOND, Note(text="x", step=3))
    )
    steered.at(THIRD, Note(text="y", step=0), Note(text="z", step=THIRD))
    assert_same(steered.run(), expected())
    found = [(event.step, event.text, event.author, event.run) for event in of(NoteAdded)]
    assert found == [
        (FIRST, "here it turned", "ada", "baseline"),
        (3, "x", "ada", "baseline"),
        (0, "y", "ada", "baseline"),
        (THIRD, "z", "ada", "baseline"),
    ]
    lines = [(line.logger, line.text) for line in of(LogLine) if line.logger == "ada"]
    assert lines[0] == ("ada", f"note at step {FIRST}: here it turned")
    assert only_message(Note)[0] == f"Noted at step {FIRST}."


def test_what_is_no_note_is_refused():
    refused = {
        Note(text=" \n"): "The note is empty.",
        Note(text="x" * 2001): "The note has 2001 characters; 2000 fit.",
        Note(text="x", step=FIRST + 1): f"There is no step {FIRST + 1} yet: the run is at step",
        Note(text="x", step=-1): "There is no step -1 yet",
    }
    Commanded().at(FIRST, *refused, Note(text="\N{SNOWMAN}" * 2000)).run()
    *found, longest = answered(Note)
    for answer, reason in zip(found, refused.values()):
        assert answer.outcome.reason.startswith(reason)
    assert len(found) == len(refused)
    assert isinstance(longest.outcome, Applied)
    assert [len(event.text) for event in of(NoteAdded)] == [2000]


# Save and load


def test_a_saved_checkpoint_is_named_in_the_answer_and_on_disk():
    steered = Commanded(ckpt_keep=1)
    steered.at(FIRST, SaveCheckpoint(), SaveCheckpoint(name=" mine-1.0+b_ "))
    steered.at(SECOND, SaveCheckpoint(pin=True), SaveCheckpoint())
    assert_same(steered.run(), expected())
    ids = [answer.outcome.result.id for answer in answered(SaveCheckpoint)]
    assert ids == [
        f"baseline@{FIRST}-saved",
        f"baseline@{FIRST}-mine-1.0+b_",
        f"baseline@{SECOND}-saved",
        f"baseline@{SECOND}-saved-2",
    ]
    pinned = {event.id: event.pinned for event in of(CheckpointSaved)}
    assert [pinned[name] for name in ids] == [False, True, True, False]
    for answer in answered(SaveCheckpoint)[1:]:
        assert load(answer.outcome.result)["step"] in (FIRST, SECOND)
        assert answer.outcome.result.id in answer.outcome.message


def test_a_name_that_no_checkpoint_can_have_is_refused():
    names = ["a b", "a/b", "..\\a", "a@b", "x" * 61, "a\nb", "17"]
    names += ["initial", "best", "final", "latest", "periodic", "interrupted"]
    steered = Commanded().at(FIRST, *(SaveCheckpoint(name=name) for name in names))
    steered.run()
    for answer, name in zip(answered(SaveCheckpoint), names):
        assert isinstance(answer.outcome, Refused)
        assert repr(name) in answer.outcome.reason
    assert len(answered(SaveCheckpoint)) == len(names)
    assert {event.label for event in of(CheckpointSaved)} <= {"initial", "best", "final"}


def test_a_checkpoint_that_cannot_be_written_is_a_refusal(tmp_path):
    (tmp_path / "file").write_text("")
    steered = Commanded(save_dir=tmp_path / "file").at(FIRST, SaveCheckpoint(name="mine"))
    assert_same(steered.run(), expected())
    assert "could not be written" in only(SaveCheckpoint).outcome.reason


def test_a_state_that_cannot_be_saved_is_a_refusal_that_names_it():
    steered = Commanded().at(FIRST, SaveCheckpoint(name="mine"))

    class Scheduler:
        def step(self):
            pass

        def state_dict(self):
            return {"made": object()}

        def load_state_dict(self, state):
            pass

    scheduler = torch.optim.lr_scheduler.LambdaLR(steered.parts["optimizer"], lambda number: 1.0)
    scheduler.state_dict = Scheduler().state_dict
    assert_same(steered.run(scheduler=scheduler), expected())
    reason = only(SaveCheckpoint).outcome.reason
    assert "The state.scheduler.made is a object" in reason


def test_an_unknown_checkpoint_is_refused_with_what_is_kept():
    steered = Commanded().at(FIRST, SaveCheckpoint(name="mine"))
    steered.at(FIRST + 1, LoadCheckpoint(checkpoint="yours"), LoadCheckpoint(checkpoint=""))
    assert_same(steered.run(), expected())
    for answer in answered(LoadCheckpoint):
        assert answer.outcome.reason.startswith("There is no checkpoint")
        assert "baseline@0-initial" in answer.outcome.reason
        assert f"baseline@{FIRST}-mine" in answer.outcome.reason
    assert of(Rewound) == []


def test_a_checkpoint_that_is_damaged_or_gone_is_refused_and_training_goes_on():
    def damage(steered):
        keeper = steered.engine.keeper
        keeper.flush()
        for name, action in (("one", lambda path: path.write_bytes(b"x")), ("two", _unlink)):
            action(keeper.path(keeper.find(name, "baseline")))

    steered = Commanded().at(FIRST, SaveCheckpoint(name="one"), SaveCheckpoint(name="two"))
    steered.at(
        FIRST + 1, damage, LoadCheckpoint(checkpoint="one"), LoadCheckpoint(checkpoint="two")
    )
    assert_same(steered.run(), expected())
    damaged, gone = [answer.outcome.reason for answer in answered(LoadCheckpoint)]
    assert "SHA-256" in damaged
    assert "no longer there" in gone


def _unlink(path):
    path.unlink()


def test_loaded_in_place_the_run_is_where_it_was():
    steered = Commanded().at(FIRST, SaveCheckpoint(name="one"))
    steered.at(SECOND, LoadCheckpoint(checkpoint="one"))
    assert_same(steered.run(), expected())
    result = only(LoadCheckpoint).outcome.result
    assert (result.run, result.step, result.checkpoint) == (
        "baseline",
        FIRST,
        f"baseline@{FIRST}-one",
    )
    assert (result.exact, result.findings) == (True, [])
    (rewound,) = of(Rewound)
    assert (rewound.run, rewound.step, rewound.left_step, rewound.epoch) == (
        "baseline",
        FIRST,
        SECOND,
        1,
    )
    assert f"it was at step {SECOND} of baseline" in only(LoadCheckpoint).outcome.message
    assert states() == ["running", "finished"]


def test_a_paused_run_that_is_taken_back_stays_paused_there():
    resumer = Resumer([LoadCheckpoint(checkpoint="one"), Resume()])
    steered = Commanded().at(1, resumer).at(FIRST, SaveCheckpoint(name="one"))
    steered.at(SECOND, Pause())
    assert_same(steered.run(), expected())
    resumer.join()
    assert only(Resume).step == FIRST


@pytest.mark.parametrize(("given", "wanted"), [("", "baseline-2"), ("other", "other")])
def test_loaded_as_a_new_run_the_old_one_stays_as_it_is(given, wanted):
    steered = Commanded().at(FIRST, SaveCheckpoint(name="one"))
    steered.at(SECOND, LoadCheckpoint(checkpoint="one", as_new_run=True, run=given))
    assert_same(steered.run(), expected())
    old, new = summary().runs
    assert (old.name, old.state.value, old.step) == ("baseline", "stopped", SECOND)
    assert (new.name, new.state.value, new.step) == (wanted, "finished", STEPS)
    assert new.parents == ["baseline"]
    started = of(RunStarted)[-1]
    assert (started.checkpoint, started.step) == (f"baseline@{FIRST}-one", FIRST)
    assert only(LoadCheckpoint).outcome.result.run == wanted
    assert of(Rewound) == []
    assert steered.result.run == wanted
    # Its curve begins after the checkpoint.
    steps = [step for event in events() if getattr(event, "run", "") == wanted
             for step in getattr(event, "steps", [])]  # fmt: skip
    assert min(steps) == FIRST + 1


def test_a_name_that_is_taken_is_numbered():
    steered = Commanded().at(FIRST, SaveCheckpoint(name="one"))
    again = LoadCheckpoint(checkpoint="baseline@one", as_new_run=True, run="other")
    steered.at(FIRST + 1, again, again, LoadCheckpoint(checkpoint="baseline@one", as_new_run=True))
    steered.run()
    names = [answer.outcome.result.run for answer in answered(LoadCheckpoint)]
    assert names == ["other", "other-2", "baseline-2"]


def test_another_runs_checkpoint_in_place_switches_back_to_that_run():
    def leave(steered):
        steered.give(LoadCheckpoint(checkpoint="one", as_new_run=True, run="other"))
        steered.at(FIRST + 2, SaveCheckpoint(name="here"), come_back)

    def come_back(steered):
        # `other` has come to step 7 when the run that it left is gone on with.
        steered.give(LoadCheckpoint(checkpoint="baseline@one"))
        steered.at(FIRST + 4, LoadCheckpoint(checkpoint="other@here"))

    steered = Commanded().at(FIRST, SaveCheckpoint(name="one")).at(SECOND, leave)
    assert_same(steered.run(), expected())
    runs = {run.name: run for run in summary().runs}
    assert runs["other"].state.value == "finished"
    assert runs["other"].step == STEPS
    assert runs["baseline"].state.value == "stopped"
    changes = [(event.run, event.state.value) for event in of(StateChanged)]
    assert changes == [
        ("baseline", "running"),
        ("baseline", "stopped"),
        ("other", "running"),
        ("other", "stopped"),
        ("baseline", "running"),
        ("baseline", "stopped"),
        ("other", "running"),
        ("other", "finished"),
    ]
    assert [(event.run, event.step, event.left_step) for event in of(Rewound)] == [
        ("baseline", FIRST, SECOND),
        ("other", FIRST + 2, FIRST + 2),
    ]


def test_taken_back_in_the_midst_of_a_validation_it_is_exact():
    steered = Commanded().at(FIRST, SaveCheckpoint(name="one"))
    steered.at_batch(2, LoadCheckpoint(checkpoint="one"))
    assert_same(steered.run(), expected())
    assert only(LoadCheckpoint).phase == "train"
    assert only(LoadCheckpoint).outcome.result.exact


def test_reset_in_the_midst_of_a_validation_it_is_exact():
    def given():
        return shuffled(generator=torch.Generator().manual_seed(9))

    wanted = bare({**make("dropout"), "train_loader": given()})
    steered = Commanded().at_batch(BATCHES + 2, Reset())
    steered.parts["train_loader"] = given()
    assert_same(steered.run(), wanted)


def test_saved_in_the_midst_of_a_validation_and_gone_back_to_it_is_exact():
    steered = Commanded().at_batch(2, SaveCheckpoint(name="within"))
    steered.at(SECOND, LoadCheckpoint(checkpoint="within"))
    assert_same(steered.run(), expected())
    (event,) = of(Rewound)
    assert (event.step, event.exact) == (STEPS_PER_EPOCH, True)
    # The validation is done anew as a whole.
    assert steered.batches == (EPOCHS + 1) * BATCHES


def test_a_reset_begins_again_under_the_name_that_was_asked_for():
    steered = Commanded().at(SECOND, Reset(run="again")).at(SECOND + 1, Reset())
    assert_same(steered.run(), expected())
    assert [answer.outcome.result.run for answer in answered(Reset)] == ["again", "baseline-2"]


# Lingering


@pytest.fixture
def watched(monkeypatch):
    """Somebody has a dashboard open."""
    monkeypatch.setattr(Engine, "is_watched", property(lambda self: True))


def lingering(*commands):
    resumer = Resumer(*commands)
    return Commanded(linger=True).at(1, resumer), resumer


def test_a_lingering_run_is_extended_and_goes_on(watched):
    steered, resumer = lingering([Extend(epochs=1)], [Stop()])
    steered.run()
    steps = [step for step, _ in resumer.join()]
    assert steps == [STEPS, STEPS + STEPS_PER_EPOCH]
    assert only(Extend).phase == "end"
    # What was to be trained had been trained when it was stopped.
    assert steered.result.state == "finished"


def test_a_lingering_run_can_be_tested_and_noted_and_saved_and_stopped(watched):
    steered, resumer = lingering(
        [RunFor(steps=3), Test(), SaveCheckpoint(name="end"), Note(text="done"), Stop()]
    )
    assert_same(steered.run(), expected())
    resumer.join()
    refused = only(RunFor).outcome
    assert refused == Refused(reason="The run is at its end. Extend it first: otf ctl extend.")
    assert only(Test).outcome.result.samples == SAMPLES
    assert isinstance(only(SaveCheckpoint).outcome, Applied)
    assert only(Stop).outcome.result.id.startswith(f"baseline@{STEPS}-final")


@pytest.mark.parametrize(
    ("command", "step"),
    [(LoadCheckpoint(checkpoint="one"), FIRST), (Reset(run="again"), 0)],
)
def test_a_lingering_run_that_is_taken_back_is_held_until_it_is_resumed(watched, command, step):
    steered, resumer = lingering([command, Note(text="and now"), Resume()], [Stop()])
    steered.at(FIRST, SaveCheckpoint(name="one"))
    paused = []
    steered.parts["model"].register_forward_pre_hook(
        lambda module, args: paused.append(steered.engine.gate.is_paused)
    )
    assert_same(steered.run(), expected())
    resumer.join()
    assert only(Resume).step == step
    assert not any(paused)
    assert steered.result.step == STEPS


# Everything that is refused


def test_whatever_is_refused_harms_nothing():
    steered = Commanded()
    bad = [
        Resume(),
        RunFor(),
        Cancel(),
        SaveCheckpoint(name="a/b"),
        LoadCheckpoint(checkpoint="nowhere"),
        SetHyperparameters(),
        SetHyperparameters(values={"lr": -1.0}),
        SetHyperparameters(values={"weight_decay": 0.5, "nothing": 1}),
        SetHyperparameters(values={"lr": 0.5}, group=7, hold=True),
        Extend(),
        Extend(steps=5),
        Note(text=""),
        Prove(steps=0),
    ]
    for step in (FIRST, SECOND, THIRD):
        steered.at(step, *bad)
    steered.at_batch(2, *bad, Prove())
    assert_same(steered.run(), expected())
    found = answered()
    assert len(found) == 4 * len(bad) + 1
    assert {type(answer.outcome) for answer in found} == {Refused}
    assert all(answer.outcome.reason for answer in found)
    assert states() == ["running", "finished"]
    assert len(of(HyperparametersDeclared)) == len(of(LimitsChanged)) == 1


# The record


RESULTS = {
    Pause: None,
    Resume: None,
    RunFor: "LimitsSet",
    Cancel: None,
    SaveCheckpoint: "CheckpointWritten",
    LoadCheckpoint: "Rewinding",
    Reset: "Rewinding",
    Test: "Evaluation",
    Validate: "Evaluation",
    SetHyperparameters: "HyperparametersSet",
    Extend: "LimitsSet",
    Note: None,
    Prove: "Proof",
    CheckHealth: "HealthChecked",
    Stop: "CheckpointWritten",
}


def test_every_command_is_received_and_answered_with_its_phase_and_its_result():
    steered = Commanded()
    steered.at(FIRST, Pause(), Resume(), SaveCheckpoint(name="one"), Test(), Validate())
    steered.at(FIRST, SetHyperparameters(values={"lr": 0.01}), Extend(epochs=1), Note(text="x"))
    steered.at(FIRST, Prove(steps=2), CheckHealth(), RunFor(steps=1000))
    steered.at(FIRST + 1, LoadCheckpoint(checkpoint="one"))
    steered.at_batch(2 * BATCHES + 1, Note(text="validating"), Test())
    steered.at_batch(2 * BATCHES + 2, Cancel())
    steered.at(SECOND, Reset())
    steered.at(SECOND + 1, Stop())
    steered.run()
    changes = of(CommandChanged)
    assert {type(event.command) for event in changes} == set(Command.__args__) == set(RESULTS)
    by_id = {}
    for event in changes:
        by_id.setdefault(event.id, []).append(event)
    for received, done in by_id.values():
        assert (received.status, received.outcome) == (CommandStatus.RECEIVED, None)
        assert received.command == done.command
        assert received.author == done.author == "ada"
        assert {received.phase, done.phase} <= {"between", "train", "validate"}
        broken_off = isinstance(done.outcome, Refused)
        assert done.status is (CommandStatus.REFUSED if broken_off else CommandStatus.APPLIED)
        if not broken_off:
            wanted = RESULTS[type(done.command)]
            result = done.outcome.result
            assert (None if result is None else type(result).__name__) == wanted
            assert done.outcome.message
            assert done.outcome.step <= done.step
    notes = [answer.phase for answer in answered(Note)]
    assert notes == ["train", "validate"]
