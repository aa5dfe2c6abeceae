"""What a Lightning training does when it is commanded, what of it is recorded, and what is refused."""

from __future__ import annotations

import os
import sys
import threading
from datetime import timedelta

import pytest
import torch

pytest.importorskip("lightning")

from otf_hooks.engine import Engine
from otf_hooks.errors import ArgumentError
from otf_hooks.fronts.lightning import attach_lightning
from otf_hooks.guards import NonFinite
from otf_session.commands import (
    Extend,
    LoadCheckpoint,
    Note,
    Pause,
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
    EpochStarted,
    EvaluationFinished,
    HyperparametersDeclared,
    LimitsChanged,
    NoteAdded,
    StateChanged,
)

from ...helpers.waiting import wait_for
from ..record import of, series, states, summary
from ..scenarios import data
from .scenarios import LIGHTNING_WARNS, STEPS, L, Net, Steered, bare, shuffled, validation
from .test_exactness import assert_same

pytestmark = pytest.mark.filterwarnings(*LIGHTNING_WARNS)


def outcome_of(kind):
    return next(
        event.outcome
        for event in of(CommandChanged)
        if isinstance(event.command, kind) and event.outcome is not None
    )


def values(name):
    return [value for _, value in series(name)]


class Person(threading.Thread):
    """Waits until the run is paused, then gives commands; each list at one pause."""

    def __init__(self, steered, *commands):
        super().__init__(daemon=True)
        self._steered, self._commands = steered, commands
        self.steps = []

    def run(self):
        engine = wait_for(lambda: self._steered.engine, "a run", 60)
        for number, commands in enumerate(self._commands):
            wait_for(lambda: states().count("paused") > number, "a pause", 60)  # noqa: B023
            self.steps.append(engine.step)
            for command in commands:
                self._steered.give(command)


@pytest.fixture
def watched(monkeypatch):
    monkeypatch.setattr(Engine, "is_watched", property(lambda self: True))


# What is recorded


def test_everything_logged_is_recorded_under_its_name_by_step_or_by_epoch():
    Steered("metric").run()
    assert [step for step, _ in series("train_loss_step")] == list(range(1, STEPS + 1))
    assert [step for step, _ in series("train_loss_epoch")] == [12, 24, 36]
    assert [step for step, _ in series("accuracy")] == [12, 24, 36]
    assert [step for step, _ in series("val_loss")] == [12, 24, 36]
    assert values("loss") == values("train_loss_step")
    assert series("train_loss") == []
    first = torch.tensor(values("train_loss_step")[:12]).mean()
    assert values("train_loss_epoch")[0] == pytest.approx(float(first), rel=1e-5)
    assert [event.samples for event in of(EvaluationFinished)] == [48, 48, 48]
    assert [event.epoch for event in of(EpochStarted)] == [1, 2, 3]


def test_the_loss_is_that_of_the_module_where_gradients_are_accumulated():
    Steered("accumulated").run()
    assert values("loss") == pytest.approx(values("train_loss_step"), rel=1e-6)
    assert len(set(values("lr"))) > 3


def test_every_optimizer_has_its_rate():
    Steered("manual").run()
    assert values("lr/0")[-1] == pytest.approx(0.01 * 0.99**18)
    assert values("lr/1")[-1] == pytest.approx(0.1 * 0.98**18)


def test_a_guard_sees_the_gradients():
    steered = Steered("plain", given={"guards": [NonFinite("warn", metrics=("grad_norm",))]})
    steered.run()
    assert len(values("grad_norm")) == STEPS


# Commands


def test_pause_run_for_and_note():
    steered = Steered("plain").at(3, Pause())
    person = Person(steered, [Note(text="look"), RunFor(steps=4)], [RunFor(epochs=1)], [Resume()])
    person.start()
    assert_same(steered.run(), bare("plain"))
    person.join(30)
    assert person.steps == [3, 7, 12]
    assert [note.step for note in of(NoteAdded)] == [3]
    assert summary().runs[0].state.value == "finished"


def test_stop_ends_the_fit_and_leaves_the_trainer_as_it_would():
    steered = Steered("plain").at(15, Stop())
    steered.run()
    assert summary().runs[0].step == 15
    assert states()[-1] == "stopped"
    assert steered.trainer.global_step == 15
    assert not steered.trainer.training
    assert [saved.step for saved in of(CheckpointSaved) if saved.label == "final"] == [15]


