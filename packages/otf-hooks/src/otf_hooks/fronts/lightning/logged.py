"""What a module gives to `self.log`, as it comes."""

from __future__ import annotations

from typing import Any, Dict, Mapping


class Logged:
    """Tells the values that are new from those that Lightning still holds from before.

    A value that was logged on the step and on the epoch has two names, `x_step` and `x_epoch`, as
    in Lightning's own loggers, and `x` besides, which is left out.
    """

    def __init__(self) -> None:
        self._held: Dict[str, Any] = {}

    def fresh(self, metrics: Mapping[str, Any]) -> Dict[str, Any]:
        """The metrics that were logged since the last call, by their names; tensors as they are."""
        found = {}
        held = self._held
        for name, value in metrics.items():
            before = held.get(name)
            if before is value or (before is not None and _is_same(before, value)):
                continue
            # Held on to, so that its memory is not given to the next one.
            held[name] = value
            if f"{name}_step" not in metrics and f"{name}_epoch" not in metrics:
                found[name] = value
        return found


def _is_same(one: Any, other: Any) -> bool:
    """Whether both are the same tensor: Lightning hands out another view of it each time."""
    try:
        return bool(one.data_ptr() == other.data_ptr())
    except AttributeError:
        return False
