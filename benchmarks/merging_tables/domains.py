"""3.2: four digit domains, an expert for each, merged into one model by every method."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List

import torch
from otf_merge.merging import merge_into_file
from otf_merge.request import Machine, Request

from . import fisher
from .digits import dice, in_domains, together
from .experts import STEPS, Experts, experts
from .printing import Figures, column, mean, plus_minus, table
from .training import mean_of_outputs, percent, percent_of, right

TITLE = "Four digit domains, one expert each"
SEEDS = 8

SCALES = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0)


def _based(method: str, **options: Any) -> Dict[str, Any]:
    return {"method": method, "base": True, **options}


def _tuned(method: str, **options: Any) -> Dict[str, Any]:
    return _based(method, task=True, search={"scale": SCALES}, **options)


def _distilled(teacher: str, **options: Any) -> Dict[str, Any]:
    return {"method": "distill", "teacher": teacher, "task": True, **options}


#: The rows: a method with its parameters, or with what is searched for them on validation data.
METHODS: Dict[str, Dict[str, Any]] = {
    "Uniform average (`linear`)": {"method": "linear"},
    "Multi-slerp": {"method": "multislerp"},
    "Karcher mean": {"method": "karcher"},
    "Model stock": {"method": "model-stock", "base": True},
    "Task arithmetic, scale tuned": _tuned("task-arithmetic"),
    "Task arithmetic, scale .3": _based("task-arithmetic", scale=0.3),
    "Task arithmetic, scale 1": _based("task-arithmetic"),
    "TIES 20 %, scale tuned": _tuned("ties"),
    "TIES 20 %, scale 1": _based("ties"),
    "DARE .5, sum at .3": _based("dare-linear", drop_rate=0.5, scale=0.3),
    "DARE .9, sum at .3": _based("dare-linear", drop_rate=0.9, scale=0.3),
    "DARE .5, scale tuned": _tuned("dare-linear", drop_rate=0.5),
    "DARE .5 and TIES, scale tuned": _tuned("dare-ties", drop_rate=0.5),
    "DELLA, scale tuned": _tuned("della"),
    "Breadcrumbs, scale tuned": _tuned("breadcrumbs"),
    "RegMean, alpha 1": {"method": "regmean", "alpha": 1.0, "task": True},
    "RegMean, alpha .9": {"method": "regmean", "alpha": 0.9, "task": True},
    "RegMean, alpha .5": {"method": "regmean", "alpha": 0.5, "task": True},
    "Distilled, each domain from its own expert": _distilled("domain"),
    "Distilled so, without labels": _distilled("domain", alpha=1.0),
    "Distilled from the mean logits": _distilled("logits"),
    "Distilled from the mean logits, without labels": _distilled("logits", alpha=1.0),
}


def merged(found: Experts, output: Path, name: str) -> Figures:
    """The test accuracy of what the experts' files merge to, and the scale that was chosen."""
    given = {"base": found.base, "task": found.task}
    asked = {key: given[key] if it is True else it for key, it in METHODS[name].items()}
    parts = {key: asked.pop(key) for key in ("method", "base", "task", "search") if key in asked}
    request = Request(inputs=found.paths, parameters=asked, **parts)
    written = merge_into_file(request, output, Machine(threads=1), force=True)
    weights = torch.load(output, weights_only=True)["model"]
    figures = {name: percent(found.task, weights, found.test)}
    if "search" in written.report:
        figures[f"scale/{name}"] = written.report["search"]["chosen"]["scale"]
    return figures


def measure(seed: int, folder: Path) -> Figures:
    found = experts(seed, folder)
    every = together(in_domains(found.split.train))
    joint = found.start.fork().train(every, STEPS * len(found.paths), dice(seed, 3))
    shown = [
        [percent_of(it.model, found.task, [batch]) for batch in found.test] for it in found.experts
    ]
    variants = fisher.accuracies(found, folder, fisher.of_batches(found))
    figures = {
        "Base": percent_of(found.start.model, found.task, found.test),
        "Expert on its own domain": mean([row[place] for place, row in enumerate(shown)]),
        "Expert over all domains": mean([mean(row) for row in shown]),
        "Jointly trained": percent_of(joint.model, found.task, found.test),
        "The experts' mean probabilities": _ensemble(found),
    }
    for name in METHODS:
        figures.update(merged(found, folder / "merged.pt", name))
    figures.update({f"Fisher: {name}": accuracy for name, accuracy in variants.items()})
    return figures


def _ensemble(found: Experts) -> float:
    models = [it.model for it in found.experts]
    return mean(
        [
            right(mean_of_outputs(models, x, lambda logits: logits.softmax(-1)), y)
            for x, y in found.test
        ]
    )


def told(runs: List[Figures]) -> str:
    rows = []
    for row in runs[0]:
        if row.startswith("scale/"):
            continue
        scale = f"scale/{row}"
        chosen = plus_minus(column(runs, scale), 2) if scale in runs[0] else ""
        rows.append([row, plus_minus(column(runs, row)), chosen])
    return table(["method", "test accuracy, %", "scale chosen"], rows)
