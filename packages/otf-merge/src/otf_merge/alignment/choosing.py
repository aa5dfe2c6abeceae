"""Where the permutation spec comes from: names and shapes, the task's model, or a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..checkpoints.names import counterparts
from ..parents import Parent
from ..progress import unwatched
from .aligning import align as align_parents
from .chains import chain_spec
from .spec_file import read_spec
from .traced import confirm, traced_spec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..checkpoints.checkpoint import Checkpoint
    from ..progress import Progress
    from ..task import Task
    from .units import PermutationSpec

#: What stands for aligning by weights without a file.
BY_WEIGHTS = "weights"


def spec_for(parent: Parent, align: str = BY_WEIGHTS, task: Task | None = None) -> PermutationSpec:
    """What can be permuted in checkpoints like this one, under its names.

    `align` is `weights`: then it is read from the task's model where there is a task, and otherwise
    inferred from names and shapes, which works for plain chains of layers. Else it is the path of
    a file that says it (`read_spec`). With a task it is confirmed that a permuted model computes
    the same. Raises `InvalidInputs` where it cannot be told, with what to do instead.
    """
    if align != BY_WEIGHTS:
        spec = read_spec(Path(align), parent.specs)
        if task is not None:
            confirm(spec, task, parent.names)
        return spec
    if task is not None:
        return traced_spec(task, parent.names)
    return chain_spec(parent.specs)


def aligned_checkpoints(
    checkpoints: Sequence[Checkpoint],
    align: str = BY_WEIGHTS,
    task: Task | None = None,
    report: dict[str, Any] | None = None,
    progress: Progress = unwatched,
    base: Checkpoint | None = None,
) -> list[Checkpoint]:
    """The checkpoints with their hidden units in the order of the base's, or of the first one's.

    That one stays as it is. `align` is as in `spec_for`; what `aligning.align` reports goes into `report` as `alignment`.
    """
    first = checkpoints[0]
    parents = [Parent(it, counterparts(first.specs, it.specs)) for it in checkpoints]
    spec = spec_for(parents[0], align, task)
    reference = Parent(base, counterparts(first.specs, base.specs)) if base else None
    aligned, told = align_parents(parents, spec, reference=reference, progress=progress)
    if report is not None:
        report["alignment"] = told
    return [parent.checkpoint for parent in aligned]
