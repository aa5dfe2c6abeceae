"""Writing a merged model as a folder of weights: in the first input's layout, or in new shards."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

from ..errors import OutputRefused
from . import safetensors_file, torch_writer
from .carried import RECORD_FILE, carry, dtype_changes, read_json
from .weights_folder import ADAPTER_CONFIG, INDEX, WeightsFolder

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from .checkpoint import Checkpoint, Contents, TensorSpec

_MODEL = "model.safetensors"


def write_folder(
    folder: Path,
    contents: Contents,
    first: Checkpoint,
    *,
    shard_size: int | None = None,
    config: Mapping[str, Any] | None = None,
) -> None:
    """Write the weights, their index, the record and the files of the first input beside them.

    `shard_size` is the most bytes of tensors in a file, unless one tensor has more. `config` has
    values to change in the configuration, such as the rank of an adapter.
    """
    layout = _layout(contents, first, shard_size)
    for file, names in layout.items():
        _write_part(folder / file, contents, names)
    _write_index(folder, contents, first, layout)
    contents.settle()
    _write_json(folder / RECORD_FILE, contents.record)
    if isinstance(first, WeightsFolder):
        carry(first.carried, folder, _changes(contents, first, config or {}))


def _layout(contents: Contents, first: Checkpoint, shard_size: int | None) -> dict[str, list[str]]:
    """The names of the files, and of the tensors in each."""
    tied = {name: group[0] for group in contents.ties for name in group[1:]}
    before = first if isinstance(first, WeightsFolder) else None
    main = before.main if before else _MODEL
    if shard_size is not None:
        if before and before.is_adapter:
            raise OutputRefused(
                "An adapter is one file and is not written in shards. Leave --shard-size out."
            )
        return _sharded(_file_name(main), contents.specs, tied, shard_size)
    files: dict[str, list[str]] = {}
    last = next(reversed(list(before.layout.values()))) if before and before.layout else main
    for name in contents.specs:
        file = before.layout.get(tied.get(name, name), last) if before else main
        files.setdefault(file, []).append(name)
    return files


def _sharded(
    file_name: str, specs: Mapping[str, TensorSpec], tied: Mapping[str, str], most: int
) -> dict[str, list[str]]:
    """Shards that are filled one after the other; names of one memory are in one shard."""
    shards: list[list[str]] = [[]]
    at: dict[str, int] = {}
    room = most
    for name, spec in specs.items():
        if name in tied:
            continue
        if spec.nbytes > room and shards[-1]:
            shards.append([])
            room = most
        room -= spec.nbytes
        at[name] = len(shards) - 1
        shards[-1].append(name)
    for name, other in tied.items():
        shards[at[other]].append(name)
    if len(shards) == 1:
        return {file_name: shards[0]}
    stem, _, suffix = file_name.rpartition(".")
    return {
        f"{stem}-{number:05}-of-{len(shards):05}.{suffix}": names
        for number, names in enumerate(shards, 1)
    }


def _file_name(main: str) -> str:
    return main.removesuffix(INDEX)


def _write_part(path: Path, contents: Contents, names: Sequence[str]) -> None:
    known = set(names)
    part = dataclasses.replace(
        contents,
        specs={name: contents.specs[name] for name in names},
        # One file says what the whole folder is made of, once all of it is known.
        record={"file": RECORD_FILE},
        settle=lambda: None,
        nesting=None,
        ties=[group for group in contents.ties if group[0] in known],
    )
    with path.open("xb") as file:
        if path.suffix == ".safetensors":
            safetensors_file.write(file, part)
        else:
            torch_writer.write(file, part)


def _write_index(
    folder: Path, contents: Contents, first: Checkpoint, layout: Mapping[str, Sequence[str]]
) -> None:
    before = first if isinstance(first, WeightsFolder) else None
    main = before.main if before else _MODEL
    if len(layout) == 1 and not main.endswith(INDEX):
        return
    if list(layout) == [_file_name(main)]:
        return
    tied = {name for group in contents.ties for name in group[1:]}
    stored = [name for name in contents.specs if name not in tied]
    said = before.index.get("metadata") if before else None
    metadata = dict(said) if isinstance(said, dict) else {}
    metadata["total_size"] = sum(contents.specs[name].nbytes for name in stored)
    if "total_parameters" in metadata:
        metadata["total_parameters"] = sum(contents.specs[name].numel for name in stored)
    # A safetensors file has no second name for a tensor, one of torch has.
    listed = stored if _file_name(main).endswith(".safetensors") else list(contents.specs)
    places = {name: file for file, names in layout.items() for name in names}
    index = {"metadata": metadata, "weight_map": {name: places[name] for name in listed}}
    _write_json(folder / f"{_file_name(main)}{INDEX}", index)


def _changes(
    contents: Contents, first: WeightsFolder, config: Mapping[str, Any]
) -> dict[str, Mapping[str, Any]]:
    changes: dict[str, Mapping[str, Any]] = {}
    name = ADAPTER_CONFIG if first.is_adapter else "config.json"
    described = next((path for path in first.carried if path.name == name), None)
    if described is not None:
        dtypes = dtype_changes(read_json(described), first.specs, contents.specs)
        changes[name] = {**dtypes, **config}
    return changes


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    text = json.dumps(value, indent=2, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")
