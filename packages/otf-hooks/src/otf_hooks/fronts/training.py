"""The native training loop: a state machine of phases, driven through an engine.

    between -> train -> validate -> between -> ... -> test -> end

Whatever phase a safe point says training was moved to, the loop looks at its position and goes on
from there: at the start, after a rewind, or in a process that resumes another's run.
"""

from __future__ import annotations

import functools
import os
import time
import traceback
from typing import Any, Callable, ContextManager, Dict, Iterator, List, Mapping, Optional, Tuple

import torch

from .. import randomness
from ..batches import is_on, sample_count, tensors, to_device
from ..engine import Engine
from ..errors import CheckpointError, DeviceMismatch, LoaderError, NotPossible
from ..front import Evaluated, KeepGoing, Probe, Verdict
from ..hyperparameters import Hyperparameters
from ..limits import Limits
from ..loaders import Loader, keeps_its_place, set_epoch
from ..meters.telemetry import AnyTelemetry, NoTelemetry
from ..position import DataPosition
from ..recorder import version_of
from ..trace import Trace, Tracer
from ..wrappers import without_parallel
from .evaluation import Undisturbed, evaluate
from .proving import retrain
from .rehearsing import NativeRehearsal, rehearse
from .setup import Setup
from .state import TrainingState
from .steps import Precision, Step, default_training_step, own_training_step

