"""Laws that merge methods keep, for the tests of whoever writes one.

    from otf_merge.testing import check_method

    def test_median():
        check_method(median)

Everything raises `AssertionError` with a sentence that says what was expected; no test framework
is needed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch

from .cores import one_core_each
from .pieces import SIZE, Piece, cut

if TYPE_CHECKING:
    from torch import Tensor

    from .measures import Measure
    from .registry import MergeMethod

#: What not every method promises: that copies of one tensor merge to it, that a weight of 1 among
#: zeros gives that tensor, and that tensors equal to the base give the base.
Law = Literal["copies", "lone weight", "zero deltas"]

_SHAPES = [(), (1,), (0,), (3, 0), (7,), (5, 1), (1, 5), (4, 6), (2, 3, 2, 2)]
# The dtypes that are stored, each with the shapes that are tried in it.
_STORED = {
    torch.float32: _SHAPES,
    torch.bfloat16: _SHAPES,
    torch.float64: [(), (4, 6)],
    torch.float16: [(), (4, 6)],
}
# Of results before they are rounded, in units of the greatest number: another order of summation
# may change that much, and no more.
_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}


def merge_tensors(
    method: MergeMethod,
    tensors: Sequence[Tensor],
    *,
    weights: Sequence[float] | None = None,
    base: Tensor | None = None,
    fisher: Sequence[Tensor] | None = None,
    size: int = SIZE,
    **parameters: Any,
) -> Tensor:
    """Merge the tensors of one name as a whole merge would, and return the result unrounded.

    The tensors have one shape and one dtype, the one that is computed with. They are cut into
    pieces of `size` elements, as far as the method lets them be, and its measures are taken over
    them. `weights` are 1 unless given; parameters have their defaults unless given. Random masks
    are not those of a merge of files, since these depend on the tensor's name.
    """
    values = method.values(parameters)
    pieces = list(_pieces(tuple(tensors[0].shape), method, size))
    parts = [
        ([_part(it, piece) for it in tensors], None if base is None else _part(base, piece))
        for piece in pieces
    ]
    found = {key: _measured(factory(values), parts) for key, factory in method.measures.items()}
    results = []
    for piece, (part, base_part) in zip(pieces, parts):
        known: dict[str, Any] = {
            "weights": [1.0] * len(tensors) if weights is None else weights,
            "base": base_part,
            "fisher": [_part(it, piece) for it in fisher or ()],
            "generator": torch.Generator().manual_seed(piece.start + values.get("seed", 0)),
            "name": "weight",
        }
        supplied = {key: known[key] for key in method.takes}
        result = method(part, **values, **found, **supplied)
        assert result.shape == piece.shape, (
            f"`{method.name}` made a tensor of shape {list(result.shape)} of pieces of shape "
            f"{list(piece.shape)}. The result must have the shape of what goes in."
        )
        results.append(result.reshape(-1))
    return torch.cat(results).reshape(tensors[0].shape)


def check_method(method: MergeMethod, *, without: Sequence[Law] = (), **parameters: Any) -> None:
    """Check that a method of the tensor form keeps the laws that every method must keep.

    It is tried on tensors of many shapes (scalars, without elements, with one column, with four
    dimensions) and of all floating-point dtypes, with as few checkpoints as it merges and with
    more:

    - the result has the shape and dtype of what goes in, is finite, and nothing that goes in is
      changed;
    - the same input gives the same result, to the last bit;
    - how a tensor is cut makes no difference, where the method draws no random numbers;
    - the order of the checkpoints makes none, where the method is declared `symmetric`;
    - copies of one tensor merge to it, exactly once they are rounded as they are stored;
    - a weight of 1 among zeros gives that tensor, where the method takes weights;
    - where all tensors are the base, so is the result;
    - each parameter has a text that says what it does, and a default that it may have.

    `without` leaves out laws that the method does not keep with these parameters: TIES, for
    example, has `copies` and `lone weight` only with a density of 1. Raises `AssertionError` for
    the first law that is broken.
    """
    assert method.form == "tensor", (
        f"`{method.name}` merges whole models. Only methods that work tensor by tensor, declared "
        "with `merge_method`, can be checked here."
    )
    _check_parameters(method)
    with one_core_each():
        for case in _cases(method, parameters):
            _check_laws(case, without)


@dataclass(frozen=True)
class _Case:
    """Tensors of one shape as they are stored in one dtype, in the dtype that is computed with."""

    method: MergeMethod
    parameters: Mapping[str, Any]
    tensors: Sequence[Tensor]
    weights: Sequence[float]
    base: Tensor | None
    fisher: Sequence[Tensor]
    stored: torch.dtype

    def merged(self, **other: Any) -> Tensor:
        """The result, unrounded, with whatever is to be other than in this case."""
        given: dict[str, Any] = {
            "weights": self.weights,
            "base": self.base,
            "fisher": self.fisher,
            **other,
        }
        tensors = given.pop("tensors", self.tensors)
        return merge_tensors(self.method, tensors, **given, **self.parameters)

    def require(self, result: Tensor, expected: Tensor, law: str) -> None:
        """That the result is what was expected, once it is rounded as it is stored."""
        got, wanted = result.to(self.stored), expected.to(self.stored)
        # float64 is computed with as it is stored: what is rounded on the way stays.
        close = self.stored == torch.float64 and torch.allclose(got, wanted, rtol=1e-12, atol=0)
        assert close or torch.equal(got, wanted), (
            f"`{self.method.name}` {law}, but {self._told()} are off by up to "
            f"{_greatest(got.to(torch.float64) - wanted.to(torch.float64)):g}."
        )

    def require_near(self, result: Tensor, other: Tensor, law: str) -> None:
        """That two results before rounding differ by no more than the order of summation does."""
        limit = _TOLERANCE[result.dtype] * max(_greatest(it) for it in self.everything())
        difference = _greatest(result - other)
        assert difference <= limit, (
            f"`{self.method.name}` {law}, but {self._told()} differ by up to {difference:g}."
        )

    def everything(self) -> list[Tensor]:
        """All tensors that go in."""
        return [*self.tensors, *self.fisher, *([] if self.base is None else [self.base])]

    def _told(self) -> str:
        base = "" if self.base is None else " with a base"
        shape, dtype = list(self.tensors[0].shape), str(self.stored).replace("torch.", "")
        return f"results for {len(self.tensors)} {dtype} tensors of shape {shape}{base}"


def _cases(method: MergeMethod, parameters: Mapping[str, Any]) -> Iterator[_Case]:
    generator = torch.Generator().manual_seed(0)
    most = method.fewest + 2 if method.most is None else method.most
    bases = (
        [True] if "base" in method.needs else [False, True] if "base" in method.takes else [False]
    )
    for stored, shapes in _STORED.items():
        wide = torch.float64 if stored.itemsize >= torch.float32.itemsize else torch.float32
        for shape in shapes:
            for count in sorted({method.fewest, max(method.fewest, min(most, method.fewest + 2))}):
                for has_base in bases:
                    drawn = torch.randn((2 * count + 1, *shape), generator=generator)
                    base = drawn[0].to(stored).to(wide)
                    tensors = [(base + 0.3 * it).to(stored).to(wide) for it in drawn[1 : count + 1]]
                    fisher = [it.abs().to(stored).to(wide) for it in drawn[count + 1 :]]
                    yield _Case(
                        method,
                        parameters,
                        tensors,
                        [1.0 + i for i in range(count)] if method.takes_weights else [1.0] * count,
                        base if has_base else None,
                        fisher if "fisher" in method.takes else (),
                        stored,
                    )


def _check_laws(case: _Case, without: Sequence[Law]) -> None:
    result = _check_result(case)
    _check_repeats(case, result)
    _check_cuts(case, result)
    _check_order(case, result)
    if "copies" not in without:
        _check_copies(case)
    if "lone weight" not in without and case.method.takes_weights:
        _check_lone_weight(case)
    if "zero deltas" not in without and case.base is not None:
        _check_zero_deltas(case)


def _check_parameters(method: MergeMethod) -> None:
    for parameter in method.parameters:
        assert parameter.help, (
            f"`{method.name}` does not say what its parameter `{parameter.name}` does. Annotate it "
            'with `Annotated[float, "what it does"]`.'
        )
        assert parameter.default is None or parameter.checked(parameter.default) is not None


def _check_result(case: _Case) -> Tensor:
    before = [it.clone() for it in case.everything()]
    weights = list(case.weights)
    result = case.merged()
    name, dtype = case.method.name, case.tensors[0].dtype
    assert result.dtype == dtype, (
        f"`{name}` made {result.dtype} of {dtype}. The result must have the dtype of what goes in."
    )
    assert bool(torch.isfinite(result).all()), (
        f"`{name}` made NaN or infinity of finite tensors of shape {list(result.shape)}."
    )
    unchanged = [torch.equal(it, was) for it, was in zip(case.everything(), before)]
    assert all([*unchanged, weights == list(case.weights)]), (
        f"`{name}` changes what it is given. Tensors that go in must stay as they are, since they "
        "are used again."
    )
    return result


def _check_repeats(case: _Case, result: Tensor) -> None:
    assert torch.equal(case.merged(), result), (
        f"`{case.method.name}` gives another result for the same input. Draw random numbers from "
        "`generator` only."
    )


def _check_cuts(case: _Case, result: Tensor) -> None:
    size = result.numel() // 3 + 1
    if "generator" not in case.method.takes and size < result.numel():
        law = "must not depend on how tensors are cut into pieces"
        case.require_near(case.merged(size=size), result, law)


def _check_order(case: _Case, result: Tensor) -> None:
    if case.method.symmetric:
        turned = case.merged(
            tensors=case.tensors[::-1], weights=case.weights[::-1], fisher=case.fisher[::-1]
        )
        case.require_near(turned, result, "is declared symmetric")


def _check_copies(case: _Case) -> None:
    tensor, count = case.tensors[0], len(case.tensors)
    case.require(case.merged(tensors=[tensor] * count), tensor, "must merge copies to themselves")


def _check_lone_weight(case: _Case) -> None:
    for chosen, tensor in enumerate(case.tensors):
        weights = [float(i == chosen) for i in range(len(case.tensors))]
        law = "must give the one tensor that has a weight of 1 among zeros"
        case.require(case.merged(weights=weights), tensor, law)


def _check_zero_deltas(case: _Case) -> None:
    if case.base is not None:
        copies = [case.base] * len(case.tensors)
        case.require(case.merged(tensors=copies), case.base, "must leave a base that all are")


def _pieces(shape: tuple[int, ...], method: MergeMethod, size: int) -> Iterator[Piece]:
    if math.prod(shape):
        yield from cut(shape, method.granularity, size)
    # A merge leaves tensors without elements out. Here they are one piece: methods get no others.
    elif method.granularity == "row":
        yield Piece(0, 0, (shape[0], math.prod(shape[1:])) if len(shape) > 1 else (1, 0))
    else:
        yield Piece(0, 0, (0,) if method.granularity == "element" else shape)


def _part(tensor: Tensor, piece: Piece) -> Tensor:
    return tensor.reshape(-1)[piece.start : piece.stop].reshape(piece.shape)


def _measured(measure: Measure, parts: Sequence[tuple[list[Tensor], Tensor | None]]) -> Any:
    folded: list[Any] = []
    for _ in range(measure.passes):
        seen = [measure.observe(tensors, base, list(folded)) for tensors, base in parts]
        folded.append(measure.fold(seen))
    return measure.value(folded)


def _greatest(tensor: Tensor) -> float:
    return float(tensor.abs().max()) if tensor.numel() else 0.0
