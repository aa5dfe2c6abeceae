"""3.5: adapters of four domains beside one frozen base, put to use in a fifth with few labels."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, Dict, List

import torch
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
SEEDS = 6

LABELS = (50, 100, 200, 897)
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


def target(samples: Samples) -> Samples:
    """The fifth domain: mirrored and inverted at once."""
    return Samples(DOMAINS["inverted"](DOMAINS["mirrored"](samples.x)), samples.y)


def measure(seed: int, folder: Path) -> Figures:
    split = digits(seed)
    base = based(seed).model
    kept = folder / "base.pt"
    torch.save(base.state_dict(), kept)
    train, validation, test = (target(it) for it in split)
    whole = Task(model=mlp, validation=validation.whole())
    sources = []
    files = []
    for place, it in enumerate(in_domains(split.train)):
        one = Trained(adapted(base, SMALL, seed), rate=1e-3).train(
            it, STEPS, dice(seed, 10 + place)
        )
        sources.append(one.model)
        files.append(folder / f"adapter{place}.pt")
        torch.save(adapters_of(one.model), files[-1])
    figures: Figures = {"known/Base": percent_of(base, whole, test.whole())}
    best = max(sources, key=lambda it: evaluate(it, whole).rank)
    figures["known/Best of the four by validation"] = percent_of(best, whole, test.whole())
    average = adapted(base, SMALL, seed)
    merge_into_file(Request(inputs=files), folder / "average.pt", Machine(1))
    average.load_state_dict(torch.load(folder / "average.pt", weights_only=True), strict=False)
    figures["known/Average of the four (`linear`)"] = percent_of(average, whole, test.whole())
    for count in LABELS:
        few = train.part(0, count)
        task = Task(model=mlp, validation=validation.whole(), train=few.shuffled())
        for name, inner in (("A new adapter", SMALL), ("A new adapter of fusion's size", LARGE)):
            learned = _learned(adapted(base, inner, seed), few, task, dice(seed, 20))
            figures[f"{name}/{count}"] = percent_of(learned, whole, test.whole())
            figures[f"trained/{name}"] = sum(it.numel() for it in adapters_of(learned).values())
            torch.save(adapters_of(learned), folder / f"new{inner}.pt")
        for name, inputs in (
            ("Fusion of the four (`adapter-fusion`)", files),
            ("Fusion of the four and the new one", [*files, folder / f"new{SMALL}.pt"]),
        ):
            request = Request(inputs=inputs, method="adapter-fusion", base=kept, task=task)
            written = merge_into_file(request, folder / "fused.pt", Machine(1), force=True)
            fused = load_fused(copy.deepcopy(base), folder / "fused.pt")
            figures[f"{name}/{count}"] = percent_of(fused, whole, test.whole())
            figures[f"trained/{name}"] = written.report["adapter_fusion"]["trained"]
    return figures


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
    known = [it for it in runs[0] if it.startswith("known/")]
    rows = [
        [it.partition("/")[2], "", *[plus_minus(column(runs, it))] * len(LABELS)] for it in known
    ]
    learned = [it.partition("/")[2] for it in runs[0] if it.startswith("trained/")]
    rows += [
        [
            name,
            f"{int(runs[0][f'trained/{name}']):,}",
            *(plus_minus(column(runs, f"{name}/{count}")) for count in LABELS),
        ]
        for name in learned
    ]
    head = ["test accuracy, %", "trained weights", *(f"{count} labels" for count in LABELS)]
    return table(head, rows)
