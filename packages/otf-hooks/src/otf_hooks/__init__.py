"""Inside the training process: record a run, and steer it at safe points."""

from .errors import TrainingError
from .fronts.native import FitResult, Trainer

__all__ = ["FitResult", "Trainer", "TrainingError"]
