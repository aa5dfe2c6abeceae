"""Test and validation on demand, through Lightning, in the midst of a fit.

A second trainer runs the module's real steps and hooks; the one that trains is not asked to do two
things at once.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
from typing import Any, Dict, Iterator, Optional

import torch

from ...batches import sample_count
from ...engine import Engine
from ...errors import NotPossible
from ...front import Evaluated, KeepGoing
from .. import evaluation as plain
from ..steps import validation_step
from .logged import Logged
from .place import flat
from .several import Turns

LABEL = "ONTHEFLY_TEST_LABEL"

_STEPS = {"validation": "validation_step", "test": "test_step"}
_LOADERS = {"validation": "val", "test": "test"}


class _BrokenOff(Exception):
    """The evaluation is to end before its last batch."""


class Evaluations:
    """Evaluates the module of a trainer that is in the midst of `fit`.

    Loaders come first from what was given, then from the data module, then from the module, and
    for validation last from what the trainer itself validates on. With several processes each
    evaluates its share, and what is reduced over all is what the module has Lightning reduce.
    """

    def __init__(
        self,
        package: Any,
        trainer: Any,
        engine: Engine,
        *,
        val_loader: Any = None,
        test_loader: Any = None,
        datamodule: Any = None,
        loss_fn: Any = None,
    ) -> None:
        self._package = package
        self._trainer = trainer
        self._peers = engine.peers
        self._turns = Turns(engine)
        self._rounds = engine.rounds
        self._given = {"validation": val_loader, "test": test_loader}
        self._datamodule = datamodule
        self._loss_fn = loss_fn
        self._tests = 0

    def validation_loader(self) -> Any:
        """What a validation on demand goes over, where it is one loader that is there."""
        given = self._given["validation"]
        loaders = flat(self._trainer.val_dataloaders if given is None else given)
        return loaders[0] if len(loaders) == 1 else None

    def check_test(self) -> None:
        """Raise `NotPossible` where there is nothing to test on, or with."""
        self._source("test")
        self._check_step("test")

    def run(self, split: str, keep_going: KeepGoing) -> Optional[Evaluated]:
        """Evaluate over a split; None where `keep_going` said no on the way."""
        source = self._source(split)
        if self._check_step(split) is None:
            return self._plainly(split, source["dataloaders"], keep_going)
        with self._labelled(split), self._module_kept():
            return self._through_lightning(split, source, keep_going)

    # Parts

    def _through_lightning(
        self, split: str, source: Dict[str, Any], keep_going: KeepGoing
    ) -> Optional[Evaluated]:
        with _quiet(self._package):
            watch = _watch_class(self._package)(self._turns, keep_going)
            evaluator = self._evaluator(watch)
            run = evaluator.test if split == "test" else evaluator.validate
            try:
                run(self._trainer.lightning_module, verbose=False, **source)
            except _BrokenOff:
                return None
        samples = sum(self._peers.gathered(watch.samples))
        if not samples:
            raise NotPossible(f"The {split} data has no batch, or limit_{split}_batches is 0.")
        values = Logged().fresh(evaluator.callback_metrics)
        means = {name: finite(float(value)) for name, value in values.items()}
        return Evaluated(split, samples, self._peers.shared(lambda: means))

    def _evaluator(self, watch: Any) -> Any:
        trainer = self._trainer
        device = trainer.strategy.root_device
        on_gpu = device.type == "cuda"
        return self._package.Trainer(
            accelerator="gpu" if on_gpu else device.type,
            **self._processes(on_gpu=on_gpu),
            precision=trainer.precision,
            logger=False,
            callbacks=[watch],
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            limit_val_batches=trainer.limit_val_batches,
            limit_test_batches=trainer.limit_test_batches,
            # What is made in inference mode could not be trained with afterwards.
            inference_mode=False,
            default_root_dir=trainer.default_root_dir,
        )

    def _processes(self, *, on_gpu: bool) -> Dict[str, Any]:
        """The processes that evaluate: this one, or all that train, as they are."""
        trainer = self._trainer
        strategy = trainer.strategy
        if self._peers.size == 1:
            return {"devices": [strategy.root_device.index or 0] if on_gpu else 1}
        return {
            "strategy": self._package.strategies.DDPStrategy(
                process_group_backend=strategy.process_group_backend
            ),
            "devices": trainer.device_ids if on_gpu else trainer.num_devices,
            "num_nodes": trainer.num_nodes,
            "plugins": [strategy.cluster_environment],
            "use_distributed_sampler": _are_shared_out(trainer),
        }

    def _plainly(self, split: str, loader: Any, keep_going: KeepGoing) -> Optional[Evaluated]:
        """A module without the step, with `loss_fn=`: the loss of its output."""
        module = self._trainer.lightning_module
        label = _LOADERS[split]
        with self._labelled(split), torch.no_grad():
            module.eval()
            return plain.evaluate(
                split=split,
                loader=loader,
                loader_name=f"{label}_loader",
                step=validation_step,
                state={
                    "model": module,
                    "loss_fn": self._loss_fn,
                    "autocast": self._trainer.precision_plugin.forward_context(),
                },
                device=self._trainer.strategy.root_device,
                prefix=f"{label}_",
                keep_going=keep_going,
                rounds=self._rounds(),
            )

    def _check_step(self, split: str) -> Optional[str]:
        """The step's name; None where the module has none and `loss_fn=` takes its place."""
        step, module = _STEPS[split], self._trainer.lightning_module
        if _is_overridden(step, module, self._package.LightningModule):
            return step
        if self._loss_fn is not None and "dataloaders" in self._source(split):
            return None
        raise NotPossible(
            f"{type(module).__name__} has no {step}. Write one, or give attach_lightning loss_fn= "
            f"and {_LOADERS[split]}_loader=."
        )

    def _source(self, split: str) -> Dict[str, Any]:
        """What Lightning is given to evaluate on."""
        name = f"{_LOADERS[split]}_dataloader"
        trainer = self._trainer
        if self._given[split] is not None:
            return {"dataloaders": self._given[split]}
        for datamodule in (self._datamodule, trainer.datamodule):
            kind = self._package.LightningDataModule
            if datamodule is not None and _is_overridden(name, datamodule, kind):
                return {"datamodule": datamodule}
        if _is_overridden(name, trainer.lightning_module, self._package.LightningModule):
            return {}
        if split == "validation" and trainer.val_dataloaders is not None:
            return {"dataloaders": trainer.val_dataloaders}
        raise NotPossible(
            f"There is no {split} data: give attach_lightning {_LOADERS[split]}_loader=, or write "
            f"{name} in the module or the data module."
        )

    @contextlib.contextmanager
    def _labelled(self, split: str) -> Iterator[None]:
        """`ONTHEFLY_TEST_LABEL` is set while a test runs: `test_1`, `test_2`, ..."""
        if split != "test":
            yield
            return
        self._tests += 1
        before = os.environ.get(LABEL)
        os.environ[LABEL] = f"test_{self._tests}"
        try:
            yield
        finally:
            if before is None:
                os.environ.pop(LABEL, None)
            else:
                os.environ[LABEL] = before

    @contextlib.contextmanager
    def _module_kept(self) -> Iterator[None]:
        """The module, and its data module, are the training trainer's again, on its device."""
        trainer, module = self._trainer, self._trainer.lightning_module
        datamodules = [d for d in (self._datamodule, trainer.datamodule) if d is not None]
        owners = [(datamodule, datamodule.trainer) for datamodule in datamodules]
        world = os.environ.get("WORLD_SIZE")
        try:
            yield
        finally:
            if world is not None:
                # A trainer that has ended takes it away.
                os.environ["WORLD_SIZE"] = world
            module.trainer = trainer
            for datamodule, owner in owners:
                datamodule.trainer = owner
            module.to(trainer.strategy.root_device)


