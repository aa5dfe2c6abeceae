"""Parameters of the HTTP API: how each is read from a request, and what is said of it.

A handler reads a parameter by what describes it here, so that none can be read that the API's
description does not list.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from typing import Any, Callable, Dict, Generic, List, Optional, Type, TypeVar

T = TypeVar("T")
E = TypeVar("E", bound=Enum)

#: SQLite's integers have 64 bits.
_TOO_LARGE = 2**63


class BadRequest(Exception):
    """A parameter or a body that cannot be used."""


@dataclass(frozen=True, eq=False)
class Parameter(Generic[T]):
    """One parameter in the `query`, the `path` or a `header`.

    `parse` makes the value of all texts that a request has under the name; `schema` is that value's
    JSON Schema.
    """

    name: str
    about: str
    schema: Dict[str, Any]
    parse: Callable[[List[str]], T]
    place: str = "query"


def in_path(name: str, about: str) -> Parameter[str]:
    """A part of the path."""
    return Parameter(name, about, {"type": "string"}, lambda given: given[0], "path")


def several(name: str, about: str) -> Parameter[List[str]]:
    """A text that may be given several times."""
    schema = {"type": "array", "items": {"type": "string"}}
    return Parameter(name, about, schema, lambda given: given)


def line(
    name: str, about: str, place: str = "query", *, longest: int = 100
) -> Parameter[Optional[str]]:
    """One line of so many characters at most."""

    def parse(given: List[str]) -> Optional[str]:
        if not given or not given[0]:
            return None
        if len(given[0]) > longest or not given[0].isprintable():
            raise BadRequest(f"{name} is no line of at most {longest} printable characters.")
        return given[0]

    return Parameter(name, about, {"type": "string", "maxLength": longest}, parse, place)


def whole(name: str, about: str, place: str = "query") -> Parameter[Optional[int]]:
    """A whole number, where one is given."""
    schema = {"type": "integer", "format": "int64"}

    def parse(given: List[str]) -> Optional[int]:
        return _whole(name, given[0]) if given else None

    return Parameter(name, about, schema, parse, place)


def yes_or_no(name: str, about: str) -> Parameter[bool]:
    """`true` or `false`, by default the latter."""

    def parse(given: List[str]) -> bool:
        if given and given[0] not in ("true", "false"):
            raise BadRequest(f"{name} is {given[0]!r}; it is true or false.")
        return bool(given) and given[0] == "true"

    return Parameter(name, about, {"type": "boolean", "default": False}, parse)


def one_of(name: str, about: str, kind: Type[E], default: E) -> Parameter[E]:
    """One of a few words."""
    words = [each.value for each in kind]

    def parse(given: List[str]) -> E:
        if given and given[0] not in words:
            raise BadRequest(f"{name} is {given[0]!r}; it is one of {', '.join(words)}.")
        return kind(given[0]) if given else default

    schema = {"type": "string", "enum": words, "default": default.value}
    return Parameter(name, about, schema, parse)


def within(name: str, about: str, *, default: int, low: int, high: int) -> Parameter[int]:
    """A whole number that is kept between two others."""

    def parse(given: List[str]) -> int:
        return min(max(_whole(name, given[0]) if given else default, low), high)

    schema = {"type": "integer", "default": default, "minimum": low, "maximum": high}
    return Parameter(name, about, schema, parse)


def seconds(name: str, about: str, *, default: float, most: float) -> Parameter[float]:
    """A time that is kept between none and `most`."""

    def parse(given: List[str]) -> float:
        if not given:
            return default
        try:
            number = float(given[0])
        except ValueError:
            number = math.nan
        if math.isnan(number):
            raise BadRequest(f"{name} is {given[0]!r}; it is a number of seconds.")
        return min(max(number, 0.0), most)

    schema = {"type": "number", "default": default, "minimum": 0, "maximum": most}
    return Parameter(name, about, schema, parse)


def _whole(name: str, text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        raise BadRequest(f"{name} is {text!r}; it is a whole number.") from None
    if abs(number) >= _TOO_LARGE:
        raise BadRequest(f"{name} is {text!r}; it is a whole number below 2**63.")
    return number
