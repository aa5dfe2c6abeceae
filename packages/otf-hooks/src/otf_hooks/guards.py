"""Guards: what a user asks to have watched in a run's metrics, and what is then to happen.

    trainer = Trainer(..., guards=[NonFinite("pause"), LossSpike("warn"), NoImprovement("stop")])

A guard is a frozen description; `watch` makes its state for one run. Numbers go in, findings come
out: the writer thread shows a `Watch` the metrics it stores, so that training pays nothing. What
`warn`, `pause` and `stop` then do is the engine's business.

A guard that has tripped stays silent until what it found has passed; each says when that is.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from bisect import bisect_left, bisect_right, insort
from collections import deque
from dataclasses import dataclass
from typing import Any, ClassVar, Deque, Dict, Iterable, List, NamedTuple, Optional, Tuple

from otf_session.events import HealthReported, Metrics

from .errors import ArgumentError

ACTIONS = ("warn", "pause", "stop")
#: The metric with the norm of all gradients, which is recorded where a guard watches it.
GRAD_NORM = "grad_norm"

#: Standard deviations of a normal distribution per median absolute deviation.
_PER_MAD = 1.4826
#: The least scale of a spike, as a share of the median: a loss that hardly varies has a deviation
#: near 0, beside which rounding would be a spike.
_LEAST_SCALE = 0.01
#: And where the median is 0 as well.
_TINY = 1e-8
#: Validations that can be gone back to.
_REMEMBERED = 1000


class Trip(NamedTuple):
    """What a guard found at a step. `value` is None where it is not finite."""

    guard: str
    action: str
    run: str
    step: int
    message: str
    value: Optional[float]


class Watch(ABC):
    """A guard's state for one run. For one thread only."""

    @abstractmethod
    def look(self, metrics: Metrics) -> List[Trip]:
        """What these metrics, which follow those of the last call, contain for this guard."""

    def see(self, event: HealthReported) -> List[Trip]:
        """What the report of a check contains for this guard: nothing for most."""
        return []

    @abstractmethod
    def rewound(self, step: int) -> None:
        """Forget what was seen after `step`, to which the run went back."""


@dataclass(frozen=True)
class Guard(ABC):
    """What all guards have: an action, a name, and the metrics that they watch."""

    name: ClassVar[str]

    action: str = "warn"

    def __post_init__(self) -> None:
        if self.action not in ACTIONS:
            raise ArgumentError(f"action is {self.action!r}; it is 'warn', 'pause' or 'stop'.")

    @property
    @abstractmethod
    def watched(self) -> Tuple[str, ...]:
        """The names of the metrics that it looks at."""

    @abstractmethod
    def watch(self) -> Watch:
        """A fresh state, for a run that begins."""

    def trip(self, run: str, step: int, message: str, value: Optional[float]) -> Trip:
        """A finding of this guard."""
        return Trip(self.name, self.action, run, step, message, value)


@dataclass(frozen=True)
class NonFinite(Guard):
    """Trips where a metric is NaN or infinite: once per unbroken stretch of such values.

    Args:
        action: What then happens: `warn`, `pause` or `stop`.
        metrics: The names of the metrics to watch.
        gradients: Watch the norm of the gradients (`grad_norm`) too. It is recorded then.
    """

    name: ClassVar[str] = "non-finite"

    metrics: Tuple[str, ...] = ("loss",)
    gradients: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.metrics, (tuple, list)):
            raise ArgumentError(
                f"metrics is {self.metrics!r}; it is a tuple of names, such as ('loss',)."
            )
        for name in self.metrics:
            _check_metric("metrics", name)
        if not isinstance(self.gradients, bool):
            raise ArgumentError(f"gradients is {self.gradients!r}; it is True or False.")
        if not (self.metrics or self.gradients):
            raise ArgumentError(
                "NonFinite has nothing to watch: metrics is empty and gradients is False. "
                "Name a metric, such as metrics=('loss',)."
            )
        object.__setattr__(self, "metrics", tuple(self.metrics))

    @property
    def watched(self) -> Tuple[str, ...]:
        """The metrics, and the gradients' norm where that is wanted."""
        more = (GRAD_NORM,) if self.gradients and GRAD_NORM not in self.metrics else ()
        return self.metrics + more

    def watch(self) -> Watch:
        """A fresh state, for a run that begins."""
        return _NonFiniteWatch(self)


class _NonFiniteWatch(Watch):
    def __init__(self, guard: NonFinite) -> None:
        self._guard = guard
        self._broken: set[str] = set()
        self._last: Dict[str, Tuple[int, float]] = {}

    def look(self, metrics: Metrics) -> List[Trip]:
        trips: List[Trip] = []
        for name in self._guard.watched:
            column = metrics.values.get(name)
            if not column:
                continue
            # The usual case, looked for in C: every value is finite.
            if None in column:
                trips += self._look_at_each(name, metrics, column)
                continue
            self._broken.discard(name)
            self._last[name] = (metrics.steps[-1], _number(column[-1]))
        return trips

    def rewound(self, step: int) -> None:
        self._broken.clear()
        self._last = {name: last for name, last in self._last.items() if last[0] <= step}

    def _look_at_each(
        self, name: str, metrics: Metrics, column: List[Optional[float]]
    ) -> Iterable[Trip]:
        for step, value in zip(metrics.steps, column):
            if value is not None:
                self._broken.discard(name)
                self._last[name] = (step, value)
            elif name not in self._broken:
                self._broken.add(name)
                yield self._guard.trip(metrics.run, step, self._message(name), None)

    def _message(self, name: str) -> str:
        last = self._last.get(name)
        before = f"; it was {last[1]:.4g} at step {last[0]}" if last else ""
        return f"{name} is not finite (NaN or infinite){before}."


