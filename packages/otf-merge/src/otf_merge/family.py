"""Whether checkpoints are of one model, and what is to be done with each of its tensors.

All of that is settled by names, dtypes and shapes, before any element is read.
"""

from __future__ import annotations

import enum
import fnmatch
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .checkpoints.names import counterparts
from .errors import InputsDiffer, InvalidInputs
from .parents import Parent

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import torch

    from .checkpoints.checkpoint import Checkpoint, TensorSpec

_SHOWN = 10
_RUNNING_STATISTICS = ("running_mean", "running_var")
_COUNTER = "num_batches_tracked"


class Rule(enum.Enum):
    """What becomes of a tensor."""

    MERGE = "merged by the method"
    KEEP = "kept: whole numbers and truth values are never averaged"
    COUNT = "the greatest count of all checkpoints"
    COPY = "taken from the first checkpoint that has it, as asked by --skip"
    AVERAGE = "averaged over the checkpoints that have it"


@dataclass(frozen=True)
class Family:
    """Checkpoints of one model, and the base that they come from, if there is one.

    `specs` are the tensors of the result, named and typed as in the first checkpoint; `rules` says
    what is done with each. `ties` are the names that share one memory in every checkpoint.
    """

    parents: tuple[Parent, ...]
    base: Parent | None
    specs: Mapping[str, TensorSpec]
    rules: Mapping[str, Rule]
    ties: tuple[tuple[str, ...], ...] = ()

    @property
    def merged(self) -> list[str]:
        """The names that the method merges, those that share memory with an earlier one left out."""
        tied = {name for group in self.ties for name in group[1:]}
        return [it for it, rule in self.rules.items() if rule is Rule.MERGE and it not in tied]

    def under(self, rule: Rule) -> list[str]:
        """The names that fall under that rule."""
        return [name for name, found in self.rules.items() if found is rule]

    def holders(self, name: str) -> list[int]:
        """The places of the parents that have that tensor."""
        return [i for i, parent in enumerate(self.parents) if name in parent.names]

    def statistics(self) -> list[str]:
        """The normalisation layers whose running statistics are merged like weights."""
        return sorted(
            {
                name.rpartition(".")[0]
                for name in self.merged
                if name.rpartition(".")[2] in _RUNNING_STATISTICS
            }
        )


def family_of(
    checkpoints: Sequence[Checkpoint],
    base: Checkpoint | None = None,
    *,
    skip: Sequence[str] = (),
    allow_missing: bool = False,
    any_shapes: bool = False,
) -> Family:
    """Match the checkpoints' names and settle what is done with each tensor.

    Tensors whose names match one of the patterns `skip` may differ in shape. With `allow_missing`
    a tensor need not be in all of them. With `any_shapes` nothing is compared: the method does so.
    Raises `InputsDiffer`, with the first ten differences, where they are not of one model.
    """
    parents = _parents(checkpoints, allow_missing=allow_missing or any_shapes)
    ancestor = _ancestor(parents[0], base) if base else None
    specs: dict[str, TensorSpec] = {}
    for parent in parents:
        for name, spec in parent.specs.items():
            specs.setdefault(name, spec)
    skipped = {name for name in specs if any(fnmatch.fnmatchcase(name, it) for it in skip)}
    _require_matches(skip, specs)
    if not any_shapes:
        _require_one_model(parents, ancestor, checkpoints, skipped, allow_missing=allow_missing)
    rules = {
        name: _rule(name, spec, parents, ancestor, skipped=name in skipped)
        for name, spec in specs.items()
    }
    return Family(parents, ancestor, specs, rules, _ties(parents, rules))


def is_averaged(dtype: torch.dtype) -> bool:
    """Whether tensors of that dtype are merged; counters, indices and masks are not."""
    return dtype.is_floating_point or dtype.is_complex


