from __future__ import annotations

import logging
import threading

import pytest
import torch
from otf_hooks import Trainer
from otf_hooks.errors import ArgumentError
from otf_session.commands import CommandRequest, SetHyperparameters
from otf_session.events import (
    CheckpointSaved,
    EpochStarted,
    EvaluationFinished,
    LogLine,
    ProcessStarted,
)
from torch import nn

from .conftest import make_loader
from .record import of, series, states, summary, weights


def bare_loop(parts, epochs, after_step=lambda: None):
    model, optimizer, loss_fn = parts["model"], parts["optimizer"], parts["loss_fn"]
    for _ in range(epochs):
        for inputs, targets in parts["train_loader"]:
            optimizer.zero_grad()
            loss_fn(model(inputs), targets).backward()
            optimizer.step()
            after_step()


def assert_same_weights(first, second):
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name]), name


def test_the_predecessors_quickstart_runs_keyword_for_keyword(parts):
    given = parts()
    trainer = Trainer(
        project="mnist-demo",
        run_name="baseline",
        max_epochs=1,
        do_test_after=True,
        val_every_n_epochs=1,
    )
    result = trainer.fit(
        model=given["model"],
        optimizer=given["optimizer"],
        loss_fn=given["loss_fn"],
        train_loader=given["train_loader"],
        val_loader=make_loader(),
        test_loader=make_loader(),
    )
    assert (result.state, result.step, result.epoch) == ("finished", 8, 1)
    recorded = {"loss", "lr", "throughput", "step_time", "val_loss", "test_loss"}
    assert recorded <= result.metrics.keys()


def test_training_is_bitwise_that_of_the_bare_loop(parts):
    # Shuffled, with dropout and batch statistics, and with validation and a test in between, whose
    # loaders draw from the same generator.
    bare = parts(shuffle=True)
    torch.manual_seed(1)
    bare_loop(bare, epochs=3)
    drawn_after = torch.rand(4)

    watched = parts(shuffle=True)
    torch.manual_seed(1)
    Trainer(project="p", run_name="r", max_epochs=3, do_test_after=True).fit(
        **watched, val_loader=make_loader(shuffle=True), test_loader=make_loader(shuffle=True)
    )
    assert_same_weights(weights(bare["model"]), weights(watched["model"]))
    assert torch.equal(torch.rand(4), drawn_after)


def test_every_step_is_recorded_once_with_what_was_true_at_it(parts):
    given = parts()
    losses = []
    loss_fn = given["loss_fn"]

    def remembering(output, target):
        loss = loss_fn(output, target)
        if torch.is_grad_enabled():
            losses.append(loss.item())
        return loss

    given["loss_fn"] = remembering
    scheduler = torch.optim.lr_scheduler.StepLR(given["optimizer"], step_size=1, gamma=0.5)
    Trainer(project="p", run_name="r", max_epochs=2).fit(**given, scheduler=scheduler)
    assert series("loss") == list(enumerate(losses, 1))
    assert [value for _, value in series("lr")] == [0.1] * 8 + [0.05] * 8
    assert all(value > 0 for name in ("throughput", "step_time") for _, value in series(name))
    assert [(event.epoch, event.step) for event in of(EpochStarted)] == [(1, 0), (2, 8)]


def test_a_scheduler_may_be_stepped_after_every_step(parts):
    given = parts()
    scheduler = torch.optim.lr_scheduler.StepLR(given["optimizer"], step_size=4, gamma=0.1)
    Trainer(project="p", run_name="r", max_epochs=1).fit(
        **given, scheduler=scheduler, scheduler_interval="step"
    )
    rates = [value for _, value in series("lr")]
    assert rates == pytest.approx([0.1] * 4 + [0.01] * 4)


def test_a_plateau_scheduler_gets_the_validation_loss(parts):
    given = parts()
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(given["optimizer"])
    Trainer(project="p", run_name="r", max_epochs=2).fit(
        **given, val_loader=make_loader(), scheduler=scheduler
    )
    assert scheduler.best == min(value for _, value in series("val_loss"))


def test_several_learning_rates_have_names_of_their_own(parts):
    given = parts()
    first, *rest = given["model"].parameters()
    given["optimizer"] = torch.optim.SGD([{"params": [first], "lr": 0.5}, {"params": rest}], lr=0.1)
    Trainer(project="p", run_name="r", max_steps=1).fit(**given)
    assert series("lr/0") == [(1, 0.5)]
    assert series("lr/1") == [(1, 0.1)]


