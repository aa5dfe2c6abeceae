"""What validation data decide: parameters, normalisation statistics, and whether to accept."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable

import pytest
import torch
from otf_merge import MergeWarning, merge
from otf_merge.errors import GateRefused, MissingNeed
from otf_merge.merging import merge_into_file
from otf_merge.request import Request
from otf_merge.task import Task
from torch import Tensor

Save = Callable[[str, Any], Path]


class Line(torch.nn.Module):
    """`y = w x`, so that it is plain which weight is best."""

    def __init__(self) -> None:
        super().__init__()
        self.w = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.w * x


def near(outputs: Tensor, targets: Tensor) -> Tensor:
    return -(outputs - targets).abs().mean()


def line_task(slope: float) -> Task:
    x = torch.linspace(-1, 1, 20)
    return Task(
        model=Line,
        validation=[(x, slope * x)],
        train=[(x, slope * x)],
        loss=torch.nn.functional.mse_loss,
        metric=near,
    )


@pytest.fixture
def lines(save: Save) -> Save:
    for name, value in (("base", 0.0), ("a", 1.0), ("b", 1.0)):
        save(f"{name}.pt", {"w": torch.tensor([value])})
    return save


def asked(**given: Any) -> Request:
    return Request(inputs=[Path("a.pt"), Path("b.pt")], **given)


def test_a_search_takes_the_best_value_and_says_what_it_tried(lines: Save) -> None:
    request = asked(
        method="task-arithmetic",
        base=Path("base.pt"),
        task=line_task(0.6),
        search={"scale": [0.1, "0.3", 0.5]},
    )
    written = merge_into_file(request, Path("m.pt"))
    assert torch.load("m.pt", weights_only=True)["w"].item() == pytest.approx(0.6)
    assert written.parameters["scale"] == 0.3
    assert written.report["search"]["chosen"] == {"scale": 0.3}
    assert [row["scale"] for row in written.report["search"]["tried"]] == [0.1, 0.3, 0.5]
    assert written.report["validation"]["loss"] == pytest.approx(0.0, abs=1e-9)


def test_two_parameters_are_searched_together(lines: Save) -> None:
    merged = merge(
        ["a.pt", "b.pt"],
        "ties",
        base="base.pt",
        task=line_task(0.5),
        search={"scale": [0.5, 1.0], "density": [0.5, 1.0]},
    )
    assert merged["w"].item() == pytest.approx(0.5)


def test_a_gate_refuses_what_is_worse_than_the_best_parent(lines: Save) -> None:
    lines("b.pt", {"w": torch.tensor([3.0])})
    with pytest.raises(GateRefused, match=r"worse .* than its best parent, `a\.pt`") as refusal:
        merge(["a.pt", "b.pt"], task=line_task(1.0), gate=True, output="m.pt")
    assert not Path("m.pt").exists()
    assert refusal.value.report["gate"]["accepted"] is False
    assert set(refusal.value.report["gate"]["parents"]) == {"a.pt", "b.pt"}


def test_a_gate_lets_through_what_is_as_good_as_the_best(lines: Save) -> None:
    lines("b.pt", {"w": torch.tensor([3.0])})
    written = merge_into_file(asked(task=line_task(2.0), gate=True), Path("m.pt"))
    assert written.report["gate"]["accepted"] is True
    assert torch.load("m.pt", weights_only=True)["w"].item() == 2.0


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"gate": True}, "--gate"),
        ({"search": {"scale": [1]}}, "--search"),
        ({"recalibrate": "always"}, "--recalibrate always"),
    ],
)
def test_what_needs_a_task_says_so(lines: Save, options: dict[str, Any], named: str) -> None:
    with pytest.raises(MissingNeed, match=f"{named}.* needs a model and data.*--task"):
        merge(["a.pt", "b.pt"], **options)


def normalised() -> torch.nn.Module:
    return torch.nn.Sequential(
        torch.nn.Linear(2, 8), torch.nn.BatchNorm1d(8), torch.nn.Linear(8, 2)
    )


def normalised_task(states: list[dict[str, Tensor]]) -> Task:
    """Data labelled by the first model, whose statistics were taken from just these."""
    generator = torch.Generator().manual_seed(0)
    batches = [torch.randn(32, 2, generator=generator) for _ in range(12)]
    model = normalised()
    model.load_state_dict(states[0])
    model.eval()
    with torch.no_grad():
        labelled = [(batch, model(batch).argmax(dim=1)) for batch in batches]
    return Task(model=normalised, validation=labelled[:4], train=labelled)


def test_statistics_are_recomputed_where_that_is_better(save: Save) -> None:
    torch.manual_seed(0)
    model = normalised()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for _ in range(50):
            model(torch.randn(32, 2, generator=generator))
    state = {name: it.clone() for name, it in model.state_dict().items()}
    spoilt = {**state, "1.running_mean": state["1.running_mean"] + 50}
    task = normalised_task([state])
    save("a.pt", state)
    save("b.pt", spoilt)
    merged = merge(["a.pt", "b.pt"], task=task)
    torch.testing.assert_close(
        merged["1.running_mean"], state["1.running_mean"], atol=0.2, rtol=0.2
    )
    assert merged["1.num_batches_tracked"].item() == 12
    merged = merge(["a.pt", "b.pt"], task=task, recalibrate="always")
    assert float(merged["1.running_mean"].mean()) == pytest.approx(0.0, abs=1)
    with pytest.warns(MergeWarning, match="running statistics of 1 normalisation layer were"):
        merged = merge(["a.pt", "b.pt"], task=task, recalibrate="never")
    assert float(merged["1.running_mean"].mean()) == pytest.approx(25.0, abs=1)
