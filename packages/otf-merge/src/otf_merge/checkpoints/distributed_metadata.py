"""The `.metadata` of folders that `torch.distributed.checkpoint` writes.

It is a pickle, and one can be made to run code when it is read. So it is read with stand-ins for
the few classes that belong in it, from torch 2.2 on, and everything taken from it is checked.
"""

from __future__ import annotations

import itertools
import math
from collections import OrderedDict
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import torch

from ..errors import UnreadableInput
from .checkpoint import TensorSpec
from .restricted_pickle import NotExpected, Stated, read_pickle

METADATA_FILE = ".metadata"

_CHECKPOINT = "torch.distributed.checkpoint"


class _Tensor(Stated):
    """Stands for TensorStorageMetadata."""


class _Bytes(Stated):
    """Stands for BytesStorageMetadata."""


class _Size(Stated):
    """Stands for torch.Size."""


_STAND_INS: dict[tuple[str, str], Any] = {
    (f"{_CHECKPOINT}.metadata", "Metadata"): Stated,
    (f"{_CHECKPOINT}.metadata", "TensorStorageMetadata"): _Tensor,
    (f"{_CHECKPOINT}.metadata", "BytesStorageMetadata"): _Bytes,
    (f"{_CHECKPOINT}.metadata", "ChunkStorageMetadata"): Stated,
    (f"{_CHECKPOINT}.metadata", "MetadataIndex"): Stated,
    (f"{_CHECKPOINT}.metadata", "TensorProperties"): Stated,
    (f"{_CHECKPOINT}.metadata", "StorageMeta"): Stated,
    (f"{_CHECKPOINT}.metadata", "_MEM_FORMAT_ENCODING"): Stated,
    (f"{_CHECKPOINT}.filesystem", "_StorageInfo"): Stated,
    ("torch.distributed._shard.sharded_tensor.metadata", "TensorProperties"): Stated,
    ("torch.distributed._shard.sharded_tensor.metadata", "MEM_FORMAT_ENCODING"): Stated,
    ("torch.serialization", "_get_layout"): Stated,
    ("torch", "Size"): _Size,
    ("collections", "OrderedDict"): OrderedDict,
    **{
        (module, f"{kind}Path"): Stated
        for module in ("pathlib", "pathlib._local")
        for kind in ("", "Posix", "Windows", "PurePosix", "PureWindows")
    },
    **{
        ("torch", name): name
        for name in dir(torch)
        if isinstance(getattr(torch, name), torch.dtype)
    },
}


class Place(NamedTuple):
    """Where bytes lie: in which file of the folder, from which offset, and how many."""

    file: str
    offset: int
    size: int


class StoredChunk(NamedTuple):
    """A box of a tensor and where the file of `torch.save` lies that holds it."""

    offsets: tuple[int, ...]
    sizes: tuple[int, ...]
    place: Place


class StoredTensor(NamedTuple):
    """A tensor and the chunks that make it up."""

    spec: TensorSpec
    chunks: tuple[StoredChunk, ...]


class Metadata(NamedTuple):
    """What a folder holds, by flat name: tensors, and other values as pickled bytes.

    `paths` says under which keys of nested dicts each name was.
    """

    tensors: dict[str, StoredTensor]
    others: dict[str, Place]
    paths: dict[str, tuple[Any, ...]]


def read_metadata(folder: Path) -> Metadata:
    """What the folder's metadata say; raises `UnreadableInput` where they are not as they must be."""
    path = folder / METADATA_FILE
    try:
        with path.open("rb") as file:
            found = read_pickle(file, _STAND_INS)
        return _metadata(found)
    except NotExpected as error:
        if error.name is not None:
            raise UnreadableInput(
                f"`{path}` wants to import `{error.name}`, which does not belong in the metadata "
                "of a distributed checkpoint. Reading it could run code, so it is not read. If "
                "you trust the folder, convert it with "
                "`torch.distributed.checkpoint.format_utils.dcp_to_torch_save`."
            ) from error
        raise UnreadableInput(
            f"`{path}` is damaged ({error}). It may have been cut short while it was written or "
            "copied; save or copy the folder again."
        ) from error


