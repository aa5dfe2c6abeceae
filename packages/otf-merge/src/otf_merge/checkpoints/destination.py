"""Where a merged checkpoint goes, settled before work starts, and how it is written there."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import OutputRefused
from .atomic import replacing, replacing_folder
from .carried import RECORD_FILE
from .distributed_folder import DistributedFolder
from .distributed_writer import write_distributed
from .formats import FORMATS, format_of, is_checkpoint_folder
from .weights_folder import WeightsFolder
from .weights_folder_writer import write_folder

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .checkpoint import Checkpoint, Contents, TensorSpec

_DEFAULT = "merged"
# A suffix of letters alone means a format; `-v1.5` and the like are a part of a model's name.
_LETTERS = re.compile(r"\.[A-Za-z]+")


@dataclass(frozen=True)
class Destination:
    """A place that a merged checkpoint may be written to: a file, or a folder.

    A folder is written as the first input is, or as that of a model if that is a file.
    """

    path: Path
    is_folder: bool

    def notes(self, first: Checkpoint) -> list[str]:
        """What the user should know about what is written beside the weights."""
        code = first.code if self.is_folder and isinstance(first, WeightsFolder) else []
        if not code:
            return []
        listed = ", ".join(f"`{name}`" for name in code)
        note = (
            f"`{first.path}` holds code, {listed}, which is not copied. If the model needs it and "
            f"you trust it, copy it into `{self.path}`."
        )
        return [note]

    def require_room(
        self, specs: Mapping[str, TensorSpec], ties: Sequence[tuple[str, ...]] = ()
    ) -> None:
        """Raise `OutputRefused` where the disk is known to be too full for those tensors."""
        tied = {name for group in ties for name in group[1:]}
        needed = sum(spec.nbytes for name, spec in specs.items() if name not in tied)
        try:
            free = shutil.disk_usage(self.path.resolve().parent).free
        except OSError:
            return
        if free < needed:
            raise OutputRefused(
                f"`{self.path}` needs {_told(needed)}, and there is room for {_told(free)}. Make "
                "room, or name an output on another disk."
            )

    def write(
        self,
        contents: Contents,
        first: Checkpoint,
        *,
        shard_size: int | None = None,
        config: Mapping[str, Any] | None = None,
        sync: bool = False,
    ) -> None:
        """Write it, whole or not at all; raises `OutputRefused` where that fails.

        In a folder of weights, `shard_size` is the most bytes of tensors in a file, and `config`
        has values to change in the configuration that is carried along, such as an adapter's `r`.
        With `sync` all of it is on the disk before it takes its place.
        """
        if shard_size is not None and (not self.is_folder or isinstance(first, DistributedFolder)):
            raise OutputRefused(
                "Only the folder of a model is written in shards. Leave --shard-size out, or name "
                "an output that ends in a slash."
            )
        try:
            if not self.is_folder:
                with replacing(self.path, sync=sync) as file:
                    format_of(self.path, OutputRefused).write(file, contents)
                return
            with replacing_folder(self.path, sync=sync) as folder:
                if isinstance(first, DistributedFolder):
                    write_distributed(folder, contents)
                else:
                    write_folder(folder, contents, first, shard_size=shard_size, config=config)
        except OSError as error:
            raise OutputRefused(
                f"`{self.path}` cannot be written: {error.strerror or error}. Nothing was left "
                "behind."
            ) from error


def destination(output: str | os.PathLike[str], *, force: bool = False) -> Destination:
    """The place that is meant by `output`; raises `OutputRefused` where nothing can be written to.

    A path that ends in a known suffix is a file, one that ends in a slash or has no suffix is a
    folder. With `force` what exists there is replaced, if it is a checkpoint too.
    """
    text = os.fspath(output)
    path = Path(text)
    is_folder = _is_folder(text, path)
    if not is_folder:
        format_of(path, OutputRefused)
        if path.is_dir():
            raise OutputRefused(f"`{path}` is a folder. Name a file in it.")
    if is_folder:
        _require_replaceable(path)
    if _exists(path) and not force:
        raise OutputRefused(
            f"`{path}` exists and is not overwritten. Name another output, or pass --force."
        )
    if not path.resolve().parent.is_dir():
        raise OutputRefused(f"There is no folder `{path.parent}`. Create it first.")
    if not os.access(path.resolve().parent, os.W_OK):
        raise OutputRefused(
            f"The folder `{path.parent}` cannot be written to. Name an output elsewhere, or change "
            "its permissions."
        )
    return Destination(path, is_folder)


def default_output(first: Checkpoint) -> str:
    """Where the merge goes if nothing else is said: `merged`, in the format of the first input."""
    if first.path.is_dir():
        return f"{_DEFAULT}{os.sep}"
    return f"{_DEFAULT}{first.path.suffix}"


def default_outputs() -> list[Path]:
    """All that `default_output` may come to."""
    return [Path(_DEFAULT), *(Path(f"{_DEFAULT}{suffix}") for suffix in FORMATS)]


def _is_folder(text: str, path: Path) -> bool:
    if text.endswith(("/", os.sep)):
        return True
    return path.suffix.lower() not in FORMATS and not _LETTERS.fullmatch(path.suffix)


def _exists(path: Path) -> bool:
    """Whether something is there; a folder without anything in it is nothing to lose."""
    return path.exists() and not (path.is_dir() and not any(path.iterdir()))


def _require_replaceable(path: Path) -> None:
    """Refuse a folder that holds what no merge has written, whatever is forced."""
    if not _exists(path):
        return
    if not path.is_dir():
        raise OutputRefused(f"`{path}` is a file, and no folder can take its place. Name another.")
    is_checkpoint = (path / RECORD_FILE).is_file() or is_checkpoint_folder(path)
    if not is_checkpoint or any(it.is_dir() for it in path.iterdir()):
        raise OutputRefused(
            f"`{path}` is a folder that holds other things than a checkpoint, so it is not "
            f"replaced. Name a file in it, such as `{path / 'merged.safetensors'}`, or a new "
            "folder."
        )


def _told(size: int) -> str:
    amount = float(size)
    for unit in ("bytes", "KB", "MB"):
        if amount < 1000:  # noqa: PLR2004
            return f"{amount:.3g} {unit}"
        amount /= 1000
    return f"{amount:.1f} GB"
