"""Bottleneck adapters in a checkpoint, found by a pattern of their names."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ..errors import InvalidInputs, InvalidParameter
from .branches import Bottleneck, linear
from .lora import read_finite
from .names import canonical

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from ..checkpoints.checkpoint import Checkpoint

_TOKEN = re.compile(r"\{layer\}|\{part\}|\*")
_MEANING = {"{layer}": r"(?P<layer>.+?)", "{part}": r"(?P<part>down|up)", "*": ".*"}


class Pattern:
    """How bottleneck adapters are named: `{layer}.adapters.*.adapter_{part}*`, for example.

    `{layer}` is the path of the module whose output the adapter takes, `{part}` is `down` or `up`,
    and `*` stands for anything. The `.weight` or `.bias` at the end is left out.
    """

    def __init__(self, text: str) -> None:
        if text.count("{layer}") != 1 or text.count("{part}") != 1:
            raise InvalidParameter(
                f"`pattern` is {text!r}, and must have {{layer}} and {{part}} once each, such as "
                "`{layer}.adapter.{part}`: the module that the adapter follows, and down or up."
            )
        found, end = "", 0
        for token in _TOKEN.finditer(text):
            found += re.escape(text[end : token.start()]) + _MEANING[token[0]]
            end = token.end()
        self._expression = re.compile(rf"{found}{re.escape(text[end:])}\.(?P<kind>weight|bias)")

    def match(self, name: str) -> tuple[str, str] | None:
        """The layer's path and the part, such as `down.weight`; None for another tensor."""
        found = self._expression.fullmatch(canonical(name))
        return (found["layer"], f"{found['part']}.{found['kind']}") if found else None


def read_bottlenecks(
    label: str, checkpoint: Checkpoint, names: Sequence[str], pattern: str, activation: str
) -> tuple[dict[str, Bottleneck], list[str]]:
    """The bottleneck adapters among those tensors by their layer's path, and the names of the rest.

    Raises `InvalidInputs` where one is incomplete or its halves do not fit.
    """
    expression = Pattern(pattern)
    parts: dict[str, dict[str, str]] = {}
    rest = []
    for name in names:
        found = expression.match(name)
        if found is None:
            rest.append(name)
            continue
        layer, part = found
        known = parts.setdefault(layer, {})
        if part in known:
            raise InvalidInputs(
                f"`{label}` has two adapters after `{layer}`: `{known[part]}` and `{name}`. Give a "
                "`pattern` that fits one of them, and name the file once for each."
            )
        known[part] = name
    return {
        layer: _bottleneck(label, checkpoint, layer, own, activation)
        for layer, own in parts.items()
    }, rest


def _bottleneck(
    label: str, checkpoint: Checkpoint, layer: str, names: Mapping[str, str], activation: str
) -> Bottleneck:
    shapes = {part: checkpoint.specs[name].shape for part, name in names.items()}
    down, up = (shapes.get(f"{part}.weight", ()) for part in ("down", "up"))
    if len(down) != 2 or tuple(up) != tuple(reversed(down)):  # noqa: PLR2004 - matrices
        raise InvalidInputs(
            f"In `{label}` the adapter after `{layer}` has weights of the shapes {list(down)} (down) "
            f"and {list(up)} (up). There must be both, of `(bottleneck, outputs)` and `(outputs, "
            "bottleneck)`. Check the `pattern`."
        )

    def tensor(part: str) -> Tensor | None:
        if part not in names:
            return None
        return read_finite(checkpoint, names[part]).to(checkpoint.specs[names[part]].dtype)

    halves = []
    for part in ("down", "up"):
        weight = tensor(f"{part}.weight")
        assert weight is not None
        halves.append(linear(weight, tensor(f"{part}.bias")))
    return Bottleneck(halves[0], halves[1], activation)
