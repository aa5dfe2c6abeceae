"""Every method of the tensor form on files: piece by piece, in threads, over whole models."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable

import pytest
import torch
from otf_merge import merge
from otf_merge.methods import BUILT_IN
from otf_merge.registry import MergeMethod
from otf_merge.testing import merge_tensors
from torch import Tensor

pytestmark = pytest.mark.filterwarnings("ignore::otf_merge.errors.MergeWarning")

Files = Callable[..., tuple[list[Path], Path]]

#: Of the tensor form, with nothing needed beside the checkpoints and a base.
METHODS = [it for it in BUILT_IN if it.form == "tensor" and "fisher" not in it.takes]
RANDOM = [it for it in METHODS if "generator" in it.takes]
#: More than two pieces, one row of which is cut nowhere; and all that is small.
SHAPES = {
    "matrix": (800, 700),
    "column": (50, 1),
    "kernel": (3, 2, 2, 2),
    "bias": (33,),
    "scalar": (),
    "empty": (0, 4),
}


def named(method: MergeMethod) -> str:
    return method.name


@pytest.fixture
def files(save: Callable[..., Path]) -> Files:
    """Checkpoints near a base, and the base, in files."""

    def files(count: int, dtype: torch.dtype = torch.float32) -> tuple[list[Path], Path]:
        generator = torch.Generator().manual_seed(0)

        def drawn(scale: float) -> dict[str, Tensor]:
            return {
                name: scale * torch.randn(shape, generator=generator)
                for name, shape in SHAPES.items()
            }

        base = drawn(1.0)
        paths = []
        for i in range(count):
            moved = {name: base[name] + it for name, it in drawn(0.1 * (i + 1)).items()}
            paths.append(save(f"{i}.pt", {name: it.to(dtype) for name, it in moved.items()}))
        return paths, save("base.pt", {name: it.to(dtype) for name, it in base.items()})

    return files


def options(method: MergeMethod, base: Path) -> dict[str, Any]:
    return {"base": base} if "base" in method.takes else {}


def loaded(path: Path) -> dict[str, Tensor]:
    state: dict[str, Tensor] = torch.load(path, weights_only=True)
    return state


@pytest.mark.parametrize("method", METHODS, ids=named)
def test_the_number_of_threads_makes_no_difference(method: MergeMethod, files: Files) -> None:
    paths, base = files(method.most or 3)
    given = options(method, base)
    one, three = (merge(paths, method, threads=threads, **given) for threads in (1, 3))
    for name, shape in SHAPES.items():
        assert one[name].shape == shape
        assert torch.equal(one[name], three[name])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("method", [it for it in METHODS if it not in RANDOM], ids=named)
def test_files_merge_as_their_tensors_do(
    method: MergeMethod, files: Files, dtype: torch.dtype
) -> None:
    paths, base = files(method.most or 3, dtype)
    given = options(method, base)
    if any(it.name == "scope" for it in method.parameters):
        given["scope"] = "tensor"
    merged = merge(paths, method, **given)
    wide = torch.float64 if dtype == torch.float32 else torch.float32
    states = [loaded(path) for path in paths]
    if "base" in given:
        given["base"] = loaded(base)
    for name, result in merged.items():
        own = {**given, **({"base": given["base"][name].to(wide)} if "base" in given else {})}
        expected = merge_tensors(method, [state[name].to(wide) for state in states], **own)
        assert result.dtype == dtype
        # In another order of summation a last digit may turn.
        close = {torch.float32: 1e-6, torch.bfloat16: 1e-2}[dtype]
        torch.testing.assert_close(result, expected.to(dtype), rtol=close, atol=close)


@pytest.mark.parametrize("method", RANDOM, ids=named)
def test_random_masks_differ_between_tensors_and_pieces_and_come_from_the_seed(
    method: MergeMethod, save: Callable[..., Path]
) -> None:
    # Two tensors of two pieces, all of them the same.
    ones = {name: torch.ones(2, 1 << 18) for name in ("first", "second")}
    base = save("base.pt", {name: torch.zeros_like(it) for name, it in ones.items()})
    path = save("ones.pt", ones)
    merged = merge([path], method, base=base)
    masks = [row != 0 for it in merged.values() for row in it]
    for i, mask in enumerate(masks):
        assert 0.05 < mask.float().mean().item() < 0.95
        assert not any(torch.equal(mask, other) for other in masks[:i])
    again, other = (merge([path], method, base=base, seed=seed) for seed in (0, 1))
    assert all(torch.equal(merged[name], again[name]) for name in merged)
    assert not any(torch.equal(merged[name], other[name]) for name in merged)


@pytest.mark.parametrize("name", ["ties", "breadcrumbs", "breadcrumbs-ties"])
def test_a_density_of_the_whole_model_takes_most_from_where_most_has_changed(
    name: str, save: Callable[..., Path]
) -> None:
    generator = torch.Generator().manual_seed(0)
    little = 0.01 * torch.randn(60, 10, generator=generator)
    much = torch.randn(40, 10, generator=generator)
    path = save("a.pt", {"little": little, "much": much})
    base = save("base.pt", {"little": torch.zeros(60, 10), "much": torch.zeros(40, 10)})
    shares = {"density": 0.2, **({} if name == "ties" else {"gamma": 0.0})}
    whole = merge([path], name, base=base, scope="model", **shares)
    assert whole["little"].count_nonzero() == 0
    flat = torch.cat([little.flatten(), much.flatten()])
    least = flat.abs().topk(200).values[-1]
    assert torch.equal(whole["much"], much.where(much.abs() >= least, 0.0))
    each = merge([path], name, base=base, scope="tensor", **shares)
    assert [each[key].count_nonzero().item() for key in each] == [120, 80]


def test_the_order_of_files_is_the_order_of_an_average_over_time(files: Files) -> None:
    paths, _ = files(3)
    states = [loaded(path) for path in paths]
    merged = merge(paths, "ema", decay=0.5)
    expected = (states[0]["bias"] / 2 + states[1]["bias"] / 2) / 2 + states[2]["bias"] / 2
    torch.testing.assert_close(merged["bias"], expected)


def test_weights_and_parameters_may_differ_by_tensor(files: Files) -> None:
    paths, base = files(2)
    merged = merge(
        paths,
        "task-arithmetic",
        base=base,
        overrides={"bias": {"scale": 0.0}, "matrix": {"weights": [0.0, 1.0]}},
    )
    assert torch.equal(merged["bias"], loaded(base)["bias"])
    assert torch.equal(merged["matrix"], loaded(paths[1])["matrix"])
