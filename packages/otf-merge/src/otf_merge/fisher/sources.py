"""Where each checkpoint's Fisher information comes from, and in which unit it is handed on."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from ..alignment.aligned import in_order_of
from ..checkpoints.checkpoint import TensorSpec
from ..errors import InvalidInputs, MissingNeed
from ..evaluation import model_with, names_between, names_in
from ..family import is_averaged
from ..progress import part_of, unwatched
from .diagonal import Diagonal, Part, precision
from .exact import Kind, exact_fisher
from .moments import Moments, second_moments

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
    if source == "file" or (source == "auto" and files):
        found, report = _from_files(parents, files)
    elif task is not None and (source == "task" or (source == "auto" and task.has_training_data)):
        found, report = _from_task(parents, task, (kind, samples, seed), progress)
    elif source == "task":
        raise MissingNeed(
            "The Fisher information was to be computed from the task's data, and there is no task. "
            "Give it with --task module:function, or leave out source=task."
        )
    else:
        found, report = from_optimizers(parents)
    found = [_with_ties(diagonal, parents[0]) for diagonal in found]
    covered = [name for name in names if all(name in diagonal.parts for diagonal in found)]
    _require_shapes(parents[0], found, covered)
    scales = _scales(parents, found, covered, progress, normalize=normalize)
    even = _even(parents[0], [name for name in names if name not in set(covered)])
    scaled = [diagonal.scaled(scale, even) for diagonal, scale in zip(found, scales)]
    return FisherSources(tuple(scaled), report, [_told_of(even)] if even else [])


# The three ways


def _from_files(
    parents: Sequence[Parent], files: Sequence[Checkpoint]
) -> tuple[list[Diagonal], dict[str, Any]]:
    if len(files) != len(parents):
        raise InvalidInputs(
            f"There are {len(parents)} checkpoints and {len(files)} files of Fisher information. "
            "Give one for each checkpoint, in their order."
        )
    found = []
    for parent, file in zip(parents, files):
        ours = names_between(list(file.specs), list(parents[0].names))
        if not ours:
            raise InvalidInputs(
                f"`{file.path}` has none of the tensors of `{parent.label}`. A file of Fisher "
                "information holds tensors of the same names and shapes as the weights."
            )
        ordered = in_order_of(parent, file, {name: own for own, name in ours.items()})
        parts = {
            name: Part.stored_in(ordered, own)
            for own, name in ours.items()
            if file.specs[own].dtype.is_floating_point
        }
        found.append(Diagonal(file.path, parts))
    return found, {"source": "file", "files": [file.path.name for file in files]}


def _from_task(
    parents: Sequence[Parent],
    task: Task,
    chosen: tuple[Kind, int, int],
    progress: Progress,
) -> tuple[list[Diagonal], dict[str, Any]]:
    kind, samples, seed = chosen
    found, counts, reasons = [], [], set()
    for place, parent in enumerate(parents):
        state = dict(parent.tensors())
        model = model_with(task, state)
        data = task.data_of(place, len(parents))
        watched = part_of(progress, place, len(parents))
        exact = exact_fisher(model, data, task, samples, kind, seed, watched)
        theirs = names_in(model, state)
        parts = {theirs[it]: Part.of(tensor) for it, tensor in exact.diagonal.items()}
        found.append(Diagonal(parent.checkpoint.path, parts))
        counts.append(exact.samples)
        reasons.add(exact.one_by_one)
    report: dict[str, Any] = {"source": "task", "kind": kind, "samples": counts}
    if any(reasons):
        report["one_by_one"] = "; ".join(sorted(reasons - {""}))
    return found, report


def from_optimizers(parents: Sequence[Parent]) -> tuple[list[Diagonal], dict[str, Any]]:
    """What the checkpoints' own optimizers know, before anything of it is read; and a report.

    Raises `MissingNeed` where a checkpoint has no optimizer's state.
    """
    moments: list[Moments] = []
    without = []
    for parent in parents:
        found = second_moments(parent)
        if found is None:
            without.append(parent.label)
        else:
            moments.append(found)
    if without:
        raise MissingNeed(
            "Fisher merging needs to know how much each weight matters, and there is nothing to "
            f"tell it for {_listed(without)}. There are three ways: --fisher FILES, one for each "
            "checkpoint, with tensors of the same names; --task module:function, to compute it from "
            "data; or training checkpoints that hold the state of an optimizer such as Adam, whose "
            "second moments then stand for it."
        )
    report = {"source": "optimizer", "optimizers": [it.optimizer for it in moments]}
    return [it.diagonal for it in moments], report


# One unit, and what is not covered


def _with_ties(diagonal: Diagonal, first: Parent) -> Diagonal:
    """The diagonal with the same information under every name of a tensor."""
    parts = dict(diagonal.parts)
    ours = {own: name for name, own in first.names.items()}
    for group in first.checkpoint.ties:
        names = [ours[own] for own in group if own in ours]
        known = next((parts[name] for name in names if name in parts), None)
        if known is not None:
            for name in names:
                parts.setdefault(name, known)
    return Diagonal(diagonal.path, parts)


def _require_shapes(first: Parent, found: Sequence[Diagonal], covered: Collection[str]) -> None:
    for diagonal in found:
        for name in covered:
            shape, wanted = diagonal.specs[name].shape, first.specs[name].shape
            if shape != wanted:
                raise InvalidInputs(
                    f"The Fisher information of `{name}` from `{diagonal.path.name}` has the shape "
                    f"{list(shape)}, and the tensor has {list(wanted)}. It has one number for each "
                    "weight: give that of the same model."
                )


def _scales(
    parents: Sequence[Parent],
    found: Sequence[Diagonal],
    covered: Collection[str],
    progress: Progress,
    *,
    normalize: bool,
) -> list[float]:
    """What each diagonal is divided by: its root mean square, or that of all together."""
    total = sum(diagonal.specs[name].nbytes for diagonal in found for name in covered)
    done = 0

    def told(nbytes: int) -> None:
        nonlocal done
        done += nbytes
        progress(done, total, "bytes")

    squares = [diagonal.mean_square(covered, told) for diagonal in found]
    for parent, square in zip(parents, squares):
        if not square:
            raise InvalidInputs(
                f"The Fisher information of `{parent.label}` is zero everywhere, so that it says "
                "nothing. Where a task is given, look whether its outputs depend on the weights, or "
                "take kind=true or more samples."
            )
    roots = [math.sqrt(square) for square in squares]
    if normalize:
        return roots
    return [math.sqrt(sum(squares) / len(squares))] * len(roots)


def _even(first: Parent, names: Collection[str]) -> dict[str, TensorSpec]:
    return {
        name: TensorSpec(precision(first.specs[name].dtype), first.specs[name].shape)
        for name in names
        if name in first.specs
    }


def _told_of(even: Mapping[str, TensorSpec]) -> str:
    return (
        f"{len(even)} tensor{'s have' if len(even) > 1 else ' has'} no Fisher information in every "
        f"checkpoint, as is the case of frozen parameters and buffers, and "
        f"{'were' if len(even) > 1 else 'was'} averaged by the weights: {_listed(list(even))}."
    )


def _listed(names: Sequence[str]) -> str:
    shown = [f"`{name}`" for name in names[:_NAMED]]
    if len(names) > _NAMED:
        shown.append(f"and {len(names) - _NAMED} more")
    return ", ".join(shown)
