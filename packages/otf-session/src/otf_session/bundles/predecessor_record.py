"""The predecessor's database: its rows as events of our own."""

import contextlib
import math
import shutil
import sqlite3
from pathlib import Path
from typing import Any, Dict, Generator, Iterator, List, NamedTuple, Optional, Sequence, Set, Tuple

from ..errors import BundleRefused
from ..events import (
    AnyEvent,
    CheckpointSaved,
    DeterminismAssessed,
    EpochStarted,
    EvaluationFinished,
    LogLine,
    Metrics,
    NoteAdded,
    RunStarted,
    RunState,
    StateChanged,
)
from . import untrusted
from .predecessor_notes import is_cut, report_text, subset_text

INEXACT = (
    "Its checkpoints hold neither the state of random generators nor the place in the data: a run "
    "can be continued from them, but not exactly."
)

_NAME = "database"
_METRICS = (
    *("loss", "val_loss", "accuracy", "lr", "grad_norm", "weight_norm", "activation_zero_frac"),
    *("throughput", "mem_vram", "gpu_util"),
)
_LEVELS = {"debug": 10, "info": 20, "warn": 30, "warning": 30, "error": 40, "critical": 50}
#: Who has said what was never a person's note.
_AUTHOR = "import"
#: Steps in one event; and the largest number that is believed to be a step or an epoch.
_STEPS = 500
_LARGEST = 2**53
#: Seconds: the year 3000.
_LATEST = 32_503_680_000.0


class Run(NamedTuple):
    """A run of the predecessor; `name` is its name here, where no two are called alike."""

    id: str
    name: str
    parents: List[str]
    created: float


class Kept(NamedTuple):
    """A file of the predecessor that is to be a checkpoint. `path` is as it stands in the bundle."""

    path: str
    run: str
    step: int
    label: str
    time: float


@contextlib.contextmanager
def opened_record(path: Path, scratch: Path) -> "Iterator[Record]":
    """The predecessor's database at `path`, which is copied to `scratch` and read there.

    Raises `BundleRefused` where it is damaged or none of the predecessor's.
    """
    shutil.copyfile(path, scratch)
    with untrusted.refusing(_NAME), contextlib.closing(untrusted.read_only(scratch)) as connection:
        found = untrusted.faults(connection)
        if found:
            raise BundleRefused(f"Its database is damaged: {'; '.join(found)}.")
        yield Record(connection)


