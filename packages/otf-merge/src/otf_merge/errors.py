"""What can go wrong with a merge, in words for the person who asked for it.

    MergeError
    ├── UnknownMethod       no merge method has that name
    ├── InvalidMethod       a merge method breaks its contract or cannot be loaded
    ├── InvalidInputs       what was asked for cannot be a merge
    ├── UnreadableInput     a file is missing, damaged, foreign or unsafe to read
    ├── InputsDiffer        the checkpoints are not of one model
    ├── NotFinite           a tensor holds NaN or infinity
    └── OutputRefused       the result cannot be written where it was asked for

The message of each says what happened, why, and what to do next.
"""


class MergeError(Exception):
    """The root of this package's errors: its message is meant for the user."""


class UnknownMethod(MergeError):
    """No merge method has the name that was given."""


class InvalidMethod(MergeError):
    """A merge method breaks its contract, or the package that offers it cannot be loaded."""


class InvalidInputs(MergeError):
    """Too few checkpoints, or parameters that do not fit them or the method."""


class UnreadableInput(MergeError):
    """A checkpoint that is missing, damaged, of another format, or unsafe to read."""


class InputsDiffer(MergeError):
    """The checkpoints do not hold the same tensors."""


class NotFinite(MergeError):
    """A tensor holds NaN or infinity, in an input or as the result."""


class OutputRefused(MergeError):
    """The result cannot be written where it was asked for."""


class MergeWarning(UserWarning):
    """Something about a finished merge that its user should know."""
