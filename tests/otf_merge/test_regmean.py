"""`regmean` against normal equations by hand, and on the digits' domains."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Callable

import pytest
import torch
from otf_merge import merge
from otf_merge.errors import InvalidInputs, InvalidParameter, MissingNeed
from otf_merge.evaluation import evaluate, model_with
from otf_merge.grams import Grams, LayerGram
from otf_merge.merging import merge_into_file
from otf_merge.request import Request
from otf_merge.task import Task
from torch import Tensor, nn

from .domains import digit_domains

Save = Callable[[str, Any], Path]

pytestmark = pytest.mark.filterwarnings("ignore::otf_merge.errors.MergeWarning")

PAIR = ["a.pt", "b.pt"]
GRAMS = ["ga.pt", "gb.pt"]


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def naive(
    inputs: Sequence[Tensor],
    columns: Sequence[Tensor],
    weights: Sequence[float],
    alpha: float,
    ridge: float = 1e-6,
) -> Tensor:
    """The normal equations by the inverse; columns are `(inputs, outputs)`."""
    grams = []
    for x in inputs:
        gram = x.T @ x / len(x)
        diagonal = torch.diag(torch.diag(gram))
        grams.append(alpha * gram + (1 - alpha) * diagonal)
    little = ridge * torch.stack([torch.diag(it) for it in grams]).mean()
    grams = [it + little * torch.eye(len(it), dtype=torch.float64) for it in grams]
    left = sum(weight * gram for weight, gram in zip(weights, grams))
    right = sum(weight * gram @ it for weight, gram, it in zip(weights, grams, columns))
    return torch.linalg.inv(left) @ right  # type: ignore[arg-type, no-any-return]


def with_ones(x: Tensor) -> Tensor:
    return torch.cat([x, torch.ones(len(x), 1, dtype=x.dtype)], dim=1)


def kept(name: str, x: Tensor, **more: Any) -> Grams:
    rows = x if x.dim() == 3 else x.unsqueeze(1)
    matrix = torch.einsum("rgi,rgj->gij", rows, rows)
    return Grams({name: LayerGram(matrix, len(x), **more)})


@pytest.fixture
def layers(save: Save) -> tuple[list[dict[str, Tensor]], list[Tensor]]:
    """Two checkpoints of one layer with a bias, a norm and an embedding; and the layer's inputs."""
    states, inputs = [], []
    for place, name in enumerate("ab"):
        state = {
            "fc.weight": normal(4, 3, seed=place),
            "fc.bias": normal(4, seed=10 + place),
            "norm.weight": normal(3, seed=20 + place),
            "embedding.weight": normal(5, 3, seed=30 + place),
            "count": torch.tensor(3),
        }
        x = normal(20 + 30 * place, 3, seed=40 + place) @ normal(3, 3, seed=50) + place
        save(f"{name}.pt", state)
        kept("fc.weight", with_ones(x)).save(Path(f"g{name}.pt"))
        states.append(state)
        inputs.append(x)
    return states, inputs


def columns_of(state: dict[str, Tensor]) -> Tensor:
    return torch.cat([state["fc.weight"].T, state["fc.bias"][None]])


