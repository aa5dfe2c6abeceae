"""Merging, from paths to a result: what the shell command and `otf_merge.merge` both do."""

from __future__ import annotations

import contextlib
import os
import warnings as python_warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union, overload

from .choices import Override
from .errors import MergeWarning
from .hashing import Hashing
from .merged import whole
from .output import Written, write
from .preparing import prepared
from .progress import unwatched
from .request import Machine, Request

if TYPE_CHECKING:
    from torch import Tensor

    from .progress import Progress
    from .registry import MergeMethod
    from .request import Recalibrate
    from .task import Task

PathLike = Union[str, "os.PathLike[str]"]


@overload
def merge(
    inputs: PathLike | Iterable[PathLike],
    method: str | MergeMethod = ...,
    weights: Sequence[float] | None = ...,
    output: None = ...,
    **options: Any,
) -> dict[str, Tensor]: ...


@overload
def merge(
    inputs: PathLike | Iterable[PathLike],
    method: str | MergeMethod = ...,
    weights: Sequence[float] | None = ...,
    *,
    output: PathLike,
    **options: Any,
) -> Path: ...


def merge(
    inputs: PathLike | Iterable[PathLike],
    method: str | MergeMethod = "linear",
    weights: Sequence[float] | None = None,
    output: PathLike | None = None,
    *,
    base: PathLike | None = None,
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
    key: str | None = None,
    skip: Sequence[str] = (),
    allow_missing: bool = False,
    allow_nonfinite: bool = False,
    dtype: str | None = None,
    align: str | None = None,
    task: str | Task | None = None,
    samples: int = 256,
    fisher: PathLike | Iterable[PathLike] = (),
    grams: PathLike | Iterable[PathLike] = (),
    search: Mapping[str, Sequence[Any]] | None = None,
    recalibrate: Recalibrate = "auto",
    gate: bool = False,
    device: str = "cpu",
    threads: int | None = None,
    force: bool = False,
    shard_size: int | None = None,
    hashes: bool = True,
    sync: bool = False,
    progress: Progress = unwatched,
    **parameters: Any,
) -> dict[str, Tensor] | Path:
    """Merge checkpoints, or those that folders hold, into one model.

    Returns the merged tensors by name, or with an `output` the path of what was written.

    - `method` is a method's name or a `MergeMethod`; its own parameters are keywords, such as
      `density=0.5`, and `otf-merge methods NAME` tells of them.
    - `weights` has one number for each checkpoint; `base` is the model they were fine-tuned from.
    - `overrides` has, for patterns of tensor names, other parameters or `weights`:
      `{"encoder.*": {"weights": [0.7, 0.3]}}`.
    - `key` is where files keep the weights, if that is no usual place. Tensors that match a pattern
      in `skip` are the first checkpoint's; with `allow_missing` those that only some have are
      averaged over these.
    - `dtype` is that of the result's floating-point tensors, such as `float16`.
    - `align` permutes hidden units to match the first checkpoint's before merging.
    - `task` is the model and data of methods that need them (`otf_merge.Task`, or its place,
      `module:function`), `samples` how many are looked at; `fisher` and `grams` are files with what
      was computed before. With a task, `search` tries values of parameters, `recalibrate` settles
      normalisation statistics, and `gate` accepts only what is no worse than the best parent.
    - `force` replaces an output that exists; `shard_size` is the most bytes of tensors in one file
      of a folder; without `hashes` the output's record does not have the inputs' SHA-256, which take
      longer than an average; with `sync` the output is on the disk when this returns, and not only
      with the operating system; `progress` is told how far the merge is.

    What should be known about the result comes as a `MergeWarning`, what prevents it as a
    `MergeError`. `merge_into_file`, which takes a `Request`, also tells what was decided on the way.
    """
    request = Request(
        inputs=_paths(inputs),
        method=method,
        base=Path(base) if base is not None else None,
        weights=weights,
        parameters=parameters,
        overrides=[Override(pattern, given) for pattern, given in (overrides or {}).items()],
        key=key,
        skip=tuple(skip),
        allow_missing=allow_missing,
        allow_nonfinite=allow_nonfinite,
        dtype=dtype,
        align=align,
        task=task,
        samples=samples,
        fisher=_paths(fisher),
        grams=_paths(grams),
        search=search or {},
        recalibrate=recalibrate,
        gate=gate,
    )
    machine = Machine(device=device) if threads is None else Machine(threads, device)
    result: dict[str, Tensor] | Path
    if output is None:
        with prepared(request, machine, progress=progress) as preparation:
            result = dict(whole(preparation.final()).state)
        found = preparation.warnings
    else:
        written = merge_into_file(
            *(request, output, machine),
            force=force,
            shard_size=shard_size,
            hashes=hashes,
            sync=sync,
            progress=progress,
        )
        result, found = written.output, written.warnings
    for text in found:
        python_warnings.warn(text, MergeWarning, stacklevel=2)
    return result


def merge_into_file(
    request: Request,
    output: PathLike | None = None,
    machine: Machine | None = None,
    *,
    force: bool = False,
    shard_size: int | None = None,
    hashes: bool | Hashing = True,
    sync: bool = False,
    progress: Progress = unwatched,
) -> Written:
    """Merge into a file or folder: `output`, else `merged` in the format of the first input.

    `hashes` may also be a `Hashing` that has begun before, for the inputs' SHA-256.
    """
    machine = machine or Machine()
    with contextlib.ExitStack() as stack:
        hashing = stack.enter_context(Hashing(machine.threads)) if hashes is True else hashes
        return write(
            request,
            output,
            machine,
            force=force,
            shard_size=shard_size,
            sync=sync,
            hashing=hashing or None,
            progress=progress,
        )


def _paths(inputs: PathLike | Iterable[PathLike]) -> list[Path]:
    if isinstance(inputs, (str, os.PathLike)):
        return [Path(inputs)]
    return [Path(path) for path in inputs]
