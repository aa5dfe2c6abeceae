"""3.4: what DARE's dropping costs one expert, by how far it is from its base."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, Dict, List

import torch
from otf_merge import MergeWarning, merge
from otf_merge.task import Task

from .digits import dice, digits, in_domains
from .experts import STEPS, based
from .printing import Figures, column, mean, plus_minus, table
from .training import Trained, mlp, percent, percent_of

TITLE = "DARE's condition: one expert, thinned"
SEEDS = 8

#: The experts' learning rates. 400 steps of the least move no weight by more than 0.004.
RATES = (1e-3, 1e-4, 1e-5)
DROPPED = (0.5, 0.9, 0.99)


def measure(seed: int, folder: Path) -> Figures:
    split = digits(seed)
    start = based(seed)
    base = start.save(folder / "base.pt")
    task = Task(model=mlp, validation=split.validation.whole())
    sides = list(zip(in_domains(split.train), in_domains(split.test)))
    figures: Figures = {}
    for rate in RATES:
        rows = []
        for place, (train, test) in enumerate(sides):
            expert = start.fork(rate).train(train, STEPS, dice(seed, 10 + place))
            path = expert.save(folder / f"expert{place}.pt")
            rows.append(_thinned(start, expert, base, path, task, test.whole(), seed))
        figures.update({f"{rate:g} {key}": mean([row[key] for row in rows]) for key in rows[0]})
    return figures


def _thinned(
    start: Trained, expert: Trained, base: Path, path: Path, task: Task, test: Any, seed: int
) -> Dict[str, float]:
    deltas = torch.cat(
        [(one - other).reshape(-1) for one, other in zip(_weights(expert), _weights(start))]
    )
    row = {
        "largest": float(deltas.abs().max()),
        "size": float(deltas.square().mean().sqrt()),
        "base": percent_of(start.model, task, test),
        "whole": percent_of(expert.model, task, test),
    }
    for rate in DROPPED:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            weights = merge(
                [path], method="dare-linear", base=base, drop_rate=rate, seed=seed, threads=1
            )
        row[f"{rate:g}"] = percent(task, weights, test)
        about = [it for it in said if it.category is MergeWarning and "drops" in str(it.message)]
        row[f"warned {rate:g}"] = float(bool(about))
    return row


def _weights(trained: Trained) -> List[torch.Tensor]:
    return list(trained.model.state_dict().values())


def told(runs: List[Figures]) -> str:
    head = ["experts' rate", "largest change", "root mean square", "base", "expert"]
    head += [f"dropped {rate:.0%}" for rate in DROPPED] + ["warned at 90 %"]
    rows = []
    for rate in RATES:
        keys = ["base", "whole", *(f"{it:g}" for it in DROPPED)]
        rows.append(
            [
                f"{rate:g}",
                *(f"{mean(column(runs, f'{rate:g} {it}')):.4f}" for it in ("largest", "size")),
                *(plus_minus(column(runs, f"{rate:g} {it}")) for it in keys),
                f"{mean(column(runs, f'{rate:g} warned 0.9')):.0%}",
            ]
        )
    return table(head, rows)
