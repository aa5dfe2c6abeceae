"""The schema that the dashboard's types are generated from."""

import json
from pathlib import Path

import pytest
from otf_session import frames
from otf_session.schema import json_schema, main

from ..helpers.vocabulary import EVENTS, FRAMES, tag

_COMMITTED = Path(__file__).parents[2] / "vscode/dashboard/src/wire/schema.json"


def canonical(schema):
    """The schema with its alternatives in one order, which differs between versions of msgspec."""
    if isinstance(schema, dict):
        return {key: canonical(value) for key, value in schema.items()}
    if isinstance(schema, list):
        return sorted((canonical(value) for value in schema), key=json.dumps)
    return schema


def test_the_committed_schema_is_that_of_the_code():
    committed = json.loads(_COMMITTED.read_text(encoding="utf-8"))
    # Compared to a bool: pytest's explanation would hide the sentence.
    is_current = canonical(committed) == canonical(json.loads(json.dumps(json_schema())))
    assert is_current, f"{_COMMITTED.name} is out of date: run `nox -s wire`"


@pytest.mark.parametrize("message", [*EVENTS, *FRAMES], ids=tag)
def test_every_message_is_in_the_schema_under_its_name(message):
    definition = json_schema()["$defs"][type(message).__name__]
    field = type(message).__struct_config__.tag_field
    assert definition["properties"][field] == {"enum": [tag(message)]}


def test_the_schema_says_its_protocol():
    assert json_schema()["protocol"] == frames.PROTOCOL


def test_the_schema_refers_to_nothing_that_it_does_not_hold():
    schema = json_schema()
    names = set(schema["$defs"])
    found = set()
    waiting = [schema]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            found |= {part["$ref"]} if isinstance(part.get("$ref"), str) else set()
            waiting += part.values()
        elif isinstance(part, list):
            waiting += part
    assert found
    assert found <= {f"#/$defs/{name}" for name in names}


def test_printing_it_gives_the_same_schema(capsys):
    main()
    assert json.loads(capsys.readouterr().out) == json_schema()