@dataclass(frozen=True)
class LossSpike(Guard):
    """Trips where a value is far above its running median; again only after it was back inside.

    A value is a spike where

        value > median + deviations * max(1.4826 * MAD, 0.01 * |median|)

    with median and MAD (the median of the absolute deviations from the median) of the last
    `window` values before it; 1.4826 * MAD estimates the standard deviation of a normal
    distribution. Where MAD is 0 because most values are the same, as a hinge loss's zeros are, it
    is taken of the other values only.

    Half of the window would have to be spikes before median and MAD followed them, so a spike
    may enter the window without becoming normal; a level that lasts becomes normal after half a
    window. A falling curve lies below its own median and does not trip.

    Source: Leys et al., "Detecting outliers: Do not use standard deviation around the mean, use
    absolute deviation around the median", Journal of Experimental Social Psychology 49 (2013).

    Args:
        action: What then happens: `warn`, `pause` or `stop`.
        metric: The name of the metric to watch; more of it is worse.
        deviations: How many (robust) standard deviations above the median a spike is. Losses with
            heavy tails, such as those of very small batches, want more than 6.
        window: How many values the median is taken of.
        warmup: How many values are seen before any is judged, also after going back.
    """

    name: ClassVar[str] = "loss-spike"

    metric: str = "loss"
    deviations: float = 6.0
    window: int = 100
    warmup: int = 20

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_metric("metric", self.metric)
        if not _is_number(self.deviations) or self.deviations <= 0:
            raise ArgumentError(f"deviations is {self.deviations!r}; it is a number above 0.")
        _check_whole("window", self.window, least=10)
        _check_whole("warmup", self.warmup, least=5)
        if self.warmup > self.window:
            raise ArgumentError(
                f"warmup is {self.warmup} and window is {self.window}; "
                "warmup is at most the window, which never holds more values."
            )

    @property
    def watched(self) -> Tuple[str, ...]:
        """The one metric."""
        return (self.metric,)

    def watch(self) -> Watch:
        """A fresh state, for a run that begins."""
        return _SpikeWatch(self)


