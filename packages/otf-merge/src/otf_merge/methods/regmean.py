"""Linear layers that answer their parents' inputs as near to the parents' outputs as can be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import torch
from torch import Tensor

from ..averaging import averaged, wider
from ..errors import InvalidInputs
from ..parameters import Range
from ..registry import model_method

if TYPE_CHECKING:
    from ..grams import Grams, LayerGram
    from ..parents import Parent
    from ..progress import Progress

_MATRIX = 2


@model_method(
    "regmean",
    summary="Each linear layer as the regression on what its parents compute.",
    paper="arXiv:2212.09849",
)
def regmean(
    parents: Sequence[Parent],
    *,
    grams: Sequence[Grams],
    weights: Sequence[float],
    progress: Progress,
    report: dict[str, Any],
    alpha: Annotated[
        float,
        "what the Gram matrices' elements off the diagonal are multiplied with; the paper's best "
        "is 0.9, and 1 where layers are far from collinear",
        Range(0, 1),
    ] = 0.9,
    ridge: Annotated[
        float,
        "what is added to the diagonal, in units of its mean; it draws to the average where the "
        "data say nothing",
        Range(above=0),
    ] = 1e-6,
) -> Mapping[str, Tensor]:
    """Merge linear layers by `W = inverse(sum(w[i] G[i])) @ sum(w[i] G[i] W[i])`, W inputs first.

    Jin et al. 2023, "Dataless Knowledge Fusion by Merging Weights of Language Models",
    arXiv:2212.09849: the least-squares solution for a layer that gives for each parent's inputs X
    that parent's outputs. `G[i] = X.T @ X / rows`, of shape `(d, d)` for d inputs, with a bias as
    one more input that is always 1, its elements off the diagonal multiplied by `alpha`. With the
    mean over the rows in the place of the sum, parents that saw more data count no more; `weights`
    say how much each counts.

    `ridge * mean(diagonal)` is added to the diagonal of every parent's matrix, on both sides of the
    equation, so that inputs which never occurred take the average. Equations are solved in float64,
    for what differs between the parents: copies merge to themselves exactly.

    Convolutions are layers of patches. All other tensors, such as embeddings, normalisation, and
    layers without Gram matrices or whose weight is used elsewhere too, are averaged by `weights`.
    """
    _require_fit(parents, grams)
    tied = {name for group in _ties(parents[0]) for name in group}
    layers = [it for it in grams[0] if it not in tied and all(it in each for each in grams)]
    solved: dict[str, Tensor] = {}
    for done, name in enumerate(layers):
        solved.update(_solved(parents, grams, weights, name, alpha, ridge))
        progress(done + 1, len(layers), "steps")
    state = {
        name: solved[name] if name in solved else averaged(parents, name, weights)
        for name in dict.fromkeys(it for parent in parents for it in parent.names)
    }
    report["regmean"] = {
        "layers": layers,
        "averaged": [it for it, t in state.items() if it not in solved and t.dim() >= _MATRIX],
    }
    return state


def _solved(
    parents: Sequence[Parent],
    grams: Sequence[Grams],
    weights: Sequence[float],
    name: str,
    alpha: float,
    ridge: float,
) -> dict[str, Tensor]:
    """The merged weight of that layer, and its bias where that was an input too."""
    counting = [place for place, weight in enumerate(weights) if weight]
    greatest = max(weights)
    layers = [_Layer(parents[place], name, grams[place][name]) for place in counting]
    means = [_scaled(layer.gram.mean, alpha) for layer in layers]
    shares = [weights[place] / greatest for place in counting]
    left = sum(share * mean for share, mean in zip(shares, means))
    ...


class _Layer:
    pass
