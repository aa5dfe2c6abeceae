"""`greedy-soup` against its recipe by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable

import pytest
import torch
from otf_merge import merge
from otf_merge.errors import InputsDiffer, InvalidTask, MissingNeed
from otf_merge.merging import merge_into_file
from otf_merge.request import Request
from otf_merge.task import Task
from sklearn.datasets import load_digits
from torch import Tensor, nn

from .domains import network, trained

Save = Callable[[str, Any], Path]

pytestmark = pytest.mark.filterwarnings("ignore::otf_merge.errors.MergeWarning")


class Line(nn.Module):
    """`y = w x`."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.w * x


def near(outputs: Tensor, targets: Tensor) -> Tensor:
    return -(outputs - targets).abs().mean()


def line_task(slope: float = 1.0, **more: Any) -> Task:
    x = torch.linspace(-1, 1, 21)
    data = [(x, slope * x)]
    given: dict[str, Any] = {"loss": nn.functional.mse_loss, "metric": near, **more}
    return Task(Line, data, **given)


def souped(save: Save, slopes: list[float], **more: Any) -> tuple[float, dict[str, Any]]:
    for place, slope in enumerate(slopes):
        save(f"{place}.pt", {"w": torch.tensor([slope])})
    files = [Path(f"{place}.pt") for place in range(len(slopes))]
    request = Request(files, "greedy-soup", task=line_task(**more))
    report = merge_into_file(request, Path("out.pt"), force=True).report["greedy_soup"]
    return float(torch.load("out.pt")["w"]), report


def weights_in(report: dict[str, Any]) -> list[float]:
    return [it["weight"] for it in report["checkpoints"]]


def test_it_adds_what_does_not_lower_the_score(save: Save) -> None:
    # Best first: 1.25; then 0.5 makes it 0.875, nearer to 1; with 2.0 it would be 1.25 again.
    found, report = souped(save, [2.0, 0.5, 1.25])
    assert found == pytest.approx(0.875)
    assert weights_in(report) == [0.0, 0.5, 0.5]
    assert [it["added"] for it in report["tried"]] == ["1.pt", "0.pt"]
    assert [it["kept"] for it in report["tried"]] == [True, False]
    x = torch.linspace(-1, 1, 21)
    scores = [-float((abs(w - 1) * x).abs().mean()) for w in (2.0, 0.5, 1.25)]
    assert [it["metric"] for it in report["checkpoints"]] == pytest.approx(scores)
    assert report["metric"] == pytest.approx(-0.125 * float(x.abs().mean()))


def test_one_that_leaves_the_score_as_it_is_is_added(save: Save) -> None:
    found, report = souped(save, [1.5, 1.5, 1.5])
    assert found == 1.5
    assert weights_in(report) == [1 / 3] * 3

    def flat(outputs: Tensor, targets: Tensor) -> float:
        return 0.5

    found, report = souped(save, [1.0, 2.0, 6.0], metric=flat)
    assert found == 3.0
    assert [it["added"] for it in report["tried"]] == ["1.pt", "2.pt"]


def test_a_score_that_is_no_number_is_the_worst(save: Save) -> None:
    def mended(outputs: Tensor, targets: Tensor) -> float:
        score = float(near(outputs, targets))
        return float("nan") if score < -0.4 else score

    found, report = souped(save, [5.0, 1.125], metric=mended)
    assert found == 1.125
    assert weights_in(report) == [0.0, 1.0]
    with pytest.raises(InvalidTask, match="NaN for every checkpoint"):
        souped(save, [5.0, 6.0], metric=mended)


def test_without_a_task_it_cannot_choose(save: Save) -> None:
    save("a.pt", {"w": torch.ones(1)})
    with pytest.raises(MissingNeed, match="--task"):
        merge(["a.pt", "a.pt"], "greedy-soup")


class Counted(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(1)
        self.register_buffer("places", torch.zeros(2, dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x)  # type: ignore[no-any-return]


def test_counters_are_the_greatest_and_indices_must_agree(save: Save) -> None:
    x = torch.randn(6, 1, generator=torch.Generator().manual_seed(0))
    task = Task(Counted, [(x, x)], loss=nn.functional.mse_loss, metric=lambda a, b: 1.0)
    for name, count in (("a", 3), ("b", 8)):
        state = Counted().state_dict()
        state["norm.num_batches_tracked"] = torch.tensor(count)
        state["places"] = torch.tensor([4, 5])
        save(f"{name}.pt", state)
    found = merge(["a.pt", "b.pt"], "greedy-soup", task=task)
    assert int(found["norm.num_batches_tracked"]) == 8
    assert found["places"].tolist() == [4, 5]
    state["places"] = torch.tensor([4, 6])
    save("b.pt", state)
    with pytest.raises(InputsDiffer, match="`places` differs between `a.pt` and `b.pt`"):
        merge(["a.pt", "b.pt"], "greedy-soup", task=task)


def test_it_is_the_recipe_on_digits(save: Save) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    digits = load_digits()
    x = torch.tensor(digits.images, dtype=torch.float32) / 16
    y = torch.tensor(digits.target)
    torch.manual_seed(0)
    base = network()
    trained(base, x[:150], y[:150], 60)
    states = []
    for place in range(5):
        model = network()
        model.load_state_dict(base.state_dict())
        noisy = x[:800] + 0.4 * torch.rand(800, 8, 8)
        trained(model, noisy, y[:800], 80 + 10 * place)
        states.append({name: it.to(torch.bfloat16) for name, it in model.state_dict().items()})
        save(f"{place}.pt", states[-1])
    task = Task(network, [(x[800:1200], y[800:1200])])
    told: list[Any] = []
    found = merge(
        [f"{place}.pt" for place in range(5)],
        "greedy-soup",
        task=task,
        progress=lambda *it: told.append(it),
    )

    def score(places: list[int]) -> tuple[float, dict[str, Tensor]]:
        mean = {
            name: torch.stack([states[it][name].double() for it in places]).mean(0).bfloat16()
            for name in states[0]
        }
        model = network()
        model.load_state_dict(mean)
        right = model(x[800:1200]).argmax(1) == y[800:1200]
        return float(right.double().mean()), mean

    order = sorted(range(5), key=lambda place: -score([place])[0])
    chosen = order[:1]
    for place in order[1:]:
        if score([*chosen, place])[0] >= score(chosen)[0]:
            chosen.append(place)
    expected = score(chosen)[1]
    torch.set_num_threads(before)
    assert len(chosen) > 1
    for name, tensor in expected.items():
        assert found[name].dtype == torch.bfloat16
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=0, msg=name)
    assert [it[0] for it in told] == list(range(1, 10))
    assert {it[1:] for it in told} == {(9, "steps")}
