"""The user's task: how it is found, what is said where it fails, and batches of any make."""

from __future__ import annotations

import sys
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from otf_merge.batches import (
    again_and_again,
    cut,
    first_samples,
    in_turn,
    mapped,
    moved,
    separated,
    size_of,
)
from otf_merge.errors import InvalidTask
from otf_merge.task import Task, accuracy, first_of, last_of, load_task

MAKES_ONE = """
import torch
from otf_merge.task import Task

def task():
    return Task(model=lambda: torch.nn.Linear(2, 2), validation=[])
"""


@pytest.fixture(autouse=True)
def _imports_undone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = dict(sys.modules)
    yield
    for name in set(sys.modules) - set(before):
        del sys.modules[name]


def test_a_task_is_found_by_module_and_by_path() -> None:
    Path("mytask.py").write_text(MAKES_ONE)
    Path("elsewhere").mkdir()
    Path("elsewhere/other.py").write_text("from beside import task")
    Path("elsewhere/beside.py").write_text(MAKES_ONE)
    assert isinstance(load_task("mytask:task"), Task)
    assert isinstance(load_task("mytask.py:task"), Task)
    # As in a script, what lies beside the file can be imported.
    assert isinstance(load_task("elsewhere/other.py:task"), Task)


def test_a_task_may_have_the_name_of_a_module() -> None:
    import json

    Path("json.py").write_text(MAKES_ONE)
    assert isinstance(load_task("json.py:task"), Task)
    assert sys.modules["json"] is json


@pytest.mark.parametrize(
    ("named", "source", "message"),
    [
        ("mytask", "", "names no task. Say `module:function`"),
        (":task", "", "names no task"),
        ("nowhere:task", "", "There is no module `nowhere`"),
        ("nowhere.py:task", "", "There is no file `nowhere.py`"),
        ("mytask:other", MAKES_ONE, "has no function `other`"),
        ("mytask:task", "task = 3", "has no function `task`"),
        ("mytask:task", "def task(): return 3", "returned a int. It must return"),
        ("mytask:task", "\ndef task():\n    return 1 / 0", "ZeroDivisionError: division by zero"),
        ("mytask:task", "\ndef task():\n    return 1 / 0", "(mytask.py, line 3)"),
        ("mytask.py:task", "import nowhere_at_all", "No module named 'nowhere_at_all'"),
        ("mytask:task", "import nowhere_at_all", "The module `mytask` of the task failed"),
        ("mytask:task", "def task(:", "SyntaxError"),
    ],
)
def test_what_is_no_task_is_told(named: str, source: str, message: str) -> None:
    Path("mytask.py").write_text(source)
    with pytest.raises(InvalidTask) as raised:
        load_task(named)
    assert message in str(raised.value)


def test_each_parent_has_its_domain_or_all_of_train() -> None:
    def model() -> torch.nn.Module:
        return torch.nn.Linear(1, 1)

    by_domain = Task(model, [], train=["all"], domains=["a", "b"])
    assert [by_domain.data_of(place, 2) for place in range(2)] == ["a", "b"]
    assert by_domain.training_sources() == [["all"]]
    assert Task(model, [], train=["all"]).data_of(1, 2) == ["all"]
    assert Task(model, [], domains=["a", "b"]).training_sources() == ["a", "b"]
    assert not Task(model, []).has_training_data
    with pytest.raises(InvalidTask, match="has 2 domains for 3 checkpoints"):
        by_domain.data_of(0, 3)
    with pytest.raises(InvalidTask, match="no training data"):
        Task(model, []).data_of(0, 2)


def test_outputs_and_targets_of_usual_batches() -> None:
    def model(x: Any, mask: Any = None) -> Any:
        return x + 1 if mask is None else SimpleNamespace(logits=x * mask)

    x, mask, y = torch.ones(2), torch.zeros(2), torch.tensor([0, 1])
    assert first_of(model, (x, y)).tolist() == [2, 2]  # type: ignore[arg-type]
    assert first_of(model, x).tolist() == [2, 2]  # type: ignore[arg-type]
    assert first_of(model, {"x": x, "mask": mask, "labels": y}).tolist() == [0, 0]  # type: ignore[arg-type]
    assert last_of([x, y]) is y
    assert last_of({"x": x, "label": y}) is y
    assert accuracy(torch.eye(2), torch.tensor([0, 0])) == 0.5


Pair = namedtuple("Pair", ["x", "y"])


def test_batches_of_any_make_are_cut_and_put_together() -> None:
    table = torch.arange(4)
    batch = {
        "pair": Pair(torch.arange(6).reshape(3, 2), [torch.arange(3), "text"]),
        "table": table,
        "scalar": torch.tensor(7),
    }
    assert size_of(batch) == 3
    part = cut(batch, 1, 3)
    assert part["pair"].x.tolist() == [[2, 3], [4, 5]]
    assert part["pair"].y[0].tolist() == [1, 2]
    assert part["pair"].y[1] == "text"
    assert part["table"] is table
    tensors, together = separated(batch)
    assert [it.tolist() for it in tensors] == [[[0, 1], [2, 3], [4, 5]], [0, 1, 2]]
    again = together([it[:1] for it in tensors])
    assert again["pair"].x.tolist() == [[0, 1]]
    assert again["scalar"] == 7
    assert isinstance(mapped(torch.neg, (table, [table])), tuple)


def test_an_object_of_another_kind_moves_itself() -> None:
    class Own:
        def to(self, device: torch.device) -> str:
            return f"on {device}"

    assert moved(Own(), torch.device("cpu")) == "on cpu"
    with pytest.raises(InvalidTask, match="without tensors"):
        size_of(Own())


def test_the_first_samples_are_as_many_as_were_asked_for() -> None:
    batches = [(torch.arange(4), torch.arange(4)), (torch.arange(4, 8), torch.arange(4, 8))]
    found = [x.tolist() for x, _ in first_samples(batches, 6)]
    assert found == [[0, 1, 2, 3], [4, 5]]
    assert len(list(first_samples(batches, 4))) == 1
    assert sum(len(x) for x, _ in first_samples(batches, 100)) == 8


def test_data_is_gone_through_in_turn_and_again() -> None:
    assert list(in_turn([[1, 2, 3], [4], [5, 6]])) == [1, 4, 5, 2, 6, 3]
    one, two = torch.zeros(1), torch.zeros(2)
    stream = again_and_again([one, two])
    assert [len(next(stream)) for _ in range(4)] == [1, 2, 1, 2]
    stream = again_and_again([one, two], least=2)
    assert [len(next(stream)) for _ in range(2)] == [2, 2]
    once = again_and_again(iter([one]))
    next(once)
    with pytest.raises(InvalidTask, match="gone through again and again"):
        next(once)
    with pytest.raises(InvalidTask, match="at least 2 samples"):
        next(again_and_again([one], least=2))
