"""Folders that `torch.distributed.checkpoint` writes: tensors in chunks, over several files."""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import torch

from ..errors import UnreadableInput
from .byte_slice import ByteSlice
from .checkpoint import Checkpoint
from .distributed_metadata import METADATA_FILE, StoredTensor, read_metadata
from .elements import ElementsFile, memory_of
from .gathering import Chunk, assembled
from .nestings import Weights, weights_in
from .restricted_pickle import NotExpected, Stated, read_pickle
from .torch_loading import DAMAGE, damaged, refused
from .torch_writer import STORAGES
from .zip_records import NotAnArchive, records_of

if TYPE_CHECKING:
    from pathlib import Path

    from .distributed_metadata import Metadata, Place, StoredChunk

_REBUILD = "_rebuild_tensor_v2"
_DTYPES = {kind.__name__: dtype for dtype, kind in STORAGES.items()}
# Chunks that are laid out in an unusual way are loaded whole; so many stay in memory.
_KEPT = 2


class _Rebuilt(Stated):
    """Stands for a tensor that is made of a storage."""


_STAND_INS: dict[tuple[str, str], Any] = {
    ("torch._utils", _REBUILD): _Rebuilt,
    ("collections", "OrderedDict"): OrderedDict,
    **{("torch", name): name for name in _DTYPES},
}


class DistributedFolder(Checkpoint):
    """An open folder of `torch.distributed.checkpoint`.

    Each chunk is a small file of `torch.save` within a larger one. Where its elements lie in that
    is looked up when they are first needed; then they are read piece by piece.
    """

    def __init__(self, path: Path, metadata: Metadata, weights: Weights) -> None:
        tensors = {str(it): at for it, at in weights.values.items() if isinstance(at, StoredTensor)}
        beside = [it for it in weights.values if str(it) not in tensors]
        prefix = f"{weights.nesting}." if weights.nesting else ""
        files = {chunk.place.file for it in tensors.values() for chunk in it.chunks}
        super().__init__(
            path,
            {name: it.spec for name, it in tensors.items()},
            files=[path / METADATA_FILE, *(path / name for name in sorted(files))],
            nesting=weights.nesting,
            left_out=(*weights.left_out, *(f"{prefix}{it}" for it in beside)),
            ties=_ties(tensors),
        )
        self._metadata = metadata
        self._tensors = tensors
        self._files: dict[str, ElementsFile] = {}
        self._offsets: dict[Place, int | None] = {}
        self._whole: OrderedDict[Place, torch.Tensor] = OrderedDict()
        self._lock = threading.RLock()

    def read(self, name: str, start: int = 0, stop: int | None = None) -> torch.Tensor:
        """Those elements of the tensor, flat, put together from the chunks they are in."""
        return self._elements(self._tensors[name], start, stop)

    def extra(self, key: str) -> Any:
        """What else the folder keeps under that key, its tensors read into memory."""
        if self.nesting is None:
            return None
        found = _tree(self.path, self._metadata).get(key)
        return None if found is None else self._read_whole(found)

    def close(self) -> None:
        """Close the files."""
        self._whole.clear()
        for file in self._files.values():
            file.close()

    def _elements(
        self, tensor: StoredTensor, start: int = 0, stop: int | None = None
    ) -> torch.Tensor:
        dtype, shape = tensor.spec
        stop = tensor.spec.numel if stop is None else stop
        chunks = [self._chunk(it, dtype) for it in tensor.chunks]
        return assembled(shape, dtype, chunks, start, stop)

    def _chunk(self, stored: StoredChunk, dtype: torch.dtype) -> Chunk:
        def read(start: int, stop: int) -> torch.Tensor:
            offset = self._offset(stored, dtype)
            if offset is None:
                return self._loaded(stored, dtype)[start:stop]
            file = self._file(stored.place.file)
            return file.read(offset + start * dtype.itemsize, dtype, stop - start)

        return Chunk(stored.offsets, stored.sizes, read)

    def _offset(self, stored: StoredChunk, dtype: torch.dtype) -> int | None:
        """Where in its file the chunk's elements begin, if they lie there one after the other."""
        place = stored.place
        if place not in self._offsets:
            found = _storage(self._slice(place), stored.sizes, dtype)
            self._offsets[place] = None if found is None else place.offset + found
        return self._offsets[place]

    def _loaded(self, stored: StoredChunk, dtype: torch.dtype) -> torch.Tensor:
        with self._lock:
            if stored.place not in self._whole:
                found = self._saved(stored.place)
                if not isinstance(found, torch.Tensor) or (found.dtype, tuple(found.shape)) != (
                    dtype,
                    stored.sizes,
                ):
                    raise damaged(
                        self.path / stored.place.file, "a chunk is not what the metadata say"
                    )
                self._whole[stored.place] = found.resolve_conj().resolve_neg().reshape(-1)
                if len(self._whole) > _KEPT:
                    self._whole.popitem(last=False)
            return self._whole[stored.place]

    def _saved(self, place: Place) -> Any:
        """What was saved there, loaded whole."""
        content = self._file(place.file).read(place.offset, torch.uint8, place.size)
        try:
            file = io.BytesIO(memory_of(content))
            return torch.load(file, map_location="cpu", weights_only=True)
        except DAMAGE as error:
            raise refused(self.path / place.file, error) from error

    def _slice(self, place: Place) -> BinaryIO:
        part = ByteSlice(self._file(place.file), place.offset, place.size)
        return cast("BinaryIO", io.BufferedReader(part))

    def _file(self, name: str) -> ElementsFile:
        with self._lock:
            if name not in self._files:
                try:
                    self._files[name] = ElementsFile(self.path / name)
                except OSError as error:
                    raise UnreadableInput(
                        f"`{self.path / name}` cannot be read: {error.strerror or error}."
                    ) from error
            return self._files[name]

    def _read_whole(self, found: Any) -> Any:
        if isinstance(found, StoredTensor):
            return self._elements(found).reshape(found.spec.shape)
        if isinstance(found, Mapping):
            values = {key: self._read_whole(value) for key, value in found.items()}
            # Places in a list are numbers, keys of a dict are always text.
            is_list = bool(values) and all(isinstance(key, int) for key in values)
            return [values[key] for key in sorted(values)] if is_list else values
        return self._saved(found)


