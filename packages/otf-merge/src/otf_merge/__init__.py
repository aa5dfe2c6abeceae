"""Merge PyTorch checkpoints, from a shell or from Python.

    from otf_merge import merge

    merge(["a.pt", "b.pt"], weights=[0.7, 0.3], output="merged.pt")

Importing this package costs nothing: torch is loaded by the first name that is used.
"""

from importlib import import_module as _import_module
from importlib.metadata import version as _version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .errors import MergeError, MergeWarning
    from .merging import merge, merge_into_file
    from .parameters import Range
    from .registry import MergeMethod, merge_method, model_method
    from .request import Request
    from .task import Task

__all__ = [
    "MergeError",
    "MergeMethod",
    "MergeWarning",
    "Range",
    "Request",
    "Task",
    "merge",
    "merge_into_file",
    "merge_method",
    "model_method",
]

_MODULES = {
    "MergeError": ".errors",
    "MergeMethod": ".registry",
    "MergeWarning": ".errors",
    "Range": ".parameters",
    "Request": ".request",
    "Task": ".task",
    "merge": ".merging",
    "merge_into_file": ".merging",
    "merge_method": ".registry",
    "model_method": ".registry",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(_import_module(_MODULES[name], __name__), name)


def __dir__() -> "list[str]":
    return sorted([*globals(), *__all__])


def package_version() -> str:
    """This package's version, which all packages of OnTheFly share."""
    return _version("otf-merge")
