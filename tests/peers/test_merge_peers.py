"""Merge methods beside those of mergekit and PEFT, tensor by tensor.

Where they follow the definition, results are the same. Where they do not, the test says how, so
that whoever comes from them knows which option to choose, and a release that changes it is seen.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from otf_merge import merge
from otf_merge.registry import find_method
from otf_merge.testing import merge_tensors
from torch import Tensor

# Their imports warn of what others have deprecated, which is not ours to mend.
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    mergekit = pytest.importorskip("mergekit.merge_methods.api")
    peft = pytest.importorskip("peft.utils.merge_utils")

pytestmark = pytest.mark.filterwarnings("ignore::otf_merge.errors.MergeWarning")

#: Of 10, 40, 200 and 1000 elements, so that shares of them are whole numbers.
SHAPES = [(10,), (10, 4), (10, 10, 2), (40, 25)]
WEIGHTS = [1.0, 2.0, 0.5]


def family(
    count: int, shape: tuple[int, ...], *, size: float = 0.3, seed: int = 0
) -> tuple[Tensor, list[Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    base, *deltas = torch.randn((count + 1, *shape), generator=generator, dtype=torch.float64)
    return base, [base + size * delta for delta in deltas]


def theirs(
    method: str, tensors: Sequence[Tensor], base: Tensor | None = None, **parameters: Any
) -> Tensor:
    """What mergekit makes; its `lambda` is given as `scale`."""
    given = {{"scale": "lambda"}.get(key, key): value for key, value in parameters.items()}
    if base is None:
        return mergekit.merge_tensors(tensors, method, parameters=given)
    return mergekit.merge_tensors([base, *tensors], method, parameters=given, base_index=0)


def ours(method: str, tensors: Sequence[Tensor], **given: Any) -> Tensor:
    return merge_tensors(find_method(method), tensors, **given)


def same(result: Tensor, expected: Tensor, tolerance: float = 1e-9) -> None:
    torch.testing.assert_close(result, expected, rtol=tolerance, atol=tolerance)


# Averages and the sphere in mergekit


@pytest.mark.parametrize("shape", SHAPES)
def test_linear(shape: tuple[int, ...]) -> None:
    _, tensors = family(3, shape)
    same(ours("linear", tensors, weights=WEIGHTS), theirs("linear", tensors, weight=WEIGHTS))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("t", [0.0, 0.25, 0.5, 1.0])
def test_slerp(shape: tuple[int, ...], t: float) -> None:
    base, (other,) = family(1, shape, size=1.0)
    same(ours("slerp", [base, other], t=t), theirs("slerp", [other], base, t=t))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("weights", [[1.0, 1.0], [0.2, 0.6]])
def test_nuslerp_is_slerp_by_weights(shape: tuple[int, ...], weights: list[float]) -> None:
    base, tensors = family(2, shape, size=1.0)
    t = weights[1] / sum(weights)
    same(ours("slerp", tensors, t=t), theirs("nuslerp", tensors, weight=weights))
    same(ours("slerp", tensors, t=t, base=base), theirs("nuslerp", tensors, base, weight=weights))


@pytest.mark.parametrize("shape", SHAPES)
def test_multislerp_of_mergekit_goes_no_further_than_the_average_direction(
    shape: tuple[int, ...],
) -> None:
    base, tensors = family(3, shape, size=1.0)
    for given in (None, base):
        result = theirs("multislerp", [it.clone() for it in tensors], given, weight=WEIGHTS)
        # Its step is the sum of projections onto the tangent space at their own mean: zero.
        projected = ours("multislerp", tensors, base=given, weights=WEIGHTS, tangent="projection")
        same(projected, result, 1e-6)
        logarithm = ours("multislerp", tensors, base=given, weights=WEIGHTS)
        assert not torch.allclose(logarithm, result, rtol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_karcher(shape: tuple[int, ...]) -> None:
    _, tensors = family(4, shape, size=1.0)
    same(ours("karcher", tensors), theirs("karcher", tensors), 1e-5)


def test_karcher_of_mergekit_leaves_short_tensors_out() -> None:
    _, (a, b) = family(2, (10,), size=1.0)
    short = 1e-7 * b
    direction = torch.nn.functional.cosine_similarity
    assert direction(theirs("karcher", [a, short]), a, dim=0).item() == pytest.approx(1.0)
    result = ours("karcher", [a, short])
    assert direction(result, a, dim=0) == pytest.approx(direction(result, b, dim=0).item())


# Deltas in mergekit


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("scale", [1.0, 0.3])
def test_task_arithmetic(shape: tuple[int, ...], normalize: bool, scale: float) -> None:
    base, tensors = family(3, shape)
    given = {"normalize": normalize, "scale": scale}
    expected = theirs("task_arithmetic", tensors, base, weight=WEIGHTS, **given)
    same(ours("task-arithmetic", tensors, base=base, weights=WEIGHTS, **given), expected)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("density", [0.2, 0.5, 1.0])
@pytest.mark.parametrize("scale", [1.0, 0.3])
def test_ties(shape: tuple[int, ...], density: float, scale: float) -> None:
    base, tensors = family(3, shape)
    given = {"density": density, "scale": scale}
    for consensus, normalize in (("mean", True), ("sum", False)):
        expected = theirs("ties", tensors, base, weight=WEIGHTS, normalize=normalize, **given)
        result = ours(
            "ties",
            tensors,
            base=base,
            weights=WEIGHTS,
            scope="tensor",
            draw="positive",
            consensus=consensus,
            **given,
        )
        same(result, expected)


def test_ties_draws() -> None:
    base = torch.zeros(1, dtype=torch.float64)
    tensors = [base + 2, base - 2]
    assert theirs("ties", tensors, base, weight=1.0).item() == 2
    assert ours("ties", tensors, base=base, density=1.0, draw="positive").item() == 2
    assert ours("ties", tensors, base=base, density=1.0).item() == 0


def test_ties_of_mergekit_trims_nothing_unless_told() -> None:
    base, tensors = family(3, (40, 25))
    same(theirs("ties", tensors, base, weight=1.0), ours("ties", tensors, base=base, density=1.0))


@pytest.mark.parametrize("shape", SHAPES[1:])
@pytest.mark.parametrize(("density", "gamma"), [(0.5, 0.1), (0.2, 0.025), (0.9, 0.1), (0.9, 0.2)])
def test_breadcrumbs(shape: tuple[int, ...], density: float, gamma: float) -> None:
    base, tensors = family(3, shape)
    given = {"density": density, "gamma": gamma}
    weighted = {"base": base, "weights": WEIGHTS, **given}
    expected = theirs("breadcrumbs", tensors, base, weight=WEIGHTS, **given)
    same(ours("breadcrumbs", tensors, **weighted), expected)
    expected = theirs("breadcrumbs_ties", tensors, base, weight=WEIGHTS, **given)
    convention = {"consensus": "sum", "draw": "positive"}
    same(ours("breadcrumbs-ties", tensors, **weighted, **convention), expected)


def test_breadcrumbs_of_mergekit_can_leave_nothing_of_a_small_tensor() -> None:
    base, tensors = family(1, (5,))
    same(theirs("breadcrumbs", tensors, base, weight=1.0, density=0.15, gamma=0.01), base)
    kept = ours("breadcrumbs", tensors, base=base, density=0.15, gamma=0.01)
    assert (kept != base).sum() == 1


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("count", [2, 4])
def test_model_stock(shape: tuple[int, ...], count: int) -> None:
    base, tensors = family(count, shape)
    common = torch.ones_like(base)
    for moved in (tensors, [it + common for it in tensors]):
        expected = theirs("model_stock", moved, base)
        same(ours("model-stock", moved, base=base, extrapolate=True), expected)


def test_model_stock_of_mergekit_takes_tiny_deltas_for_unrelated() -> None:
    base, (tensor,) = family(1, (10,), size=1e-5)
    # The same delta twice has a cosine of 1, and must merge to itself.
    same(ours("model-stock", [tensor, tensor], base=base), tensor, 1e-15)
    moved = theirs("model_stock", [tensor, tensor], base) - base
    assert moved.norm() < 0.01 * (tensor - base).norm()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("t", [1e-4, 0.1, 10.0])
def test_nearswap(shape: tuple[int, ...], t: float) -> None:
    base, tensors = family(1, shape)
    same(ours("nearswap", tensors, base=base, threshold=t), theirs("nearswap", tensors, base, t=t))


# Random masks in mergekit, of which only shares and sums can be compared

SAMPLES = 200_000


def deviations(kept: Tensor, chance: float) -> float:
    """How many standard deviations the share of what was kept is off its chance."""
    share = kept.double().mean().item()
    return abs(share - chance) / math.sqrt(chance * (1 - chance) / kept.numel())


@pytest.mark.parametrize("density", [0.1, 0.5])
def test_dare_keeps_the_same_share_and_rescales_otherwise(density: float) -> None:
    torch.manual_seed(0)
    base, (tensor,) = family(1, (SAMPLES,))
    delta = tensor - base
    result = ours("dare-linear", [tensor], base=base, drop_rate=1 - density) - base
    expected = theirs("dare_linear", [tensor], base, weight=1.0, density=density) - base
    for found in (result, expected):
        assert deviations(found != 0, density) < 4
    # Here each weight by what makes up for the chance, there the tensor to the sum of its sizes.
    kept = result != 0
    same(result[kept], delta[kept] / density, 1e-6)
    assert expected.abs().sum().item() == pytest.approx(delta.abs().sum().item(), rel=1e-3)
    # On a tensor this large that is about the same.
    kept = expected != 0
    factors = expected[kept] / delta[kept]
    assert factors.median().item() == pytest.approx(1 / density, rel=0.02)


def test_the_rescaling_of_mergekit_depends_on_luck_in_small_tensors() -> None:
    torch.manual_seed(0)
    base, (tensor,) = family(1, (64,))
    tensor[0] += 100
    factors = []
    for _ in range(50):
        moved = theirs("dare_linear", [tensor], base, weight=1.0, density=0.1) - base
        factors += [(moved / (tensor - base))[moved != 0][:1].tolist()]
    found = [it[0] for it in factors if it]
    assert min(found) < 2
    assert max(found) > 50
    for seed in range(50):
        moved = ours("dare-linear", [tensor], base=base, drop_rate=0.9, seed=seed) - base
        kept = moved != 0
        same(moved[kept], 10 * (tensor - base)[kept], 1e-6)


def test_dare_ties_of_mergekit_adds_up_what_agrees() -> None:
    base, tensors = family(3, (40, 25))
    given = {"base": base, "weights": WEIGHTS, "drop_rate": 0.0, "draw": "positive"}
    expected = theirs("dare_ties", tensors, base, weight=WEIGHTS, density=1.0)
    same(ours("dare-ties", tensors, consensus="sum", **given), expected)


def test_della_keeps_the_same_shares_by_rank() -> None:
    torch.manual_seed(0)
    rows, width = SAMPLES // 5, 5
    delta = torch.arange(1.0, width + 1, dtype=torch.float64).expand(rows, width).contiguous()
    base = torch.zeros_like(delta)
    given = {"density": 0.5, "epsilon": 0.3}
    result = ours("della", [delta], base=base, **given)
    expected = theirs("della", [delta], base, weight=1.0, **given)
    for rank in range(width):
        chance = 0.2 + 0.6 * rank / (width - 1)
        for found in (result, expected):
            assert deviations(found[:, rank] != 0, chance) < 4
        kept = result[:, rank][result[:, rank] != 0]
        same(kept, torch.full_like(kept, (rank + 1) / chance), 1e-6)
    # There one factor serves all, so that what is seldom kept is too small and the rest too great.
    means = expected.mean(dim=0) / (torch.arange(width) + 1)
    assert means[0] < 0.5
    assert means[-1] > 1.2
    same(result.mean(dim=0) / (torch.arange(width) + 1), torch.ones(width).double(), 0.05)


@pytest.mark.parametrize("name", ["della", "della_linear"])
def test_della_without_dropping(name: str) -> None:
    base, tensors = family(3, (40, 25))
    expected = theirs(name, tensors, base, weight=WEIGHTS, density=1.0)
    given = {"base": base, "weights": WEIGHTS, "density": 1.0, "draw": "positive"}
    same(ours("della", tensors, elect=name == "della", **given), expected)


def test_della_of_mergekit_fails_on_one_column() -> None:
    base, tensors = family(1, (10, 1))
    with pytest.raises(RuntimeError):
        theirs("della", tensors, base, weight=1.0, density=0.5, epsilon=0.15)
    assert ours("della", tensors, base=base, density=0.5).isfinite().all()


# PEFT, whose functions take and make deltas


def deltas(base: Tensor, tensors: Sequence[Tensor]) -> list[Tensor]:
    return [tensor - base for tensor in tensors]


def tensor_of(weights: Sequence[float]) -> Tensor:
    return torch.tensor(weights, dtype=torch.float64)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("density", [0.2, 0.5])
@pytest.mark.parametrize(("vote", "method"), [("mass", "total"), ("count", "frequency")])
def test_ties_of_peft(shape: tuple[int, ...], density: float, vote: str, method: str) -> None:
    base, tensors = family(3, shape)
    expected = base + peft.ties(deltas(base, tensors), tensor_of(WEIGHTS), density, method)
    result = ours(
        "ties",
        tensors,
        base=base,
        weights=WEIGHTS,
        density=density,
        scope="tensor",
        draw="positive",
        consensus="count",
        vote=vote,
    )
    same(result, expected)


@pytest.mark.parametrize("shape", SHAPES)
def test_task_arithmetic_and_magnitude_prune_of_peft(shape: tuple[int, ...]) -> None:
    base, tensors = family(3, shape)
    expected = base + peft.task_arithmetic(deltas(base, tensors), tensor_of(WEIGHTS))
    same(ours("task-arithmetic", tensors, base=base, weights=WEIGHTS), expected)
    expected = base + peft.magnitude_prune(deltas(base, tensors), tensor_of(WEIGHTS), 0.3)
    given = {"base": base, "weights": WEIGHTS, "density": 0.3, "gamma": 0.0}
    same(ours("breadcrumbs", tensors, **given), expected)


def test_dare_of_peft_rescales_as_the_paper_does() -> None:
    torch.manual_seed(0)
    base, (tensor,) = family(1, (SAMPLES,))
    delta = tensor - base
    expected = peft.dare_linear([delta], tensor_of([1.0]), 0.1)
    result = ours("dare-linear", [tensor], base=base, drop_rate=0.9) - base
    for found in (expected, result):
        kept = found != 0
        assert deviations(kept, 0.1) < 4
        same(found[kept], delta[kept] / 0.1, 1e-6)


# Whole models, from files


def model(seed: int, dtype: torch.dtype) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    layers = torch.nn.Sequential(
        torch.nn.Embedding(20, 10), torch.nn.Linear(10, 40), torch.nn.LayerNorm(40)
    )
    return {name: it.detach().to(dtype) for name, it in layers.state_dict().items()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("name", "own", "their", "given"),
    [
        ("linear", {"weights": WEIGHTS}, {"weight": WEIGHTS}, {}),
        ("karcher", {}, {}, {}),
        ("task-arithmetic", {"weights": WEIGHTS}, {"weight": WEIGHTS}, {"normalize": True}),
        (
            "ties",
            {"weights": WEIGHTS, "scope": "tensor", "draw": "positive"},
            {"weight": WEIGHTS},
            {"density": 0.5},
        ),
        ("model-stock", {"extrapolate": True}, {}, {}),
    ],
)
def test_whole_models(
    name: str, own: Any, their: Any, given: Any, dtype: torch.dtype, tmp_path: Path
) -> None:
    states = [model(seed, dtype) for seed in range(4)]
    paths = [tmp_path / f"{i}.pt" for i in range(4)]
    for state, path in zip(states, paths):
        torch.save(state, path)
    # They are computed in float32, since in bfloat16 mergekit rounds at every step.
    wide = [{key: it.float() for key, it in state.items()} for state in states]
    based = "base" in find_method(name).needs
    expected = mergekit.merge_state_dicts(
        wide if based else wide[1:],
        name.replace("-", "_"),
        parameters={**their, **given},
        base=0 if based else None,
    )
    base = {"base": paths[0]} if based else {}
    merged = merge(paths[1:], name, **base, **own, **given)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-2
    for key, result in merged.items():
        assert result.dtype == dtype
        torch.testing.assert_close(result.float(), expected[key], rtol=tolerance, atol=tolerance)
