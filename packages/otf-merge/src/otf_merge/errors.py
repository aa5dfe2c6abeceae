"""What can go wrong with a merge, in words for the person who asked for it.

    MergeError
    ├── UnknownMethod       no merge method has that name
    ├── InvalidMethod       a merge method breaks its contract or cannot be loaded
    ├── InvalidInputs       what was asked for cannot be a merge
    │   └── InvalidParameter    a parameter that the method does not have, or a value out of range
    ├── MissingNeed         a method lacks data that only the user can supply
    ├── InvalidTask         the user's task cannot be loaded or breaks its contract
    ├── UnreadableInput     a file is missing, damaged, foreign or unsafe to read
    ├── InputsDiffer        the checkpoints are not of one model
    ├── GateRefused         the merge is worse than the best of its parents
    ├── NotFinite           a tensor holds NaN or infinity
    └── OutputRefused       the result cannot be written where it was asked for

The message of each says what happened, why, and what to do next.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


class MergeError(Exception):
    """The root of this package's errors: its message is meant for the user."""


class UnknownMethod(MergeError):
    """No merge method has the name that was given."""


class InvalidMethod(MergeError):
    """A merge method breaks its contract, or the package that offers it cannot be loaded."""


class InvalidInputs(MergeError):
    """Too few checkpoints, or parameters that do not fit them or the method."""


class InvalidParameter(InvalidInputs):
    """A parameter that the method does not have, or a value that it may not have."""


class MissingNeed(MergeError):
    """A method lacks what it needs: a base, a task, the Fisher information, Gram matrices."""


class InvalidTask(MergeError):
    """The task cannot be loaded, or one of its parts does not do what a task promises."""


class UnreadableInput(MergeError):
    """A checkpoint that is missing, damaged, of another format, or unsafe to read."""


class InputsDiffer(MergeError):
    """The checkpoints do not hold the same tensors."""


class NotFinite(MergeError):
    """A tensor holds NaN or infinity, in an input or as the result."""


class GateRefused(MergeError):
    """The merge is worse on validation data than its best parent; `report` says what was tried."""

    def __init__(self, message: str, report: Mapping[str, Any]) -> None:
        super().__init__(message)
        self.report = report


class OutputRefused(MergeError):
    """The result cannot be written where it was asked for."""


class MergeWarning(UserWarning):
    """Something about a finished merge that its user should know."""
