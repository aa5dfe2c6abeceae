"""Whether checkpoints are of one model, which is checked before any tensor is read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .checkpoints.names import counterparts
from .errors import InputsDiffer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import torch

    from .checkpoints.checkpoint import Checkpoint, TensorSpec

_SHOWN = 10


def matched_names(checkpoints: Sequence[Checkpoint]) -> list[dict[str, str]]:
    """For each checkpoint, what it calls each tensor of the first; all must have the same ones."""
    first = checkpoints[0]
    matches = [counterparts(first.specs, other.specs) for other in checkpoints]
    differences = [
        line
        for other, names in zip(checkpoints[1:], matches[1:])
        for line in _differences(first, other, names)
    ]
    if differences:
        shown = differences[:_SHOWN]
        if len(differences) > _SHOWN:
            shown.append(f"and {len(differences) - _SHOWN} more")
        raise InputsDiffer(
            "The checkpoints are not of one model, so they cannot be merged. They differ in:\n  "
            + "\n  ".join(shown)
            + "\nMerge checkpoints of the same architecture only."
        )
    return matches


def is_averaged(dtype: torch.dtype) -> bool:
    """Whether tensors of that dtype are merged; counters, indices and masks are not."""
    return dtype.is_floating_point or dtype.is_complex


def _differences(first: Checkpoint, other: Checkpoint, names: dict[str, str]) -> Iterator[str]:
    for name, spec in first.specs.items():
        if name not in names:
            yield f"`{name}`: only in {first.path}, not in {other.path}"
            continue
        other_spec = other.specs[names[name]]
        if spec.shape != other_spec.shape or _kind(spec) != _kind(other_spec):
            yield f"`{name}`: {_told(spec)} in {first.path}, {_told(other_spec)} in {other.path}"
    taken = set(names.values())
    for name in other.specs:
        if name not in taken:
            yield f"`{name}`: only in {other.path}, not in {first.path}"


def _kind(spec: TensorSpec) -> tuple[bool, bool]:
    return is_averaged(spec.dtype), spec.dtype.is_complex


def _told(spec: TensorSpec) -> str:
    dtype = str(spec.dtype).replace("torch.", "")
    return f"{dtype} of shape {list(spec.shape)}"
