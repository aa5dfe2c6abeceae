"""What a person can do to a Trainer, and what is refused with a reason."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import pytest
import torch

pytest.importorskip("transformers")

from otf_hooks import LossSpike, NoImprovement, OnTheFlyTransformersCallback
from otf_hooks.engine import Engine
from otf_hooks.errors import ArgumentError, NotPossible
from otf_session.commands import (
    Applied,
    CommandRequest,
    Extend,
    LoadCheckpoint,
    Note,
    Pause,
    Prove,
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
    DeterminismAssessed,
    EpochStarted,
    EvaluationFinished,
    GuardTripped,
    LogLine,
    NoteAdded,
    RunStarted,
    StateChanged,
)
from otf_session.resume import How, find_order, parse_target
from transformers import EarlyStoppingCallback, TrainerCallback, default_data_collator

from ..record import of, series, states, summary
from .trainers import (
    SCENARIOS,
    STEPS,
    STEPS_PER_EPOCH,
    Sentences,
    Steered,
    Stream,
    accuracy,
    make_trainer,
    weights,
)


def plain(callbacks=(), **options):
    return make_trainer(callbacks=callbacks, **options)


def outcome(kind):
    (found,) = [
        event.outcome
        for event in of(CommandChanged)
        if isinstance(event.command, kind) and event.outcome is not None
    ]
    return found


def when_held(*commands):
    """After the run is held, give these commands, one after the other."""

    def begin(engine):
        def give():
            while not engine.gate.is_paused:
                time.sleep(0.01)
            for number, command in enumerate(commands):
                request = CommandRequest(id=f"held-{number}", author="test", command=command)
                engine.desk.receive(request)

        threading.Thread(target=give, daemon=True).start()

    return begin


def same(first, second):
    return all(torch.equal(first[name], second[name]) for name in second)


def test_all_that_is_logged_is_recorded_under_its_own_name_at_its_step():
    steered = Steered(SCENARIOS["evaluated"])
    steered.run()
    for entry in steered.trainer.state.log_history:
        for name, value in entry.items():
            if name not in ("step", "epoch"):
                assert (entry["step"], value) in series(name), name
    assert {"loss", "grad_norm", "learning_rate", "eval_loss", "eval_accuracy", "train_loss"} <= {
        name for entry in steered.trainer.state.log_history for name in entry
    }
    assert [event.step for event in of(EvaluationFinished)] == [*range(5, STEPS + 1, 5)]
    assert [(event.epoch, event.step) for event in of(EpochStarted)] == [
        (epoch + 1, epoch * STEPS_PER_EPOCH) for epoch in range(3)
    ]
    assert [line for line in of(LogLine) if "checkpoint-20" in line.text]


@pytest.mark.parametrize("name", ["dropout", "accumulation"])
def test_every_step_has_its_loss_and_the_rate_it_was_trained_with(name):
    steered = Steered(SCENARIOS[name])
    steered.trainer.args.logging_steps = 1
    steered.run()
    logged = dict(series("loss"))
    assert [step for step, _ in series("step_loss")] == [*range(1, STEPS + 1)]
    assert dict(series("step_loss")) == pytest.approx(logged, rel=1e-4)
    used = [rate for _, rate in series("lr")]
    assert used[0] == (0.0 if name == "accumulation" else 1e-2)
    assert used[1] > used[0] if name == "accumulation" else used[1] < used[0]
    samples = 8 if name == "accumulation" else 4
    seconds = dict(series("step_time"))
    assert dict(series("throughput"))[7] == pytest.approx(samples / seconds[7], rel=1e-3)


def test_pausing_running_for_a_while_and_stopping():
    steered = Steered(plain).at(3, Pause(), when_held(RunFor(steps=4)))
    steered.at(6, when_held(RunFor(epochs=1)))
    steered.at(9, when_held(Note(text="enough"), Stop()))
    steered.run()
    paused = [event.step for event in of(StateChanged) if event.state.value == "paused"]
    assert paused == [3, 7, STEPS_PER_EPOCH]
    assert states()[-1] == "stopped"
    (note,) = of(NoteAdded)
    assert (note.step, note.text) == (STEPS_PER_EPOCH, "enough")
    assert steered.trainer.state.global_step == STEPS_PER_EPOCH


def test_without_the_trainer_what_needs_it_is_refused_with_the_reason():
    steered = Steered(plain, attach=False)
    steered.at(2, SaveCheckpoint(name="here"))
    steered.at(4, LoadCheckpoint(checkpoint="here"), Reset(), Extend(epochs=1), Validate(), Prove())
    steered.run()
    assert isinstance(outcome(SaveCheckpoint), Applied)
    for kind in (LoadCheckpoint, Reset, Extend, Validate):
        assert "callback.attach(trainer)" in outcome(kind).reason
    assert "loop of its own" in outcome(Prove).reason
    assert steered.trainer.state.global_step == STEPS
    assert summary().runs[0].state.value == "finished"


def test_without_data_an_evaluation_is_refused():
    steered = Steered(plain).at(2, Validate(), Test())
    steered.trainer.eval_dataset = None
    steered.run()
    assert "eval_dataset=" in outcome(Validate).reason
    assert "test_dataset=" in outcome(Test).reason


def test_an_evaluation_measures_the_live_weights_and_is_not_logged():
    steered = Steered(
        lambda callbacks: plain(callbacks, trainer={"compute_metrics": accuracy}),
        test_dataset=Sentences(12),
    )
    steered.trainer.eval_dataset = {"one": Sentences(8), "two": Sentences(16)}
    steered.at(STEPS, Validate(), Test())
    steered.run()
    found = outcome(Validate).result
    assert found.samples == 24
    assert {"eval_one_loss", "eval_one_accuracy", "eval_two_loss", "eval_two_accuracy"} == set(
        found.values
    )
    assert not [entry for entry in steered.trainer.state.log_history if "eval_one_loss" in entry]
    metrics = steered.trainer.evaluate(Sentences(12), metric_key_prefix="test")
    assert outcome(Test).result.values["test_loss"] == pytest.approx(metrics["test_loss"])
    assert steered.trainer.model.training is False  # by the line before, as always


def test_an_evaluation_can_be_broken_off():
    steered = Steered(plain).at(3, Validate())
    steered.trainer.args.per_device_eval_batch_size = 2
    engine = []

    class Breaks(TrainerCallback):
        def on_prediction_step(self, args, state, control, **kwargs):
            from otf_session.commands import Cancel

            engine.append(1)
            request = CommandRequest(id=f"{len(engine)}", author="test", command=Cancel())
            steered.engine.desk.receive(request)

    steered.trainer.add_callback(Breaks())
    steered.callback.attach(steered.trainer)
    found = steered.run()
    assert "broken off" in outcome(Validate).reason
    assert len(engine) == 1
    bare = plain()
    bare.train()
    assert same(found, weights(bare))


def test_a_rate_that_is_set_is_a_factor_on_the_schedulers():
    steered = Steered(plain).at(4, SetHyperparameters(values={"lr": 2e-2}))
    steered.run()
    used = [rate for _, rate in series("lr")]
    planned = [1e-2 * (STEPS - step) / STEPS for step in range(STEPS)]
    assert used[:4] == pytest.approx(planned[:4])
    factor = 2e-2 / planned[4]
    assert used[4:] == pytest.approx([factor * rate for rate in planned[4:]])
    assert steered.trainer.lr_scheduler.get_last_lr()[0] == pytest.approx(0.0, abs=1e-9)


def test_a_rate_that_is_held_stays_over_a_going_back():
    steered = Steered(plain).at(4, SetHyperparameters(values={"lr": 3e-3}, hold=True))
    steered.at(12, SaveCheckpoint(name="here"))
    steered.at(14, SetHyperparameters(values={"lr": 5e-3}), LoadCheckpoint(checkpoint="here"))
    steered.run()
    assert [rate for _, rate in series("lr")][4:] == pytest.approx([3e-3] * (10 + STEPS - 12))


@pytest.mark.parametrize("values", [{"weight_decay": 0.3}, {"grad_clip_norm": 0.01}])
def test_other_values_are_what_the_arguments_would_have_been(values):
    steered = Steered(plain).at(STEPS_PER_EPOCH, SetHyperparameters(values=values))
    found = steered.run()
    assert isinstance(outcome(SetHyperparameters), Applied)

    class Sets(TrainerCallback):
        def on_step_end(self, args, state, control, optimizer=None, **kwargs):
            if state.global_step == STEPS_PER_EPOCH and "weight_decay" in values:
                for group in optimizer.param_groups:
                    group["weight_decay"] = 0.3
            elif state.global_step == STEPS_PER_EPOCH:
                args.max_grad_norm = 0.01

    bare = plain([Sets()])
    bare.train()
    assert same(found, weights(bare))


def test_extending_trains_on_by_the_schedule_of_the_new_length():
    # Where the Trainer itself would have been told so from the start, were it not for the steps
    # before: a constant rate is the same either way.
    steered = Steered(lambda callbacks: plain(callbacks, lr_scheduler_type="constant"))
    steered.at(14, Extend(epochs=1))
    found = steered.run()
    bare = plain(lr_scheduler_type="constant", num_train_epochs=4)
    bare.train()
    assert same(found, weights(bare))
    assert steered.output.global_step == STEPS + STEPS_PER_EPOCH
    assert series("train_loss")[-1][0] == STEPS + STEPS_PER_EPOCH
    assert [line for line in of(LogLine) if "anew, for 4 epochs" in line.text]


def test_a_run_by_steps_is_extended_by_steps_also_at_its_end():
    steered = Steered(lambda callbacks: plain(callbacks, max_steps=6))
    steered.at(6, Extend(steps=7))
    steered.run()
    assert steered.output.global_step == 13
    assert [step for step, _ in series("lr")] == [*range(1, 14)]


def test_resetting_begins_a_run_of_the_same_steps():
    steered = Steered(plain).at(13, Reset(run="again"))
    found = steered.run()
    first, again = summary().runs
    assert (first.state.value, first.step) == ("stopped", 13)
    assert (again.name, again.parents, again.state.value) == ("again", ["baseline"], "finished")
    bare = plain()
    bare.train()
    assert same(found, weights(bare))


def order(home, monkeypatch, how, target="latest"):
    found = find_order(home, parse_target(target), how)
    for variable, value in found.environment().items():
        monkeypatch.setenv(variable, value)


def test_a_new_run_from_a_checkpoint_and_one_with_weights_alone(home, monkeypatch):
    Steered(plain).at(13, SaveCheckpoint(name="here")).run()
    wanted = None
    for how in (How.NEW_RUN, How.WEIGHTS_ONLY):
        order(home, monkeypatch, how, "latest:baseline@here")
        steered = Steered(plain)
        found = steered.run()
        wanted = wanted or found
    runs = {run.name: run for run in summary().runs}
    assert list(runs) == ["baseline", "baseline-2", "baseline-3"]
    assert {run.step for run in runs.values()} == {STEPS}
    assert [event.step for event in of(RunStarted)] == [0, 13, 0]
    bare = plain()
    bare.train()
    assert same(wanted, weights(bare))
    assert not same(found, wanted)


def test_a_replay_comes_to_the_same_weights(home, monkeypatch):
    steered = Steered(plain).at(5, SetHyperparameters(values={"lr": 2e-2}))
    steered.at(STEPS_PER_EPOCH, SetHyperparameters(values={"weight_decay": 0.1}))
    wanted = steered.run()
    order(home, monkeypatch, How.REPLAY, "latest:baseline@final")
    assert same(Steered(plain).run(), wanted)
    assert [line for line in of(LogLine) if "bit for bit" in line.text]


def test_what_is_resumed_without_the_trainer_says_what_it_needs(home, monkeypatch):
    Steered(plain).at(13, SaveCheckpoint(name="here")).run()
    before = len(of(StateChanged))
    order(home, monkeypatch, How.SAME_RUN, "latest:baseline@here")
    with pytest.raises(NotPossible, match=r"callback\.attach\(trainer\)"):
        Steered(plain, attach=False).run()
    assert len(of(StateChanged)) == before


def test_a_guard_pauses_on_what_the_trainer_leaves_out_of_its_mean():
    def broken(callbacks):
        trainer = plain(callbacks, max_grad_norm=0.0)

        class Breaks(TrainerCallback):
            def on_step_begin(self, args, state, control, model=None, **kwargs):
                if state.global_step == 5:
                    with torch.no_grad():
                        model.classifier.bias.fill_(float("nan"))

        trainer.add_callback(Breaks())
        return trainer

    Steered(broken).run()
    (trip,) = [event for event in of(GuardTripped) if event.guard == "non-finite"]
    assert (trip.step, trip.action) == (6, "warn")


def test_guards_that_watch_what_is_not_recorded_are_turned_away():
    with pytest.raises(ArgumentError, match="eval_loss"):
        OnTheFlyTransformersCallback("p", guards=[NoImprovement("stop")])
    OnTheFlyTransformersCallback("p", guards=[LossSpike("warn")])


def test_early_stopping_ends_the_run_as_it_would_and_goes_back_with_it():
    def make(callbacks):
        return make_trainer(
            callbacks=[EarlyStoppingCallback(early_stopping_patience=2), *callbacks],
            trainer={"compute_metrics": accuracy},
            eval_strategy="steps",
            eval_steps=2,
            save_strategy="steps",
            save_steps=2,
            load_best_model_at_end=True,
            metric_for_best_model="accuracy",
        )

    bare = make([])
    end = bare.train().global_step
    assert end < STEPS
    steered = Steered(make).at(3, SaveCheckpoint(name="here"))
    steered.at(5, LoadCheckpoint(checkpoint="here"))
    found = steered.run()
    assert steered.output.global_step == end
    assert same(found, weights(bare))
    assert summary().runs[0].state.value == "finished"
    # The script has the best model; what is kept is the state that training ended in.
    kept = torch.load(steered.engine.saving.final_path)
    assert kept["step"] == end
    assert not same(kept["model"], found)


def test_the_trainers_own_going_on_is_recorded_from_its_step(tmp_path):
    saving = {"save_strategy": "steps", "save_steps": 12, "output_dir": str(tmp_path)}
    first = plain(**saving)
    first.train()
    steered = Steered(lambda callbacks: plain(callbacks, **saving))
    steered.at(14, SaveCheckpoint(name="here")).at(16, LoadCheckpoint(checkpoint="here"))
    found = steered.run(resume_from_checkpoint=str(tmp_path / "checkpoint-12"))
    assert [step for step, _ in series("lr")] == [13, 14, 15, 16, *range(15, STEPS + 1)]
    assert of(RunStarted)[0].step == 12
    assert outcome(LoadCheckpoint).result.exact
    assert same(found, weights(first))


def test_a_state_from_before_the_trainer_has_gone_on_says_that_it_is_not_exact(tmp_path):
    saving = {"save_strategy": "steps", "save_steps": 12, "output_dir": str(tmp_path)}
    plain(**saving, max_steps=12).train()
    steered = Steered(lambda callbacks: plain(callbacks, **saving))
    steered.at(14, LoadCheckpoint(checkpoint="initial"))
    steered.run(resume_from_checkpoint=str(tmp_path / "checkpoint-12"))
    assert not outcome(LoadCheckpoint).result.exact
    assert steered.output.global_step == STEPS


def test_a_second_training_is_another_run_of_the_session():
    steered = Steered(plain)
    steered.run()
    steered.run()
    assert [run.name for run in summary().runs] == ["baseline", "baseline-2"]


def test_an_exception_that_no_hook_is_told_of_is_recorded_when_the_next_training_begins():
    class Fails(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            if state.global_step == 4:
                raise ValueError("a bad batch")

    steered = Steered(plain)
    steered.trainer.add_callback(Fails())
    steered.callback.attach(steered.trainer)
    with pytest.raises(ValueError, match="a bad batch"):
        steered.run()
    steered.trainer.remove_callback(Fails)
    steered.run()
    assert [run.state.value for run in summary().runs] == ["failed", "finished"]


@pytest.mark.skipif(os.name != "posix", reason="forks")
def test_an_exception_that_ends_the_script_is_recorded_and_the_state_is_saved(script, tmp_path):
    done = script.run("dropout", tmp_path / "weights.pt", "6=spoil")
    assert done.returncode == 1
    assert "ValueError: a bad batch" in done.stderr
    (run,) = summary().runs
    assert (run.state.value, run.reason, run.step) == ("failed", "ValueError: a bad batch", 6)
    assert [(e.label, e.step) for e in of(CheckpointSaved)] == [("initial", 0), ("interrupted", 6)]


def test_callbacks_that_are_added_later_forbid_what_needs_to_come_last():
    steered = Steered(plain).at(3, LoadCheckpoint(checkpoint="initial"))
    steered.trainer.add_callback(TrainerCallback())
    steered.run()
    assert "after add_callback" in outcome(LoadCheckpoint).reason


def test_a_going_on_in_a_later_reading_of_a_stream_says_that_it_is_not_exact():
    # 40 batches a reading.
    steered = Steered(lambda callbacks: SCENARIOS["stream"](callbacks), ckpt_every_minutes=None)
    steered.trainer.args.max_steps = 50
    steered.at(42, SaveCheckpoint(name="here")).at(45, LoadCheckpoint(checkpoint="here"))
    steered.run()
    result = outcome(LoadCheckpoint).result
    assert not result.exact
    assert "reads it anew" in result.findings[0]
    assert steered.output.global_step == 50


def test_the_end_of_a_streams_first_reading_is_found_again():
    bare = make_trainer(data=Stream(), max_steps=50)
    bare.train()
    steered = Steered(lambda calls: make_trainer(data=Stream(), callbacks=calls, max_steps=50))
    steered.at(40, SaveCheckpoint(name="here")).at(45, LoadCheckpoint(checkpoint="here"))
    found = steered.run()
    assert outcome(LoadCheckpoint).result.exact
    assert steered.output.global_step == 50
    assert same(found, weights(bare))


def test_what_will_not_be_exact_is_said_before():
    class Masks:
        mlm = True

        def __call__(self, samples):
            return default_data_collator(samples)

    steered = Steered(
        lambda callbacks: plain(
            callbacks,
            max_steps=1,
            dataloader_num_workers=1,
            dataloader_persistent_workers=True,
            ignore_data_skip=True,
            trainer={"data_collator": Masks()},
        )
    )
    steered.run()
    (assessed,) = of(DeterminismAssessed)
    assert not assessed.exact
    for word in ("persistent_workers", "ignore_data_skip", "mlm=True"):
        assert [finding for finding in assessed.findings if word in finding], word


def test_attach_takes_a_trainer():
    with pytest.raises(ArgumentError, match="takes a transformers.Trainer"):
        OnTheFlyTransformersCallback("p").attach(torch.nn.Linear(1, 1))


def test_without_transformers_it_says_what_to_install():
    code = (
        "import sys; sys.modules['transformers'] = None\n"
        "import otf_hooks\n"
        "assert 'transformers.trainer' not in sys.modules\n"
        "from otf_hooks import OnTheFlyTransformersCallback"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "pip install 'onthefly-ai[transformers]'" in done.stderr


@pytest.fixture
def watched(monkeypatch):
    """Somebody has a dashboard open."""
    monkeypatch.setattr(Engine, "is_watched", property(lambda self: True))


def test_a_lingering_run_is_resumed_for_as_much_again(watched):
    steered = Steered(lambda callbacks: plain(callbacks, num_train_epochs=1), linger=True)
    steered.at(STEPS_PER_EPOCH, when_held(Resume()))
    steered.at(2 * STEPS_PER_EPOCH, when_held(LoadCheckpoint(checkpoint="10"), Stop()))
    steered.run()
    assert steered.output.global_step == STEPS_PER_EPOCH
    assert [step for step, _ in series("lr")] == [*range(1, 2 * STEPS_PER_EPOCH + 1)]
    assert outcome(Stop).step == STEPS_PER_EPOCH
