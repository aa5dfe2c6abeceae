"""Export of metrics: from a session to a file of another program."""

import sqlite3
from pathlib import Path
from typing import BinaryIO, Callable, Iterable, Iterator, Optional, Sequence

import msgspec
import peewee

from ..damage import diagnosis
from ..errors import NoSuchMetrics, StoreDamaged
from ..models import SessionRow
from ..store import DamagedReader, SessionReader
from . import parquet, tensorboard, text
from .blocks import Block, Choice, blocks, choose, count
from .format import Format
from .output import whole_file, whole_folder

#: Told how many points of about how many are done.
Report = Callable[[int, int], None]


class Written(msgspec.Struct, frozen=True, kw_only=True):
    """How many points were written. `damage` says why there are not all, where that is so."""

    points: int
    damage: str = ""


class _Reading:
    """Counts points as they come, and ends where the session is damaged instead of failing."""

    def __init__(self, folder: Path, total: int, report: Optional[Report]) -> None:
        self._folder = folder
        self._total = total
        self._report = report
        self.points = 0
        self.damage = ""

    def through(self, source: Iterator[Block]) -> Iterator[Block]:
        """The blocks as they are."""
        try:
            for block in source:
                yield block
                self.points += len(block.steps) * len(block.values)
                if self._report is not None:
                    self._report(self.points, max(self._total, self.points))
        # Of rows that are fetched, peewee passes SQLite's own errors on.
        except (peewee.DatabaseError, sqlite3.DatabaseError, msgspec.MsgspecError) as error:
            self.damage = (
                f"The session in {self._folder} cannot be read to its end: {error}. "
                f"{diagnosis(self._folder)}".rstrip()
            )


def export_metrics(
    folder: Path,
    format: Format,  # noqa: A002
    target: "Path | BinaryIO",
    *,
    runs: Sequence[str] = (),
    names: Sequence[str] = (),
    rewound: bool = False,
    wide: bool = False,
    force: bool = False,
    report: Optional[Report] = None,
) -> Written:
    """Write the metrics of the session in `folder` to `target`.

    That is a file, or for TensorBoard a folder, which appears whole or not at all; of CSV and JSON
    lines it may be a binary stream too. `runs` and `names` limit it to these. With `rewound`, points
    that a rewind took out of the curves are there too, in a column that says so. `wide` gives CSV
    and Parquet one row per step in place of one per value. A file that is there is replaced with
    `force`.

    What can be read of a damaged session is written. Raises `NoSuchMetrics`, `NotWritten` or
    `StoreDamaged`; then nothing was.
    """
    if format is Format.PARQUET:
        parquet.check_installed()
    with _opened(folder) as reader:
        choice = choose(reader.database, folder.name, runs, names, rewound=rewound)
        if not choice.names:
            raise NoSuchMetrics(f"The session {folder.name} has no metrics yet.")
        reading = _Reading(folder, count(reader.database, choice), report)
        source = reading.through(blocks(reader.database, choice))
        if format is Format.TENSORBOARD:
            created = SessionRow.select().bind(reader.database).get().created
            with whole_folder(_path(target)) as path:
                tensorboard.write_event_files(path, source, folder.name, created)
        elif format is Format.PARQUET:
            with whole_file(_path(target), force=force) as path:
                parquet.write_parquet(path, source, choice, wide=wide)
        elif isinstance(target, Path):
            with whole_file(target, force=force) as path, path.open("xb") as file:
                _write_text(file, source, choice, format, wide=wide)
        else:
            _write_text(target, source, choice, format, wide=wide)
    return Written(points=reading.points, damage=reading.damage)


def _write_text(
    file: BinaryIO,
    source: Iterable[Block],
    choice: Choice,
    format: Format,  # noqa: A002
    *,
    wide: bool,
) -> None:
    if format is Format.CSV:
        write = text.write_wide_csv if wide else text.write_csv
        write(file, source, choice)
    else:
        text.write_jsonl(file, source, choice)


def _opened(folder: Path) -> SessionReader:
    """The session, as far as it can be read."""
    try:
        with SessionReader(folder):
            return SessionReader(folder)
    except StoreDamaged:
        with DamagedReader(folder):
            return DamagedReader(folder)


def _path(target: "Path | BinaryIO") -> Path:
    assert isinstance(target, Path), "This format is written to a path."
    return target
