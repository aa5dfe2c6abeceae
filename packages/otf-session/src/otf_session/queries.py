"""Reads for lists, charts, logs and tables. Each is executed on the database it is given."""

from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple, Type, TypeVar, Union

import msgspec

from . import display_name
from .events import (
    AnyEvent,
    CheckpointFailed,
    CheckpointRemoved,
    CheckpointSaved,
    CommandChanged,
    DeterminismAssessed,
    EpochStarted,
    EvaluationFinished,
    GuardTripped,
    HealthReported,
    HyperparametersDeclared,
    LimitsChanged,
    LogLine,
    Metrics,
    NoteAdded,
    RecordsDropped,
    Rewound,
    RunState,
    StallEnded,
    StallNoticed,
    StateChanged,
)
from .liveness import is_alive
from .models import (
    EventRow,
    LogRow,
    MetricBatchRow,
    MetricColumnRow,
    MetricSeriesRow,
    RunRow,
    SessionRow,
)
from .store import SessionReader, newest_seq
from .summaries import (
    LogEntry,
    LogPage,
    RunSummary,
    Series,
    SessionState,
    SessionSummary,
    Snapshot,
    current_run,
)
from .thinning import Chunk, Point, thin

_E = TypeVar("_E", bound=msgspec.Struct)
_event_decoder = msgspec.json.Decoder(AnyEvent)
_strings = msgspec.json.Decoder(List[str])
_integers = msgspec.json.Decoder(List[int])
_floats = msgspec.json.Decoder(List[float])
_values = msgspec.json.Decoder(List[Optional[float]])

#: The log lines that come with a snapshot.
SNAPSHOT_LOG_LINES = 500
#: The stalls that come with a snapshot.
SNAPSHOT_STALLS = 100


def snapshot(reader: SessionReader, *, points: int, connected: bool = False) -> Snapshot:
    """The session as it is now, every series thinned to about `points` points."""
    database = reader.database
    return Snapshot(
        seq=newest_seq(database),
        session=session_summary(reader, connected=connected),
        series=series(database, points=points),
        epochs=events_of(database, EpochStarted),
        log=log_page(database, limit=SNAPSHOT_LOG_LINES),
        commands=events_of(database, CommandChanged),
        evaluations=events_of(database, EvaluationFinished),
        checkpoints=present_checkpoints(reader),
        checkpoint_failures=events_of(database, CheckpointFailed),
        hyperparameters=_newest_of_runs(events_of(database, HyperparametersDeclared)),
        limits=_newest_of_runs(events_of(database, LimitsChanged)),
        notes=events_of(database, NoteAdded),
        determinism=_newest_of_runs(events_of(database, DeterminismAssessed)),
        guards=events_of(database, GuardTripped),
        health=_newest_reports(database),
        stalls=_stalls(database),
        rewinds=events_of(database, Rewound),
        pauses=[
            event for event in events_of(database, StateChanged) if event.state is RunState.PAUSED
        ],
        dropped=events_of(database, RecordsDropped),
    )


def session_summary(reader: SessionReader, *, connected: bool = False) -> SessionSummary:
    """The session at a glance. One whose process is gone reads as lost."""
    row = SessionRow.select().bind(reader.database).get()
    runs = run_summaries(reader.database)
    current = current_run(runs)
    state = SessionState(current.state.value) if current else SessionState.STARTING
    unfinished = current is None or not current.state.is_final
    if unfinished and not connected and is_alive(reader.folder) is False:
        state = SessionState.LOST
    return SessionSummary(
        id=row.id,
        project=row.project,
        created=row.created,
        updated=max([run.updated for run in runs], default=row.created),
        state=state,
        runs=runs,
        last_seq=newest_seq(reader.database),
        connected=connected,
        name=display_name.read(reader.folder),
    )


def run_summaries(database: Any) -> List[RunSummary]:
    """All runs, the oldest first."""
    return runs_with(database, latest_values(database))


