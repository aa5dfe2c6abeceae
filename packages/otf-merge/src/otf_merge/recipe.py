"""Recipes: everything that decides what comes out of a merge, as YAML.

method: ties
inputs: [a.safetensors, b.safetensors]
base: base.safetensors
parameters: {density: 0.5}
set:
  "encoder.*": {weights: [0.7, 0.3]}
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, NamedTuple

from .choices import Override, numbers_of
from .errors import InvalidInputs
from .registry import MergeMethod
from .request import Request

if TYPE_CHECKING:
    from .preparing import Preparation


class _Key(NamedTuple):
    """What a key's value must be, in words and as a check."""

    told: str
    fits: Callable[[Any], bool]


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return False
    try:
        float(value)
    # YAML 1.1 takes 1e-3 for a text, so that a text may be a number; an int may be out of range.
    except (ValueError, OverflowError):
        return False
    return True


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _are(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(map(fits, value))


def _maps_to(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: (
        isinstance(value, dict) and all(map(_is_text, value)) and all(map(fits, value.values()))
    )


_TEXT = _Key("a text", _is_text)
_PATHS = _Key("a list of paths", _are(_is_text))
_SWITCH = _Key("true or false", lambda it: isinstance(it, bool))
_VALUES = _maps_to(lambda _: True)
_MOMENTS = ("auto", "always", "never")

_KEYS = {
    "inputs": _PATHS,
    "method": _TEXT,
    "base": _TEXT,
    "weights": _Key("a list of numbers", _are(_is_number)),
    "parameters": _Key("a mapping of names to values", _VALUES),
    "set": _Key("a mapping of patterns to mappings", _maps_to(_VALUES)),
    "key": _TEXT,
    "skip": _Key("a list of patterns", _are(_is_text)),
    "allow_missing": _SWITCH,
    "allow_nonfinite": _SWITCH,
    "dtype": _TEXT,
    "align": _TEXT,
    "task": _TEXT,
    "samples": _Key("a whole number above 0", _is_count),
    "fisher": _PATHS,
    "grams": _PATHS,
    "search": _Key("a mapping of names to lists of values", _maps_to(_are(lambda _: True))),
    "recalibrate": _Key("auto, always or never", lambda it: it in _MOMENTS),
    "gate": _SWITCH,
}


def read_recipe(path: Path) -> dict[str, Any]:
    """The recipe in a YAML file, its keys and the kinds of their values checked.

    Raises `InvalidInputs` where it cannot be read or says something that no recipe says.
    """
    import yaml

    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidInputs(
            f"The recipe `{path}` cannot be read: {error.strerror or error}."
        ) from error
    # Beside its own errors the parser passes on those of dates and numbers that are none.
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InvalidInputs(f"The recipe `{path}` is no YAML: {error}.") from error
    if not isinstance(found, dict):
        raise InvalidInputs(
            f"The recipe `{path}` is no mapping of keys to values. `otf-merge plan` prints one."
        )
    for key, value in found.items():
        _check(path, str(key), value)
    if "weights" in found:
        found["weights"] = [float(it) for it in found["weights"]]
    return found


def request_of(recipe: Mapping[str, Any]) -> Request:
    """The request that a recipe, completed by what else was said, asks for."""
    given: dict[str, Any] = dict(recipe)
    for key in ("inputs", "fisher", "grams"):
        given[key] = [Path(it) for it in given.get(key, ())]
    if given.get("base") is not None:
        given["base"] = Path(given["base"])
    overrides = [Override(name, it) for name, it in given.pop("set", {}).items()]
    return Request(**given, overrides=overrides)


def recipe_of(preparation: Preparation) -> dict[str, Any]:
    """The recipe of a merge: what differs from what would be done anyway.

    Where a folder or a pattern stands for checkpoints, the recipe names those that were found.
    """
    request, method = preparation.request, preparation.method
    plain = Request(inputs=())
    recipe: dict[str, Any] = {}
    for key in _KEYS:
        value: Any = None if key == "set" else getattr(request, key)
        if key == "inputs":
            value = [it.path for it in preparation.checkpoints]
        elif key == "parameters":
            value = _chosen(preparation)
        elif key == "search":
            value = {
                name: [method.values({name: it})[name] for it in values]
                for name, values in request.search.items()
            }
        elif key == "set":
            value = {it.pattern: _understood(method, it.given) for it in request.overrides}
        if key in ("inputs", "method") or value not in ((), [], {}, getattr(plain, key, None)):
            recipe[key] = _plain(value)
    return recipe


def _chosen(preparation: Preparation) -> dict[str, Any]:
    """The parameters as they were understood, numbers as numbers, and as a search settled them."""
    defaults = preparation.method.values({})
    asked = preparation.request.parameters
    return {
        name: it
        for name, it in preparation.choices.given.items()
        if name in asked or it != defaults[name]
    }


def _understood(method: MergeMethod, given: Mapping[str, Any]) -> dict[str, Any]:
    names = {it.name for it in method.parameters}
    # As many weights as were given: the rest of a single one is worked out in the same way again.
    return {
        (name if name in names else "weights"): (
            method.values({name: it})[name] if name in names else numbers_of(it, 1)
        )
        for name, it in given.items()
    }


def anonymous(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe with files' names in place of their paths, to be shared with the result."""
    named = dict(recipe)
    for key in ("inputs", "fisher", "grams"):
        if key in named:
            named[key] = [_name(it) for it in named[key]]
    for key in ("base", "align"):
        if key in named:
            named[key] = _name(named[key])
    if "task" in named:
        place, colon, function = named["task"].rpartition(":")
        named["task"] = f"{_name(place)}{colon}{function}" if colon else named["task"]
    return named


def _name(path: str) -> str:
    # Of the folder one is in, too, which is just a dot otherwise.
    return Path(path).absolute().name


def as_yaml(recipe: Mapping[str, Any]) -> str:
    """The recipe as a person would save it."""
    import yaml

    text: str = yaml.safe_dump(dict(recipe), sort_keys=False, allow_unicode=True)
    return text


def _check(path: Path, key: str, value: Any) -> None:
    if key not in _KEYS:
        nearest = difflib.get_close_matches(key, _KEYS) or list(_KEYS)
        raise InvalidInputs(
            f"The recipe `{path}` has a key `{key}` that means nothing. It may be: "
            f"{', '.join(nearest)}."
        )
    must = _KEYS[key]
    if not must.fits(value):
        raise InvalidInputs(
            f"The recipe `{path}` has a `{key}` of another kind than it must be: {value!r}. It "
            f"must be {must.told}."
        )


def _plain(value: Any) -> Any:
    from .task import Task

    if isinstance(value, MergeMethod):
        return value.name
    if isinstance(value, Task):
        return "(a task in Python)"
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {key: _plain(it) for key, it in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(it) for it in value]
    return value
