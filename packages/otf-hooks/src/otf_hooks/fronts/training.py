"""The native training loop: epochs, steps, validation and test, driven through an engine."""

from __future__ import annotations

import functools
import time
from pathlib import Path
from typing import Any, Callable, Dict, Mapping, Optional

import torch

from .. import randomness
from ..batches import is_on, sample_count, to_device
from ..engine import Engine
from ..errors import LoaderError
from .evaluation import Means, evaluate
from .setup import Loader, Setup
from .steps import Precision, Step, checked, default_training_step


class TrainingLoop:
    """One `fit`: trains until a limit or a stop, and can be continued with higher limits."""

    def __init__(
        self,
        *,
        engine: Engine,
        setup: Setup,
        training_step: Optional[Step],
        validation_step: Step,
        val_every: int,
        checkpoints: Path,
    ) -> None:
        self._engine = engine
        self._setup = setup
        self._validation_step = validation_step
        self._val_every = val_every
        self._checkpoints = checkpoints
        self._precision = Precision(setup)
        self._training_step = (
            default_training_step(setup, self._precision)
            if training_step is None
            else checked(training_step)
        )
        self._state = self._step_state()
        self._val_loss: Optional[float] = None  # until the scheduler has seen it
        #: The newest checkpoint that was written.
        self.checkpoint: Optional[Path] = None

    def train(self, max_epochs: Optional[int], max_steps: Optional[int]) -> bool:
        """Train until one of the limits, counted from the run's start; False where stopped."""
        engine = self._engine
        while not self._is_over(max_epochs, max_steps):
            engine.start_epoch(engine.epoch + 1)
            if not self._train_epoch(max_steps):
                return False
            cut_short = max_steps is not None and engine.step >= max_steps
            if (engine.epoch % self._val_every == 0 or cut_short) and not self._validate():
                return False
            self._step_scheduler()
        return True

    def test(self) -> bool:
        """Evaluate on the test loader; False where stopped on the way."""
        return self._evaluate("test", self._setup.test_loader) is not None

    def save(self, label: str) -> None:
        """Write a checkpoint of the whole state."""
        engine, setup = self._engine, self._setup
        state = {
            "run": engine.run,
            "step": engine.step,
            "epoch": engine.epoch,
            "model": setup.model.state_dict(),
            "optimizer": setup.optimizer.state_dict(),
            "scheduler": setup.scheduler.state_dict() if setup.scheduler is not None else None,
            "scaler": self._precision.scaler.state_dict(),
            "random": randomness.capture(),
        }
        self.checkpoint = engine.save_checkpoint(self._checkpoints, label, state) or self.checkpoint

    def _is_over(self, max_epochs: Optional[int], max_steps: Optional[int]) -> bool:
        engine = self._engine
        return (max_epochs is not None and engine.epoch >= max_epochs) or (
            max_steps is not None and engine.step >= max_steps
        )

    def _train_epoch(self, max_steps: Optional[int]) -> bool:
        # Every statement in this loop is paid for at every step.
        engine, state, step_once = self._engine, self._state, self._training_step
        record, run, is_quiet = engine.recorder.record, engine.run, engine.is_quiet
        scheduler = self._setup.scheduler if self._setup.scheduler_interval == "step" else None
        groups = self._setup.optimizer.param_groups
        one_rate = len(groups) == 1
        before = engine.step
        move = None
        began = time.perf_counter()
        for loaded in self._setup.train_loader:
            if engine.step == before:
                move = self._mover(loaded)
            batch = loaded if move is None else move(loaded)
            state["step"] = engine.step
            metrics = step_once(batch, state)
            values = {"lr": groups[0]["lr"], **metrics} if one_rate else self._rates(metrics)
            if scheduler is not None:
                scheduler.step()
            engine.step += 1
            now = time.perf_counter()
            record(run, engine.step, values, now - began, sample_count(batch))
            # Let go now: a loss that lives through the next step keeps its graph's memory.
            del metrics, values
            began = now
            if not is_quiet():
                if not engine.safe_point():
                    return False
                # A pause is not part of the next step; waiting for its data is.
                began = time.perf_counter()
            if max_steps is not None and engine.step >= max_steps:
                return True
        if engine.step == before:
            raise LoaderError(
                f"train_loader yielded no batch in epoch {engine.epoch}. Check the length of its "
                "dataset, and drop_last=True with a batch_size greater than that. A loader that is "
                "a generator is empty after its first pass."
            )
        return True

    def _mover(self, first_batch: Any) -> Optional[Callable[[Any], Any]]:
        """How batches come to the model's device; None where the loader puts them there."""
        device = self._setup.device
        if device is None or is_on(first_batch, device):
            return None
        return functools.partial(to_device, device=device)

    def _rates(self, metrics: Mapping[str, Any]) -> Dict[str, Any]:
        """The metrics, and the learning rate of each parameter group."""
        groups = enumerate(self._setup.optimizer.param_groups)
        return {**{f"lr/{number}": group["lr"] for number, group in groups}, **metrics}

    def _step_scheduler(self) -> None:
        scheduler = self._setup.scheduler
        if scheduler is None or self._setup.scheduler_interval != "epoch":
            return
        if not isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
            scheduler.step()
        elif self._val_loss is not None:
            scheduler.step(self._val_loss)
            self._val_loss = None

    def _validate(self) -> bool:
        if self._setup.val_loader is None:
            return True
        means = self._evaluate("val", self._setup.val_loader)
        if means is None:
            return False
        self._val_loss = means.values["val_loss"]
        return True

    def _evaluate(self, split: str, loader: Optional[Loader]) -> Optional[Means]:
        assert loader is not None
        means = evaluate(
            model=self._setup.model,
            loader=loader,
            loader_name=f"{split}_loader",
            step=self._validation_step,
            state=self._state,
            device=self._setup.device,
            prefix=f"{split}_",
            keep_going=self._engine.safe_point,
        )
        if means is not None:
            name = "validation" if split == "val" else split
            self._engine.evaluated(name, means.samples, means.values)
        return means

    def _step_state(self) -> Dict[str, Any]:
        setup = self._setup
        return {
            "model": setup.model,
            "optimizer": setup.optimizer,
            "scheduler": setup.scheduler,
            "device": setup.device,
            "scaler": self._precision.scaler,
            "loss_fn": setup.loss_fn,
            "step": 0,
            "grad_clip_norm": setup.grad_clip_norm,
            "autocast": self._precision.autocast(),
            "train_loader": setup.train_loader,
        }
