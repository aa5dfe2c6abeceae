"""Checks that are made again and again, every so many steps."""

from __future__ import annotations

import secrets
from functools import partial
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, Sequence

from otf_session.commands import CheckHealth, CommandRequest
from otf_session.health import ALL, CHECKS

from ..errors import ArgumentError

if TYPE_CHECKING:
    from ..engine import Engine

#: Who asks for a check that is due, in the record.
AUTHOR = "schedule"


class Checkups:
    """The schedule of a run's checks: at most one date each is on the engine's agenda."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._every: Dict[str, int] = {}
        #: The step at which each was made last, or planned.
        self._made: Dict[str, int] = {}

    def begin(self, every: Mapping[str, int]) -> None:
        """What the script asks for; to be said before the start."""
        for check, steps in every.items():
            self._every.update(dict.fromkeys(names(check), steps))

    def every(self, check: str, steps: int) -> None:
        """Make a check every so many steps from here on; 0: no longer."""
        for name in names(check):
            self._every[name] = steps
            self._made[name] = self._engine.step
        self.plan()

    def plan(self) -> None:
        """Put the next of each on the agenda; also after the run went back."""
        engine = self._engine
        for name, steps in self._every.items():
            if not steps:
                engine.agenda.put(f"health {name}", None, _nothing)
                continue
            # What is due at this very step, and not made yet, stays due.
            before = min(engine.step, self._made.setdefault(name, engine.step))
            self._made[name] = before
            due = (before // steps + 1) * steps
            engine.agenda.put(f"health {name}", due, partial(self._due, name))

    def planned(self) -> Dict[str, int]:
        """Every how many steps each check is made."""
        return {name: steps for name, steps in self._every.items() if steps}

    def _due(self, name: str) -> None:
        engine = self._engine
        self._made[name] = engine.step
        self.plan()
        # What is held in host memory, or about to end, is left alone.
        if engine.gate.is_stopping or not engine.parking.is_empty:
            return
        # As a command, so that it shows how far it is and can be broken off like any other.
        request = CommandRequest(
            id=secrets.token_hex(8), author=AUTHOR, command=CheckHealth(check=name)
        )
        engine.desk.execute(request)


def _nothing() -> None:
    """Nothing is due."""


def names(check: str) -> Sequence[str]:
    """The checks that a name stands for; none where there is no such check."""
    if check == ALL:
        return CHECKS
    return (check,) if check in CHECKS else ()


def check_schedule(health: Optional[Mapping[str, Any]]) -> Dict[str, int]:
    """The schedule that a script asks for: each check by its name, with its number of steps.

    Raises `ArgumentError` where a check or a number is none.
    """
    if health is None:
        return {}
    if not isinstance(health, Mapping):
        raise ArgumentError(
            f"health is a {type(health).__name__}; it says every how many steps each check is made, "
            "such as health={'numerics': 1000}."
        )
    for name, steps in health.items():
        if not (isinstance(name, str) and names(name)):
            raise ArgumentError(f"health has {name!r}, which is no check. {known()}")
        if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
            raise ArgumentError(
                f"health[{name!r}] is {steps!r}; it is a whole number of steps, of at least 1."
            )
    return dict(health)


def known() -> str:
    """What can be asked for, as a sentence."""
    every: List[str] = [*CHECKS, ALL]
    return f"There are: {', '.join(every)}."
