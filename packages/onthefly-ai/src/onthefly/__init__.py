"""Watch, pause and steer PyTorch training while it runs.

    from onthefly import Trainer

This package is a front without logic: its names are loaded from the packages that hold them, at
the moment they are used.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from otf_hooks import (
        FitResult,
        LossSpike,
        NoImprovement,
        NonFinite,
        Trainer,
        TrainingError,
    )
    from otf_merge import merge

    OnTheFlyTrainer = Trainer

__all__ = [
    "FitResult",
    "LossSpike",
    "NoImprovement",
    "NonFinite",
    "OnTheFlyTrainer",
    "Trainer",
    "TrainingError",
    "__version__",
    "merge",
]

_HOMES = {
    "FitResult": ("otf_hooks", "FitResult"),
    "LossSpike": ("otf_hooks", "LossSpike"),
    "NoImprovement": ("otf_hooks", "NoImprovement"),
    "NonFinite": ("otf_hooks", "NonFinite"),
    "OnTheFlyTrainer": ("otf_hooks", "Trainer"),
    "Trainer": ("otf_hooks", "Trainer"),
    "TrainingError": ("otf_hooks", "TrainingError"),
    "merge": ("otf_merge", "merge"),
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("onthefly-ai")
    try:
        module, attribute = _HOMES[name]
    except KeyError:
        raise AttributeError(f"module 'onthefly' has no attribute '{name}'") from None
    from importlib import import_module

    return getattr(import_module(module), attribute)


def __dir__() -> "list[str]":
    return sorted(__all__)
