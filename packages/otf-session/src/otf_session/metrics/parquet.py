"""Measurements as a Parquet file, by pyarrow, which is an extra of this package."""

from pathlib import Path
from typing import Any, Iterable, Iterator, List, Optional, Tuple

from ..errors import NotWritten
from .blocks import Block, Choice
from .rows import line_columns, lines, points

#: Rows in a row group, which are in memory together.
_ROWS = 1 << 16

_NOT_FINITE = float("nan")


def check_installed() -> None:
    """Raise `NotWritten` where pyarrow is not there."""
    try:
        import pyarrow as pa  # noqa: F401
    except ImportError as error:
        raise NotWritten(
            "Parquet files are written with pyarrow, which is not installed: pip install "
            '"otf-session[parquet]". CSV needs nothing: --format csv.'
        ) from error


def write_parquet(path: Path, blocks: Iterable[Block], choice: Choice, *, wide: bool) -> None:
    """Write one row per value; `wide`: one row per step, a column per metric.

    A value that is not finite is NaN; one that was not measured is null.
    """
    import pyarrow as pa
    from pyarrow import parquet

    schema = _wide_schema(choice) if wide else _long_schema(choice)
    rows = _wide(blocks, choice) if wide else _long(blocks, choice)
    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        for group in _groups(rows):
            columns = [
                pa.array(column, type=field.type) for column, field in zip(zip(*group), schema)
            ]
            writer.write_batch(pa.record_batch(columns, schema=schema))


def _groups(rows: Iterator[Tuple[Any, ...]]) -> Iterator[List[Tuple[Any, ...]]]:
    group: List[Tuple[Any, ...]] = []
    for row in rows:
        group.append(row)
        if len(group) == _ROWS:
            yield group
            group = []
    if group:
        yield group


def _long(blocks: Iterable[Block], choice: Choice) -> Iterator[Tuple[Any, ...]]:
    for run, name, step, time, value, rewound in points(blocks):
        row = (run, name, step, time, _NOT_FINITE if value is None else value)
        yield (*row, rewound) if choice.rewound else row


def _wide(blocks: Iterable[Block], choice: Choice) -> Iterator[Tuple[Any, ...]]:
    for line in lines(blocks):
        own = (line.run, line.step, line.time)
        flag = (line.rewound,) if choice.rewound else ()
        yield (*own, *flag, *(_cell(line.values, name) for name in choice.names))


def _cell(values: "dict[str, Optional[float]]", name: str) -> Optional[float]:
    if name not in values:
        return None
    value = values[name]
    return _NOT_FINITE if value is None else value


def _long_schema(choice: Choice) -> Any:
    import pyarrow as pa

    word = pa.dictionary(pa.int32(), pa.string())
    types = [word, word, pa.int64(), pa.float64(), pa.float64(), pa.bool_()]
    return pa.schema(list(zip(choice.columns, types)))


def _wide_schema(choice: Choice) -> Any:
    import pyarrow as pa

    word = pa.dictionary(pa.int32(), pa.string())
    own = [word, pa.int64(), pa.float64(), *([pa.bool_()] if choice.rewound else [])]
    types = [*own, *([pa.float64()] * len(choice.names))]
    return pa.schema(list(zip(line_columns(choice), types)))
