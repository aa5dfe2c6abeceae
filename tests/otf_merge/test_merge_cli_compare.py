"""Comparing methods, and what validation data decide, in the shell."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from .shell import Cli, Refused


def test_every_method_that_applies_is_compared(cli: Cli, lines: list[Path]) -> None:
    words = ["compare", *lines, "--base", lines[0], "--task", "line.py:task"]
    for name in ("slerp", "linear", "task-arithmetic", "fisher"):
        words += ["-m", name]
    found = json.loads(cli(*words, "--search", "scale=0.25,1", "--json", "-o", "best.pt").stdout)
    ranking = {it["name"]: it for it in found["ranking"]}
    assert next(iter(ranking)) == "task-arithmetic"
    assert ranking["task-arithmetic"]["parameters"]["scale"] == 0.25
    assert ranking["linear"]["metric"] == pytest.approx(-0.25 * ranking_mean())
    assert ranking["b.pt"]["kind"] == "parent"
    assert found["written"]["method"] == "task-arithmetic"
    assert torch.load("best.pt", weights_only=True)["weight"].item() == 0.25
    table = cli(*words).stdout
    assert table.splitlines()[0].split() == ["metric", "loss", "time", "parameters"]
    assert "parent" in table


def ranking_mean() -> float:
    return float(torch.linspace(-1, 1, 20).abs().mean())


def test_a_gate_in_the_shell(refused: Refused, cli: Cli, lines: list[Path]) -> None:
    words = [*lines, "--task", "line.py:task", "--gate"]
    assert "worse on validation data than its best parent, `a.pt`" in refused(*words, "-w", "1,9")
    told = cli(*words, "-w", "3,1").stdout
    assert "No worse than the best parent, a.pt" in told


def test_what_did_not_apply_is_told_under_the_table(cli: Cli, lines: list[Path]) -> None:
    words = [
        "compare",
        *lines,
        "--task",
        "line.py:task",
        "-m",
        "ties",
        "-m",
        "linear",
        "-m",
        "slerp",
    ]
    told = cli(*words, "--t", "0.25").stdout
    table, _, others = told.partition("\n\nNot compared:\n")
    names = [line.split()[0] for line in table.splitlines()[1:]]
    assert names == ["slerp", "a.pt", "linear", "b.pt"]
    assert table.splitlines()[1].endswith("t=0.25")
    assert others.startswith("ties")
    assert "there is none" in others


def test_what_a_comparison_refuses(refused: Refused, lines: list[Path]) -> None:
    assert "needs a model and data" in refused("compare", *lines)
    words = ["compare", *lines, "--task", "line.py:task"]
    assert "no merge method `liner`" in refused(*words, "-m", "liner")
    assert "None of these methods has a parameter `densty`. There are `--density`" in refused(
        *words, "--param", "densty=1"
    )
    Path("out.pt").write_text("precious")
    assert "`out.pt` exists" in refused(*words, "-m", "linear", "-o", "out.pt")


def test_a_refusal_by_the_gate_is_a_document_too(cli: Cli, lines: list[Path]) -> None:
    result = cli(*lines, "--task", "line.py:task", "--gate", "-w", "1,9", "--json")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: The merge is worse")
    document = json.loads(result.stdout)
    assert document["output"] is None
    assert document["report"]["gate"]["accepted"] is False
    assert not Path("merged.pt").exists()


def test_decisions_are_told_after_the_merge(cli: Cli, lines: list[Path]) -> None:
    words = [*lines, "--task", "line.py:task", "--force"]
    told = cli(*words, "-m", "task-arithmetic", "--base", lines[0], "--search", "scale=0.25,1")
    assert "Searched 2 settings and took scale=0.25.\n" in told.stdout
    assert "On validation data: metric 0.0000, loss 0.0000.\n" in told.stdout
    told = cli(*words, "-m", "greedy-soup")
    assert "The soup holds 2 of 2 checkpoints, a.pt, b.pt: metric" in told.stdout
    told = cli(*words, "-m", "fisher", "--kind", "empirical")
    assert "Fisher information: from 20 samples of the task for each checkpoint.\n" in told.stdout
    told = cli(*words, "-m", "regmean")
    assert "Gram matrices: from 20 samples of the task for each checkpoint.\n" in told.stdout
    assert "Solved 1 layer by regression.\n" in told.stdout


def test_what_a_task_prints_is_not_in_the_document(cli: Cli, lines: list[Path]) -> None:
    quiet = Path("line.py").read_text()
    loud = quiet.replace("def task():", "def task():\n    print('loading', flush=True)")
    Path("line.py").write_text(f"print('imported')\n{loud}")
    words = [*lines, "--task", "line.py:task", "--json"]
    for command in (["plan"], ["compare", "-m", "linear"], []):
        result = cli(*command, *words)
        assert result.exit_code == 0
        assert isinstance(json.loads(result.stdout), dict)
        assert "loading" in result.stderr