@pytest.mark.parametrize("alpha", [0.0, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("weights", [[1.0, 1.0], [0.2, 3.0]])
def test_it_solves_the_normal_equations(layers: Any, alpha: float, weights: list[float]) -> None:
    states, inputs = layers
    found = merge(PAIR, "regmean", weights, grams=GRAMS, alpha=alpha)
    expected = naive(
        [with_ones(x) for x in inputs], [columns_of(it) for it in states], weights, alpha
    )
    # The files keep matrices in float32.
    torch.testing.assert_close(found["fc.weight"], expected[:3].T, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found["fc.bias"], expected[3], rtol=1e-4, atol=1e-5)
    for name in ("norm.weight", "embedding.weight"):
        mean = sum(w * it[name] for w, it in zip(weights, states)) / sum(weights)
        torch.testing.assert_close(found[name], mean)
    assert int(found["count"]) == 3


def test_it_answers_as_its_parents_do(layers: Any) -> None:
    # With alpha = 1 no other layer is nearer to the parents' outputs on their own inputs.
    states, inputs = layers
    found = merge(PAIR, "regmean", grams=GRAMS, alpha=1.0, ridge=1e-12)

    def distance(state: Any) -> float:
        total = 0.0
        for x, parent in zip(inputs, states):
            outputs = with_ones(x) @ (columns_of(state) - columns_of(parent))
            total += float(outputs.square().sum() / len(x))
        return total

    best = distance(found)
    for seed in range(5):
        moved = dict(found)
        moved["fc.weight"] = found["fc.weight"] + 1e-2 * normal(4, 3, seed=seed)
        assert distance(moved) > best


def test_copies_and_a_lone_weight_are_exact(layers: Any, save: Save) -> None:
    states, _ = layers
    save("copy.pt", states[0])
    found = merge(["a.pt", "copy.pt"], "regmean", [0.3, 0.7], grams=GRAMS)
    for name, tensor in states[0].items():
        # The others are averaged in the precision in which they are stored, with no wider one.
        if name.startswith("fc"):
            assert torch.equal(found[name], tensor), name
        torch.testing.assert_close(found[name], tensor, rtol=1e-15, atol=0)
    found = merge(PAIR, "regmean", [0.0, 0.3], grams=GRAMS)
    for name, tensor in states[1].items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-15, atol=0)
        assert torch.equal(found["fc.weight"], states[1]["fc.weight"])


def test_inputs_that_never_occur_take_the_average(layers: Any) -> None:
    states, inputs = layers
    for name, x in zip("ab", inputs):
        rows = with_ones(x)
        rows[:, 1] = 0
        kept("fc.weight", rows).save(Path(f"g{name}.pt"))
    found = merge(PAIR, "regmean", [1.0, 3.0], grams=GRAMS)
    mean = (states[0]["fc.weight"] + 3 * states[1]["fc.weight"]) / 4
    torch.testing.assert_close(found["fc.weight"][:, 1], mean[:, 1])
    assert not torch.allclose(found["fc.weight"][:, 0], mean[:, 0])
    for name in "ab":
        kept("fc.weight", torch.zeros(5, 4).double()).save(Path(f"g{name}.pt"))
    nothing = merge(PAIR, "regmean", [1.0, 3.0], grams=GRAMS)
    torch.testing.assert_close(nothing["fc.weight"], mean)


def test_a_bias_that_is_no_input_is_averaged(layers: Any) -> None:
    states, inputs = layers
    for name, x in zip("ab", inputs):
        kept("fc.weight", x).save(Path(f"g{name}.pt"))
    found = merge(PAIR, "regmean", grams=GRAMS, alpha=1.0)
    expected = naive(inputs, [it["fc.weight"].T for it in states], [1.0, 1.0], 1.0)
    torch.testing.assert_close(found["fc.weight"], expected.T, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found["fc.bias"], (states[0]["fc.bias"] + states[1]["fc.bias"]) / 2)


def test_groups_are_solved_by_themselves(save: Save) -> None:
    states, inputs = [], []
    for place, name in enumerate("ab"):
        states.append(
            {"c.weight": normal(6, 2, 3, seed=place), "c.bias": normal(6, seed=5 + place)}
        )
        inputs.append(normal(30, 2, 6, seed=10 + place))
        save(f"{name}.pt", states[-1])
        ones = torch.ones(30, 2, 1, dtype=torch.float64)
        kept("c.weight", torch.cat([inputs[-1], ones], dim=2)).save(Path(f"g{name}.pt"))
    found = merge(PAIR, "regmean", grams=GRAMS)
    for group in range(2):
        rows = slice(3 * group, 3 * group + 3)
        columns = [
            torch.cat([it["c.weight"][rows].flatten(1).T, it["c.bias"][None, rows]])
            for it in states
        ]
        little = [with_ones(x[:, group]) for x in inputs]
        expected = naive(little, columns, [1.0, 1.0], 0.9)
        torch.testing.assert_close(
            found["c.weight"][rows].flatten(1).T, expected[:6], rtol=1e-4, atol=1e-5
        )
        torch.testing.assert_close(found["c.bias"][rows], expected[6], rtol=1e-4, atol=1e-5)


def test_inputs_first_is_the_same_layer_turned(layers: Any, save: Save) -> None:
    states, inputs = layers
    plain = merge(PAIR, "regmean", grams=GRAMS)
    for name, state, x in zip("ab", states, inputs):
        save(f"{name}.pt", {**state, "fc.weight": state["fc.weight"].T.contiguous()})
        kept("fc.weight", with_ones(x), in_first=True).save(Path(f"g{name}.pt"))
    found = merge(PAIR, "regmean", grams=GRAMS)
    torch.testing.assert_close(found["fc.weight"], plain["fc.weight"].T)
    torch.testing.assert_close(found["fc.bias"], plain["fc.bias"])


def test_what_was_solved_and_what_averaged_is_told(layers: Any, save: Save) -> None:
    done = merge_into_file(
        Request([Path(it) for it in PAIR], "regmean", grams=[Path(it) for it in GRAMS]),
        Path("out.pt"),
    )
    assert done.report["regmean"] == {"layers": ["fc.weight"], "averaged": ["embedding.weight"]}
    assert done.report["grams"] == {"source": "file"}


def test_a_weight_that_is_used_elsewhere_too_is_averaged(save: Save) -> None:
    states = []
    for place, name in enumerate("ab"):
        weight, other = normal(4, 3, seed=place), normal(2, 3, seed=9 + place)
        states.append(weight)
        save(f"{name}.pt", {"embedding": weight, "head.weight": weight, "fc.weight": other})
        x = normal(20, 3, seed=20 + place)
        both = {**kept("head.weight", x), **kept("fc.weight", x)}
        Grams(both).save(Path(f"g{name}.pt"))
    found = merge(PAIR, "regmean", grams=GRAMS)
    torch.testing.assert_close(found["head.weight"], (states[0] + states[1]) / 2)
    assert torch.equal(found["head.weight"], found["embedding"])


# What is refused


def test_without_grams_the_ways_are_told(layers: Any) -> None:
    with pytest.raises(MissingNeed, match="--grams FILES"):
        merge(PAIR, "regmean")


def test_what_does_not_fit_is_refused(layers: Any, save: Save) -> None:
    _, inputs = layers
    kept("fc.weight", inputs[0][:, :2]).save(Path("gb.pt"))
    with pytest.raises(InvalidInputs, match=r"`fc.weight` has the shape \[1, 2, 2\]"):
        merge(PAIR, "regmean", grams=GRAMS)
    kept("fc.weight", inputs[0]).save(Path("gb.pt"))
    with pytest.raises(InvalidInputs, match="only some have the bias as an input"):
        merge(PAIR, "regmean", grams=GRAMS)
    kept("embedding.weight", inputs[0]).save(Path("gb.pt"))
    with pytest.raises(InvalidInputs, match="no layer in common"):
        merge(PAIR, "regmean", grams=GRAMS)
    with pytest.raises(InvalidParameter, match="`alpha`"):
        merge(PAIR, "regmean", grams=GRAMS, alpha=1.1)
    # Inputs that are copies of each other, and a ridge too little to be seen beside them.
    for name, x in zip("ab", inputs):
        rows = x[:, :1].repeat(1, 3)
        kept("fc.weight", rows.round()).save(Path(f"g{name}.pt"))
    with pytest.raises(InvalidInputs, match="are singular"):
        merge(PAIR, "regmean", grams=GRAMS, alpha=1.0, ridge=1e-300)


# On digits


def test_it_makes_one_model_of_experts_for_domains(tmp_path: Path) -> None:
    digits = digit_domains(tmp_path)
    average = evaluate(model_with(digits.task, merge(digits.files, "linear")), digits.task)
    found = merge(digits.files, "regmean", task=digits.task, samples=256)
    scores = evaluate(model_with(digits.task, found), digits.task)
    assert scores.metric > average.metric + 0.08


def test_a_convolution_is_solved_from_data(save: Save) -> None:
    def build() -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(32, 2)
        )

    states, data = [], []
    for place, name in enumerate("ab"):
        torch.manual_seed(place)
        states.append(build().state_dict())
        save(f"{name}.pt", states[-1])
        data.append([(torch.randn(8, 1, 4, 4), torch.zeros(8).long())])
    task = Task(build, validation=data[0], domains=data)
    found = merge(PAIR, "regmean", task=task)
    patches = [
        with_ones(nn.functional.unfold(own[0][0], 3, padding=1).transpose(1, 2).reshape(-1, 9))
        for own in data
    ]
    columns = [torch.cat([it["0.weight"].flatten(1).T, it["0.bias"][None]]) for it in states]
    expected = naive(
        [it.double() for it in patches], [it.double() for it in columns], [1.0, 1.0], 0.9
    )
    torch.testing.assert_close(
        found["0.weight"].flatten(1).T.double(), expected[:9], rtol=1e-4, atol=1e-5
    )