def is_distributed(folder: Path) -> bool:
    """Whether `torch.distributed.checkpoint` wrote that folder."""
    return (folder / METADATA_FILE).is_file()


def open_distributed(folder: Path, key: str | None) -> DistributedFolder:
    """Open a folder of `torch.distributed.checkpoint`, reading no more than its metadata."""
    metadata = read_metadata(folder)
    weights = weights_in(folder, _tree(folder, metadata), key, _is_tensor)
    opened = DistributedFolder(folder, metadata, weights)
    lacking = [file.name for file in opened.files if not file.is_file()]
    if lacking:
        raise UnreadableInput(
            f"`{folder}` lacks `{lacking[0]}`, which its metadata name. Copy the whole folder again."
        )
    return opened


def _is_tensor(value: Any) -> bool:
    return isinstance(value, StoredTensor)


def _tree(folder: Path, metadata: Metadata) -> dict[Any, Any]:
    """The nested dicts that were saved, with where each value is stored in its place."""
    tree: dict[Any, Any] = {}
    for name, value in (*metadata.tensors.items(), *metadata.others.items()):
        *outer, last = metadata.paths.get(name) or (name,)
        inner = tree
        for key in outer:
            inner = inner.setdefault(key, {})
            if not isinstance(inner, dict):
                raise damaged(folder / METADATA_FILE, f"{name} lies within another value")
        inner[last] = value
    return tree


def _storage(file: BinaryIO, sizes: tuple[int, ...], dtype: torch.dtype) -> int | None:
    """Where in a file of `torch.save` the elements of its one tensor begin.

    None where it is not such a tensor of that dtype and shape, its elements in order.
    """
    try:
        records = records_of(file)
        file.seek(records["data.pkl"].offset)
        pickled = io.BytesIO(file.read(records["data.pkl"].size))
        found = read_pickle(pickled, _STAND_INS, persistent=True)
        # Beyond these six a tensor has properties of its own, such as being a conjugate view.
        saved, begin, shape, strides, _, _ = found.arguments
        _, kind, key, _, _ = saved
        record = records[f"data/{key}"]
    except (NotAnArchive, NotExpected, LookupError, AttributeError, TypeError, ValueError):
        return None
    expected = (0, sizes, torch.empty(sizes, device="meta").stride())
    is_plain = record.stored and record.size == torch.Size(sizes).numel() * dtype.itemsize
    if not is_plain or (begin, shape, strides) != expected or _DTYPES.get(kind) != dtype:
        return None
    return record.offset


def _ties(tensors: Mapping[str, StoredTensor]) -> list[tuple[str, ...]]:
    """The groups of names whose tensors are stored in the same places."""
    groups: dict[StoredTensor, list[str]] = {}
    for name, tensor in tensors.items():
        if tensor.spec.numel:
            groups.setdefault(tensor, []).append(name)
    return [tuple(names) for names in groups.values() if len(names) > 1]
