"""The states of all random number generators a training loop draws from."""

from __future__ import annotations

import contextlib
import random
import sys
from typing import Any, Dict, Iterator

import torch


def capture() -> Dict[str, Any]:
    """The states of Python's, NumPy's and torch's generators, as tensors and plain values.

    NumPy's is left out where the script has not imported NumPy, CUDA's where CUDA is not in use.
    """
    version, internal, gauss = random.getstate()
    state: Dict[str, Any] = {
        "python": [version, list(internal), gauss],
        "torch": torch.get_rng_state(),
    }
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        name, keys, position, has_gauss, cached = numpy.random.get_state()
        state["numpy"] = [name, torch.from_numpy(keys.astype("int64")), position, has_gauss, cached]
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def restore(state: Dict[str, Any]) -> None:
    """Set every generator in `state` back to where it was."""
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    torch.set_rng_state(state["torch"])
    numpy = sys.modules.get("numpy")
    if numpy is not None and "numpy" in state:
        name, keys, position, has_gauss, cached = state["numpy"]
        numpy.random.set_state((name, keys.numpy().astype("uint32"), position, has_gauss, cached))
    if "cuda" in state:
        torch.cuda.set_rng_state_all(state["cuda"])


@contextlib.contextmanager
def preserved() -> Iterator[None]:
    """Draw what you like inside: afterwards the generators are as they were before."""
    state = capture()
    try:
        yield
    finally:
        restore(state)


def seed_all(seed: int) -> None:
    """Seed Python's, NumPy's and torch's generators."""
    random.seed(seed)
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed(seed % 2**32)
    torch.manual_seed(seed)
