"""Linear layers that answer their parents' inputs as near to the parents' outputs as can be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import torch
from torch import Tensor

from ..averaging import averaged
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
        "what the Gram matrices' elements off the diagonal are multiplied with: 1 is the regression "
        "itself, 0 looks at each input alone",
        Range(0, 1),
    ] = 0.9,
    ridge: Annotated[
        float,
        "what is added to the diagonal, in units of its mean: it draws to the average where the "
        "data say nothing",
        Range(above=0),
    ] = 1e-6,
) -> Mapping[str, Tensor]:
    """Merge linear layers by `W = inverse(sum(w[i] G[i])) @ sum(w[i] G[i] W[i])`, W inputs first.

    Jin et al. 2023, "Dataless Knowledge Fusion by Merging Weights of Language Models",
    arXiv:2212.09849: the least-squares solution for a layer that is to give, for each parent's
    inputs X, that parent's outputs. `G[i] = X.T @ X / rows` has the shape `(d, d)` for d inputs,
    with a bias as one more input that is always 1; its elements off the diagonal are multiplied by
    `alpha`, 0.9 in the paper. As it is the mean over the rows and not the sum, parents that saw
    more data count no more; `weights` say how much each counts.

    `ridge * mean(diagonal)` is added to the diagonal of every parent's matrix, on both sides of the
    equation, so that inputs which never occurred take the average. Equations are solved in float64,
    for what differs between the parents: copies merge to themselves exactly.

    Convolutions are linear layers of patches. All other tensors (embeddings, normalisation, layers
    without Gram matrices, weights that are used elsewhere too) are averaged by `weights`.
    """
    layers = _layers(parents, grams)
    solved: dict[str, Tensor] = {}
    for done, name in enumerate(layers, start=1):
        solved.update(_solved(parents, grams, weights, name, alpha, ridge))
        progress(done, len(layers), "steps")
    state = {
        name: solved[name] if name in solved else averaged(parents, name, weights)
        for name in dict.fromkeys(name for parent in parents for name in parent.names)
    }
    report["regmean"] = {
        "layers": layers,
        "averaged": [
            name for name, it in state.items() if it.dim() >= _MATRIX and name not in solved
        ],
    }
    return state


def _layers(parents: Sequence[Parent], grams: Sequence[Grams]) -> list[str]:
    """The weights to solve for: all parents have them and their Gram matrices, of fitting shapes.

    Raises `InvalidInputs` where there are none, or a Gram matrix is of another shape.
    """
    ours = {own: name for name, own in parents[0].names.items()}
    tied = {ours[own] for group in parents[0].checkpoint.ties for own in group if own in ours}
    layers = [
        name
        for name in grams[0]
        if name not in tied
        and all(name in each for each in grams)
        and all(name in parent.names for parent in parents)
    ]
    if not layers:
        raise InvalidInputs(
            "The Gram matrices have no layer in common that all checkpoints have, so that nothing "
            "could be merged by them. Give those of the same model for all."
        )
    for name in layers:
        shapes = {parent.specs[name].shape for parent in parents}
        if len(shapes) > 1:
            raise InvalidInputs(f"`{name}` has different shapes: {', '.join(map(str, shapes))}.")
        for each in grams:
            _require_fit(parents[0], name, each[name])
        if len({each[name].matrix.shape for each in grams}) > 1:
            raise InvalidInputs(
                f"The Gram matrices of `{name}` differ in shape: only some have the bias as an "
                "input. Compute all in the same way."
            )
    return layers


def _require_fit(parent: Parent, name: str, gram: LayerGram) -> None:
    shape = parent.specs[name].shape
    outputs, inputs = (shape[-1], shape[0]) if gram.in_first else (shape[0], _size(shape[1:]))
    groups, size, _ = gram.matrix.shape
    allowed = [inputs, inputs + 1] if _bias_of(name) in parent.names else [inputs]
    if size not in allowed or outputs % groups:
        raise InvalidInputs(
            f"The Gram matrix of `{name}` has the shape {list(gram.matrix.shape)}, which does not "
            f"fit its weight of {list(shape)}. Give that of the same model."
        )


def _solved(
    parents: Sequence[Parent],
    grams: Sequence[Grams],
    weights: Sequence[float],
    name: str,
    alpha: float,
    ridge: float,
) -> dict[str, Tensor]:
    """The merged weight of that layer, and its bias where that is an input too."""
    greatest = max(weights)
    shares = [weight / greatest for weight in weights if weight]
    chosen = [place for place, weight in enumerate(weights) if weight]
    matrices = [_scaled(grams[place][name].mean, alpha) for place in chosen]
    columns = [_columns(parents[place], name, grams[place][name]) for place in chosen]
    diagonals = torch.stack([it.diagonal(dim1=1, dim2=2) for it in matrices])
    # In units of the mean over inputs and parents; where nothing but zeros came, anything will do.
    little = ridge * (diagonals.mean(dim=(0, 2)) + (diagonals.amax(dim=(0, 2)) == 0))
    for matrix in matrices:
        matrix.diagonal(dim1=1, dim2=2).add_(little.unsqueeze(1))
    first = columns[0]
    left, right = torch.zeros_like(matrices[0]), torch.zeros_like(first)
    for share, matrix, column in zip(shares, matrices, columns):
        left.add_(matrix, alpha=share)
        right.add_(matrix @ (column - first), alpha=share)
    factor, failed = torch.linalg.cholesky_ex(left)
    if bool(failed.any()):
        raise InvalidInputs(
            f"The Gram matrices of `{name}` are singular: its inputs depend on each other. Give a "
            "greater --ridge or a lesser --alpha."
        )
    step = torch.cholesky_solve(right, factor)
    return _tensors(first + step, parents[0], name, grams[0][name])


def _scaled(gram: Tensor, alpha: float) -> Tensor:
    """The Gram matrices with the elements off their diagonals multiplied by alpha."""
    diagonal = gram.diagonal(dim1=1, dim2=2).clone()
    scaled = gram * alpha
    scaled.diagonal(dim1=1, dim2=2).copy_(diagonal)
    return scaled


# A weight as columns, `(groups, inputs, outputs of a group)`, and back


def _columns(parent: Parent, name: str, gram: LayerGram) -> Tensor:
    groups, size, _ = gram.matrix.shape
    weight = parent.tensor(name).to(torch.float64)
    rows = weight.T if gram.in_first else weight.flatten(1)
    columns = rows.reshape(groups, -1, rows.shape[1]).transpose(1, 2)
    if size == columns.shape[1]:
        return columns.contiguous()
    bias = parent.tensor(_bias_of(name)).to(torch.float64).reshape(groups, 1, -1)
    return torch.cat([columns, bias], dim=1)


def _tensors(columns: Tensor, parent: Parent, name: str, gram: LayerGram) -> dict[str, Tensor]:
    spec = parent.specs[name]
    inputs = spec.shape[0] if gram.in_first else _size(spec.shape[1:])
    rows = columns[:, :inputs].transpose(1, 2).reshape(-1, inputs)
    weight = (rows.T if gram.in_first else rows).reshape(spec.shape)
    found = {name: weight.to(spec.dtype).contiguous()}
    if inputs < columns.shape[1]:
        bias = parent.specs[_bias_of(name)]
        found[_bias_of(name)] = columns[:, -1].reshape(bias.shape).to(bias.dtype)
    return found


def _bias_of(weight: str) -> str:
    """The name of the bias beside a weight: `fc.bias`, or `attention.in_proj_bias`."""
    start, is_weight, _ = weight.rpartition("weight")
    return f"{start}bias" if is_weight else ""


def _size(shape: Sequence[int]) -> int:
    return torch.Size(shape).numel()
