"""PEFT folders: what their configurations say, what lies beside factors, and what is refused."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from otf_merge import Task, merge
from otf_merge.comparing import compare
from otf_merge.decisions import decisions
from otf_merge.errors import InputsDiffer, InvalidInputs, InvalidTask, UnreadableInput
from otf_merge.merging import merge_into_file
from otf_merge.request import Machine, Request
from safetensors.torch import load_file
from torch import Tensor, nn

from .adapters import PREFIX, config_of, distance, factors, folder, product

SHAPES = {"fc1": (6, 5), "fc2": (3, 6)}


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(5, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc2(torch.relu(self.fc1(x)))
        return out


def base() -> Net:
    torch.manual_seed(5)
    return Net()


def data() -> list[tuple[Tensor, Tensor]]:
    torch.manual_seed(6)
    return [(torch.randn(40, 5), torch.randint(3, (40,)))]


def both(tmp_path: Path, *extra: dict[str, Tensor], **config: Any) -> list[Path]:
    """Two folders of the same kind, the second with the second of `extra` beside its factors."""
    return [
        folder(tmp_path / name, {**factors(place, SHAPES), **more}, **config)
        for place, (name, more) in enumerate(zip("ab", extra or ({}, {})))
    ]


def test_what_stands_in_the_bases_place_is_averaged(tmp_path: Path) -> None:
    extras = [
        {
            f"{PREFIX}fc1.lora_magnitude_vector": torch.full((6,), value),
            f"{PREFIX}fc2.bias": torch.full((3,), 2 * value),
            f"{PREFIX}head.weight": torch.full((2, 3), 3 * value),
        }
        for value in (1.0, 2.0)
    ]
    paths = both(tmp_path, *extras, use_dora=True, bias="all", modules_to_save=["head"])
    for method in ("adapter-svd", "adapter-linear"):
        found = merge(paths, method, [3.0, 1.0])
        for name, tensor in extras[0].items():
            torch.testing.assert_close(found[name], tensor * 1.25)
        with pytest.raises(InvalidInputs, match=r"fc1\.lora_magnitude_vector.*cannot be summed"):
            merge(paths, method, normalize=False)
    lone = merge(paths, "adapter-svd", [0.0, 1.0], normalize=False)
    assert torch.equal(lone[f"{PREFIX}fc2.bias"], extras[1][f"{PREFIX}fc2.bias"])


def test_what_only_some_have_cannot_be_averaged(tmp_path: Path) -> None:
    paths = both(tmp_path, {f"{PREFIX}fc2.bias": torch.ones(3)}, {})
    with pytest.raises(InputsDiffer, match="Not all adapters hold `fc2.bias`"):
        merge(paths, "adapter-svd")


def test_a_bias_after_b_is_a_part_of_the_delta(tmp_path: Path) -> None:
    name = f"{PREFIX}fc1.lora_B.bias"
    extras = [{name: torch.full((6,), value)} for value in (1.0, 3.0)]
    paths = both(tmp_path, *extras, lora_bias=True)
    found = merge(paths, "adapter-svd", [3.0, 1.0])
    torch.testing.assert_close(found[name], torch.full((6,), 2 * (0.75 * 1 + 0.25 * 3)))
    linear = merge(paths, "adapter-linear", [3.0, 1.0])
    torch.testing.assert_close(linear[name], torch.full((6,), 0.75 * 1 + 0.25 * 3))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"peft_type": "IA3"}, "adapter of the type IA3"),
        ({"init_lora_weights": "pissa_niter_4"}, "initialised by pissa_niter_4, which moves"),
        ({"target_parameters": ["experts"]}, "uses `target_parameters`"),
    ],
)
def test_other_kinds_are_refused(tmp_path: Path, config: dict[str, Any], message: str) -> None:
    for method in ("adapter-svd", "adapter-linear"):
        with pytest.raises(InvalidInputs, match=message):
            merge(both(tmp_path / method, **config) if _made(tmp_path / method) else [], method)


def _made(path: Path) -> bool:
    path.mkdir()
    return True


@pytest.mark.parametrize(
    ("key", "value"), [("use_dora", True), ("bias", "all"), ("modules_to_save", ["head"])]
)
def test_adapters_of_two_kinds_are_refused(tmp_path: Path, key: str, value: Any) -> None:
    one = folder(tmp_path / "a", factors(0, SHAPES))
    other = folder(tmp_path / "b", factors(1, SHAPES), **{key: value})
    with pytest.raises(InputsDiffer, match=f"differ in `{key}`"):
        merge([one, other], "adapter-svd")


def test_broken_configurations_are_told_of(tmp_path: Path) -> None:
    alpha = folder(tmp_path / "a", factors(0, SHAPES), lora_alpha="much")
    with pytest.raises(UnreadableInput, match="lora_alpha 'much' for `fc1`"):
        merge([alpha], "adapter-svd")
    pattern = folder(tmp_path / "b", factors(0, SHAPES), alpha_pattern={"fc[": 2})
    with pytest.raises(UnreadableInput, match=r"pattern `fc\[`"):
        merge([pattern], "adapter-svd")


def test_tensors_that_are_no_adapter_are_refused(tmp_path: Path) -> None:
    whole = folder(tmp_path / "a", {"fc1.weight": torch.ones(2, 2)})
    with pytest.raises(InvalidInputs, match="`a` holds no low-rank adapter"):
        merge([whole], "adapter-svd")
    half = folder(tmp_path / "b", {f"{PREFIX}fc1.lora_A.weight": torch.ones(2, 2)})
    with pytest.raises(InvalidInputs, match="only one of the two factors for `fc1`"):
        merge([half], "adapter-svd")
    grouped = {
        "fc1.lora_A.weight": torch.ones(4, 2, 3, 3),
        "fc1.lora_B.weight": torch.ones(8, 2, 1, 1),
    }
    with pytest.raises(InvalidInputs, match="grouped convolutions"):
        merge([folder(tmp_path / "c", grouped)], "adapter-svd")
    state = factors(0, SHAPES)
    named = {name.replace(".weight", ".one.weight"): it for name, it in state.items()}
    with pytest.raises(InvalidInputs, match="two adapters for `fc1`"):
        merge([folder(tmp_path / "d", {**state, **named})], "adapter-svd")


def adapted(path: Path) -> Net:
    """The base with a folder's deltas in its weights, by the definition."""
    model, state, config = base(), load_file(path / "adapter_model.safetensors"), config_of(path)
    with torch.no_grad():
        for module in SHAPES:
            scaling = config["lora_alpha"] / config["r"]
            model.get_submodule(module).weight += scaling * product(state, module)  # type: ignore[operator]
    return model


