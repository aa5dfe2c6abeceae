"""`.safetensors` files: read and written in pieces.

The file is a little-endian 64-bit length, a JSON header of that length, and the tensors' bytes.
The `safetensors` package reads and checks the header; the elements are read and written here, so
that a piece of a tensor at a time is in memory, and no NumPy is needed.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, BinaryIO

import torch
from safetensors import SafetensorError, safe_open

from ..errors import OutputRefused, UnreadableInput
from .checkpoint import RECORD_KEY, Checkpoint, TensorSpec
from .elements import ElementsFile, memory_of

if TYPE_CHECKING:
    from collections.abc import Mapping
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

    def __init__(
        self,
        path: Path,
        specs: Mapping[str, TensorSpec],
        offsets: Mapping[str, int],
        metadata: Mapping[str, str],
    ) -> None:
        super().__init__(path, specs)
        self.metadata = metadata
        self._offsets = offsets
        self._file = ElementsFile(path)

    def read(self, name: str, start: int = 0, stop: int | None = None) -> torch.Tensor:
        """Those elements of the tensor, flat, read from the file now."""
        dtype, _ = spec = self.specs[name]
        stop = spec.numel if stop is None else stop
        return self._file.read(self._offsets[name] + start * dtype.itemsize, dtype, stop - start)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def open_checkpoint(path: Path, key: str | None) -> SafetensorsFile:
    """Open a `.safetensors` file, reading no more than its header."""
    if key is not None:
        raise UnreadableInput(
            f"`{path}` has no key `{key}`: a safetensors file holds tensors and nothing "
            "else. Leave the key out."
        )
    try:
        # It checks that the header is well-formed and fits the file to the byte.
        with safe_open(str(path), framework="pt") as handle:
            metadata = dict(handle.metadata() or {})
    except SafetensorError as error:
        raise UnreadableInput(
            f"`{path}` is not a whole safetensors file ({error}). It may have been cut short while "
            "it was written or copied; save or copy it again."
        ) from error
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    specs = {name: _spec(path, name, entry) for name, entry in header.items()}
    offsets = {name: 8 + length + entry["data_offsets"][0] for name, entry in header.items()}
    return SafetensorsFile(path, specs, offsets, metadata)


def _spec(path: Path, name: str, entry: dict[str, Any]) -> TensorSpec:
    code = entry["dtype"]
    if code not in _DTYPES:
        raise UnreadableInput(
            f"`{path}` stores `{name}` as {code}, which cannot be merged. Convert that tensor to "
            f"one of {', '.join(_DTYPES)}."
        )
    return TensorSpec(_DTYPES[code], tuple(entry["shape"]))


def write(file: BinaryIO, contents: Contents) -> None:
    """Write a `.safetensors` file, with the merge's record in its metadata.

    Tied tensors are stored once each, since the format knows no shared memory: the names of a
    group but the first are left out, as its own `save_model` does.
    """
    tied = {name for group in contents.ties for name in group[1:]}
    # Wide dtypes first, as the safetensors package orders them: so each tensor is aligned.
    names = sorted(
        (name for name in contents.specs if name not in tied),
        key=lambda name: (-contents.specs[name].dtype.itemsize, name),
    )
    start = file.tell()
    encoded = _header(names, contents)
    file.write(encoded)
    file.writelines(memory_of(piece) for _, piece in contents.pieces(names))
    # Now the inputs' hashes are known, which were zeros of the same length before.
    contents.settle()
    file.seek(start)
    file.write(_header(names, contents, length=len(encoded)))


def _header(names: list[str], contents: Contents, length: int | None = None) -> bytes:
    """The length and the header; in a given length, the same that it had at first."""
    described: dict[str, Any] = {"format": "pt", RECORD_KEY: json.dumps(contents.record)}
    for first, *others in contents.ties:
        described.update(dict.fromkeys(others, first))
    header: dict[str, Any] = {"__metadata__": described}
    end = 0
    for name in names:
        spec = contents.specs[name]
        if spec.dtype not in _CODES:
            raise OutputRefused(
                f"A safetensors file cannot hold `{name}`, a tensor of {spec.dtype}. Name an "
                "output that ends in .pt instead."
            )
        begin, end = end, end + spec.nbytes
        header[name] = {
            "dtype": _CODES[spec.dtype],
            "shape": spec.shape,
            "data_offsets": [begin, end],
        }
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % _ALIGNMENT)
    if length is not None and 8 + len(encoded) != length:
        raise AssertionError("the record has changed its length while the file was written")
    return len(encoded).to_bytes(8, "little") + encoded
