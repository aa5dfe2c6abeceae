"""The loop that drives Lightning's own loops, by their public methods, with safe points in between.

    between -> train -> validate -> train -> ... -> between -> ... -> test -> end

What an epoch and a batch are is Lightning's: its hooks, its optimization, its validation. This loop
decides only what comes next, so that training can be put somewhere else, and gone on with after its
end, inside the one call of `trainer.fit`. A step is a batch that was trained on.
"""

from __future__ import annotations

import time
from typing import Any, Callable, ContextManager, Dict, Iterator, List, Optional, Tuple

import torch

from ... import randomness
from ...batches import sample_count
from ...engine import Engine
from ...front import Evaluated, KeepGoing, Probe, Rehearsal, Verdict
from ...hyperparameters import Hyperparameters
from ...limits import Limits
from ...meters.telemetry import AnyTelemetry
from ...recorder import version_of
from ...trace import Trace, Tracer
from . import counters, standing
from .calm import Calm, end_quietly
from .evaluation import Evaluations, finite
from .measuring import Measuring
from .place import LightningPlace, Reading
from .proving import retrain
from .rates import LightningHyperparameters, Optimizers
from .rehearsing import rehearse
from .several import Turns
from .state import LightningState

_IN_STEP = (
    "It was made in the midst of a step that failed: the generators had moved on, so going on from "
    "it is not bit for bit what an uninterrupted run would have done."
)
_EPOCH_MEANS = (
    "The means that self.log(..., on_epoch=True) takes over an epoch of training begin here: those "
    "of this epoch hold its remaining batches alone. The weights do not depend on them, unless a "
    "scheduler or a callback monitors one."
)
_RELOADED = (
    "The trainer loads its data anew every few epochs (reload_dataloaders_every_n_epochs): going back "
    "over such a place reads what was loaded last."
)
_AMP_TYPES = {"16-mixed": torch.float16, "bf16-mixed": torch.bfloat16}
_ITERATOR_TAKEN = (
    "training_step takes the iterator (dataloader_iter), so that how many batches it has read is not "
    "known: going back into the midst of an epoch is not exact."
)


class _Left(Exception):
    """A validation is left on the way, because training was put elsewhere or ended."""


