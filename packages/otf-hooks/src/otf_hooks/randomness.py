"""The states of all random number generators a training loop draws from."""

from __future__ import annotations

import contextlib
import random
import sys
from typing import Any, Dict, Iterator

import torch


def capture() -> Dict[str, Any]:
    """The states of Python's, NumPy's and torch's generators, as those modules give them.

    NumPy's is left out where the script has not imported NumPy, CUDA's where CUDA is not in use.
    This is done at every epoch, so that making plain values of it is left to `as_plain`.
    """
    state: Dict[str, Any] = {"python": random.getstate(), "torch": torch.get_rng_state()}
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        state["numpy"] = numpy.random.get_state()
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def restore(state: Dict[str, Any]) -> None:
    """Set every generator in `state` back to where it was."""
    random.setstate(state["python"])
    torch.set_rng_state(state["torch"])
    numpy = sys.modules.get("numpy")
    if numpy is not None and "numpy" in state:
        numpy.random.set_state(state["numpy"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])


def are_same(one: Dict[str, Any], other: Dict[str, Any]) -> bool:
    """Whether two states that `capture` gave are the same, in what both have."""
    if one["python"] != other["python"] or not torch.equal(one["torch"], other["torch"]):
        return False
    if "numpy" in one and "numpy" in other:
        (_, keys, *rest), (_, other_keys, *other_rest) = one["numpy"], other["numpy"]
        if rest != other_rest or keys.tobytes() != other_keys.tobytes():
            return False
    both = zip(one.get("cuda", []), other.get("cuda", []))
    return all(torch.equal(first, second) for first, second in both)


def as_plain(state: Dict[str, Any]) -> Dict[str, Any]:
    """What `capture` gave, as tensors and plain values."""
    version, internal, gauss = state["python"]
    plain: Dict[str, Any] = {
        **state,
        "python": [version, torch.tensor(internal, dtype=torch.int64), gauss],
    }
    if "numpy" in state:
        name, keys, position, has_gauss, cached = state["numpy"]
        plain["numpy"] = [name, torch.from_numpy(keys.astype("int64")), position, has_gauss, cached]
    return plain


def from_plain(plain: Dict[str, Any]) -> Dict[str, Any]:
    """What `restore` takes, from tensors and plain values."""
    version, internal, gauss = plain["python"]
    state: Dict[str, Any] = {**plain, "python": (version, tuple(internal.tolist()), gauss)}
    if "numpy" in plain:
        name, keys, position, has_gauss, cached = plain["numpy"]
        state["numpy"] = (name, keys.numpy().astype("uint32"), position, has_gauss, cached)
    return state


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
