"""Spherical interpolation between two checkpoints, tensor by tensor."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Optional

from torch import Tensor

from ..measures import Gram
from ..parameters import Range
from ..registry import merge_method
from .sphere import PARALLEL, spanned


@merge_method(
    "slerp",
    summary="Interpolation along the arc between two checkpoints.",
    paper="Shoemake 1985",
    granularity="element",
    propagates=True,
    measures={"gram": lambda parameters: Gram()},
    most=2,
    symmetric=False,
)
def slerp(
    tensors: Sequence[Tensor],
    *,
    gram: Tensor,
    base: Optional[Tensor] = None,
    t: Annotated[
        float,
        "the place on the arc, from the first checkpoint at 0 to the second at 1; mergekit's "
        "nuslerp has w2 / (w1 + w2) here",
        Range(0, 1),
    ] = 0.5,
) -> Tensor:
    """Go the share `t` of the arc from `a` to `b`: `(sin((1-t)W) a + sin(tW) b) / sin W`.

    `W` is the angle between the two, each tensor taken as one vector; their lengths are kept, not
    brought to 1. Both have one shape, and so has the result. With a base, the arc is that of the
    deltas. Where the cosine is beyond 0.9995 in size, or a tensor is zero, it is the straight line
    instead, as in mergekit. Shoemake 1985, "Animating rotation with quaternion curves".
    """
    first, second, both = float(gram[0, 0]), float(gram[1, 1]), float(gram[0, 1])
    lengths = math.sqrt(first) * math.sqrt(second)
    cosine = both / lengths if lengths else 1.0
    shares = [1 - t, t]
    if abs(cosine) <= PARALLEL:
        angle = math.acos(cosine)
        shares = [math.sin(share * angle) / math.sin(angle) for share in shares]
    merged = spanned(tensors, shares, base)
    # On the line a base has no share, and one that is not finite would not be seen in the result.
    return merged if base is None or math.isfinite(both) else merged + 0 * base
