"""The permutation spec as a YAML file that a person writes.

    # Every tensor with its axes; axes with the same name are permuted together, ~ stays as it is.
    tensors:
      conv1.weight: [filters, ~, ~, ~]
      conv1.bias: [filters]
      norm1.weight: [filters]
      norm1.bias: [filters]
      # What is flattened has 49 positions of each filter side by side.
      fc.weight: [hidden, {units: filters, block: 49}]
      fc.bias: [hidden]
      # An axis of several runs: three projections in one matrix, whose heads of 16 move as wholes.
      # The first run of several must say how many units there are, unless an axis before did.
      attention.in_proj_weight:
        - [{units: heads, block: 16, size: 2}, {units: heads, block: 16}, {units: heads, block: 16}]
        - ~
      attention.out_proj.weight: [~, {units: heads, block: 16}]
      head.weight: [~, hidden]
      # Nothing moves in these.
      head.bias: ~
      positions: ~
    # Only where units stay within blocks: here the four groups of a GroupNorm, which may change
    # places as wholes.
    blocks:
      filters: {count: 4, movable: true}

A run that stays as it is, beside others on an axis, is `{size: 10}`. Every tensor of floating-point
numbers with a dimension must be listed, so that none is forgotten.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import InvalidInputs
from ..family import is_averaged
from .units import Axis, Part, PermutationSpec, Units

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import TypeGuard

    from ..checkpoints.checkpoint import TensorSpec

_SHOWN = 10


def read_spec(path: Path, specs: Mapping[str, TensorSpec]) -> PermutationSpec:
    """The spec that a file says, for a checkpoint with those tensors.

    Raises `InvalidInputs` where the file cannot be read, says something that has no meaning, or
    does not fit the tensors.
    """
    said = _loaded(path)
    tensors, blocks = said.get("tensors"), said.get("blocks") or {}
    if (
        not isinstance(tensors, dict)
        or not isinstance(blocks, dict)
        or set(said) - {"tensors", "blocks"}
    ):
        raise _refusal(path, "it must have `tensors`, and may have `blocks`")
    _require_all(path, tensors, specs)
    reader = _Reader(path)
    axes = {}
    for name, given in tensors.items():
        found = reader.axes(name, given, specs[name].shape)
        if any(part.units is not None for axis in found for part in axis):
            axes[name] = found
    units = {
        name: reader.units(name, size, blocks.get(name)) for name, size in reader.sizes.items()
    }
    if not units:
        raise _refusal(path, "no axis in it has a name, so nothing is permuted")
    for name in blocks:
        if name not in units:
            raise _refusal(path, f"`blocks` has `{name}`, and no axis has that name")
    return PermutationSpec(units, axes)


def _loaded(path: Path) -> dict[str, Any]:
    # Imported here because only this needs it.
    import yaml

    try:
        said = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputs(
            f"`{path}`, which should say how to align, cannot be read: {error}."
        ) from error
    except yaml.YAMLError as error:
        raise _refusal(path, f"it is no YAML ({' '.join(str(error).split())})") from error
    if not isinstance(said, dict):
        raise _refusal(path, "it must have `tensors`, and may have `blocks`")
    return said


def _require_all(path: Path, tensors: Mapping[str, Any], specs: Mapping[str, TensorSpec]) -> None:
    unknown = [name for name in tensors if name not in specs]
    if unknown:
        raise _refusal(path, f"the first checkpoint has no {_listed(unknown)}")
    needed = [name for name, it in specs.items() if it.shape and is_averaged(it.dtype)]
    missing = [name for name in needed if name not in tensors]
    if missing:
        raise _refusal(
            path, f"it says nothing of {_listed(missing)}. Where nothing moves, write `NAME: ~`"
        )


class _Reader:
    """Reads axes, and learns the size of each set of units from the first axis that has it."""

    def __init__(self, path: Path) -> None:
        self.sizes: dict[str, int] = {}
        self._path = path

    def axes(self, name: str, given: Any, shape: tuple[int, ...]) -> tuple[Axis, ...]:
        if given is None:
            given = [None] * len(shape)
        if not isinstance(given, list) or len(given) != len(shape):
            raise self._refusal(
                name, f"must be a list of {len(shape)} axes, one for each of {list(shape)}"
            )
        return tuple(self._axis(name, axis, size) for axis, size in zip(given, shape))

    def units(self, name: str, size: int, blocks: Any) -> Units:
        if blocks is None:
            return Units(size)
        if not isinstance(blocks, dict) or set(blocks) - {"count", "movable"}:
            raise _refusal(
                self._path, f"`blocks` of `{name}` must be like {{count: 4, movable: true}}"
            )
        count, movable = blocks.get("count"), blocks.get("movable", False)
        if not _is_count(count) or not isinstance(movable, bool) or size % count:
            raise _refusal(
                self._path, f"`blocks` of `{name}` must be a count that divides its {size} units"
            )
        return Units(size, count, movable)

    def _axis(self, name: str, given: Any, size: int) -> Axis:
        runs = given if isinstance(given, list) else [given]
        if runs == [None]:
            return (Part(None, size),)
        parts = [self._part(name, run, size if len(runs) == 1 else None) for run in runs]
        if sum(part.numel for part in parts) != size:
            told = sum(part.numel for part in parts)
            raise self._refusal(name, f"has an axis of {size}, and {told} are accounted for")
        return tuple(parts)

    def _part(self, name: str, run: Any, whole: int | None) -> Part:
        if isinstance(run, str):
            run = {"units": run}
        if not isinstance(run, dict) or set(run) - {"units", "block", "size"}:
            raise self._refusal(
                name, f"has {run!r}, which is no axis. Write a name, ~ or {{units: NAME, block: 4}}"
            )
        units, block, size = run.get("units"), run.get("block", 1), run.get("size")
        if units is None:
            if not _is_count(size) or "block" in run:
                raise self._refusal(name, "has a run without units and without {size: NUMBER}")
            return Part(None, size)
        if (
            not isinstance(units, str)
            or not _is_count(block)
            or not (size is None or _is_count(size))
        ):
            raise self._refusal(
                name, f"has {run!r}. Units have a name, blocks and sizes are counts"
            )
        if size is None:
            size = self.sizes.get(units) if whole is None else whole // block
        if size is None:
            raise self._refusal(
                name,
                f"has several runs, and the size of `{units}` is not known yet: add size: NUMBER",
            )
        if self.sizes.setdefault(units, size) != size or (
            whole is not None and size * block != whole
        ):
            raise self._refusal(
                name,
                f"has {size} of `{units}` where {self.sizes[units]} are expected, with blocks of {block}",
            )
        return Part(units, size, block)

    def _refusal(self, name: str, problem: str) -> InvalidInputs:
        return _refusal(self._path, f"`{name}` {problem}")


def _is_count(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _listed(names: list[str]) -> str:
    shown = ", ".join(f"`{name}`" for name in names[:_SHOWN])
    return f"{shown} and {len(names) - _SHOWN} more" if len(names) > _SHOWN else shown


def _refusal(path: Path, problem: str) -> InvalidInputs:
    return InvalidInputs(
        f"`{path}` does not say how to align: {problem}. The documentation of `--align` has an example."
    )