def test_stop_in_the_midst_of_a_validation():
    steered = Steered("plain")

    class InValidation(L.Callback):
        def on_validation_batch_start(self, trainer, module, batch, batch_idx, dataloader_idx=0):
            if steered.engine is not None and batch_idx == 0:
                steered.give(Stop())

    steered.trainer.callbacks.append(InValidation())
    steered.run()
    assert (summary().runs[0].step, states()[-1]) == (12, "stopped")
    assert steered.module.training
    assert series("val_loss") == []


def test_going_back_in_the_midst_of_a_validation_repeats_it_whole():
    steered = Steered("plain")
    plan = {1: [SaveCheckpoint(name="there")], 5: [LoadCheckpoint(checkpoint="there")]}
    seen = []

    class InValidation(L.Callback):
        def on_validation_batch_start(self, trainer, module, batch, batch_idx, dataloader_idx=0):
            if steered.engine is not None:
                seen.append(batch_idx)
                for command in plan.pop(len(seen), []):
                    steered.give(command)

    steered.trainer.callbacks.append(InValidation())
    assert_same(steered.run(), bare("plain"))
    # Three batches each: that of the second epoch is left at its second, and both come again.
    assert seen == [0, 1, 2, 0, 1, 0, 1, 2, 0, 1, 2, 0, 1, 2]
    assert {step for step, _ in series("val_loss")} == {12, 24, 36}


def test_extended_while_it_trains_is_a_longer_training():
    steered = Steered("plain").at(5, Extend(epochs=1))
    assert_same(steered.run(), bare("plain", max_epochs=4))
    assert [event.max_epochs for event in of(LimitsChanged)] == [3, 4]


def test_a_run_that_lingers_is_gone_on_with_inside_the_one_fit(watched):
    steered = Steered("plain", given={"linger": True})
    calls = []
    steered.on_train_end = lambda *_: calls.append("on_train_end")
    person = Person(steered, [Test(), Resume()], [Extend(epochs=1)], [Stop()])
    person.start()
    found = steered.run()
    person.join(30)
    assert person.steps == [36, 72, 84]
    assert_same(found, bare("plain", max_epochs=7))
    assert calls == ["on_train_end"]


def test_a_limit_of_steps_in_mid_epoch_is_gone_on_with(watched):
    steered = Steered("plain", given={"linger": True}, max_epochs=-1, max_steps=16)
    person = Person(steered, [Extend(steps=14)], [Stop()])
    person.start()
    found = steered.run()
    person.join(30)
    assert person.steps == [16, 30]
    assert_same(found, bare("plain", max_epochs=-1, max_steps=30))


def test_early_stopping_and_max_time_end_it():
    stopping = L.callbacks.EarlyStopping("val_loss", patience=1, min_delta=100.0)
    steered = Steered("plain")
    steered.trainer.callbacks.append(stopping)
    steered.run()
    assert (summary().runs[0].step, states()[-1]) == (24, "finished")
    timed = Steered("plain", max_time=timedelta(microseconds=1))
    timed.run()
    assert summary().runs[-1].step == 1


def test_test_and_validate_run_the_modules_own_steps_and_hooks():
    steered = Steered("plain", given={"do_test_after": True, "linger": False})
    steered.at(5, Test()).at(20, Test(), Validate())
    assert_same(steered.run(), bare("plain"))
    labels = ["on_test_start", *["test_1"] * 3, "on_test_start", *["test_2"] * 3]
    assert steered.module.seen == [*labels, "on_test_start", *["test_3"] * 3]
    assert "ONTHEFLY_TEST_LABEL" not in os.environ
    assert [step for step, _ in series("test_loss")] == [5, 20, 36]
    assert [event.split for event in of(EvaluationFinished)].count("test") == 3
    assert steered.module.trainer is steered.trainer


def test_a_test_keeps_gradients_that_are_accumulated():
    # Two batches of three are behind it.
    steered = Steered("accumulated").at(2, Test()).at(8, Validate())
    assert_same(steered.run(), bare("accumulated"))