def test_validation_and_test_are_means_over_samples_in_eval_mode(parts):
    given = parts()
    given["model"][1].eval()  # frozen by the user, and frozen it stays
    loader = make_loader(20, batch_size=8)  # batches of 8, 8 and 4
    Trainer(project="p", run_name="r", max_epochs=1, do_test_after=True).fit(
        **given, val_loader=loader, test_loader=loader
    )
    assert given["model"].training
    assert given["model"][2].training
    assert not given["model"][1].training
    given["model"].eval()
    inputs, targets = loader.dataset.tensors
    with torch.no_grad():
        output = given["model"](inputs)
        expected = nn.functional.cross_entropy(output, targets).item()
        accuracy = (output.argmax(1) == targets).float().mean().item()
    validation, test = of(EvaluationFinished)
    assert (validation.split, test.split) == ("validation", "test")
    assert validation.samples == test.samples == 20
    assert validation.values["val_loss"] == pytest.approx(expected, rel=1e-5)
    assert test.values["test_loss"] == pytest.approx(expected, rel=1e-5)
    assert test.values["test_accuracy"] == pytest.approx(accuracy)
    assert series("test_loss") == [(8, test.values["test_loss"])]


def test_validation_comes_every_n_epochs(parts):
    Trainer(project="p", run_name="r", max_epochs=5, val_every_n_epochs=2).fit(
        **parts(), val_loader=make_loader()
    )
    assert [step for step, _ in series("val_loss")] == [16, 32]


def test_own_steps_replace_the_default_ones_and_all_they_return_is_recorded(parts):
    given = parts()
    trainer = Trainer(project="p", run_name="r", max_epochs=1)
    seen = []

    @trainer.training_step
    def step(batch, state):
        # Gradients over two batches, then one step of the optimizer.
        inputs, targets = batch
        loss = state["loss_fn"](state["model"](inputs), targets)
        (loss / 2).backward()
        if (state["step"] + 1) % 2 == 0:
            state["optimizer"].step()
            state["optimizer"].zero_grad()
        seen.append(state["step"])
        return {"loss": loss, "margin": 0.25}

    @trainer.validation_step
    def validate(batch, state):
        return {"val_loss": torch.tensor(0.5), "f1": 0.75}

    trainer.fit(**given, val_loader=make_loader())
    assert seen == list(range(8))
    assert series("margin") == [(step, 0.25) for step in range(1, 9)]
    assert series("val_loss") == [(8, 0.5)]
    assert series("val_f1") == [(8, 0.75)]


def test_models_take_several_inputs_and_keywords():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 2)

        def forward(self, left, right):
            return self.layer(torch.cat([left, right], dim=1))

    left, right, label = torch.randn(4, 2), torch.randn(4, 2), torch.tensor([0, 1, 0, 1])
    batches = [
        (left, right, label),
        ((left, right), label),
        {"left": left, "right": right, "label": label},
        ({"left": left, "right": right}, label),
    ]
    losses = set()
    for batch in batches:
        torch.manual_seed(0)
        model = Two()
        Trainer(project="p", run_name="r", max_steps=1).fit(
            model=model,
            optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
            loss_fn=nn.CrossEntropyLoss(),
            train_loader=[batch],
        )
        losses.add(series("loss")[0][1])
    assert len(losses) == 1


def test_clipping_happens_when_asked_for(parts):
    given, clipped = parts(), parts()
    Trainer(project="p", run_name="r", max_steps=1).fit(**given)
    Trainer(project="p", run_name="r", max_steps=1).fit(**clipped, grad_clip_norm=1e-3)

    def norm(model):
        return torch.stack([p.grad.norm() for p in model.parameters()]).norm().item()

    assert norm(given["model"]) > 1e-2
    assert norm(clipped["model"]) == pytest.approx(1e-3, rel=1e-3)


def test_mixed_precision_computes_in_bfloat16_on_the_cpu(parts):
    given = parts()
    types = []
    given["model"][0].register_forward_hook(lambda module, args, out: types.append(out.dtype))
    Trainer(project="p", run_name="r", max_steps=1).fit(**given, amp=True)
    assert types == [torch.bfloat16]
    assert all(p.dtype == torch.float32 for p in given["model"].parameters())


def test_a_seed_makes_two_runs_the_same(parts):
    results = []
    for _ in range(2):
        given = parts(shuffle=True)
        Trainer(project="p", run_name="r", max_epochs=1).fit(**given, seed=11)
        results.append(weights(given["model"]))
    assert_same_weights(*results)


def test_the_final_state_is_a_checkpoint_that_torch_loads_safely(parts, tmp_path):
    given = parts()
    trainer = Trainer(project="p", run_name="r", max_epochs=1, save_dir=tmp_path / "kept")
    result = trainer.fit(**given)
    assert tmp_path / "kept" in result.checkpoint.parents
    state = torch.load(result.checkpoint, weights_only=True)
    assert_same_weights(state["model"], weights(given["model"]))
    assert (state["run"], state["step"], state["epoch"]) == ("r", 8, 1)
    (event,) = [event for event in of(CheckpointSaved) if event.label == "final"]
    assert event.path == result.checkpoint.as_posix()
    assert event.size == result.checkpoint.stat().st_size


