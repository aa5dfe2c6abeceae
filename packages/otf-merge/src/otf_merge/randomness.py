"""Random numbers that are the same every time, and leave the program's own as they were."""

from __future__ import annotations

import contextlib
import random
import sys
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


@contextlib.contextmanager
def seeded(seed: int, *data: Iterable[Any]) -> Iterator[None]:
    """Inside, all generators start from the seed; afterwards they are as they were before.

    That holds for Python's, NumPy's and torch's own generators, and for those that the loaders
    `data` were given to shuffle by.
    """
    own = [generator for loader in data for generator in _generators(loader)]
    before = [(generator, generator.get_state()) for generator in own]
    shared = _captured()
    try:
        _seed(seed)
        for generator in own:
            generator.manual_seed(seed)
        yield
    finally:
        _restore(shared)
        for generator, state in before:
            generator.set_state(state)


def _generators(loader: Any) -> list[torch.Generator]:
    """The generators that a loader and its sampler hold, each once."""
    holders = (loader, getattr(loader, "sampler", None))
    found = [getattr(holder, "generator", None) for holder in holders]
    return list({id(it): it for it in found if isinstance(it, torch.Generator)}.values())


def _seed(seed: int) -> None:
    random.seed(seed)
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def _captured() -> dict[str, Any]:
    state: dict[str, Any] = {"python": random.getstate(), "torch": torch.get_rng_state()}
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        state["numpy"] = numpy.random.get_state()
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def _restore(state: dict[str, Any]) -> None:
    random.setstate(state["python"])
    torch.set_rng_state(state["torch"])
    if "numpy" in state:
        sys.modules["numpy"].random.set_state(state["numpy"])
    if "cuda" in state:
        torch.cuda.set_rng_state_all(state["cuda"])
