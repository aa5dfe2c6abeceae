"""What a tensor of a low-rank adapter is, by the name that PEFT gives it."""

from __future__ import annotations

import re
from typing import NamedTuple

from ..checkpoints.names import bare

#: What PEFT puts before the names of the base model's modules.
PREFIX = "base_model.model."

# The adapter's own name stands before `weight` in a whole model's state dict, not in PEFT's files.
_FACTOR = re.compile(
    r"(?P<module>.+)\.lora_(?P<embedding>embedding_)?(?P<side>[AB])"
    r"(?:\.(?!(?:weight|bias)$)[^.]+)?(?:\.(?P<kind>weight|bias))?"
)
_MAGNITUDE = re.compile(r"(?P<module>.+)\.lora_magnitude_vector(?:\.[^.]+){0,2}")


class Role(NamedTuple):
    """A tensor's module in the base model, and its part there.

    `part` is `A`, `B`, `bias` (added after B) or `magnitude` (DoRA's).
    """

    module: str
    part: str
    embedding: bool = False


def role_of(name: str) -> Role | None:
    """The tensor's role in a low-rank adapter, None where it has none."""
    short = canonical(name)
    found = _FACTOR.fullmatch(short)
    if found:
        if found["kind"] == "bias":
            return Role(found["module"], "bias") if found["side"] == "B" else None
        return Role(found["module"], found["side"], bool(found["embedding"]))
    found = _MAGNITUDE.fullmatch(short)
    return Role(found["module"], "magnitude") if found else None


def canonical(name: str) -> str:
    """The name as the base model has it: without the prefixes of wrappers and of PEFT."""
    return bare(bare(name).removeprefix(PREFIX))
