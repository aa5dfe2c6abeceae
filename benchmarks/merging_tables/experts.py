"""A base that has seen a little of four domains, and an expert for each that went on from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, List, NamedTuple

from otf_merge.task import Task

from .digits import Split, dice, digits, in_domains, together
from .training import Trained, fresh, mlp

STEPS = 400


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


def domain_task(split: Split) -> Task:
    """All domains, and which expert learned from which."""
    parts = in_domains(split.train)
    return Task(
        model=mlp,
        train=together(parts).shuffled(),
        validation=[batch for it in in_domains(split.validation) for batch in it.whole()],
        domains=[it.shuffled() for it in parts],
    )


def experts(seed: int, folder: Path) -> Experts:
    split = digits(seed)
    start = based(seed)
    found = [
        start.fork().train(it, STEPS, dice(seed, 10 + place))
        for place, it in enumerate(in_domains(split.train))
    ]
    paths = [it.save(folder / f"expert{place}.pt") for place, it in enumerate(found)]
    base = start.save(folder / "base.pt")
    return Experts(split, start, found, base, paths, domain_task(split))
