"""Whether the rows of a session's database are what our own code writes."""

import contextlib
import sqlite3
from typing import Any, Callable, Dict, List, Optional, Tuple, get_args

import msgspec

from ..errors import BundleRefused, BundleTooNew
from ..events import AnyEvent, LogLine, Metrics, RunState
from .draft import Row, Select, tables

_TYPES: Dict[str, Tuple[type, ...]] = {"TEXT": (str,), "INTEGER": (int,), "REAL": (float,)}
#: The year 3000: later ones are no dates on every system.
_LATEST = 32_503_680_000.0
_STATES = {state.value for state in RunState}

_any_event = msgspec.json.Decoder(AnyEvent)
_strings = msgspec.json.Decoder(List[str])
_integers = msgspec.json.Decoder(List[int])
_floats = msgspec.json.Decoder(List[float])
_values = msgspec.json.Decoder(List[Optional[float]])
_KINDS = {kind.__struct_config__.tag for kind in get_args(AnyEvent)}


class Checks:
    """Looks at rows one by one; raises `BundleRefused` at the first that cannot be ours."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._tables = tables(connection)
        self._columns = {table.name: table.columns for table in self._tables}
        self._allowed: Dict[str, List[Tuple[type, ...]]] = {}
        for table in self._tables:
            properties = connection.execute(f'PRAGMA table_info("{table.name}")').fetchall()
            self._allowed[table.name] = [
                _TYPES[kind] if needed else (*_TYPES[kind], type(None))
                for _, _, kind, needed, *_ in properties
            ]
        self._further: Dict[str, Callable[[Dict[str, Any]], str]] = {
            "session": _session_problem,
            "run": _run_problem,
            "event": _event_problem,
            "metric_batch": _batch_problem,
            "metric_column": _column_problem,
        }

    def check_all(self, select: Select) -> None:
        """Look at every row of every table."""
        for table in self._tables:
            with contextlib.closing(select(table.query)) as rows:
                for row in rows:
                    self.check(table.name, row)

    def check(self, table: str, row: Row) -> None:
        """Look at one row of a table."""
        for value, allowed in zip(row, self._allowed[table]):
            if type(value) not in allowed:
                raise _refused(table, row, f"holds a {type(value).__name__} where none can be")
        further = self._further.get(table)
        if further is None:
            return
        try:
            problem = further(dict(zip(self._columns[table], row)))
        # A text that is no JSON, JSON of another shape, or nested without end.
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise _refused(table, row, f"cannot be read: {error}") from error
        if problem:
            raise _refused(table, row, problem)


def check_numbers(connection: sqlite3.Connection) -> None:
    """Look at what rows are to each other: events are counted from 1 without a gap."""
    count, different, first, last = connection.execute(
        "SELECT count(*), count(DISTINCT seq), min(seq), max(seq) FROM "
        "(SELECT seq FROM event UNION ALL SELECT seq FROM log UNION ALL SELECT seq FROM metric_batch)"
    ).fetchone()
    if count and (different, first, last) != (count, 1, count):
        raise BundleRefused("Its session.sqlite is not whole: events are missing, or there twice.")
    lost = connection.execute(
        "SELECT count(*) FROM metric_column AS c WHERE NOT EXISTS "
        "(SELECT 1 FROM metric_batch AS b WHERE b.seq = c.seq AND b.run = c.run "
        "AND json_array_length(b.steps) = c.count)"
    ).fetchone()[0]
    if lost:
        raise BundleRefused("Its session.sqlite is not whole: metrics have no steps.")


def _session_problem(row: Dict[str, Any]) -> str:
    return "" if 0 <= row["created"] < _LATEST else "has a time that is none"


def _run_problem(row: Dict[str, Any]) -> str:
    _strings.decode(row["parents"])
    if not (0 <= row["created"] < _LATEST and 0 <= row["updated"] < _LATEST):
        return "has a time that is none"
    return "" if row["state"] in _STATES else f"has the unknown state '{row['state'][:50]}'"


def _event_problem(row: Dict[str, Any]) -> str:
    if row["kind"] not in _KINDS:
        raise BundleTooNew(
            f"The bundle holds an event of the kind '{row['kind'][:50]}', which this version of "
            "OnTheFly does not know. Upgrade it: pip install --upgrade onthefly-ai"
        )
    event = _any_event.decode(row["body"])
    if isinstance(event, (Metrics, LogLine)):
        return "is no event of this table"
    same = (type(event).__struct_config__.tag, getattr(event, "run", "")) == (
        row["kind"],
        row["run"],
    )
    return "" if same else "says of its event what it is not"


def _batch_problem(row: Dict[str, Any]) -> str:
    steps, times = _integers.decode(row["steps"]), _floats.decode(row["times"])
    return "" if steps and len(steps) == len(times) else "has not one time for each step"


def _column_problem(row: Dict[str, Any]) -> str:
    values = _values.decode(row["value_list"])
    if len(values) != row["count"] or values.count(None) != row["nonfinite"]:
        return "has not as many values as it says"
    finite = row["nonfinite"] < row["count"]
    extremes = [row[name] for name in ("low", "low_step", "high", "high_step")]
    return "" if (None in extremes) is not finite else "has not the extremes of its values"


def _refused(table: str, row: Row, problem: str) -> BundleRefused:
    first = next((value for value in row if isinstance(value, (int, str))), "")
    return BundleRefused(
        f"Its session.sqlite is not one of OnTheFly: the row '{str(first)[:50]}' of the table "
        f"'{table}' {problem}."
    )
