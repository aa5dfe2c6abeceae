"""The table of fronts and capabilities: each cell is a test that exists, or a reason that is stated."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import List, NamedTuple

import pytest
from otf_session.commands import Command

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "fronts.md"

_LINK = r'\[[^\]]+\]\((?P<path>\.\./tests/[^ )]+\.py) "(?P<test>[^"]+)"\)'
_REASON = r"\[(?P<reason>\d+)\]\(#reason-(?P=reason)\)"
#: What a cell may be: `yes` with its test, `partly` with both, `no` and `untested` with their reason.
_CELLS = [rf"{_LINK}", rf"{_LINK} {_REASON}", rf"(?:no|untested) {_REASON}"]
_WORDS = {"yes": False, "partly": True}


class Row(NamedTuple):
    name: str
    cells: List[str]


def tables():
    """Of each table the columns, and its rows."""
    found = []
    for block in re.findall(r"(?:^\|.*\n)+", PAGE.read_text(), re.MULTILINE):
        head, _, *rows = [
            [part.strip() for part in line.strip().strip("|").split("|")]
            for line in block.splitlines()
        ]
        found.append((head[1:], [Row(name, cells) for name, *cells in rows]))
    return found


def all_cells():
    return [
        (f"{row.name} / {column}", cell)
        for columns, rows in tables()
        for row in rows
        for column, cell in zip(columns, row.cells)
    ]


def reasons():
    return dict(re.findall(r'^(\d+)\. <a id="reason-\1"></a>(.+)$', PAGE.read_text(), re.MULTILINE))


def is_cell(text):
    if not any(re.fullmatch(kind, text) for kind in _CELLS):
        return False
    word = re.match(r"\[(\w+)\]\(\.\.", text)
    return word is None or _WORDS.get(word[1]) is bool(re.search(_REASON, text))


def defined(path):
    return {
        node.name
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef)
    }


def words_near(path):
    """Every string in the Python files of a test's folder, and of the one that it borrows from."""
    folder = path.parent
    files = [*folder.glob("*.py"), *folder.parent.glob("*.py")]
    return {
        node.value
        for file in files
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


def test_there_are_two_tables_and_no_row_lacks_a_cell():
    (columns, rows), (others, more) = tables()
    assert len(columns) == 7
    assert len(others) == 2
    for row in rows:
        assert len(row.cells) == 7, row.name
    for row in more:
        assert len(row.cells) == 2, row.name
    names = [row.name for row in rows]
    assert len(set(names)) == len(names) > len(Command.__args__)


@pytest.mark.parametrize(("where", "cell"), all_cells(), ids=lambda value: value[:60])
def test_a_cell_is_a_test_or_a_reason(where, cell):
    assert is_cell(cell), where


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yes",
        "no",
        "no [1]",
        '[yes](../tests/x.py "test_y") [1](#reason-1)',
        '[partly](../tests/x.py "test_y")',
        "[yes](../tests/x.py)",
    ],
)
def test_what_is_no_cell_is_told(text):
    assert not is_cell(text)


def test_every_test_that_is_named_exists():
    named = {(m["path"], m["test"]) for m in re.finditer(_LINK, PAGE.read_text())}
    assert len(named) > 50
    for relative, test in sorted(named):
        path = (DOCS / relative).resolve()
        assert path.is_file(), relative
        name, _, case = test.partition("[")
        assert name.startswith("test_"), test
        assert name in defined(path), f"{relative} has no {name}"
        if case:
            assert case.rstrip("]") in words_near(path), f"{relative} has no case {case}"


def test_every_reason_is_stated_once_and_used():
    stated = reasons()
    assert list(stated) == [str(number) for number in range(1, len(stated) + 1)]
    used = {m["reason"] for m in re.finditer(_REASON, PAGE.read_text())}
    assert used == set(stated)


def test_every_command_has_a_row():
    (_, rows), _ = tables()
    named = {word for row in rows for word in re.findall(r"`([a-z-]+)`", row.name)}
    missing = {kind.__struct_config__.tag for kind in Command.__args__} - named
    assert not missing, f"docs/fronts.md has no row for {sorted(missing)}"
