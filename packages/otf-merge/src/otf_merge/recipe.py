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
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .choices import Override, numbers_of
from .errors import InvalidInputs
from .registry import MergeMethod
from .request import Request
from .task import Task

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .preparing import Preparation

_NUMBER = (int, float)
_CHECKS: dict[str, Callable[[Any], bool]] = {
    "inputs": lambda it: _are(it, str),
    "method": lambda it: isinstance(it, str),
    "base": lambda it: isinstance(it, str),
    "weights": lambda it: _are(it, _NUMBER),
    "parameters": lambda it: isinstance(it, dict),
    "set": lambda it: isinstance(it, dict) and all(isinstance(one, dict) for one in it.values()),
    "key": lambda it: isinstance(it, str),
    "skip": lambda it: _are(it, str),
    "allow_missing": lambda it: isinstance(it, bool),
    "allow_nonfinite": lambda it: isinstance(it, bool),
    "dtype": lambda it: isinstance(it, str),
    "align": lambda it: isinstance(it, str),
    "task": lambda it: isinstance(it, str),
    "samples": lambda it: isinstance(it, int) and it > 0,
    "fisher": lambda it: _are(it, str),
    "grams": lambda it: _are(it, str),
    "search": lambda it: isinstance(it, dict) and all(isinstance(one, list) for one in it.values()),
    "recalibrate": lambda it: it in ("auto", "always", "never"),
    "gate": lambda it: isinstance(it, bool),
}


def read_recipe(path: Path) -> dict[str, Any]:
    """The recipe in a YAML file, its keys and the kinds of their values checked.

    Raises `InvalidInputs` where it cannot be read or says something that no recipe says.
    """
    import yaml

    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputs(f"The recipe `{path}` cannot be read: {error}.") from error
    except yaml.YAMLError as error:
        raise InvalidInputs(f"The recipe `{path}` is no YAML: {error}.") from error
    if not isinstance(found, dict):
        raise InvalidInputs(f"The recipe `{path}` is no mapping of keys to values.")
    for key, value in found.items():
        _check(path, str(key), value)
    return found


def request_of(recipe: Mapping[str, Any]) -> Request:
    """The request that a recipe, completed by what else was said, asks for."""
    given: dict[str, Any] = dict(recipe)
    for key in ("inputs", "fisher", "grams"):
        given[key] = [Path(it) for it in given.get(key, ())]
    if given.get("base") is not None:
        given["base"] = Path(given["base"])
    overrides = [Override(str(name), it) for name, it in given.pop("set", {}).items()]
    return Request(**given, overrides=overrides)


def recipe_of(preparation: Preparation) -> dict[str, Any]:
    """The recipe of a merge: what differs from what would be done anyway."""
    request, method = preparation.request, preparation.method
    count = len(preparation.checkpoints)
    plain = Request(inputs=())
    recipe: dict[str, Any] = {}
    for key in _CHECKS:
        value: Any = None if key == "set" else getattr(request, key)
        if key == "parameters":
            # As they were understood, numbers as numbers, and as a search has settled them.
            value = {
                name: it
                for name, it in preparation.choices.given.items()
                if name in value or it != method.values({})[name]
            }
        elif key == "set":
            value = {it.pattern: _understood(method, it.given, count) for it in request.overrides}
        if key in ("inputs", "method") or value not in ((), [], {}, getattr(plain, key, None)):
            recipe[key] = _plain(value)
    return recipe


def _understood(method: MergeMethod, given: Mapping[str, Any], count: int) -> dict[str, Any]:
    names = {it.name for it in method.parameters}
    return {
        (name if name in names else "weights"): (
            method.values({name: it})[name] if name in names else numbers_of(it, count)
        )
        for name, it in given.items()
    }


def anonymous(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe with files' names in place of their paths, to be shared with the result."""
    named = dict(recipe)
    for key in ("inputs", "fisher", "grams"):
        if key in named:
            named[key] = [Path(it).name for it in named[key]]
    if "base" in named:
        named["base"] = Path(named["base"]).name
    if "align" in named:
        named["align"] = Path(named["align"]).name
    if "task" in named:
        place, colon, function = named["task"].rpartition(":")
        named["task"] = f"{Path(place).name}{colon}{function}"
    return named


def as_yaml(recipe: Mapping[str, Any]) -> str:
    """The recipe as a person would save it."""
    import yaml

    text: str = yaml.safe_dump(dict(recipe), sort_keys=False, allow_unicode=True)
    return text


def _check(path: Path, key: str, value: Any) -> None:
    if key not in _CHECKS:
        nearest = difflib.get_close_matches(key, _CHECKS) or list(_CHECKS)
        raise InvalidInputs(
            f"The recipe `{path}` has a key `{key}` that means nothing. It may be: "
            f"{', '.join(nearest)}."
        )
    if not _CHECKS[key](value):
        raise InvalidInputs(
            f"The recipe `{path}` has a `{key}` of another kind than it must be: {value!r}."
        )


def _are(value: Any, kind: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(it, kind) and not isinstance(it, bool) for it in value
    )


def _plain(value: Any) -> Any:
    if isinstance(value, MergeMethod):
        return value.name
    if isinstance(value, Task):
        return "(a task in Python)"
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, dict):
        return {key: _plain(it) for key, it in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(it) for it in value]
    return value
