"""What is due at which step. The loop compares one number; only when it is reached is there more."""

from __future__ import annotations

import math
from typing import Callable, Dict, Optional, Tuple

Action = Callable[[], None]


class Agenda:
    """Actions that are due at a step, each under a name; a name has one date at a time."""

    def __init__(self) -> None:
        self._entries: Dict[str, Tuple[int, Action]] = {}
        #: The earliest step at which anything is due; infinite where nothing is.
        self.next_step: float = math.inf

    def put(self, name: str, step: Optional[int], action: Action) -> None:
        """Have `action` run at `step`; None takes the name off the agenda."""
        if step is None:
            self._entries.pop(name, None)
        else:
            self._entries[name] = (step, action)
        self._find_next()

    def run_due(self, step: int) -> None:
        """Run, once each, what is due at `step`."""
        while step >= self.next_step:
            name, (_, action) = min(self._entries.items(), key=lambda entry: entry[1][0])
            del self._entries[name]
            self._find_next()
            action()

    def _find_next(self) -> None:
        self.next_step = min((step for step, _ in self._entries.values()), default=math.inf)