def latest_values(database: Any) -> Dict[str, Dict[str, Optional[float]]]:
    """Of each run, each metric's newest value (None: not finite)."""
    latest: Dict[str, Dict[str, Optional[float]]] = {}
    for row in MetricSeriesRow.select().bind(database):
        latest.setdefault(row.run, {})[row.name] = row.last_value
    return latest


def runs_with(database: Any, latest: Dict[str, Dict[str, Optional[float]]]) -> List[RunSummary]:
    """All runs, the oldest first, with these values."""
    return [
        RunSummary(
            name=row.name,
            parents=_strings.decode(row.parents),
            state=RunState(row.state),
            reason=row.reason,
            step=row.step,
            epoch=row.epoch,
            created=row.created,
            updated=row.updated,
            latest=latest.get(row.name, {}),
        )
        for row in RunRow.select().order_by(RunRow.created, RunRow.name).bind(database)
    ]


def series(
    database: Any,
    *,
    points: int,
    runs: Sequence[str] = (),
    names: Sequence[str] = (),
    bounds: Optional[Tuple[int, int]] = None,
) -> List[Series]:
    """Metrics thinned to about `points` points each: all, or those of these runs and names.

    `bounds` are the first and the last step to be shown.
    """
    query = MetricSeriesRow.select().order_by(MetricSeriesRow.run, MetricSeriesRow.name)
    if runs:
        query = query.where(MetricSeriesRow.run.in_(list(runs)))
    if names:
        query = query.where(MetricSeriesRow.name.in_(list(names)))
    found = []
    for row in query.bind(database):
        kept = thin(
            _chunks(database, row.run, row.name, bounds),
            points,
            _chunk_reader(database, row.run, row.name),
            bounds,
        )
        found.append(
            Series(
                run=row.run,
                name=row.name,
                count=row.count,
                steps=[step for step, _ in kept],
                values=[value for _, value in kept],
            )
        )
    return found


def log_page(database: Any, *, before: Optional[int] = None, limit: int = 500) -> LogPage:
    """The newest `limit` lines, or the newest of those older than `before`."""
    query = LogRow.select().order_by(LogRow.seq.desc()).limit(limit + 1)
    if before is not None:
        query = query.where(LogRow.seq < before)
    rows = list(query.bind(database))
    entries = [LogEntry(seq=row.seq, line=_log_line(row)) for row in rows[:limit]]
    return LogPage(entries=entries[::-1], more=len(rows) > limit)


def events_of(database: Any, kind: Type[_E]) -> List[_E]:
    """All events of one kind, the oldest first. Not for metrics and log lines."""
    rows = (
        EventRow.select(EventRow.body)
        .where(EventRow.kind == kind.__struct_config__.tag)
        .order_by(EventRow.seq)
    )
    decoder = msgspec.json.Decoder(kind)
    return [decoder.decode(row.body) for row in rows.bind(database)]


def kept_checkpoints(database: Any) -> List[CheckpointSaved]:
    """The checkpoints that were written and not removed since, the oldest first."""
    kept: Dict[str, CheckpointSaved] = {}
    kinds = [kind.__struct_config__.tag for kind in (CheckpointSaved, CheckpointRemoved)]
    rows = EventRow.select().where(EventRow.kind.in_(kinds)).order_by(EventRow.seq)
    for row in rows.bind(database):
        event = _event(row)
        # In their order: after a rewind the same checkpoint may be written again.
        if isinstance(event, CheckpointRemoved):
            kept.pop(event.id, None)
        elif isinstance(event, CheckpointSaved):
            key = event.id or event.path
            kept.pop(key, None)
            kept[key] = event
    return list(kept.values())


def present_checkpoints(reader: SessionReader) -> List[CheckpointSaved]:
    """The checkpoints that are kept, less those whose files somebody has taken away."""
    kept = kept_checkpoints(reader.database)
    return [saved for saved in kept if (reader.folder / saved.path).exists()]


