"""A check as a guard: made every so many steps, it warns, pauses or stops at what it finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Dict, Iterable, List, Mapping, Tuple

from otf_session.events import HealthReported, Metrics
from otf_session.health import Severity

from ..errors import ArgumentError
from ..guards import Guard, Trip, Watch
from .schedule import known, names


@dataclass(frozen=True, init=False)
class HealthCheck(Guard):
    """Trips where a check finds something grave; again only after a report without it.

    Args:
        check: The check: numerics, activations, distribution, determinism, throughput, or all.
        action: What then happens: `warn`, `pause` or `stop`.
        every: The number of steps between two checks.
        severity: How grave a finding must be: `critical`, `warning` or `info`, or graver.
    """

    name: ClassVar[str] = "health"

    check: str = "numerics"
    every: int = 1000
    severity: str = "critical"

    def __init__(
        self,
        check: str = "numerics",
        action: str = "warn",
        every: int = 1000,
        severity: str = "critical",
    ) -> None:
        given = {"check": check, "action": action, "every": every, "severity": severity}
        for field, value in given.items():
            object.__setattr__(self, field, value)
        self.__post_init__()

    def __post_init__(self) -> None:
        super().__post_init__()
        if not names(self.check):
            raise ArgumentError(f"check is {self.check!r}, which is no check. {known()}")
        if isinstance(self.every, bool) or not isinstance(self.every, int) or self.every < 1:
            raise ArgumentError(f"every is {self.every!r}; it is a whole number of at least 1.")
        if self.severity not in {each.value for each in Severity}:
            raise ArgumentError(
                f"severity is {self.severity!r}; it is 'critical', 'warning' or 'info'."
            )

    @property
    def watched(self) -> Tuple[str, ...]:
        """No metric: it looks at reports."""
        return ()

    def watch(self) -> Watch:
        """A fresh state, for a run that begins."""
        return _HealthWatch(self)


def planned(schedule: Mapping[str, int], guards: Iterable[Guard]) -> Dict[str, int]:
    """A schedule together with the checks of guards; of two for one check the more frequent."""
    found: Dict[str, int] = {}
    asked = [*schedule.items(), *((g.check, g.every) for g in guards if isinstance(g, HealthCheck))]
    for check, steps in asked:
        for name in names(check):
            found[name] = min(steps, found.get(name, steps))
    return found


class _HealthWatch(Watch):
    def __init__(self, guard: HealthCheck) -> None:
        self._guard = guard
        self._rank = Severity(guard.severity).rank
        #: The checks whose last report had something to trip at.
        self._broken: set[str] = set()

    def look(self, metrics: Metrics) -> List[Trip]:
        return []

    def see(self, event: HealthReported) -> List[Trip]:
        report = event.report
        if report.check not in names(self._guard.check) or report.refusal:
            return []
        grave = [each for each in report.findings if each.severity.rank <= self._rank]
        if not grave:
            self._broken.discard(report.check)
            return []
        if report.check in self._broken:
            return []
        self._broken.add(report.check)
        first, more = grave[0], len(grave) - 1
        message = f"{report.check}: {first.where or 'the run'}: {first.what} {first.value}"
        message += f"; and {more} more." if more else "."
        return [self._guard.trip(event.run, event.step, message, None)]

    def rewound(self, step: int) -> None:
        self._broken.clear()
