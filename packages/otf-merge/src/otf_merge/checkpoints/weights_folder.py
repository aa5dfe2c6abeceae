"""Folders with a model's weights in one file or several, as the Hugging Face libraries write them.

A model's folder has `model.safetensors` (or `pytorch_model.bin`), or shards of it and an index that
says which tensor is in which. An adapter's folder, as PEFT writes it, has `adapter_config.json`
and `adapter_model.safetensors` (or `.bin`). Configuration and tokenizer lie beside them.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UnreadableInput
from . import safetensors_file, torch_file
from .carried import carried, code_in, read_json, training_state_in
from .checkpoint import Checkpoint
from .nestings import quoted
from .torch_loading import load

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch

ADAPTER_CONFIG = "adapter_config.json"
_ADAPTER = ("adapter_model.safetensors", "adapter_model.bin")
# In the order in which the libraries themselves look for them.
_MODEL = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model.safetensors.index.json",
    "diffusion_pytorch_model.bin",
    "diffusion_pytorch_model.bin.index.json",
)
INDEX = ".index.json"
_SHOWN = 10


class WeightsFolder(Checkpoint):
    """An open folder of weights.

    `main` is the name of its one file of weights or of its index, `layout` says in which file each
    tensor is, and `index` is what the index holds; it is empty without one.
    """

    def __init__(
        self,
        path: Path,
        main: str,
        parts: Mapping[str, Checkpoint],
        layout: Mapping[str, str],
        index: Mapping[str, Any],
    ) -> None:
        stray = [name for part in parts.values() for name in part.specs if name not in layout]
        super().__init__(
            path,
            {name: parts[file].specs[name] for name, file in layout.items()},
            files=[path / name for name in parts],
            left_out=(*training_state_in(path), *stray),
            ties=_ties(parts, layout),
        )
        self.main = main
        self.layout = layout
        self.index = index
        self._parts = parts

    @property
    def is_adapter(self) -> bool:
        """Whether it is an adapter's folder, and no whole model's."""
        return self.main in _ADAPTER

    @property
    def carried(self) -> list[Path]:
        """The files that go along with what is merged from it."""
        return carried(self.path)

    @property
    def code(self) -> list[str]:
        """The names of its Python files."""
        return code_in(self.path)

    def read(self, name: str, start: int = 0, stop: int | None = None) -> torch.Tensor:
        """Those elements of the tensor, flat."""
        return self._parts[self.layout[name]].read(name, start, stop)

    def extra(self, key: str) -> Any:
        """What the folder's file of that name holds, such as `config.json` or `optimizer.pt`.

        None where it has no such file.
        """
        described = self.path / f"{key}.json"
        if described.is_file():
            return read_json(described)
        for suffix in (".pt", ".bin"):
            saved = self.path / f"{key}{suffix}"
            if saved.is_file():
                return load(saved).value
        return None

    def close(self) -> None:
        """Close the files of weights."""
        for part in self._parts.values():
            part.close()


def main_file(folder: Path) -> str | None:
    """The name of the folder's file of weights or of its index; None where it has neither."""
    if (folder / ADAPTER_CONFIG).is_file():
        adapters = [name for name in _ADAPTER if (folder / name).is_file()]
        if adapters:
            return adapters[0]
    return next((name for name in _MODEL if (folder / name).is_file()), None)


def open_folder(folder: Path, key: str | None) -> WeightsFolder:
    """Open a folder of weights, reading no more than the headers of its files."""
    main = main_file(folder)
    assert main is not None
    if key is not None:
        raise UnreadableInput(
            f"`{folder}` has no key `{key}`: it is the folder of a model. Leave the key out."
        )
    has_index = main.endswith(INDEX)
    index = read_json(folder / main) if has_index else {}
    declared = _declared(folder / main, index) if has_index else None
    names = list(dict.fromkeys(declared.values())) if declared is not None else [main]
    _require_files(folder, main, names)
    with contextlib.ExitStack() as stack:
        parts: dict[str, Checkpoint] = {}
        for name in names:
            parts[name] = _open_part(folder / name)
            stack.callback(parts[name].close)
        if declared is None:
            declared = dict.fromkeys(parts[main].specs, main)
        _require_tensors(folder, main, declared, parts)
        opened = WeightsFolder(folder, main, parts, declared, index)
        stack.pop_all()
    return opened


def _open_part(path: Path) -> Checkpoint:
    if path.suffix == ".safetensors":
        return safetensors_file.open_checkpoint(path, None)
    return torch_file.open_checkpoint(path, None)


def _declared(path: Path, index: Mapping[str, Any]) -> dict[str, str]:
    """Which file each tensor is in, as the index says."""
    places = index.get("weight_map")
    if not isinstance(places, dict) or not places:
        raise UnreadableInput(
            f"`{path}` says of no tensor in which file it is (`weight_map`). Copy it again."
        )
    for file in places.values():
        # A file of weights lies in the folder itself, whatever an index may say.
        if not isinstance(file, str) or Path(file).name != file or "\\" in file:
            raise UnreadableInput(
                f"`{path}` names the file `{file}`, which is not in its folder. Put all shards "
                "into one folder, and name them so in the index."
            )
    return places


def _require_files(folder: Path, main: str, names: list[str]) -> None:
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise UnreadableInput(
            f"`{folder}` lacks {_some(missing)}, which `{main}` names. Copy "
            f"{'it' if len(missing) == 1 else 'them'} into the folder."
        )


def _require_tensors(
    folder: Path, main: str, layout: Mapping[str, str], parts: Mapping[str, Checkpoint]
) -> None:
    lacking = [name for name, file in layout.items() if name not in parts[file].specs]
    if lacking:
        raise UnreadableInput(
            f"In `{folder}`, `{main}` names tensors that are not in the files: {_some(lacking)}. "
            "The files are not of one model; copy all of them again."
        )


def _some(names: list[str]) -> str:
    more = len(names) - _SHOWN
    return quoted(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _ties(parts: Mapping[str, Checkpoint], layout: Mapping[str, str]) -> list[tuple[str, ...]]:
    groups = []
    for file, part in parts.items():
        for group in part.ties:
            known = tuple(name for name in group if layout.get(name) == file)
            if len(known) > 1:
                groups.append(known)
    return groups
