"""One training by a `transformers.Trainer`, from its hooks: where the safe points are.

The safe point of a step is behind all that belongs to it. Where the Trainer evaluates after a step,
that is when it begins the next one, or the next epoch; else at the end of the step or of the epoch.

A Trainer cannot be moved within a call of `trainer.train`. Where training is put somewhere else, the
call is left, and behind its last hook another one begins, with the Trainer's own way of going on
from a checkpoint. What the hooks of a call that is left still tell is not recorded.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Any, Dict, Optional

from otf_session.events import RunState

from ... import console
from ...engine import Engine
from ...front import Evaluated, Verdict
from ...hyperparameters import Tunables
from ...loaders import sample_total
from ...snapshot import Snapshot
from ..lifecycle import Again, Ending, Lifecycle
from ..options import RunOptions
from .evaluation import of_the_model
from .front import Pass, TrainerFront
from .passes import empty, folder_to_begin_from

_UNSEEN = "an exception ended trainer.train(), which tells a callback nothing of it"


class Training:
    """A run, or several after one another, in one call of the script's `trainer.train`."""

    def __init__(
        self,
        *,
        options: RunOptions,
        tunables: Tunables,
        folder: Optional[Path],
        trainer: Any,
        test_dataset: Any,
    ) -> None:
        self._trainer = trainer
        self._lifecycle = Lifecycle(options, tunables, folder=folder)
        self.engine: Engine = self._lifecycle.engine
        self._front = TrainerFront(
            engine=self.engine,
            tunables=tunables,
            trainer=trainer,
            test_dataset=test_dataset,
            telemetry_budget=options.telemetry_budget,
        )
        #: What the safe point was answered with at which the call of `train` is being left.
        self._left: Optional[Verdict] = None
        #: The state that the next call, or the script, goes on with.
        self._carried: Optional[Dict[str, Any]] = None
        #: Whether a step is trained after the call was left: it must be undone.
        self._undoes = False
        #: Whether a pass of our own is under way.
        self.is_inner = False
        self._folder: Optional[Path] = None
        #: Whether the safe point of the step that was trained is still to come.
        self._is_due = False
        self._new_best: Optional[float] = None
        self.is_over = False

    # The beginning

    def begin(self, live: Pass, name: str, fixed_because: str) -> None:
        """The first pass begins, or one of our own."""
        if self.is_inner:
            self._begin_pass(live)
            return
        front, engine = self._front, self.engine
        try:
            front.is_fixed_because = fixed_because
            front.enter(live)
            front.plan()
            self._lifecycle.prepare(front)
        except BaseException:
            self.is_over = True
            self._lifecycle.abandon()
            raise
        try:
            # Not 0 where the script has the Trainer go on from a checkpoint of its own.
            engine.step = int(live.state.global_step)
            front.place.joins(live.state.epoch or 0.0, engine.step, front.limits.steps_per_epoch)
            engine.epoch, front.joins = front.place.epoch, engine.step > 0
            self._lifecycle.begin(name)
            engine.running()
            self._look(live.control, is_clean=False, undoes=False)
        except BaseException as error:
            self.fail(error)
            raise

    def _begin_pass(self, live: Pass) -> None:
        """One of our own passes begins: put back what it goes on from."""
        assert self._carried is not None
        assert self._folder is not None
        empty(self._folder)
        self._left = None
        self._front.enter(live)
        self._front.put(self._carried)
        self._carried = None
        # Taken back while it was held, it is held here until it is resumed.
        self._look(live.control, is_clean=False)

    # The hooks

    def epoch_begins(self, control: Any) -> None:
        """Before the Trainer makes its loader's iterator."""
        if self._left is None and self._is_due:
            self._between(control, is_clean=False)
        if self._left is None:
            if self._front.open_epoch():
                self.engine.start_epoch(self._front.place.epoch)
            self._front.measuring.step_is_asked_for()

    def step_begins(self, control: Any) -> None:
        """The batches of a step have been read."""
        front = self._front
        if self._left is None:
            front.measuring.step_is_read()
            if front.place.are_read():
                # What was not known before is known now: going back will not be exact.
                self.engine.assess()
            front.open_step()
            if self._is_due:
                self._look(control, is_clean=False)
        if self._left is None:
            front.rates.stepped = False
            front.measuring.step_begins()

    def step_ends(self, control: Any) -> None:
        """The optimizer and the scheduler have stepped."""
        front, engine, state = self._front, self.engine, self._front.live.state
        if self._left is not None:
            self._undo()
            _leave_quietly(control)
            return
        measured = front.measuring.step_ends()
        front.rates.rates_in_force()
        engine.step = int(state.global_step)
        engine.recorder.record(engine.run, engine.step, *measured)
        if control.should_training_stop or self._is_end_of_epoch():
            # What belongs to it comes in the hooks of the epoch's end.
            return
        if control.should_evaluate:
            self._is_due = True
        elif not engine.is_quiet() or engine.step >= engine.agenda.next_step:
            self._look(control, is_clean=True)
        self._goes_on_to_read()

    def _goes_on_to_read(self) -> None:
        """As far as a hook can tell; where another one comes, it is that one which could."""
        if self._left is None:
            self._front.measuring.step_is_asked_for()
            self._front.place.are_asked_for()

    def epoch_ends(self, control: Any) -> None:
        """The loader is at its end, or training ends in the midst of it."""
        front = self._front
        if self._left is not None:
            _leave_quietly(control)
            return
        if front.passes_empty():
            # Older versions take it for the end of the data.
            control.should_training_stop = False
            return
        is_cut = control.should_training_stop or control.should_epoch_stop
        self._is_due = False
        if not is_cut or self._is_end_of_epoch():
            front.place.close_epoch()
            front.phase = "between"
        if control.should_training_stop:
            front.phase = "end"
            if front.live.args.load_best_model_at_end:
                # Before the Trainer puts other weights in.
                front.final = Snapshot(front.capture()).wait()
        elif control.should_evaluate:
            self._is_due = True
        else:
            self._between(control, is_clean=True)

    def logged(self, logs: Dict[str, Any]) -> None:
        """The Trainer has logged."""
        self.engine.beats += 1
        if self._left is None:
            numbers = {
                name: value
                for name, value in logs.items()
                if name not in ("epoch", "step") and isinstance(value, (int, float))
            }
            self.engine.record(numbers)
        self._goes_on_to_read()

    def predicted(self) -> None:
        """A batch was evaluated: something moves."""
        self.engine.beats += 1

    def evaluated(self, metrics: Dict[str, Any], loader: Any) -> None:
        """The Trainer has evaluated, by its own plan, and logged the metrics."""
        if self._left is not None:
            return
        front, values = self._front, of_the_model(metrics)
        samples = sample_total(loader) or 0
        self.engine.journal.evaluated(Evaluated("validation", samples, values))
        loss = values.get("eval_loss")
        if loss is not None and (front.best is None or loss < front.best):
            front.best = self._new_best = loss
        # The scheduler may be stepped with the result.
        front.rates.own_rates()
        self._goes_on_to_read()

    def saved(self, output_dir: str) -> None:
        """The Trainer has saved a checkpoint of its own."""
        if self._left is None:
            step = self.engine.step
            self.engine.log(f"The Trainer saved its checkpoint-{step} in {output_dir}.")
        self._goes_on_to_read()

    def ends(self, control: Any) -> None:
        """The last hook of a pass. Behind that of the script's own, further passes are made."""
        self._front.leave()
        if self.is_inner:
            return
        try:
            self._go_on(control)
        except BaseException as error:
            self.fail(error)
            raise

    # The end

    def _go_on(self, control: Any) -> None:
        while True:
            if self._left is Verdict.MOVED:
                self._train_again()
                continue
            ending = self._ending(control)
            if ending is not None:
                self.is_over = True
                self._lifecycle.end(ending)
                return

    def _ending(self, control: Any) -> Optional[Ending]:
        """How training has ended; None where another pass is to be made."""
        engine, front = self.engine, self._front
        is_stopped = self._left is Verdict.END
        if not is_stopped:
            front.phase = "end"
            front.rates.rates_in_force()
            self._is_due = False
            self._look(control, is_clean=True, undoes=False)
            if self._left is Verdict.MOVED:
                return None
            is_stopped = self._left is Verdict.END
        again = self._again()
        ending = self._lifecycle.at_end(not is_stopped, again)
        if ending is not None:
            return ending
        moved = engine.verdict() is Verdict.MOVED
        if not moved and not front.is_replanned:
            engine.extend(*again)
        self._leave(Verdict.MOVED, control, undoes=False)
        return None

    def _train_again(self) -> None:
        """A pass from the state that is carried, up to the limits."""
        assert self._carried is not None
        trainer, front = self._trainer, self._front
        front.put_limits()
        inside = self.engine.store.folder
        with folder_to_begin_from(self._carried, front.live, inside) as folder:
            self._folder, self.is_inner = folder, True
            was_on = getattr(trainer.args, "eval_on_start", False)
            if was_on:
                trainer.args.eval_on_start = False
            try:
                trainer.train(resume_from_checkpoint=str(folder))
            finally:
                self.is_inner = False
                if was_on:
                    trainer.args.eval_on_start = True

    def fail(self, error: BaseException) -> None:
        """An exception ends training. The caller raises it again."""
        if self.is_over:
            return
        self.is_over = True
        front = self._front
        is_whole = self._left is None and not (front.measuring.in_step and front.rates.stepped)
        front.leave()
        self._lifecycle.fail(error, is_whole=is_whole)

    def forgotten(self) -> None:
        """No hook told of the end: another training begins, or the script has ended."""
        if self.is_over:
            return
        error = getattr(sys, "last_value", None)
        if self.engine.ending_signal == signal.SIGINT and error is None:
            error = KeyboardInterrupt()
        if error is not None:
            self.fail(error)
            return
        self.is_over = True
        self._front.leave()
        self.engine.close(RunState.FAILED, _UNSEEN)

    # Safe points

    def _between(self, control: Any, *, is_clean: bool) -> None:
        """The safe point between two epochs."""
        engine, limits = self.engine, self._front.limits
        after = limits.pause_after_epoch
        if after is not None and engine.epoch >= after and not engine.gate.is_paused:
            limits.pause_after_epoch = None
            engine.limits_changed()
            engine.pause("ran for as long as was asked")
        self._front.rates.rates_in_force()
        self._look(control, is_clean=is_clean)

    def _look(self, control: Any, *, is_clean: bool, undoes: bool = True) -> None:
        """A safe point. Where it is not clean, the Trainer will train a step before it can leave."""
        engine = self.engine
        self._is_due = False
        try:
            if self._new_best is not None:
                engine.save("best", score=self._new_best)
                self._new_best = None
            verdict = engine.safe_point()
        except BaseException as error:
            self.fail(error)
            raise
        if verdict is Verdict.GO_ON and is_clean and self._front.is_replanned:
            verdict = Verdict.MOVED
            limits = self._front.limits.as_result()
            ends = limits.max_epochs or limits.max_steps
            unit = "epochs" if limits.max_epochs else "steps"
            engine.log(f"The Trainer plans its learning rates anew, for {ends} {unit}.")
        if verdict is not Verdict.GO_ON:
            self._leave(verdict, control, undoes=undoes and not is_clean)

    def _leave(self, verdict: Verdict, control: Any, *, undoes: bool) -> None:
        """Have this pass end as soon as it can."""
        self._left = verdict
        self._undoes = undoes and verdict is Verdict.END
        if verdict is Verdict.MOVED or self._undoes or self._front.live.args.load_best_model_at_end:
            self._carried = Snapshot(self._front.capture()).wait()
        if verdict is Verdict.END and self._front.live.args.load_best_model_at_end:
            self._front.final = self._carried
        _leave_quietly(control)

    def _undo(self) -> None:
        """A step was trained after the call was left: put back what it changed."""
        if self._undoes and self._carried is not None:
            self._undoes = False
            self._front.put(self._carried)

    # Parts

    def _is_end_of_epoch(self) -> bool:
        """Whether the newest step was an epoch's last; never where the loader has no length."""
        epoch = self._front.live.state.epoch
        has_length = self._front.limits.steps_per_epoch is not None
        return has_length and epoch is not None and float(epoch).is_integer()

    def _again(self) -> Again:
        limits = self._front.limits
        return Again(limits.script_epochs or 0, limits.script_steps or 0)


def _leave_quietly(control: Any) -> None:
    """Nothing more of what this call would do."""
    control.should_training_stop = True
    control.should_log = control.should_evaluate = control.should_save = False


def warn_unfinished() -> None:
    """Told where one training begins and another one is still open."""
    console.say("the training before did not come to its end; it is recorded as failed.")
