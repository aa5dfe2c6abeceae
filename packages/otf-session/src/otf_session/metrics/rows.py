"""Measurements as rows of a table, long or wide."""

import itertools
from typing import Dict, Iterable, Iterator, List, NamedTuple, Optional, Tuple

from .blocks import Block, Choice

#: Steps whose row is held open at least; a batch has fewer.
_HELD = 10_000

#: run, name, step, time, value, and whether it was rewound.
Point = Tuple[str, str, int, float, Optional[float], bool]


def points(blocks: Iterable[Block]) -> Iterator[Point]:
    """One row per measured value, as in the store's view `metric`."""
    for run, steps, times, columns, until in blocks:
        for name, values in columns.items():
            for step, time, value in zip(steps, times, values):
                yield run, name, step, time, value, until is not None and step > until


class Line(NamedTuple):
    """All that was measured of a run at one step; the time is that of the first of it."""

    run: str
    step: int
    time: float
    values: Dict[str, Optional[float]]
    rewound: bool


def lines(blocks: Iterable[Block]) -> Iterator[Line]:
    """One row per step: what was recorded of a step in several batches is put together.

    Those come soon after each other. What comes only when `_HELD` other steps have is a row of its
    own, and so is what is measured again after a rewind.
    """
    held: Dict[Tuple[str, int, bool], Line] = {}
    for line in _recorded(blocks):
        key = (line.run, line.step, line.rewound)
        known = held.get(key)
        if known is None:
            held[key] = line
        elif line.values.keys() & known.values.keys():
            yield held.pop(key)
            held[key] = line
        else:
            known.values.update(line.values)
        if len(held) > 2 * _HELD:
            for oldest in list(itertools.islice(held, _HELD)):
                yield held.pop(oldest)
    yield from held.values()


def line_columns(choice: Choice) -> List[str]:
    """The names of the columns of lines; a metric is named apart where it has another's name."""
    own = ["run", "step", "time", *(["rewound"] if choice.rewound else [])]
    return [*own, *(f"{name} (metric)" if name in own else name for name in choice.names)]


def _recorded(blocks: Iterable[Block]) -> Iterator[Line]:
    for block in blocks:
        for number, (step, time) in enumerate(zip(block.steps, block.times)):
            values = {name: column[number] for name, column in block.values.items()}
            yield Line(block.run, step, time, values, block.is_rewound(step))
