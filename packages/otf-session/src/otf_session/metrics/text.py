"""Measurements as text: CSV and JSON lines."""

import csv
import io
from itertools import chain, islice
from typing import BinaryIO, Iterable, Iterator, List, Sequence

import msgspec

from .blocks import Block, Choice
from .rows import line_columns, lines, points

#: A value that was measured and is not finite. One that was not measured is an empty cell.
_NOT_FINITE = "nan"

#: Rows that are put together before they are written.
_ROWS = 4096


def write_csv(file: BinaryIO, blocks: Iterable[Block], choice: Choice, *, wide: bool) -> None:
    """Write a header and one row per value; `wide`: one row per step, a column per metric."""
    header = line_columns(choice) if wide else choice.columns
    rows = chain([header], _wide(blocks, choice) if wide else _long(blocks, choice))
    while True:
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerows(islice(rows, _ROWS))
        if not text.tell():
            return
        file.write(text.getvalue().encode())


def write_jsonl(file: BinaryIO, blocks: Iterable[Block], choice: Choice) -> None:
    """Write one JSON object per value and line; `null` is a value that is not finite."""
    encoder, columns = msgspec.json.Encoder(), choice.columns
    rows = points(blocks)
    while True:
        found = [dict(zip(columns, point)) for point in islice(rows, _ROWS)]
        if not found:
            return
        file.write(encoder.encode_lines(found))


def _long(blocks: Iterable[Block], choice: Choice) -> Iterator[Sequence[object]]:
    for run, name, step, time, value, rewound in points(blocks):
        row = (run, name, step, time, _NOT_FINITE if value is None else value)
        yield (*row, int(rewound)) if choice.rewound else row


def _wide(blocks: Iterable[Block], choice: Choice) -> Iterator[Sequence[object]]:
    for line in lines(blocks):
        row: List[object] = [line.run, line.step, line.time]
        if choice.rewound:
            row.append(int(line.rewound))
        for name in choice.names:
            value = line.values.get(name, "")
            row.append(_NOT_FINITE if value is None else value)
        yield row
