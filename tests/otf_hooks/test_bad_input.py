"""Each mistake ends in one error that names the argument and the remedy."""

from __future__ import annotations

import threading

import pytest
import torch
from otf_hooks import Trainer, TrainingError
from otf_hooks.errors import ArgumentError, DeviceMismatch, StepError
from otf_session.errors import HomeUnusable, InvalidPort
from torch import nn

from .conftest import make_loader
from .record import of, states, summary


@pytest.fixture
def trainer():
    return Trainer(project="p", run_name="r", max_epochs=1)


@pytest.mark.parametrize("name", ["model", "optimizer", "loss_fn", "train_loader"])
def test_a_missing_argument_is_named(trainer, parts, name):
    given = parts()
    del given[name]
    with pytest.raises(TrainingError, match=f"fit needs {name}="):
        trainer.fit(**given)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("model", "resnet", "model is a str; fit needs a torch.nn.Module"),
        ("optimizer", 3, "optimizer is a int"),
        ("loss_fn", 0.5, "loss_fn is a float"),
        ("train_loader", 5, "train_loader is a int, which yields no batches"),
        ("train_loader", iter([]), "train_loader is an iterator"),
        ("val_loader", iter([]), "val_loader is an iterator"),
        ("scheduler_interval", "batch", "scheduler_interval is 'batch'; it is 'epoch' or 'step'"),
        ("grad_clip_norm", -1.0, "grad_clip_norm is -1.0"),
        ("amp", "int8", "amp is 'int8'"),
        ("device", "cuda:99", "device is 'cuda:99', which cannot be used"),
        ("device", "gpu", "device is 'gpu', which cannot be used"),
    ],
)
def test_an_unusable_argument_is_named_with_what_it_must_be(trainer, parts, name, value, message):
    given = parts()
    given[name] = value
    with pytest.raises(TrainingError) as caught:
        trainer.fit(**given)
    assert message in str(caught.value)


def test_a_dataset_in_place_of_a_loader_is_told_to_be_wrapped(trainer, parts):
    given = parts()
    given["train_loader"] = make_loader().dataset
    with pytest.raises(TrainingError, match="DataLoader"):
        trainer.fit(**given)


@pytest.mark.parametrize("name", ["train_loader", "val_loader"])
def test_a_loader_that_yields_nothing_is_named(trainer, parts, name):
    given = parts()
    given[name] = make_loader(0)
    with pytest.raises(TrainingError, match=f"{name} yielded no batch"):
        trainer.fit(**given)
    assert summary().state.value == "failed"
    assert f"{name} yielded no batch" in summary().runs[-1].reason


def test_a_test_without_data_is_refused_before_training(parts):
    trainer = Trainer(project="p", run_name="r", max_epochs=1, do_test_after=True)
    with pytest.raises(TrainingError, match="test_loader="):
        trainer.fit(**parts())


def test_a_model_without_numbers_is_refused(trainer, parts):
    given = parts()
    given["model"] = nn.Linear(6, 2, device="meta")
    with pytest.raises(TrainingError, match=r"model is on the device 'meta'.*to_empty"):
        trainer.fit(**given)


def test_a_loss_on_another_device_than_the_model_is_named(trainer, parts):
    given = parts()
    given["loss_fn"] = nn.CrossEntropyLoss(weight=torch.ones(2, device="meta"))
    with pytest.raises(TrainingError, match=r"loss_fn has tensors on meta and model is on cpu"):
        trainer.fit(**given)


def test_an_optimizer_of_another_model_is_named(trainer, parts):
    given = parts()
    given["optimizer"] = parts()["optimizer"]
    with pytest.raises(TrainingError, match="optimizer holds none of model's parameters"):
        trainer.fit(**given)


def test_a_loss_that_is_no_scalar_names_the_reduction(trainer, parts):
    given = parts()
    given["loss_fn"] = nn.CrossEntropyLoss(reduction="none")
    with pytest.raises(TrainingError, match=r"shape \(8,\), not a scalar.*reduction='mean'"):
        trainer.fit(**given)


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (None, "returned nothing"),
        ({"accuracy": 1.0}, r"keys \['accuracy'\] and no 'loss'"),
        ({"loss": torch.ones(3)}, r"shape \(3,\), not a scalar"),
        ({"loss": "low"}, "is a str"),
        (torch.tensor(1.0), "returned a Tensor"),
    ],
)
def test_a_step_without_a_usable_loss_says_what_to_return(trainer, parts, returned, message):
    trainer.training_step(lambda batch, state: returned)
    with pytest.raises(TrainingError, match=message):
        trainer.fit(**parts())


def test_a_validation_step_without_a_loss_says_what_to_return(trainer, parts):
    trainer.validation_step(lambda batch, state: {"f1": 1.0})
    with pytest.raises(TrainingError, match="no 'loss'"):
        trainer.fit(**parts(), val_loader=make_loader())


