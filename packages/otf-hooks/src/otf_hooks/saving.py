"""When the state is saved: before step 1, by steps, by the clock, at every end."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Callable, List, Optional, Tuple, Union

from otf_session.commands import Outcome
from otf_session.events import CheckpointSaved

from .actions.outcomes import written
from .errands import SaveIsDue

if TYPE_CHECKING:
    from .engine import Engine


class Saving:
    """The occasions on which an engine saves a checkpoint by itself."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._steps: Optional[int] = None
        #: The step at which one was made by steps last, or from which they are counted.
        self._made: Optional[int] = None
        self._final: Union[CheckpointSaved, str, None] = None
        self._answers: List[Callable[[Outcome], None]] = []
        #: Where the state was saved at an end that nobody wished for.
        self._interrupted: Optional[Tuple[str, int]] = None

    def every(self, steps: Optional[int], minutes: Optional[float]) -> None:
        """Save every so many steps, and every so many minutes; to be said before the start."""
        self._steps = steps
        if minutes is not None:
            desk = self._engine.desk
            self._engine.keeper.remind(60.0 * minutes, lambda: desk.post(SaveIsDue()))

    def plan(self) -> None:
        """Put the next checkpoint by steps on the agenda; also after the run was put elsewhere."""
        steps, step = self._steps, self._engine.step
        if steps is None:
            return
        # What is due at this very step, and not made yet, stays due.
        before = step if self._made is None else min(step, self._made)
        if _next(before, steps) < step:
            # Put ahead of it, the run has not trained there.
            before = step
        self._made = before
        self._engine.agenda.put("save", _next(before, steps), self._as_planned)

    def final(self) -> None:
        """Save the state at the end of training; whoever asked for the end is told of it."""
        self._engine.save("final", done=self._final_written)

    @property
    def final_path(self) -> Optional[Path]:
        """Where the final state was written; None where it could not be."""
        if not isinstance(self._final, CheckpointSaved):
            return None
        return self._engine.keeper.path(self._final)

    def interrupted(self) -> None:
        """Save the state at an end that nobody wished for, once at a step."""
        place = (self._engine.run, self._engine.step)
        if self._interrupted == place:
            return
        self._interrupted = place
        # The boundary of a script that ends anyway: its own error must be the one that is seen.
        try:
            self._engine.save("interrupted")
        except Exception as error:  # noqa: BLE001
            self._engine.warn(
                f"The state could not be saved at the end: {type(error).__name__}: {error}"
            )

    def answer_at_end(self, answer: Callable[[Outcome], None]) -> None:
        """Have a command answered when the final state is on disk."""
        self._answers.append(answer)

    def answer(self) -> None:
        """The run has ended, and all is written."""
        step = self._engine.step
        for answer in self._answers:
            answer(written(self._final, step, f"Training ended at step {step}."))
        self._answers.clear()

    def _final_written(self, outcome: Union[CheckpointSaved, str]) -> None:
        self._final = outcome

    def _as_planned(self) -> None:
        self._made = self._engine.step
        # Also where a pause was due at the same step, which training has come to all the same.
        self._save_in_turn()
        self.plan()

    def periodic(self) -> None:
        """Save by the clock: not while the run is held, when nothing has changed."""
        if not self._engine.gate.is_paused:
            self._save_in_turn()

    def _save_in_turn(self) -> None:
        engine = self._engine
        # One that cannot be written as fast as they come is left out, rather than piled up.
        if not engine.peers.shared(lambda: engine.keeper.is_busy):
            engine.save("periodic")


def _next(step: int, every: int) -> int:
    """The first multiple of `every` behind `step`."""
    return (step // every + 1) * every
