"""3.6: two networks from separate starts, averaged as they are and after weight matching."""

from __future__ import annotations

from pathlib import Path
from typing import List

import torch
from otf_merge import merge
from otf_merge.evaluation import evaluate, model_with
from otf_merge.task import Task

from .digits import dice, digits
from .printing import Figures, column, mean, plus_minus, table
from .training import Trained, collapse_score, fresh, mlp, percent, percent_of

TITLE = "Permutation alignment by width"
SEEDS = 6

WIDTHS = (64, 256, 1024)
STEPS = 400
LINE = [place / 10 for place in range(11)]


def measure(seed: int, folder: Path) -> Figures:
    split = digits(seed)
    test = split.test.whole()
    figures: Figures = {}
    for width in WIDTHS:
        task = Task(model=lambda width=width: mlp(width), validation=split.validation.whole())
        pair = [
            Trained(fresh(lambda width=width: mlp(width), seed, 20 + place)).train(
                split.train, STEPS, dice(seed, 10 + place)
            )
            for place in range(2)
        ]
        paths = [it.save(folder / f"model{place}.pt") for place, it in enumerate(pair)]
        figures[f"single/{width}"] = mean([percent_of(it.model, task, test) for it in pair])
        # All weight on the second model gives that model, its units in the first one's order.
        permuted = folder / "permuted.pt"
        merge(paths, weights=[0, 1], align="weights", output=permuted, force=True, threads=1)
        figures[f"naive/{width}"] = percent(task, merge(paths, threads=1), test)
        matched = merge([paths[0], permuted], threads=1)
        figures[f"matched/{width}"] = percent(task, matched, test)
        figures[f"off/{width}"] = _difference(task, paths[1], permuted, split.test.x)
        figures[f"naive score/{width}"] = collapse_score(paths)
        figures[f"matched score/{width}"] = collapse_score([paths[0], permuted])
        figures[f"naive barrier/{width}"] = _barrier(task, paths, test)
        figures[f"matched barrier/{width}"] = _barrier(task, [paths[0], permuted], test)
    return figures


def _difference(task: Task, one: Path, other: Path, x: torch.Tensor) -> float:
    """The greatest difference between the logits of two checkpoints."""
    models = [model_with(task, torch.load(it, weights_only=True)["model"]) for it in (one, other)]
    with torch.no_grad():
        return float((models[0](x) - models[1](x)).abs().max())


def _barrier(task: Task, paths: List[Path], test: list) -> float:
    """How far the loss on the line lies above the straight line between the losses at its ends."""
    losses = [
        evaluate(model_with(task, merge(paths, weights=[1 - it, it], threads=1)), task, test).loss
        for it in LINE
    ]
    return max(loss - (1 - it) * losses[0] - it * losses[-1] for it, loss in zip(LINE, losses))


def told(runs: List[Figures]) -> str:
    rows = {
        "Single model, %": ("single", 1),
        "Naive average, %": ("naive", 1),
        "After matching, %": ("matched", 1),
        "Loss barrier, naive": ("naive barrier", 2),
        "Loss barrier, matched": ("matched barrier", 3),
        "Collapse score in thousandths, naive": ("naive score", 1),
        "Collapse score in thousandths, matched": ("matched score", 1),
    }
    off = max(run[f"off/{width}"] for run in runs for width in WIDTHS)
    return (
        table(
            ["", *(f"width {width}" for width in WIDTHS)],
            [
                [name, *(plus_minus(column(runs, f"{key}/{it}"), places) for it in WIDTHS)]
                for name, (key, places) in rows.items()
            ],
        )
        + f"\n\nThe greatest difference between a logit of a network and of its permuted copy: "
        f"{off:.1e}."
    )
