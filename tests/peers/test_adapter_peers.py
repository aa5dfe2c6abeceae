"""Low-rank adapters beside PEFT's: merged by its own code, and our results loaded into it."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from otf_merge import merge
from torch import Tensor, nn

# Their imports warn of what others have deprecated, which is not ours to mend.
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    peft = pytest.importorskip("peft")

pytestmark = [
    pytest.mark.filterwarnings("ignore::otf_merge.errors.MergeWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

WEIGHTS = [0.7, 0.6]
NAMES = ["one", "two"]
PREFIX = "base_model.model."


class Net(nn.Module):
    """An embedding, a convolution, and linear layers of which one lies in a block."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 12)
        self.conv = nn.Conv2d(1, 6, 3)
        self.block = nn.Sequential(nn.Linear(60, 16), nn.ReLU())
        self.head = nn.Linear(16, 4)

    def forward(self, tokens: Tensor) -> Tensor:
        image = self.embed(tokens).unsqueeze(1)
        flat = self.conv(image).relu().mean(2).flatten(1)
        out: Tensor = self.head(self.block(flat))
        return out


LINEAR = ["block.0", "head"]
EVERYTHING = ["embed", "conv", *LINEAR]


def base() -> Net:
    torch.manual_seed(0)
    return Net()


def tokens() -> Tensor:
    return torch.arange(40).reshape(4, 10) % 20


def saved(path: Path, targets: list[str], *settings: dict[str, Any]) -> tuple[Any, list[Path]]:
    """A PEFT model with two adapters of random factors, and their folders."""
    model: Any = None
    for name, own in zip(NAMES, settings):
        config = peft.LoraConfig(target_modules=targets, **own)
        if model is None:
            model = peft.get_peft_model(base(), config, adapter_name=name)
        else:
            model.add_adapter(name, config)
    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = torch.randn(parameter.shape, generator=generator) / 3
    model.save_pretrained(str(path), selected_adapters=NAMES)
    return model, [path / name for name in NAMES]


def combined(model: Any, how: str, **given: Any) -> dict[str, Tensor]:
    """What PEFT's own merge gives, by the names in its files."""
    model.add_weighted_adapter(NAMES, WEIGHTS, "both", combination_type=how, **given)
    state: dict[str, Tensor] = peft.get_peft_model_state_dict(model, adapter_name="both")
    return state


def products(state: dict[str, Tensor], scaling: float = 1.0) -> dict[str, Tensor]:
    found = {}
    for name, b in state.items():
        if "lora_B" in name or "lora_embedding_B" in name:
            a = state[name.replace("_B", "_A")]
            found[name] = scaling * b.double().flatten(1) @ a.double().flatten(1)
    return found


