"""Names of runs."""

from __future__ import annotations

import itertools
from typing import Iterable


def free_name(name: str, taken: Iterable[str]) -> str:
    """The name, with a number behind it where the session has a run of that name."""
    used = set(taken)
    names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
    return next(free for free in names if free not in used)
