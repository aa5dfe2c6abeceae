"""What was typed, as a request: options, over a recipe if there is one."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

from .choices import Override
from .errors import InvalidInputs, InvalidParameter
from .recipe import read_recipe, request_of
from .request import Request

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)b?", re.IGNORECASE)

#: The options that a recipe has a key of the same meaning for.
_SAME = ("method", "key", "dtype", "align", "task", "samples", "recalibrate")
_SWITCHES = ("allow_missing", "allow_nonfinite", "gate")
_LISTS = {"inputs": "paths", "fisher": "fisher", "grams": "grams", "skip": "skip"}


def request_from(given: SimpleNamespace) -> Request:
    """The request that the options ask for; what they leave open the recipe says.

    Raises `InvalidInputs` where something cannot be understood.
    """
    recipe = read_recipe(given.recipe) if given.recipe else {}
    for name in (*_SAME, *_SWITCHES):
        if getattr(given, name) is not None:
            recipe[name] = getattr(given, name)
    if given.base is not None:
        recipe["base"] = str(given.base)
    for name, option in _LISTS.items():
        if getattr(given, option):
            recipe[name] = [str(it) for it in getattr(given, option)]
    if given.weight:
        recipe["weights"] = _numbers("--weight", ",".join(given.weight))
    for name, found in _mappings(given).items():
        if found:
            recipe[name] = {**recipe.get(name, {}), **found}
    if recipe.get("recalibrate", "auto") not in ("auto", "always", "never"):
        raise InvalidInputs(
            f"`--recalibrate {recipe['recalibrate']}` is none of auto, always and never."
        )
    return request_of(recipe)


def _mappings(given: SimpleNamespace) -> dict[str, dict[str, Any]]:
    """What a recipe has as mappings, which options add to."""
    overrides = [Override.parse(it) for it in given.overrides or ()]
    named = [_pair("--param", it) for it in given.parameter or ()]
    searched = [_pair("--search", it) for it in given.search or ()]
    return {
        "parameters": {**given.parameters, **dict(named)},
        "set": {it.pattern: it.given for it in overrides},
        "search": {name: values.split(",") for name, values in searched},
    }


def bytes_of(text: str) -> int:
    """`5GB` as a number of bytes."""
    found = _SIZE.fullmatch(text.strip())
    if not found or not float(found[1]):
        raise InvalidInputs(f"`--shard-size {text}` is no size. Say for example 5GB or 500MB.")
    return int(float(found[1]) * _UNITS[found[2].lower()])


def _pair(option: str, text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals or not value:
        raise InvalidInputs(f"`{option} {text}` says nothing. Write NAME=VALUE.")
    return name.strip().replace("-", "_"), value.strip()


def _numbers(option: str, text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise InvalidParameter(
            f"`{option} {text}` is no list of numbers. Give one for each checkpoint."
        ) from None
