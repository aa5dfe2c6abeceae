"""The methods as the command tells of them, and its help, which need no torch."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from otf_merge import catalogue

from .shell import Cli, Refused, merged


def test_methods_are_listed(cli: Cli) -> None:
    result = cli("methods")
    assert result.exit_code == 0
    names = [line.split()[0] for line in result.stdout.splitlines()]
    assert {"linear", "swa", "ties", "fisher", "regmean", "distill"} <= set(names)
    assert names == sorted(names)
    listed = json.loads(cli("methods", "--json").stdout)["methods"]
    assert [it["name"] for it in listed] == names
    (slerp,) = json.loads(cli("methods", "slerp", "--json").stdout)["methods"]
    assert slerp["needs"] == []
    assert [it["name"] for it in slerp["parameters"]] == ["t"]
    assert slerp["parameters"][0]["kind"] == "number from 0 to 1"


def test_a_method_is_told_of_with_its_parameters(cli: Cli) -> None:
    told = cli("methods", "ties").stdout
    assert "--density  number from 0 to 1, default 0.2" in told
    assert "Needs a base (--base)." in told
    assert "arXiv:2306.01708" in told
    result = cli("methods", "tise")
    assert result.exit_code == 1
    assert "The nearest are: ties" in result.stderr


def test_help_does_not_import_torch() -> None:
    code = "import sys; from otf_merge.cli import app; app(['--help'], standalone_mode=False); "
    code += "sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "--density" in done.stdout


def test_the_catalogue_is_that_of_the_methods() -> None:
    stale = "The methods have changed. Run `python -m otf_merge.catalogue docs/merge-methods.md`."
    page = Path(__file__).parents[2] / "docs" / "merge-methods.md"
    assert catalogue.PLACE.read_text() == catalogue.generated(), stale
    assert page.read_text() == catalogue.page(), stale


def test_every_parameter_of_every_method_is_an_option(cli: Cli) -> None:
    told = cli("--help").stdout
    for method in catalogue.catalogue():
        for parameter in method["parameters"]:
            assert parameter["help"], (method["name"], parameter["name"])
            assert f"--{parameter['name'].replace('_', '-')}" in told


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("command", [[], ["plan"], ["compare"]])
def test_help_fits_the_terminal(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, columns: int, command: list[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    told = cli(*command, "--help").stdout
    assert max(map(len, told.splitlines())) <= columns
    examples = [it for it in told.splitlines() if it.strip().startswith("otf-merge ")]
    assert len(examples) > 1
    panels = [line.split()[1:-1] for line in told.splitlines() if line.startswith("╭─")]
    titles = [" ".join(word for word in it if not word.startswith("─")) for it in panels]
    assert titles == [
        "Arguments",
        "Options",
        "What to merge",
        "How",
        "Data",
        "Output",
        "Machine",
        "Parameters of methods",
    ]


def test_examples_in_help_are_lines_that_work(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    shown = [it for it in cli("--help").stdout.splitlines() if it.startswith("   otf-merge ")]
    lines = [re.split(r" {3,}", line.strip())[0].split()[1:] for line in shown]
    for words in lines:
        if "..." in words or "[NAME]" in words:
            continue
        result = cli(*words)
        # The files are not there; everything else was understood.
        assert result.exit_code == 1, words
        assert re.search("does not exist|There is no", result.stderr), result.stderr


def test_a_parameter_of_several_methods_is_told_with_each_default(cli: Cli) -> None:
    (panel,) = re.findall(r"--density .*?--draw ", cli("--help").stdout, re.DOTALL)
    told = " ".join(panel.replace("│", " ").split())
    assert "breadcrumbs, breadcrumbs-ties: " in told
    assert "(number above 0 to 1; default 0.15)" in told
    assert "ties: the share of each checkpoint's deltas that is kept, the greatest ones" in told
    assert "(number from 0 to 1; default 0.2)" in told
    (panel,) = re.findall(r"--epsilon .*?--evaluate", cli("--help").stdout, re.DOTALL)
    assert "By default 0.15 (mergekit)" in " ".join(panel.replace("│", " ").split())


def test_what_is_wrong_with_a_method_is_told_without_torch(two: list[Path]) -> None:
    for words in (["-m", "liner"], ["-m", "ties", "--t", "0.5"], ["--frobnicate"]):
        code = "import sys; from otf_merge.cli import app\n"
        code += f"try: app({[*words, *map(str, two)]})\n"
        code += "except SystemExit as end: print('torch' in sys.modules, end.code)"
        done = subprocess.run(
            [sys.executable, "-c", code], check=True, capture_output=True, text=True
        )
        assert done.stdout == f"False {2 if '--frobnicate' in words else 1}\n"


def test_the_error_for_a_parameter_names_the_methods_own(refused: Refused, two: list[Path]) -> None:
    message = refused(*two, "-m", "model-stock", "--base", two[0], "--t", "0.5")
    assert "`model-stock` has no parameter `t`, which is one of `slerp`" in message
    assert "It has `--extrapolate`; `otf-merge methods model-stock`" in message
    message = refused(*two, "-m", "slerp", "--param", "x=1")
    assert "`slerp` has no parameter `x`. It has `--t`" in message
    assert "has no parameter `scale`" in refused(*two, "-m", "slerp", "--search", "scale=1,2")


PLUGIN = """
import torch
from typing import Annotated
from otf_merge import Range, merge_method

@merge_method("plug", summary="The first, scaled.")
def plug(tensors, *, gain: Annotated[float, "how much", Range(0, 9)] = 2.0):
    return tensors[0] * gain
"""


def test_other_packages_are_loaded_only_when_they_are_asked_for(
    cli: Cli, two: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "site" / "plugged-1.0.dist-info"
    info.mkdir(parents=True)
    (info.parent / "plugged.py").write_text(PLUGIN)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugged\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[otf.merge_methods]\nplug = plugged:plug\n")
    monkeypatch.syspath_prepend(info.parent)
    monkeypatch.delitem(sys.modules, "plugged", raising=False)
    assert cli("--help").exit_code == 0
    assert cli(*two).exit_code == 0
    assert cli("methods", "ties").exit_code == 0
    assert "plug" in cli("-m", "plugg", *two).stderr
    assert "plugged" not in sys.modules
    assert "\nplug " in cli("methods").stdout
    assert "plugged" in sys.modules
    told = cli("methods", "plug").stdout
    assert "--gain  number from 0 to 9, default 2.0" in told
    ones = cli(two[1], two[0], "-m", "plug", "--param", "gain=3", "-o", "out.pt")
    assert ones.exit_code == 0
    assert merged("out.pt") == [3.0, 3.0]
    assert "must be a number from 0 to 9" in cli("-m", "plug", *two, "--param", "gain=10").stderr
