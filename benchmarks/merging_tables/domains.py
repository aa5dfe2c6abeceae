"""3.2: four digit domains, an expert for each, merged into one model by every method."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Sequence

from otf_merge import merge
from otf_merge.evaluation import evaluate
from otf_merge.task import Task

from .digits import Split, digits, dice, in_domains, together
from .printing import Figures, column, plus_minus, table
from .training import Trained, fresh, mean_of_outputs, mlp, percent, percent_of

TITLE = "Four digit domains, one expert each"
SEEDS = 8

STEPS = 400
SCALES = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0)


class Experts(NamedTuple):
    """A base that has seen a little of every domain, and experts that went on in one each.

    `paths` are the experts' training checkpoints, `base` the base's.
    """

    split: Split
    start: Trained
    experts: List[Trained]
    base: Path
    paths: List[Path]
    task: Task

    @property
    def test(self) -> List[Any]:
        return [batch for it in in_domains(self.split.test) for batch in it.whole()]


def based(seed: int) -> Trained:
    """300 steps on 60 images of each domain, others in each."""
    parts = in_domains(digits(seed).train)
    few = together([it.part(60 * place, 60) for place, it in enumerate(parts)])
    return Trained(fresh(mlp, seed, 1)).train(few, 300, dice(seed, 2))


def domain_task(split: Split, *, owned: bool = True) -> Task:
    """All domains; where they are `owned`, it is known which expert learned from which."""
    parts = in_domains(split.train)
    return Task(
        model=mlp,
        train=together(parts).batches(),
        validation=[batch for it in in_domains(split.validation) for batch in it.whole()],
        domains=[it.batches() for it in parts] if owned else None,
    )


def experts(seed: int, folder: Path, steps: int = STEPS) -> Experts:
    split = digits(seed)
    start = based(seed)
    found = [
        start.fork().train(it, steps, dice(seed, 10 + place))
        for place, it in enumerate(in_domains(split.train))
    ]
    paths = [it.save(folder / f"expert{place}.pt") for place, it in enumerate(found)]
    base = start.save(folder / "base.pt")
    return Experts(split, start, found, base, paths, domain_task(split))


#: A row of the table: the method, its parameters, what is searched, whether there is a base.
METHODS: Dict[str, Dict[str, Any]] = {
    "Uniform average (`linear`)": {"method": "linear"},
    "Task arithmetic, scale tuned": {"method": "task-arithmetic", "search": {"scale": SCALES}},
    "Task arithmetic, scale .3": {"method": "task-arithmetic", "scale": 0.3},
    "Task arithmetic, scale 1": {"method": "task-arithmetic"},
    "TIES 20 %, scale tuned": {"method": "ties", "search": {"scale": SCALES}},
    "TIES 20 %, scale 1": {"method": "ties"},
    "DARE .5, sum at .3": {"method": "dare-linear", "drop_rate": 0.5, "scale": 0.3},
    "DARE .9, sum at .3": {"method": "dare-linear", "drop_rate": 0.9, "scale": 0.3},
    "DARE .5, scale tuned": {
        "method": "dare-linear", "drop_rate": 0.5, "search": {"scale": SCALES},
    },
    "Breadcrumbs, scale tuned": {"method": "breadcrumbs", "search": {"scale": SCALES}},
    "DELLA, scale tuned": {"method": "della", "search": {"scale": SCALES}},
    "Model stock": {"method": "model-stock"},
    "Multi-slerp": {"method": "multislerp"},
    "Karcher mean": {"method": "karcher"},
    "Karcher mean of the deltas": {"method": "karcher", "base": True},
}
_WITHOUT_BASE = ("linear", "multislerp", "karcher")


def merged(found: Experts, *, method: str, base: bool = False, **options: Any) -> float:
    """The test accuracy of what the experts' files merge to."""
    if base or method not in _WITHOUT_BASE:
        options["base"] = found.base
    if "search" in options:
        options["task"] = found.task
    weights = merge(found.paths, method=method, threads=1, **options)
    return percent(found.task, weights, found.test)


def measure(seed: int, folder: Path) -> Figures:
    found = experts(seed, folder)
    every = together(in_domains(found.split.train))
    joint = found.start.fork().train(every, STEPS * len(found.paths), dice(seed, 3))
    shown = [
        [percent_of(it.model, found.task, [batch]) for batch in found.test] for it in found.experts
    ]
    models = [it.model for it in found.experts]
    figures = {
        "Base": percent_of(found.start.model, found.task, found.test),
        "Expert on its own domain": _mean([row[place] for place, row in enumerate(shown)]),
        "Expert over all domains": _mean([_mean(row) for row in shown]),
        "Jointly trained": percent_of(joint.model, found.task, found.test),
        "Probability ensemble of the experts": _mean(
            [
                100 * float((mean_of_outputs(models, x, _softmax).argmax(1) == y).double().mean())
                for x, y in found.test
            ]
        ),
    }
    return {**figures, **{name: merged(found, **it) for name, it in METHODS.items()}}


def told(runs: List[Figures]) -> str:
    return table(
        ["method", "test accuracy, %"],
        [[row, plus_minus(column(runs, row))] for row in runs[0]],
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _softmax(logits: Any) -> Any:
    return logits.softmax(-1)
