"""Means over seeds with their standard errors, as tables in Markdown."""

from __future__ import annotations

import math
import statistics
from typing import Dict, List, Sequence

#: One seed's figures by row, or by row and column.
Figures = Dict[str, float]


def mean(values: Sequence[float]) -> float:
    return statistics.fmean(values)


def error(values: Sequence[float]) -> float:
    """The standard error of the mean."""
    return statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan


def plus_minus(values: Sequence[float], digits: int = 1) -> str:
    """Mean and standard error, the sign of a negative mean as a real minus."""
    spread = error(values)
    told = f"{mean(values):.{digits}f}"
    return told if math.isnan(spread) else f"{told} ± {spread:.{digits}f}"


def column(runs: List[Figures], row: str) -> List[float]:
    return [run[row] for run in runs]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown: the first column to the left, the others to the right."""
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, rule, *rows))
