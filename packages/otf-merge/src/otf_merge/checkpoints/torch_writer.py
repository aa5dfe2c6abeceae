"""Files of `torch.save`, written piece by piece, so that the model is never whole in memory.

Such a file is a zip archive: one record for each storage, and `data.pkl`, a pickle that says how
tensors are made of them. `torch.load` finds records by their names, so the pickle may be the last
one: what the merge's record says is known only then.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import pickle
import sys
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, BinaryIO, Callable, cast

import torch
from torch._utils import _rebuild_tensor_v2, _rebuild_tensor_v3

from .checkpoint import RECORD_KEY
from .elements import memory_of
from .nestings import nested
from .zip_writer import ZipWriter

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Sequence

    from .checkpoint import Contents, TensorSpec

_FOLDER = "archive"

#: dtypes that torch has a class of storages for; the others are saved with untyped storages.
STORAGES = {
    torch.float64: torch.DoubleStorage,
    torch.float32: torch.FloatStorage,
    torch.float16: torch.HalfStorage,
    torch.bfloat16: torch.BFloat16Storage,
    torch.complex128: torch.ComplexDoubleStorage,
    torch.complex64: torch.ComplexFloatStorage,
    torch.int64: torch.LongStorage,
    torch.int32: torch.IntStorage,
    torch.int16: torch.ShortStorage,
    torch.int8: torch.CharStorage,
    torch.uint8: torch.ByteStorage,
    torch.bool: torch.BoolStorage,
}


def write(file: BinaryIO, contents: Contents) -> None:
    """Write a `torch.save` file, nested as the first input was, with the merge's record.

    A bare state dict stays one that `load_state_dict` takes as it is, so there the record is an
    attribute of the dict, which `torch.save` keeps too.
    """
    tied = {name: group[0] for group in contents.ties for name in group[1:]}
    names = [name for name in contents.specs if name not in tied]
    keys = {name: str(number) for number, name in enumerate(names)}
    tensors = {name: _Tensor(contents.specs[name], keys[name]) for name in names}

    def saved() -> Any:
        contents.settle()
        state = OrderedDict((name, tensors[tied.get(name, name)]) for name in contents.specs)
        if contents.nesting is None:
            setattr(state, RECORD_KEY, dict(contents.record))
            return state
        return {**nested(contents.nesting, state), RECORD_KEY: dict(contents.record)}

    specs = [(keys[name], contents.specs[name]) for name in names]
    with closing(contents.pieces(names)) as pieces:
        _write_archive(file, specs, (piece for _, piece in pieces), saved)


def write_tensor(file: BinaryIO, spec: TensorSpec, pieces: Iterable[torch.Tensor]) -> int:
    """Write one tensor as a file of its own that begins where `file` stands; its size in bytes."""
    start = file.tell()
    _write_archive(file, [("0", spec)], iter(pieces), lambda: _Tensor(spec, "0"))
    return file.tell() - start


@contextlib.contextmanager
def closing(
    pieces: Iterator[tuple[str, torch.Tensor]],
) -> Iterator[Iterator[tuple[str, torch.Tensor]]]:
    """The stream, whose threads are ended with the block, whether or not it was read to its end."""
    try:
        yield pieces
    finally:
        cast("Generator[Any, None, None]", pieces).close()


class _Storage:
    """Stands for a storage, which the pickle only names."""

    def __init__(self, spec: TensorSpec, key: str) -> None:
        kind = STORAGES.get(spec.dtype)
        size = spec.numel if kind else spec.nbytes
        self.named = ("storage", kind or torch.UntypedStorage, key, "cpu", size)


class _Tensor:
    """Stands for a contiguous tensor that fills its storage, and is pickled as torch pickles it."""

    def __init__(self, spec: TensorSpec, key: str) -> None:
        self._spec = spec
        self._storage = _Storage(spec, key)

    def __reduce__(self) -> tuple[Any, ...]:
        dtype, shape = self._spec
        hooks: OrderedDict[str, Any] = OrderedDict()
        arguments = (self._storage, 0, tuple(shape), _strides(shape), False, hooks)
        if dtype in STORAGES:
            return _rebuild_tensor_v2, arguments
        return _rebuild_tensor_v3, (*arguments, dtype)


class _Pickler(pickle.Pickler):
    def persistent_id(self, obj: Any) -> Any:
        return obj.named if isinstance(obj, _Storage) else None


def _write_archive(
    file: BinaryIO,
    specs: Sequence[tuple[str, TensorSpec]],
    pieces: Iterator[torch.Tensor],
    saved: Callable[[], Any],
) -> None:
    archive = ZipWriter(file)
    archive.add(f"{_FOLDER}/byteorder", sys.byteorder.encode())
    archive.add(f"{_FOLDER}/version", b"3\n")
    for key, spec in specs:
        with archive.record(f"{_FOLDER}/data/{key}", spec.nbytes) as write_bytes:
            left = spec.numel
            while left:
                piece = next(pieces)
                write_bytes(memory_of(piece))
                left -= len(piece)
    if next(pieces, None) is not None:
        raise AssertionError("there are more pieces than the tensors have elements")
    pickled = io.BytesIO()
    _Pickler(pickled, protocol=2).dump(saved())
    archive.add(f"{_FOLDER}/data.pkl", pickled.getvalue())
    archive.add(f"{_FOLDER}/.data/serialization_id", _identity(archive))
    archive.finish()


def _identity(archive: ZipWriter) -> bytes:
    """Forty digits that tell what is in the archive, as torch has them in its own."""
    digest = hashlib.sha256(repr(archive.checksums).encode()).hexdigest()
    return str(int(digest, 16))[:40].zfill(40).encode()


def _strides(shape: Sequence[int]) -> tuple[int, ...]:
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step)
        step *= max(size, 1)
    return tuple(reversed(strides))
