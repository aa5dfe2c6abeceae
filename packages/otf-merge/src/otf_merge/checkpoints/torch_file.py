"""`.pt`, `.pth`, `.ckpt` and `.bin` files: state dicts, and whole checkpoints that hold one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from ..errors import UnreadableInput
from .checkpoint import Checkpoint, TensorSpec
from .elements import ElementsFile
from .gathering import strided
from .mapped import give_back
from .nestings import weights_in
from .torch_loading import gather_first, load, only_weights

if TYPE_CHECKING:
    from pathlib import Path

    from .nestings import Weights
    from .torch_loading import Loaded

# What modules keep beside tensors by `get_extra_state`, under names that end so.
_EXTRA_STATE = "_extra_state"


class TorchFile(Checkpoint):
    """An open file of `torch.save`.

    Where it is a zip archive, as since torch 1.6, nothing of it is in memory: contiguous tensors
    are read piece by piece, others looked at through a mapping whose pages are given back.
    """

    def __init__(self, path: Path, loaded: Loaded, weights: Weights) -> None:
        tensors, beside = _tensors(path, weights)
        super().__init__(
            path,
            {name: TensorSpec(it.dtype, tuple(it.shape)) for name, it in tensors.items()},
            nesting=weights.nesting,
            left_out=(*weights.left_out, *beside),
            ties=_ties(tensors),
        )
        self._loaded = loaded
        self._tensors = tensors
        self._file = ElementsFile(path)
        self._size = path.stat().st_size

    def read(self, name: str, start: int = 0, stop: int | None = None) -> torch.Tensor:
        """Those elements of the tensor, flat."""
        return self.elements(self._tensors[name], start, stop)

    def elements(
        self, tensor: torch.Tensor, start: int = 0, stop: int | None = None
    ) -> torch.Tensor:
        """Those elements of any tensor in the file, also of one that `extra` has, flat."""
        stop = tensor.numel() if stop is None else stop
        storage = tensor.untyped_storage()
        address, size = storage.data_ptr(), tensor.element_size()
        offset = self._loaded.storages.get(address)
        if offset is not None and _is_plain(tensor):
            begin = offset + (int(tensor.storage_offset()) + start) * size
            return self._file.read(begin, tensor.dtype, stop - start)
        if address not in self._loaded.storages:
            return strided(tensor, start, stop)
        # Memory that is mapped from beyond a file's end cannot be looked at.
        self._file.require_size(self._size)
        result = strided(tensor, start, stop)
        span = sum((n - 1) * step for n, step in zip(tensor.shape, tensor.stride())) + 1
        give_back(tensor.data_ptr(), span * size if tensor.numel() else 0)
        return result

    def extra(self, key: str) -> Any:
        """What else the file keeps under that key, its tensors mapped."""
        value = self._loaded.value
        return value.get(key) if self.nesting is not None else None

    def close(self) -> None:
        """Close the file; it is unmapped with the last of its tensors."""
        self._tensors.clear()
        self._file.close()


def open_checkpoint(path: Path, key: str | None) -> TorchFile:
    """Open a `torch.save` file: a state dict, or a dict with one under `key` or a usual name."""
    loaded = load(path)
    if not isinstance(loaded.value, Mapping):
        found = type(loaded.value).__name__
        raise only_weights(path, f"holds one {found} and no dict of tensors")
    return TorchFile(path, loaded, weights_in(path, loaded.value, key, _is_tensor))


def _is_tensor(value: Any) -> bool:
    return isinstance(value, torch.Tensor)


def _is_plain(tensor: torch.Tensor) -> bool:
    return tensor.is_contiguous() and not tensor.is_conj() and not tensor.is_neg()


def _tensors(path: Path, weights: Weights) -> tuple[dict[str, torch.Tensor], list[str]]:
    """The tensors, and the names of what modules keep beside them."""
    tensors, beside = {}, []
    for name, value in weights.values.items():
        if str(name).endswith(_EXTRA_STATE) and not _is_tensor(value):
            beside.append(f"{weights.nesting}.{name}" if weights.nesting else str(name))
            continue
        _require_dense(path, str(name), value)
        tensors[str(name)] = value.detach()
    return tensors, beside


def _require_dense(path: Path, name: str, value: Any) -> None:
    found = type(value)
    if not isinstance(value, torch.Tensor):
        raise only_weights(
            path, f"holds `{name}` among the weights, a {found.__name__} and no tensor"
        )
    if found.__name__ in ("DTensor", "ShardedTensor"):
        raise gather_first(path, f"holds `{name}`, a {found.__name__}, of which it has one part")
    if found not in (torch.Tensor, torch.nn.Parameter):
        raise UnreadableInput(
            f"`{path}` holds `{name}`, a {found.__name__}, which cannot be merged. Save it as a "
            "plain tensor, for example with `dequantize()` or `data.clone()`."
        )
    if value.layout is not torch.strided or value.is_quantized or value.is_nested:
        raise UnreadableInput(
            f"`{path}` holds `{name}`, a sparse or quantized tensor, which cannot be merged. "
            "Save it as a dense one, with `to_dense()` or `dequantize()`."
        )
    if value.is_meta:
        raise UnreadableInput(
            f"`{path}` holds `{name}`, a tensor on the meta device, which has no values. Give the "
            "model its weights before saving it."
        )


def _ties(tensors: Mapping[str, torch.Tensor]) -> list[tuple[str, ...]]:
    """The groups of names of the same memory; views that only overlap are no group."""
    groups: dict[tuple[object, ...], list[str]] = {}
    for name, it in tensors.items():
        if it.numel():
            place = (it.data_ptr(), it.dtype, it.shape, it.stride())
            groups.setdefault((*place, it.is_conj(), it.is_neg()), []).append(name)
    return [tuple(names) for names in groups.values() if len(names) > 1]