class LightningLoop:
    """One `trainer.fit`: trains until a limit or a stop, and can be continued with higher limits.

    Args:
        engine: Where it is recorded and steered.
        trainer: Lightning's, in the midst of `fit`, where the first epoch is to begin.
        callback: What tells this loop of the trainer's hooks.
        limits: Where training ends.
        evaluations: What evaluates on demand.
        test_after: Evaluate on the test data at the end.
        before: The global generators before Lightning read any data.
        mid_epoch: Lightning was resumed (`ckpt_path=`) inside an epoch.
        watch_gradients: Record the gradients' norm, for guards that look at it.
        telemetry: Samples norms and activations around a step.
    """

    def __init__(
        self,
        *,
        engine: Engine,
        trainer: Any,
        callback: Any,
        limits: Limits,
        hyperparameters: LightningHyperparameters,
        optimizers: Optimizers,
        evaluations: Evaluations,
        test_after: bool,
        before: Dict[str, Any],
        mid_epoch: bool = False,
        watch_gradients: bool = False,
        telemetry: Optional[AnyTelemetry] = None,
    ) -> None:
        self._engine = engine
        self._trainer = trainer
        self.callback = callback
        self.limits = limits
        self.hyperparameters: Hyperparameters = hyperparameters
        self._rates = hyperparameters
        self.optimizers = optimizers
        self._evaluations = evaluations
        self._test_after = test_after
        self._measuring = Measuring(
            trainer, optimizers, watch_gradients=watch_gradients, telemetry=telemetry
        )
        self._turns = Turns(engine)
        self.phase = "between"
        self._mid_epoch = mid_epoch
        self._training = LightningState(trainer, optimizers, hyperparameters)
        self._loops = counters.Loops(trainer)
        self.fetcher = standing.find_fetcher(self._trainer)
        self.place = LightningPlace(Reading(self.fetcher))
        engine.step = counters.trained_batches(trainer)
        engine.epoch = trainer.current_epoch
        self.place.found(engine.epoch + 1, before)
        self._best: Optional[float] = None
        self._ended_at: Tuple[Any, ...] = ()
        #: Set while Lightning evaluates: how training was before.
        self._calm: Optional[Calm] = None
        self._validated = 0
        self._verdict = Verdict.GO_ON
        self._in_step = False
        self._updates = 0
        #: The module has said that the epoch ends before its last batch.
        self._skips_rest = False
        self._tracer: Optional[Tracer] = None
        self._traced = 0
        self._module = trainer.lightning_module
        self._watched_parameter = next(
            (p for p in self._module.parameters() if p.requires_grad), None
        )
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
        if self.phase != "end":
            return True
        self._apply_limits()
        if self._limits_now() != self._ended_at:
            # What had ended training was not the limit that a person has raised.
            self._trainer.should_stop = False
        if not standing.is_done(self._trainer):
            self.phase = "train" if self.place.is_under_way else "between"
        return self.phase != "end"

    def finish(self) -> None:
        """Leave Lightning's loops as it would leave them."""
        if self.place.is_under_way:
            # Cut short by a limit or a stop: what belongs to the end of an epoch is done now.
            self._end_epoch()

    def close(self) -> None:
        """Leave the optimizers as they were, however training has ended."""
        self._measuring.close()
        self._rates.close()

    def is_whole_after(self, error: BaseException) -> bool:
        """Whether the state is that after a whole number of steps, in spite of the exception.

        In the midst of a step it still is, as long as no optimizer has changed anything, and no
        gradient may have been added to those of the batches before.
        """
        untouched = self._updates == self._update_count() and not self._training.accumulates
        return not self._in_step or untouched

    # What commands ask for

    def capture(self) -> Dict[str, Any]:
        """The whole state, by reference; during an evaluation, as it was before it."""
        engine, calm = self._engine, self._calm
        random = randomness.capture() if calm is None else calm.random
        state = {
            "run": engine.run,
            "step": engine.step,
            "epoch": engine.epoch,
            "phase": self.phase,
            "best": self._best,
            "limits": self.limits.state(),
            "data": self.place.capture(engine.step),
            "random": randomness.as_plain(random),
            "findings": [_IN_STEP] if self._in_step else [],
            "loops": self._loops.capture(settled=self._in_step),
            **self._training.capture(),
        }
        if calm is not None:
            state["eval_modules"], state["metrics"] = calm.eval_modules, calm.metrics
            state["gradients"] = calm.gradients if self._training.accumulates else {}
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
        # What is monitored was recorded when it was measured.
        self._measuring.logged()
        has_means = self._loops.restore(state["loops"])
        findings = self.place.restore(state["data"])
        if self.place.is_under_way and not has_means and standing.has_epoch_means(self._trainer):
            findings.append(_EPOCH_MEANS)
        self.phase = state["phase"]
        self._best = state["best"]
        self.limits.load(state["limits"])
        self._mid_epoch = False
        if self._calm is not None:
            self._calm.moved()
        self._in_step = False
        self.hyperparameters_changed()
        self._apply_limits()
        # Last: what was done until here may have drawn from the generators.
        randomness.restore(randomness.from_plain(state["random"]))
        return [*state["findings"], *findings, *self._training.left_out()]

    def hyperparameters_changed(self) -> None:
        """Have the next step see what was changed."""
        self._trainer.gradient_clip_val = self.hyperparameters.grad_clip_norm

    def evaluate(self, split: str, keep_going: KeepGoing) -> Optional[Evaluated]:
        """Evaluate the live weights through Lightning; None where it was broken off."""
        outer = self._calm
        calm = Calm(self._module, self.place, self._engine.peers)
        self._calm = outer or calm
        try:
            with calm:
                return self._evaluations.run(split, keep_going)
        finally:
            self._calm = outer

    def retrain(self, steps: int, keep_going: KeepGoing) -> List[Trace]:
        """Train so many steps twice from here, and leave everything as it was; both traces."""
        return retrain(self, self._trainer, steps, keep_going)

    def findings(self) -> List[str]:
        """Why going back will not be exact, as far as it is known beforehand; none where it will."""
        found = self.place.findings()
        if self._trainer.reload_dataloaders_every_n_epochs:
            found.append(_RELOADED)
        if hasattr(self.fetcher, "iterator_wrapper"):
            found.append(_ITERATOR_TAKEN)
        return found

    def batch_indices(self, step: int) -> List[int]:
        """The dataset indices of the batch that `step` was trained on, where they can be told."""
        return self.place.indices(step)

    def tensors(self) -> List[torch.Tensor]:
        """Every tensor that training holds on the device."""
        return self._training.tensors()

    # What a check of health needs

    def probe(self) -> Probe:
        """What is trained, with what and on what."""
        trainer, reading = self._trainer, self.place.reading
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        return Probe(
            model=self._module,
            optimizers=list(self.optimizers),
            # Not `or`: a loader has a length, or none.
            loader=reading if reading.only_loader is None else reading.only_loader,
            val_loader=self._evaluations.validation_loader(),
            device=trainer.strategy.root_device,
            amp_type=_AMP_TYPES.get(trainer.precision),
            scaler=scaler,
        )

    def rehearse(self) -> ContextManager[Rehearsal]:
        """Train on trial, in the midst of an epoch; afterwards everything is as before."""
        return rehearse(self, self._trainer)

    def read_again(self, back: int) -> ContextManager[Iterator[Any]]:
        """The batches of the newest epoch (0) or of the one before (1), from its first."""
        return self.place.read_again(back)

    def train_on_trial(self, epoch: Any) -> Any:
        """Train a step by the loop over an epoch's batches, unrecorded and uncounted; its loss."""
        with self._measuring.unrecorded(), self._rates.scheduler_steps():
            try:
                epoch.advance(self.fetcher)
            except StopIteration:
                # The module leaves this batch out.
                return None
        return self._measuring.loss()

    # What the callback hears

    def batch_started(self, batch: Any) -> None:
        """A batch is about to be trained on."""
        if self._tracer is not None:
            step = self._engine.step + self._traced + 1
            self._tracer.before_step(step, self.batch_indices(step), batch)
        self._measuring.batch_started()

    def batch_ended(self, outputs: Any, batch: Any) -> None:
        """A batch was trained on."""
        self._measuring.batch_ended(outputs, batch)
        if self._tracer is not None:
            self._tracer.after_step(self._measuring.loss())
            self._tracer.after_scheduler()

    def optimizer_steps(self) -> None:
        """An optimizer is about to step."""
        self._measuring.optimizer_steps()

    def validation_starts(self) -> None:
        """Lightning begins a validation of its own."""
        if self._calm is not None:
            self._turns.begin(self._trainer.num_val_batches)

    def validation_batch(self, batch: Any, *, is_begun: bool) -> None:
        """Lightning begins or has done a batch of its own validation: a safe point."""
        if self._calm is None:
            return
        if not is_begun:
            self._validated += sample_count(batch)
            return
        self._engine.beats += 1
        if not self._turns.take():
            return
        self._verdict = self._engine.safe_point()
        if self._verdict is not Verdict.GO_ON:
            raise _Left

    # What a proof needs

    @property
    def is_evaluating(self) -> bool:
        """Whether an evaluation is under way, so that no step can be trained."""
        return self._calm is not None

    @property
    def module(self) -> torch.nn.Module:
        """What is trained."""
        found: torch.nn.Module = self._module
        return found

    def moved(self) -> None:
        """Have the loop look at its position again."""
        self._engine.moved()

    def train_once(self, number: int, tracer: Tracer) -> bool:
        """Train the `number`-th step from here, unrecorded, into a trace.

        False at the end of the epoch, and where Lightning would validate before it.
        """
        if self._epoch.done or (number and standing.is_validation_due(self._trainer)):
            return False
        self._tracer, self._traced = tracer, number
        try:
            with self._measuring.unrecorded(), self._rates.scheduler_steps():
                self._epoch.advance(self.fetcher)
        except StopIteration:
            return False
        finally:
            self._tracer = None
        return True

    # The phases

    def _between(self) -> Verdict:
        """Between two epochs: pause or save where that is due, and begin the next, or end."""
        engine, trainer = self._engine, self._trainer
        verdict = engine.safe_point()
        if verdict is not Verdict.GO_ON:
            return verdict
        self._apply_limits()
        if trainer.fit_loop.done:
            self._ended_at = self._limits_now()
            self.phase = "test" if self._test_after else "end"
            return Verdict.GO_ON
        if not self._mid_epoch:
            trainer.fit_loop.on_advance_start()
        self._mid_epoch = False
        self._follow_reload()
        epoch = self._epoch
        # Counted from where the iterator begins, also where Lightning was resumed within an epoch.
        self.place.begin_epoch(engine.epoch + 1, engine.step)
        engine.start_epoch(engine.epoch + 1)
        epoch.reset()
        self.place.open_epoch(anew=standing.start_reading(self._trainer, self.fetcher))
        self.phase = "train"
        return Verdict.GO_ON

    def _train(self) -> Verdict:
        # Every statement in this loop is paid for at every step.
        engine, agenda = self._engine, self._engine.agenda
        self._open()
        epoch, is_quiet, measuring = self._epoch, self._engine.is_quiet, self._measuring
        record = engine.recorder.record
        parameter, reads_ahead = self._watched_parameter, self.place.reads_ahead
        began = time.perf_counter()
        while not epoch.done:
            if parameter is not None:
                self._updates = version_of(parameter)
            if reads_ahead:
                self.place.about_to_read()
            self._in_step = True
            measuring.asked_at = began
            try:
                with self._rates.scheduler_steps():
                    epoch.advance(self.fetcher)
            except StopIteration:
                self._in_step = False
                self._skips_rest = True
                break
            finally:
                counters.passed(epoch)
            engine.step += 1
            self._in_step = False
            now = time.perf_counter()
            values, seconds = measuring.of_step(), now - began
            record(engine.run, engine.step, values, seconds, measuring.samples, measuring.waited)
            # Let go now: a loss that lives through the next step keeps its graph's memory.
            del values
            if standing.is_validation_due(self._trainer):
                self.phase = "validate"
                return Verdict.GO_ON
            with self._rates.scheduler_steps():
                epoch.on_advance_end(self.fetcher)
            began = now
            if not is_quiet() or engine.step >= agenda.next_step:
                verdict = self._safe_point()
                if verdict is not Verdict.GO_ON:
                    return verdict
                # A pause is not part of the next step; waiting for its data is.
                began = time.perf_counter()
        return self._after_batches()

    def _validate(self) -> Verdict:
        """What Lightning does behind a batch where it may validate, as one or many safe points."""
        self._open()
        calm = Calm(self._module, self.place, self._engine.peers)
        self._calm, self._validated = calm, 0
        try:
            with self._rates.scheduler_steps():
                self._epoch.on_advance_end(self.fetcher)
        except _Left:
            end_quietly(self._trainer, calm)
            return self._verdict
        finally:
            self._calm = None
        self._validated = sum(self._engine.peers.gathered(self._validated))
        if self._validated:
            self._record_validation()
        self.phase = "train"
        return self._safe_point()

    def _test(self) -> Verdict:
        found = self.evaluate("test", self._keep_going)
        if found is None:
            return self._verdict
        self._engine.evaluated(found)
        self.phase = "end"
        return Verdict.GO_ON

    # Parts

    @property
    def _epoch(self) -> Any:
        # Going back exchanges it.
        return self._trainer.fit_loop.epoch_loop

    def _open(self) -> None:
        """Stand before the next batch, where training was put elsewhere."""
        if self.place.open():
            self.fetcher.fetched = self._epoch.batch_progress.current.ready

    def _safe_point(self) -> Verdict:
        verdict = self._engine.safe_point()
        if verdict is Verdict.GO_ON:
            self._apply_limits()
        return verdict

    def _after_batches(self) -> Verdict:
        """No batch is left in the epoch, or a limit is reached in its midst."""
        if not (self._skips_rest or standing.is_epoch_read(self._trainer)):
            # It may be gone on with: what belongs to its end waits until it may not.
            self._ended_at = self._limits_now()
            self.phase = "test" if self._test_after else "end"
            return Verdict.GO_ON
        self._end_epoch()
        self.phase = "between"
        self._pause_after_epoch()
        return Verdict.GO_ON

    def _end_epoch(self) -> None:
        fit = self._trainer.fit_loop
        self.place.end_epoch()
        self._skips_rest = False
        with self._rates.scheduler_steps():
            fit.on_advance_end()
        counters.passed(fit)
        found = self._measuring.logged()
        if found:
            self._engine.record(found)

    def _record_validation(self) -> None:
        logged = self._measuring.logged()
        own = {name: finite(float(value)) for name, value in logged.items()}
        # Not all of it need be reduced over the processes, and all of them save the best.
        values = self._engine.peers.shared(lambda: own)
        self._engine.evaluated(Evaluated("validation", self._validated, values))
        score = values.get("val_loss")
        if score is not None and (self._best is None or score < self._best):
            self._best = score
            self._engine.save("best", score=score)

    def _keep_going(self, done: int, total: int) -> bool:
        """Between two batches of the test at the end, which are safe points too."""
        self._engine.beats += 1
        self._verdict = self._engine.safe_point()
        return self._verdict is Verdict.GO_ON

    def _pause_after_epoch(self) -> None:
        engine, limits = self._engine, self.limits
        if limits.pause_after_epoch is not None and engine.epoch >= limits.pause_after_epoch:
            limits.pause_after_epoch = None
            engine.limits_changed()
            engine.pause("ran for as long as was asked")

    def _limits_now(self) -> Tuple[Any, ...]:
        return (self.limits.max_epochs, self.limits.max_steps)

    def _apply_limits(self) -> None:
        """Have Lightning's loops end where ours says."""
        fit, limits = self._trainer.fit_loop, self.limits
        fit.max_epochs = -1 if limits.max_epochs is None else limits.max_epochs
        fit.epoch_loop.max_steps = -1 if limits.max_steps is None else limits.max_steps

    def _update_count(self) -> int:
        parameter = self._watched_parameter
        return -1 if parameter is None else version_of(parameter)

    def _follow_reload(self) -> None:
        """Take up the loaders that Lightning has loaded anew, where it has."""
        fetcher = standing.find_fetcher(self._trainer)
        if fetcher is not self.fetcher:
            self.fetcher = fetcher
            self.place.rebind(Reading(fetcher))
