"""`adapter-svd` and `adapter-linear` against products that are formed by the definition."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from otf_merge import merge
from otf_merge.adapters.products import Product, length, total, truncated
from otf_merge.errors import InputsDiffer, InvalidInputs, InvalidParameter, NotFinite
from otf_merge.merging import merge_into_file
from otf_merge.request import Request
from safetensors.torch import load_file
from torch import Tensor

from .adapters import PREFIX, config_of, distance, factors, folder, product

Save = Callable[[str, Any], Path]

SHAPES = {"fc1": (24, 40), "fc2": (30, 24)}
WEIGHTS = [3.0, 1.0]
SHARES = [0.75, 0.25]


def report_of(paths: list[Path], method: str, weights: Any = None, **given: Any) -> dict[str, Any]:
    request = Request(paths, method, weights=weights, parameters=given)
    return merge_into_file(request, Path("out/"), force=True).report


def written() -> dict[str, Tensor]:
    return dict(load_file("out/adapter_model.safetensors"))


@pytest.fixture
def pair(tmp_path: Path) -> tuple[list[Path], list[dict[str, Tensor]]]:
    """Two folders of rank 4, the first scaled by 2 and the second by 4."""
    states = [factors(seed, SHAPES) for seed in (0, 1)]
    alphas = (8, 16)
    paths = [
        folder(tmp_path / f"a{place}", state, lora_alpha=alpha)
        for place, (state, alpha) in enumerate(zip(states, alphas))
    ]
    return paths, states


def exact(states: list[dict[str, Tensor]], scalings: list[float], module: str) -> Tensor:
    return sum(  # type: ignore[return-value]
        share * scaling * product(it, module)
        for share, scaling, it in zip(SHARES, scalings, states)
    )


# Products


@settings(max_examples=40)
@given(
    st.integers(1, 9), st.integers(1, 9), st.integers(1, 6), st.integers(0, 9), st.integers(0, 99)
)
def test_truncation_is_the_best_of_its_rank(
    outputs: int, inputs: int, rank: int, kept: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    left = torch.randn(outputs, rank, generator=generator, dtype=torch.float64)
    right = torch.randn(rank, inputs, generator=generator, dtype=torch.float64)
    found = truncated(Product(left, right), kept)
    u, s, vh = torch.linalg.svd(left @ right, full_matrices=False)
    best = (u[:, :kept] * s[:kept]) @ vh[:kept]
    torch.testing.assert_close(found.product.left @ found.product.right, best)
    assert found.energy == pytest.approx(float(s.square().sum()))
    assert found.discarded == pytest.approx(float(s[kept:].square().sum()), abs=1e-12)
    assert length(Product(left, right)) == pytest.approx(float((left @ right).norm()))


def test_a_product_less_itself_is_nothing_to_the_last_digits() -> None:
    torch.manual_seed(0)
    one = Product(torch.randn(300, 8).double(), torch.randn(8, 200).double())
    assert length(total([one, one], [1.0, -1.0])) < 1e-12 * length(one)


# adapter-svd


def test_the_full_rank_is_exact(pair: tuple[list[Path], list[dict[str, Tensor]]]) -> None:
    paths, states = pair
    report = report_of(paths, "adapter-svd", WEIGHTS, rank=0)
    found = written()
    for module in SHAPES:
        assert distance(product(found, module), exact(states, [2.0, 4.0], module)) < 1e-6
        assert found[f"{PREFIX}{module}.lora_A.weight"].dtype == torch.float32
    config = config_of(Path("out"))
    assert (config["r"], config["lora_alpha"], config["use_rslora"]) == (8, 8, False)
    assert report["adapter_svd"]["discarded"] < 1e-20
    assert config["target_modules"] == ["fc1", "fc2"]


def test_the_default_rank_is_the_best_of_the_parents_greatest(tmp_path: Path) -> None:
    states = [factors(0, SHAPES, rank=2), factors(1, SHAPES, rank=5)]
    paths = [
        folder(tmp_path / "a", states[0], r=2, lora_alpha=4),
        folder(tmp_path / "b", states[1], r=5, lora_alpha=5, use_rslora=True),
    ]
    report = report_of(paths, "adapter-svd", WEIGHTS)["adapter_svd"]
    found = written()
    energy = lost = 0.0
    for module in SHAPES:
        whole = exact(states, [2.0, math.sqrt(5)], module)
        u, s, vh = torch.linalg.svd(whole, full_matrices=False)
        best = (u[:, :5] * s[:5]) @ vh[:5]
        assert found[f"{PREFIX}{module}.lora_A.weight"].shape == (5, SHAPES[module][1])
        assert distance(product(found, module), best) < 1e-6
        discarded = float(s[5:].square().sum() / s.square().sum())
        assert report["modules"][module]["rank"] == 5
        assert report["modules"][module]["discarded"] == pytest.approx(discarded)
        energy, lost = energy + float(s.square().sum()), lost + float(s[5:].square().sum())
    assert report["discarded"] == pytest.approx(lost / energy)
    assert config_of(Path("out"))["use_rslora"] is False


def test_a_sum_takes_the_weights_as_they_are(
    pair: tuple[list[Path], list[dict[str, Tensor]]],
) -> None:
    paths, states = pair
    report_of(paths, "adapter-svd", WEIGHTS, rank=0, normalize=False)
    whole = 3 * 2 * product(states[0], "fc1") + 4 * product(states[1], "fc1")
    assert distance(product(written(), "fc1"), whole) < 1e-6


@pytest.mark.parametrize("method", ["adapter-svd", "adapter-linear"])
@pytest.mark.parametrize("convention", ["copies", "lone weight"])
def test_one_adapter_is_itself(
    pair: tuple[list[Path], list[dict[str, Tensor]]], method: str, convention: str
) -> None:
    paths, states = pair
    inputs = [paths[0]] * 3 if convention == "copies" else paths
    report_of(inputs, method, None if convention == "copies" else [0.5, 0.0])
    config = config_of(Path("out"))
    found = written()
    for module in SHAPES:
        scaling = config["lora_alpha"] / config["r"]
        assert distance(scaling * product(found, module), 2 * product(states[0], module)) < 1e-6
    if method == "adapter-linear":
        assert all(torch.equal(found[name], it) for name, it in states[0].items())
        assert config == config_of(paths[0])


def test_one_adapter_alone_is_brought_to_a_lower_rank(tmp_path: Path) -> None:
    state = factors(0, SHAPES)
    path = folder(tmp_path / "a", state)
    report_of([path], "adapter-svd", rank=1)
    u, s, vh = torch.linalg.svd(2 * product(state, "fc2"))
    assert distance(product(written(), "fc2"), s[0] * torch.outer(u[:, 0], vh[0])) < 1e-6


def test_a_module_that_one_lacks_counts_as_no_change(tmp_path: Path) -> None:
    states = [factors(0, {"block.fc1": (8, 6)}), factors(1, {"fc1": (7, 5), "block.fc1": (8, 6)})]
    paths = [
        folder(tmp_path / "a", states[0], target_modules=["block.fc1"]),
        folder(tmp_path / "b", states[1], target_modules=["fc1"]),
    ]
    report_of(paths, "adapter-svd", WEIGHTS, rank=0)
    found, config = written(), config_of(Path("out"))
    assert distance(product(found, "fc1"), 0.25 * 2 * product(states[1], "fc1")) < 1e-6
    assert distance(product(found, "block.fc1"), exact(states, [2, 2], "block.fc1")) < 1e-6
    assert config["target_modules"] == ["block.fc1", "fc1"]
    # The pattern of `fc1` would fit both, so that the longer path has one of its own, before it.
    ranks = {it: found[f"{PREFIX}{it}.lora_A.weight"].shape[0] for it in ("fc1", "block.fc1")}
    assert ranks == {"fc1": 4, "block.fc1": 6}
    assert config["r"] in (4, 6)
    for module, rank in ranks.items():
        matching = [it for it in config["rank_pattern"] if f".{module}".endswith(f".{it}")]
        assert (config["rank_pattern"][matching[0]] if matching else config["r"]) == rank
    assert config["alpha_pattern"] == config["rank_pattern"]


def test_patterns_of_ranks_and_alphas_are_followed(tmp_path: Path) -> None:
    one = factors(0, {"layers.0.fc1": (9, 7), "fc2": (8, 9)}, rank=3)
    other = factors(1, {"layers.0.fc1": (9, 7)}, rank=2)
    other.update(factors(2, {"fc2": (8, 9)}, rank=3))
    paths = [
        folder(tmp_path / "a", one, r=3, lora_alpha=3, alpha_pattern={"fc2": 12}),
        folder(tmp_path / "b", other, r=3, rank_pattern={"layers.[0-9].fc1": 2}, lora_alpha=6),
    ]
    report_of(paths, "adapter-svd", WEIGHTS, rank=0)
    found = written()
    whole = exact([one, other], [1.0, 3.0], "layers.0.fc1")
    assert distance(product(found, "layers.0.fc1"), whole) < 1e-6
    assert distance(product(found, "fc2"), exact([one, other], [4.0, 2.0], "fc2")) < 1e-6


def test_convolutions_and_embeddings_keep_their_shapes(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)

    def state() -> dict[str, Tensor]:
        shapes = {
            "conv.lora_A.weight": (2, 3, 3, 3),
            "conv.lora_B.weight": (5, 2, 1, 1),
            "emb.lora_embedding_A": (2, 11),
            "emb.lora_embedding_B": (6, 2),
        }
        return {
            f"{PREFIX}{name}": torch.randn(shape, generator=generator)
            for name, shape in shapes.items()
        }

    states = [state(), state()]
    paths = [
        folder(tmp_path / f"a{place}", it, r=2, lora_alpha=2) for place, it in enumerate(states)
    ]
    report_of(paths, "adapter-svd", WEIGHTS, rank=0)
    found = written()
    assert found[f"{PREFIX}conv.lora_A.weight"].shape == (4, 3, 3, 3)
    assert found[f"{PREFIX}conv.lora_B.weight"].shape == (5, 4, 1, 1)
    assert found[f"{PREFIX}emb.lora_embedding_A"].shape == (4, 11)
    assert distance(product(found, "conv"), exact(states, [1, 1], "conv")) < 1e-6
    b, a = (
        [it[f"{PREFIX}emb.lora_embedding_{side}"].double() for it in [found, *states]]
        for side in "BA"
    )
    assert distance(b[0] @ a[0], 0.75 * b[1] @ a[1] + 0.25 * b[2] @ a[2]) < 1e-6


# Plain files


@pytest.mark.parametrize("alpha", [None, 6.0])
def test_plain_files_keep_their_alpha(save: Save, alpha: float | None) -> None:
    states = [
        factors(0, SHAPES, rank=2, prefix=""),
        factors(1, SHAPES, rank=3, prefix="module."),
    ]
    paths = [save(f"a{place}.pt", it) for place, it in enumerate(states)]
    found = merge(paths, "adapter-svd", WEIGHTS, rank=0, lora_alpha=alpha)
    for module in SHAPES:
        scalings = [1.0, 1.0, 1.0] if alpha is None else [alpha / rank for rank in (2, 3, 5)]
        whole = 0.75 * scalings[0] * product(states[0], module, "")
        whole = whole + 0.25 * scalings[1] * product(states[1], module, "module.")
        assert distance(scalings[2] * product(found, module, ""), whole) < 1e-6


def test_an_adapters_own_name_in_a_state_dict_is_kept(save: Save) -> None:
    state = {
        name.replace(".weight", ".default.weight"): it for name, it in factors(0, SHAPES).items()
    }
    paths = [save("a.pt", state), save("b.pt", state)]
    assert merge(paths, "adapter-svd").keys() == state.keys()


def test_a_file_in_a_peft_folder_has_the_folders_scaling(
    pair: tuple[list[Path], list[dict[str, Tensor]]],
) -> None:
    paths, states = pair
    found = merge(
        [it / "adapter_model.safetensors" for it in paths], "adapter-svd", WEIGHTS, rank=0
    )
    assert distance(product(found, "fc1"), exact(states, [2.0, 4.0], "fc1")) < 1e-6


def test_the_result_is_rounded_once(tmp_path: Path) -> None:
    states = [factors(seed, SHAPES, dtype=torch.bfloat16) for seed in (0, 1)]
    paths = [folder(tmp_path / f"a{place}", it) for place, it in enumerate(states)]
    half = merge(paths, "adapter-svd", rank=0)
    assert {it.dtype for it in half.values()} == {torch.bfloat16}
    full = merge(paths, "adapter-svd", rank=0, dtype="float32")
    whole = product(states[0], "fc1") + product(states[1], "fc1")
    assert distance(product(full, "fc1"), whole) < 1e-6


# adapter-linear


def test_factors_are_averaged_apart(tmp_path: Path) -> None:
    states = [factors(seed, SHAPES) for seed in (0, 1)]
    paths = [folder(tmp_path / f"a{place}", it) for place, it in enumerate(states)]
    report = report_of(paths, "adapter-linear", WEIGHTS)["adapter_linear"]
    found = written()
    off = size = 0.0
    for name, tensor in found.items():
        expected = 0.75 * states[0][name].double() + 0.25 * states[1][name].double()
        assert torch.equal(tensor, expected.float())
    for module in SHAPES:
        acting, whole = 2 * product(found, module), exact(states, [2.0, 2.0], module)
        assert report["modules"][module] == pytest.approx(distance(acting, whole), rel=1e-5)
        off, size = off + float((acting - whole).norm() ** 2), size + float(whole.norm() ** 2)
    assert report["error"] == pytest.approx(math.sqrt(off / size), rel=1e-5)
    assert config_of(Path("out")) == config_of(paths[0])


def test_scalings_that_differ_are_put_into_b(
    pair: tuple[list[Path], list[dict[str, Tensor]]],
) -> None:
    paths, states = pair
    report_of(paths, "adapter-linear", WEIGHTS)
    found, (one, other) = written(), states
    name = f"{PREFIX}fc1.lora_B.weight"
    expected = 0.75 * one[name].double() + 0.25 * 2 * other[name].double()
    torch.testing.assert_close(found[name], expected.float())


def test_the_square_root_convention(pair: tuple[list[Path], list[dict[str, Tensor]]]) -> None:
    paths, states = pair
    report_of(paths, "adapter-linear", WEIGHTS, convention="square-root", normalize=False)
    for name, tensor in written().items():
        expected = math.sqrt(6) * states[0][name].double() + 2 * states[1][name].double()
        torch.testing.assert_close(tensor, expected.float(), msg=name)
    config = config_of(Path("out"))
    assert config["lora_alpha"] == config["r"] == 4


def test_unrelated_adapters_average_to_something_else(tmp_path: Path) -> None:
    shapes = {"fc1": (256, 256)}
    states = [factors(seed, shapes, rank=8) for seed in (0, 1)]
    paths = [
        folder(tmp_path / f"a{place}", it, r=8, lora_alpha=8) for place, it in enumerate(states)
    ]
    report = report_of(paths, "adapter-linear")["adapter_linear"]
    assert report["error"] == pytest.approx(0.71, abs=0.02)
    rooted = report_of(paths, "adapter-linear", convention="square-root")["adapter_linear"]
    assert rooted["error"] == pytest.approx(1.0, abs=0.03)
    svd = report_of(paths, "adapter-svd")["adapter_svd"]
    assert math.sqrt(svd["discarded"]) == pytest.approx(0.6, abs=0.05)


# What they refuse


def test_linear_refuses_what_has_no_average(tmp_path: Path) -> None:
    path = folder(tmp_path / "a", factors(0, SHAPES))
    other = folder(tmp_path / "b", factors(0, SHAPES, rank=3), r=3)
    with pytest.raises(
        InputsDiffer, match=r"ranks differ in `fc1`: 4 in `a`, 3 in `b`.*adapter-svd"
    ):
        merge([path, other], "adapter-linear")
    fewer = folder(tmp_path / "c", factors(0, {"fc1": SHAPES["fc1"]}))
    for inputs in ([path, fewer], [fewer, path]):
        with pytest.raises(InputsDiffer, match="Not every adapter has `fc2`.*adapter-svd"):
            merge(inputs, "adapter-linear")
    unscaled = folder(tmp_path / "d", factors(0, SHAPES), lora_alpha=0)
    with pytest.raises(InvalidInputs, match="`d`, is scaled by 0"):
        merge([unscaled, path], "adapter-linear")


def test_deltas_of_different_shapes_are_refused(tmp_path: Path) -> None:
    path = folder(tmp_path / "a", factors(0, {"fc1": (5, 4)}))
    other = folder(tmp_path / "b", factors(0, {"fc1": (5, 6)}))
    with pytest.raises(InputsDiffer, match=r"`fc1` has 5 outputs and inputs of \[4\] in `a`"):
        merge([path, other], "adapter-svd")


def test_numbers_that_are_not_finite_are_named(tmp_path: Path) -> None:
    state = factors(0, SHAPES)
    state[f"{PREFIX}fc2.lora_B.weight"][0, 0] = math.nan
    paths = [folder(tmp_path / "a", factors(1, SHAPES)), folder(tmp_path / "b", state)]
    for method in ("adapter-svd", "adapter-linear"):
        with pytest.raises(NotFinite, match=r"fc2\.lora_B\.weight` in .*b"):
            merge(paths, method)


def test_an_alpha_for_adapters_that_have_one_is_refused(
    pair: tuple[list[Path], list[dict[str, Tensor]]],
) -> None:
    with pytest.raises(InvalidParameter, match="each of these has its own"):
        merge(pair[0], "adapter-svd", lora_alpha=4)