def _newest_of_runs(events: List[_E]) -> List[_E]:
    return list({getattr(event, "run", ""): event for event in events}.values())


def _newest_reports(database: Any) -> List[HealthReported]:
    """Of each run and check the newest report."""
    reports = events_of(database, HealthReported)
    return list({(each.run, each.report.check): each for each in reports}.values())


def _stalls(database: Any) -> List[Union[StallNoticed, StallEnded]]:
    stalls: List[Union[StallNoticed, StallEnded]] = [
        *events_of(database, StallNoticed),
        *events_of(database, StallEnded),
    ]
    return sorted(stalls, key=lambda event: event.time)[-SNAPSHOT_STALLS:]


def events_after(database: Any, after: int, limit: int) -> List[AnyEvent]:
    """The next `limit` events, in order; the first has `seq` `after + 1`."""
    found: Dict[int, AnyEvent] = {}
    for model, build in ((EventRow, _event), (LogRow, _log_line)):
        for row in model.select().where(model.seq.between(after + 1, after + limit)).bind(database):
            found[row.seq] = build(row)
    found.update(_metrics_between(database, after + 1, after + limit))
    return [found[seq] for seq in sorted(found)]


def _event(row: Any) -> AnyEvent:
    event: AnyEvent = _event_decoder.decode(row.body)
    return event


def _log_line(row: Any) -> LogLine:
    return LogLine(**{name: getattr(row, name) for name in LogLine.__struct_fields__})


def _metrics_between(database: Any, first: int, last: int) -> Dict[int, AnyEvent]:
    columns: Dict[int, Dict[str, List[Optional[float]]]] = {}
    for row in (
        MetricColumnRow.select().where(MetricColumnRow.seq.between(first, last)).bind(database)
    ):
        columns.setdefault(row.seq, {})[row.name] = _values.decode(row.values)
    batches = MetricBatchRow.select().where(MetricBatchRow.seq.between(first, last))
    return {
        row.seq: Metrics(
            run=row.run,
            steps=_integers.decode(row.steps),
            times=_floats.decode(row.times),
            values=columns.get(row.seq, {}),
        )
        for row in batches.bind(database)
    }


def _chunks(database: Any, run: str, name: str, bounds: Optional[Tuple[int, int]]) -> List[Chunk]:
    until = MetricColumnRow.until
    query: Any = (
        MetricColumnRow.select(*(getattr(MetricColumnRow, field) for field in Chunk._fields))
        .where((MetricColumnRow.run == run) & (MetricColumnRow.name == name))
        # Those that were rewound as a whole are no part of the curve.
        .where(until.is_null() | (until >= MetricColumnRow.first_step))
        .order_by(MetricColumnRow.seq)
    )
    if bounds is not None:
        first, last = bounds
        query = query.where(
            (MetricColumnRow.last_step >= first) & (MetricColumnRow.first_step <= last)
        )
    return [Chunk(*row) for row in query.tuples().bind(database)]


def _chunk_reader(database: Any, run: str, name: str) -> Any:
    def read(seqs: Sequence[int]) -> Iterator[Point]:
        # SQLite allows a limited number of values in one statement.
        for start in range(0, len(seqs), 500):
            query: Any = (
                MetricColumnRow.select(
                    MetricBatchRow.steps, MetricColumnRow.values, MetricColumnRow.until
                )
                .join(MetricBatchRow, on=(MetricBatchRow.seq == MetricColumnRow.seq))
                .where(
                    (MetricColumnRow.run == run)
                    & (MetricColumnRow.name == name)
                    & MetricColumnRow.seq.in_(list(seqs[start : start + 500]))
                )
                .order_by(MetricColumnRow.seq)
            )
            for steps, values, until in query.tuples().bind(database):
                points = zip(_integers.decode(steps), _values.decode(values))
                if until is None:
                    yield from points
                else:
                    yield from (point for point in points if point[0] <= until)

    return read
