"""Measurements as text: CSV and JSON lines."""

import csv
import io
from itertools import islice
from typing import BinaryIO, Iterable, Iterator, List, Sequence

import msgspec

from .blocks import Block, Choice
from .rows import line_columns, lines, points

#: A value that was measured and is not finite. One that was not measured is an empty cell.
_NOT_FINITE = "nan"

#: Rows that are put together before they are written.
_ROWS = 4096


def write_csv(file: BinaryIO, blocks: Iterable[Block], choice: Choice) -> None:
    """Write a header and one row per value."""
    file.write(_csv([choice.columns]))
    file.writelines(_block(block, choice).encode() for block in blocks)


def write_wide_csv(file: BinaryIO, blocks: Iterable[Block], choice: Choice) -> None:
    """Write a header and one row per step, with a column per metric."""
    file.write(_csv([line_columns(choice)]))
    rows = _wide(blocks, choice)
    while True:
        some = list(islice(rows, _ROWS))
        if not some:
            return
        file.write(_csv(some))


def write_jsonl(file: BinaryIO, blocks: Iterable[Block], choice: Choice) -> None:
    """Write one JSON object per value and line; `null` is a value that is not finite."""
    encoder, columns = msgspec.json.Encoder(), choice.columns
    rows = points(blocks)
    while True:
        some = [dict(zip(columns, point)) for point in islice(rows, _ROWS)]
        if not some:
            return
        file.write(encoder.encode_lines(some))


def _csv(rows: Sequence[Sequence[object]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def _block(block: Block, choice: Choice) -> str:
    """The rows of a batch. Only names are quoted; step and time are made text once for all."""
    heads = [f"{step},{time!r}," for step, time in zip(block.steps, block.times)]
    ends = ["\n"] * len(heads)
    if choice.rewound:
        ends = [f",{int(block.is_rewound(step))}\n" for step in block.steps]
    parts: List[str] = []
    for name, values in block.values.items():
        begin = _csv([[block.run, name, ""]]).decode().rstrip("\n")
        for head, value, end in zip(heads, values, ends):
            parts.append(f"{begin}{head}{_NOT_FINITE if value is None else repr(value)}{end}")
    return "".join(parts)


def _wide(blocks: Iterable[Block], choice: Choice) -> Iterator[Sequence[object]]:
    for line in lines(blocks):
        row: List[object] = [line.run, line.step, line.time]
        if choice.rewound:
            row.append(int(line.rewound))
        for name in choice.names:
            value = line.values.get(name, "")
            row.append(_NOT_FINITE if value is None else value)
        yield row
