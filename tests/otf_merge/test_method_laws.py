"""What every method of the tensor form promises, and that the suite for authors finds who breaks it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from otf_merge import merge_method
from otf_merge.measures import Gram
from otf_merge.methods import BUILT_IN
from otf_merge.parameters import Range
from otf_merge.registry import MergeMethod, model_method
from otf_merge.testing import check_method, merge_tensors
from torch import Tensor

TENSOR_FORM = {method.name: method for method in BUILT_IN if method.form == "tensor"}


pytestmark = pytest.mark.usefixtures("one_thread")

NO_COPIES = ("copies",)
NEITHER = ("copies", "lone weight")

#: For every method the parameters that it is tried with, and the laws that it does not keep then:
#: sums of deltas do not give copies back, and where deltas are dropped nothing is what it was.
TRIED: dict[str, list[tuple[dict[str, Any], tuple[str, ...]]]] = {
    "breadcrumbs": [
        ({}, NEITHER),
        ({"density": 1.0, "normalize": True}, ()),
    ],
    "breadcrumbs-ties": [({}, NEITHER), ({"density": 1.0}, ())],
    "dare-linear": [
        ({}, NEITHER),
        ({"drop_rate": 0.5, "rescale": False, "normalize": True}, NEITHER),
        ({"drop_rate": 0.0}, NO_COPIES),
        ({"drop_rate": 0.0, "normalize": True}, ()),
    ],
    "dare-ties": [({}, NEITHER), ({"drop_rate": 0.0}, ())],
    "della": [
        ({}, NEITHER),
        ({"elect": False}, NEITHER),
        ({"density": 0.1, "epsilon": 0.0, "rescale": False}, NEITHER),
        ({"density": 1.0}, ()),
    ],
    "ema": [({}, ()), ({"debias": True}, ()), ({"decay": 0.5, "warmup": True}, ())],
    "karcher": [({}, ()), ({"max_iter": 1}, ())],
    "model-stock": [({}, ()), ({"extrapolate": True}, ())],
    "multislerp": [({}, ()), ({"tangent": "projection"}, ())],
    "nearswap": [({}, NO_COPIES), ({"threshold": 1e9}, ())],
    "slerp": [({}, ()), ({"t": 0.1}, ())],
    "task-arithmetic": [
        ({}, NO_COPIES),
        ({"normalize": True}, ()),
        ({"scale": 0.3}, NEITHER),
        ({"scale": -1.0}, NEITHER),
    ],
    "ties": [
        ({}, NEITHER),
        ({"scope": "tensor", "consensus": "sum", "draw": "positive"}, NEITHER),
        ({"consensus": "count", "vote": "count"}, NEITHER),
        ({"density": 1.0}, ()),
        ({"density": 0.0}, NEITHER),
    ],
}


def tried() -> list[Any]:
    cases = []
    for name, method in TENSOR_FORM.items():
        for parameters, broken in TRIED.get(name, [({}, ())]):
            told = ",".join(f"{key}={value}" for key, value in parameters.items())
            cases.append(pytest.param(method, parameters, broken, id=f"{name}({told})"))
    return cases


@pytest.mark.parametrize(("method", "parameters", "broken"), tried())
def test_built_in_methods_keep_the_laws(
    method: MergeMethod, parameters: dict[str, Any], broken: tuple[Any, ...]
) -> None:
    check_method(method, without=broken, **parameters)


@merge_method("median", summary="The element-wise median.", granularity="element")
def median(tensors: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(tensors)).median(dim=0).values


def test_the_example_of_the_documentation_keeps_the_laws() -> None:
    # Of an even number the lower of the two in the middle, so the order makes no difference.
    check_method(median)


# The same laws again, for whatever tensors and weights come along.


@st.composite
def cases(draw: Any) -> tuple[MergeMethod, dict[str, Any], tuple[str, ...], list[Tensor], Tensor]:
    method, parameters, broken = draw(st.sampled_from([it.values for it in tried()]))
    shape = draw(st.lists(st.integers(0, 5), max_size=3))
    wide = draw(st.sampled_from([torch.float32, torch.float64]))
    stored = torch.float32 if wide == torch.float64 else torch.bfloat16
    # In float32, whose squares these are, a scalar product holds no more than this.
    tiny = 1e-30 if wide == torch.float64 else 1e-15
    scale = draw(st.sampled_from([tiny, 1e-3, 1.0, 1e3]))
    count = draw(st.integers(method.fewest, method.most or 5))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    drawn = torch.randn((count + 1, *shape), generator=generator).mul(scale).to(stored).to(wide)
    base, *tensors = drawn.unbind()
    return method, parameters, broken, tensors, base


def merged(method: MergeMethod, tensors: Sequence[Tensor], base: Tensor, **given: Any) -> Tensor:
    if "base" in method.takes:
        given["base"] = base
    if "fisher" in method.takes:
        given["fisher"] = [tensor.abs() for tensor in tensors]
    stored = torch.float32 if base.dtype == torch.float64 else torch.bfloat16
    return merge_tensors(method, tensors, **given).to(stored)


def stored_like(tensor: Tensor, result: Tensor) -> Tensor:
    return tensor.to(result.dtype)


weights_of = st.floats(1e-3, 1e3)


@settings(max_examples=150)
@given(cases(), st.data())
def test_copies_merge_to_themselves(case: Any, data: st.DataObject) -> None:
    method, parameters, broken, tensors, base = case
    assume("copies" not in broken)
    if method.takes_weights:
        one = st.lists(weights_of, min_size=len(tensors), max_size=len(tensors))
        parameters = {**parameters, "weights": data.draw(one)}
    result = merged(method, [tensors[0]] * len(tensors), base, **parameters)
    assert torch.equal(result, stored_like(tensors[0], result))


@settings(max_examples=150)
@given(cases(), st.data())
def test_a_lone_weight_gives_its_tensor(case: Any, data: st.DataObject) -> None:
    method, parameters, broken, tensors, base = case
    assume(method.takes_weights)
    assume("lone weight" not in broken)
    chosen = data.draw(st.integers(0, len(tensors) - 1))
    weights = [float(i == chosen) for i in range(len(tensors))]
    result = merged(method, tensors, base, weights=weights, **parameters)
    assert torch.equal(result, stored_like(tensors[chosen], result))


@settings(max_examples=150)
@given(cases())
def test_a_base_that_nobody_left_stays(case: Any) -> None:
    method, parameters, _, tensors, base = case
    assume("base" in method.takes)
    result = merged(method, [base] * len(tensors), base, **parameters)
    assert torch.equal(result, stored_like(base, result))


@settings(max_examples=150)
@given(cases(), st.data())
def test_neither_order_nor_cuts_nor_the_scale_of_weights_make_a_difference(
    case: Any, data: st.DataObject
) -> None:
    method, parameters, _, tensors, base = case
    result = merged(method, tensors, base, **parameters).double()
    # As stored, whose last digit another order of summation may turn.
    limit = 2e-2 if base.dtype == torch.float32 else 1e-6
    bound = limit * max([float(it.abs().max()) for it in [base, *tensors] if it.numel()] or [0.0])

    def near(**other: Any) -> bool:
        given = {"tensors": tensors, **parameters, **other}
        again = merged(method, given.pop("tensors"), base, **given).double()
        return bool(((again - result).abs() <= bound).all())

    if method.symmetric:
        order = data.draw(st.permutations(tensors))
        assert near(tensors=order)
    if "generator" not in method.takes:
        assert near(size=data.draw(st.integers(1, 40)))
    normalized = parameters.get(
        "normalize", "normalize" not in {it.name for it in method.parameters}
    )
    summed = parameters.get("consensus") in ("sum", "count") or parameters.get("elect") is False
    if method.takes_weights and normalized and not summed:
        assert near(weights=[7.0] * len(tensors))


# The suite for authors fails, with a sentence, for a method that breaks a law.


def broken(name: str, function: Any, **declared: Any) -> MergeMethod:
    return merge_method(name, summary="Broken.", **{"granularity": "element", **declared})(function)


def changes_inputs(tensors: Sequence[Tensor]) -> Tensor:
    return tensors[0].add_(tensors[1]).div_(2)


def changes_weights(tensors: Sequence[Tensor], *, weights: list[float]) -> Tensor:
    weights[0] += 1
    return tensors[0]


def makes_another_shape(tensors: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(tensors)).flatten()


def makes_another_dtype(tensors: Sequence[Tensor]) -> Tensor:
    return tensors[0].to(torch.float16)


def divides_by_zero(tensors: Sequence[Tensor]) -> Tensor:
    return (tensors[0] + tensors[1]) / 0


def draws(tensors: Sequence[Tensor]) -> Tensor:
    return torch.rand_like(tensors[0])


def looks_at_the_piece(tensors: Sequence[Tensor]) -> Tensor:
    stacked = torch.stack(list(tensors))
    mean = stacked.mean(dim=0)
    return mean + (stacked - mean).abs().sum()


def prefers_the_first(tensors: Sequence[Tensor]) -> Tensor:
    return tensors[0]


def sums(tensors: Sequence[Tensor]) -> Tensor:
    return tensors[0] + tensors[1]


def ignores_weights(tensors: Sequence[Tensor], *, weights: Sequence[float]) -> Tensor:
    return torch.stack(list(tensors)).mean(dim=0)


def leaves_the_base(tensors: Sequence[Tensor], *, base: Tensor) -> Tensor:
    return base + 1


def says_nothing(tensors: Sequence[Tensor], *, power: float = 1.0) -> Tensor:
    return torch.stack(list(tensors)).mean(dim=0)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (changes_inputs, "changes what it is given"),
        (changes_weights, "changes what it is given"),
        (makes_another_shape, "must have the shape of what goes in"),
        (makes_another_dtype, "made torch.float16 of torch.float64"),
        (divides_by_zero, "made NaN or infinity of finite tensors"),
        (draws, "gives another result for the same input"),
        (looks_at_the_piece, "must not depend on how tensors are cut into pieces"),
        (prefers_the_first, "is declared symmetric"),
        (sums, "must merge copies to themselves"),
        (ignores_weights, "must give the one tensor that has a weight of 1 among zeros"),
        (leaves_the_base, "must merge copies to themselves"),
        (says_nothing, "does not say what its parameter `power` does"),
    ],
)
def test_the_suite_finds_who_breaks_a_law(function: Any, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_method(broken("broken", function))


def test_the_suite_finds_who_leaves_the_base() -> None:
    with pytest.raises(AssertionError, match="must leave a base that all are"):
        check_method(broken("broken", leaves_the_base), without=["copies"])


def test_laws_can_be_left_out() -> None:
    check_method(broken("sums", sums, most=2), without=["copies"])


def test_the_suite_is_for_the_tensor_form() -> None:
    @model_method("whole", summary="Whole.")
    def whole(parents: Any) -> dict[str, Tensor]:
        return {}

    with pytest.raises(AssertionError, match="`whole` merges whole models"):
        check_method(whole)


def test_pieces_and_measures_are_those_of_a_merge() -> None:
    seen: list[tuple[int, ...]] = []

    @merge_method(
        "rows", summary="Rows.", granularity="row", measures={"gram": lambda given: Gram()}
    )
    def rows(
        tensors: Sequence[Tensor],
        *,
        gram: Tensor,
        power: Annotated[float, "the power", Range(0)] = 2.0,
    ) -> Tensor:
        seen.append(tuple(tensors[0].shape))
        return torch.full_like(tensors[0], float(gram[0, 1]) ** power)

    tensors = [torch.ones(4, 3, 2), torch.full((4, 3, 2), 0.5)]
    assert (
        merge_tensors(rows, tensors, size=12, power=1.0).tolist()
        == torch.full((4, 3, 2), 12.0).tolist()
    )
    assert seen == [(2, 6), (2, 6)]
