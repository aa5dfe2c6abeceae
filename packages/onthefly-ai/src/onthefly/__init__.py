"""Watch, pause and steer PyTorch training while it runs.

    from onthefly import Trainer

This package is a front without logic: its names are loaded from the packages that hold them, at
the moment they are used.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from otf_hooks import (
        FitResult,
        HealthCheck,
        LossSpike,
        NoImprovement,
        NonFinite,
        OnTheFlyTransformersCallback,
        Trainer,
        TrainingError,
        watch,
    )
    from otf_hooks.fronts.lightning import OnTheFlyCallback as OnTheFlyCallback
    from otf_hooks.fronts.lightning import OnTheFlyLogger as OnTheFlyLogger
    from otf_hooks.fronts.lightning import attach_lightning
    from otf_merge import merge

    OnTheFlyTrainer = Trainer

__all__ = [
    "FitResult",
    "HealthCheck",
    "LossSpike",
    "NoImprovement",
    "NonFinite",
    "OnTheFlyTrainer",
    "OnTheFlyTransformersCallback",
    "Trainer",
    "TrainingError",
    "__version__",
    "attach_lightning",
    "merge",
    "watch",
]

_HOMES = {
    "FitResult": ("otf_hooks", "FitResult"),
    "HealthCheck": ("otf_hooks", "HealthCheck"),
    "LossSpike": ("otf_hooks", "LossSpike"),
    "NoImprovement": ("otf_hooks", "NoImprovement"),
    "NonFinite": ("otf_hooks", "NonFinite"),
    "OnTheFlyCallback": ("otf_hooks.fronts.lightning", "OnTheFlyCallback"),
    "OnTheFlyLogger": ("otf_hooks.fronts.lightning", "OnTheFlyLogger"),
    "OnTheFlyTrainer": ("otf_hooks", "Trainer"),
    "OnTheFlyTransformersCallback": ("otf_hooks", "OnTheFlyTransformersCallback"),
    "Trainer": ("otf_hooks", "Trainer"),
    "TrainingError": ("otf_hooks", "TrainingError"),
    "attach_lightning": ("otf_hooks.fronts.lightning", "attach_lightning"),
    "merge": ("otf_merge", "merge"),
    "watch": ("otf_hooks", "watch"),
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
    # Those of Lightning are not in __all__: `import *` would need it to be installed.
    return sorted({*__all__, *_HOMES})
