"""Inside the training process: record a run, and steer it at safe points."""

from typing import TYPE_CHECKING, Any

from .errors import TrainingError
from .fronts.loop import WatchedRun, watch
from .fronts.native import FitResult, Trainer
from .guards import LossSpike, NoImprovement, NonFinite
from .health.guard import HealthCheck

if TYPE_CHECKING:
    from .fronts.transformers.callback import OnTheFlyTransformersCallback

__all__ = [
    "FitResult",
    "HealthCheck",
    "LossSpike",
    "NoImprovement",
    "NonFinite",
    "OnTheFlyTransformersCallback",
    "Trainer",
    "TrainingError",
    "WatchedRun",
    "watch",
]

#: What is imported when it is asked for, because it needs a library that not everybody has.
_LAZY = {"OnTheFlyTransformersCallback": ".fronts.transformers.callback"}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'otf_hooks' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module(_LAZY[name], __name__), name)
