"""The result of a merge as a file or folder, with the record of how it was made."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import package_version
from .checkpoints.checkpoint import Contents
from .checkpoints.destination import default_output, default_outputs, destination
from .preparing import prepared
from .recipe import anonymous, recipe_of
from .record import Inputs, effective

if TYPE_CHECKING:
    from .checkpoints.destination import Destination
    from .hashing import Hashing
    from .preparing import Preparation
    from .progress import Progress
    from .request import Machine, Request


@dataclass(frozen=True)
class Written:
    """What came of a merge into a file or folder.

    `parameters` are those that were used, with `weights` as shares of 1 unless one is negative.
    `report` says what was found out and decided on the way, in plain values.
    """

    output: Path
    inputs: list[Path]
    method: str
    parameters: dict[str, Any]
    tensors: int
    warnings: list[str]
    report: dict[str, Any] = field(default_factory=dict)


def write(
    request: Request,
    output: str | os.PathLike[str] | None,
    machine: Machine,
    *,
    force: bool,
    shard_size: int | None,
    sync: bool,
    hashing: Hashing | None,
    progress: Progress,
) -> Written:
    """Merge and write; nothing is left behind where either fails."""
    if hashing is not None:
        hashing.begin(request.files)
    place = None if output is None else destination(output, force=force)
    outputs = [place.path] if place else default_outputs()
    with prepared(request, machine, outputs, progress) as preparation:
        if place is None:
            place = destination(default_output(preparation.checkpoints[0]), force=force)
        tensors = _write(preparation, place, shard_size, hashing, sync=sync)
    return Written(
        output=place.path,
        inputs=[checkpoint.path for checkpoint in preparation.checkpoints],
        method=preparation.method.name,
        parameters=used(preparation),
        tensors=tensors,
        warnings=preparation.warnings,
        report=preparation.report,
    )


def used(preparation: Preparation) -> dict[str, Any]:
    """The parameters that are used, with weights as shares of 1 unless one is negative."""
    parameters = dict(preparation.choices.given)
    if preparation.method.takes_weights:
        parameters["weights"] = effective(preparation.choices.own_weights)
    return parameters


def _write(
    preparation: Preparation,
    place: Destination,
    shard_size: int | None,
    hashing: Hashing | None,
    *,
    sync: bool,
) -> int:
    """Write it, and say how many tensors that were."""
    first = preparation.checkpoints[0]
    for note in place.notes(first):
        preparation.warn(note)
    bases = [preparation.base] if preparation.base else []
    inputs = Inputs([*preparation.checkpoints, *bases], hashing)
    merged = preparation.final()
    place.require_room(merged.specs, merged.ties)
    contents = Contents(
        merged.specs,
        merged.stream,
        _record(preparation, inputs),
        first.nesting,
        merged.ties,
        inputs.settle,
    )
    config = preparation.report.get("adapter_config")
    place.write(contents, first, shard_size=shard_size, config=config, sync=sync)
    return len(merged.specs)


def _record(preparation: Preparation, inputs: Inputs) -> dict[str, Any]:
    count = len(preparation.checkpoints)
    record: dict[str, Any] = {
        "version": package_version(),
        "method": preparation.method.name,
        "parameters": used(preparation),
        "inputs": inputs.entries[:count],
        "recipe": anonymous(recipe_of(preparation)),
    }
    if preparation.base:
        record["base"] = inputs.entries[count]
    return record
