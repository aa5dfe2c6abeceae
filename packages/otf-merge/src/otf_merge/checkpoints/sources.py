"""Which checkpoints are meant by the paths that were given, and opening them."""

from __future__ import annotations

import contextlib
import glob
import re
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InvalidInputs, UnreadableInput
from .carried import is_training_state
from .formats import FOLDERS, FORMATS, is_checkpoint_folder, open_checkpoint
from .torch_loading import looks_like_torch

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from .checkpoint import Checkpoint

_MAGIC = re.compile(r"[*?[]")
_NUMBER = re.compile(r"([0-9]+)")


def files_of(paths: Iterable[Path], outputs: Collection[Path] = ()) -> list[Path]:
    """The checkpoints, files and folders, that are meant by `paths`.

    A path is a checkpoint itself, or a folder that holds some, or a pattern such as `run*/*.pt`.
    From folders and patterns they come in the order of their names, numbers by their value, each
    once, and none of `outputs` is taken: a merge that is repeated does not merge its own result of
    the last time. A file that is named twice counts twice.
    """
    results = {output.resolve() for output in outputs}
    files: list[Path] = []
    named: set[Path] = set()
    found: set[Path] = set()
    for path in paths:
        more, is_named = _meant(path, results)
        places = {file.resolve(): file for file in more}
        twice = (found if is_named else found | named).intersection(places)
        if twice:
            raise InvalidInputs(
                f"`{places[min(twice)]}` is meant twice, by a folder or pattern and by another "
                "path. Name it once."
            )
        files += more
        (named if is_named else found).update(places)
    return files


def held_by(folder: Path, results: Collection[Path] = ()) -> list[Path]:
    """The checkpoints in a folder, not in folders within it, without those at `results`."""
    try:
        return _chosen(folder.iterdir(), results)
    except OSError as error:
        raise UnreadableInput(
            f"The folder `{folder}` cannot be read: {error.strerror or error}."
        ) from error


@contextlib.contextmanager
def opened(files: Sequence[Path], key: str | None) -> Iterator[list[Checkpoint]]:
    """The files and folders as open checkpoints, closed again with the block."""
    with contextlib.ExitStack() as stack:
        checkpoints = []
        for file in files:
            checkpoint = open_checkpoint(file, key)
            stack.callback(checkpoint.close)
            checkpoints.append(checkpoint)
        yield checkpoints


def _meant(path: Path, results: Collection[Path]) -> tuple[list[Path], bool]:
    """The checkpoints that one path stands for, and whether it is the path of one."""
    if _MAGIC.search(str(path)) and not path.exists():
        return _matching(path, results), False
    if not path.is_dir() or is_checkpoint_folder(path):
        return [path], True
    held = held_by(path, results)
    if not held:
        raise InvalidInputs(
            f"The folder `{path}` holds no checkpoints, that is no files that end in one of "
            f"{', '.join(FORMATS)}, and is none itself, which is {FOLDERS}."
        )
    return held, False


def _matching(pattern: Path, results: Collection[Path]) -> list[Path]:
    matches = [Path(it) for it in glob.glob(str(pattern.expanduser()), recursive=True)]  # noqa: PTH207
    inside = {it.resolve() for it in matches if is_checkpoint_folder(it)}
    candidates: list[Path] = []
    for match in matches:
        # `**` also finds the files that a folder's checkpoint consists of.
        if not inside.isdisjoint(match.resolve().parents):
            continue
        is_holder = match.is_dir() and not is_checkpoint_folder(match)
        candidates += held_by(match, results) if is_holder else [match]
    chosen = _chosen(candidates, results)
    if not chosen:
        raise InvalidInputs(
            f"`{pattern}` matches no checkpoints, that is no files that end in one of "
            f"{', '.join(FORMATS)}, nor folders that are or hold checkpoints. Check the pattern."
        )
    return chosen


def _chosen(paths: Iterable[Path], results: Collection[Path]) -> list[Path]:
    """Those that are checkpoints, in order, each once: a link to another of them is left out."""
    places: dict[Path, Path] = {}
    for path in sorted((it for it in paths if _is_checkpoint(it)), key=_order):
        place = path.resolve()
        if place not in results and (place not in places or places[place].is_symlink()):
            places[place] = path
    return sorted(places.values(), key=_order)


def _is_checkpoint(path: Path) -> bool:
    if path.name.startswith("."):
        return False
    if path.is_dir():
        return is_checkpoint_folder(path)
    suffix = path.suffix.lower()
    if suffix not in FORMATS or not path.is_file() or is_training_state(path):
        return False
    # Files of any kind are named so; an unreadable one is told of when it is opened.
    return suffix != ".bin" or looks_like_torch(path)


def _order(path: Path) -> list[list[str | int]]:
    """Sorts names with numbers in them as people count: step-900 before step-1000."""
    pieces = [piece for part in path.parts for piece in (Path(part).stem, Path(part).suffix)]
    return [
        [int(it) if at % 2 else it for at, it in enumerate(_NUMBER.split(text))] for text in pieces
    ]
