"""`.safetensors` files: read tensor by tensor, and written tensor by tensor.

The file is a little-endian 64-bit length, a JSON header of that length, and the tensors' bytes.
Writing it here, and not with the `safetensors` package, keeps a single merged tensor in memory
instead of the whole model, and needs no NumPy.
"""

from __future__ import annotations

import ctypes
import json
import math
from typing import TYPE_CHECKING, Any, BinaryIO

import torch
from safetensors import SafetensorError, safe_open

from ..errors import OutputRefused, UnreadableInput
from .checkpoint import RECORD_KEY, Checkpoint, TensorSpec

if TYPE_CHECKING:
    from pathlib import Path

    from .checkpoint import Contents

_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "C64": torch.complex64,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_CODES = {dtype: code for code, dtype in _DTYPES.items()}
_ALIGNMENT = 8


class SafetensorsFile(Checkpoint):
    """An open `.safetensors` file."""

    def __init__(self, path: Path, handle: Any, specs: dict[str, TensorSpec]) -> None:
        super().__init__(path, specs)
        self._handle = handle

    def read(self, name: str) -> torch.Tensor:
        """The tensor of that name, read from the file now."""
        tensor: torch.Tensor = self._handle.get_tensor(name)
        return tensor

    def close(self) -> None:
        """Unmap the file."""
        self._handle.__exit__(None, None, None)


def open_checkpoint(path: Path, key: str | None) -> SafetensorsFile:
    """Open a `.safetensors` file, reading no more than its header."""
    if key is not None:
        raise UnreadableInput(
            f"`{path}` has no key `{key}`: a safetensors file holds tensors and nothing "
            "else. Leave the key out."
        )
    try:
        handle: Any = safe_open(str(path), framework="pt")
    except SafetensorError as error:
        raise UnreadableInput(
            f"`{path}` is not a whole safetensors file ({error}). It may have been cut short while "
            "it was written or copied; save or copy it again."
        ) from error
    specs = {name: _spec(path, handle, name) for name in list(handle.keys())}
    return SafetensorsFile(path, handle, specs)


def _spec(path: Path, handle: Any, name: str) -> TensorSpec:
    stored = handle.get_slice(name)
    code = stored.get_dtype()
    if code not in _DTYPES:
        raise UnreadableInput(
            f"`{path}` stores `{name}` as {code}, which cannot be merged. Convert that tensor to "
            f"one of {', '.join(_DTYPES)}."
        )
    return TensorSpec(_DTYPES[code], tuple(stored.get_shape()))


def write(file: BinaryIO, contents: Contents) -> None:
    """Write a `.safetensors` file, with the merge's record in its metadata."""
    # Wide dtypes first, as the safetensors package orders them: so each tensor is aligned.
    names = sorted(contents.specs, key=lambda name: (-contents.specs[name].dtype.itemsize, name))
    header: dict[str, Any] = {
        "__metadata__": {"format": "pt", RECORD_KEY: json.dumps(contents.record)}
    }
    end = 0
    for name in names:
        dtype, shape = contents.specs[name]
        if dtype not in _CODES:
            raise OutputRefused(
                f"A safetensors file cannot hold `{name}`, a tensor of {dtype}. Name an output "
                "that ends in .pt instead."
            )
        start, end = end, end + dtype.itemsize * math.prod(shape)
        header[name] = {"dtype": _CODES[dtype], "shape": shape, "data_offsets": [start, end]}
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % _ALIGNMENT)
    file.write(len(encoded).to_bytes(8, "little"))
    file.write(encoded)
    for name in names:
        _write_bytes(file, contents.produce(name).contiguous())


def _write_bytes(file: BinaryIO, tensor: torch.Tensor) -> None:
    size = tensor.numel() * tensor.element_size()
    if size:
        file.write((ctypes.c_ubyte * size).from_address(tensor.data_ptr()))
