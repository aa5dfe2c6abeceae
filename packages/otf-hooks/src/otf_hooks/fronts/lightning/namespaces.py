"""Which Lightning is meant: `lightning.pytorch` and `pytorch_lightning` are the same code twice.

A trainer takes only callbacks and loggers of its own package. Neither is imported before somebody
asks for it.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from typing import Any, List

from ...errors import ArgumentError, TrainingError

_PACKAGES = ("lightning.pytorch", "pytorch_lightning")
_OLDEST = (2, 2)
#: What the loops of a fit are driven by; all of it is there from 2.2 on.
_DRIVEN_BY = {
    "fit_loop": ("done", "on_advance_start", "advance", "on_advance_end", "epoch_progress"),
    "epoch_loop": ("done", "reset", "on_run_start", "advance", "on_advance_end", "batch_progress"),
}


def of(trainer: Any) -> Any:
    """The package that a trainer is of; raises `ArgumentError` where it is of neither."""
    for kind in type(trainer).__mro__:
        for name in _PACKAGES:
            if kind.__name__ == "Trainer" and kind.__module__.startswith(f"{name}."):
                return _checked(importlib.import_module(name))
    raise ArgumentError(
        f"trainer is a {type(trainer).__name__}; attach_lightning needs a lightning.pytorch.Trainer."
    )


def in_use() -> List[Any]:
    """The packages that the script has imported; where it has none, the one that is installed."""
    found = [sys.modules[name] for name in _PACKAGES if name in sys.modules]
    if not found:
        name = next((name for name in _PACKAGES if _is_installed(name)), None)
        if name is None:
            raise TrainingError(
                "Lightning is not installed, and this front drives it. Install it with OnTheFly: "
                "pip install 'onthefly-ai[lightning]'."
            )
        found = [importlib.import_module(name)]
    return [_checked(package) for package in found]


def check_loops(trainer: Any) -> None:
    """Raise `TrainingError` where this version's loops are not those that we know to drive."""
    loops = {"fit_loop": trainer.fit_loop, "epoch_loop": trainer.fit_loop.epoch_loop}
    for name, loop in loops.items():
        missing = [part for part in _DRIVEN_BY[name] if not hasattr(type(loop), part)]
        missing = [part for part in missing if part not in vars(loop)]
        if missing:
            raise TrainingError(
                f"This version of Lightning drives its {name} by other means ({missing[0]} is not "
                "there), so that it cannot be steered. Use a version from 2.2 to 2.6."
            )


def _is_installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def _checked(package: Any) -> Any:
    text = getattr(package, "__version__", None) or sys.modules["lightning"].__version__
    version = tuple(int(part) for part in re.findall(r"\d+", text)[:2])
    if version < _OLDEST:
        raise TrainingError(
            f"{package.__name__} {text} is installed, and 2.2 is the oldest that can be steered. "
            "Install a newer one: pip install -U 'onthefly-ai[lightning]'."
        )
    return package