def accuracy(model: nn.Module) -> float:
    x, y = data()[0]
    return float((model(x).argmax(-1) == y).double().mean())


def test_results_and_parents_are_tried_in_the_tasks_model(tmp_path: Path) -> None:
    paths = both(tmp_path)
    request = Request(
        paths,
        "adapter-svd",
        task=Task(base, data()),
        search={"rank": ["1", "2", "0"]},
        recalibrate="auto",
    )
    report = merge_into_file(request, Path("out/")).report
    assert report["validation"]["metric"] == accuracy(adapted(Path("out")))
    tried = {row["rank"]: row["metric"] for row in report["search"]["tried"]}
    chosen = report["search"]["chosen"]["rank"]
    assert tried[chosen] == max(tried.values()) == report["validation"]["metric"]
    assert config_of(Path("out"))["r"] == report["adapter_config"]["r"]
    assert (chosen or 8) >= config_of(Path("out"))["r"]
    rows = list(
        compare(
            Request(paths, task=Task(base, data())),
            Machine(),
            lambda *_: None,
            ["adapter-svd", "adapter-linear"],
        )
    )
    assert [it.name for it in rows] == ["a", "b", "adapter-svd", "adapter-linear"]
    alike = Request(paths, task=Task(base, data(), data()), parameters={"steps": 1})
    everything = compare(alike, Machine(), lambda *_: None)
    assert [it.name for it in everything] == [
        *"ab",
        "adapter-fusion",
        "adapter-linear",
        "adapter-svd",
    ]
    for path, row in zip(paths, rows):
        assert row.scores is not None
        assert row.scores.metric == accuracy(adapted(path))


