"""Where the script's loops are, and how they come to where training is.

The script's own code runs between our lines, and no line of ours can take it somewhere else. When
training is put into another epoch, the script is *away*: its pass over the loader ends, what it does
until it asks `epochs` for the next one is neither recorded nor lasting, and then the state is put
back once more. In the epoch that `epochs` yields then, it is *near* until it asks for the pass that
training is in, where the state is put back for good and the script is *here* again.
"""

from __future__ import annotations

import time
from enum import Enum
from typing import Any, Dict, Iterator, Optional

from otf_session.events import RunState

from ... import randomness
from ...engine import Engine
from ...errors import CheckpointError, LoaderError, TrainingError
from ...front import Evaluated, Verdict
from ...loaders import Loader
from ...position import steps_per_epoch
from ...snapshot import Snapshot
from ..lifecycle import Again, Ending, Lifecycle
from .best import Best
from .front import LoopFront
from .meter import StepMeter
from .setup import check_loader
from .standing import Standing

_ENDLESS = (
    "This run ends when the script says so: its epochs are not counted by run.epochs(count), and "
    "watch was given no max_steps."
)


class Place(Enum):
    """Where the script is, seen from where training is."""

    HERE = "here"
    AWAY = "away"
    NEAR = "near"


class Left(BaseException):
    """Leads out of a loop that does not ask whether it should stop; `watch` ends it."""


