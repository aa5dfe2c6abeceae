"""Recipes: read, printed, and recorded with the result."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from .shell import Cli, Refused, merged


def test_the_recipe_of_a_plan_makes_the_same_merge(cli: Cli, two: list[Path]) -> None:
    words = ["-m", "slerp", *two, "--t", "0.3", "--set", "w*:t=0.4", "--skip", "n*"]
    for path in two:
        state = torch.load(path, weights_only=True)
        torch.save({**state, "n": torch.tensor([len(path.name)])}, path)
    assert cli(*words, "-o", "one.pt").exit_code == 0
    recipe = cli("plan", *words).stdout.partition("Recipe\n")[2]
    Path("r.yaml").write_text(recipe)
    assert cli("--recipe", "r.yaml", "-o", "two.pt").exit_code == 0
    assert merged("one.pt") == merged("two.pt")
    assert cli("--recipe", "r.yaml", "--set", "w:t=1", "-o", "three.pt").exit_code == 0
    assert merged("three.pt") == [1.0, 1.0]
    record = torch.load("two.pt", weights_only=True).otf_merge
    assert record["recipe"]["parameters"] == {"t": 0.3}
    assert record["recipe"]["set"] == {"w*": {"t": 0.4}}
    assert record["recipe"]["inputs"] == ["a.pt", "b.pt"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1, 2]", "is no mapping"),
        ("metod: ties", "`metod` that means nothing. It may be: method"),
        ("inputs: a.pt", "`inputs` of another kind"),
        ("weights: [true]", "`weights` of another kind"),
        ("a: [", "is no YAML"),
        ("!!python/object/apply:os.system ['touch ran']", "is no YAML"),
    ],
)
def test_recipes_that_mean_nothing(refused: Refused, text: str, message: str) -> None:
    Path("r.yaml").write_text(text)
    assert message in refused("--recipe", "r.yaml")
    assert not Path("ran").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("samples: true", "It must be a whole number above 0."),
        ("weights: [0.5, many]", "It must be a list of numbers."),
        ("inputs: a.pt", "It must be a list of paths."),
        ("skip: 'head.*'", "It must be a list of patterns."),
        ("recalibrate: sometimes", "It must be auto, always or never."),
        ("search: {scale: 1}", "It must be a mapping of names to lists of values."),
        ("set: {w: {1: 2}}", "It must be a mapping of patterns to mappings."),
        ("parameters: {1: 2}", "It must be a mapping of names to values."),
        ("method: 2020-99-99", "is no YAML: month must be in 1..12"),
        ("a: " + "[" * 1500, "is no YAML"),
        ("gate: maybe", "It must be true or false."),
        ("", "`otf-merge plan` prints one"),
        ("method: liner", "no merge method `liner`. The nearest are: linear"),
        ("{method: ties, parameters: {t: 1}}", "`ties` has no parameter `t`, which is one of"),
    ],
)
def test_values_that_cannot_be(refused: Refused, text: str, message: str) -> None:
    Path("r.yaml").write_text(text)
    assert message in refused("--recipe", "r.yaml")


def test_a_recipe_that_cannot_be_read(refused: Refused) -> None:
    assert "`none.yaml` cannot be read: No such file" in refused("--recipe", "none.yaml")
    Path("r.yaml").write_bytes(b"\xff\xfe\x00")
    assert "`r.yaml` is no YAML" in refused("--recipe", "r.yaml")


def test_options_win_over_the_recipe(cli: Cli, two: list[Path]) -> None:
    Path("r.yaml").write_text(
        "inputs: [ckpts/a.pt, ckpts/b.pt]\nweights: [1e-3, 3e-3]\ndtype: float16\nskip: [n]\n"
    )
    for path in two:
        state = torch.load(path, weights_only=True)
        torch.save({**state, "n": torch.ones(3)}, path)
    assert cli("--recipe", "r.yaml", "-o", "one.pt").exit_code == 0
    assert merged("one.pt") == [0.75, 0.75]
    assert torch.load("one.pt", weights_only=True)["w"].dtype == torch.float16
    words = ["--recipe", "r.yaml", "-w", "1,1", "--dtype", "float64", "-o", "two.pt"]
    assert cli(*words, two[1], two[1]).exit_code == 0
    assert merged("two.pt") == [1.0, 1.0]
    assert torch.load("two.pt", weights_only=True)["w"].dtype == torch.float64


def test_the_recipe_in_a_result_names_files_and_no_folders(cli: Cli, two: list[Path]) -> None:
    folder = two[0].parent
    words = [folder, "-m", "task-arithmetic", "--base", two[0], "--set", "w:weight=0.25"]
    assert cli(*words, "-o", "out.pt").exit_code == 0
    record = torch.load("out.pt", weights_only=True).otf_merge
    assert record["recipe"] == {
        "inputs": ["a.pt", "b.pt"],
        "method": "task-arithmetic",
        "base": "a.pt",
        "set": {"w": {"weights": [0.25]}},
    }
    assert str(folder.parent) not in json.dumps(record)


def test_a_search_is_recorded_with_what_it_settled_on(cli: Cli, lines: list[Path]) -> None:
    words = ["-m", "task-arithmetic", *lines, "--base", lines[0], "--task", "line.py:task"]
    assert cli(*words, "--search", "scale=0.25,1", "--gate", "-o", "out.pt").exit_code == 0
    recipe = torch.load("out.pt", weights_only=True).otf_merge["recipe"]
    assert recipe["parameters"] == {"scale": 0.25}
    assert recipe["search"] == {"scale": [0.25, 1.0]}
    assert recipe["task"] == "line.py:task"
    assert recipe["gate"] is True