class Record:
    """What the database says. Its rows are taken for what they should be, as far as they are."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        listed = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        self._tables = {name for (name,) in listed.fetchall()}
        if not {"runs", "metrics"} <= self._tables:
            raise BundleRefused("Its database has no runs and metrics, so it is none of OnTheFly.")
        rows = list(self._rows("runs", "run_id", "parent_run_id", "project", "name", "created_at"))
        self.project = next((_text(row[2]) for row in rows if row[2]), "") or "imported"
        self.runs = _ordered(_named(rows, self._parents(rows)))
        self.created = min((run.created for run in self.runs), default=0.0)
        self._names = {run.id: run.name for run in self.runs}

    def kept(self, checkpoints: Dict[str, str], models: Dict[str, str]) -> List[Kept]:
        """The files that `bundle.json` lists and the database knows, the oldest first."""
        found = []
        for key, run, step, created in self._rows(
            "checkpoints", "ckpt_id", "run_id", "step", "created_at"
        ):
            if key in checkpoints and run in self._names:
                label = "periodic"
                found.append(
                    Kept(checkpoints[key], self._names[run], _count(step), label, _time(created))
                )
        for key, run, step, updated in self._rows(
            "session_final_models", "session_id", "run_id", "step", "updated_at"
        ):
            if key in models and run in self._names:
                label = "final"
                found.append(
                    Kept(models[key], self._names[run], _count(step), label, _time(updated))
                )
        return sorted(found, key=lambda kept: kept.time)

    def epoch_at(self, run: str, step: int) -> int:
        """The epoch that a run was in at a step; 0 where it is not known."""
        ids = [each.id for each in self.runs if each.name == run]
        query = "SELECT max(epoch) FROM metrics WHERE run_id = ? AND step <= ?"
        (found,) = self._connection.execute(query, (ids[0], step)).fetchone()
        return _count(found)

    def events(self, saved: Sequence[CheckpointSaved]) -> Generator[AnyEvent, None, None]:
        """All there is, run by run: a run's parents come before it."""
        yield from self._log(None, "")
        for run in self.runs:
            yield RunStarted(time=run.created, run=run.name, parents=run.parents)
            step, time = 0, run.created
            for event in self._measured(run):
                if isinstance(event, Metrics):
                    step, time = max(step, *event.steps), max(time, *event.times)
                yield event
            yield from self._log(run.id, run.name)
            yield from self._tests(run)
            yield from self._samples(run)
            own = [event for event in saved if event.run == run.name]
            yield from own
            if own:
                yield DeterminismAssessed(time=time, run=run.name, exact=False, findings=[INEXACT])
            step = max([step, *(event.step for event in own)])
            yield StateChanged(
                time=time,
                run=run.name,
                state=RunState.STOPPED,
                step=step,
                reason="imported from an earlier version",
            )

    def notes(self) -> List[str]:
        """What is not taken over as it was, as sentences."""
        reports, lost, long = 0, 0, 0
        for split, losses, indices, note in self._rows(
            "report_loss_dist", "subset_on", "losses", "sample_indices", "note"
        ):
            is_kept = bool(report_text(_text(split), _text(losses), _text(indices), _text(note)))
            reports, lost = reports + is_kept, lost + (not is_kept)
        for (indices,) in self._rows("run_subsets", "indices"):
            long, lost = long + is_cut(_text(indices)), lost + (not subset_text(_text(indices)))
        found = []
        if reports:
            found.append(f"Of {_plural(reports, 'report')} a summary is kept, as a note.")
        if long:
            found.append(f"Of {_plural(long, 'long subset')} of samples the beginning is kept.")
        if lost:
            found.append(f"Not taken over: {_plural(lost, 'empty or unreadable list')} of samples.")
        return found

    def _samples(self, run: Run) -> Iterator[NoteAdded]:
        """What is known of single samples, as notes."""
        for (indices,) in self._rows("run_subsets", "indices", run=run.id):
            text = subset_text(_text(indices))
            if text:
                yield _note(run, run.created, 0, text)
        for split, losses, indices, note, step, seconds in self._rows(
            *("report_loss_dist", "subset_on", "losses", "sample_indices", "note"),
            *("at_step", "created_at"),
            run=run.id,
            order="at_step",
        ):
            text = report_text(_text(split), _text(losses), _text(indices), _text(note))
            if text:
                yield _note(run, _seconds(seconds) or run.created, _count(step), text)

    def _measured(self, run: Run) -> Iterator[AnyEvent]:
        """Epochs and metrics. What stands as NULL was not measured; what is infinite not finite."""
        epoch = 0
        batch: List[Tuple[int, float, Dict[str, Optional[float]]]] = []
        for step, number, ts, *values in self._rows(
            "metrics", "step", "epoch", "ts", *_METRICS, run=run.id, order="step"
        ):
            time = _time(ts) or run.created
            row = (
                _count(step),
                time,
                {
                    name: _finite(value)
                    for name, value in zip(_METRICS, values)
                    if isinstance(value, (int, float))
                },
            )
            is_next = _count(number) > epoch
            # The rows of a batch have the same metrics.
            if batch and (is_next or len(batch) == _STEPS or batch[0][2].keys() != row[2].keys()):
                yield _batch(run.name, batch)
                batch = []
            if is_next:
                epoch = _count(number)
                yield EpochStarted(time=time, run=run.name, epoch=epoch, step=max(0, row[0] - 1))
            batch.append(row)
        if batch:
            yield _batch(run.name, batch)

    def _log(self, run: Optional[str], name: str) -> Iterator[LogLine]:
        for level, text, phase, step, ts in self._rows(
            "logs", "level", "text", "phase", "step", "ts", run=run, order="id"
        ):
            yield LogLine(
                time=_time(ts),
                run=name,
                step=_count(step),
                level=_LEVELS.get(_text(level).lower(), _LEVELS["info"]),
                logger=_text(phase),
                text=_text(text),
            )

    def _tests(self, run: Run) -> Iterator[EvaluationFinished]:
        for step, loss, ts in self._rows(
            "test_metrics", "step", "loss", "ts", run=run.id, order="step"
        ):
            if isinstance(loss, (int, float)):
                yield EvaluationFinished(
                    time=_time(ts),
                    run=run.name,
                    step=_count(step),
                    split="test",
                    # How many they were is not in it.
                    samples=0,
                    values={"test_loss": _finite(loss)},
                )

    def _parents(self, rows: List[Tuple[Any, ...]]) -> Dict[str, List[str]]:
        found: Dict[str, List[str]] = {_text(row[0]): [] for row in rows}
        pairs = [(row[0], row[1]) for row in rows if row[1]]
        for child, parent in [*pairs, *self._rows("run_edges", "child_run_id", "parent_run_id")]:
            parents = found.get(_text(child), [])
            if _text(parent) in found and _text(parent) not in parents:
                parents.append(_text(parent))
        return found

    def _rows(
        self, table: str, *columns: str, run: Optional[str] = "", order: str = ""
    ) -> Iterator[Tuple[Any, ...]]:
        """Some columns of a table's rows, null where there is no such column: all, or a run's.

        The rows of no run at all are those where `run` is None.
        """
        if table not in self._tables:
            return
        listed = self._connection.execute(f'PRAGMA table_info("{table}")').fetchall()
        there = {name for _, name, *_ in listed}
        shown = ", ".join(f'"{name}"' if name in there else "NULL" for name in columns)
        query = f'SELECT {shown} FROM "{table}"'  # noqa: S608
        if run != "":
            query += " WHERE run_id IS ?"
        query += f' ORDER BY "{order}", rowid' if order in there else ""
        yield from self._connection.execute(query, () if run == "" else (run,))


