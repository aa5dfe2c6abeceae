"""The shell command, alone and mounted under another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Callable

import pytest
import torch
import typer
from otf_merge.cli import app
from otf_merge.registry import MergeMethod
from typer.testing import CliRunner

Save = Callable[[str, Any], Path]
Cli = Callable[..., Any]
Refused = Callable[..., str]


@pytest.fixture
def two(save: Save) -> list[Path]:
    return [save(f"ckpts/{n}.pt", {"w": torch.full((2,), v)}) for n, v in (("a", 0.0), ("b", 1.0))]


def merged(path: str) -> list[float]:
    return list(torch.load(path, weights_only=True)["w"].tolist())


def test_a_folder_is_merged_into_the_current_one(cli: Cli, two: list[Path]) -> None:
    result = cli("--method", "linear", "ckpts/")
    assert result.exit_code == 0
    assert result.stdout == "Merged 2 checkpoints with linear into merged.pt (1 tensors).\n"
    assert result.stderr == ""
    assert merged("merged.pt") == [0.5, 0.5]


def test_options_may_stand_anywhere(cli: Cli, two: list[Path]) -> None:
    result = cli(two[0], "-w", 1, two[1], "-w", "3", "-o", "out.ckpt")
    assert result.exit_code == 0
    assert merged("out.ckpt") == [0.75, 0.75]


def test_it_works_under_another_command(two: list[Path]) -> None:
    front = typer.Typer()
    front.add_typer(app, name="merge")
    front.command("other")(lambda: None)
    run = CliRunner().invoke
    assert run(front, ["merge", "--method", "swa", "ckpts/"]).exit_code == 0
    assert merged("merged.pt") == [0.5, 0.5]
    listed = run(front, ["merge", "methods"])
    assert listed.exit_code == 0
    assert "arXiv:1803.05407" in listed.stdout
    assert "--allow-nonfinite" in run(front, ["merge", "--help"]).stdout
    assert "merge" in run(front, ["--help"]).stdout


def test_a_folder_named_like_the_subcommand_is_reached_by_a_path(cli: Cli, save: Save) -> None:
    for name in "ab":
        save(f"methods/{name}.pt", {"w": torch.ones(2)})
    assert cli("./methods").exit_code == 0


def test_methods_are_listed(cli: Cli) -> None:
    result = cli("methods")
    assert result.exit_code == 0
    assert [line.split()[0] for line in result.stdout.splitlines()] == ["linear", "swa"]
    listed = json.loads(cli("methods", "--json").stdout)["methods"]
    assert listed[0] == {
        "name": "linear",
        "summary": "The weighted average.",
        "paper": "arXiv:2203.05482",
    }


def test_json_is_one_document(cli: Cli, save: Save) -> None:
    for name, mean in (("a", 0.0), ("b", 1.0)):
        save(f"{name}.pt", {"model": {"bn.running_mean": torch.full((2,), mean)}, "epoch": 1})
    result = cli("a.pt", "b.pt", "--json", "-o", "out.safetensors", "-w", 1, "-w", 3)
    assert result.exit_code == 0
    assert result.stderr == ""
    document = json.loads(result.stdout)
    said = document.pop("warnings")
    assert document == {
        "output": "out.safetensors",
        "inputs": ["a.pt", "b.pt"],
        "method": "linear",
        "parameters": {"weights": [0.25, 0.75]},
        "tensors": 1,
    }
    assert ["`epoch`" in said[0], "running statistics" in said[1]] == [True, True]


def test_warnings_go_to_stderr(cli: Cli, save: Save) -> None:
    save("a.pt", {"n.running_var": torch.ones(1)})
    result = cli("a.pt", "a.pt")
    assert result.exit_code == 0
    assert result.stderr.startswith("warning: The running statistics")
    assert "update_bn" in result.stderr


@pytest.mark.parametrize("words", [["--wrong", "a.pt"], ["-w", "much", "a.pt"], ["-m"], ["--json"]])
def test_wrong_usage_exits_with_2(cli: Cli, words: list[str]) -> None:
    assert cli(*words).exit_code == 2


def test_without_words_it_explains_itself(cli: Cli) -> None:
    result = cli()
    assert "--method" in result.stdout + result.stderr


def test_an_unknown_method_is_told_with_the_nearest(refused: Refused, two: list[Path]) -> None:
    message = refused("-m", "liner", *two)
    assert "no merge method `liner`" in message
    assert "nearest are: linear." in message
    assert "linear, swa" in refused("-m", "xyz", *two)


def test_fewer_than_two_checkpoints(refused: Refused, save: Save, tmp_path: Path) -> None:
    save("one/a.pt", {"w": torch.ones(1)})
    assert "at least two checkpoints, and there is only `one/a.pt`" in refused("one")
    (tmp_path / "empty").mkdir()
    assert "folder `empty` holds no checkpoints" in refused("empty", "one")


def test_paths_that_cannot_be_read(refused: Refused, two: list[Path]) -> None:
    assert "`none.pt` does not exist" in refused(two[0], "none.pt")
    Path("a.bin").touch()
    assert "`a.bin` is of no known format" in refused(two[0], "a.bin")
    Path("d.pt").write_bytes(two[0].read_bytes()[:500])
    assert "`d.pt` is damaged" in refused(two[0], "d.pt")


def test_differences_are_listed_up_to_ten(refused: Refused, save: Save) -> None:
    save("a.pt", {"w": torch.ones(2, 3), "k": torch.ones(1)})
    save("b.pt", {"w": torch.ones(3, 2), "k": torch.ones(1, dtype=torch.int64)})
    message = refused("a.pt", "b.pt")
    assert "`w`: float32 of shape [2, 3] in a.pt, float32 of shape [3, 2] in b.pt" in message
    assert "`k`: float32 of shape [1] in a.pt, int64 of shape [1] in b.pt" in message
    save("c.pt", {f"layer{n}": torch.ones(1) for n in range(20)})
    message = refused("a.pt", "c.pt")
    assert "`w`: only in a.pt, not in c.pt" in message
    assert message.count("only in") == 10
    assert "and 12 more" in message


def test_values_that_are_not_finite(refused: Refused, cli: Cli, save: Save) -> None:
    save("a.pt", {"w": torch.tensor([float("nan"), 1.0])})
    save("b.pt", {"w": torch.ones(2)})
    assert "`w` in a.pt holds NaN or infinity" in refused("b.pt", "a.pt")
    assert cli("b.pt", "a.pt", "--allow-nonfinite").exit_code == 0


def test_weights_that_do_not_fit(refused: Refused, two: list[Path]) -> None:
    assert "2 checkpoints and 1 weights" in refused(*two, "-w", "1")
    assert "takes no weights" in refused(*two, "-m", "swa", "-w", "1", "-w", "1")


def test_an_output_is_not_overwritten_unless_forced(
    refused: Refused, cli: Cli, two: list[Path]
) -> None:
    Path("merged.pt").write_text("precious")
    assert "`merged.pt` exists and is not overwritten" in refused("ckpts")
    assert "`merged.pt` exists" in refused("ckpts", "-o", "merged.pt")
    assert cli("ckpts", "--force").exit_code == 0
    assert merged("merged.pt") == [0.5, 0.5]


def test_outputs_that_cannot_be(refused: Refused, two: list[Path]) -> None:
    assert "no folder `nowhere`" in refused("ckpts", "-o", "nowhere/out.pt")
    assert "`out.bin` is of no known format" in refused("ckpts", "-o", "out.bin")
    Path("folder.pt").mkdir()
    assert "`folder.pt` is a folder" in refused("ckpts", "-o", "folder.pt")


def test_a_repeated_merge_does_not_take_its_own_output(
    cli: Cli, two: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("ckpts")
    for words in ([], ["--force"], ["-o", "x.pt"], ["-o", "merged.pt", "--force"]):
        result = cli(".", "-w", 3, "-w", 1, *words)
        assert result.exit_code == (1 if "x.pt" in words else 0)
    assert merged("merged.pt") == [0.25, 0.25]


def test_ctrl_c_leaves_nothing_behind(
    cli: Cli, two: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setattr(MergeMethod, "__call__", interrupted)
    assert cli("ckpts").exit_code != 0
    assert sorted(tmp_path.rglob("*")) == before
