"""From files to tensors: names, dtypes, buffers, and what is said about them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable

import pytest
import torch
from otf_merge import MergeError, MergeWarning, merge, merge_method
from otf_merge.errors import InputsDiffer, InvalidInputs, InvalidMethod, NotFinite

Save = Callable[[str, Any], Path]


def network() -> torch.nn.Module:
    return torch.nn.Sequential(
        torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 2)
    )


def test_a_network_is_merged_and_loads_strictly(save: Save) -> None:
    networks = [network() for _ in range(3)]
    for index, each in enumerate(networks):
        each(torch.randn(8, 3))
        save(f"ckpts/{index}.pt", each.state_dict())
    with pytest.warns(MergeWarning, match="running statistics of 1 normalisation layer were"):
        merged = merge("ckpts")
    network().load_state_dict(merged)
    for name, tensor in merged.items():
        if tensor.is_floating_point():
            parts = [each.state_dict()[name].double() for each in networks]
            torch.testing.assert_close(tensor, (sum(parts) / 3).float(), rtol=0, atol=0)


def test_counters_are_the_greatest(save: Save) -> None:
    for name, count in (("a.pt", 3), ("b.pt", 4)):
        save(name, {"w": torch.ones(1), "bn.num_batches_tracked": torch.tensor(count)})
    for files in (["a.pt", "b.pt"], ["b.pt", "a.pt"]):
        assert merge(files)["bn.num_batches_tracked"].item() == 4


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.bool])
def test_integer_buffers_are_never_averaged(save: Save, dtype: torch.dtype) -> None:
    same = {"w": torch.zeros(1), "same": torch.tensor([1, 0], dtype=dtype)}
    save("a.pt", {**same, "index": torch.tensor([0, 1], dtype=dtype)})
    save("b.pt", {**same, "index": torch.tensor([1, 1], dtype=dtype)})
    with pytest.raises(InputsDiffer, match=r"`index` differs between a\.pt and b\.pt"):
        merge(["a.pt", "b.pt"])
    merged = merge(["a.pt", "b.pt"], skip=["index"])
    assert merged["index"].tolist() == [0, 1]
    assert merged["same"].tolist() == [1, 0]
    assert merged["index"].dtype == merged["same"].dtype == dtype


def test_dtype_follows_the_first_and_the_sum_does_not(save: Save) -> None:
    # In bfloat16 itself 256 + 1 is 256, so a sum in the tensors' own dtype would give 128.
    save("a.pt", {"w": torch.tensor([256.0], dtype=torch.bfloat16)})
    save("b.pt", {"w": torch.tensor([2.0], dtype=torch.float32)})
    merged = merge(["a.pt", "b.pt"])["w"]
    assert merged.dtype == torch.bfloat16
    assert merged.item() == 129.0
    assert merge(["b.pt", "a.pt"])["w"].dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float16, torch.float64])
def test_narrow_and_wide_dtypes(save: Save, dtype: torch.dtype) -> None:
    save("a.safetensors", {"w": torch.tensor([1.0]).to(dtype)})
    save("b.safetensors", {"w": torch.tensor([2.0]).to(dtype)})
    merged = merge(["a.safetensors", "b.safetensors"])["w"]
    assert merged.dtype == dtype
    assert merged.double().item() == 1.5


@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."]
)
def test_wrappers_prefixes_are_reconciled(save: Save, prefix: str) -> None:
    save("a.pt", {"fc.w": torch.zeros(2), "enc.b": torch.zeros(1)})
    save("b.pt", {f"{prefix}fc.w": torch.ones(2), f"{prefix}enc._orig_mod.b": torch.ones(1)})
    assert {n: t.tolist() for n, t in merge(["a.pt", "b.pt"]).items()} == {
        "fc.w": [0.5, 0.5],
        "enc.b": [0.5],
    }
    assert list(merge(["b.pt", "a.pt"])) == [f"{prefix}fc.w", f"{prefix}enc._orig_mod.b"]


def test_names_that_a_prefix_tells_apart_stay_apart(save: Save) -> None:
    save("a.pt", {"w": torch.zeros(1), "module.w": torch.zeros(1)})
    save("b.pt", {"w": torch.ones(1), "module.w": torch.full((1,), 4.0)})
    assert merge(["a.pt", "b.pt"])["module.w"].item() == 2.0
    save("c.pt", {"module.w": torch.ones(1), "x": torch.ones(1)})
    with pytest.raises(InputsDiffer, match=r"`w`: only in a\.pt, not in c\.pt"):
        merge(["a.pt", "c.pt"])


def test_tied_weights_stay_one(save: Save) -> None:
    for name in ("a.pt", "b.pt"):
        tied = torch.randn(3, 2)
        save(name, {"embed": tied, "head": tied, "part": tied[1:]})
    merged = merge(["a.pt", "b.pt"])
    assert merged["embed"].data_ptr() == merged["head"].data_ptr()
    assert torch.equal(merged["embed"][1:], merged["part"])
    # A part of a larger storage must not drag the rest of it into the file.
    assert merged["part"].untyped_storage().nbytes() == 2 * 2 * 4


def test_what_only_some_tie_is_merged_apart(save: Save) -> None:
    tied = torch.ones(2)
    save("a.pt", {"embed": tied, "head": tied})
    save("b.pt", {"embed": torch.zeros(2), "head": torch.full((2,), 3.0)})
    merged = merge(["a.pt", "b.pt"])
    assert merged["embed"].tolist() == [0.5, 0.5]
    assert merged["head"].tolist() == [2.0, 2.0]


def test_strides_of_any_kind(save: Save) -> None:
    tensor = torch.randn(2, 3)
    save("a.pt", {"w": tensor.t(), "e": torch.zeros(1).expand(4)})
    save("b.pt", {"w": tensor.t().contiguous(), "e": torch.ones(4)})
    merge(["a.pt", "b.pt"], output="m.safetensors")
    merged = merge(["m.safetensors", "m.safetensors"])
    assert torch.equal(merged["w"], tensor.t())
    assert merged["e"].tolist() == [0.5] * 4


def test_the_result_outlives_its_inputs(save: Save) -> None:
    @merge_method("first", summary="The first.")
    def first(tensors: list[torch.Tensor]) -> torch.Tensor:
        return tensors[0]

    for name in ("a.pt", "b.pt"):
        save(name, {"w": torch.ones(100_000)})
    merged = merge(["a.pt", "b.pt"], first)["w"]
    Path("a.pt").write_bytes(b"\0" * Path("a.pt").stat().st_size)
    assert torch.equal(merged, torch.ones(100_000))


def test_a_method_of_another_shape_is_refused(save: Save) -> None:
    @merge_method("flat", summary="Flattens.")
    def flat(tensors: list[torch.Tensor]) -> torch.Tensor:
        return tensors[0].flatten()

    save("a.pt", {"w": torch.ones(2, 2)})
    with pytest.raises(InvalidMethod, match=r"`flat` made a tensor of shape \[4\]"):
        merge(["a.pt", "a.pt"], flat)


def test_a_result_that_overflows_is_refused(save: Save) -> None:
    save("a.pt", {"w": torch.tensor([1.0], dtype=torch.float16)})
    save("b.pt", {"w": torch.tensor([1e6])})
    with pytest.raises(NotFinite, match=r"merged `w` holds NaN or infinity as torch\.float16"):
        merge(["a.pt", "b.pt"])
    assert merge(["a.pt", "b.pt"], allow_nonfinite=True)["w"].isinf().all()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_not_finite_are_refused(save: Save, bad: float) -> None:
    save("a.pt", {"ok": torch.ones(1), "w": torch.ones(2)})
    save("b.pt", {"ok": torch.ones(1), "w": torch.tensor([1.0, bad])})
    with pytest.raises(NotFinite, match=r"`w` in b\.pt holds NaN or infinity"):
        merge(["a.pt", "b.pt"])
    assert not merge(["a.pt", "b.pt"], allow_nonfinite=True)["w"].isfinite().all()


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0], "2 checkpoints and 1 weights"),
        ([0.0, 0.0], "make no average"),
        ([-1.0, 2.0], "make no average"),
        ([float("nan"), 1.0], "make no average"),
        ([float("inf"), 1.0], "make no average"),
    ],
)
def test_weights_that_make_no_average(save: Save, weights: list[float], message: str) -> None:
    save("a.pt", {"w": torch.ones(1)})
    with pytest.raises(InvalidInputs, match=message):
        merge(["a.pt", "a.pt"], weights=weights)


def test_weights_may_be_negative_where_deltas_are_added_up(save: Save) -> None:
    for name, value in (("base", 1.0), ("a", 3.0), ("b", 2.0)):
        save(f"{name}.pt", {"w": torch.full((2,), value), "head": torch.full((2,), value)})
    files, given = ["a.pt", "b.pt"], {"method": "task-arithmetic", "base": "base.pt"}
    negated = {"w": [0.0, 0.0], "head": [2.0, 2.0]}
    for options in (
        {"weights": [-1.0, 1.0], "overrides": {"head": {"weights": [1.0, -1.0]}}},
        {"overrides": {"w": {"weight": "-1,1"}, "head": {"weights": [1.0, -1.0]}}},
    ):
        merged = merge(files, **given, **options)
        assert {name: it.tolist() for name, it in merged.items()} == negated
    output = merge(files, weights=[-1.0, 1.0], output="out.pt", **given)
    assert torch.load(output).otf_merge["parameters"]["weights"] == [-1.0, 1.0]


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("linear", {"weights": [-1.0, 2.0]}),
        ("ties", {"weights": [-1.0, 2.0], "base": "a.pt"}),
        ("della", {"weights": [-1.0, 2.0], "base": "a.pt"}),
        ("task-arithmetic", {"weights": [-1.0, 2.0], "base": "a.pt", "normalize": True}),
        (
            "task-arithmetic",
            {"weights": [-1.0, 2.0], "base": "a.pt", "overrides": {"w": {"normalize": True}}},
        ),
        ("linear", {"overrides": {"w": {"weights": [-1.0, 2.0]}}}),
    ],
)
def test_where_anything_is_averaged_no_weight_is_negative(
    save: Save, method: str, options: dict[str, Any]
) -> None:
    save("a.pt", {"w": torch.ones(1)})
    with pytest.raises(InvalidInputs, match="make no average"):
        merge(["a.pt", "a.pt"], method, **options)


@pytest.mark.parametrize("weights", [[0.0, 0.0], [float("nan"), 1.0], [-1.0, float("inf")]])
def test_weights_that_make_no_sum(save: Save, weights: list[float]) -> None:
    save("a.pt", {"w": torch.ones(1)})
    with pytest.raises(InvalidInputs, match="make no sum"):
        merge(["a.pt", "a.pt"], "task-arithmetic", weights, base="a.pt")


def test_swa_takes_no_weights(save: Save) -> None:
    save("a.pt", {"w": torch.ones(1)})
    with pytest.raises(InvalidInputs, match="`swa` takes no weights"):
        merge(["a.pt", "a.pt"], "swa", [1.0, 2.0])


def test_every_error_has_one_root() -> None:
    with pytest.raises(MergeError, match="at least 2 checkpoints, and there is none"):
        merge([])


def test_merging_twice_gives_the_same_bytes(save: Save) -> None:
    for name in ("a.safetensors", "b.safetensors"):
        save(name, {"w": torch.randn(100), "b": torch.randn(3)})
    files = [merge(["a.safetensors", "b.safetensors"], output=f"{n}.safetensors") for n in "xy"]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_what_is_missing_somewhere_is_refused_or_averaged_over_the_rest(save: Save) -> None:
    save("a.pt", {"w": torch.zeros(1), "head": torch.tensor([1.0])})
    save("b.pt", {"w": torch.ones(1), "head": torch.tensor([3.0])})
    save("c.pt", {"w": torch.full((1,), 2.0), "other": torch.tensor([7.0])})
    with pytest.raises(InputsDiffer, match=r"`head`: only in a\.pt, not in c\.pt"):
        merge(["a.pt", "b.pt", "c.pt"])
    with pytest.warns(MergeWarning, match="2 tensors are not in every checkpoint.*`head`, `other`"):
        merged = merge(["a.pt", "b.pt", "c.pt"], weights=[3, 1, 4], allow_missing=True)
    assert {name: it.item() for name, it in merged.items()} == {
        "w": pytest.approx(1.125),
        "head": 1.5,
        "other": 7.0,
    }


def test_skipped_tensors_are_the_first_ones_and_may_differ_in_shape(save: Save) -> None:
    save("a.pt", {"w": torch.zeros(1), "head.w": torch.ones(2, 2)})
    save("b.pt", {"w": torch.ones(1), "head.w": torch.ones(5, 2)})
    merged = merge(["a.pt", "b.pt"], skip=["head.*"])
    assert torch.equal(merged["head.w"], torch.ones(2, 2))
    assert merged["w"].item() == 0.5
    with pytest.raises(InvalidInputs, match=r"No tensor's name matches `--skip heads\.\*`"):
        merge(["a.pt", "b.pt"], skip=["heads.*"])


def test_overrides_by_pattern(save: Save) -> None:
    save("a.pt", {"encoder.w": torch.zeros(1), "decoder.w": torch.zeros(1)})
    save("b.pt", {"encoder.w": torch.ones(1), "decoder.w": torch.ones(1)})
    merged = merge(["a.pt", "b.pt"], overrides={"encoder.*": {"weights": [0.25, 0.75]}})
    assert {name: it.item() for name, it in merged.items()} == {"encoder.w": 0.75, "decoder.w": 0.5}
    merged = merge(["a.pt", "b.pt"], "slerp", overrides={"*": {"t": 0.5}, "decoder.*": {"t": 1.0}})
    assert merged["decoder.w"].item() == 1.0
    with pytest.raises(InvalidInputs, match=r"No merged tensor's name matches `--set enc\.\*`"):
        merge(["a.pt", "b.pt"], overrides={"enc.*": {"weights": [1, 0]}})
    with pytest.raises(InvalidInputs, match="`t` is 2, and must be a number from 0 to 1"):
        merge(["a.pt", "b.pt"], "slerp", overrides={"*": {"t": 2}})


def test_the_dtype_of_the_result(save: Save) -> None:
    for name in ("a.pt", "b.pt"):
        save(name, {"w": torch.tensor([0.1]), "n": torch.tensor([1])})
    merged = merge(["a.pt", "b.pt"], dtype="float16")
    assert merged["w"].dtype == torch.float16
    assert merged["n"].dtype == torch.int64
    with pytest.raises(InvalidInputs, match="no floating-point type `int8`"):
        merge(["a.pt", "b.pt"], dtype="int8")


@pytest.mark.parametrize("method", ["linear", "slerp", "ties", "dare-linear"])
def test_threads_and_pieces_change_nothing(save: Save, method: str) -> None:
    # A little over two pieces, so that the last is a short one.
    base = torch.randn(3, 200_000, generator=torch.Generator().manual_seed(0)).bfloat16()
    needs_base = method in ("ties", "dare-linear")
    for seed, name in enumerate(("base.safetensors", "a.safetensors", "b.safetensors")):
        change = torch.randn(base.shape, generator=torch.Generator().manual_seed(seed)) * 0.004
        save(name, {"w": base + change.bfloat16(), "b": base[0, :5].clone()})
    options: dict[str, Any] = {"base": "base.safetensors"} if needs_base else {}
    if method == "dare-linear":
        options["drop_rate"] = 0.4
    results = [
        merge(["a.safetensors", "b.safetensors"], method, threads=threads, **options)
        for threads in (1, 2, 5)
    ]
    for other in results[1:]:
        assert all(torch.equal(results[0][name], other[name]) for name in other)


def test_the_users_threads_are_left_as_they_were(save: Save) -> None:
    before = torch.get_num_threads()
    save("a.pt", {"w": torch.ones(10)})
    merge(["a.pt", "a.pt"], threads=3)
    assert torch.get_num_threads() == before


def test_progress_ends_at_the_total(save: Save) -> None:
    weights = torch.randn(300_000)
    for name in ("a.pt", "b.pt"):
        save(name, {"w": weights, "n": torch.tensor([1])})
    told = []
    merge(["a.pt", "b.pt"], "slerp", progress=lambda *it: told.append(it))
    done, total, unit = told[-1]
    assert done == total == 2 * 300_000 * 4 + 8
    assert unit == "bytes"
    assert [it[0] for it in told] == sorted(it[0] for it in told)


@pytest.mark.parametrize("method", ["linear", "slerp", "ties", "della", "model-stock"])
def test_complex_tensors_are_merged_as_pairs_of_numbers(save: Save, method: str) -> None:
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(4, 3, dtype=torch.complex64, generator=generator)
    changes = [torch.randn(4, 3, dtype=torch.complex64, generator=generator) for _ in range(2)]
    models = {"base": base, "a": base + 0.1 * changes[0], "b": base + 0.1 * changes[1]}
    for name, it in models.items():
        save(f"{name}.pt", {"w": it})
        save(f"{name}.real.pt", {"w": torch.view_as_real(it).reshape(4, 6)})
    options: dict[str, Any] = {} if method in ("linear", "slerp") else {"base": "base.pt"}
    merged = merge(["a.pt", "b.pt"], method, **options)["w"]
    if options:
        options["base"] = "base.real.pt"
    pairs = merge(["a.real.pt", "b.real.pt"], method, **options)["w"]
    assert torch.equal(torch.view_as_real(merged).reshape(4, 6), pairs)
