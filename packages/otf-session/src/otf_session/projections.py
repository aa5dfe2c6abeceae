"""What is derived from events and kept beside them: runs and series at a glance.

Both could be computed from the events at any time; they are kept so that a session with ten
million points is listed without reading one.
"""

from typing import Any, Dict, List, Sequence, Tuple

import msgspec
import peewee

from . import statements
from .events import (
    AnyEvent,
    EpochStarted,
    Metrics,
    Rewound,
    RunStarted,
    RunState,
    StateChanged,
)
from .models import MetricBatchRow, MetricColumnRow, MetricSeriesRow, RunRow


def apply(database: Any, first: int, events: Sequence[AnyEvent]) -> None:
    """Bring runs and series up to date with these events, of which the first has `seq` `first`."""
    progress: Dict[str, Tuple[int, float]] = {}
    for seq, event in enumerate(events, first):
        if isinstance(event, Metrics):
            progress[event.run] = (event.steps[-1], event.times[-1])
            _extend_series(database, event)
        elif isinstance(event, RunStarted):
            _insert_run(database, event)
        elif isinstance(event, StateChanged):
            progress.pop(event.run, None)
            _update_run(
                database,
                event.run,
                state=event.state.value,
                reason=event.reason,
                step=event.step,
                updated=event.time,
            )
        elif isinstance(event, Rewound):
            progress.pop(event.run, None)
            _rewind(database, seq, event)
        elif isinstance(event, EpochStarted):
            _update_run(database, event.run, epoch=event.epoch, updated=event.time)
    for run, (step, time) in progress.items():
        _update_run(database, run, step=step, updated=time)


def _insert_run(database: Any, event: RunStarted) -> None:
    RunRow.insert(
        name=event.run,
        parents=msgspec.json.encode(event.parents).decode(),
        created=event.time,
        updated=event.time,
        state=RunState.STARTING.value,
        reason="",
        step=event.step,
        epoch=0,
    ).execute(database)


def _rewind(database: Any, seq: int, event: Rewound) -> None:
    """Take what the run recorded after the step it went back to out of its curves."""
    column = MetricColumnRow
    still_counts = column.until.is_null() | (column.until > event.step)
    column.update(until=event.step).where(
        (column.run == event.run)
        # What was recorded since then may be in the database already, by the same append.
        & (column.seq < seq)
        & (column.last_step > event.step)
        & still_counts
    ).execute(database)
    _update_run(database, event.run, step=event.step, epoch=event.epoch, updated=event.time)
    for series in MetricSeriesRow.select().where(MetricSeriesRow.run == event.run).bind(database):
        _recount(database, seq, event.run, series.name)


def _recount(database: Any, seq: int, run: str, name: str) -> None:
    """Bring a series' count and newest value to what was left of its curve at `seq`."""
    column = MetricColumnRow
    whole = column.until.is_null() | (column.until >= column.last_step)
    # What the same append recorded since then is counted when its turn comes.
    of_series = (column.run == run) & (column.name == name) & (column.seq < seq)
    total = peewee.fn.SUM(column.size)
    count = column.select(total).where(of_series & whole).bind(database).scalar() or 0
    last: Tuple[int, Any] = (0, None)
    # Of those that were rewound in part, the points that are left; and the newest of all.
    query: Any = (
        column.select(column.until, column.values, MetricBatchRow.steps)
        .join(MetricBatchRow, on=(MetricBatchRow.seq == column.seq))
        .where(of_series & (column.until.is_null() | (column.until >= column.first_step)))
    )
    newest = query.order_by(column.last_step.desc(), column.seq.desc()).limit(1)
    parts = query.where(~whole)
    for row in parts.tuples().bind(database):
        count += len(_left(*row))
    for row in [*newest.tuples().bind(database), *parts.tuples().bind(database)]:
        last = max([last, *_left(*row)], key=lambda point: point[0])
    MetricSeriesRow.update(count=count, last_step=last[0], last_value=last[1]).where(
        (MetricSeriesRow.run == run) & (MetricSeriesRow.name == name)
    ).execute(database)


def _left(until: Any, values: str, steps: str) -> List[Tuple[int, Any]]:
    points = zip(msgspec.json.decode(steps), msgspec.json.decode(values))
    return [point for point in points if until is None or point[0] <= until]


def _update_run(database: Any, run: str, **values: Any) -> None:
    RunRow.update(**values).where(RunRow.name == run).execute(database)


def _extend_series(database: Any, event: Metrics) -> None:
    rows = [
        {
            "run": event.run,
            "name": name,
            "count": len(values),
            "last_step": event.steps[-1],
            "last_value": values[-1],
        }
        for name, values in event.values.items()
    ]
    statements.extend_series(database, rows)
