"""What a loader draws from and remembers, beside the global generators.

Its generators, and those of its sampler and dataset; what samplers and iterable datasets that a
script wrote keep in plain attributes (an epoch, a cursor, a shuffled list); what offers
`state_dict` and `load_state_dict` says it itself. The classes of `torch.utils.data` remember nothing
but their generators.
"""

from __future__ import annotations

import contextlib
import random
from typing import Any, Dict, Iterator, List, Tuple

import torch
from torch.utils.data import Dataset, IterableDataset, Sampler

from .loaders import Loader

#: What may hold a part of the order, on the way from the loader inwards.
_INWARDS = (
    "batch_sampler",
    "sampler",
    "dataset",
    "base_sampler",
    "data_source",
    "datasets",
    "base_dataloader",
)
_DEEPEST = 5
#: Numbers in a list, or in an array, that is taken along as what a sampler remembers: this is done
#: at every epoch. What is larger is data.
_LONGEST = 2_000_000
_PLAIN = (bool, int, float, str, type(None))


def capture(loader: Loader) -> Dict[str, Any]:
    """The states of all sources, by their paths from the loader; tensors and plain values."""
    return {path: state for path, part in _parts(loader) for state in _states(part) if state}


def restore(loader: Loader, states: Dict[str, Any]) -> List[str]:
    """Put the sources back; those that are no longer there, as sentences."""
    parts = dict(_parts(loader))
    for path, state in states.items():
        if path in parts:
            _restore(parts[path], state)
    return missing(loader, states)


@contextlib.contextmanager
def preserved(loader: Loader) -> Iterator[None]:
    """Draw what you like inside: the loader's generators are afterwards as they were before."""
    states = [
        (part, state)
        for _, part in _parts(loader)
        if isinstance(part, _GENERATORS) or _is_numpy_generator(part)
        for state in _states(part)
    ]
    try:
        yield
    finally:
        for part, state in states:
            _restore(part, state)


def missing(loader: Loader, states: Dict[str, Any]) -> List[str]:
    """The sources that were written down and are not there now, as sentences."""
    parts = dict(_parts(loader))
    return [
        f"train_loader{path} was drawn from when the checkpoint was made, and is not there now."
        for path in states
        if path not in parts
    ]


def findings(loader: Loader) -> List[str]:
    """What cannot be put back, known beforehand, as sentences."""
    found = []
    if hasattr(loader, "__next__"):
        found.append(
            f"train_loader is a {type(loader).__name__}, which can be read only once: going back "
            "cannot be exact. Make it a class with __iter__, or a list."
        )
    for path, part in _parts(loader):
        if _keeps_state(part):
            continue
        for name, value in _attributes(part).items():
            if part is loader and name == "_iterator":
                # Its own, in the midst of an epoch: the loader is started again instead.
                continue
            # A file, a stream, a generator under way: read once, and gone.
            if hasattr(value, "__next__"):
                found.append(
                    f"train_loader{path}.{name} is a {type(value).__name__}, which can be read "
                    "only once: going back cannot be exact. Open it in __iter__, or give the "
                    "class state_dict and load_state_dict."
                )
    return found


def _parts(loader: Loader) -> Iterator[Tuple[str, Any]]:
    """The loader and what it is made of, each once, with its path."""
    seen = set()
    waiting: List[Tuple[str, Any, int]] = [("", loader, 0)]
    while waiting:
        path, part, depth = waiting.pop(0)
        if id(part) in seen:
            continue
        seen.add(id(part))
        yield path, part
        if depth < _DEEPEST and not isinstance(part, _GENERATORS):
            waiting += [(f"{path}.{name}", inner, depth + 1) for name, inner in _inside(part)]


def _inside(part: Any) -> Iterator[Tuple[str, Any]]:
    for name, value in _attributes(part).items():
        if (
            isinstance(value, _GENERATORS)
            or _is_numpy_generator(value)
            or name in _INWARDS
            or isinstance(value, (Sampler, Dataset))
        ):
            yield name, value
        if name == "datasets" and isinstance(value, (list, tuple)):
            yield from ((f"{name}.{number}", item) for number, item in enumerate(value))


def _attributes(part: Any) -> Dict[str, Any]:
    return getattr(part, "__dict__", None) or {}


_GENERATORS = (torch.Generator, random.Random)


def _is_numpy_generator(value: Any) -> bool:
    kind = type(value)
    return kind.__module__.startswith("numpy.random") and kind.__name__ in (
        "Generator",
        "RandomState",
    )


