"""Adapters merged by their factors, each averaged by itself."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, Optional

from torch import Tensor

from ..adapters.applied import applied
from ..adapters.joining import Joining, joining
from ..adapters.products import Product, length, total
from ..errors import InputsDiffer, InvalidInputs
from ..parameters import Range
from ..registry import model_method

if TYPE_CHECKING:
    from ..parents import Parent
    from ..progress import Progress


@model_method(
    "adapter-linear",
    summary="Low-rank adapters' factors averaged apart, which is not the average of what they do.",
    paper="arXiv:2106.09685",
    any_shapes=True,
    fitted=applied,
)
def adapter_linear(
    parents: Sequence[Parent],
    *,
    weights: Sequence[float],
    progress: Progress,
    report: dict[str, Any],
    convention: Annotated[
        Literal["average", "square-root"],
        "how factors are weighted: both by the weight, or both by the square root of weight times "
        "scaling; PEFT's `linear` is the square root, with `normalize` false",
    ] = "average",
    normalize: Annotated[
        bool, "divide the weights by their sum, for an average; PEFT does not and sums"
    ] = True,
    lora_alpha: Annotated[
        Optional[float],
        "what adapters without adapter_config.json are scaled by, over their rank; the default is "
        "a scaling of 1",
        Range(above=0),
    ] = None,
) -> Mapping[str, Tensor]:
    """Average A and B, each by itself: `A = sum(w[i] * A[i])` and `B = sum(w[i] * B[i])`.

    For low-rank adapters (Hu et al. 2021, "LoRA", arXiv:2106.09685) `s * B @ A` of these is not the
    average of the products: it has the cross terms `B[i] @ A[j]`, which nobody trained. Where
    adapters were started from the same factors and have moved little it comes near; for unrelated
    ones it does not. The report has the relative error, `|B A - D| / |D|` with D the weighted sum of
    the products, for each module and in all, from the factors alone. `adapter-svd` has D.

    Scalings that differ are put into B, relative to the first adapter's, which the result keeps.
    With the square-root convention `A = sum(sqrt(w[i] s[i]) * A[i])`, the same for B, and the
    scaling is 1, so that each product enters with its own weight but all cross terms with theirs;
    where `w[i] s[i]` is negative its root's sign is on A. All adapters must have the same modules
    and ranks. Magnitudes, biases and whole modules are treated as in `adapter-svd`.

    This is for low-rank adapters. What bottleneck adapters do is not linear in their weights:
    `adapter-fusion` takes them.
    """
    join = joining(parents, weights, normalize=normalize, alpha=lora_alpha)
    _require_same_modules(join)
    merged = join.beside()
    errors: dict[str, float] = {}
    off = everything = 0.0
    for done, (module, held) in enumerate(join.modules.items(), 1):
        found, scaling = (_rooted if convention == "square-root" else _averaged)(join, module)
        exact = join.exact(module)
        acting = Product(found.left * scaling, found.right)
        error = length(total([acting, exact], [1.0, -1.0]))
        size = length(exact)
        errors[module] = _ratio(error, size)
        off += error**2
        everything += size**2
        bias = join.bias(module)
        kept = join.first.factors[module].scaling
        if convention == "square-root":
            kept = join.written_scaling(held[0][1].rank)
        merged.update(
            join.written(
                module,
                found.right,
                found.left if kept == scaling else found.left * (scaling / kept),
                None if bias is None else bias / kept,
            )
        )
        progress(done, len(join.modules), "steps")
    report["adapter_linear"] = {
        **join.told(),
        "modules": errors,
        "error": _ratio(math.sqrt(off), math.sqrt(everything)),
        "dora": bool(join.adapters[0].magnitudes),
    }
    if join.first.config is not None:
        report["adapter_config"] = join.places()
        if convention == "square-root":
            found_ranks = {module: held[0][1].rank for module, held in join.modules.items()}
            report["adapter_config"] = join.settings(found_ranks)
    return merged


def _averaged(join: Joining, module: str) -> tuple[Product, float]:
    """The averaged factors, and the scaling that their product has."""
    scaling = join.first.factors[module].scaling
    if not scaling:
        raise InvalidInputs(
            f"The first adapter, `{join.first.label}`, is scaled by 0 in `{module}`, which the "
            "result would keep. Name another adapter first, or use adapter-svd."
        )
    held = join.modules[module]
    a = [join.shares[place] * it.a() for place, it in held]
    b = [join.shares[place] * (it.scaling / scaling) * it.b() for place, it in held]
    return Product(sum(b[1:], b[0]), sum(a[1:], a[0])), scaling


def _rooted(join: Joining, module: str) -> tuple[Product, float]:
    """The factors weighted by square roots, whose product has the scaling 1."""
    held = join.modules[module]
    roots = [_root(join.shares[place] * it.scaling) for place, it in held]
    a = [root * it.a() for root, (_, it) in zip(roots, held)]
    b = [abs(root) * it.b() for root, (_, it) in zip(roots, held)]
    return Product(sum(b[1:], b[0]), sum(a[1:], a[0])), 1.0


def _root(value: float) -> float:
    return math.copysign(math.sqrt(abs(value)), value)


def _require_same_modules(join: Joining) -> None:
    for module, held in join.modules.items():
        if len(held) < len(join.adapters) or module not in join.first.factors:
            raise InputsDiffer(
                f"Not every adapter has `{module}`, and an average of factors needs it in all: one "
                "that is missing would shrink both. Use adapter-svd, where it counts as no change."
            )
        ranks = {it.rank for _, it in held}
        if len({join.first.factors[module].rank, *ranks}) > 1:
            told = ", ".join(f"{it.rank} in `{join.adapters[i].label}`" for i, it in held)
            raise InputsDiffer(
                f"The adapters' ranks differ in `{module}`: {told}. Factors of different ranks have "
                "no average. Use adapter-svd, which merges the products."
            )


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
