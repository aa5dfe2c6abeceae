"""Before a merge: whether these weights can be averaged at all, seen from the weights alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from .cores import one_core_each
from .measures import Gram
from .pieces import cut

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch import Tensor

    from .family import Family
    from .parents import Parent
    from .pieces import Piece
    from .registry import MergeMethod

#: Elements that are looked at: all of a smaller model, of a greater one pieces at even distances.
SAMPLE = 1 << 22
#: Above this collapse score averages have been seen to be worse than the base.
COLLAPSING = 1.9e-3
#: Below this cosine two models have not grown from one start: separate starts are near zero, and
#: adapters that were trained beside one base, on different domains, have been seen at 0.46.
_RELATED = 0.25
#: Fewer elements say nothing about a direction.
_FEWEST = 1 << 10

#: Methods that have been seen to do well where averages no longer do.
_ROBUST = ("fisher",)
_STILL = ("fisher", "regmean", "distill", "greedy-soup")
#: DARE's own condition: the share of weights dropped, and the change that is small enough for it.
_MOST = 0.5
_SMALL_DELTA = 5e-3


@dataclass(frozen=True)
class Assessment:
    """How far the checkpoints are from each other, and from the base.

    `score` is `sqrt(I / K) / K` for K checkpoints, with I the variance of an element across them,
    meaned over the elements (as in PRISM, arXiv:2610.03199). On small networks averages were worse
    than their base from about 0.002 on; the threshold depends on the kind of model. `cosine` is the
    least between two checkpoints, `from_base` each one's distance to the base in units of the
    base's length, and `rms_deltas` the root mean square of what each has changed. `sampled` is the
    share of the elements that was looked at.
    """

    score: float
    cosine: float
    cosine_to_base: float | None
    from_base: tuple[float, ...]
    rms_deltas: tuple[float, ...]
    sampled: float

    @property
    def related(self) -> bool:
        """Whether the checkpoints, and the base, have one ancestor by the look of it."""
        to_base = 1.0 if self.cosine_to_base is None else self.cosine_to_base
        return min(self.cosine, to_base) >= _RELATED

    def told(self) -> dict[str, Any]:
        """The figures as plain values, for reports."""
        return {
            "collapse_score": self.score,
            "least_cosine": self.cosine,
            **({} if self.cosine_to_base is None else {"cosine_to_base": self.cosine_to_base}),
            **({"distance_from_base": list(self.from_base)} if self.from_base else {}),
            "sampled": self.sampled,
        }


def assess(family: Family) -> Assessment | None:
    """Look at the weights; None where there are too few elements, or checkpoints, to tell."""
    names = _weighed(family)
    total = sum(family.specs[name].numel for name in names)
    everyone = [*family.parents, *([family.base] if family.base else [])]
    if total < _FEWEST or len(everyone) < 2:  # noqa: PLR2004 - one is no distance
        return None
    with one_core_each():
        gram, seen = _gram(family, names, everyone, every=max(1, math.ceil(total / SAMPLE)))
    return _assessment(gram, len(family.parents), seen, total)


def warnings_of(
    assessment: Assessment,
    method: MergeMethod,
    given: Mapping[str, Any],
    base: str | None,
    *,
    aligned: bool = False,
) -> list[str]:
    """What the user should know before these checkpoints are merged by that method.

    `given` are the method's parameters, `base` is the base's name. Of checkpoints that were
    `aligned` distances say nothing: such networks average well from farther away.
    """
    distance = "" if aligned else _distance(assessment, method, base)
    found = [distance] if distance else []
    dropped = given.get("drop_rate", 0.0)
    if assessment.rms_deltas and dropped >= _MOST and max(assessment.rms_deltas) > _SMALL_DELTA:
        found.append(
            f"`{method.name}` drops {dropped:.0%} of what the checkpoints have learned, which is "
            "known to do no harm where weights have changed by less than about 0.005. Here they "
            f"have changed by {max(assessment.rms_deltas):.1e} (root mean square): a smaller "
            "--drop-rate loses less."
        )
    return found


def _distance(assessment: Assessment, method: MergeMethod, base: str | None) -> str:
    """What the distances say against the merge; nothing where they say nothing."""
    still = ", ".join(f"`{name}`" for name in _STILL if name != method.name)
    hope = f"What can still work: {still}"
    if not assessment.related:
        whom = "the checkpoints"
        if assessment.cosine >= _RELATED and base:
            whom = f"the checkpoints and the base `{base}`"
        to_base = 1.0 if assessment.cosine_to_base is None else assessment.cosine_to_base
        return (
            f"By the look of their weights {whom} have no common ancestor (cosine "
            f"{min(assessment.cosine, to_base):.2f}): merged by `{method.name}` they will hardly "
            "work. Check that they are fine-tuned from one model, or match their hidden units "
            f"first with --align weights. {hope}."
        )
    if assessment.score > COLLAPSING and method.name not in _ROBUST:
        return (
            f"The checkpoints are far apart (collapse score {assessment.score:.1e}). Averages of "
            f"specialists have been worse than their base from about {COLLAPSING:.1e} on; "
            "fine-tunings on the same data have averaged well beyond it. Validation data tell: "
            f"--task, and --gate to be safe. {hope}."
        )
    return ""


def _weighed(family: Family) -> list[str]:
    """The matrices, whose directions tell where a model comes from; vectors begin alike in all."""
    matrices = [it for it in family.merged if len(family.specs[it].shape) > 1]
    real = [it for it in matrices if not family.specs[it].dtype.is_complex]
    return real or [it for it in family.merged if not family.specs[it].dtype.is_complex]


def _gram(
    family: Family, names: Sequence[str], everyone: Sequence[Parent], every: int
) -> tuple[Tensor, int]:
    measure = Gram()
    gram = torch.zeros(len(everyone), len(everyone), dtype=torch.float64)
    seen = 0
    for name, piece in _pieces(family, names, every):
        tensors = [it.elements(name, piece.start, piece.stop).to(torch.float32) for it in everyone]
        gram += measure.observe(tensors, None, [])
        seen += piece.stop - piece.start
    return gram, seen


def _pieces(family: Family, names: Sequence[str], every: int) -> Iterator[tuple[str, Piece]]:
    pieces = ((name, it) for name in names for it in cut(family.specs[name].shape, "element"))
    for place, found in enumerate(pieces):
        if place % every == 0:
            yield found


def _assessment(gram: Tensor, count: int, seen: int, total: int) -> Assessment:
    squares = gram.diagonal()
    parents = gram[:count, :count]
    # The mean over elements of the variance across checkpoints, from scalar products alone.
    variance = float(squares[:count].mean() - parents.mean()) / seen
    cosines = gram / torch.outer(squares, squares).sqrt().clamp_min(torch.finfo(torch.float64).tiny)
    from_base: tuple[float, ...] = ()
    deltas: tuple[float, ...] = ()
    to_base = None
    if len(gram) > count:
        changed = (squares[:count] - 2 * gram[:count, count] + squares[count]).clamp_min(0).sqrt()
        length = max(float(squares[count].sqrt()), torch.finfo(torch.float64).tiny)
        from_base = tuple(float(it) / length for it in changed)
        deltas = tuple(float(it) / math.sqrt(seen) for it in changed)
        to_base = float(cosines[:count, count].min())
    return Assessment(
        score=math.sqrt(max(variance, 0.0) / count) / count,
        cosine=float(cosines[:count, :count].min()),
        cosine_to_base=to_base,
        from_base=from_base,
        rms_deltas=deltas,
        sampled=seen / total,
    )
