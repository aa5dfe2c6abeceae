"""3.1: eight fine-tunes of one base with settings drawn at random, souped."""

from __future__ import annotations

from pathlib import Path
from typing import List

import torch
from otf_merge import merge
from otf_merge.task import Task

from .digits import CLASSES, Batch, Samples, dice, digits
from .printing import Figures, column, mean, plus_minus, table
from .training import Trained, fresh, mean_of_outputs, mlp, percent, percent_of, right

TITLE = "Model soups"
SEEDS = 20

COUNT = 8
WRONG = 0.15

BEST = "Best of the eight by validation"
GREEDY = "Greedy soup (`greedy-soup`)"


#: Who mislabels: the data, which all eight are tuned on, or each fine-tune for itself.
LABELS = ("all on the same wrong labels", "each on wrong labels of its own")


def measure(seed: int, folder: Path) -> Figures:
    split = digits(seed)
    task = Task(model=mlp, validation=split.validation.whole())
    test = split.test.whole()
    start = Trained(fresh(mlp, seed, 1)).train(split.train.part(0, 150), 150, dice(seed, 2))
    figures = {}
    for labels in LABELS:
        tuned = _tuned(start, split.train, seed, own=labels == LABELS[1])
        paths = [it.save(folder / f"tune{place}.pt") for place, it in enumerate(tuned)]
        rows = {"Base": percent_of(start.model, task, test), **_souped(tuned, paths, task, test)}
        figures.update({f"{row}/{labels}": it for row, it in rows.items()})
    return figures


def _souped(tuned: List[Trained], paths: List[Path], task: Task, test: List[Batch]) -> Figures:
    models = [it.model for it in tuned]
    alone = [percent_of(it, task, test) for it in models]
    decided = [percent_of(it, task, task.validation) for it in models]
    x, y = test[0]
    greedy = merge(paths, method="greedy-soup", task=task, threads=1)
    return {
        "Mean of the eight": mean(alone),
        BEST: alone[decided.index(max(decided))],
        "Uniform soup (`linear`)": percent(task, merge(paths, threads=1), test),
        GREEDY: percent(task, greedy, test),
        "Mean of the eight's logits": right(mean_of_outputs(models, x), y),
    }


def _mislabelled(data: Samples, draws: torch.Generator) -> Samples:
    """The same images, a share of them with a class drawn at random."""
    wrong = torch.rand(len(data.y), generator=draws) < WRONG
    drawn = torch.randint(0, CLASSES, data.y.shape, generator=draws)
    return Samples(data.x, torch.where(wrong, drawn, data.y))


def _tuned(start: Trained, data: Samples, seed: int, *, own: bool) -> List[Trained]:
    """Fine-tunes with a rate of 10 to the power of -3.7 to -2.5, and other settings drawn."""
    draws = dice(seed, 4)

    def one_of(*values: float) -> float:
        return values[int(torch.randint(0, len(values), (), generator=draws))]

    found = []
    for place in range(COUNT):
        rate = 10 ** (-3.7 + 1.2 * float(torch.rand((), generator=draws)))
        steps, decay = int(one_of(200, 400, 600)), one_of(0, 1e-4, 1e-3)
        noise, smoothing = one_of(0, 0.1, 0.2), one_of(0, 0.1)
        tune = start.fork(rate, decay)
        labelled = _mislabelled(data, dice(seed, 30 + place if own else 3))
        tune.train(labelled, steps, dice(seed, 10 + place), noise=noise, smoothing=smoothing)
        found.append(tune)
    return found


def told(runs: List[Figures]) -> str:
    names = list(dict.fromkeys(key.partition("/")[0] for key in runs[0]))
    rows = [
        [row, *(plus_minus(column(runs, f"{row}/{labels}"), 2) for labels in LABELS)]
        for row in names
    ]
    rows.append(["Greedy less best", *(_gain(runs, labels) for labels in LABELS)])
    return table(["test accuracy, %", *LABELS], rows)


def _gain(runs: List[Figures], labels: str) -> str:
    best, greedy = (column(runs, f"{row}/{labels}") for row in (BEST, GREEDY))
    gains = [one - other for one, other in zip(greedy, best)]
    won, lost = sum(it > 0 for it in gains), sum(it < 0 for it in gains)
    ties = len(gains) - won - lost
    return f"{plus_minus(gains, 2)}; {won} wins, {lost} losses, {ties} ties"
