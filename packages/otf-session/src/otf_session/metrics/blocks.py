"""The measurements of a session, batch by batch."""

from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import msgspec

from ..errors import NoSuchMetrics
from ..models import MetricBatchRow, MetricColumnRow, MetricSeriesRow, RunRow

#: The batches that are read at a time.
_BATCHES = 64

_integers = msgspec.json.Decoder(List[int])
_floats = msgspec.json.Decoder(List[float])
_values = msgspec.json.Decoder(List[Optional[float]])


class Choice(NamedTuple):
    """What is wanted of a session: these runs and metrics, each in order; rewound points or not."""

    runs: List[str]
    names: List[str]
    rewound: bool

    @property
    def columns(self) -> List[str]:
        """The names of the columns in which points are given."""
        return ["run", "name", "step", "time", "value", *(["rewound"] if self.rewound else [])]


class Block(NamedTuple):
    """The measurements of one batch: of each metric one value per step, None where not finite.

    Those of steps after `until` were rewound; None where none were.
    """

    run: str
    steps: List[int]
    times: List[float]
    values: Dict[str, List[Optional[float]]]
    until: Optional[int]

    def is_rewound(self, step: int) -> bool:
        """Whether what was measured at a step is no longer part of the curve."""
        return self.until is not None and step > self.until


def choose(
    database: Any, session: str, runs: Sequence[str], names: Sequence[str], *, rewound: bool
) -> Choice:
    """What a person asked for; raises `NoSuchMetrics` where the session has no such thing."""
    every_run = [row.name for row in RunRow.select().order_by(RunRow.created).bind(database)]
    series = MetricSeriesRow.select(MetricSeriesRow.name).distinct()
    every_name = sorted(row.name for row in series.bind(database))
    _check(session, "run", runs, every_run)
    _check(session, "metric", names, every_name)
    return Choice(
        [run for run in every_run if run in runs or not runs],
        [name for name in every_name if name in names or not names],
        rewound,
    )


def count(database: Any, choice: Choice) -> int:
    """About how many points there are; rewound ones are not counted."""
    series = MetricSeriesRow.select().where(
        MetricSeriesRow.run.in_(choice.runs) & MetricSeriesRow.name.in_(choice.names)
    )
    return sum(row.count for row in series.bind(database))


def blocks(database: Any, choice: Choice) -> Iterator[Block]:
    """What was chosen, in the order in which it was recorded; rewound points are cut off."""
    runs = set(choice.runs)
    for batches in _pages(database):
        columns = _columns(database, batches[0][0], batches[-1][0], choice.names)
        for seq, run, steps, times in batches:
            values = {name: found for name, found, _ in columns.get(seq, ())}
            if run not in runs or not values:
                continue
            # A rewind is one of the run: it cuts all columns of a batch at the same step.
            until = columns[seq][0][2]
            block = Block(
                run,
                _integers.decode(steps),
                _floats.decode(times),
                {name: _values.decode(values[name]) for name in sorted(values)},
                until,
            )
            if until is not None and not choice.rewound:
                block = _cut(block)
            if block.steps:
                yield block


def _pages(database: Any) -> Iterator[List[Tuple[int, str, str, str]]]:
    row, last = MetricBatchRow, 0
    while True:
        query: Any = (
            row.select(row.seq, row.run, row.steps, row.times)
            .where(row.seq > last)
            .order_by(row.seq)
            .limit(_BATCHES)
        )
        found = list(query.tuples().bind(database))
        if not found:
            return
        yield found
        last = found[-1][0]


def _columns(
    database: Any, first: int, last: int, names: Sequence[str]
) -> Dict[int, List[Tuple[str, str, Optional[int]]]]:
    row = MetricColumnRow
    query: Any = row.select(row.seq, row.name, row.values, row.until).where(
        row.seq.between(first, last) & row.name.in_(names)
    )
    found: Dict[int, List[Tuple[str, str, Optional[int]]]] = {}
    for seq, name, values, until in query.tuples().bind(database):
        found.setdefault(seq, []).append((name, values, until))
    return found


def _cut(block: Block) -> Block:
    """What of a block still belongs to its curves."""
    kept = [number for number, step in enumerate(block.steps) if not block.is_rewound(step)]
    return Block(
        block.run,
        [block.steps[number] for number in kept],
        [block.times[number] for number in kept],
        {name: [values[number] for number in kept] for name, values in block.values.items()},
        None,
    )


def _check(session: str, what: str, wanted: Sequence[str], every: Sequence[str]) -> None:
    for name in wanted:
        if name not in every:
            listed = ", ".join(every) or "none yet"
            raise NoSuchMetrics(f"The session {session} has no {what} '{name}'. It has: {listed}.")
