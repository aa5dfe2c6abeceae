"""Waiting that ends."""

import time
from typing import Callable, Optional, TypeVar

T = TypeVar("T")


def wait_for(look: Callable[[], Optional[T]], what: str, seconds: float = 10.0) -> T:
    """The first thing that `look` finds; an AssertionError that names it where it stays away."""
    deadline = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < deadline, f"{what}: not within {seconds:g} s"
        time.sleep(0.01)
