import sqlite3

import peewee
import pytest
from otf_session import migrations
from otf_session.errors import SchemaTooNew
from otf_session.models import Row

from ..helpers.sessions import make_session, started, stored


@pytest.fixture
def database(tmp_path):
    database = peewee.SqliteDatabase(str(tmp_path / "session.sqlite"))
    yield database
    database.close()


def schema(database):
    return database.execute_sql(
        "SELECT type, name, sql FROM sqlite_master ORDER BY name"
    ).fetchall()


def test_an_empty_file_is_brought_to_the_newest_schema(database):
    assert migrations.version(database) == 0
    migrations.migrate(database)
    assert migrations.version(database) == migrations.NEWEST == 2


def test_a_migration_is_applied_once(database):
    migrations.migrate(database)
    before = schema(database)
    database.execute_sql("INSERT INTO session VALUES ('s', 'p', 1.0)")
    migrations.migrate(database)
    assert schema(database) == before
    assert database.execute_sql("SELECT * FROM session").fetchall() == [("s", "p", 1.0)]


def test_a_later_migration_is_applied_to_an_older_session(home, monkeypatch):
    from otf_session.store import SessionStore

    store = make_session(home, started())
    store.close()
    later = "ALTER TABLE run ADD COLUMN note TEXT NOT NULL DEFAULT 'none';\n"
    monkeypatch.setattr(migrations, "_MIGRATIONS", [*migrations._MIGRATIONS, (3, later)])
    monkeypatch.setattr(migrations, "NEWEST", 3)
    again = SessionStore(store.folder)
    assert stored(again) == [started()]
    again.close()
    connection = sqlite3.connect(store.folder / "session.sqlite")
    assert connection.execute("PRAGMA user_version").fetchone() == (3,)
    assert connection.execute("SELECT name, note FROM run").fetchall() == [("baseline", "none")]
    connection.close()


def test_a_migration_that_fails_leaves_nothing(database, monkeypatch):
    migrations.migrate(database)
    before = schema(database)
    broken = (3, "CREATE TABLE half (id INTEGER);\nCREATE TABLE session (id INTEGER);\n")
    monkeypatch.setattr(migrations, "_MIGRATIONS", [*migrations._MIGRATIONS, broken])
    monkeypatch.setattr(migrations, "NEWEST", 3)
    with pytest.raises(peewee.OperationalError):
        migrations.migrate(database)
    assert schema(database) == before
    assert migrations.version(database) == 2


def test_a_schema_from_the_future_is_left_as_it_is(database):
    database.execute_sql("PRAGMA user_version = 3")
    with pytest.raises(SchemaTooNew, match="schema 3"):
        migrations.migrate(database)
    assert schema(database) == []


def test_migrations_are_numbered_from_1_without_a_gap():
    numbers = [number for number, _ in migrations._MIGRATIONS]
    assert numbers == list(range(1, migrations.NEWEST + 1))


@pytest.mark.parametrize("model", Row.__subclasses__(), ids=lambda model: model.__name__)
def test_the_models_are_of_the_tables_that_the_migrations_make(database, model):
    migrations.migrate(database)
    table = model._meta.table_name
    rows = database.execute_sql(f"PRAGMA table_info({table})").fetchall()
    columns = {row[1]: bool(row[3]) for row in rows}
    assert columns == {field.column_name: not field.null for field in model._meta.sorted_fields}
