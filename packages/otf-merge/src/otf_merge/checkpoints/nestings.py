"""Where in a checkpoint the weights are: at its top, or under one of the usual keys."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Callable, NamedTuple

from ..errors import UnreadableInput
from .checkpoint import RECORD_KEY

if TYPE_CHECKING:
    from pathlib import Path

NESTINGS = (
    "model",
    "state_dict",
    "model_state_dict",
    "model_state",
    "net",
    "network",
    "module",
)


class Weights(NamedTuple):
    """The dict that holds the tensors, the key it is under, and the keys of what else there is.

    A key of several parts has dots between them; it is None where the weights are all there is.
    """

    values: Mapping[Any, Any]
    nesting: str | None
    left_out: tuple[str, ...]


def weights_in(
    path: Path, tree: Mapping[Any, Any], key: str | None, is_tensor: Callable[[Any], bool]
) -> Weights:
    """The weights in a checkpoint's dicts, under `key` if there is one, else where they usually are.

    Raises `UnreadableInput` where there are none, or several that may be meant.
    """
    parts = _named(path, tree, key, is_tensor) if key is not None else _usual(path, tree, is_tensor)
    values = tree
    left_out: list[str] = []
    for depth, part in enumerate(parts):
        outer = "".join(f"{it}." for it in parts[:depth])
        left_out += [f"{outer}{it}" for it in values if it not in (part, RECORD_KEY)]
        values = values[part]
    return Weights(values, ".".join(parts) if parts else None, tuple(left_out))


def nested(nesting: str | None, values: Any) -> dict[str, Any]:
    """The values under that key, in as many dicts as it has parts."""
    for part in reversed(nesting.split(".") if nesting else []):
        values = {part: values}
    result: dict[str, Any] = values
    return result


def quoted(keys: Iterable[Any]) -> str:
    """The keys as they are named in messages."""
    return ", ".join(f"`{key}`" for key in keys)


def _named(
    path: Path, tree: Mapping[Any, Any], key: str, is_tensor: Callable[[Any], bool]
) -> tuple[str, ...]:
    for parts in _readings(tree, key):
        values: Any = tree
        for part in parts:
            values = values[part]
        if _holds_tensors(values, is_tensor):
            return parts
    raise UnreadableInput(
        f"`{path}` has no dict of tensors under `{key}`. Its keys are: {quoted(tree)}."
    )


def _readings(tree: Any, key: str) -> Iterable[tuple[str, ...]]:
    """The ways to read a key with dots, which may be a part of a key or between two."""
    if not isinstance(tree, Mapping):
        return
    if key in tree:
        yield (key,)
    for at in (place for place, letter in enumerate(key) if letter == "."):
        for rest in _readings(tree.get(key[:at]), key[at + 1 :]):
            yield (key[:at], *rest)


def _usual(
    path: Path, tree: Mapping[Any, Any], is_tensor: Callable[[Any], bool]
) -> tuple[str, ...]:
    found = [(key,) for key in NESTINGS if _holds_tensors(tree.get(key), is_tensor)]
    # Names under a usual key may be one level deeper, whatever the outer key is.
    deeper = [
        (outer, key)
        for outer, inner in tree.items()
        if isinstance(inner, Mapping) and isinstance(outer, str)
        for key in NESTINGS
        if _holds_tensors(inner.get(key), is_tensor)
    ]
    candidates: list[tuple[str, ...]] = [*found] or [*deeper]
    if len(candidates) > 1:
        dotted = [".".join(parts) for parts in candidates]
        raise UnreadableInput(
            f"`{path}` holds several dicts that may be the weights: {quoted(dotted)}. Say which "
            f"one with `--key`, for example `--key {dotted[0]}`."
        )
    if candidates:
        return candidates[0]
    if not any(is_tensor(value) for value in tree.values()):
        raise UnreadableInput(
            f"`{path}` holds no tensors at its top and none under {quoted(NESTINGS)}. Its keys "
            f"are: {quoted(tree) or 'none'}. Say with `--key` which of them holds the weights."
        )
    return ()


def _holds_tensors(value: Any, is_tensor: Callable[[Any], bool]) -> bool:
    return isinstance(value, Mapping) and any(is_tensor(it) for it in value.values())
