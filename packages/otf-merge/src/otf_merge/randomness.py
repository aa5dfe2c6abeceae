"""Random numbers that are the same every time, and leave the program's own as they were."""

from __future__ import annotations

import contextlib
import math
import random
import sys
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from torch import Tensor


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


def ones_with_chance(chance: float, shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """A tensor of that shape of ones, each with that chance and by itself, and zeros: int16."""
    # Drawing is what takes the time, so each number gets a quarter of 64 drawn bits.
    count, sides, device = math.prod(shape), 1 << 16, generator.device
    words = torch.empty(-(-count // 4), dtype=torch.int64, device=device)
    dice = words.random_(-(1 << 63), None, generator=generator).view(torch.int16)[:count]
    # How many of the sides are ones is drawn too: so the chance is the one that was asked for, not
    # the nearest that these bits can tell.
    ones, rest = divmod(chance * sides, 1)
    ones += float(torch.rand(1, generator=generator, device=device)) < rest
    if ones >= sides:
        return torch.ones_like(dice).reshape(tuple(shape))
    return dice.lt_(int(ones) - sides // 2).reshape(tuple(shape))


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
