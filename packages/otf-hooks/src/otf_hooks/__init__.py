"""Inside the training process: record a run, and steer it at safe points."""

from .errors import TrainingError
from .fronts.native import FitResult, Trainer
from .guards import LossSpike, NoImprovement, NonFinite

__all__ = [
    "FitResult",
    "LossSpike",
    "NoImprovement",
    "NonFinite",
    "Trainer",
    "TrainingError",
]
