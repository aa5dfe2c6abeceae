"""Several models matched to each other: MergeMany, algorithm 3 of "Git Re-Basin"."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from .matching import Match

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from .matching import Matcher, Read
    from .units import Permutations, PermutationSpec


def matched_together(
    matcher: Matcher, models: Sequence[Read], matches: Sequence[Match], anchor: int
) -> list[Match]:
    """Better matches: each model in turn to the average of all others, until none improves.

    In the end all are reordered alike, so that the model `anchor` is in its own order again.
    """
    spec = matcher.spec
    current = [match.permutations for match in matches]
    rounds = [match.rounds for match in matches]
    generator = torch.Generator().manual_seed(matcher.seed)
    waiting = set(range(len(models)))
    turns = 0
    while waiting and turns < matcher.rounds:
        turns += 1
        for number in torch.randperm(len(models), generator=generator).tolist():
            if number not in waiting:
                continue
            waiting.discard(number)
            others = _average(spec, models, current, number)
            found = matcher.descended(others, models[number], current[number])
            if any(
                not torch.equal(found.permutations[it], current[number][it]) for it in spec.units
            ):
                current[number] = found.permutations
                rounds[number] += found.rounds
                waiting |= set(range(len(models))) - {number}
    back = {name: order.argsort() for name, order in current[anchor].items()}
    return [
        match._replace(
            permutations={name: order[back[name]] for name, order in permutations.items()},
            rounds=count,
        )
        for match, permutations, count in zip(matches, current, rounds)
    ]


def _average(
    spec: PermutationSpec, models: Sequence[Read], current: Sequence[Permutations], but: int
) -> Read:
    """The average of all models but one, each in its current order, read a tensor at a time."""

    def read(name: str) -> Tensor:
        total: Tensor | None = None
        for number, model in enumerate(models):
            if number != but:
                ordered = spec.permuted(name, model(name), current[number])
                total = ordered if total is None else total + ordered
        assert total is not None
        return total / (len(models) - 1)

    return read
