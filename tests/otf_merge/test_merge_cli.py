"""The shell command, alone and mounted under another."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest
import torch
import typer
from otf_merge.cli import app
from typer.testing import CliRunner

from .shell import Cli, Save, merged, size_of


def test_a_folder_is_merged_into_the_current_one(cli: Cli, two: list[Path]) -> None:
    result = cli("--method", "linear", "ckpts/")
    assert result.exit_code == 0
    assert result.stdout == (
        f"Merged 2 checkpoints with linear into merged.pt (1 tensor, {size_of('merged.pt')}).\n"
        "Weights: 0.5 each.\n"
    )
    assert result.stderr == "  ckpts/a.pt\n  ckpts/b.pt\n"
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
        "report": {},
    }
    assert ["`epoch`" in said[0], "running statistics" in said[1]] == [True, True]


def test_warnings_go_to_stderr(cli: Cli, save: Save) -> None:
    save("a.pt", {"n.running_var": torch.ones(1)})
    result = cli("a.pt", "a.pt")
    assert result.exit_code == 0
    assert result.stderr.startswith("warning: The running statistics")
    assert "update_bn" in result.stderr


@pytest.mark.parametrize(
    "words", [["--wrong", "a.pt"], ["--threads", "many", "a.pt"], ["-m"], ["--json"]]
)
def test_wrong_usage_exits_with_2(cli: Cli, words: list[str]) -> None:
    assert cli(*words).exit_code == 2


def test_without_words_it_explains_itself(cli: Cli) -> None:
    result = cli()
    assert "--method" in result.stdout + result.stderr


def test_a_repeated_merge_does_not_take_its_own_output(
    cli: Cli, two: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("ckpts")
    for words in ([], ["--force"], ["-o", "x.pt"], ["-o", "merged.pt", "--force"]):
        result = cli(".", "-w", 3, "-w", 1, *words)
        assert result.exit_code == (1 if "x.pt" in words else 0)
    assert merged("merged.pt") == [0.25, 0.25]


def test_parameters_and_overrides(cli: Cli, two: list[Path]) -> None:
    assert cli(*two, "-m", "slerp", "--t", "0.25", "-o", "m.pt").exit_code == 0
    assert merged("m.pt") == [0.25, 0.25]
    assert cli(*two, "--set", "w:weight=0.1", "-o", "n.pt").exit_code == 0
    assert merged("n.pt") == pytest.approx([0.9, 0.9])
    assert cli(*two, "-w", "1,3", "-o", "o.pt").exit_code == 0
    assert merged("o.pt") == [0.75, 0.75]


def test_hashes_can_be_left_out(cli: Cli, two: list[Path]) -> None:
    assert cli(*two, "-o", "m.pt").exit_code == 0
    digest = hashlib.sha256(two[0].read_bytes()).hexdigest()
    found = torch.load("m.pt", weights_only=True).otf_merge["inputs"][0]
    assert found == {"file": "a.pt", "sha256": digest}
    assert cli(*two, "-o", "n.pt", "--no-hash").exit_code == 0
    assert torch.load("n.pt", weights_only=True).otf_merge["inputs"][0] == {"file": "a.pt"}


def test_the_disk_is_waited_for_with_sync(
    cli: Cli, two: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda file: synced.append(os.fstat(file).st_ino))
    assert cli(*two, "-o", "m.pt").exit_code == 0
    assert synced == []
    assert cli(*two, "-o", "n.pt", "--sync").exit_code == 0
    assert Path("n.pt").stat().st_ino in synced


def test_what_was_found_is_listed_without_the_output(cli: Cli, two: list[Path]) -> None:
    assert cli("ckpts", "-o", "ckpts/c.pt").exit_code == 0
    listed = "  ckpts/a.pt\n  ckpts/b.pt\n"
    assert cli("ckpts", "-o", "ckpts/c.pt", "--force").stderr == listed
    assert cli("ckpts/[ab].pt").stderr == listed
    assert cli(*two, "--force").stderr == ""
    assert cli("ckpts", "--json", "--force").stderr == ""
