"""A method's parameters: declared in its signature, given as text or values, checked in one place."""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import math
import typing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Callable, Literal

from .errors import InvalidMethod, InvalidParameter

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Range:
    """The numbers a parameter may have: from `least` to `most`, or strictly `above` or `below`."""

    least: float = -math.inf
    most: float = math.inf
    above: float = -math.inf
    below: float = math.inf

    def __contains__(self, value: float) -> bool:
        return self.least <= value <= self.most and (
            self.above < value < self.below or math.isinf(value)
        )

    def __str__(self) -> str:
        bounds = []
        if self.above > -math.inf:
            bounds.append(f"above {self.above:g}")
        if self.least > -math.inf:
            bounds.append(f"from {self.least:g}")
        if self.below < math.inf:
            bounds.append(f"below {self.below:g}")
        if self.most < math.inf:
            bounds.append(f"to {self.most:g}")
        return " ".join(bounds)


@dataclass(frozen=True)
class Parameter:
    """One parameter of a method, as help, recipes and checks know it.

    `kind` is the type a value has in the end: `float`, `int`, `bool` or `str`; with `choices` it is
    one of those texts. `optional` allows None, which a method's own rule then stands for.
    """

    name: str
    kind: type
    default: Any
    help: str
    range: Range = dataclasses.field(default_factory=Range)
    choices: tuple[str, ...] = ()
    optional: bool = False

    @property
    def told(self) -> str:
        """What may be given, in words: `number from 0 to 1`, `true or false`, `tensor or model`."""
        if self.choices:
            return " or ".join(self.choices)
        words = {float: "number", int: "whole number", bool: "true or false", str: "text"}
        return f"{words[self.kind]} {self.range}".strip()

    def checked(self, given: Any) -> Any:
        """The value that was given, as text or as itself, in this parameter's kind and range.

        Raises `InvalidParameter` where it is of another kind or out of range.
        """
        if given is None and self.optional:
            return None
        value = self._converted(given)
        if value is None or (self.kind in (int, float) and not self._allows(value)):
            raise InvalidParameter(f"`{self.name}` is {given!r}, and must be a {self.told}.")
        if self.choices and value not in self.choices:
            raise InvalidParameter(f"`{self.name}` is {given!r}, and must be {self.told}.")
        return value

    def _allows(self, value: float) -> bool:
        return math.isfinite(value) and value in self.range

    def _converted(self, given: Any) -> Any:
        """The value in this parameter's kind, or None where it is of another."""
        if self.kind is bool:
            if isinstance(given, bool):
                return given
            words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
            return words.get(given.lower()) if isinstance(given, str) else None
        if isinstance(given, bool) or not isinstance(given, (str, int, float)):
            return None
        if self.kind is str:
            return given if isinstance(given, str) else None
        try:
            number = float(given)
        except ValueError:
            return None
        if self.kind is int:
            return int(number) if number.is_integer() else None
        return number


def declared(
    method: str, function: Callable[..., Any], supplied: frozenset[str]
) -> tuple[Parameter, ...]:
    """The parameters in a method's signature, without what the engine supplies by name.

    A parameter is a keyword with a default. Its annotation is `Annotated[float, "what it does"]`,
    with a `Range` where it has one, or `Annotated[Literal["a", "b"], "what it does"]`.
    Raises `InvalidMethod` for a keyword that nobody could fill in.
    """
    found = []
    for parameter in list(inspect.signature(function).parameters.values())[1:]:
        if parameter.name in supplied:
            continue
        if parameter.default is inspect.Parameter.empty:
            raise InvalidMethod(
                f"The merge method `{method}` asks for `{parameter.name}`, which nothing supplies. "
                f"Give that parameter a default; only {_listed(supplied)} are filled in."
            )
        found.append(_parameter(method, parameter, _hint(function, parameter)))
    return tuple(found)


def _hint(function: Callable[..., Any], parameter: inspect.Parameter) -> Any:
    if parameter.annotation is inspect.Parameter.empty:
        return type(parameter.default)
    # By itself, so that names which a module imports for type checkers alone do no harm.
    alone = {"__annotations__": {"it": parameter.annotation}}
    space = getattr(function, "__globals__", {})
    return typing.get_type_hints(type("_", (), alone), space, include_extras=True)["it"]


def _parameter(method: str, parameter: inspect.Parameter, hint: Any) -> Parameter:
    texts: list[str] = []
    bounds = Range()
    if typing.get_origin(hint) is Annotated:
        hint, *notes = typing.get_args(hint)
        texts = [note for note in notes if isinstance(note, str)]
        bounds = next((note for note in notes if isinstance(note, Range)), bounds)
    optional = type(None) in typing.get_args(hint)
    if optional:
        hint = next(part for part in typing.get_args(hint) if part is not type(None))
    choices: tuple[str, ...] = ()
    if typing.get_origin(hint) is Literal:
        choices, hint = typing.get_args(hint), str
    if hint not in (float, int, bool, str):
        raise InvalidMethod(
            f"The merge method `{method}` declares `{parameter.name}` as {hint}. A parameter is a "
            "float, int, bool, str or Literal of texts."
        )
    return Parameter(
        parameter.name, hint, parameter.default, " ".join(texts), bounds, choices, optional
    )


def completed(
    method: str, parameters: tuple[Parameter, ...], given: Mapping[str, Any]
) -> dict[str, Any]:
    """All parameters' values: those that were given, checked, and the defaults of the others.

    Raises `InvalidParameter` for one that the method does not have.
    """
    known = {parameter.name: parameter for parameter in parameters}
    for name in given:
        if name not in known:
            nearest = difflib.get_close_matches(name, known) or sorted(known)
            having = f"It has {_listed(nearest)}." if nearest else "It has none."
            raise InvalidParameter(
                f"The merge method `{method}` has no parameter `{name}`. {having} "
                f"`otf-merge methods {method}` tells of each."
            )
    return {
        name: parameter.checked(given[name]) if name in given else parameter.default
        for name, parameter in known.items()
    }


def _listed(names: Any) -> str:
    return ", ".join(f"`{name}`" for name in sorted(names))
