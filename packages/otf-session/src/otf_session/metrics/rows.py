"""Measurements as rows of a table, long or wide."""

from typing import Dict, Iterable, Iterator, List, NamedTuple, Optional, Tuple

from .blocks import Block, Choice

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
    """One row per step: what was recorded for the same step one after the other is put together."""
    held: Optional[Line] = None
    for line in _recorded(blocks):
        if held is None:
            held = line
        elif _belongs_to(line, held):
            held.values.update(line.values)
        else:
            yield held
            held = line
    if held is not None:
        yield held


def line_columns(choice: Choice) -> List[str]:
    """The names of the columns of lines; a metric is named apart where it has another's name."""
    own = ["run", "step", "time", *(["rewound"] if choice.rewound else [])]
    return [*own, *(f"{name} (metric)" if name in own else name for name in choice.names)]


def _recorded(blocks: Iterable[Block]) -> Iterator[Line]:
    for block in blocks:
        for number, (step, time) in enumerate(zip(block.steps, block.times)):
            values = {name: column[number] for name, column in block.values.items()}
            yield Line(block.run, step, time, values, block.is_rewound(step))


def _belongs_to(line: Line, held: Line) -> bool:
    same = (line.run, line.step, line.rewound) == (held.run, held.step, held.rewound)
    return same and not line.values.keys() & held.values.keys()
