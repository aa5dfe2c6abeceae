"""3.3: where the Fisher information comes from, and what that makes of the merge."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List

import torch
from otf_merge import merge
from otf_merge.fisher import exact_fisher, fisher_sources
from otf_merge.preparing import prepared
from otf_merge.request import Machine, Request
from torch import Tensor
from torch.nn.functional import cross_entropy

from .digits import in_domains
from .experts import Experts, experts
from .printing import Figures, column, plus_minus, table
from .training import percent

TITLE = "Fisher information: exact, from labels, from batches, and free"
SEEDS = 8

SAMPLES = 256
BATCH = 32

Diagonals = List[Dict[str, Tensor]]

#: What is merged with, by the name of its row; the task's data unless `source` says otherwise.
VARIANTS: Dict[str, Dict[str, Any]] = {
    "Exact, every class of 256 samples": {},
    "Exact, not normalised": {"normalize": False},
    "One class drawn from the model's predictions": {"kind": "sampled"},
    "The data's labels, each sample by itself": {"kind": "empirical"},
    "Gradients of batches of 32, from files": {"source": "file"},
    "Adam's second moment, from the checkpoints": {"source": "optimizer"},
    "Adam's second moment, not normalised": {"source": "optimizer", "normalize": False},
}
_EXACT = "Exact, every class of 256 samples"
_ADDED = "1e-8 added below the line alone (not offered)"


def measure(seed: int, folder: Path) -> Figures:
    found = experts(seed, folder)
    exact = of_kind(found, "true")
    batches = of_batches(found)
    figures = accuracies(found, folder, batches)
    figures["Uniform average"] = percent(found.task, merge(found.paths, threads=1), found.test)
    figures[_ADDED], figures["shrunk"] = _with_constant(found, exact)
    others = {
        "One class drawn from the model's predictions": of_kind(found, "sampled"),
        "The data's labels, each sample by itself": of_kind(found, "empirical"),
        "Gradients of batches of 32, from files": batches,
        "Adam's second moment, from the checkpoints": of_optimizers(found),
    }
    for name, diagonals in others.items():
        figures[f"like/{name}"] = _log_correlation(diagonals, exact)
    return figures


def accuracies(found: Experts, folder: Path, batches: Diagonals) -> Figures:
    """What each variant merges the experts' files to."""
    files = []
    for place, diagonal in enumerate(batches):
        files.append(folder / f"fisher{place}.pt")
        torch.save(diagonal, files[-1])
    figures: Figures = {}
    for name, options in VARIANTS.items():
        source = options.get("source", "task")
        given = {"file": {"fisher": files}, "task": {"task": found.task}}.get(source, {})
        weights = merge(found.paths, method="fisher", threads=1, **{**options, **given})
        figures[name] = percent(found.task, weights, found.test)
    return figures


def of_kind(found: Experts, kind: Any) -> Diagonals:
    """Each expert's diagonal from the first samples of its own domain."""
    assert found.task.domains is not None
    return [
        dict(exact_fisher(it.model, data, found.task, SAMPLES, kind).diagonal)
        for it, data in zip(found.experts, found.task.domains)
    ]


def of_batches(found: Experts) -> Diagonals:
    """The mean of the squares of whole batches' gradients, as somebody else may have computed it."""
    diagonals = []
    for expert, part in zip(found.experts, in_domains(found.split.train)):
        parameters = dict(expert.model.named_parameters())
        totals = {name: torch.zeros_like(it) for name, it in parameters.items()}
        batches = part.part(0, SAMPLES).batches(BATCH)
        for x, y in batches:
            loss = cross_entropy(expert.model(x), y)
            for name, gradient in zip(totals, torch.autograd.grad(loss, list(parameters.values()))):
                totals[name] += gradient.square() / len(batches)
        diagonals.append(totals)
    return diagonals


def of_optimizers(found: Experts) -> Diagonals:
    """What the product reads out of the optimizers' state."""
    with prepared(Request(inputs=found.paths), Machine(threads=1)) as preparation:
        sources = fisher_sources(preparation.family.parents, source="optimizer")
        return [{name: it.read(name) for name in it.specs} for it in sources.diagonals]


def _flat(diagonal: Dict[str, Tensor], like: Dict[str, Tensor]) -> Tensor:
    return torch.cat([diagonal[name].reshape(-1) for name in like]).double()


def _log_correlation(diagonals: Diagonals, exact: Diagonals) -> float:
    """The mean over the experts, of the elements that are not zero in either."""
    found = []
    for diagonal, reference in zip(diagonals, exact):
        one, other = _flat(diagonal, reference), _flat(reference, reference)
        both = (one > 0) & (other > 0)
        logs = torch.stack([one[both].log(), other[both].log()])
        found.append(float(torch.corrcoef(logs)[0, 1]))
    return sum(found) / len(found)


def _with_constant(found: Experts, exact: Diagonals) -> Any:
    """The accuracy of `sum(F * t) / (sum(F) + 1e-8)`, and the share of weights it shrinks by 10 %."""
    states = [it.model.state_dict() for it in found.experts]
    merged = {}
    shrunk = count = 0
    for name in exact[0]:
        total = sum(it[name] for it in exact)
        merged[name] = sum(it[name] * state[name] for it, state in zip(exact, states))
        merged[name] = merged[name] / (total + 1e-8)
        shrunk += int((total / (total + 1e-8) < 0.9).sum())
        count += total.numel()
    return percent(found.task, merged, found.test), 100 * shrunk / count


def told(runs: List[Figures]) -> str:
    rows = []
    for name in ("Uniform average", *VARIANTS, _ADDED):
        like = f"like/{name}"
        alike = plus_minus(column(runs, like), 2) if like in runs[0] else ""
        rows.append([name, plus_minus(column(runs, name)), "1" if name == _EXACT else alike])
    return (
        table(["Fisher information", "test accuracy, %", "correlation of logarithms"], rows)
        + f"\n\nThe constant of the last row shrinks {plus_minus(column(runs, 'shrunk'))} % of the "
        "weights by more than a tenth."
    )
