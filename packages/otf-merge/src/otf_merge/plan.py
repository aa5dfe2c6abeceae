"""What a merge would do: its tensors, bytes, memory and warnings, before anything is done."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .checkpoints.destination import default_output, default_outputs, destination
from .engine import HELD
from .family import Rule
from .pieces import SIZE
from .preparing import prepared
from .recipe import recipe_of

if TYPE_CHECKING:
    import os

    from .checkpoints.checkpoint import Checkpoint
    from .preparing import Preparation
    from .request import Machine, Request

#: Bytes of a number while it is computed with, at most.
_WIDE = 8
#: What a merge by pieces takes beside them: buffers of files, and what the allocator keeps.
_BESIDE = 64 << 20


@dataclass(frozen=True)
class Plan:
    """A merge that was not done. Sizes are in bytes; `memory` is what it would take at its peak."""

    output: Path
    method: str
    parameters: dict[str, Any]
    inputs: list[dict[str, Any]]
    base: dict[str, Any] | None
    tensors: dict[str, int]
    reads: int
    writes: int
    passes: int
    memory: int
    free: int
    warnings: list[str]
    recipe: dict[str, Any]
    report: dict[str, Any] = field(default_factory=dict)


def plan(
    request: Request, output: str | os.PathLike[str] | None, machine: Machine, *, force: bool
) -> Plan:
    """What the merge would do; raises what it would raise, as far as headers show it."""
    from .output import used

    place = None if output is None else destination(output, force=force)
    outputs = [place.path] if place else default_outputs()
    with prepared(request, machine, outputs) as preparation:
        if place is None:
            place = destination(default_output(preparation.checkpoints[0]), force=force)
        writes = _size(preparation.family.specs.values())
        passes = _passes(preparation)
        everyone = [*preparation.checkpoints, *([preparation.base] if preparation.base else [])]
        return Plan(
            output=place.path,
            method=preparation.method.name,
            parameters=used(preparation),
            inputs=[_described(it) for it in preparation.checkpoints],
            base=_described(preparation.base) if preparation.base else None,
            tensors={
                rule.name.lower(): len(names)
                for rule in Rule
                if (names := preparation.family.under(rule))
            },
            reads=passes * sum(_size(it.specs.values()) for it in everyone),
            writes=writes,
            passes=passes,
            memory=_memory(preparation, len(everyone), writes),
            free=shutil.disk_usage(place.path.resolve().parent).free,
            warnings=[*preparation.warnings, *place.notes(preparation.checkpoints[0])],
            recipe=recipe_of(preparation),
            report=preparation.report,
        )


def _described(checkpoint: Checkpoint) -> dict[str, Any]:
    dtypes = sorted({str(spec.dtype).removeprefix("torch.") for spec in checkpoint.specs.values()})
    return {
        "path": str(checkpoint.path),
        "bytes": sum(file.stat().st_size for file in checkpoint.files),
        "files": len(checkpoint.files),
        "tensors": len(checkpoint.specs),
        "numbers": sum(spec.numel for spec in checkpoint.specs.values()),
        "dtypes": dtypes,
    }


def _size(specs: Any) -> int:
    return sum(spec.nbytes for spec in specs)


def _passes(preparation: Preparation) -> int:
    measures = preparation.method.measures.values()
    return 1 + sum(make(preparation.choices.given).passes for make in measures)


def _memory(preparation: Preparation, count: int, model: int) -> int:
    """An estimate: whole models where the method wants them, else the pieces that are at work."""
    if preparation.method.form == "model" or preparation.task is not None:
        return (count + 2) * model
    piece = SIZE
    if preparation.method.granularity == "tensor":
        piece = max((spec.numel for spec in preparation.family.specs.values()), default=0)
    at_once = 2 * preparation.machine.threads + 1
    held = HELD if preparation.method.measures else 0
    at_work = min(at_once * piece, sum(it.numel for it in preparation.family.specs.values()))
    return _BESIDE + min(held, count * model * 2) + at_work * (count + 2) * _WIDE
