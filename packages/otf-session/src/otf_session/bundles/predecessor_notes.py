"""What the predecessor knew of single samples, in a few words: our own record has no place for more.

Its reports (the losses of many samples at one step) and subsets (the samples that a run was trained
on) become notes, which travel with the session. Long lists are cut short, and that is said.
"""

import math
import statistics
from typing import List, Optional, Sequence

import msgspec

#: As many samples of a subset are named, and as many of a report's highest losses.
_NAMED = 200
_HIGHEST = 10

_numbers = msgspec.json.Decoder(List[Optional[float]])


def report_text(split: str, losses: str, indices: str, note: str) -> str:
    """A report in one or two sentences; empty where it cannot be read. Lists are JSON."""
    values = _decoded(losses)
    if values is None:
        return ""
    finite = [value for value in values if value is not None and math.isfinite(value)]
    text = f"Losses of {len(values)} samples" + (f" ({split})" if split else "")
    if finite:
        text += (
            f": mean {statistics.fmean(finite):.5g}, median {statistics.median(finite):.5g}, "
            f"highest {max(finite):.5g}"
        )
    if len(finite) < len(values):
        text += f"; not finite: {len(values) - len(finite)}"
    named = _decoded(indices)
    if finite and named is not None and len(named) == len(values):
        ranked = sorted(zip(values, named), key=lambda pair: -_rank(pair[0]))[:_HIGHEST]
        text += f". Highest at the samples {_listed([index for _, index in ranked], _HIGHEST)}"
    return f"{text}.{f' {note}' if note else ''}"


def subset_text(indices: str) -> str:
    """A subset in a sentence; empty where it cannot be read. The list is JSON."""
    named = _decoded(indices)
    if named is None:
        return ""
    return f"Trained on a subset of {len(named)} samples: {_listed(named, _NAMED)}."


def is_cut(indices: str) -> bool:
    """Whether a subset has more samples than are named."""
    return len(_decoded(indices) or []) > _NAMED


def _decoded(text: str) -> Optional[List[Optional[float]]]:
    try:
        return _numbers.decode(text) or None
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


def _rank(value: Optional[float]) -> float:
    return -math.inf if value is None or math.isnan(value) else value


def _listed(indices: Sequence[Optional[float]], most: int) -> str:
    text = ", ".join("?" if each is None else f"{each:.15g}" for each in indices[:most])
    return f"{text} and {len(indices) - most} more" if len(indices) > most else text
