"""What a merge would do: its tensors, bytes, memory and warnings, before anything is done."""

from __future__ import annotations

import math
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .checkpoints.destination import default_output, default_outputs, destination
from .checkpoints.distributed_folder import DistributedFolder
from .checkpoints.safetensors_file import SafetensorsFile
from .checkpoints.torch_file import TorchFile
from .checkpoints.weights_folder import WeightsFolder
from .engine import HELD
from .family import Rule
from .output import used
from .pieces import SIZE
from .preparing import prepared
from .recipe import recipe_of

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Sequence

    from .checkpoints.checkpoint import Checkpoint, TensorSpec
    from .measures import Measure
    from .preparing import Preparation
    from .request import Machine, Request

#: What a merge by pieces takes beside them: buffers of files, and what the allocator keeps.
_BESIDE = 64 << 20
#: The bytes of a number in half precision, and of one that is computed with, for each kind stored.
_HALF, _FROM_HALF, _FROM_FULL = 2, 4, 8

_FORMATS = {
    SafetensorsFile: "safetensors",
    TorchFile: "torch",
    WeightsFolder: "folder of a model",
    DistributedFolder: "distributed checkpoint",
}


@dataclass(frozen=True)
class Plan:
    """A merge that was not done. Sizes are in bytes.

    `settings` is how many values of parameters are tried, each of which is a merge. `reads` is over
    all of them and their `passes`, `hashed` what is read once more for the inputs' SHA-256, and
    `memory` an estimate of what the merge would take at its peak beside what torch itself takes.
    """

    output: Path
    method: str
    parameters: dict[str, Any]
    inputs: list[dict[str, Any]]
    base: dict[str, Any] | None
    tensors: dict[str, int]
    settings: int
    reads: int
    hashed: int
    writes: int
    passes: int
    memory: int
    free: int
    warnings: list[str]
    recipe: dict[str, Any]
    report: dict[str, Any] = field(default_factory=dict)


def plan(
    request: Request,
    output: str | os.PathLike[str] | None,
    machine: Machine,
    *,
    force: bool = False,
    hashes: bool = True,
) -> Plan:
    """What the merge would do; raises what it would raise, as far as headers show it."""
    place = None if output is None else destination(output, force=force)
    outputs = [place.path] if place else default_outputs()
    with prepared(request, machine, outputs) as preparation:
        if place is None:
            place = destination(default_output(preparation.checkpoints[0]), force=force)
        everyone = [*preparation.checkpoints, *([preparation.base] if preparation.base else [])]
        inputs = [_described(it) for it in everyone]
        reads, passes = _reads(preparation, everyone)
        settings = math.prod(len(values) for values in request.search.values())
        fisher = _fisher(preparation)
        _require_grams(preparation)
        return Plan(
            output=place.path,
            method=preparation.method.name,
            parameters=used(preparation),
            inputs=inputs[: len(preparation.checkpoints)],
            base=inputs[-1] if preparation.base else None,
            tensors={
                rule.name.lower(): len(names)
                for rule in Rule
                if (names := preparation.family.under(rule))
            },
            settings=settings,
            # To know their unit, Fisher diagonals are read once before they are merged with.
            reads=settings * reads
            + (1 + settings) * sum(_size(it.specs.values()) for it in fisher),
            hashed=sum(it["bytes"] for it in inputs) if hashes else 0,
            writes=_size(preparation.family.specs.values()),
            passes=passes,
            memory=_memory(preparation, len(everyone) + len(fisher)),
            free=shutil.disk_usage(place.path.resolve().parent).free,
            warnings=[*preparation.warnings, *place.notes(preparation.checkpoints[0])],
            recipe=recipe_of(preparation),
            report=preparation.report,
        )


