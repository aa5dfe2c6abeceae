"""Writing a merged model as a folder that `torch.distributed.checkpoint.load` reads."""

from __future__ import annotations

import json
import pickle
from typing import TYPE_CHECKING, Any

import torch

from ..errors import OutputRefused
from .carried import RECORD_FILE
from .distributed_metadata import METADATA_FILE
from .torch_writer import closing, write_tensor

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from .checkpoint import Contents, TensorSpec

# The first file of the first process, as torch names it.
_FILE = "__0_0.distcp"


def write_distributed(folder: Path, contents: Contents) -> None:
    """Write each tensor as one chunk, all in one file, with metadata in the form of this torch.

    Names are nested as in the first input. Names of one memory are one chunk.
    """
    if not torch.distributed.is_available():
        raise OutputRefused(
            "This build of torch has no `torch.distributed`, which the format is written with. "
            "Name an output that ends in .pt or .safetensors."
        )
    tied = {name: group[0] for group in contents.ties for name in group[1:]}
    names = [name for name in contents.specs if name not in tied]
    places: dict[str, tuple[int, int]] = {}
    with (folder / _FILE).open("xb") as file, closing(contents.pieces(names)) as pieces:
        for name in names:
            spec, offset = contents.specs[name], file.tell()
            size = write_tensor(file, spec, _of_one(pieces, spec))
            places[name] = offset, size
        if next(pieces, None) is not None:
            raise AssertionError("there are more pieces than the tensors have elements")
    everywhere = {name: places[tied.get(name, name)] for name in contents.specs}
    with (folder / METADATA_FILE).open("xb") as file:
        pickle.dump(_metadata(contents, everywhere), file)
    contents.settle()
    text = json.dumps(contents.record, indent=2, ensure_ascii=False)
    (folder / RECORD_FILE).write_text(text + "\n", encoding="utf-8")


def _of_one(pieces: Iterator[tuple[str, torch.Tensor]], spec: TensorSpec) -> Iterator[torch.Tensor]:
    left = spec.numel
    while left:
        _, piece = next(pieces)
        left -= len(piece)
        yield piece


def _metadata(contents: Contents, places: Mapping[str, tuple[int, int]]) -> Any:
    from torch.distributed.checkpoint.filesystem import _StorageInfo
    from torch.distributed.checkpoint.metadata import (
        ChunkStorageMetadata,
        Metadata,
        MetadataIndex,
        TensorProperties,
        TensorStorageMetadata,
    )

    outer = tuple(contents.nesting.split(".")) if contents.nesting else ()
    described: dict[str, Any] = {}
    stored: dict[Any, Any] = {}
    paths: dict[str, Any] = {}
    for name, (dtype, shape) in contents.specs.items():
        flat = ".".join((*outer, name))
        begin, size = torch.Size([0] * len(shape)), torch.Size(shape)
        chunk = ChunkStorageMetadata(offsets=begin, sizes=size)
        described[flat] = TensorStorageMetadata(TensorProperties(dtype=dtype), size, [chunk])
        stored[MetadataIndex(flat, begin)] = _StorageInfo(_FILE, *places[name])
        paths[flat] = (*outer, name)
    return Metadata(described, paths, stored)
