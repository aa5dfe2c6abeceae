"""A run's health: what a check found, ranked by how much it matters."""

from enum import Enum
from typing import Dict, List, Optional

import msgspec

#: The checks there are, in the order in which all of them are made.
CHECKS = ("numerics", "activations", "distribution", "determinism", "throughput")
#: What stands for all of them in a command.
ALL = "all"


class Severity(str, Enum):
    """How much a finding matters.

    `critical`: training comes to nothing as it is. `warning`: it is worse, or slower, than it could
    be. `info`: worth knowing.
    """

    CRITICAL = "critical"
    WARNING = "warning"
    INFO = "info"

    @property
    def rank(self) -> int:
        """0 for the gravest."""
        return list(Severity).index(self)


class HealthFinding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that a check found.

    `where` is the layer, tensor, loader or process by its name; empty for the run as a whole.
    `what` is the finding as a sentence, `value` what was measured, with its unit, `meaning` what it
    does to training, and `remedy` what to try.
    """

    severity: Severity
    where: str
    what: str
    value: str
    meaning: str
    remedy: str


class HealthReport(msgspec.Struct, frozen=True, kw_only=True):
    """What one check came to, the gravest finding first.

    `measures` are the numbers that it took (`null`: not finite), `facts` what it saw in words, and
    `seconds` how long it took. `refusal` says why the check could not be made; then there is
    nothing else.
    """

    check: str
    findings: List[HealthFinding] = []
    measures: Dict[str, Optional[float]] = {}
    facts: Dict[str, str] = {}
    seconds: float = 0.0
    refusal: str = ""

    @property
    def worst(self) -> Optional[Severity]:
        """The severity of the gravest finding; None where there is none."""
        return min((each.severity for each in self.findings), key=_rank, default=None)


def _rank(severity: Severity) -> int:
    return severity.rank