def test_a_rate_that_is_set_is_a_factor_on_the_schedulers():
    steered = Steered("accumulated").at(6, SetHyperparameters(values={"lr": 0.001}))
    steered.run()
    plain = Steered("accumulated", given={"run_name": "plain"})
    plain.run()
    changed = [value for (_, value) in series("lr", steered.handle.folder)]
    scheduled = [value for (_, value) in series("lr", plain.handle.folder)]
    factor = 0.001 / scheduled[5]
    assert changed[:6] == scheduled[:6]
    assert changed[6:-1] == pytest.approx([factor * rate for rate in scheduled[6:-1]])
    declared = of(HyperparametersDeclared, steered.handle.folder)[-1]
    assert (declared.lr_owner, declared.lr_rule) == (
        "scaled",
        f"OneCycleLR sets the learning rate, times {factor:.4g}.",
    )


def test_clipping_is_the_trainers():
    steered = Steered("accumulated").at(3, SetHyperparameters(values={"grad_clip_norm": 0.125}))
    steered.run()
    assert steered.trainer.gradient_clip_val == 0.125
    manual = Steered("manual").at(3, SetHyperparameters(values={"grad_clip_norm": 0.1}))
    manual.run()
    assert "optimizes by itself" in outcome_of(SetHyperparameters).reason


# Lightning's own ways


def test_lightnings_own_checkpoint_is_resumed_and_recorded(tmp_path):
    first = Steered("plain", max_epochs=2)
    first.run()
    path = tmp_path / "own.ckpt"
    first.trainer.save_checkpoint(path)
    second = (
        Steered("plain").at(30, SaveCheckpoint(name="x")).at(33, LoadCheckpoint(checkpoint="x"))
    )
    found = second.run(ckpt_path=path)
    parts = Steered("plain")
    parts.handle.close()
    parts.trainer.callbacks = []
    assert_same(found, parts.run(ckpt_path=path))
    run = summary(second.handle.folder).runs[0]
    assert (run.step, run.state.value) == (36, "finished")
    assert series("loss", second.handle.folder)[0][0] == 25


def test_a_closed_handle_leaves_the_trainer_alone():
    steered = Steered("plain")
    steered.handle.close()
    steered.trainer.callbacks = []
    steered.run()
    assert steered.handle.folder is None


def test_a_second_fit_is_a_run_of_the_same_session():
    steered = Steered("plain", max_epochs=1)
    steered.run()
    steered.trainer.fit_loop.max_epochs = 2
    steered.run()
    assert [(run.name, run.step) for run in summary().runs] == [
        ("baseline", 12),
        ("baseline-2", 24),
    ]


def test_an_error_of_the_module_is_the_scripts_and_the_runs_end():
    steered = Steered("plain")

    def fail(_):
        raise RuntimeError("out of luck")

    steered.at(7, fail)
    with pytest.raises(RuntimeError, match="out of luck"):
        steered.run()
    assert states()[-1] == "failed"
    assert "out of luck" in of(StateChanged)[-1].reason


def test_the_callback_itself_and_a_data_module():
    from otf_hooks.fronts import lightning as front

    class Data(L.LightningDataModule):
        def train_dataloader(self):
            return shuffled()

        def test_dataloader(self):
            return validation()

    callback = front.OnTheFlyCallback(
        "demo", "own", auto_connect=False, do_test_after=True, linger=False
    )
    torch.manual_seed(3)
    module = Net()
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        callbacks=[callback],
    )
    trainer.fit(module, datamodule=Data())
    assert isinstance(callback, L.Callback)
    assert (summary().runs[0].name, summary().runs[0].step) == ("own", 12)
    assert len(series("test_loss")) == 1


def test_the_logger_records_and_no_more():
    from otf_hooks.fronts import lightning as front

    logger = front.OnTheFlyLogger("demo", "logged")
    module = Net()
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=2,
        logger=logger,
        log_every_n_steps=1,
        enable_checkpointing=False,
        enable_progress_bar=False,
    )
    trainer.fit(module, shuffled(), validation())
    assert len(series("train_loss_step")) == 24
    assert [step for step, _ in series("val_loss")] == [11, 23]
    assert (summary().runs[0].name, states()[-1]) == ("logged", "finished")
    assert logger.version == summary().id


# What is refused