def _parents(checkpoints: Sequence[Checkpoint], *, allow_missing: bool) -> tuple[Parent, ...]:
    first = checkpoints[0]
    parents = []
    for other in checkpoints:
        names = counterparts(first.specs, other.specs)
        if allow_missing:
            taken = set(names.values())
            names.update({name: name for name in other.specs if name not in taken})
        parents.append(Parent(other, names))
    return tuple(parents)


def _ancestor(first: Parent, base: Checkpoint) -> Parent:
    return Parent(base, counterparts(first.names, base.specs))


def _rule(
    name: str,
    spec: TensorSpec,
    parents: Sequence[Parent],
    base: Parent | None,
    *,
    skipped: bool,
) -> Rule:
    if skipped:
        return Rule.COPY
    if not is_averaged(spec.dtype):
        return Rule.COUNT if name.endswith(_COUNTER) else Rule.KEEP
    everywhere = [*parents, base] if base else parents
    return Rule.MERGE if all(name in it.names for it in everywhere) else Rule.AVERAGE


def _ties(parents: Sequence[Parent], rules: Mapping[str, Rule]) -> tuple[tuple[str, ...], ...]:
    """The groups of names that share one memory in every parent, under the first one's names."""
    first, *others = [_own_ties(parent) for parent in parents]
    kept = []
    for group in first:
        together = set(group)
        for theirs in others:
            together &= max(theirs, key=lambda other: len(other & group), default=set())
        tied = [name for name in rules if name in together]
        if len(tied) > 1 and len({rules[name] for name in tied}) == 1:
            kept.append(tuple(tied))
    return tuple(kept)


def _own_ties(parent: Parent) -> list[set[str]]:
    own = {theirs: name for name, theirs in parent.names.items()}
    return [{own[it] for it in group if it in own} for group in parent.checkpoint.ties]


def _require_matches(patterns: Sequence[str], names: Iterable[str]) -> None:
    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(name, pattern) for name in names):
            raise InvalidInputs(
                f"No tensor's name matches `--skip {pattern}`. A pattern is compared with whole "
                "names, where * stands for anything, for example `classifier.*`."
            )


def _require_one_model(
    parents: Sequence[Parent],
    base: Parent | None,
    checkpoints: Sequence[Checkpoint],
    skipped: set[str],
    *,
    allow_missing: bool,
) -> None:
    others = [*parents[1:], base] if base else parents[1:]
    differences = [
        line
        for other in others
        for line in _differences(parents[0], other, skipped, allow_missing=allow_missing)
    ]
    if not differences:
        return
    shown = differences[:_SHOWN]
    if len(differences) > _SHOWN:
        shown.append(f"and {len(differences) - _SHOWN} more")
    raise InputsDiffer(
        "The checkpoints are not of one model, so they cannot be merged. They differ in:\n  "
        + "\n  ".join(shown)
        + "\nMerge checkpoints of the same architecture only. Where a tensor is meant to differ, "
        "leave it out with --skip NAME; where it is meant to be missing, say --allow-missing."
    )


def _differences(
    first: Parent, other: Parent, skipped: set[str], *, allow_missing: bool
) -> Iterator[str]:
    ours, theirs = first.checkpoint.path, other.checkpoint.path
    specs, other_specs = first.specs, other.specs
    for name, spec in specs.items():
        if name in skipped:
            continue
        if name not in other_specs:
            if not allow_missing:
                yield f"`{name}`: only in {ours}, not in {theirs}"
            continue
        found = other_specs[name]
        if spec.shape != found.shape or _kind(spec) != _kind(found):
            yield f"`{name}`: {_told(spec)} in {ours}, {_told(found)} in {theirs}"
    if allow_missing:
        return
    taken = set(other.names.values())
    for name in other.checkpoint.specs:
        if name not in taken and name not in skipped:
            yield f"`{name}`: only in {theirs}, not in {ours}"


def _kind(spec: TensorSpec) -> tuple[bool, bool]:
    return is_averaged(spec.dtype), spec.dtype.is_complex


def _told(spec: TensorSpec) -> str:
    dtype = str(spec.dtype).replace("torch.", "")
    return f"{dtype} of shape {list(spec.shape)}"
