"""What happened in some steps, bit by bit: recorded twice and compared, it proves exactness.

A trace is a list of entries in the order in which things happen: the batch that was read, the
generators before the step, each module's output, the loss, each gradient, each parameter, the
optimizer's state. The first entry in which two traces differ names what is not reproducible.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple

import torch

from . import randomness


class Entry(NamedTuple):
    """One thing that happened at a step, as a digest of its bits."""

    step: int
    what: str
    name: str
    digest: str


Trace = List[Entry]

_PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device)


class Difference(NamedTuple):
    """Where two traces part, in words, and what to do about it."""

    step: int
    what: str
    hint: str


def difference(first: Trace, second: Trace) -> Optional[Difference]:
    """The first entry in which two traces differ; None where they are the same."""
    for one, other in zip(first, second):
        if one != other:
            return _described(one, other)
    if len(first) != len(second):
        longer = max(first, second, key=len)
        return _described(longer[min(len(first), len(second))], None)
    return None


class Tracer:
    """Records the steps of one replay."""

    def __init__(self, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
        self.trace: Trace = []
        self._model = model
        self._optimizer = optimizer
        self._step = 0
        self._hooks: List[Any] = []

    def __enter__(self) -> Tracer:
        for name, module in self._model.named_modules():
            if next(module.children(), None) is None:
                self._hooks.append(module.register_forward_hook(self._output_of(name, module)))
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def before_step(self, step: int, indices: List[int], batch: Any) -> None:
        """The batch that was read for `step`, and the generators as they are now."""
        self._step = step
        if indices:
            self._add("indices", "", str(indices))
        self._add("batch", "", digest_of(batch))
        self._add("random", "", digest_of(randomness.as_plain(randomness.capture())))

    def after_step(self, loss: Any) -> None:
        """What the step came to."""
        self._add("loss", "", digest_of(loss))
        for name, parameter in self._model.named_parameters():
            if parameter.grad is not None:
                self._add("gradient", name, digest_of(parameter.grad))
        for name, tensor in self._model.state_dict().items():
            self._add("parameter", name, digest_of(tensor))
        self._add("optimizer", "", digest_of(self._optimizer.state_dict()))

    def after_scheduler(self) -> None:
        """The learning rates, once the scheduler was stepped."""
        rates = [group["lr"] for group in self._optimizer.param_groups]
        self._add("scheduler", "", digest_of(rates))

    def _output_of(self, name: str, module: torch.nn.Module) -> Callable[..., None]:
        what = f"{name} ({type(module).__name__})"

        def hook(module: torch.nn.Module, args: Any, output: Any) -> None:
            self._add("output", what, digest_of(output))

        return hook

    def _add(self, what: str, name: str, digest: str) -> None:
        self.trace.append(Entry(self._step, what, name, digest))


def digest_of(value: Any) -> str:
    """A digest of every bit of every tensor and plain value in `value`, with their shapes."""
    digest = hashlib.blake2b(digest_size=16)
    for path, leaf in _leaves(value, ""):
        digest.update(path.encode())
        if isinstance(leaf, torch.Tensor):
            digest.update(f"{leaf.dtype}{tuple(leaf.shape)}".encode())
            digest.update(_bytes_of(leaf))
        elif isinstance(leaf, _PLAIN):
            digest.update(repr(leaf).encode())
        else:
            # The words for an object of the script's own are its address: another one each time.
            digest.update(type(leaf).__qualname__.encode())
    return digest.hexdigest()


def _bytes_of(tensor: torch.Tensor) -> bytes:
    dense = tensor.detach() if tensor.layout is torch.strided else tensor.detach().to_dense()
    flat = dense.cpu().contiguous().reshape(-1)
    if not flat.numel():
        return b""
    # Viewed as bytes: NumPy knows no bfloat16.
    return bytes(flat.view(torch.uint8).numpy().tobytes())


def _leaves(value: Any, path: str) -> Iterator[Tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves(inner, f"{path}.{key}")
    elif isinstance(value, (list, tuple)):
        for number, inner in enumerate(value):
            yield from _leaves(inner, f"{path}.{number}")
    elif hasattr(value, "to_tuple"):
        yield from _leaves(value.to_tuple(), path)
    else:
        yield path, value


_HINTS: Dict[str, Tuple[str, str]] = {
    "indices": (
        "The sampler: it chose other samples.",
        (
            "A sampler that draws from a global generator while training draws from it too cannot be "
            "replayed. Draw the order when __iter__ begins, or give the sampler a generator of its own."
        ),
    ),
    "batch": (
        "A worker or the dataset: the same samples came with other contents.",
        (
            "Random transforms must draw from torch's, NumPy's or Python's global generators or from "
            "a generator that is an attribute of the dataset; persistent_workers=False."
        ),
    ),
    "random": (
        "The random state: a generator was in another state before the step.",
        (
            "Something draws from a generator outside the step: another thread, a callback, a loader "
            "that reads ahead."
        ),
    ),
    "output": (
        "An operator in the forward pass: {name} gave another output for the same input.",
        (
            "torch.use_deterministic_algorithms(True) names operators that have no deterministic form; "
            "a module that keeps a state of its own must keep it in a buffer."
        ),
    ),
    "loss": (
        "The loss function: it gave another value for the same outputs.",
        "A loss that draws at random must use torch's global generator.",
    ),
    "gradient": (
        "An operator in the backward pass: the gradient of {name} differs.",
        "torch.use_deterministic_algorithms(True), and on CUDA CUBLAS_WORKSPACE_CONFIG=:4096:8.",
    ),
    "parameter": (
        "The optimizer's step: {name} differs after the same gradient.",
        "An optimizer must keep all it remembers in its state_dict.",
    ),
    "optimizer": (
        "The optimizer's state differs after the same step.",
        "An optimizer must keep all it remembers in its state_dict.",
    ),
    "scheduler": (
        "The scheduler: it set another learning rate.",
        "A scheduler must keep all it remembers in its state_dict.",
    ),
}


def _described(one: Entry, other: Optional[Entry]) -> Difference:
    if other is not None and (one.what, one.name) != (other.what, other.name):
        return Difference(
            one.step,
            f"The steps took different ways: {one.what} {one.name} here, "
            f"{other.what} {other.name} there.",
            "The step depends on something that is not part of the state, such as the time, or a "
            "variable of the script's own.",
        )
    what, hint = _HINTS[one.what]
    return Difference(one.step, what.format(name=one.name), hint)