def _metadata(found: Any) -> Metadata:
    _require(isinstance(found, Stated), "it holds no metadata")
    described, stored = found.field("state_dict_metadata"), found.field("storage_data")
    _require(isinstance(described, dict) and isinstance(stored, dict), "it describes no tensors")
    places = {_index(key): _place(info) for key, info in stored.items()}
    tensors, others = {}, {}
    for name, value in described.items():
        _require(isinstance(name, str), "a name is no text")
        if isinstance(value, _Tensor):
            tensors[name] = _tensor(name, value, places)
        elif isinstance(value, _Bytes) and (name, None) in places:
            others[name] = places[name, None]
    paths = found.field("planner_data")
    nested = isinstance(paths, dict) and all(isinstance(it, tuple) for it in paths.values())
    return Metadata(tensors, others, dict(paths) if nested else {})


def _index(key: Any) -> tuple[str, tuple[int, ...] | None]:
    _require(isinstance(key, Stated) and isinstance(key.field("fqn"), str), "a place has no name")
    offset = key.field("offset")
    return key.field("fqn"), None if offset is None else _numbers(offset)


def _place(info: Any) -> Place:
    _require(isinstance(info, Stated), "a place is none")
    file, offset, size = (info.field(it) for it in ("relative_path", "offset", "length"))
    _require(isinstance(file, str) and _is_inside(file), f"it names the file {file!r}")
    _require(all(type(it) is int and it >= 0 for it in (offset, size)), "a place has no offset")
    transforms = info.field("transform_descriptors")
    _require(not transforms, f"its tensors are stored with {transforms}, which is not supported")
    return Place(file, offset, size)


def _tensor(name: str, value: _Tensor, places: dict[Any, Place]) -> StoredTensor:
    properties, chunks = value.field("properties"), value.field("chunks")
    # The state is the dtype, the layout, whether it requires gradients, and two more.
    state = properties.state if isinstance(properties, Stated) else None
    _require(isinstance(state, tuple) and isinstance(chunks, list), f"{name} has no chunks")
    dtype = getattr(torch, state[0], None) if state and isinstance(state[0], str) else None
    if not isinstance(dtype, torch.dtype):
        raise NotExpected(f"{name} has no dtype")
    shape = _numbers(value.field("size"))
    found = {}
    for chunk in chunks:
        _require(isinstance(chunk, Stated), f"{name} has a chunk that is none")
        offsets, sizes = _numbers(chunk.field("offsets")), _numbers(chunk.field("sizes"))
        if not math.prod(sizes):
            continue
        _require((name, offsets) in places, f"a part of {name} is nowhere stored")
        found[offsets] = StoredChunk(offsets, sizes, places[name, offsets])
    whole = tuple(found.values())
    _require(_fill(shape, whole), f"the parts of {name} do not make up a tensor of {list(shape)}")
    return StoredTensor(TensorSpec(dtype, shape), whole)


def _fill(shape: tuple[int, ...], chunks: tuple[StoredChunk, ...]) -> bool:
    """Whether the boxes cover the shape, each of its elements once."""
    for chunk in chunks:
        if len(chunk.offsets) != len(shape) or len(chunk.sizes) != len(shape):
            return False
        if any(o + n > whole for o, n, whole in zip(chunk.offsets, chunk.sizes, shape)):
            return False
    if sum(math.prod(chunk.sizes) for chunk in chunks) != math.prod(shape):
        return False
    # Sorted by where they begin in the first dimension, those that overlap are near each other.
    ordered = sorted(chunks, key=lambda chunk: chunk.offsets)
    for at, chunk in enumerate(ordered):
        for other in itertools.islice(ordered, at + 1, None):
            if other.offsets[:1] >= tuple(sum(it) for it in zip(chunk.offsets, chunk.sizes))[:1]:
                break
            if _overlap(chunk, other):
                return False
    return True


def _overlap(chunk: StoredChunk, other: StoredChunk) -> bool:
    return all(
        a < b + m and b < a + n
        for a, n, b, m in zip(chunk.offsets, chunk.sizes, other.offsets, other.sizes)
    )


def _numbers(size: Any) -> tuple[int, ...]:
    numbers = size.arguments[0] if isinstance(size, _Size) and size.arguments else size
    numbers = () if isinstance(numbers, _Size) else numbers
    _require(
        isinstance(numbers, (tuple, list)) and all(type(it) is int and it >= 0 for it in numbers),
        "a size is none",
    )
    return tuple(numbers)


def _is_inside(file: str) -> bool:
    path = PurePosixPath(file)
    return bool(file) and not path.is_absolute() and ".." not in path.parts and "\\" not in file


def _require(holds: bool, reason: str) -> None:
    if not holds:
        raise NotExpected(reason)