def test_a_checkpoint_that_cannot_be_written_costs_a_warning_only(parts, tmp_path, capfd):
    (tmp_path / "file").write_text("")
    result = Trainer(project="p", run_name="r", max_steps=1, save_dir=tmp_path / "file").fit(
        **parts()
    )
    assert result.state == "finished"
    assert result.checkpoint is None
    assert "could not be written" in capfd.readouterr().err
    assert any("could not be written" in line.text for line in of(LogLine))


def test_logs_and_prints_are_recorded_with_level_and_step(parts, capsys):
    trainer = Trainer(project="p", run_name="r", max_steps=2)

    @trainer.training_step
    def step(batch, state):
        logging.getLogger("my.model").warning("careful at %d", state["step"])
        trainer.print("seen", state["step"], "steps")
        return {"loss": 1.0}

    trainer.fit(**{**parts(), "loss_fn": None})
    lines = [(line.level, line.logger, line.text, line.step) for line in of(LogLine)]
    assert (30, "my.model", "careful at 1", 1) in lines
    assert (20, "print", "seen 1 steps", 1) in lines
    assert "seen 1 steps" in capsys.readouterr().out


def test_text_that_is_no_unicode_is_spelt_out(parts, monkeypatch):
    # The record has it, and no handler of pytest's, which could not pass it on.
    logger = logging.getLogger("no.unicode")
    monkeypatch.setattr(logger, "propagate", False)
    monkeypatch.setattr(logger, "handlers", [logging.NullHandler()])
    trainer = Trainer(project="p", run_name="r", max_steps=1)

    @trainer.training_step
    def step(batch, state):
        logger.warning("file \udcff")
        return {"loss": 1.0}

    trainer.fit(**parts())
    assert "file \\udcff" in [line.text for line in of(LogLine)]


def test_a_run_ends_at_the_first_limit(parts):
    result = Trainer(project="p", run_name="r", max_epochs=2, max_steps=11).fit(
        **parts(), val_loader=make_loader()
    )
    assert (result.step, result.epoch) == (11, 2)
    assert [step for step, _ in series("val_loss")] == [8, 11]


def test_a_second_fit_is_a_new_run_in_the_same_session(parts):
    trainer = Trainer(project="p", run_name="r", max_steps=3)
    first, second = trainer.fit(**parts()), trainer.fit(**parts())
    assert first.session == second.session
    assert (first.run, second.run) == ("r", "r-2")
    assert [run.state.value for run in summary().runs] == ["finished", "finished"]
    assert len(of(ProcessStarted)) == 2


def test_no_thread_outlives_fit_and_none_exists_before(parts):
    before = threading.active_count()
    trainer = Trainer(project="p", run_name="r", max_steps=1)
    assert threading.active_count() == before
    trainer.fit(**parts())
    assert threading.active_count() == before


def test_states_of_an_unsteered_run(parts):
    Trainer(project="p", run_name="r", max_steps=1).fit(**parts())
    assert states() == ["running", "finished"]


@pytest.mark.parametrize("workers", [1, 2])
def test_forked_workers_leave_the_session_alone(parts, workers):
    given = parts()
    given["train_loader"] = torch.utils.data.DataLoader(
        given["train_loader"].dataset, batch_size=8, num_workers=workers
    )
    result = Trainer(project="p", run_name="r", max_epochs=2).fit(**given)
    assert result.step == 16
    assert summary().state.value == "finished"


def test_a_tunable_may_not_take_an_optimizers_name(parts):
    given = parts()
    trainer = Trainer(project="p", run_name="r", max_steps=1)
    trainer.tunable("lr", 0.1)
    with pytest.raises(ArgumentError, match="'lr' has the name of one of the optimizer's"):
        trainer.fit(**given)


def test_a_second_fit_begins_with_what_the_script_says(parts):
    trainer = Trainer(project="p", run_name="r", max_steps=2, auto_connect=False)
    seen = []

    @trainer.training_step
    def step(batch, state):
        seen.append(trainer.tunable("alpha", 0.25))
        if len(seen) == 1:
            command = SetHyperparameters(values={"alpha": 0.75})
            trainer._engine.desk.receive(CommandRequest(id="1", author="t", command=command))
        return {"loss": 1.0}

    trainer.fit(**parts())
    trainer.fit(**parts())
    assert seen == [0.25, 0.75, 0.25, 0.25]