def _described(checkpoint: Checkpoint) -> dict[str, Any]:
    dtypes = sorted({str(it.dtype).replace("torch.", "") for it in checkpoint.specs.values()})
    return {
        "path": str(checkpoint.path),
        "format": _FORMATS.get(type(checkpoint), "another"),
        "bytes": sum(file.stat().st_size for file in checkpoint.files),
        "files": len(checkpoint.files),
        "tensors": len(checkpoint.specs),
        "numbers": sum(spec.numel for spec in checkpoint.specs.values()),
        "dtypes": dtypes,
    }


def _size(specs: Iterable[TensorSpec]) -> int:
    return sum(spec.nbytes for spec in specs)


def _fisher(preparation: Preparation) -> Sequence[Checkpoint]:
    """The Fisher information that lies in files; raises `MissingNeed` where there is none at all."""
    task = preparation.task
    if "fisher" not in preparation.method.takes:
        return ()
    if preparation.needs.fisher_files:
        return preparation.needs.fisher_files
    if task is not None and task.has_training_data:
        return ()
    from .fisher.sources import from_optimizers

    return from_optimizers(preparation.family.parents)[0]


def _require_grams(preparation: Preparation) -> None:
    """Raise `MissingNeed` where the method wants Gram matrices, and there are none."""
    needs, task = preparation.needs, preparation.task
    from_task = task is not None and task.has_training_data
    if "grams" in preparation.method.takes and not needs.gram_files and not from_task:
        needs.grams(preparation)


def _reads(preparation: Preparation, everyone: Sequence[Checkpoint]) -> tuple[int, int]:
    """The bytes that are read of these checkpoints, and in how many passes at most."""
    total, most = 0, 1
    factors = {name: _passes(preparation, name) for name in preparation.family.merged}
    for name, spec in preparation.family.specs.items():
        passes = factors.get(name, 1)
        total += passes * spec.nbytes
        most = max(most, passes)
    own = _size(preparation.family.specs.values())
    # Other checkpoints may keep other dtypes: what is read of each is in proportion to its size.
    share = total / own if own else 0
    return round(share * sum(_size(it.specs.values()) for it in everyone)), most


def _passes(preparation: Preparation, name: str) -> int:
    """How often a tensor is read: a small one that is measured by itself is kept until merged."""
    passes = {"model": 0, "tensor": 0}
    for measure in _measures(preparation, name):
        passes[measure.scope] += measure.passes
    kept = passes["tensor"] and _held(preparation, name) <= HELD
    return passes["model"] + (1 if kept else 1 + passes["tensor"])


def _measures(preparation: Preparation, name: str) -> list[Measure]:
    values = preparation.choices.values(name)
    return [make(values) for make in preparation.method.measures.values()]


def _held(preparation: Preparation, name: str) -> int:
    """The bytes of a tensor in all checkpoints, as it is computed with."""
    spec = preparation.family.specs[name]
    count = len(preparation.family.parents) + (preparation.family.base is not None)
    return count * spec.numel * _wide(spec)


def _wide(spec: TensorSpec) -> int:
    return _FROM_HALF if spec.dtype.itemsize <= _HALF else _FROM_FULL


def _memory(preparation: Preparation, count: int) -> int:
    """Whole models where the method or a task wants them, else the pieces that are at work.

    `count` is how many things a piece is read of.
    """
    specs = preparation.family.specs
    if preparation.method.form == "model" or preparation.task is not None:
        return _BESIDE + (count + 2) * _size(specs.values())
    measured = [
        _held(preparation, name)
        for name in preparation.family.merged
        if any(it.scope == "tensor" for it in _measures(preparation, name))
    ]
    held = max((it for it in measured if it <= HELD), default=0)
    piece = SIZE
    if preparation.method.granularity == "tensor":
        piece = max((it.numel for it in specs.values()), default=0)
    at_once = min((2 * preparation.machine.threads + 1) * piece, sum(map(_numel, specs.values())))
    return _BESIDE + held + at_once * (count + 2) * max(map(_wide, specs.values()), default=0)


def _numel(spec: TensorSpec) -> int:
    return spec.numel