def test_what_cannot_be_is_said():
    module, trainer = Net(), L.Trainer(accelerator="cpu", logger=False, max_epochs=1)
    named = {"project": "p", "run_name": "r"}
    with pytest.raises(ArgumentError, match=r"trainer is a object.*needs a lightning"):
        attach_lightning(trainer=object(), model=module, **named)
    with pytest.raises(ArgumentError, match="model is a Linear"):
        attach_lightning(trainer=trainer, model=torch.nn.Linear(1, 1), **named)
    with pytest.raises(ArgumentError, match="needs project= and run_name="):
        attach_lightning(trainer=trainer, model=module)
    with pytest.raises(ArgumentError, match="no argument 'colour'"):
        attach_lightning(trainer=trainer, model=module, colour=1, **named)
    attach_lightning(trainer=trainer, model=module, **named)
    with pytest.raises(ArgumentError, match="already"):
        attach_lightning(trainer=trainer, model=module, **named)


def test_a_test_without_data_is_refused_with_a_remedy():
    steered = Steered("plain", given={"test_loader": None}).at(3, Test())
    steered.run()
    assert "There is no test data" in outcome_of(Test).reason
    with pytest.raises(ArgumentError, match="do_test_after=True cannot be done"):
        Steered("plain", given={"test_loader": None, "do_test_after": True}).run()


def test_a_module_without_a_step_is_tested_with_its_loss_function():
    class Bare(L.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = torch.nn.Linear(6, 2)

        def forward(self, inputs):
            return self.net(inputs)

        def training_step(self, batch, batch_idx):
            return torch.nn.functional.cross_entropy(self(batch[0]), batch[1])

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    module = Bare()
    trainer = L.Trainer(
        accelerator="cpu",
        logger=False,
        max_epochs=1,
        enable_checkpointing=False,
        enable_progress_bar=False,
    )
    attach_lightning(
        trainer=trainer,
        model=module,
        project="p",
        run_name="r",
        auto_connect=False,
        loss_fn=torch.nn.functional.cross_entropy,
        test_loader=validation(),
        do_test_after=True,
        linger=False,
    )
    trainer.fit(module, shuffled())
    inputs, targets = data().tensors
    with torch.no_grad():
        wanted = torch.nn.functional.cross_entropy(module(inputs), targets)
    assert values("test_loss") == [pytest.approx(float(wanted), rel=1e-5)]
    assert len(values("test_accuracy")) == 1


def test_without_lightning_the_error_says_how_to_get_it(monkeypatch):
    from otf_hooks.errors import TrainingError
    from otf_hooks.fronts.lightning import namespaces

    for name in ("lightning.pytorch", "pytorch_lightning"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(namespaces, "_PACKAGES", ("no_such_lightning",))
    with pytest.raises(TrainingError, match=r"pip install 'onthefly-ai\[lightning\]'"):
        namespaces.in_use()


def test_a_checkpoint_of_lightnings_from_mid_epoch_is_gone_on_with_as_lightning_would(tmp_path):
    path = tmp_path / "mid.ckpt"
    first = Steered("plain", max_epochs=2)

    class Saves(L.Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            if trainer.global_step == 5:
                trainer.save_checkpoint(path)

    first.trainer.callbacks.append(Saves())
    first.run()
    found = Steered("plain", max_epochs=2).run(ckpt_path=path)
    parts = Steered("plain", max_epochs=2)
    parts.handle.close()
    parts.trainer.callbacks = []
    assert_same(found, parts.run(ckpt_path=path))
    assert series("loss")[0][0] == 6


def test_an_epoch_that_the_module_ends_is_ended():
    class Short(Net):
        def on_train_batch_start(self, batch, batch_idx):
            return -1 if batch_idx == 4 else None

    steered = Steered("plain", max_epochs=2)
    steered.module.__class__ = Short
    steered.at(2, SaveCheckpoint(name="x")).at(6, LoadCheckpoint(checkpoint="x"))
    steered.run()
    assert summary().runs[0].step == 8
    assert summary().runs[0].epoch == 2


def test_a_reset_takes_everything_back_also_a_callbacks_memory():
    class Counts(L.Callback):
        def __init__(self):
            self.batches = 0

        def on_train_batch_end(self, *_):
            self.batches += 1

        def state_dict(self):
            return {"batches": self.batches}

        def load_state_dict(self, state):
            self.batches = state["batches"]

    counts = Counts()
    steered = Steered("plain").at(20, LoadCheckpoint(checkpoint="initial"))
    steered.trainer.callbacks.append(counts)
    steered.run()
    assert counts.batches == STEPS
