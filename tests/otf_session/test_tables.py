"""Tables that fit the terminal they are shown on."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from otf_session import shell, tables
from otf_session.sizes import SessionSize
from otf_session.tables import Column, SizeRow, plain, size_text
from rich.console import Console


@pytest.fixture
def shown(monkeypatch):
    """The lines of a table on a terminal of so many characters."""

    def shown(width, show):
        out = io.StringIO()
        console = Console(width=width, file=out, markup=False, emoji=False)
        monkeypatch.setattr(tables, "_console", lambda: console)
        show()
        return [line.rstrip() for line in out.getvalue().splitlines() if line.strip()]

    return shown


COLUMNS = [
    Column("id", ["20261124-093000-k7fq"]),
    Column("project", ["a-project-with-a-long-name-that-goes-on"], 1, elastic=True),
    Column("step", ["1200"], 2, is_number=True),
    Column("metrics", ["loss 0.25  val_loss 0.5"], 3),
]


@pytest.mark.parametrize(
    ("width", "titles"),
    [
        (160, ["id", "project", "step", "metrics"]),
        # The name is cut short before a column is left out.
        (90, ["id", "project", "step", "metrics"]),
        (70, ["id", "project", "step"]),
        (50, ["id", "project"]),
        (30, ["id"]),
        (10, ["id"]),
    ],
)
def test_what_matters_least_is_left_out_where_there_is_no_room(shown, width, titles):
    lines = shown(width, lambda: tables.show(COLUMNS))
    assert lines[0].split() == titles
    assert all(len(line) <= width for line in lines)
    if width >= 30:
        assert COLUMNS[0].cells[0] in lines[2]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                ["a", "12", "\u65e5\u672c", "x y", "e\u0301", "", "\u2500", "long " * 4 + "words"]
            )
        ),
        max_size=4,
    ),
    st.booleans(),
    st.sampled_from(["", "all"]),
)
def test_a_table_that_fits_looks_as_rich_has_it_look(rows, is_number, footer):
    cells = [cell for (cell,) in rows]
    columns = [
        Column("first", cells, elastic=True),
        Column("n", cells[::-1], is_number=is_number, footer=footer),
    ]

    def lines(show):
        out = io.StringIO()
        show(Console(width=160, file=out, markup=False, emoji=False, highlight=False))
        return [line.rstrip() for line in out.getvalue().splitlines()]

    made = lines(lambda console: tables._print(tables._whole(columns, console), console))
    assert made == lines(lambda console: console.print(tables._table(columns)))


def test_names_are_whole_where_there_is_room_and_cut_where_there_is_none(shown):
    name = COLUMNS[1].cells[0]
    assert name in shown(160, lambda: tables.show(COLUMNS))[2]
    assert f"{name[:23]}\u2026" in shown(90, lambda: tables.show(COLUMNS))[2]


@pytest.mark.parametrize("width", [80, 160])
def test_the_table_of_sizes_fits_eighty_characters(shown, width):
    size = SessionSize(
        database=320_053_248,
        checkpoints=12_345_678_901,
        pinned=999_950_000,
        other=7,
        total=14 * 10**9,
    )
    rows = [SizeRow("20261124-093000-k7fq", "finished", size, "best so far", "digits")] * 3
    lines = shown(width, lambda: tables.show_sizes(rows))
    assert all(len(line) <= width for line in lines)
    for title in ("session", "name", "checkpoints", "pinned", "total"):
        assert title in lines[0]
    assert lines[-1].split()[:2] == ["in", "all"]
    assert lines[-1].endswith("42.0 GB")


def test_many_runs_are_shown_in_several_tables(shown):
    from otf_session.events import RunState
    from otf_session.summaries import RunSummary

    runs = [
        RunSummary(
            name=f"a-run-with-a-long-name-{number}",
            parents=[],
            state=RunState.FINISHED,
            reason="",
            step=1,
            epoch=1,
            created=0.0,
            updated=0.0,
            latest={"loss": float(number), "val_loss": None},
        )
        for number in range(7)
    ]
    lines = shown(80, lambda: tables.show_metrics(runs))
    assert all(len(line) <= 80 for line in lines)
    assert sum(line.split()[0] == "metric" for line in lines) == 4
    assert " ".join(lines).count("not finite") == 7
    assert all(f"a-run-with-a-long-name-{number}" in " ".join(lines) for number in range(7))


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (99_949, "99.9 kB"),
        (99_950, "100 kB"),
        (999_499, "999 kB"),
        (999_500, "1.0 MB"),
        (123_456_789, "123 MB"),
        (2_000_000_000, "2.0 GB"),
        (7 * 10**15, "7000 TB"),
    ],
)
def test_bytes_for_people(count, text):
    assert size_text(count) == text


def test_what_would_move_the_cursor_does_not():
    assert plain("a\x1b[31mb\tc\r") == "a?[31mb?c"
    assert plain("two\nlines \u65e5\u672c") == "two\nlines \u65e5\u672c"


def test_how_far_work_is_is_shown_on_a_terminal_and_nowhere_else(monkeypatch, capsys):
    with shell.progress("deleting", 100, in_bytes=True) as bar:
        bar.advance(50)
        bar.put(60, 100)
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    with shell.progress("deleting", 100, in_bytes=True) as bar:
        bar.advance(50)
        bar.advance(25)
    out, err = capsys.readouterr()
    assert out == ""
    assert "deleting" in err