def finite(value: float) -> Optional[float]:
    """The value; None where it is not finite."""
    return value if math.isfinite(value) else None


def _watch_class(package: Any) -> Any:
    """The callback that counts samples and asks between two batches whether to go on."""

    class Watch(package.Callback):  # type: ignore[misc]
        def __init__(self, turns: Turns, keep_going: KeepGoing) -> None:
            self.samples = 0
            self._turns = turns
            self._keep_going = keep_going
            self._done = 0

        def on_test_start(self, trainer: Any, module: Any) -> None:
            self._turns.begin(trainer.num_test_batches)

        def on_validation_start(self, trainer: Any, module: Any) -> None:
            self._turns.begin(trainer.num_val_batches)

        def on_test_batch_start(self, trainer: Any, module: Any, batch: Any, *_: Any) -> None:
            self._begin(trainer.num_test_batches, batch)

        def on_validation_batch_start(self, trainer: Any, module: Any, batch: Any, *_: Any) -> None:
            self._begin(trainer.num_val_batches, batch)

        def _begin(self, totals: Any, batch: Any) -> None:
            total = sum(totals)
            known = int(total) if math.isfinite(total) else 0
            if self._turns.take() and not self._keep_going(self._done, known):
                raise _BrokenOff
            self._done += 1
            self.samples += sample_count(batch)

    return Watch


@contextlib.contextmanager
def _quiet(package: Any) -> Iterator[None]:
    """Without Lightning's lines on the hardware, which the training trainer has said."""
    name = package.__name__
    loggers = [logging.getLogger(f"{name}.utilities.rank_zero"), logging.getLogger(name)]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels):
            logger.setLevel(level)


def _are_shared_out(trainer: Any) -> bool:
    """Whether Lightning is to give each process a share of the data, as it does in training."""
    samplers = [getattr(loader, "sampler", None) for loader in flat(trainer.train_dataloader)]
    return all(isinstance(one, torch.utils.data.DistributedSampler) for one in samplers)


def _is_overridden(name: str, instance: Any, base: Any) -> bool:
    own = getattr(type(instance), name, None)
    return name in vars(instance) or (own is not None and own is not getattr(base, name, None))
