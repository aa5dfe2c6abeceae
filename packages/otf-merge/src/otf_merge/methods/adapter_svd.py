"""Adapters merged by what they do: their products summed, and factorised anew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Optional

from torch import Tensor

from ..adapters.applied import applied
from ..adapters.joining import joining
from ..adapters.products import truncated
from ..parameters import Range
from ..registry import model_method

if TYPE_CHECKING:
    from ..parents import Parent
    from ..progress import Progress


@model_method(
    "adapter-svd",
    summary="The weighted sum of low-rank adapters' products, factorised to a chosen rank.",
    paper="arXiv:2106.09685",
    fewest=1,
    any_shapes=True,
    fitted=applied,
)
def adapter_svd(
    parents: Sequence[Parent],
    *,
    weights: Sequence[float],
    progress: Progress,
    report: dict[str, Any],
    rank: Annotated[
        Optional[int],
        "the rank of the result in each module, 0 for the full one; the default is the greatest of "
        "the adapters' there, as in PEFT's `svd`",
        Range(least=0),
    ] = None,
    normalize: Annotated[
        bool,
        "divide the weights by their sum, for an average; PEFT's `svd` and `cat` do not and sum",
    ] = True,
    lora_alpha: Annotated[
        Optional[float],
        "what adapters without adapter_config.json are scaled by, over their rank; the default is "
        "a scaling of 1",
        Range(above=0),
    ] = None,
) -> Mapping[str, Tensor]:
    """Sum the deltas `D = sum(w[i] * s[i] * B[i] @ A[i])` and take their best factors of rank r.

    Hu et al. 2021, "LoRA", arXiv:2106.09685, adds `s * B @ A` to a layer's weights, with B of the
    shape `(outputs, r)`, A `(r, inputs)` and `s` the scaling `lora_alpha / r`, or with
    rank-stabilised LoRA `lora_alpha / sqrt(r)`. Here the products are what is averaged, so that the
    ranks and scalings of adapters may differ, and a module that an adapter leaves alone counts as a
    delta of zero.

    `D = U S V^T` is decomposed without being formed: both stacks of factors are brought to
    `Q R` and `P T`, and `R T^T`, of the size of the summed ranks, is decomposed instead. The result
    is `B = U sqrt(S)` and `A = sqrt(S) V^T` for the r greatest values: no other of that rank is
    nearer (Eckart and Young 1936). At the full rank, the sum of all ranks, it is exact, like PEFT's
    `cat`. The report has the share of the squared length that is discarded.

    A convolution's factors are flattened for that, and an embedding's are taken like a matrix's. In
    `adapter_config.json`, `r` and `lora_alpha` are changed so that the scaling is 1, with patterns
    for modules of another rank; a plain file is scaled as `lora_alpha` says, or by 1. DoRA's
    magnitudes, biases and modules that were trained whole stand in the place of the base's and are
    averaged; where they would be summed, or not all adapters have them, it is an error. With DoRA
    the result is therefore no exact average of the adapted weights.

    This is for low-rank adapters. What bottleneck adapters do is not linear in their weights:
    `adapter-fusion` takes them.
    """
    join = joining(parents, weights, normalize=normalize, alpha=lora_alpha)
    merged = join.beside()
    rows: dict[str, dict[str, Any]] = {}
    energy = discarded = 0.0
    for done, (module, held) in enumerate(join.modules.items(), 1):
        wanted = max(it.rank for _, it in held) if rank is None else rank
        exact = join.exact(module)
        found = truncated(exact, wanted or len(exact.right))
        own = len(found.product.right)
        scaling = join.written_scaling(own)
        bias = join.bias(module)
        merged.update(
            join.written(
                module,
                found.product.right,
                found.product.left / scaling,
                None if bias is None else bias / scaling,
            )
        )
        energy += found.energy
        discarded += found.discarded
        rows[module] = {"rank": own, "discarded": _share(found.discarded, found.energy)}
        progress(done, len(join.modules), "steps")
    report["adapter_svd"] = {
        **join.told(),
        "modules": rows,
        "discarded": _share(discarded, energy),
        "dora": bool(join.adapters[0].magnitudes),
    }
    if join.first.config is not None:
        report["adapter_config"] = join.settings({name: it["rank"] for name, it in rows.items()})
    return merged


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
