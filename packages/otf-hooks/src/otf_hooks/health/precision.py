"""Half precision: values near the end of its range, below its beginning, and the loss scale."""

from __future__ import annotations

import math
from typing import Dict, List, Optional, Sequence, Tuple

import torch

from .examination import History
from .findings import Findings, percent
from .tensors import Named, plain

_HALVES = (torch.float16, torch.bfloat16)
#: A value above this share of the greatest representable one is two doublings from overflow.
_NEAR_THE_END = 0.25
#: The share of a gradient's values that may lie below the smallest normal number.
_MANY_LOST = 0.5
#: A loss scale below 1 makes the gradients smaller than they are, which is not what it is for.
_LEAST_SCALE = 1.0
#: Recorded steps in which the scale is looked at, and how often it may halve in them.
_RECENT, _OFTEN = 1000, 8


def look_at_range(
    notes: Findings,
    found: Sequence[Named],
    largest: Sequence[float],
    amp_type: Optional[torch.dtype],
) -> None:
    """Values of half precision, or that become it under `amp_type`, near the end of the range."""
    for each, value in zip(found, largest):
        dtype = each.tensor.dtype
        if dtype not in _HALVES and each.kind == "parameter" and amp_type is not None:
            dtype = amp_type
        if dtype in _HALVES and math.isfinite(value):
            _near_the_end(notes, each.name, each.kind, dtype, value)
        if each.kind == "gradient" and each.tensor.dtype is torch.float16:
            _below_the_beginning(notes, each)


def look_at_outputs(notes: Findings, halves: Dict[str, Tuple[torch.dtype, float]]) -> None:
    """Outputs of layers in half precision, near the end of its range."""
    for name, (dtype, value) in halves.items():
        if math.isfinite(value):
            _near_the_end(notes, name, "output", dtype, value)


def look_at_scale(notes: Findings, history: History, scale: float) -> None:
    """The loss scale now, and how it came to be: one that keeps falling finds no bottom."""
    notes.measure("loss scale", scale)
    recent = [value for _, value in history[-_RECENT:] if value is not None]
    falls = sum(after < before for before, after in zip(recent, recent[1:]))
    if recent:
        notes.measure("loss scale falls", falls)
        notes.measure("loss scale lowest", min(recent))
    if scale < _LEAST_SCALE:
        notes.critical(
            "loss scale",
            "The loss scale has collapsed.",
            value=f"{scale:g}",
            meaning="Gradients overflow at almost every step, and every such step is skipped.",
            remedy="Look at where a value that is not finite arises; use bfloat16, which needs no "
            "scale, or lower the learning rate.",
        )
    elif falls >= _OFTEN:
        notes.warning(
            "loss scale",
            "The loss scale falls again and again.",
            value=f"{falls} times in {len(recent)} steps, to {min(recent):g}",
            meaning="At each fall a step was skipped, because its gradients overflowed.",
            remedy="Clip gradients (grad_clip_norm), lower the learning rate, or use bfloat16.",
        )


def _near_the_end(notes: Findings, name: str, kind: str, dtype: torch.dtype, value: float) -> None:
    end = torch.finfo(dtype).max
    if value <= _NEAR_THE_END * end:
        return
    notes.warning(
        name,
        f"This {kind} comes near the end of {str(dtype).replace('torch.', '')}'s range.",
        value=f"{value:.4g} of at most {end:.4g}",
        meaning="A few times more, and it is infinite, and everything that depends on it.",
        remedy="Normalise before this layer, or keep it in float32; bfloat16 has float32's range.",
    )


def _below_the_beginning(notes: Findings, each: Named) -> None:
    values = plain(each.tensor).abs()
    tiny = torch.finfo(torch.float16).tiny
    counts: List[int] = torch.stack(
        [(values > 0).sum(), ((values > 0) & (values < tiny)).sum()]
    ).tolist()
    some, lost = counts
    if some and lost / some > _MANY_LOST:
        notes.warning(
            each.name,
            "Most of this gradient lies below float16's smallest normal number.",
            value=f"{percent(lost / some)} of its values that are not 0",
            meaning="They are rounded coarsely or to 0, so that what they say is lost.",
            remedy="Scale the loss (amp=True does on CUDA), or use bfloat16.",
        )
