"""`WatchedRun`: what a script's own loop speaks to."""

from __future__ import annotations

import contextlib
from types import TracebackType
from typing import Any, Callable, Dict, Iterator, Optional, Type, TypeVar

from otf_session.commands import Value

from ...engine import Engine
from ...errors import TrainingError
from ...front import Evaluated
from ...guards import needs_gradients
from ...hyperparameters import Tunables
from ...limits import Limits
from ...loaders import Loader
from ...meters.telemetry import AnyTelemetry, NoTelemetry, telemetry_for
from ..lifecycle import Lifecycle
from ..options import RunOptions
from .course import Course, Left
from .evaluators import PREFIXES, Evaluate, named_values
from .front import LoopFront
from .meter import StepMeter
from .setup import Watched

_F = TypeVar("_F", bound=Callable[..., Any])


class WatchedRun:
    """A run that the script trains in a loop of its own, inside of `with`.

    Each part is optional: `step` alone gives the record, a pause and a stop; with `batches` the place
    in the data is part of every checkpoint; with `epochs` training can be taken back to another
    epoch, and be gone on with when it is done.
    """

    def __init__(
        self, watched: Watched, options: RunOptions, run_name: str, max_steps: Optional[int]
    ) -> None:
        self._watched = watched
        self._options = options
        self._name = run_name
        self._max_steps = max_steps
        self._tunables = Tunables()
        self._training: Optional[Lifecycle] = None
        self._front: Optional[LoopFront] = None
        self._course: Optional[Course] = None
        self._telemetry: AnyTelemetry = NoTelemetry()
        self._was_entered = False
        #: What the script keeps between its steps, of tensors and plain values: part of every
        #: checkpoint, and put back with it.
        self.state: Dict[str, Any] = {}

    # With

    def __enter__(self) -> WatchedRun:
        if self._was_entered:
            raise TrainingError(
                "This run was watched before. Each run has a watch of its own: "
                "with onthefly.watch(...) as run."
            )
        self._was_entered = True
        training = Lifecycle(self._options, self._tunables)
        try:
            front = self._make_front(training)
            training.prepare(front)
        except BaseException:
            training.abandon()
            raise
        self._training, self._front = training, front
        self._telemetry = self._make_telemetry(training)
        engine = training.engine
        meter = StepMeter(
            engine=engine, watched=self._watched, rates=front.rates, telemetry=self._telemetry
        )
        course = Course(engine=engine, training=training, front=front, meter=meter)
        try:
            training.begin(self._name)
            course.enter()
        except BaseException as error:
            training.fail(error, is_whole=False)
            raise
        self._course = course
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> bool:
        training, front, course = self._training, self._front, self._course
        assert training is not None
        assert front is not None
        assert course is not None
        self._course = None
        try:
            if error is not None and not isinstance(error, Left):
                # The script's boundary: whatever ends it is recorded and goes on unchanged.
                training.fail(error, is_whole=course.is_whole())
                return False
            self._end(training, course)
        finally:
            self._telemetry.close()
            front.rates.close()
            # With it go a loader's workers, where training ended in the midst of an epoch.
            front.passes.close()
        return True

    def _end(self, training: Lifecycle, course: Course) -> None:
        try:
            training.end(course.leave())
        except BaseException as error:
            training.fail(error, is_whole=course.is_whole())
            raise

    def _make_front(self, training: Lifecycle) -> LoopFront:
        return LoopFront(
            engine=training.engine,
            watched=self._watched,
            tunables=self._tunables,
            limits=Limits(script_epochs=None, script_steps=self._max_steps),
            own=self.state,
            watch_gradients=needs_gradients(self._options.watching),
        )

    def _make_telemetry(self, training: Lifecycle) -> AnyTelemetry:
        watched, engine = self._watched, training.engine
        # Each process would sample at another step, and the others would wait for it.
        samples = watched.optimizers and engine.peers.rank == 0
        return telemetry_for(
            watched.model,
            list(watched.optimizers.values()),
            share=self._options.telemetry_budget if samples else 0.0,
            warn=engine.warn,
        )

    # The loop

    def epochs(self, count: Optional[int] = None, start: int = 0) -> Iterator[int]:
        """The numbers of the epochs to train, from `start`, in place of `range(count)`.

        After a rewind an epoch comes again; a resumed run begins with the one that it is in. At the
        end a person may ask for more. Without `count` they end with `max_steps` or a stop.
        """
        return self._open("epochs").epochs(count, start)

    def batches(self, loader: Loader) -> Iterator[Any]:
        """The batches of `loader`, in place of the loader itself.

        After a resume those that were trained on before are not among them. The safe point of a step
        is where the next batch is asked for, when all that the script does at a step is done. A pass
        ends early where training is stopped, or taken to another epoch.
        """
        return self._open("batches").batches(loader)

    def step(self, **metrics: Any) -> None:
        """A step was trained: count it, and record what was measured at it.

        Metrics are numbers or tensors with one element. Called once for each step of the optimizer;
        what lies between two calls, with several batches where gradients are accumulated, is one
        step. The learning rate is recorded beside them.
        """
        course = self._course
        if course is None:
            course = self._open("step")
        course.step(metrics)

    def log(self, **metrics: Any) -> None:
        """Record metrics at the step that training is at, without counting one.

        A `val_loss` that is the lowest so far has the state saved as the best.
        """
        self._open("log").log(metrics)

    @property
    def should_stop(self) -> bool:
        """Whether training is over, by a stop or a limit; for loops with conditions of their own.

        A loop that asks for it, or runs over `batches`, is trusted to end. One that does not is left
        by an exception that the `with` takes.
        """
        course = self._open("should_stop")
        course.asks = True
        return course.ending is not None

    @property
    def has_moved(self) -> bool:
        """Whether training was taken to another epoch, and the script has not come there yet.

        What it does until it asks `epochs` for the next one is neither recorded nor lasting. What
        it does to files and variables is: `if run.has_moved: continue` behind the pass skips it.
        """
        return self._open("has_moved").is_in_vain

    @property
    def steps(self) -> int:
        """The steps that the run has done."""
        return self._engine("steps").step

    @property
    def batch(self) -> int:
        """The number of the batch in hand in this pass, from 0; also after a resume or a rewind."""
        front = self._front
        return 0 if front is None else front.passes.batch

    # Evaluation

    def evaluate(
        self, function: Evaluate, loader: Loader, split: str = "validation"
    ) -> Dict[str, float]:
        """Evaluate now, record the means over all samples, and return them.

        `function` gets a batch and returns a dict with `loss` and any other metrics. It is called
        without gradients, with the model in eval mode; generators and modes are afterwards as they
        were. The command for the split calls it too from now on.
        """
        course, front = self._open("evaluate"), self._front
        assert front is not None
        front.evaluators.add(split, function, loader)
        with front.undisturbed():
            rounds = self._engine("evaluate").rounds()
            found = front.evaluators.run(split, self._beat, rounds)
        assert found is not None
        course.evaluated(found)
        return _as_numbers(found)

    def evaluator(self, split: str, loader: Optional[Loader] = None) -> Callable[[_F], _F]:
        """Decorator: have commands evaluate `split` (`validation` or `test`) with this function.

        With a loader it is a function of a batch, as for `evaluate`. Without one it is called once,
        with nothing, and returns the metrics of the whole split.
        """
        front = self._front
        if front is None:
            raise _outside("evaluator")

        def add(function: _F) -> _F:
            assert front is not None
            front.evaluators.add(split, function, loader)
            return function

        return add

    @contextlib.contextmanager
    def evaluation(self, split: str = "validation") -> Iterator[Callable[..., None]]:
        """Evaluate in a way of one's own inside, and leave no trace in training.

        The model is in eval mode, without gradients; generators and modes are afterwards as they
        were. What is handed to the function that it gives is recorded as the result:
        `with run.evaluation("test") as found: found(loss=..., accuracy=...)`.
        """
        course, front = self._open("evaluation"), self._front
        assert front is not None
        if split not in PREFIXES:
            raise TrainingError(f"split is {split!r}; it is 'validation' or 'test'.")
        results: Dict[str, Optional[float]] = {}

        def found(**metrics: Any) -> None:
            results.update(named_values(metrics, PREFIXES[split]))

        with front.undisturbed():
            yield found
        if results:
            course.evaluated(Evaluated(split, 0, results))

    # Beside the loop

    def tunable(
        self,
        name: str,
        default: Value,
        low: Optional[float] = None,
        high: Optional[float] = None,
    ) -> Value:
        """The value that `name` has now: `default`, until a person changes it while it runs.

        Read it at each step. It keeps the type of `default` and stays within `low` and `high`;
        checkpoints hold it, and a resumed run goes on with it.
        """
        return self._tunables.get(name, default, low, high)

    def print(self, *values: Any, sep: str = " ") -> None:
        """Print on the terminal, and add the line to the run's log."""
        text = sep.join(str(value) for value in values)
        print(text, flush=True)
        if self._course is not None and self._training is not None:
            self._training.engine.log(text, logger="print")

    # Parts

    def _open(self, what: str) -> Course:
        if self._course is None:
            raise _outside(what)
        return self._course

    def _engine(self, what: str) -> Engine:
        if self._training is None:
            raise _outside(what)
        return self._training.engine

    def _beat(self, done: int, total: int) -> bool:
        """The script's own evaluation moves; commands wait for its end."""
        self._engine("evaluate").beats += 1
        return True


def _outside(what: str) -> TrainingError:
    return TrainingError(
        f"run.{what} is used outside of its `with`. A run is watched inside of it: "
        "with onthefly.watch(model, optimizer, project=...) as run: ..."
    )


def _as_numbers(found: Evaluated) -> Dict[str, float]:
    return {name: float("nan") if value is None else value for name, value in found.values.items()}
