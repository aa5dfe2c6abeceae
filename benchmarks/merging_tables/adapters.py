"""3.5: adapters of four domains beside one frozen base, put to use with few labels."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

import torch
from otf_merge import merge
from otf_merge.adapters import load_fused
from otf_merge.evaluation import evaluate
from otf_merge.merging import merge_into_file
from otf_merge.request import Machine, Request
from otf_merge.task import Task
from torch import Tensor, nn

from .digits import DOMAINS, Samples, dice, digits, in_domains
from .experts import STEPS, based
from .printing import Figures, column, plus_minus, table
from .training import Trained, mlp, percent_of

TITLE = "Adapter fusion with few labels"
SEEDS = 5

WIDTH = 128
#: The hidden layers, whose outputs adapters take.
LAYERS = ("0", "2")
#: What is between an adapter's halves: of the domains' adapters, and so that a new one has as many
#: trained weights as fusion, which has two matrices with biases and one without for each layer.
SMALL = 16
LARGE = round((3 * WIDTH * WIDTH + 2 * WIDTH - WIDTH) / (2 * WIDTH + 1))
TRAINING = 500
ROUND = 50


class Adapter(nn.Module):
    """A bottleneck adapter: it adds `up(relu(down(h)))` to a layer's output."""

    def __init__(self, inner: int) -> None:
        super().__init__()
        self.down = nn.Linear(WIDTH, inner)
        self.up = nn.Linear(inner, WIDTH)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, layer: nn.Module, args: Any, h: Tensor) -> Tensor:
        return h + self.up(self.down(h).relu())


def adapted(base: nn.Module, inner: int, seed: int) -> nn.Module:
    """The base, frozen, with a new adapter after each hidden layer."""
    model = copy.deepcopy(base).requires_grad_(False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for name in LAYERS:
            layer = model.get_submodule(name)
            adapter = Adapter(inner)
            layer.add_module("adapter", adapter)
            layer.register_forward_hook(adapter)
    return model


def adapters_of(model: nn.Module) -> Dict[str, Tensor]:
    return {name: it for name, it in model.state_dict().items() if ".adapter." in name}


def mixed(samples: Samples) -> Samples:
    """Each image in one of the four domains, in turn: nobody says in which."""
    turn = torch.arange(len(samples.y))
    parts = torch.stack([it.x for it in in_domains(samples)])
    return Samples(parts[turn % len(parts), turn], samples.y)


def unknown(samples: Samples) -> Samples:
    """Mirrored and inverted at once, which no adapter has seen."""
    return Samples(DOMAINS["inverted"](DOMAINS["mirrored"](samples.x)), samples.y)


#: What is to be learned from few labels, and from how many.
TARGETS: Dict[str, Tuple[Callable[[Samples], Samples], Tuple[int, ...]]] = {
    "All four domains, mixed": (mixed, (50, 100, 200, 897)),
    "A fifth domain, mirrored and inverted at once": (unknown, (50, 200)),
}


def measure(seed: int, folder: Path) -> Figures:
    split = digits(seed)
    base = based(seed).model
    torch.save(base.state_dict(), folder / "base.pt")
    sources = [
        Trained(adapted(base, SMALL, seed)).train(it, STEPS, dice(seed, 10 + place)).model
        for place, it in enumerate(in_domains(split.train))
    ]
    files = [folder / f"adapter{place}.pt" for place in range(len(sources))]
    for it, file in zip(sources, files):
        torch.save(adapters_of(it), file)
    average = adapted(base, SMALL, seed)
    merged = merge(files, threads=1)
    average.load_state_dict(merged, strict=False)
    figures: Figures = {}
    for name, (seen, labels) in TARGETS.items():
        train, validation, test = (seen(it) for it in split)
        task = Task(model=mlp, validation=validation.whole())
        best = max(sources, key=lambda it: evaluate(it, task).rank)
        known = {"Base": base, "Best of the four": best, "Average of the four (`linear`)": average}
        for row, model in known.items():
            figures[f"{name}/{row}/"] = percent_of(model, task, test.whole())
        for count in labels:
            few = train.part(0, count)
            task = replace(task, train=few.shuffled())
            learned = _rivals(base, few, task, files, seed, with_new=seen is unknown)
            for row, (model, weights) in learned.items():
                figures[f"{name}/{row}/{count}"] = percent_of(model, task, test.whole())
                figures[f"weights/{row}"] = weights
    return figures


def _rivals(
    base: nn.Module, few: Samples, task: Task, files: List[Path], seed: int, *, with_new: bool
) -> Dict[str, Tuple[nn.Module, int]]:
    """What few labels teach in several ways, with how many weights were trained."""
    folder = files[0].parent
    found: Dict[str, Tuple[nn.Module, int]] = {}
    for row, inner in (("A new adapter", SMALL), ("A new adapter of fusion's size", LARGE)):
        model = _learned(adapted(base, inner, seed), few, task, dice(seed, 20))
        found[row] = model, sum(it.numel() for it in adapters_of(model).values())
    fusions = {"Fusion of the four (`adapter-fusion`)": files}
    if with_new:
        torch.save(adapters_of(found["A new adapter"][0]), folder / "new.pt")
        fusions["Fusion of the four and the new one"] = [*files, folder / "new.pt"]
    for row, inputs in fusions.items():
        request = Request(
            inputs=inputs, method="adapter-fusion", base=folder / "base.pt", task=task
        )
        output = folder / "fused.pt"
        written = merge_into_file(request, output, Machine(threads=1), force=True)
        model = load_fused(copy.deepcopy(base), output)
        found[row] = model, written.report["adapter_fusion"]["trained"]
    return found


def _learned(model: nn.Module, few: Samples, task: Task, draws: torch.Generator) -> nn.Module:
    """The model as it validates best, looked at as often as fusion looks."""
    trained = Trained(model)
    best, kept = evaluate(model, task), adapters_of(copy.deepcopy(model))
    for _ in range(TRAINING // ROUND):
        found = evaluate(trained.train(few, ROUND, draws).model, task)
        if found.rank > best.rank:
            best, kept = found, adapters_of(copy.deepcopy(model))
    model.load_state_dict(kept, strict=False)
    return model


def told(runs: List[Figures]) -> str:
    return "\n\n".join(f"{name}:\n\n{_told(runs, name)}" for name in TARGETS)


def _told(runs: List[Figures], name: str) -> str:
    _, labels = TARGETS[name]
    rows: Dict[str, List[str]] = {}
    for key in runs[0]:
        target, row, count = (*key.split("/"), "")[:3]
        if target != name:
            continue
        told = plus_minus(column(runs, key))
        weights = runs[0].get(f"weights/{row}")
        first = [row, f"{int(weights):,}" if weights else ""]
        if count:
            rows.setdefault(row, [*first, *[""] * len(labels)])[2 + labels.index(int(count))] = told
        else:
            rows[row] = [*first, *[told] * len(labels)]
    return table(
        ["test accuracy, %", "trained weights", *(f"{it} labels" for it in labels)],
        list(rows.values()),
    )
