"""The shell command, alone and mounted under another."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable

import pytest
import torch
import typer
from otf_merge import catalogue
from otf_merge.cli import app
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
    assert "Needs: a base (--base)" in told
    assert "arXiv:2306.01708" in told
    result = cli("methods", "tise")
    assert result.exit_code == 1
    assert "The nearest are: ties" in result.stderr


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


def test_an_unknown_method_is_told_with_the_nearest(refused: Refused, two: list[Path]) -> None:
    message = refused("-m", "liner", *two)
    assert "no merge method `liner`" in message
    assert "nearest are: linear" in message
    assert "linear, model-stock" in refused("-m", "qqq", *two)


def test_fewer_than_two_checkpoints(refused: Refused, save: Save, tmp_path: Path) -> None:
    save("one/a.pt", {"w": torch.ones(1)})
    assert "at least 2 checkpoints, and there is only `one/a.pt`" in refused("./one/a.pt")
    (tmp_path / "empty").mkdir()
    assert "folder `empty` holds no checkpoints" in refused("empty", "one")


def test_paths_that_cannot_be_read(refused: Refused, two: list[Path]) -> None:
    assert "`none.pt` does not exist" in refused(two[0], "none.pt")
    Path("a.txt").touch()
    assert "`a.txt` is of no known format" in refused(two[0], "a.txt")
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
    assert "`merged.pt` exists and is not overwritten" in refused(*two)
    assert "`merged.pt` exists" in refused(*two, "-o", "merged.pt")
    assert cli("ckpts", "--force").exit_code == 0
    assert merged("merged.pt") == [0.5, 0.5]


def test_outputs_that_cannot_be(refused: Refused, two: list[Path]) -> None:
    assert "no folder `nowhere`" in refused(*two, "-o", "nowhere/out.pt")
    assert "`out.npz` is of no known format" in refused(*two, "-o", "out.npz")
    Path("folder.pt").mkdir()
    assert "`folder.pt` is a folder" in refused(*two, "-o", "folder.pt")


def test_a_repeated_merge_does_not_take_its_own_output(
    cli: Cli, two: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("ckpts")
    for words in ([], ["--force"], ["-o", "x.pt"], ["-o", "merged.pt", "--force"]):
        result = cli(".", "-w", 3, "-w", 1, *words)
        assert result.exit_code == (1 if "x.pt" in words else 0)
    assert merged("merged.pt") == [0.25, 0.25]


def test_ctrl_c_leaves_nothing_behind(tmp_path: Path) -> None:
    for name in "ab":
        torch.save({"w": torch.ones(1 << 22)}, f"{name}.pt")
    before = sorted(tmp_path.rglob("*"))
    words = ["-m", "della", "--base", "a.pt", "a.pt", "b.pt", "--threads", "1"]
    command = [sys.executable, "-c", "from otf_merge.cli import app; app()", *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not list(tmp_path.glob(".merged.pt.*")):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert told.splitlines()[-1] == "Interrupted: nothing was written."
    assert "Traceback" not in told
    assert sorted(tmp_path.rglob("*")) == before


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


def test_parameters_that_cannot_be(refused: Refused, two: list[Path]) -> None:
    assert "`t` is '2', and must be a number from 0 to 1" in refused(*two, "-m", "slerp", "--t", 2)
    message = refused(*two, "--t", "0.5")
    assert "`linear` has no parameter `t`" in message
    assert "`--set w` says nothing" in refused(*two, "--set", "w")
    assert "`--param x` says nothing" in refused(*two, "--param", "x")
    assert "is no list of numbers" in refused(*two, "-w", "a,b")
    assert "none of auto, always and never" in refused(*two, "--recalibrate", "often")
    assert "`--shard-size 5X` is no size" in refused(*two, "--shard-size", "5X")
    assert "device `abacus` cannot be used" in refused(*two, "--device", "abacus")


def test_what_a_method_needs_is_told(refused: Refused, two: list[Path]) -> None:
    assert "Name it with --base" in refused(*two, "-m", "ties")
    assert "--task module:function" in refused(*two, "-m", "distill")
    message = refused(*two, "-m", "fisher")
    assert "--fisher" in message
    assert "--task" in message
    assert "Adam" in message
    assert "`swa` uses no base" in refused(*two, "-m", "swa", "--base", two[0])


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


TASK = """
import torch
from otf_merge import Task

def task():
    x = torch.linspace(-1, 1, 20).reshape(-1, 1)
    return Task(
        model=lambda: torch.nn.Linear(1, 1, bias=False),
        validation=[(x, 0.25 * x)],
        train=[(x, 0.25 * x)],
        loss=torch.nn.functional.mse_loss,
        metric=lambda outputs, targets: -(outputs - targets).abs().mean(),
    )
"""


@pytest.fixture
def lines(save: Save) -> list[Path]:
    Path("line.py").write_text(TASK)
    return [
        save(f"{name}.pt", {"weight": torch.full((1, 1), value)})
        for name, value in (("a", 0.0), ("b", 1.0))
    ]


def test_every_method_that_applies_is_compared(cli: Cli, lines: list[Path]) -> None:
    words = ["compare", *lines, "--base", lines[0], "--task", "line.py:task", "--steps", 5]
    words += [
        "--only",
        "slerp",
        "--only",
        "linear",
        "--only",
        "task-arithmetic",
        "--only",
        "fisher",
    ]
    found = json.loads(cli(*words, "--search", "scale=0.25,1", "--json", "-o", "best.pt").stdout)
    ranking = {it["name"]: it for it in found["ranking"]}
    assert next(iter(ranking)) == "task-arithmetic"
    assert ranking["task-arithmetic"]["parameters"]["scale"] == 0.25
    assert ranking["linear"]["metric"] == pytest.approx(-0.25 * ranking_mean())
    assert ranking["b.pt"]["kind"] == "parent"
    assert found["written"]["method"] == "task-arithmetic"
    assert torch.load("best.pt", weights_only=True)["weight"].item() == 0.25
    table = cli(*words).stdout
    assert table.splitlines()[0].split() == ["metric", "loss", "time"]
    assert "parent" in table


def ranking_mean() -> float:
    return float(torch.linspace(-1, 1, 20).abs().mean())


def test_a_gate_in_the_shell(refused: Refused, cli: Cli, lines: list[Path]) -> None:
    words = [*lines, "--task", "line.py:task", "--gate"]
    assert "worse on validation data than its best parent, `a.pt`" in refused(*words, "-w", "1,9")
    told = cli(*words, "-w", "3,1").stdout
    assert "No worse than the best parent, a.pt" in told