class _SpikeWatch(Watch):
    def __init__(self, guard: LossSpike) -> None:
        self._guard = guard
        self._seen: Deque[Tuple[int, float]] = deque()
        self._sorted: List[float] = []
        self._is_outside = False

    def look(self, metrics: Metrics) -> List[Trip]:
        trips: List[Trip] = []
        for step, value in zip(metrics.steps, metrics.values.get(self._guard.metric, ())):
            if value is None:  # `NonFinite` has these; they have no place among numbers.
                continue
            if len(self._sorted) >= self._guard.warmup:
                was_outside = self._is_outside
                self._is_outside = self._is_spike(value)
                if self._is_outside and not was_outside:
                    message = self._message(value)
                    trips.append(self._guard.trip(metrics.run, step, message, value))
            self._take(step, value)
        return trips

    def rewound(self, step: int) -> None:
        while self._seen and self._seen[-1][0] > step:
            self._seen.pop()
        self._sorted = sorted(value for _, value in self._seen)
        self._is_outside = False

    def _take(self, step: int, value: float) -> None:
        self._seen.append((step, value))
        insort(self._sorted, value)
        if len(self._seen) > self._guard.window:
            _, oldest = self._seen.popleft()
            del self._sorted[bisect_left(self._sorted, oldest)]

    @property
    def _median(self) -> float:
        return self._sorted[len(self._sorted) // 2]

    def _is_spike(self, value: float) -> bool:
        values, median = self._sorted, self._median
        rise = value - median
        if rise <= 0:
            return False
        # Most values end here. MAD is below `reach` exactly where more than half of the values
        # are nearer to the median than that, and in a sorted list two bisections count them.
        reach = rise / (self._guard.deviations * _PER_MAD)
        near = bisect_left(values, median + reach) - bisect_right(values, median - reach)
        if near <= len(values) // 2:
            return False
        return rise > self._guard.deviations * self._scale()

    def _scale(self) -> float:
        median = self._median
        deviations = sorted([abs(value - median) for value in self._sorted])
        mad = deviations[len(deviations) // 2]
        if mad == 0:
            others = deviations[bisect_right(deviations, 0.0) :]
            mad = others[len(others) // 2] if others else 0.0
        return max(_PER_MAD * mad, _LEAST_SCALE * abs(median), _TINY)

    def _message(self, value: float) -> str:
        guard, median = self._guard, self._median
        height = (value - median) / self._scale()
        return (
            f"{guard.metric} is {value:.4g}, {height:.1f} standard deviations above {median:.4g}, "
            f"the median of the {len(self._sorted)} values before; "
            f"the guard's limit is {guard.deviations:g}."
        )


@dataclass(frozen=True)
class NoImprovement(Guard):
    """Trips after `validations` in a row without a new best; again after as many more.

    A value that is not finite is no improvement. Two values at one step count once, because the
    weights are the same. After going back, the best and the count are what they were at that step.

    Args:
        action: What then happens: `warn`, `pause` or `stop`.
        metric: The name of the metric to watch.
        validations: How many values in a row may bring no improvement.
        minimum: A new best is better than the last by more than this.
        mode: `min` where less is better, `max` where more is.
    """

    name: ClassVar[str] = "no-improvement"

    metric: str = "val_loss"
    validations: int = 5
    minimum: float = 0.0
    mode: str = "min"

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_metric("metric", self.metric)
        _check_whole("validations", self.validations, least=1)
        if not _is_number(self.minimum) or self.minimum < 0:
            raise ArgumentError(f"minimum is {self.minimum!r}; it is a number of at least 0.")
        if self.mode not in ("min", "max"):
            raise ArgumentError(f"mode is {self.mode!r}; it is 'min' or 'max'.")

    @property
    def watched(self) -> Tuple[str, ...]:
        """The one metric."""
        return (self.metric,)

    def watch(self) -> Watch:
        """A fresh state, for a run that begins."""
        return _ImprovementWatch(self)


class _Progress(NamedTuple):
    """What is known after a validation."""

    step: int
    best: Optional[float] = None
    best_step: int = 0
    stale: int = 0


class _ImprovementWatch(Watch):
    def __init__(self, guard: NoImprovement) -> None:
        self._guard = guard
        self._trail: Deque[_Progress] = deque(maxlen=_REMEMBERED)

    def look(self, metrics: Metrics) -> List[Trip]:
        trips: List[Trip] = []
        for step, value in zip(metrics.steps, metrics.values.get(self._guard.metric, ())):
            before = self._trail[-1] if self._trail else _Progress(step=-1)
            if step == before.step:
                continue
            now = self._after(before, step, value)
            self._trail.append(now)
            if now.stale and now.stale % self._guard.validations == 0:
                message = self._message(now, value)
                trips.append(self._guard.trip(metrics.run, step, message, value))
        return trips

    def rewound(self, step: int) -> None:
        while self._trail and self._trail[-1].step > step:
            self._trail.pop()

    def _after(self, before: _Progress, step: int, value: Optional[float]) -> _Progress:
        if value is not None and (before.best is None or self._is_better(value, before.best)):
            return _Progress(step, best=value, best_step=step)
        return before._replace(step=step, stale=before.stale + 1)

    def _is_better(self, value: float, best: float) -> bool:
        gain = best - value if self._guard.mode == "min" else value - best
        return gain > self._guard.minimum

    def _message(self, now: _Progress, value: Optional[float]) -> str:
        name, count = self._guard.metric, _validations(now.stale)
        if now.best is None:
            return f"{name} had no finite value in {count}."
        shown = "not finite" if value is None else f"{value:.4g}"
        return (
            f"{name} has not improved in {count}: "
            f"it is {shown}, and the best is still {now.best:.4g}, from step {now.best_step}."
        )


def check_guards(guards: Any) -> List[Guard]:
    """The guards a user passed, or for None the default: a warning where the loss is not finite."""
    if guards is None:
        return [NonFinite()]
    if isinstance(guards, Guard):
        raise ArgumentError(
            f"guards is a {type(guards).__name__}; it is a list: guards=[{_call(type(guards))}]."
        )
    if not isinstance(guards, (list, tuple)):
        raise ArgumentError(
            f"guards is a {type(guards).__name__}; it is a list, such as guards=[NonFinite()]."
        )
    for position, guard in enumerate(guards):
        if isinstance(guard, type) and issubclass(guard, Guard):
            raise ArgumentError(
                f"guards[{position}] is the class {guard.__name__}; call it: {_call(guard)}."
            )
        if not isinstance(guard, Guard):
            raise ArgumentError(
                f"guards[{position}] is a {type(guard).__name__}; "
                "it is NonFinite(...), LossSpike(...), NoImprovement(...) or HealthCheck(...)."
            )
    return list(guards)


def needs_gradients(guards: Iterable[Guard]) -> bool:
    """Whether any of these guards watches the norm of the gradients."""
    return any(GRAD_NORM in guard.watched for guard in guards)


def _call(kind: type) -> str:
    return f"{kind.__name__}(...)"


def _validations(count: int) -> str:
    return "1 validation" if count == 1 else f"{count} validations"


def _number(value: Optional[float]) -> float:
    assert value is not None
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _check_metric(argument: str, name: Any) -> None:
    if not isinstance(name, str) or not name:
        raise ArgumentError(f"{argument} has {name!r}; a metric's name is a text such as 'loss'.")


def _check_whole(argument: str, value: Any, *, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ArgumentError(f"{argument} is {value!r}; it is a whole number of at least {least}.")