_LABELS = {"validation": "val", "test": "test"}
_IN_STEP = (
    "It was made in the midst of a step that failed: the generators had moved on, so going on from "
    "it is not bit for bit what an uninterrupted run would have done."
)


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
        test_after: bool,
        limits: Limits,
        hyperparameters: Hyperparameters,
        watch_gradients: bool = False,
        telemetry: Optional[AnyTelemetry] = None,
    ) -> None:
        self._engine = engine
        self._setup = setup
        self._own_step = training_step
        self._validation_step = validation_step
        self._val_every = val_every
        self._test_after = test_after
        # A float16 scaler skips steps with infinite gradients by itself: they are its business.
        self._watch_gradients = watch_gradients and setup.amp_type is not torch.float16
        self.telemetry: AnyTelemetry = NoTelemetry() if telemetry is None else telemetry
        self.limits = limits
        self.hyperparameters = hyperparameters
        self.phase = "between"
        self.position = DataPosition(setup.train_loader)
        self._precision = Precision(setup)
        self._step_state = self._make_step_state()
        self._training_step = self._make_training_step()
        self._training = TrainingState(
            model=setup.model,
            optimizer=setup.optimizer,
            scheduler=setup.scheduler,
            scaler=self._precision.scaler,
            loss_fn=setup.loss_fn,
            hyperparameters=hyperparameters,
            own=None if training_step is None else self._step_state,
        )
        self._val_loss: Optional[float] = None  # until the scheduler has seen it
        self._best: Optional[float] = None
        self._undisturbed: Optional[Undisturbed] = None
        self._verdict = Verdict.GO_ON
        self._first_parameter = next(setup.model.parameters(), None)
        #: How often the optimizer had changed the first parameter when the script's step began.
        self._updates = 0
        self._in_step = False
        self._phases: Dict[str, Callable[[], Verdict]] = {
            "between": self._between,
            "train": self._train,
            "validate": self._validate,
            "test": self._test,
        }

    def run(self) -> bool:
        """Train from the position to the end; False where stopped on the way."""
        while self.phase != "end":
            if self._phases[self.phase]() is Verdict.END:
                return False
        return True

    def can_go_on(self) -> bool:
        """Whether there is more to train: the limits were raised, or training was moved."""
        if self.phase == "end" and not self.limits.is_reached(*self._done()):
            self.phase = "train" if self.position.is_under_way else "between"
        return self.phase != "end"

    def _done(self) -> Tuple[int, int]:
        """The epochs that are complete, and the steps."""
        epochs = self._engine.epoch - (1 if self.position.is_under_way else 0)
        return epochs, self._engine.step

    def is_whole_after(self, error: BaseException) -> bool:
        """Whether the state is that after a whole number of steps, in spite of the exception.

        In the midst of a step it still is, as long as the optimizer has changed nothing.
        """
        if not self._in_step:
            return True
        if self._own_step is not None:
            return self._updates == self._update_count()
        return not _came_through(error, "torch/optim/")

    # What commands ask for

    def capture(self) -> Dict[str, Any]:
        """The whole state, by reference; during an evaluation, as it was before it."""
        engine = self._engine
        if self._training.is_sharded and engine.peers.is_parted:
            raise CheckpointError(
                "A sharded model cannot be saved by one process alone, and the others are not there."
            )
        calm = self._undisturbed
        random = randomness.capture() if calm is None else calm.random
        state = {
            "run": engine.run,
            "step": engine.step,
            "epoch": engine.epoch,
            "phase": self.phase,
            "val_loss": self._val_loss,
            "best": self._best,
            "limits": self.limits.state(),
            "data": self.position.capture(engine.step),
            "random": randomness.as_plain(random),
            "findings": [_IN_STEP] if self._in_step else [],
            **self._training.capture(),
        }
        if calm is not None:
            state["eval_modules"] = calm.eval_modules
        return state

    def check(self, state: Dict[str, Any], *, weights_only: bool = False) -> None:
        """Raise `CheckpointError` where `state`, or its weights, do not fit; nothing is changed."""
        self._training.check(state, weights_only=weights_only)

    def load_weights(self, state: Dict[str, Any]) -> None:
        """Put the weights of `state` into the model, and nothing else."""
        self._training.load_weights(state)

    def restore(self, state: Dict[str, Any]) -> List[str]:
        """Put training where `state` was captured; what could not be restored, as sentences."""
        self._training.restore(state)
        findings = self.position.restore(state["data"])
        self.phase = state["phase"]
        self._val_loss, self._best = state["val_loss"], state["best"]
        self.limits.load(state["limits"])
        if self._undisturbed is not None:
            self._undisturbed.moved()
            self._undisturbed = None
        self._in_step = False
        self.hyperparameters_changed()
        # Last: what was done until here may have drawn from the generators.
        randomness.restore(randomness.from_plain(state["random"]))
        return [*state["findings"], *findings, *self._training.left_out()]

    def hyperparameters_changed(self) -> None:
        """Have the next step see what was changed."""
        self._step_state["grad_clip_norm"] = self.hyperparameters.grad_clip_norm
        self._training_step = self._make_training_step()

    def evaluate(self, split: str, keep_going: KeepGoing) -> Optional[Evaluated]:
        """Evaluate the live weights on the data of a split; None where it was broken off."""
        setup = self._setup
        loader = setup.val_loader if split == "validation" else setup.test_loader
        if loader is None:
            raise NotPossible(
                f"There is no {split} data: the script gave fit no {_LABELS[split]}_loader=."
            )
        return self._evaluate(split, loader, keep_going)

    def retrain(self, steps: int, keep_going: KeepGoing) -> List[Trace]:
        """Train so many steps twice from here, and leave everything as it was; both traces."""
        self._check_whole()
        return retrain(self, steps, keep_going)

    def findings(self) -> List[str]:
        """Why going back will not be exact, as far as it is known beforehand; none where it will."""
        return self.position.findings()

    def batch_indices(self, step: int) -> List[int]:
        """The dataset indices of the batch that `step` was trained on, where they can be told."""
        return self.position.indices(step)

    def tensors(self) -> List[torch.Tensor]:
        """Every tensor that training holds on the device."""
        self._check_whole()
        return self._training.tensors()

    # What a proof needs

    @property
    def model(self) -> torch.nn.Module:
        """What is trained."""
        return self._setup.model

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """What trains it."""
        return self._setup.optimizer

    @property
    def loader(self) -> Loader:
        """Where the batches come from."""
        return self._setup.train_loader

    @property
    def is_evaluating(self) -> bool:
        """Whether an evaluation is under way, so that no step can be trained."""
        return self._undisturbed is not None

    def moved(self) -> None:
        """Have the loop look at its position again, because its iterator was exchanged."""
        self._engine.moved()

    def train_once(self, loaded: Any, number: int, tracer: Tracer) -> None:
        """Train the `number`-th step from here, unrecorded and uncounted, into a trace."""
        move = self._mover(loaded)
        batch = loaded if move is None else move(loaded)
        step = self._engine.step + number
        self._step_state["step"] = step
        # A loader that keeps its own place is not asked for its sampler's order.
        indices = [] if keeps_its_place(self.loader) else self.batch_indices(step + 1)
        tracer.before_step(step + 1, indices, batch)
        tracer.after_step(self._training_step(batch, self._step_state)["loss"])
        if self._steps_scheduler_by_step:
            self.hyperparameters.step_scheduler()
        tracer.after_scheduler()

    # What a check of health needs

    def probe(self) -> Probe:
        """What is trained, with what and on what."""
        setup, scaler = self._setup, self._precision.scaler
        return Probe(
            model=setup.model,
            optimizers=[setup.optimizer],
            loader=setup.train_loader,
            val_loader=setup.val_loader,
            device=setup.device,
            amp_type=setup.amp_type,
            scaler=scaler if scaler.state_dict() else None,
        )

    def rehearse(self) -> ContextManager[NativeRehearsal]:
        """Train on trial; afterwards everything is as before."""
        self._check_whole()
        return rehearse(self)

    def read_again(self, back: int) -> ContextManager[Iterator[Any]]:
        """The batches of the newest epoch (0) or of the one before (1), from its first."""
        return self.position.read_again(back)

    def left_out(self) -> List[str]:
        """What the script keeps in its step's state and cannot be put back, as sentences."""
        return self._training.left_out()

    def on_device(self, loaded: Any) -> Any:
        """A batch where the model is."""
        move = self._mover(loaded)
        return loaded if move is None else move(loaded)

    def train_on_trial(self, batch: Any, number: int) -> Mapping[str, Any]:
        """Train the `number`-th step from here, on a batch that was moved; its metrics."""
        self._step_state["step"] = self._engine.step + number
        # Without its scheduler: one that is at its end could not be stepped.
        return self._training_step(batch, self._step_state)

    @property
    def _steps_scheduler_by_step(self) -> bool:
        return self._setup.scheduler is not None and self._setup.scheduler_interval == "step"

    def _check_whole(self) -> None:
        if self._training.is_sharded:
            raise NotPossible(
                "The model is sharded over the processes, and what this needs is all of it on each. "
                "Saving, going back and evaluating are possible."
            )

    # The phases

    def _between(self) -> Verdict:
        """Between two epochs: pause or save where that is due, and begin the next, or end."""
        engine = self._engine
        verdict = engine.safe_point()
        if verdict is not Verdict.GO_ON:
            return verdict
        if self.limits.is_reached(*self._done()):
            self.phase = "test" if self._test_after else "end"
            return Verdict.GO_ON
        set_epoch(self._setup.train_loader, engine.epoch)
        self.position.begin_epoch(engine.epoch + 1, engine.step)
        engine.start_epoch(engine.epoch + 1)
        self.phase = "train"
        return Verdict.GO_ON

    def _train(self) -> Verdict:
        # Every statement in this loop is paid for at every step.
        engine, state, agenda = self._engine, self._step_state, self._engine.agenda
        record, run, is_quiet = engine.recorder.record, engine.run, engine.is_quiet
        step_once, by_step = self._training_step, self._steps_scheduler_by_step
        groups = self._setup.optimizer.param_groups
        plain_values = len(groups) == 1 and not self._watch_gradients
        before_step, after_step = self.telemetry.before_step, self.telemetry.after_step
        if self.limits.are_steps_done(engine.step):
            return self._cut_short()
        first = True
        move = None
        began = time.perf_counter()
        for loaded in self.position.batches():
            waited = time.perf_counter() - began
            if first:
                first, move = False, self._mover(loaded)
            batch = loaded if move is None else move(loaded)
            state["step"] = engine.step
            before_step()
            self._in_step = True
            metrics = step_once(batch, state)
            sampled = after_step()
            values = {"lr": groups[0]["lr"], **metrics} if plain_values else self._more(metrics)
            if sampled:
                values = {**sampled, **values}
            if by_step:
                self.hyperparameters.step_scheduler()
            engine.step += 1
            self._in_step = False
            now = time.perf_counter()
            record(run, engine.step, values, now - began, sample_count(batch), waited)
            # Let go now: a loss that lives through the next step keeps its graph's memory.
            del metrics, values, sampled
            began = now
            if not is_quiet() or engine.step >= agenda.next_step:
                verdict = engine.safe_point()
                if verdict is not Verdict.GO_ON:
                    return verdict
                if self.limits.are_steps_done(engine.step):
                    return self._cut_short()
                step_once = self._training_step
                # A pause is not part of the next step; waiting for its data is.
                began = time.perf_counter()
        if engine.step == self.position.first_step:
            raise LoaderError(
                f"train_loader yielded no batch in epoch {engine.epoch}. Check the length of its "
                "dataset, and drop_last=True with a batch_size greater than that. A loader that is "
                "a generator is empty after its first pass."
            )
        self.position.end_epoch()
        self.phase = "validate"
        return Verdict.GO_ON

    def _cut_short(self) -> Verdict:
        """The limit of steps is reached in the midst of an epoch, which may be gone on with."""
        length = self.limits.steps_per_epoch
        if length is not None and self._engine.step - self.position.first_step >= length:
            self.position.end_epoch()
        self.phase = "validate"
        return Verdict.GO_ON

    def _validate(self) -> Verdict:
        """At the end of an epoch, or of training: validate where that is due, step the scheduler."""
        engine, loader = self._engine, self._setup.val_loader
        is_last = self.position.is_under_way
        if loader is not None and (engine.epoch % self._val_every == 0 or is_last):
            found = self._evaluate("validation", loader, self._keep_going)
            if found is None:
                return self._verdict
            engine.evaluated(found)
            self._val_loss = found.values["val_loss"]
            self._save_best(self._val_loss)
        if is_last:
            # The epoch is not over: its scheduler has its turn when it is gone on with.
            self.phase = "test" if self._test_after else "end"
            return Verdict.GO_ON
        self._step_scheduler()
        self.phase = "between"
        self._pause_after_epoch()
        return Verdict.GO_ON

    def _test(self) -> Verdict:
        loader = self._setup.test_loader
        assert loader is not None
        found = self._evaluate("test", loader, self._keep_going)
        if found is None:
            return self._verdict
        self._engine.evaluated(found)
        self.phase = "end"
        return Verdict.GO_ON

    # Parts

    def _keep_going(self, done: int, total: int) -> bool:
        """Between two batches of the loop's own evaluations, which are safe points too."""
        self._engine.beats += 1
        self._verdict = self._engine.safe_point()
        return self._verdict is Verdict.GO_ON

    def _update_count(self) -> int:
        """How often the optimizer has changed the first parameter; -1 where there is none."""
        first = self._first_parameter
        return -1 if first is None else version_of(first)

    def _pause_after_epoch(self) -> None:
        engine, limits = self._engine, self.limits
        if limits.pause_after_epoch is not None and engine.epoch >= limits.pause_after_epoch:
            limits.pause_after_epoch = None
            engine.limits_changed()
            engine.pause("ran for as long as was asked")

    def _save_best(self, val_loss: Optional[float]) -> None:
        if val_loss is not None and (self._best is None or val_loss < self._best):
            self._best = val_loss
            self._engine.save("best", score=val_loss)

    def _mover(self, first_batch: Any) -> Optional[Callable[[Any], Any]]:
        """How batches come to the model's device; None where the loader puts them there."""
        device = self._setup.device
        if any(tensor.is_meta for tensor in tensors(first_batch)):
            raise DeviceMismatch(
                "train_loader yields tensors on the device 'meta', which hold shapes and no "
                "numbers. Have the dataset yield real ones."
            )
        if device is None or is_on(first_batch, device):
            return None
        return functools.partial(to_device, device=device)

    def _more(self, metrics: Mapping[str, Any]) -> Dict[str, Any]:
        """The metrics, the learning rate of each parameter group, and what guards look at."""
        groups = self._setup.optimizer.param_groups
        if len(groups) == 1:
            rates = {"lr": groups[0]["lr"]}
        else:
            rates = {f"lr/{number}": group["lr"] for number, group in enumerate(groups)}
        watched = {"grad_norm": gradient_norm(self._setup.model)} if self._watch_gradients else {}
        return {**rates, **watched, **metrics}

    def _step_scheduler(self) -> None:
        scheduler = self._setup.scheduler
        if scheduler is None or self._setup.scheduler_interval != "epoch":
            return
        if not isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
            self.hyperparameters.step_scheduler()
        elif self._val_loss is not None:
            self.hyperparameters.step_scheduler(self._val_loss)
            self._val_loss = None

    def _evaluate(self, split: str, loader: Loader, keep_going: KeepGoing) -> Optional[Evaluated]:
        label = _LABELS[split]
        outer = self._undisturbed
        calm = Undisturbed(self._setup.model, self.position, self._engine.peers)
        self._undisturbed = outer or calm
        # What waits for the other processes in every forward pass would wait for ever where one of
        # them has fewer batches.
        self._step_state["model"] = without_parallel(self._setup.model)
        try:
            with calm:
                return evaluate(
                    split=split,
                    loader=loader,
                    loader_name=f"{label}_loader",
                    step=self._validation_step,
                    state=self._step_state,
                    device=self._setup.device,
                    prefix=f"{label}_",
                    keep_going=keep_going,
                    rounds=self._engine.rounds(),
                    keeps_step=self._training.is_sharded,
                )
        finally:
            self._undisturbed = outer
            self._step_state["model"] = self._setup.model

    def _make_training_step(self) -> Step:
        if self._own_step is not None:
            return own_training_step(self._own_step, self._note_updates)
        return default_training_step(
            self._setup, self._precision, self.hyperparameters.grad_clip_norm
        )

    def _note_updates(self) -> None:
        self._updates = self._update_count()

    def _make_step_state(self) -> Dict[str, Any]:
        setup = self._setup
        return {
            "model": setup.model,
            "optimizer": setup.optimizer,
            "scheduler": setup.scheduler,
            "device": setup.device,
            "scaler": self._precision.scaler,
            "loss_fn": setup.loss_fn,
            "step": 0,
            "grad_clip_norm": self.hyperparameters.grad_clip_norm,
            "autocast": self._precision.autocast(),
            "train_loader": setup.train_loader,
        }


def gradient_norm(model: torch.nn.Module) -> torch.Tensor:
    """The 2-norm of all gradients together, on their device; 0 where there are none."""
    norms = [
        torch.linalg.vector_norm(parameter.grad.detach())
        for parameter in model.parameters()
        if parameter.grad is not None
    ]
    if not norms:
        return torch.zeros(())
    together = torch.stack([norm.to(norms[0].device) for norm in norms])
    return torch.as_tensor(torch.linalg.vector_norm(together))


def _came_through(error: BaseException, part: str) -> bool:
    """Whether the exception was raised in a file whose path has this part, or under it."""
    frames = traceback.walk_tb(error.__traceback__)
    return any(part in frame.f_code.co_filename.replace(os.sep, "/") for frame, _ in frames)
