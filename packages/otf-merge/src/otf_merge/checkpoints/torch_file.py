"""`.pt`, `.pth` and `.ckpt` files: what `torch.save` writes, read without running any code."""

from __future__ import annotations

import pickle
import re
import struct
import warnings
from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, BinaryIO

import torch

from ..errors import UnreadableInput
from .checkpoint import RECORD_KEY, Checkpoint, TensorSpec

if TYPE_CHECKING:
    from pathlib import Path

    from .checkpoint import Contents

NESTINGS = ("model", "state_dict", "model_state_dict", "model_state")

# How files of `torch.save` begin: a zip archive, or before torch 1.6 a pickled magic number.
_ZIP = b"PK\x03\x04"
_LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."

# What `torch.load` raises on damaged files, besides `UnpicklingError`, depending on where the
# damage lies.
_DAMAGE = (RuntimeError, OSError, EOFError, LookupError, ValueError, TypeError, struct.error)

_CONVERSION = (
    "If you trust the file, load it with the code that wrote it and save the weights alone: "
    '`torch.save(model.state_dict(), "weights.pt")`.'
)


class TorchFile(Checkpoint):
    """An open `torch.save` file."""

    def __init__(
        self,
        path: Path,
        tensors: dict[str, torch.Tensor],
        nesting: str | None,
        left_out: tuple[str, ...],
    ) -> None:
        specs = {name: TensorSpec(it.dtype, tuple(it.shape)) for name, it in tensors.items()}
        super().__init__(path, specs, nesting, left_out)
        self._tensors = tensors

    def read(self, name: str) -> torch.Tensor:
        """The tensor of that name, which is mapped from the file and not yet in memory."""
        return self._tensors[name]

    def close(self) -> None:
        """Drop the mapped tensors; the file is unmapped with the last of them."""
        self._tensors.clear()


def open_checkpoint(path: Path, key: str | None) -> TorchFile:
    """Open a `torch.save` file: a state dict, or a dict with one under `key` or a usual name."""
    loaded = _load(path)
    if not isinstance(loaded, Mapping):
        raise UnreadableInput(
            f"`{path}` holds one {type(loaded).__name__} and no dict of tensors. {_CONVERSION}"
        )
    if key is None:
        key = _nesting(path, loaded)
    if key is None:
        return TorchFile(path, _tensors(path, loaded), None, ())
    if not isinstance(loaded.get(key), Mapping):
        raise UnreadableInput(
            f"`{path}` has no dict of tensors under `{key}`. Its keys are: {_quoted(loaded)}."
        )
    left_out = tuple(str(other) for other in loaded if other not in (key, RECORD_KEY))
    return TorchFile(path, _tensors(path, loaded[key]), key, left_out)


def _load(path: Path) -> Any:
    with path.open("rb") as file:
        start = file.read(len(_LEGACY))
    is_zip = start.startswith(_ZIP)
    if not is_zip and start != _LEGACY:
        raise UnreadableInput(
            f"`{path}` was not written by `torch.save`. A plain pickle could run code, so it is "
            f"not read. {_CONVERSION}"
        )
    try:
        # torch warns about pickle protocols here; whether the file can be read is all we ask.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(str(path), map_location="cpu", weights_only=True, mmap=is_zip)
    except pickle.UnpicklingError as error:
        raise UnreadableInput(
            f"`{path}` holds Python objects that are not tensors{_culprit(error)}. Reading those "
            f"could run code, so they are not read. {_CONVERSION}"
        ) from error
    except _DAMAGE as error:
        reason = str(error).partition("\n")[0]
        raise UnreadableInput(
            f"`{path}` is damaged ({reason}). It may have been cut short while it was written or "
            "copied; save or copy it again."
        ) from error


def _culprit(error: pickle.UnpicklingError) -> str:
    """What the file wanted to import, where torch's message tells."""
    found = re.search(r"(?:GLOBAL|class) ([\w.]+\.\w+)", str(error))
    return f", among them `{found[1]}`" if found else ""


def _nesting(path: Path, loaded: Mapping[Any, Any]) -> str | None:
    """The key under which the state dict lies, or None where the file is the state dict."""
    found = [key for key in NESTINGS if isinstance(loaded.get(key), Mapping)]
    if len(found) > 1:
        raise UnreadableInput(
            f"`{path}` holds several dicts that may be the weights: {_quoted(found)}. Say which "
            f"one with `--key`, for example `--key {found[0]}`."
        )
    if found:
        return found[0]
    if not any(isinstance(value, torch.Tensor) for value in loaded.values()):
        raise UnreadableInput(
            f"`{path}` holds no tensors at its top and none of {_quoted(NESTINGS)}. Its keys are: "
            f"{_quoted(loaded) or 'none'}. Say with `--key` which of them holds the weights."
        )
    return None


def _tensors(path: Path, state: Mapping[Any, Any]) -> dict[str, torch.Tensor]:
    for name, value in state.items():
        if not isinstance(value, torch.Tensor):
            raise UnreadableInput(
                f"`{path}` holds `{name}` among the weights, a {type(value).__name__} and no "
                f"tensor. {_CONVERSION}"
            )
        if value.layout is not torch.strided or value.is_quantized:
            raise UnreadableInput(
                f"`{path}` holds `{name}`, a sparse or quantized tensor, which cannot be merged. "
                "Save it as a dense one, with `to_dense()` or `dequantize()`."
            )
    return {str(name): value.detach() for name, value in state.items()}


def _quoted(keys: Any) -> str:
    return ", ".join(f"`{key}`" for key in keys)


def write(file: BinaryIO, contents: Contents) -> None:
    """Write a `torch.save` file, nested as the first input was, with the merge's record.

    A bare state dict stays one that `load_state_dict` takes as it is, so there the record is an
    attribute of the dict, which `torch.save` keeps.
    """
    state = OrderedDict((name, contents.produce(name)) for name in contents.specs)
    record = dict(contents.record)
    if contents.nesting is None:
        setattr(state, RECORD_KEY, record)
        torch.save(state, file)
    else:
        torch.save({contents.nesting: state, RECORD_KEY: record}, file)
