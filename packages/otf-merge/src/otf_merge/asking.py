"""What was typed, as a request: options, over a recipe if there is one."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .catalogue import catalogue
from .choices import Override
from .errors import InvalidInputs, InvalidParameter
from .recipe import read_recipe, request_of
from .registry import offered_names, unknown

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from types import SimpleNamespace

    from .request import Request

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)b?", re.IGNORECASE)

#: The options that a recipe has a key of the same meaning for.
_SAME = ("method", "key", "dtype", "align", "task", "samples", "recalibrate")
_SWITCHES = ("allow_missing", "allow_nonfinite", "gate")
_LISTS = {"inputs": "paths", "fisher": "fisher", "grams": "grams", "skip": "skip"}


def request_from(given: SimpleNamespace, methods: Sequence[str] = ()) -> Request:
    """The request that the options ask for; what they leave open the recipe says.

    With `methods` it is for these instead of the one that is named. Raises `UnknownMethod`,
    `InvalidParameter` where no such method has a parameter that was given, and `InvalidInputs`
    where something else cannot be understood. torch is not imported.
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
    asked = [*recipe.get("parameters", {}), *recipe.get("search", {})]
    _require_known(methods or [recipe.get("method", "linear")], asked)
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


def _require_known(methods: Iterable[str], asked: Collection[str]) -> None:
    """Refuse a method that there is not, and parameters that none of these methods has.

    What the methods of other packages have is not known before they are loaded.
    """
    built_in = {it["name"]: [each["name"] for each in it["parameters"]] for it in catalogue()}
    chosen = list(methods)
    foreign = [name for name in chosen if name not in built_in]
    if foreign:
        offered = offered_names()
        for name in foreign:
            if name not in offered:
                raise unknown(name, {*built_in, *offered})
        return
    for name in asked:
        if not any(name in built_in[method] for method in chosen):
            raise InvalidParameter(_misplaced(name, chosen, built_in))


def _misplaced(name: str, chosen: Sequence[str], built_in: dict[str, list[str]]) -> str:
    having = [method for method, names in built_in.items() if name in names]
    if len(chosen) > 1:
        everything = {it for method in chosen for it in built_in[method]}
        nearest = difflib.get_close_matches(name, everything) or sorted(everything)
        return f"None of these methods has a parameter `{name}`. There are {_options(nearest)}."
    (method,) = chosen
    whose = f", which is one of {_listed(having)}" if having else ""
    own = built_in[method]
    told = f"It has {_options(own)}" if own else "It has none"
    more = f"; `otf-merge methods {method}` tells of each." if own else "."
    return f"The merge method `{method}` has no parameter `{name}`{whose}. {told}{more}"


def _options(names: Iterable[str]) -> str:
    return ", ".join(f"`--{name.replace('_', '-')}`" for name in names)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def every_method() -> list[str]:
    """The names of all methods there are."""
    return sorted({*(it["name"] for it in catalogue()), *offered_names()})


def folders_meant(request: Request, output: str | None) -> list[Path]:
    """The checkpoints, where the request names a folder or a pattern that stands for them.

    Nothing where all are named one by one. As in the merge itself, its output is none of them.
    """
    from .checkpoints.destination import default_outputs
    from .checkpoints.sources import files_of

    outputs = [Path(output)] if output else default_outputs()
    files = files_of(request.inputs, outputs)
    return [] if files == list(request.inputs) else files


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
