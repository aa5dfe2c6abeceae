"""Numbered, frozen migrations of a session's database.

The number of the newest applied one is SQLite's `user_version`. A migration is never edited once
it has been released; a change of the schema is a new file.
"""

from typing import List, Optional, Tuple

import peewee

from ..errors import SchemaTooNew
from . import m0001_initial, m0002_rewinds

_MIGRATIONS: List[Tuple[int, str]] = [
    (1, m0001_initial.SQL),
    (2, m0002_rewinds.SQL),
]

NEWEST = _MIGRATIONS[-1][0]


def version(database: peewee.SqliteDatabase) -> int:
    """The number of the newest migration that has been applied; 0 for an empty file."""
    return int(database.execute_sql("PRAGMA user_version").fetchone()[0])


def check(database: peewee.SqliteDatabase) -> int:
    """The database's version; raise `SchemaTooNew` where this code does not know it."""
    found = version(database)
    if found > NEWEST:
        # Readers open it by a URI; SQLite knows its path.
        path = database.execute_sql("PRAGMA database_list").fetchone()[2]
        raise SchemaTooNew(
            f"{path} has schema {found}, and this version of OnTheFly knows "
            f"schemas up to {NEWEST}. Upgrade it: pip install --upgrade onthefly-ai"
        )
    return found


def migrate(database: peewee.SqliteDatabase, upto: Optional[int] = None) -> None:
    """Apply what has not been applied yet, each migration in a transaction of its own.

    `upto` is the last one that is wanted; without it all are.
    """
    found = check(database)
    for number, sql in _MIGRATIONS:
        if number <= found or (upto is not None and number > upto):
            continue
        with database.atomic("IMMEDIATE"):
            # Looked at again under the lock: another process may be doing the same.
            if number <= version(database):
                continue
            for statement in sql.split(";\n"):
                if statement.strip():
                    database.execute_sql(statement)
            database.execute_sql(f"PRAGMA user_version = {number:d}")
