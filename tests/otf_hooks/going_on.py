"""Has the next training of this process, or of one that it starts, go on as `otf resume` would."""

from __future__ import annotations

from typing import Any, Optional

from otf_session.home import Home
from otf_session.resume import How, find_order, parse_target


def go_on(monkeypatch: Any, target: str = "latest", how: Optional[How] = None) -> None:
    """Order it in the environment."""
    order = find_order(Home.find(), parse_target(target), how)
    for variable, value in order.environment().items():
        monkeypatch.setenv(variable, value)
