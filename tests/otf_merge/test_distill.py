"""`distill`: one step by hand, what is kept, and the digits' domains."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import pytest
import torch
from otf_merge import merge
from otf_merge.errors import InvalidParameter, InvalidTask, MissingNeed
from otf_merge.evaluation import evaluate, model_with
from otf_merge.merging import merge_into_file
from otf_merge.request import Request
from otf_merge.task import Task
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from .domains import digit_domains

Save = Callable[[str, Any], Path]

pytestmark = pytest.mark.filterwarnings("ignore::otf_merge.errors.MergeWarning")

PAIR = ["a.pt", "b.pt"]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3)).double()


def data(seed: int = 0, count: int = 8) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 3, dtype=torch.float64, generator=generator)
    return [(x, torch.randint(3, (count,), generator=generator))]


@pytest.fixture
def states(save: Save) -> list[dict[str, Tensor]]:
    found = []
    for place, name in enumerate(["a", "b", "base"]):
        torch.manual_seed(place)
        found.append(dict(net().state_dict()))
        save(f"{name}.pt", found[-1])
    return found


class Rising:
    """A metric that finds every model better than the one before, or worse."""

    def __init__(self, step: int = 1) -> None:
        self._counts = itertools.count(0, step)

    def __call__(self, outputs: Tensor, targets: Tensor) -> int:
        return next(self._counts)


def task_of(**given: Any) -> Task:
    return Task(**{"model": net, "validation": data(9), "metric": Rising(), **given})


def model_of(state: dict[str, Tensor]) -> nn.Module:
    model = net()
    model.load_state_dict(state)
    return model


def average(states: list[dict[str, Tensor]], weights: list[float]) -> dict[str, Tensor]:
    total = sum(weights)
    return {
        name: sum(w / total * it[name] for w, it in zip(weights, states))  # type: ignore[misc]
        for name in states[0]
    }


def kl(target: Tensor, outputs: Tensor, temperature: float) -> Tensor:
    """`KL(target || softmax(outputs / T))`, a mean over rows, by the definition."""
    learned = (outputs / temperature).softmax(-1)
    return (target * (target.log() - learned.log())).sum(-1).mean()


@pytest.mark.parametrize("teacher", ["logits", "probabilities", "domain"])
@pytest.mark.parametrize("alpha", [0.0, 0.7, 1.0])
def test_a_step_is_adams_on_the_loss_by_hand(
    states: list[dict[str, Tensor]], teacher: str, alpha: float
) -> None:
    weights, temperature = [1.0, 3.0], 2.5
    sources = [data(1), data(2)]
    task = task_of(domains=sources) if teacher == "domain" else task_of(train=sources[0])
    found = merge(
        PAIR,
        "distill",
        weights,
        task=task,
        teacher=teacher,
        alpha=alpha,
        temperature=temperature,
        steps=1,
        lr=0.01,
    )
    parents = [model_of(state) for state in states[:2]]
    student = model_of(average(states[:2], weights))
    shares = [0.25, 0.75]
    loss = torch.zeros((), dtype=torch.float64)
    for place, share in enumerate(shares if teacher == "domain" else [1.0]):
        x, y = sources[place][0]
        logits = [it(x).detach() / temperature for it in parents]
        if teacher == "domain":
            target = logits[place].softmax(-1)
        elif teacher == "logits":
            target = (0.25 * logits[0] + 0.75 * logits[1]).softmax(-1)
        else:
            target = 0.25 * logits[0].softmax(-1) + 0.75 * logits[1].softmax(-1)
        outputs = student(x)
        taught = temperature**2 * kl(target, outputs, temperature)
        labels = -outputs.log_softmax(-1)[range(len(y)), y].mean()
        loss = loss + share * ((1 - alpha) * labels + alpha * taught)
    optimizer = torch.optim.Adam(student.parameters(), 0.01)
    loss.backward()
    optimizer.step()
    for name, tensor in student.state_dict().items():
        # Where a gradient is next to nothing, Adam's first step is what its rounding makes of it.
        torch.testing.assert_close(found[name], tensor, rtol=1e-6, atol=1e-6, msg=name)


def test_labels_are_not_asked_for_where_they_do_not_count(states: list[dict[str, Tensor]]) -> None:
    unlabelled = [x for x, _ in data(1)]
    task = task_of(train=unlabelled)
    merge(PAIR, "distill", task=task, alpha=1.0, steps=1)
    with pytest.raises(InvalidTask):
        merge(PAIR, "distill", task=task, alpha=0.5, steps=1)


def distilled(task: Task, **given: Any) -> tuple[dict[str, Tensor], dict[str, Any]]:
    request = Request([Path(it) for it in PAIR], "distill", task=task, **given)
    report = merge_into_file(request, Path("out.pt"), force=True).report["distill"]
    return torch.load("out.pt"), report


def test_the_best_on_validation_is_kept(states: list[dict[str, Tensor]]) -> None:
    parameters = {"steps": 7, "evaluate_every": 3}
    # What is never better than the start is the start, to the last bit.
    found, report = distilled(task_of(train=data(1), metric=Rising(-1)), parameters=parameters)
    assert report["step"] == 0
    assert report["before"] == report["after"]
    for name, tensor in merge(PAIR, "linear").items():
        assert torch.equal(found[name], tensor), name
    # What is always better is the last, which is validated also where it is not due.
    found, report = distilled(task_of(train=data(1)), parameters=parameters)
    assert report["step"] == 7
    assert report["teacher"] == "logits"
    assert report["before"]["metric"] == 0
    assert report["after"]["metric"] == 3
    assert not torch.equal(found["0.weight"], merge(PAIR, "linear")["0.weight"])
    _, report = distilled(
        task_of(train=data(1), metric=lambda outputs, targets: 0.0), parameters={"steps": 50}
    )
    # Where the metric is the same, the loss decides.
    assert report["after"]["loss"] <= report["before"]["loss"]


@pytest.mark.parametrize(("student", "place"), [("first", 0), ("base", 2)])
def test_the_student_may_start_elsewhere(
    states: list[dict[str, Tensor]], student: str, place: int
) -> None:
    task = task_of(train=data(1), metric=Rising(-1))
    found = merge(PAIR, "distill", task=task, student=student, steps=1, base="base.pt")
    for name, tensor in states[place].items():
        assert torch.equal(found[name], tensor), name


def test_the_same_seed_gives_the_same_student_and_leaves_no_trace(save: Save) -> None:
    def build() -> nn.Module:
        return nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3))

    for place, name in enumerate("ab"):
        torch.manual_seed(place)
        save(f"{name}.pt", build().state_dict())
    x, y = data(3, 33)[0]
    generator = torch.Generator().manual_seed(1)
    loader = DataLoader(
        TensorDataset(x.float(), y), batch_size=8, shuffle=True, generator=generator
    )
    own, shared = generator.get_state(), torch.get_rng_state()
    python = random.getstate()

    def student(seed: int) -> dict[str, Tensor]:
        # The last batch has one sample, of which normalisation can make nothing.
        task = Task(build, [(x.float(), y)], loader, metric=Rising())
        return merge(
            PAIR, "distill", task=task, steps=12, seed=seed, recalibrate="never", evaluate_every=5
        )

    first, again, other = student(0), student(0), student(1)
    assert torch.equal(generator.get_state(), own)
    assert torch.equal(torch.get_rng_state(), shared)
    assert random.getstate() == python
    for name, tensor in first.items():
        assert torch.equal(again[name], tensor), name
    assert not torch.equal(other["0.weight"], first["0.weight"])
    # Statistics follow the student.
    assert int(first["1.num_batches_tracked"]) == 12
    assert not torch.equal(first["1.running_mean"], torch.zeros(8))


def test_progress_is_told(states: list[dict[str, Tensor]]) -> None:
    told: list[Any] = []
    task = task_of(train=data(1))
    merge(PAIR, "distill", task=task, steps=3, progress=lambda *it: told.append(it))
    assert told == [(1, 3, "steps"), (2, 3, "steps"), (3, 3, "steps")]


def test_what_cannot_be_taught_is_told(states: list[dict[str, Tensor]]) -> None:
    with pytest.raises(MissingNeed, match="--task"):
        merge(PAIR, "distill")
    with pytest.raises(MissingNeed, match="Name --base"):
        merge(PAIR, "distill", task=task_of(train=data(1)), student="base", steps=1)
    with pytest.raises(InvalidTask, match="no training data"):
        merge(PAIR, "distill", task=task_of(), steps=1)
    with pytest.raises(InvalidTask, match="0 domains for 2 checkpoints"):
        merge(PAIR, "distill", task=task_of(train=data(1)), teacher="domain", steps=1)
    with pytest.raises(InvalidTask, match="has 1 domains for 2 checkpoints"):
        merge(PAIR, "distill", task=task_of(domains=[data(1)]), steps=1)
    one = task_of(train=data(1), outputs=lambda model, batch: model(batch[0])[:, :1], loss=unread)
    with pytest.raises(InvalidTask, match="logits of two or more"):
        merge(PAIR, "distill", task=one, steps=1)
    with pytest.raises(InvalidParameter, match="`temperature`"):
        merge(PAIR, "distill", task=task_of(train=data(1)), temperature=0)


def unread(outputs: Tensor, targets: Tensor) -> Tensor:
    return outputs.mean()


def test_experts_teach_one_student_their_domains(tmp_path: Path) -> None:
    digits = digit_domains(tmp_path)
    average = evaluate(model_with(digits.task, merge(digits.files, "linear")), digits.task)
    done = merge_into_file(
        Request(digits.files, "distill", task=digits.task, parameters={"steps": 200, "lr": 2e-3}),
        Path("student.pt"),
    )
    report = done.report["distill"]
    assert report["teacher"] == "domain"
    assert report["before"]["metric"] == pytest.approx(average.metric)
    assert report["after"]["metric"] > average.metric + 0.1
    assert report["step"] > 0
    state = torch.load("student.pt")["model"]
    assert evaluate(model_with(digits.task, state), digits.task).metric == report["after"]["metric"]