def _named(rows: List[Tuple[Any, ...]], parents: Dict[str, List[str]]) -> List[Run]:
    """The runs, with names that no two of them share."""
    names: Dict[str, str] = {}
    taken: Set[str] = set()
    for key, _, _, name, _ in rows:
        wanted = _text(name) or _text(key)
        number, free = 1, wanted
        while free in taken:
            number += 1
            free = f"{wanted}-{number}"
        taken.add(free)
        names[_text(key)] = free
    return [
        Run(
            _text(key),
            names[_text(key)],
            [names[each] for each in parents[_text(key)]],
            _time(created),
        )
        for key, _, _, _, created in rows
    ]


def _ordered(runs: List[Run]) -> List[Run]:
    """The runs, parents first; of those in a circle each one's parents that come later are lost."""
    left = sorted(runs, key=lambda run: (run.created, run.name))
    done: Set[str] = set()
    found: List[Run] = []
    while left:
        run = next((run for run in left if done.issuperset(run.parents)), left[0])
        left.remove(run)
        found.append(run._replace(parents=[name for name in run.parents if name in done]))
        done.add(run.name)
    return found


def _batch(run: str, rows: List[Tuple[int, float, Dict[str, Optional[float]]]]) -> Metrics:
    return Metrics(
        run=run,
        steps=[step for step, _, _ in rows],
        times=[time for _, time, _ in rows],
        values={name: [values[name] for _, _, values in rows] for name in rows[0][2]},
    )


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None or isinstance(value, bytes) else str(value)


def _count(value: Any) -> int:
    is_count = isinstance(value, (int, float)) and 0 <= value < _LARGEST
    return int(value) if is_count else 0


def _finite(value: float) -> Optional[float]:
    return float(value) if math.isfinite(value) else None


def _time(milliseconds: Any) -> float:
    """Seconds; 0 where there is no time."""
    return _seconds(milliseconds / 1000) if isinstance(milliseconds, (int, float)) else 0.0


def _seconds(value: Any) -> float:
    """Seconds as they are; 0 where there is no time."""
    return float(value) if isinstance(value, (int, float)) and 0 <= value < _LATEST else 0.0


def _note(run: Run, time: float, step: int, text: str) -> NoteAdded:
    return NoteAdded(time=time, run=run.name, step=step, author=_AUTHOR, text=text)


def _plural(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
