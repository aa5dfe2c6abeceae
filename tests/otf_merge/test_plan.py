"""Saying what a merge would do."""

from __future__ import annotations

import json
import re
import struct
from pathlib import Path

import pytest
import torch
import yaml

from .shell import Cli, Refused, Save


def test_a_plan_says_what_would_be_done_and_does_nothing(cli: Cli, two: list[Path]) -> None:
    base = ["-m", "ties", "--base", str(two[0]), *map(str, two), "--density", "0.5"]
    before = sorted(Path().rglob("*"))
    for words in (["plan", *base], [*base, "--dry-run"]):
        told = cli(*words).stdout
        assert "Would merge with ties into merged.pt" in told
        assert "in 3 passes" in told
        assert "1 merged" in told
        assert "density: 0.5" in told
    assert sorted(Path().rglob("*")) == before
    found = json.loads(cli("plan", *base, "--json").stdout)
    assert found["tensors"] == {"merge": 1}
    assert found["writes"] == 8
    assert found["recipe"]["parameters"] == {"density": 0.5}


def test_all_that_a_plan_prints_is_its_recipe(cli: Cli, two: list[Path]) -> None:
    words = ["-m", "slerp", two[0].parent, "--t", "0.3", "--dtype", "float16", "--key", "model"]
    for path in two:
        torch.save({"model": torch.load(path, weights_only=True)}, path)
    printed = cli("plan", *words).stdout
    recipe = yaml.safe_load(printed)
    assert recipe == json.loads(cli("plan", *words, "--json").stdout)["recipe"]
    assert recipe == {
        "inputs": [str(path) for path in two],
        "method": "slerp",
        "parameters": {"t": 0.3},
        "key": "model",
        "dtype": "float16",
    }
    Path("r.yaml").write_text(printed)
    assert cli("--recipe", "r.yaml", "-o", "out.pt").exit_code == 0


def test_a_name_with_a_line_break_stays_a_comment(cli: Cli, save: Save) -> None:
    name = "a\nmethod: swa\n#.pt"
    save(name, {"w": torch.ones(1)})
    recipe = yaml.safe_load(cli("plan", name, name).stdout)
    assert recipe == {"inputs": [name, name], "method": "linear"}


def test_what_becomes_of_each_tensor_is_counted(cli: Cli, save: Save) -> None:
    state = {
        "w": torch.ones(4),
        "ids": torch.arange(3),
        "bn.num_batches_tracked": torch.tensor(3),
        "bn.running_mean": torch.ones(2),
        "head": torch.ones(5),
    }
    save("a.pt", {**state, "more": torch.ones(1)})
    save("b.pt", {**state, "head": torch.ones(6)})
    words = ["plan", "a.pt", "b.pt", "--skip", "head", "--allow-missing"]
    told = cli(*words)
    assert "2 merged, 1 kept as they are, 1 counters, 1 taken from the first checkpoint" in (
        told.stdout
    )
    assert "1 averaged over those that have them" in told.stdout
    assert "running statistics of 1 normalisation layer" in told.stderr
    found = json.loads(cli(*words, "--json").stdout)
    assert found["tensors"] == {"merge": 2, "keep": 1, "count": 1, "copy": 1, "average": 1}
    assert [it["format"] for it in found["inputs"]] == ["torch", "torch"]
    assert found["inputs"][0]["bytes"] == Path("a.pt").stat().st_size
    assert len(found["warnings"]) == 2


@pytest.mark.parametrize(
    ("words", "passes"),
    [
        (["-m", "linear"], 1),
        (["-m", "ties", "--base", "a.pt"], 3),
        (["-m", "ties", "--base", "a.pt", "--scope", "tensor"], 1),
        (["-m", "model-stock", "--base", "a.pt"], 1),
    ],
)
def test_what_is_read_is_counted(cli: Cli, save: Save, words: list[str], passes: int) -> None:
    for name in "ab":
        save(f"{name}.pt", {"w": torch.ones(1000)})
    files = 3 if "--base" in words else 2
    found = json.loads(cli("plan", "a.pt", "b.pt", *words, "--json").stdout)
    assert found["passes"] == passes
    assert found["reads"] == passes * files * 4000
    assert found["hashed"] == files * Path("a.pt").stat().st_size
    found = json.loads(cli("a.pt", "b.pt", *words, "--dry-run", "--no-hash", "--json").stdout)
    assert found["hashed"] == 0


