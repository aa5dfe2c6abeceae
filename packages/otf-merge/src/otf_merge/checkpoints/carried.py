"""What lies beside the weights in a model's folder: what goes along with a merged model, and what not.

Configuration, tokenizer and licence describe the merged model as they do its first parent. The
state of a training run does not, metrics were another model's, and code is never copied unasked.
"""

from __future__ import annotations

import fnmatch
import json
import shutil
from typing import TYPE_CHECKING, Any

from ..errors import UnreadableInput
from .checkpoint import RECORD_KEY

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import torch

    from .checkpoint import TensorSpec

#: The file in a folder that says what its weights were merged from.
RECORD_FILE = f"{RECORD_KEY}.json"

#: What trainers keep beside a model to go on with, by the names that they give it.
TRAINING_STATE = (
    "optimizer.pt",
    "optimizer.bin",
    "optimizer_*.bin",
    "scheduler.pt",
    "scheduler.bin",
    "scaler.pt",
    "rng_state*.pth",
    "training_args.bin",
    "trainer_state.json",
)
_RESULTS = ("*_results.json", RECORD_FILE)
_DESCRIPTIONS = (
    "*.json",
    "*.txt",
    "*.model",
    "*.jinja",
    "*.tiktoken",
    "*.vocab",
    "*.bpe",
    "*.spm",
    "LICENSE*",
    "LICENCE*",
    "NOTICE*",
)
_INDEX = "*.index.json"


def carried(folder: Path) -> list[Path]:
    """The folder's files that go along with a model merged from it."""
    return [
        path
        for path in _files(folder)
        if _matches(path.name, _DESCRIPTIONS)
        and not _matches(path.name, (*TRAINING_STATE, *_RESULTS, _INDEX))
    ]


def code_in(folder: Path) -> list[str]:
    """The names of the folder's Python files."""
    return [path.name for path in _files(folder) if path.suffix == ".py"]


def training_state_in(folder: Path) -> list[str]:
    """The names of the folder's files that a trainer goes on with."""
    return [path.name for path in _files(folder) if is_training_state(path)]


def is_training_state(path: Path) -> bool:
    """Whether a file is named as trainers name what is no model."""
    return _matches(path.name, TRAINING_STATE)


def carry(files: Sequence[Path], folder: Path, changes: Mapping[str, Mapping[str, Any]]) -> None:
    """Copy the files into the folder, byte for byte.

    `changes` has, by the name of a file of JSON, values that are others in the copy.
    """
    for source in files:
        target = folder / source.name
        changed = changes.get(source.name, {})
        before = read_json(source) if changed else {}
        if all(key in before and before[key] == value for key, value in changed.items()):
            shutil.copyfile(source, target)
        else:
            text = json.dumps({**before, **changed}, indent=2, ensure_ascii=False)
            target.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """An object from a file of JSON; raises `UnreadableInput` where it is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UnreadableInput(
            f"`{path}` is no JSON ({error}). It may have been cut short; copy it again."
        ) from error
    if not isinstance(found, dict):
        raise UnreadableInput(f"`{path}` holds no JSON object. Copy it again from its source.")
    return found


def dtype_changes(
    config: Mapping[str, Any], before: Mapping[str, TensorSpec], after: Mapping[str, TensorSpec]
) -> dict[str, Any]:
    """What a model's configuration says of its dtype, where that is no longer so."""
    old, new = _usual_dtype(before), _usual_dtype(after)
    if old == new or new is None:
        return {}
    return {key: str(new).partition(".")[2] for key in ("torch_dtype", "dtype") if key in config}


def _usual_dtype(specs: Mapping[str, TensorSpec]) -> torch.dtype | None:
    """The floating-point type that most elements have."""
    counts: dict[torch.dtype, int] = {}
    for spec in specs.values():
        if spec.dtype.is_floating_point:
            counts[spec.dtype] = counts.get(spec.dtype, 0) + spec.numel
    return max(counts, key=lambda dtype: counts[dtype]) if counts else None


def _files(folder: Path) -> list[Path]:
    return sorted(
        path for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")
    )


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