def close(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        error = (tensor - expected[name]).norm() / expected[name].norm()
        assert error < tolerance, (name, float(error))


SAME = ({"r": 4, "lora_alpha": 8}, {"r": 4, "lora_alpha": 2})
#: The second one is rank-stabilised and of another rank, with other alphas in a layer.
DIFFERENT = (
    {"r": 4, "lora_alpha": 8, "alpha_pattern": {"head": 3}},
    {"r": 3, "lora_alpha": 2, "use_rslora": True},
)


@pytest.mark.parametrize("settings", [SAME, DIFFERENT])
def test_svd(tmp_path: Path, settings: tuple[dict[str, Any], ...]) -> None:
    model, paths = saved(tmp_path, EVERYTHING, *settings)
    ours = merge(paths, "adapter-svd", WEIGHTS, normalize=False)
    theirs = combined(model, "svd")
    assert {it: v.shape for it, v in ours.items()} == {it: v.shape for it, v in theirs.items()}
    close(products(ours), products(theirs), 1e-5)


@pytest.mark.parametrize("settings", [SAME, DIFFERENT])
def test_cat_is_the_full_rank(tmp_path: Path, settings: tuple[dict[str, Any], ...]) -> None:
    model, paths = saved(tmp_path, LINEAR, *settings)
    ours = merge(paths, "adapter-svd", WEIGHTS, normalize=False, rank=0)
    close(products(ours), products(combined(model, "cat")), 1e-6)


def test_linear_is_the_square_root_convention(tmp_path: Path) -> None:
    model, paths = saved(tmp_path, EVERYTHING, *SAME)
    ours = merge(paths, "adapter-linear", WEIGHTS, normalize=False, convention="square-root")
    close(ours, combined(model, "linear"), 1e-6)


def test_linear_by_itself_is_not(tmp_path: Path) -> None:
    model, paths = saved(tmp_path, LINEAR, *SAME)
    ours = merge(paths, "adapter-linear", WEIGHTS, normalize=False)
    theirs = products(combined(model, "linear"))
    for name, tensor in products(ours, scaling=2.0).items():
        assert (tensor - theirs[name]).norm() > 0.1 * theirs[name].norm()


def loaded(path: Path) -> Tensor:
    """What the base answers with a folder's adapter in it, by PEFT."""
    model = peft.PeftModel.from_pretrained(base(), str(path)).eval()
    with torch.no_grad():
        out: Tensor = model(tokens())
    return out


@pytest.mark.parametrize("rank", [None, 2, 0])
@pytest.mark.parametrize("settings", [SAME, DIFFERENT])
def test_peft_loads_what_is_written(
    tmp_path: Path, settings: tuple[dict[str, Any], ...], rank: int | None
) -> None:
    _, paths = saved(tmp_path, EVERYTHING, *settings)
    out = tmp_path / "out"
    state = merge(paths, "adapter-svd", WEIGHTS, rank=rank)
    merge(paths, "adapter-svd", WEIGHTS, output=out, rank=rank)
    plain = base().eval()
    with torch.no_grad():
        for name, delta in products(state).items():
            module = name.removeprefix(PREFIX).partition(".lora_")[0]
            weight: Any = plain.get_submodule(module).weight
            weight += (delta.T if "embedding" in name else delta).reshape(weight.shape)
        torch.testing.assert_close(loaded(out), plain(tokens()), rtol=1e-4, atol=1e-4)


def test_peft_loads_adapters_of_different_modules_merged(tmp_path: Path) -> None:
    _, (first, _) = saved(tmp_path / "a", ["head"], *SAME)
    _, (second, _) = saved(tmp_path / "b", ["block.0"], *SAME)
    merge([first, second], "adapter-svd", output=tmp_path / "out", normalize=False)
    model = peft.PeftModel.from_pretrained(base(), str(first), adapter_name="a")
    model.load_adapter(str(second), adapter_name="b")
    model.base_model.set_adapter(["a", "b"])
    with torch.no_grad():
        expected = model.eval()(tokens())
    torch.testing.assert_close(loaded(tmp_path / "out"), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("method", ["adapter-svd", "adapter-linear"])
@pytest.mark.parametrize("targets", [LINEAR, EVERYTHING])
def test_one_adapter_is_itself_in_peft(tmp_path: Path, method: str, targets: list[str]) -> None:
    settings: dict[str, Any] = {"r": 4, "lora_alpha": 8, "use_dora": True}
    if targets == LINEAR:
        settings["modules_to_save"] = ["conv"]
    model, paths = saved(tmp_path, targets, settings, settings)
    merge(paths, method, [1, 0], output=tmp_path / "out")
    model.set_adapter("one")
    with torch.no_grad():
        expected = model.eval()(tokens())
    torch.testing.assert_close(loaded(tmp_path / "out"), expected, rtol=1e-4, atol=1e-4)


def test_a_tasks_model_answers_as_in_peft(tmp_path: Path) -> None:
    from otf_merge import Task
    from otf_merge.adapters.applied import applied
    from otf_merge.checkpoints.sources import opened
    from otf_merge.parents import Parent

    settings = {"r": 4, "lora_alpha": 8, "use_dora": True, "modules_to_save": ["head"]}
    model, paths = saved(tmp_path, ["embed", "conv", "block.0"], settings, settings)
    model.set_adapter("one")
    with opened(paths[:1], None) as (checkpoint,), torch.no_grad():
        parent = Parent(checkpoint, {name: name for name in checkpoint.specs})
        found = applied(Task(base, []), parent, None, {})(tokens())
        torch.testing.assert_close(found, model.eval()(tokens()), rtol=1e-4, atol=1e-4)


def test_biases_are_averaged_as_peft_writes_them(tmp_path: Path) -> None:
    paths = []
    for place in range(2):
        config = peft.LoraConfig(target_modules=LINEAR, r=2, bias="lora_only")
        model = peft.get_peft_model(base(), config)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if parameter.requires_grad:
                    parameter.fill_(place + 1) if name.endswith("bias") else parameter.normal_()
        model.save_pretrained(str(tmp_path / f"a{place}"))
        paths.append(tmp_path / f"a{place}")
    found = merge(paths, "adapter-svd", output=tmp_path / "out")
    merged = peft.PeftModel.from_pretrained(base(), str(found))
    biases = [it for name, it in merged.named_parameters() if name.endswith("layer.bias")]
    assert len(biases) == 2
    assert all(torch.equal(it, torch.full_like(it, 1.5)) for it in biases)


def test_peft_does_not_take_fused_adapters_for_plain_ones(tmp_path: Path) -> None:
    from otf_merge import Task

    _, paths = saved(tmp_path, LINEAR, *SAME)
    data = [(tokens(), torch.tensor([0, 1, 2, 3]))]
    task = Task(base, data, data)
    merge(paths, "adapter-fusion", task=task, steps=1, output=tmp_path / "out")
    with pytest.raises(KeyError, match="OTF_ADAPTER_FUSION"):
        loaded(tmp_path / "out")
