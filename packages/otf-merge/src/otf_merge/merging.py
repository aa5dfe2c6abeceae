"""Merging, from paths to a result: what the shell command and `otf_merge.merge` both do."""

from __future__ import annotations

import contextlib
import os
import warnings as python_warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Union, overload

from .checkpoints.atomic import replacing
from .checkpoints.checkpoint import Contents
from .checkpoints.formats import FORMATS, format_of
from .checkpoints.sources import files_of, opened
from .engine import Merge
from .errors import MergeWarning, OutputRefused
from .record import record_of
from .registry import MergeMethod, find_method

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from torch import Tensor

PathLike = Union[str, "os.PathLike[str]"]


@dataclass(frozen=True)
class Settings:
    """How to merge, whatever is merged and wherever it goes."""

    method: str | MergeMethod = "linear"
    weights: Sequence[float] | None = None
    key: str | None = None
    allow_nonfinite: bool = False


@dataclass(frozen=True)
class Written:
    """What came of a merge into a file."""

    output: Path
    inputs: list[Path]
    method: str
    parameters: dict[str, Any]
    tensors: int
    warnings: list[str]


@overload
def merge(
    inputs: PathLike | Iterable[PathLike],
    method: str | MergeMethod = ...,
    weights: Sequence[float] | None = ...,
    output: None = ...,
    *,
    key: str | None = ...,
    allow_nonfinite: bool = ...,
) -> dict[str, Tensor]: ...


@overload
def merge(
    inputs: PathLike | Iterable[PathLike],
    method: str | MergeMethod = ...,
    weights: Sequence[float] | None = ...,
    *,
    output: PathLike,
    key: str | None = ...,
    allow_nonfinite: bool = ...,
    force: bool = ...,
) -> Path: ...


def merge(
    inputs: PathLike | Iterable[PathLike],
    method: str | MergeMethod = "linear",
    weights: Sequence[float] | None = None,
    output: PathLike | None = None,
    *,
    key: str | None = None,
    allow_nonfinite: bool = False,
    force: bool = False,
) -> dict[str, Tensor] | Path:
    """Merge checkpoint files, or the folders that hold them, into one model.

    Returns the merged tensors by name, or with an `output` the path of the file they were written
    to. `weights` has one number for each file; `key` is where files keep the weights, if that is
    no usual place; `force` replaces an output that exists. What should be known about the result
    comes as a `MergeWarning`, what prevents it as a `MergeError`.
    """
    paths = _paths(inputs)
    settings = Settings(method, weights, key, allow_nonfinite)
    result: dict[str, Tensor] | Path
    if output is None:
        with _prepared(paths, settings) as prepared:
            result = {name: prepared.tensor(name) for name in prepared.specs}
        found = prepared.warnings
    else:
        written = merge_into_file(paths, settings, Path(output), force=force)
        result, found = written.output, written.warnings
    for text in found:
        python_warnings.warn(text, MergeWarning, stacklevel=2)
    return result


def merge_into_file(
    paths: Iterable[Path],
    settings: Settings,
    output: Path | None = None,
    *,
    force: bool = False,
    on_tensor: Callable[[int, int], None] | None = None,
) -> Written:
    """Merge into a file: `output`, else `merged` with the first input's suffix.

    `on_tensor` is told after each tensor how many are done, of how many.
    """
    outputs = [output] if output else [Path(f"merged{suffix}") for suffix in FORMATS]
    if output:
        _require_writable(output, force=force)
    with _prepared(paths, settings, outputs) as prepared:
        inputs = [checkpoint.path for checkpoint in prepared.checkpoints]
        if output is None:
            output = Path(f"merged{inputs[0].suffix}")
            _require_writable(output, force=force)
        _write(prepared, output, on_tensor)
    return Written(
        output=output,
        inputs=inputs,
        method=prepared.method.name,
        parameters=prepared.parameters,
        tensors=len(prepared.specs),
        warnings=prepared.warnings,
    )


def _paths(inputs: PathLike | Iterable[PathLike]) -> list[Path]:
    if isinstance(inputs, (str, os.PathLike)):
        return [Path(inputs)]
    return [Path(path) for path in inputs]


@contextlib.contextmanager
def _prepared(
    paths: Iterable[Path], settings: Settings, outputs: Collection[Path] = ()
) -> Iterator[Merge]:
    method = settings.method
    if not isinstance(method, MergeMethod):
        method = find_method(method)
    with opened(files_of(paths, outputs), settings.key) as checkpoints:
        yield Merge(checkpoints, method, settings.weights, allow_nonfinite=settings.allow_nonfinite)


def _require_writable(output: Path, *, force: bool) -> None:
    format_of(output, OutputRefused)
    if output.is_dir():
        raise OutputRefused(f"`{output}` is a folder. Name a file in it.")
    if output.exists() and not force:
        raise OutputRefused(
            f"`{output}` exists and is not overwritten. Name another output, or pass --force."
        )
    if not output.parent.is_dir():
        raise OutputRefused(f"There is no folder `{output.parent}`. Create it first.")


def _write(prepared: Merge, output: Path, on_tensor: Callable[[int, int], None] | None) -> None:
    done = 0

    def produce(name: str) -> Tensor:
        nonlocal done
        tensor = prepared.tensor(name)
        done += 1
        if on_tensor:
            on_tensor(done, len(prepared.specs))
        return tensor

    contents = Contents(
        specs=prepared.specs,
        produce=produce,
        record=record_of(prepared),
        nesting=prepared.checkpoints[0].nesting,
    )
    try:
        with replacing(output) as file:
            format_of(output, OutputRefused).write(file, contents)
    except OSError as error:
        raise OutputRefused(
            f"`{output}` cannot be written: {error.strerror or error}. Nothing was left behind."
        ) from error
