"""What somebody asks for: all that decides what comes out of a merge."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Union

from .choices import Override

if TYPE_CHECKING:
    from .registry import MergeMethod
    from .task import Task

#: What may be done about normalisation statistics after a merge: whatever validates better, always
#: recompute them, or never.
Recalibrate = Literal["auto", "always", "never"]


@dataclass(frozen=True)
class Request:
    """One merge. Paths are as the user gave them; `parameters` are the method's own.

    `search` has, for parameters of the method, the values to try on the task's validation data.
    `align` is `weights` to permute the parents to the first one, or the path of a file that says
    which axes are permuted together.
    """

    inputs: Sequence[Path]
    method: Union[str, MergeMethod] = "linear"
    base: Path | None = None
    weights: Sequence[float] | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    overrides: Sequence[Override] = ()
    key: str | None = None
    skip: Sequence[str] = ()
    allow_missing: bool = False
    allow_nonfinite: bool = False
    dtype: str | None = None
    align: str | None = None
    task: Union[str, Task, None] = None
    samples: int = 256
    fisher: Sequence[Path] = ()
    grams: Sequence[Path] = ()
    search: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    recalibrate: Recalibrate = "auto"
    gate: bool = False

    @property
    def files(self) -> list[Path]:
        """The inputs and the base, as far as they are named as files."""
        named = [*self.inputs, *([self.base] if self.base else [])]
        return [path for path in named if path.is_file()]


def cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@dataclass(frozen=True)
class Machine:
    """How the work is done, which changes nothing about what comes out."""

    threads: int = field(default_factory=cores)
    device: str = "cpu"