def _keeps_state(part: Any) -> bool:
    is_source = isinstance(part, (Sampler, Dataset))
    return is_source and all(
        callable(getattr(part, name, None)) for name in ("state_dict", "load_state_dict")
    )


def _remembers(part: Any) -> bool:
    """Whether it is a sampler or an iterable dataset that a script wrote."""
    written = not type(part).__module__.startswith("torch.utils.data")
    is_sampler = isinstance(part, Sampler) or (
        hasattr(part, "__iter__") and not hasattr(part, "__getitem__") and hasattr(part, "__dict__")
    )
    return written and (is_sampler or isinstance(part, IterableDataset))


def _states(part: Any) -> Iterator[Dict[str, Any]]:
    if isinstance(part, torch.Generator):
        yield {"torch": part.get_state()}
    elif isinstance(part, random.Random):
        version, internal, gauss = part.getstate()
        yield {"python": [version, torch.tensor(internal, dtype=torch.int64), gauss]}
    elif _is_numpy_generator(part):
        yield {"numpy": _numpy_state(part)}
    elif _keeps_state(part):
        yield {"state_dict": part.state_dict()}
    elif _remembers(part):
        yield {"attributes": _memory(part)}
    elif isinstance(part, Sampler) and "epoch" in _attributes(part):
        # torch's own DistributedSampler.
        yield {"attributes": {"epoch": _attributes(part)["epoch"]}}


def _memory(part: Any) -> Dict[str, Any]:
    memory: Dict[str, Any] = {}
    for name, value in _attributes(part).items():
        if isinstance(value, _PLAIN):
            memory[name] = value
        elif isinstance(value, torch.Tensor):
            if value.numel() <= _LONGEST:
                memory[name] = value.clone()
        elif type(value).__module__ == "numpy" and hasattr(value, "__array__"):
            if value.size <= _LONGEST and value.dtype.kind in "biuf":
                # Older versions of torch have no unsigned types beyond 8 bits.
                is_unsigned = value.dtype.kind == "u"
                memory[name] = value.astype("int64") if is_unsigned else value.copy()
        elif type(value) is list and len(value) <= _LONGEST and _are_integers(value):
            memory[name] = torch.tensor(value, dtype=torch.int64)
    return memory


def _are_integers(values: List[Any]) -> bool:
    return all(type(value) is int and abs(value) < 2**63 for value in values)


def _restore(part: Any, state: Dict[str, Any]) -> None:
    if "torch" in state:
        part.set_state(state["torch"])
    elif "python" in state:
        version, internal, gauss = state["python"]
        part.setstate((version, tuple(internal.tolist()), gauss))
    elif "numpy" in state:
        _restore_numpy(part, state["numpy"])
    elif "state_dict" in state:
        part.load_state_dict(state["state_dict"])
    else:
        for name, value in state["attributes"].items():
            _restore_attribute(part, name, value)


def _restore_attribute(part: Any, name: str, value: Any) -> None:
    now: Any = _attributes(part).get(name)
    if type(now) is list and isinstance(value, torch.Tensor):
        # In place: others may hold the same list.
        now[:] = value.tolist()
    elif isinstance(now, torch.Tensor):
        setattr(part, name, value.clone())
    elif type(now).__module__ == "numpy" and hasattr(now, "__array__"):
        array = value.numpy() if isinstance(value, torch.Tensor) else value
        setattr(part, name, array.astype(now.dtype).copy())
    elif now != value:
        setattr(part, name, value)


def _numpy_state(generator: Any) -> Any:
    if hasattr(generator, "bit_generator"):
        return _plain_numpy(generator.bit_generator.state)
    return _plain_numpy(generator.get_state(legacy=False))


def _restore_numpy(generator: Any, state: Any) -> None:
    found = _numpy_arrays(state)
    if hasattr(generator, "bit_generator"):
        generator.bit_generator.state = found
    else:
        generator.set_state(found)


def _plain_numpy(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain_numpy(inner) for key, inner in value.items()}
    if hasattr(value, "__array__"):
        # As its own bytes: a 32 bit key has no torch type in older versions.
        raw = torch.frombuffer(bytearray(value.tobytes()), dtype=torch.uint8)
        return {"bytes": raw, "dtype": str(value.dtype)}
    return value


def _numpy_arrays(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if value.keys() == {"bytes", "dtype"}:
        import numpy as np

        return np.frombuffer(value["bytes"].numpy().tobytes(), dtype=value["dtype"]).copy()
    return {key: _numpy_arrays(inner) for key, inner in value.items()}