class Course:
    """The script's epochs, passes and steps, as a state machine."""

    def __init__(
        self,
        *,
        engine: Engine,
        training: Lifecycle,
        front: LoopFront,
        meter: StepMeter,
    ) -> None:
        self._engine = engine
        self._training = training
        self._front = front
        self._meter = meter
        self._standing = Standing(front.rates)
        self._best = Best(engine=engine, front=front, standing=self._standing)
        self.place = Place.HERE
        #: How the run ended; None while it has not.
        self.ending: Optional[Ending] = None
        #: Whether the script asks, so that it needs no exception to end.
        self.asks = False
        self._has_epochs = False
        self._again = Again(0, front.limits.script_steps or 0)
        #: The `batches` of this epoch, or of all where the script counts those itself.
        self._asked = 0
        #: Whether a pass is under way in which `step` counts.
        self._in_pass = False
        self._has_passes = False
        self._pass: Optional[object] = None
        #: The state before step 1 is saved again when the place in the data is known.
        self._initial_due = False
        #: The step at which this epoch began, until one has shown how many steps it has.
        self._epoch_began: Optional[int] = None
        self._knows_length = False
        self._warned = False
        front.limits.fixed_because = "" if front.limits.script_steps else _ENDLESS
        front.reasons = self._standing.reasons
        front.can_travel = self._can_travel
        front.unplaced = self._standing.unplaced

    def enter(self) -> None:
        """The run has begun: what was resumed waits for the script to come there."""
        self._initial_due = self._front.waiting is None and self._engine.step == 0
        self._meter.mark()
        self._engine.running()

    @property
    def is_over(self) -> bool:
        """Whether training has come to its end, or was stopped."""
        return self.ending is not None

    @property
    def is_in_vain(self) -> bool:
        """Whether what the script does now is neither recorded nor lasting."""
        return self.place is not Place.HERE

    # Epochs

    def epochs(self, count: Optional[int], start: int) -> Iterator[int]:
        """The epochs that are to be trained, counted from `start`."""
        if self._has_epochs and self.ending is None:
            raise TrainingError(
                "run.epochs is under way, or was left, and is asked for once more. A run has one "
                "count of epochs: watch another phase as a run of its own."
            )
        self._has_epochs = True
        engine, front = self._engine, self._front
        front.limits.script_epochs = count
        front.limits.fixed_because = "" if count or front.limits.script_steps else _ENDLESS
        self._again = Again(count or 0, front.limits.script_steps or 0)
        engine.limits_changed()
        while self.ending is None:
            if front.waiting is not None:
                self._come_near(front.waiting)
            else:
                self._between()
            if self.ending is None and self.place is not Place.AWAY:
                yield engine.epoch - 1 + start

    def _come_near(self, waiting: Dict[str, Any]) -> None:
        """Training was put elsewhere, and the script asks for an epoch: yield that one."""
        self._put_back(Snapshot(waiting).wait())
        self._asked = 0
        if not self._front.passes.is_under_way:
            self._front.waiting = None
            self.place = Place.HERE
            # In a loop that reads its data itself there are no passes, and epochs all the same.
            if self._front.phase != "train":
                self._between()
            return
        self.place = Place.NEAR
        if self._front.epoch_random is not None:
            # What the script draws where its epoch begins comes out as it did.
            randomness.restore(self._front.epoch_random)

    def _between(self) -> None:
        """Between two epochs: a safe point, and the next epoch or the end."""
        engine, front = self._engine, self._front
        self._standing.is_in_step = False
        self._learn_length()
        front.passes.end()
        front.phase = "between"
        while True:
            self._best.save_between()
            self._pause_after_epoch()
            verdict = self._safe_point()
            if verdict is Verdict.MOVED and front.waiting is not None:
                self.place = Place.AWAY
                return
            if verdict is Verdict.END:
                self._end(came_to_its_end=False)
                return
            if not front.limits.is_reached(engine.epoch, engine.step):
                break
            if not self._at_limit():
                return
        front.passes.new_epoch()
        if self._has_epochs:
            self._asked = 0
        front.epoch_random = randomness.capture()
        engine.start_epoch(engine.epoch + 1)
        self._epoch_began = engine.step
        front.phase = "validate"

    def _at_limit(self) -> bool:
        """Training is at its end; True where it goes on from here, because a person wants more."""
        engine, front = self._engine, self._front
        if not self._end(came_to_its_end=True):
            return False
        epochs = engine.epoch - (1 if front.passes.is_under_way else 0)
        if front.waiting is None and front.limits.is_reached(epochs, engine.step):
            engine.extend(*self._again)
        return True

    def _end(self, *, came_to_its_end: bool) -> bool:
        """Save the final state and linger where that is asked for; True where it is to go on."""
        with self._standing.safe():
            self.ending = self._training.at_end(came_to_its_end, self._again)
        return self.ending is None

    # Passes

    def batches(self, loader: Loader) -> Iterator[Any]:
        """The batches of a pass that are still to come; none where it is over or in vain."""
        check_loader(loader)
        if self._in_pass:
            raise TrainingError(
                "run.batches is asked for within a pass that is under way. One pass has a place in "
                "its data at a time: make one loader of both (a dataset that yields pairs), or read "
                "the second one without run.batches, and its place is not kept."
            )
        self._has_passes, self._standing.reads_itself = True, False
        front, passes = self._front, self._front.passes
        is_new = not passes.is_known(loader)
        for finding in passes.know(loader):
            self._engine.warn(f"Going on is not exact. {finding}")
        if not self._has_epochs and not self.is_in_vain and not self.is_over:
            self._begin_own_epoch()
        if self.is_over or self.place is Place.AWAY:
            return iter(())
        self._asked += 1
        if front.waiting is not None and not self._come_here(front.waiting, loader):
            return iter(())
        if not passes.is_under_way or passes.number < self._pass_number():
            self._begin_pass(loader)
        if is_new:
            self._engine.assess()
        self._pass = token = object()
        return self._going_through(loader, token)

    def _pass_number(self) -> int:
        """Which pass of its epoch the script asks for."""
        return self._asked if self._has_epochs else 1

    def _begin_own_epoch(self) -> None:
        """A script that counts its epochs itself: each pass is one."""
        front = self._front
        if front.waiting is None:
            self._between()
        else:
            # It was resumed, and begins to count from 1.
            self.place = Place.NEAR

    def _come_here(self, waiting: Dict[str, Any], loader: Loader) -> bool:
        """Put the state back for good where this is the pass that training is in."""
        front = self._front
        passes = front.passes
        under_way = passes.is_under_way
        target = passes.number if self._has_epochs else self._engine.epoch + (not under_way)
        if self._asked < target:
            return False
        front.waiting = None
        self._put_back(waiting)
        self.place = Place.HERE
        if under_way and not passes.is_current(loader):
            raise CheckpointError(
                "The checkpoint was made in a pass over another loader than the one that the script "
                "now gives run.batches. Go on with the script that it was made with."
            )
        if not under_way:
            self._between()
            return self.ending is None
        if passes.number == 1 and passes.batch == 0:
            self._engine.start_epoch(self._engine.epoch)
        return True

    def _begin_pass(self, loader: Loader) -> None:
        engine, front = self._engine, self._front
        front.passes.end()
        front.passes.begin(loader, engine.epoch, engine.step)
        front.phase = "train"
        if front.limits.steps_per_epoch is None:
            front.limits.steps_per_epoch = steps_per_epoch(loader)
            engine.limits_changed()
        if self._initial_due:
            self._initial_due = False
            with self._standing.safe():
                engine.save("initial")

    def _going_through(self, loader: Loader, token: object) -> Iterator[Any]:
        """Hand out the batches; what the script does with one is done when it asks for the next."""
        if token is not self._pass:
            raise TrainingError(
                "Two run.batches are gone through at once, as by zip(). One pass has a place in its "
                "data at a time: make one loader of both (a dataset that yields pairs)."
            )
        engine, agenda, passes = self._engine, self._engine.agenda, self._front.passes
        is_quiet, length = engine.is_quiet, steps_per_epoch(loader)
        clock, took, standing = time.perf_counter, self._meter.took, self._standing
        first_step = seen = engine.step
        self._front.phase = "train"
        self._meter.mark()
        self._in_pass = reads = True
        try:
            while reads:
                reads = False
                while self._is_at_limit(length):
                    if self._after_step(length) is Verdict.END:
                        return
                asked = self._meter.begin()
                for batch in passes.batches():
                    took(batch, asked)
                    standing.is_in_step = True
                    yield batch
                    standing.is_in_step = False
                    passes.batch += 1
                    asked = clock()
                    if engine.step == seen:
                        continue
                    if not is_quiet() or engine.step >= agenda.next_step:
                        verdict = self._after_step(length)
                        if verdict is Verdict.END:
                            return
                        if verdict is Verdict.MOVED:
                            # Put back within this pass: it is read on from there.
                            reads = True
                            break
                        # A pause is not part of the next step; waiting for its data is.
                        asked = self._meter.begin()
                    seen = engine.step
        finally:
            self._in_pass = False
            self._front.phase = "validate"
        self._check_steps(engine.step - first_step)

    def _after_step(self, length: Optional[int]) -> Verdict:
        """The safe point behind a step; `MOVED` is within this pass, `END` ends it."""
        while True:
            verdict = self._safe_point()
            if verdict is Verdict.END:
                self._end(came_to_its_end=False)
                return Verdict.END
            if verdict is Verdict.MOVED:
                self._meter.mark()
                if self._front.waiting is None:
                    return Verdict.MOVED
                self.place = Place.AWAY
                return Verdict.END
            if not self._is_at_limit(length):
                return Verdict.GO_ON
            if not self._at_limit():
                return Verdict.END

    def _is_at_limit(self, length: Optional[int]) -> bool:
        """Whether the limit of steps is reached in the midst of the pass."""
        front = self._front
        return front.limits.are_steps_done(self._engine.step) and front.passes.batch != length

    def _check_steps(self, steps: int) -> None:
        """Tell of a pass without batches, or without steps."""
        read = self._front.passes.batch
        if not read:
            raise LoaderError(
                f"run.batches was given a loader that yielded no batch in epoch "
                f"{self._engine.epoch}. Check the length of its dataset, and drop_last=True with a "
                "batch_size greater than that. A loader that is a generator is empty after its "
                "first pass."
            )
        if not steps and not self._warned and self._front.passes.first_step == self._engine.step:
            self._warned = True
            self._engine.warn(
                f"run.step was not called in a pass of {read} batches: nothing of it is recorded, "
                "and no command is executed in it. Call run.step(loss=loss) behind each step of the "
                "optimizer."
            )

    # Steps

    def step(self, metrics: Dict[str, Any]) -> None:
        """A step was trained: record it. Its safe point is where the next batch is asked for."""
        if self._in_pass:
            self._meter.record(metrics)
        else:
            self._step_outside(metrics)

    def _step_outside(self, metrics: Dict[str, Any]) -> None:
        """A step outside of `batches`: of a loop that reads its data itself, or between passes."""
        engine, front = self._engine, self._front
        if self.ending is not None:
            return
        if self.is_in_vain:
            if self._has_passes or self.place is Place.AWAY:
                return
            self.place = Place.HERE
        # The script has gone on from what was put back when it was watched.
        front.waiting = None
        self._standing.is_safe = False
        self._meter.record_lone(metrics)
        if self._has_passes:
            return
        if not self._standing.reads_itself:
            self._standing.reads_itself = True
            engine.assess()
        front.phase = "train"
        if not engine.is_quiet() or engine.step >= engine.agenda.next_step:
            self._after_lone_step()
        self._meter.begin()

    def _after_lone_step(self) -> None:
        """The safe point of a loop that reads its data itself."""
        verdict = self._after_step(None)
        if self.ending is not None:
            if not self.asks:
                raise Left
        elif verdict is Verdict.END and not self._has_epochs:
            # It was put back somewhere else, and its data is where it is.
            self.place = Place.HERE
            self._front.waiting = None

    # Beside the steps

    def log(self, metrics: Dict[str, Any]) -> None:
        """Record metrics at the step that training is at."""
        if self.is_in_vain:
            return
        self._engine.record(metrics)
        self._best.note(metrics.get("val_loss"))

    def evaluated(self, found: Evaluated) -> None:
        """Record an evaluation that the script made."""
        if self.is_in_vain:
            return
        self._engine.evaluated(found)
        self._best.note(found.values.get("val_loss"))

    # At the end

    def leave(self) -> Ending:
        """The script has left the `with` by itself: how the run ended."""
        front = self._front
        if self.ending is None:
            if front.waiting is not None and self.is_in_vain:
                self._put_back(front.waiting)
            self._standing.is_in_step = False
            front.passes.end()
            front.phase = "end"
            # The loop of a script that counts its epochs itself is over; one that was left may have
            # more to do.
            self._standing.is_safe = not self._has_epochs
            self._best.save()
            self._engine.saving.final()
            self.ending = Ending(RunState.FINISHED)
        else:
            self._best.save()
        return self.ending

    def is_whole(self) -> bool:
        """Whether the state is that after a whole number of steps, though the script failed.

        In the midst of a step it still is, as long as the optimizer has changed nothing.
        """
        if not self._standing.is_in_step and (self._has_passes or self._standing.is_safe):
            return True
        return self._meter.is_whole

    # Parts

    def _safe_point(self) -> Verdict:
        with self._standing.safe():
            return self._engine.safe_point()

    def _put_back(self, state: Dict[str, Any]) -> None:
        self._front.put_back(state)
        self._front.rates.settle()
        self._meter.mark()
        self._standing.is_in_step = False
        self._best.forget()
        self._epoch_began = None

    def _pause_after_epoch(self) -> None:
        engine, limits = self._engine, self._front.limits
        if limits.pause_after_epoch is not None and engine.epoch >= limits.pause_after_epoch:
            limits.pause_after_epoch = None
            engine.limits_changed()
            engine.pause("ran for as long as was asked")

    def _learn_length(self) -> None:
        """An epoch has as many steps as the first one had, where that is not one a batch."""
        engine, limits = self._engine, self._front.limits
        began, self._epoch_began = self._epoch_began, None
        if began is None or self._knows_length:
            return
        self._knows_length = True
        if limits.steps_per_epoch != engine.step - began:
            limits.steps_per_epoch = (engine.step - began) or None
            engine.limits_changed()

    def _can_travel(self) -> bool:
        return self._has_epochs or not self._has_passes
