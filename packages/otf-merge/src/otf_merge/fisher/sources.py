"""Where each checkpoint's Fisher information comes from, and in which unit it is handed on."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from ..checkpoints.checkpoint import TensorSpec
from ..checkpoints.names import counterparts
from ..errors import InvalidInputs, MissingNeed
from ..evaluation import model_with, names_between
from ..family import is_averaged
from ..progress import unwatched
from .diagonal import Diagonal, Part, precision
from .exact import Kind, exact_fisher
from .moments import second_moments

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from ..checkpoints.checkpoint import Checkpoint
    from ..parents import Parent
    from ..progress import Progress
    from ..task import Task

#: Where the Fisher information may come from; `auto` takes the first of the others that is there.
Source = Literal["auto", "file", "task", "optimizer"]

_NAMED = 5


@dataclass(frozen=True)
class FisherSources:
    """A diagonal for each checkpoint, to be read beside it under the first checkpoint's names.

    `report` says where they come from, in plain values; `warnings` what they do not cover.
    """

    diagonals: tuple[Diagonal, ...]
    report: dict[str, Any]
    warnings: list[str] = field(default_factory=list)


def fisher_sources(
    parents: Sequence[Parent],
    *,
    files: Sequence[Checkpoint] = (),
    task: Task | None = None,
    source: Source = "auto",
    kind: Kind = "true",
    samples: int = 256,
    seed: int = 0,
    normalize: bool = True,
    names: Collection[str] | None = None,
    progress: Progress = unwatched,
) -> FisherSources:
    """The Fisher diagonals of the parents: from files, from the task's data, or from optimizers.

    `files` are open checkpoints with the same names, one for each parent; `names` are the tensors
    that are merged, unless given all of floating point. `samples`, `kind` and `seed` are those of
    `exact_fisher`.

    With `normalize` each diagonal is in units of its own root mean square over the model, without
    it all are in units of one. A tensor that some diagonal lacks, such as a frozen one or a buffer,
    has an information of one in all of them, so that it is averaged by the weights; a warning names
    it. Raises `MissingNeed` where there is no Fisher information, with the ways to come by it.
    """
    if names is None:
        names = [name for name, spec in parents[0].specs.items() if is_averaged(spec.dtype)]
    chosen = _chosen(source, files, task)
    if chosen == "file":
        found, report = _from_files(parents, files)
    elif chosen == "task":
        found, report = _from_task(parents, task, kind, samples, seed, progress)
    else:
        found, report = _from_optimizers(parents, asked=source == "optimizer")
    found = [_with_ties(diagonal, parents[0]) for diagonal in found]
    covered = [it for it in names if all(it in diagonal.parts for diagonal in found)]
    _require_shapes(parents, found, covered)
    scaled = _scaled(parents, found, names, covered, normalize=normalize)
    return FisherSources(tuple(scaled), report, _warnings(names, covered))