def test_the_report_is_the_best_results_and_not_the_last_ones(tmp_path: Path) -> None:
    counts = itertools.count(0, -1)
    worse_and_worse = Task(base, data(), metric=lambda *_: next(counts))
    request = Request(
        both(tmp_path), "adapter-svd", task=worse_and_worse, search={"rank": ["1", "2"]}
    )
    report = merge_into_file(request, Path("out/")).report
    assert report["search"]["chosen"] == {"rank": 1}
    assert report["adapter_svd"]["modules"]["fc1"]["rank"] == 1
    assert config_of(Path("out"))["r"] == 1


def test_magnitudes_biases_and_whole_modules_are_tried_too(tmp_path: Path) -> None:
    extra = {
        f"{PREFIX}fc1.lora_magnitude_vector": torch.rand(6) + 1,
        f"{PREFIX}fc1.base_layer.bias": torch.randn(6),
        f"{PREFIX}fc2.lora_B.bias": torch.randn(3),
    }
    path = folder(tmp_path / "a", {**factors(0, SHAPES), **extra}, use_dora=True)
    request = Request([path], "adapter-svd", task=Task(base, data()))
    report = merge_into_file(request, Path("out/")).report
    model = adapted(path)
    with torch.no_grad():
        weight = model.fc1.weight
        weight *= (extra[f"{PREFIX}fc1.lora_magnitude_vector"] / weight.norm(dim=1))[:, None]
        model.fc1.bias.copy_(extra[f"{PREFIX}fc1.base_layer.bias"])
        model.fc2.bias += 2 * extra[f"{PREFIX}fc2.lora_B.bias"]
    x, y = data()[0]
    loss = float(nn.functional.cross_entropy(model(x), y).detach())
    assert report["validation"]["loss"] == pytest.approx(loss, rel=1e-5)


def test_a_model_that_the_adapters_do_not_fit(tmp_path: Path) -> None:
    paths = both(tmp_path)
    for model, message in [
        (lambda: nn.Linear(5, 3), "adapts `fc1`, and the task's model has no module"),
        (lambda: nn.ModuleDict({"fc1": nn.Linear(2, 2)}), r"a matrix of \[6, 5\], .*\[2, 2\]"),
    ]:
        with pytest.raises(InvalidTask, match=message):
            merge(paths, "adapter-svd", task=Task(model, data()))
    with pytest.raises(InvalidInputs, match="leaves the base as it is"):
        merge(paths, "adapter-svd", task=Task(base, data()), recalibrate="always")


def test_the_command_tells_what_was_lost(tmp_path: Path, cli: Any) -> None:
    paths = both(tmp_path)
    told = cli(*paths, "-m", "adapter-svd", "--rank", "2", "-o", "merged/")
    assert told.exit_code == 0, told.stderr
    assert "Merged the products of 2 modules to rank 2: " in told.stdout
    assert "of the squared length was discarded." in told.stdout
    told = cli(*paths, "-m", "adapter-linear", "-o", "factors/")
    assert "Factors of 2 modules averaged apart" in told.stdout
    again = merge([Path("merged"), paths[0]], "adapter-svd", [1, 0])
    found = load_file("merged/adapter_model.safetensors")
    assert distance(product(again, "fc1"), product(found, "fc1")) < 1e-6
    (sentence,) = decisions(
        {
            "adapter_linear": {
                "modules": {"a": 0.5},
                "error": 0.5,
                "averaged_beside": 2,
                "bases": ["x", "y"],
            }
        }
    )
    assert sentence.endswith("2 tensors beside factors. They name different bases: x, y.")
