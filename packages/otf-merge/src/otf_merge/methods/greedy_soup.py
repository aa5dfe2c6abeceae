"""The average of those checkpoints that make it no worse on held-out data."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ..averaging import averaged, wider
from ..errors import InvalidTask
from ..evaluation import Scores, evaluate, load_into, model_with
from ..family import is_averaged
from ..registry import model_method

if TYPE_CHECKING:
    from ..parents import Parent
    from ..progress import Progress
    from ..task import Task


@model_method(
    "greedy-soup",
    summary="The average of those checkpoints that do not lower the held-out score.",
    paper="arXiv:2203.05482",
    symmetric=False,
)
def greedy_soup(
    parents: Sequence[Parent],
    *,
    task: Task,
    progress: Progress,
    report: dict[str, Any],
) -> Mapping[str, Tensor]:
    """Start from the best checkpoint and add the others, best first, while the average is as good.

    Wortsman et al. 2022, "Model soups", arXiv:2203.05482, recipe 1. The score is the task's metric
    on its validation data; checkpoints of the same score are tried in the order in which they were
    given, and one that leaves the score of the average as it is is added. The average is the equal
    one of those that were added; whole numbers and truth values are those of all checkpoints.

    In memory are one model and the sum of those added, one precision wider than they are stored.
    """
    steps = 2 * len(parents) - 1
    model = model_with(task, dict(parents[0].tensors()))
    scores: list[Scores] = []
    for parent in parents:
        load_into(model, dict(parent.tensors()))
        scores.append(evaluate(model, task))
        progress(len(scores), steps, "steps")
    order = sorted(range(len(parents)), key=lambda place: -scores[place].rank[0])
    if math.isnan(scores[order[0]].metric):
        raise InvalidTask(
            "The task's metric is NaN for every checkpoint, so that none can be preferred. Look at "
            "the metric and the validation data."
        )
    soup = _Soup(parents)
    soup.add(order[0])
    best = scores[order[0]]
    tried = []
    for done, place in enumerate(order[1:], start=len(parents) + 1):
        load_into(model, soup.average_with(place))
        found = evaluate(model, task)
        kept = found.metric >= best.metric
        if kept:
            soup.add(place)
            best = found
        tried.append({"added": parents[place].label, "metric": found.metric, "kept": kept})
        progress(done, steps, "steps")
    report["greedy_soup"] = {
        "checkpoints": [
            {
                "checkpoint": parent.label,
                "metric": it.metric,
                "weight": (place in soup.places) / len(soup.places),
            }
            for place, (parent, it) in enumerate(zip(parents, scores))
        ],
        "tried": tried,
        "metric": best.metric,
    }
    return soup.average()


class _Soup:
    """The sum of those checkpoints that were added."""

    def __init__(self, parents: Sequence[Parent]) -> None:
        self.places: list[int] = []
        self._parents = parents
        everywhere = [1.0] * len(parents)
        self._kept = {
            name: averaged(parents, name, everywhere)
            for name, spec in parents[0].specs.items()
            if not is_averaged(spec.dtype)
        }
        self._sums: dict[str, Tensor] = {}

    def add(self, place: int) -> None:
        """Add the checkpoint of that place."""
        for name, tensor in self._tensors(place):
            if name in self._sums:
                self._sums[name].add_(tensor)
            else:
                self._sums[name] = tensor.clone()
        self.places.append(place)

    def average(self) -> dict[str, Tensor]:
        """The average of what was added."""
        count = len(self.places)
        return self._rounded((name, total / count) for name, total in self._sums.items())

    def average_with(self, place: int) -> dict[str, Tensor]:
        """The average with one more, which is not added by that."""
        count = len(self.places) + 1
        return self._rounded(
            (name, (self._sums[name] + tensor) / count) for name, tensor in self._tensors(place)
        )

    def _tensors(self, place: int) -> Iterator[tuple[str, Tensor]]:
        """What is averaged, in the precision in which it is added up."""
        for name, spec in self._parents[0].specs.items():
            if name not in self._kept:
                yield name, self._parents[place].tensor(name).to(wider(spec.dtype))

    def _rounded(self, averages: Iterable[tuple[str, Tensor]]) -> dict[str, Tensor]:
        specs = self._parents[0].specs
        return {**{name: it.to(specs[name].dtype) for name, it in averages}, **self._kept}
