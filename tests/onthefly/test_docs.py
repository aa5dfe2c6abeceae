"""What the documents show is what runs."""

import ast
import importlib.util
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from onthefly.cli import build, commands
from typer.testing import CliRunner

ROOT = Path(__file__).parents[2]


def blocks(path, language):
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / path).read_text(), re.DOTALL)


#: The libraries that OnTheFly works with and does not need: a block is left out without its library.
OPTIONAL = {"lightning", "transformers"}


def can_run(code):
    imported = {
        name.split(".")[0]
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.Import)
        for name in (alias.name for alias in node.names)
    }
    return all(importlib.util.find_spec(name) is not None for name in imported & OPTIONAL)


def test_the_readmes_python_runs_from_top_to_bottom(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = "\n".join(block for block in blocks("README.md", "python") if can_run(block))
    assert "from onthefly import Trainer" in code
    script = tmp_path / "readme.py"
    script.write_text(code)
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr


# What other libraries say of small loaders, and of what they use of torch.
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("path", sorted(ROOT.glob("examples/*.py")), ids=lambda path: path.name)
def test_an_example_runs(path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [str(path), "--epochs", "1"])
    runpy.run_path(str(path), run_name="__main__")
    assert capsys.readouterr().out


def test_every_otf_command_in_the_readme_exists():
    text = (ROOT / "README.md").read_text()
    named = set(re.findall(r"^otf ([a-z]+(?: [a-z]+)?)", text, re.MULTILINE))
    assert named
    for words in named:
        first, *rest = words.split()
        arguments = [first, *(rest if first == "session" else []), "--help"]
        assert CliRunner().invoke(build(commands()), arguments).exit_code == 0, words


def test_every_nox_session_in_the_documents_exists():
    noxfile = (ROOT / "noxfile.py").read_text()
    sessions = set(re.findall(r"^def (\w+)\(session: nox.Session", noxfile, re.MULTILINE))
    for path in ("README.md", "CONTRIBUTING.md", "benchmarks/README.md"):
        for name in re.findall(r"nox -s (\w+)", (ROOT / path).read_text()):
            assert name in sessions, f"{path} names {name}"


def test_every_benchmark_is_described():
    text = (ROOT / "benchmarks" / "README.md").read_text()
    for path in ROOT.glob("benchmarks/bench_*.py"):
        assert path.name in text
