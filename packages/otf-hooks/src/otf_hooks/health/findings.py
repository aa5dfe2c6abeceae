"""What a check gathers on its way: findings, numbers and facts, and in the end a report."""

from __future__ import annotations

import math
from functools import partial
from typing import Any, Dict, List, Optional

from otf_session.health import HealthFinding, HealthReport, Severity

#: Findings of one kind that are listed one by one; how many more there are is said.
LISTED = 20


class Findings:
    """Gathers what a check finds; `critical`, `warning` and `info` take the fields of a finding."""

    def __init__(self) -> None:
        self.found: List[HealthFinding] = []
        self.measures: Dict[str, Optional[float]] = {}
        self.facts: Dict[str, str] = {}
        self.critical = partial(self._add, Severity.CRITICAL)
        self.warning = partial(self._add, Severity.WARNING)
        self.info = partial(self._add, Severity.INFO)

    def measure(self, name: str, value: float) -> None:
        """A number that was taken; what is not finite is written down as such."""
        self.measures[name] = float(value) if math.isfinite(value) else None

    def fact(self, name: str, value: Any) -> None:
        """Something that was seen, in words."""
        self.facts[name] = str(value)

    def report(self, check: str, seconds: float) -> HealthReport:
        """Everything, the gravest first; of the same severity in the order in which it was found."""
        return HealthReport(
            check=check,
            findings=sorted(self.found, key=lambda each: each.severity.rank),
            measures=self.measures,
            facts=self.facts,
            seconds=seconds,
        )

    def _add(
        self, severity: Severity, where: str, what: str, *, value: str, meaning: str, remedy: str
    ) -> None:
        self.found.append(
            HealthFinding(
                severity=severity,
                where=where,
                what=what,
                value=value,
                meaning=meaning,
                remedy=remedy,
            )
        )


def percent(share: float) -> str:
    """A share from 0 to 1 as a person reads it."""
    return f"{100 * share:.0f}%" if share >= 0.01 or share == 0 else f"{100 * share:.2g}%"  # noqa: PLR2004


def milliseconds(seconds: float) -> str:
    """A time as a person reads it."""
    return f"{1000 * seconds:.3g} ms"
