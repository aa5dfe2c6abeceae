"""Tensor names, free of the prefixes that wrappers put before them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

# DataParallel, DistributedDataParallel and AveragedModel; torch.compile, which may also wrap a
# part of a model and then stands inside the name.
_WRAPPER = "module."
_COMPILED = "_orig_mod."


def bare(name: str) -> str:
    """The name without what wrappers added to it."""
    name = name.replace(_COMPILED, "")
    while name.startswith(_WRAPPER):
        name = name[len(_WRAPPER) :]
    return name


def counterparts(names: Collection[str], others: Collection[str]) -> dict[str, str]:
    """For each of `names` that has one, its counterpart among `others`.

    Names are compared as they are where that suffices. Prefixes are set aside only where they
    differ, and only where no two names of one file become the same by it.
    """
    if set(names) == set(others):
        return {name: name for name in names}
    bare_names = {bare(name) for name in names}
    by_bare_name = {bare(other): other for other in others}
    if len(bare_names) < len(names) or len(by_bare_name) < len(others):
        return {name: name for name in names if name in set(others)}
    return {name: by_bare_name[bare(name)] for name in names if bare(name) in by_bare_name}