def of_zeros(path: str, rows: int) -> None:
    """A checkpoint of one bfloat16 matrix with 4096 columns, which takes no room on the disk."""
    count = rows * 4096
    spec = {"dtype": "BF16", "shape": [rows, 4096], "data_offsets": [0, 2 * count]}
    header = json.dumps({"w": spec}).encode()
    with Path(path).open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(8 + len(header) + 2 * count)


def test_memory_is_estimated_by_what_is_held(cli: Cli) -> None:
    of_zeros("small.safetensors", 512)
    of_zeros("large.safetensors", 1024)

    def memory(*words: str, threads: int = 2) -> int:
        found = cli("plan", *words, "--threads", threads, "--json").stdout
        return int(json.loads(found)["memory"])

    small, large = ["small.safetensors"] * 2, ["large.safetensors"] * 2
    assert memory(*small) == memory(*large)
    # A tensor that is measured first is kept until it is merged, in float32.
    assert memory("-m", "slerp", *small) - memory(*small) == 2 * 4 * 512 * 4096
    assert memory(*small, threads=3) > memory(*small)


def test_a_method_on_whole_models_takes_them_all(cli: Cli, lines: list[Path]) -> None:
    words = ["plan", "-m", "distill", "--task", "line.py:task", "--json"]
    two = json.loads(cli(*words, *lines).stdout)
    three = json.loads(cli(*words, *lines, lines[0]).stdout)
    assert three["memory"] - two["memory"] == two["writes"] == 4


def test_a_plan_refuses_what_the_merge_would(refused: Refused, two: list[Path]) -> None:
    message = refused("plan", "-m", "fisher", *two)
    assert "There are three ways: --fisher" in message
    assert "Gram matrices" in refused("plan", "-m", "regmean", *two)
    assert "Name it with --base" in refused("plan", "-m", "ties", *two)
    Path("merged.pt").write_text("precious")
    assert "`merged.pt` exists" in refused("plan", *two)


def test_fisher_information_is_read_too(cli: Cli, save: Save) -> None:
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    for name in "ab":
        save(f"{name}.pt", {"model": model.state_dict(), "optimizer": optimizer.state_dict()})
    found = json.loads(cli("plan", "-m", "fisher", "a.pt", "b.pt", "--json").stdout)
    # Once to know its unit and once to merge with it, for two checkpoints of 8 numbers.
    assert found["reads"] == 2 * 8 * 4 + 2 * 2 * 8 * 4


def test_a_search_is_as_many_merges(cli: Cli, lines: list[Path]) -> None:
    words = ["plan", *lines, "--base", lines[0], "-m", "ties", "--task", "line.py:task"]
    once = json.loads(cli(*words, "--json").stdout)
    words += ["--search", "scale=0.5,1,2", "--search", "density=0.2,1"]
    found = json.loads(cli(*words, "--json").stdout)
    assert found["settings"] == 6
    assert found["reads"] == 6 * once["reads"]
    assert "# Searches  6 settings" in cli(*words).stdout


def test_an_alignment_is_told_of(cli: Cli, save: Save) -> None:
    generator = torch.Generator().manual_seed(0)
    first = {
        f"{place}.{name}": torch.randn(shape, generator=generator)
        for place, name, shape in (
            (0, "weight", (6, 4)),
            (0, "bias", (6,)),
            (2, "weight", (3, 6)),
            (2, "bias", (3,)),
        )
    }
    order = torch.tensor([3, 1, 0, 5, 4, 2])
    second = {
        "0.weight": first["0.weight"][order],
        "0.bias": first["0.bias"][order],
        "2.weight": first["2.weight"][:, order],
        "2.bias": first["2.bias"],
    }
    save("a.pt", first)
    save("b.pt", second)
    told = cli("plan", "a.pt", "b.pt", "--align", "weights").stdout
    assert re.search(
        r"# Aligned 6 hidden units to those of a\.pt; cosines: b\.pt from .*to 1\.000\.", told
    )
    result = cli("a.pt", "b.pt", "--align", "weights")
    assert "Aligned 6 hidden units" in result.stdout
    merged = torch.load("merged.pt", weights_only=True)
    torch.testing.assert_close(merged["0.weight"], first["0.weight"])
