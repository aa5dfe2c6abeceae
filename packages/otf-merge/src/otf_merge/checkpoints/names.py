"""Tensor names, free of the prefixes that wrappers put before them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

# DataParallel, DistributedDataParallel and AveragedModel.
_WRAPPER = "module."
# torch.compile, FSDP and activation checkpointing, which may also wrap a part of a model and then
# stand inside the name.
_INSIDE = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")


def bare(name: str) -> str:
    """The name without what wrappers added to it."""
    for added in _INSIDE:
        name = name.replace(added, "")
    while name.startswith(_WRAPPER):
        name = name[len(_WRAPPER) :]
    return name


def counterparts(names: Collection[str], others: Collection[str]) -> dict[str, str]:
    """For each of `names` that has one, its counterpart among `others`.

    Names are compared as they are where that suffices. Prefixes of wrappers are set aside only
    where they differ, and only where no two names of one file become the same by it. Any other
    prefix that all names of one file begin with, as a module has that keeps its network in an
    attribute, is set aside where the names are the same ones without it.
    """
    if set(names) == set(others):
        return {name: name for name in names}
    own = {name: bare(name) for name in names}
    theirs = {bare(other): other for other in others}
    if len(set(own.values())) < len(own) or len(theirs) < len(others):
        return {name: name for name in names if name in set(others)}
    longer, shorter = _prefixes(set(own.values()), set(theirs))
    adapted = {name: longer + it[len(shorter) :] for name, it in own.items()}
    return {name: theirs[it] for name, it in adapted.items() if it in theirs}


def _prefixes(names: set[str], others: set[str]) -> tuple[str, str]:
    """The prefixes that all others begin with and all names do, where it is one that differs."""
    if names == others or len(names) != len(others):
        return "", ""
    for prefix in _candidates(others):
        if {prefix + name for name in names} == others:
            return prefix, ""
    for prefix in _candidates(names):
        if {prefix + other for other in others} == names:
            return "", prefix
    return "", ""


def _candidates(names: set[str]) -> list[str]:
    """The prefixes, whole parts with their dots, that all names begin with; the shortest first."""
    if not names:
        return []
    first, last = min(names), max(names)
    parts = first.split(".")[:-1]
    prefixes = [".".join(parts[:count]) + "." for count in range(1, len(parts) + 1)]
    return [prefix for prefix in prefixes if last.startswith(prefix)]
