"""3.8: experts' training length, the collapse score, and the line between two experts."""

from __future__ import annotations

from pathlib import Path
from typing import List

from otf_merge import merge
from otf_merge.evaluation import evaluate, model_with

from .digits import dice, digits, in_domains
from .experts import based, domain_task
from .printing import Figures, column, mean, plus_minus, table
from .training import collapse_score, percent, percent_of

TITLE = "When merging collapses: experts' training length"
SEEDS = 6

LENGTHS = (10, 25, 50, 100, 200, 400, 800)
#: Places on the straight line from the first expert to the second.
LINE = (0.0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0)


def measure(seed: int, folder: Path) -> Figures:
    split = digits(seed)
    start = based(seed)
    task = domain_task(split)
    tests = in_domains(split.test)
    test = [batch for it in tests for batch in it.whole()]
    base = percent_of(start.model, task, test)
    parts = in_domains(split.train)
    found = [start.fork() for _ in parts]
    draws = [dice(seed, 10 + place) for place in range(len(parts))]
    figures: Figures = {}
    before = 0
    for length in LENGTHS:
        for expert, part, drawn in zip(found, parts, draws):
            expert.train(part, length - before, drawn)
        before = length
        paths = [it.save(folder / f"expert{place}.pt") for place, it in enumerate(found)]
        own = [percent_of(it.model, task, part.whole()) for it, part in zip(found, tests)]
        figures[f"own/{length}"] = mean(own)
        figures[f"gain/{length}"] = percent(task, merge(paths, threads=1), test) - base
        regmean = merge(paths, method="regmean", alpha=1.0, task=task, threads=1)
        figures[f"regmean/{length}"] = percent(task, regmean, test)
        figures[f"score/{length}"] = collapse_score(paths)
        # Of two domains the line's ends know one each; what is between is to know both.
        both = [batch for it in tests[:2] for batch in it.whole()]
        for place in LINE:
            weights = merge(paths[:2], weights=[1 - place, place], threads=1)
            figures[f"line/{length}/{place}"] = evaluate(model_with(task, weights), task, both).loss
    return figures


def told(runs: List[Figures]) -> str:
    rows = {
        "Expert on its own domain, %": ("own", 1),
        "Average less base, points": ("gain", 1),
        "RegMean (alpha 1), %": ("regmean", 1),
        "Collapse score in thousandths": ("score", 2),
    }
    lengths = table(
        ["steps per expert", *map(str, LENGTHS)],
        [
            [name, *(plus_minus(column(runs, f"{key}/{it}"), places) for it in LENGTHS)]
            for name, (key, places) in rows.items()
        ],
    )
    lines = table(
        ["steps per expert", *(f"{it:g}" for it in LINE)],
        [
            [str(it), *(f"{mean(column(runs, f'line/{it}/{place}')):.2f}" for place in LINE)]
            for it in LENGTHS
        ],
    )
    return (
        f"{lengths}\n\nRank correlation of score and gain over all lengths and seeds: "
        f"{_rank_correlation(runs):.2f}.\n\nThe mean test loss over the domains of the first two "
        f"experts, along the straight line from the one (0) to the other (1):\n\n{lines}"
    )


def _rank_correlation(runs: List[Figures]) -> float:
    from scipy.stats import spearmanr

    scores = [run[f"score/{it}"] for run in runs for it in LENGTHS]
    gains = [run[f"gain/{it}"] for run in runs for it in LENGTHS]
    return float(spearmanr(scores, gains).statistic)