@pytest.mark.parametrize("port", [0, -1, 65536, "47621"])
def test_a_port_out_of_range_is_named(port):
    with pytest.raises(InvalidPort, match="dashboard_port"):
        Trainer(project="p", run_name="r", max_epochs=1, dashboard_port=port)


def test_a_port_variable_out_of_range_is_named(monkeypatch):
    monkeypatch.setenv("ONTHEFLY_DASHBOARD_PORT", "none")
    with pytest.raises(InvalidPort, match="ONTHEFLY_DASHBOARD_PORT is 'none'"):
        Trainer(project="p", run_name="r", max_epochs=1)


def test_an_unusable_home_is_named(trainer, parts, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ONTHEFLY_HOME", str(tmp_path / "file"))
    with pytest.raises(HomeUnusable, match="Set ONTHEFLY_HOME"):
        trainer.fit(**parts())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"project": ""}, "project must be a name"),
        ({"project": "p", "max_epochs": 0}, "max_epochs is 0"),
        ({"project": "p", "max_steps": 1.5}, "max_steps is 1.5"),
        ({"project": "p", "val_every_n_epochs": True}, "val_every_n_epochs is True"),
    ],
)
def test_unusable_trainers_are_refused_at_once(arguments, message):
    with pytest.raises(TrainingError, match=message):
        Trainer(**arguments)


def test_a_run_without_a_name_or_an_end_is_refused(parts):
    with pytest.raises(TrainingError, match="run_name="):
        Trainer(project="p", max_epochs=1).fit(**parts())
    with pytest.raises(TrainingError, match="max_epochs= or max_steps="):
        Trainer(project="p", run_name="r").fit(**parts())


def test_the_default_validation_needs_a_loss_function_even_with_a_step_of_ones_own(trainer, parts):
    trainer.training_step(lambda batch, state: {"loss": 1.0})
    given = {**parts(), "loss_fn": None}
    with pytest.raises(TrainingError, match="fit needs loss_fn="):
        trainer.fit(**given, val_loader=make_loader())
    assert trainer.fit(**given).state == "finished"


def test_what_fails_before_the_first_step_leaves_nothing_behind(parts, monkeypatch):
    before = threading.active_count()
    trainer = Trainer(project="p", run_name="r", max_steps=1)
    assert trainer.fit(**parts()).state == "finished"
    with monkeypatch.context() as broken:
        broken.setattr("otf_hooks.fronts.lifecycle.free_name", lambda name, taken: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            trainer.fit(**parts())
    assert threading.active_count() == before
    assert trainer.fit(**parts()).run == "r-2"


def test_an_exception_of_the_script_is_its_own_and_is_recorded(trainer, parts):
    from otf_session.events import LogLine

    class Mine(Exception):
        pass

    def step(batch, state):
        if state["step"] == 3:
            raise Mine("batch 3 is bad")
        return {"loss": 1.0}

    trainer.training_step(step)
    with pytest.raises(Mine, match="batch 3 is bad") as caught:
        trainer.fit(**parts())
    assert caught.value.__cause__ is None
    assert states() == ["running", "failed"]
    assert summary().runs[-1].reason == "Mine: batch 3 is bad"
    assert any("raise Mine" in line.text for line in of(LogLine))
    assert trainer.training_step(lambda batch, state: {"loss": 1.0}) is not None
    assert trainer.fit(**parts()).state == "finished"


def test_a_run_name_is_never_a_path(parts, tmp_path):
    result = Trainer(project="p", run_name=f"../..{tmp_path}/escaped", max_steps=1).fit(**parts())
    assert list(tmp_path.iterdir()) == []
    assert result.checkpoint.parent == result.folder / "checkpoints"


@pytest.mark.parametrize("name", ["x" * 101, "two\nlines", 7])
def test_a_run_name_that_cannot_be_one_is_refused(parts, name):
    with pytest.raises(ArgumentError, match="run_name is"):
        Trainer(project="p", run_name=name, max_steps=1).fit(**parts())


def test_a_seed_is_a_whole_number(parts):
    with pytest.raises(ArgumentError, match="seed is 'a'"):
        Trainer(project="p", run_name="r", max_steps=1).fit(**parts(), seed="a")


def test_a_validation_metric_that_is_no_number_is_named(parts):
    trainer = Trainer(project="p", run_name="r", max_epochs=1)

    @trainer.validation_step
    def validate(batch, state):
        return {"loss": 1.0, "scores": torch.zeros(3)}

    with pytest.raises(StepError, match=r"'val_scores' as a tensor of shape \(3,\).*val_loader"):
        trainer.fit(**parts(), val_loader=make_loader())


def test_data_that_holds_no_numbers_is_named(parts):
    batch = (torch.zeros(2, 6, device="meta"), torch.zeros(2, dtype=torch.long))
    with pytest.raises(DeviceMismatch, match="train_loader yields tensors on the device 'meta'"):
        Trainer(project="p", run_name="r", max_steps=1).fit(**{**parts(), "train_loader": [batch]})
