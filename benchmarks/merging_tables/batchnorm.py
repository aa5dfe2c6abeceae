"""3.7: what becomes of BatchNorm's running statistics when models are averaged."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List

from otf_merge import merge
from otf_merge.task import Task
from torch import nn

from .digits import CLASSES, PIXELS, dice, digits
from .printing import Figures, column, mean, plus_minus, table
from .training import Trained, collapse_score, fresh, percent, percent_of

TITLE = "BatchNorm after averaging"
SEEDS = 8

COUNT = 2
SCORE = "Collapse score in thousandths"
SETTINGS: Dict[str, Dict[str, Any]] = {
    "rate 1e-3, shared base": {"rate": 1e-3, "shared": True},
    "rate 1e-2, shared base": {"rate": 1e-2, "shared": True},
    "separate starts": {"rate": 1e-3, "shared": False},
}
WAYS: Dict[str, Dict[str, Any]] = {
    "Averaged statistics": {"recalibrate": "never"},
    "Statistics of the first model": {"recalibrate": "never", "skip": ["*.running_*"]},
    "Recalibrated (`always`)": {"recalibrate": "always"},
    "What validates better (`auto`)": {"recalibrate": "auto"},
}


def normalised() -> nn.Module:
    """The two hidden layers of the other tables, each with BatchNorm."""
    return nn.Sequential(
        *(nn.Linear(PIXELS, 128), nn.BatchNorm1d(128), nn.ReLU()),
        *(nn.Linear(128, 128), nn.BatchNorm1d(128), nn.ReLU()),
        nn.Linear(128, CLASSES),
    )


def measure(seed: int, folder: Path) -> Figures:
    split = digits(seed)
    task = Task(model=normalised, validation=split.validation.whole(), train=split.train.shuffled())
    test = split.test.whole()
    figures: Figures = {}
    for setting, given in SETTINGS.items():
        tuned = _tuned(seed, **given)
        paths = [it.save(folder / f"model{place}.pt") for place, it in enumerate(tuned)]
        figures[f"Single/{setting}"] = mean([percent_of(it.model, task, test) for it in tuned])
        figures[f"{SCORE}/{setting}"] = collapse_score(paths)
        for way, options in WAYS.items():
            weights = merge(paths, task=task, threads=1, **options)
            figures[f"{way}/{setting}"] = percent(task, weights, test)
    return figures


def _tuned(seed: int, rate: float, shared: bool) -> List[Trained]:
    data = digits(seed).train
    start = Trained(fresh(normalised, seed, 1)).train(data, 300, dice(seed, 2))
    found = []
    for place in range(COUNT):
        one = start.fork(rate) if shared else Trained(fresh(normalised, seed, 20 + place), rate)
        found.append(one.train(data, 400 if shared else 700, dice(seed, 10 + place)))
    return found


def told(runs: List[Figures]) -> str:
    rows = [
        [way, *(plus_minus(column(runs, f"{way}/{setting}"), 2) for setting in SETTINGS)]
        for way in ("Single", *WAYS, SCORE)
    ]
    return table(["test accuracy, %", *SETTINGS], rows)
