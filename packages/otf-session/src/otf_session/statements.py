"""Inserts that are written ten times a second: peewee builds their SQL once, from the models.

Building a statement costs peewee several times what SQLite needs to execute it, and the thread that
does it holds the interpreter's lock, which the training thread is waiting for.
"""

from functools import cache
from typing import Any, Dict, List, Sequence, Tuple, Type

import peewee

from .models import MetricSeriesRow, Row


def insert(database: Any, model: Type[Row], rows: Sequence[Dict[str, Any]]) -> None:
    """Insert rows, each a dict with every field of the model."""
    _execute(database, _insert_statement(model), rows)


def extend_series(database: Any, rows: Sequence[Dict[str, Any]]) -> None:
    """Insert rows of `MetricSeriesRow`, or bring those that exist up to date with them."""
    _execute(database, _series_statement(), rows)


Statement = Tuple[str, List[str]]


def _execute(database: Any, statement: Statement, rows: Sequence[Dict[str, Any]]) -> None:
    if not rows:
        return
    sql, fields = statement
    with peewee.__exception_wrapper__:  # type: ignore[attr-defined]
        database.connection().executemany(sql, [[row[name] for name in fields] for row in rows])


@cache
def _insert_statement(model: Type[Row]) -> Statement:
    fields = list(model._meta.sorted_field_names)  # noqa: SLF001
    return _sql(model.insert(dict.fromkeys(fields, 0))), fields


@cache
def _series_statement() -> Statement:
    fields = list(MetricSeriesRow._meta.sorted_field_names)  # noqa: SLF001
    query = MetricSeriesRow.insert(dict.fromkeys(fields, 0)).on_conflict(
        conflict_target=[MetricSeriesRow.run, MetricSeriesRow.name],
        update={
            MetricSeriesRow.count: MetricSeriesRow.count + peewee.EXCLUDED.count,
            MetricSeriesRow.last_step: peewee.EXCLUDED.last_step,
            MetricSeriesRow.last_value: peewee.EXCLUDED.last_value,
        },
    )
    return _sql(query), fields


def _sql(query: Any) -> str:
    # A database that is never opened: it knows how SQLite writes its parameters.
    sql, _ = query.bind(peewee.SqliteDatabase(None)).sql()
    return str(sql)
