"""The native training loop: epochs, steps, validation and test, driven through an engine."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Dict, Optional

import torch

from .. import randomness
from ..batches import sample_count, to_device
from ..engine import Engine
from ..errors import LoaderError
from .evaluation import Means, evaluate
from .setup import Loader, Setup
from .steps import Precision, Step, loss_of


class TrainingLoop:
    """One `fit`: trains until a limit or a stop, and can be continued with higher limits."""

    def __init__(
        self,
        *,
        engine: Engine,
        setup: Setup,
        training_step: Step,
        validation_step: Step,
        val_every: int,
        checkpoints: Path,
    ) -> None:
        self._engine = engine
        self._setup = setup
        self._training_step = training_step
        self._validation_step = validation_step
        self._val_every = val_every
        self._checkpoints = checkpoints
        self._precision = Precision(setup)
        self._state = self._step_state()
        self._last_loss: Any = None
        self._val_loss: Optional[float] = None
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
            self._step_scheduler("epoch")
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
        engine, device, state = self._engine, self._setup.device, self._state
        before = engine.step
        began = time.perf_counter()
        for loaded in self._setup.train_loader:
            batch = loaded if device is None else to_device(loaded, device)
            state["step"] = engine.step
            metrics = self._training_step(batch, state)
            self._last_loss = loss_of(metrics, "training step")
            values = self._learning_rates()
            self._step_scheduler("step")
            engine.step += 1
            seconds = time.perf_counter() - began
            values["throughput"] = sample_count(batch) / seconds
            values["step_time"] = seconds
            values.update(metrics)
            engine.record(values)
            if not engine.safe_point():
                return False
            if max_steps is not None and engine.step >= max_steps:
                return True
            # A pause is not part of the next step; waiting for its data is.
            began = time.perf_counter()
        if engine.step == before:
            raise LoaderError(
                f"train_loader yielded no batch in epoch {engine.epoch}. Check the length of its "
                "dataset, and drop_last=True with a batch_size greater than that. A loader that is "
                "a generator is empty after its first pass."
            )
        return True

    def _learning_rates(self) -> Dict[str, Any]:
        groups = self._setup.optimizer.param_groups
        if len(groups) == 1:
            return {"lr": groups[0]["lr"]}
        return {f"lr/{number}": group["lr"] for number, group in enumerate(groups)}

    def _step_scheduler(self, interval: str) -> None:
        scheduler = self._setup.scheduler
        if scheduler is None or self._setup.scheduler_interval != interval:
            return
        if isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
            scheduler.step(float(self._last_loss) if self._val_loss is None else self._val_loss)
        else:
            scheduler.step()

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
