"""What can go wrong in a training script, in words for the person who wrote it.

    TrainingError
    ├── ArgumentError       an argument of `Trainer` or `fit` is missing or unusable
    ├── LoaderError         a loader yields nothing, or something that cannot be used
    ├── StepError           a step returned no usable loss
    ├── DeviceMismatch      model, loss and data are on different devices
    ├── CheckpointError     a checkpoint could not be written, or cannot be used
    ├── NotPossible         what a command asks for cannot be done now, or not with this run
    ├── RankLost            another process of this training has ended
    └── OutOfStep           the processes of this training are not at the same step

Each is raised where the script is, so that its traceback stays the script's own. `IllegalMove` is
a fault of a front, not of a user.
"""


class TrainingError(Exception):
    """The root of this package's errors: its message is meant for the user."""


class ArgumentError(TrainingError, TypeError):
    """An argument is missing, or is not what it must be."""


class LoaderError(TrainingError, ValueError):
    """A data loader yields nothing, or batches that cannot be used."""


class StepError(TrainingError, ValueError):
    """A step returned no loss, or one that is not a scalar."""


class DeviceMismatch(TrainingError, ValueError):
    """Model, loss function and data are not on the same device."""


class CheckpointError(TrainingError):
    """A checkpoint could not be written, or cannot be used; training goes on without it."""


class NotPossible(TrainingError):
    """A command asks for what cannot be done; its message is the reason for the refusal."""


class RankLost(TrainingError, RuntimeError):
    """Another process of this training has ended, or cannot be reached."""


class OutOfStep(TrainingError, RuntimeError):
    """The processes of this training are not at the same place."""


class IllegalMove(RuntimeError):
    """A front asked the gate for a change of state that does not exist."""
