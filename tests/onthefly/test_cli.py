import subprocess
import sys
from importlib.metadata import EntryPoint

import pytest
from onthefly.cli import asked_for, build, commands
from typer.testing import CliRunner


@pytest.fixture
def runner():
    return CliRunner()


def test_every_packages_command_is_mounted(runner):
    names = {entry_point.name for entry_point in commands()}
    assert names >= {"ctl", "demo", "merge", "serve", "session"}
    result = runner.invoke(build(commands()), ["--help"])
    assert result.exit_code == 0
    for name in ("ctl", "demo", "merge", "serve", "session"):
        assert name in result.output


@pytest.mark.parametrize(
    "command",
    [["serve"], ["merge"], ["session"], ["demo"], ["session", "list"], ["ctl"], ["ctl", "pause"]],
)
def test_every_command_has_help(runner, command):
    result = runner.invoke(build(commands()), [*command, "--help"])
    assert result.exit_code == 0
    assert "Usage" in result.output


def test_the_version_is_that_of_the_distribution(runner):
    from importlib.metadata import version

    result = runner.invoke(build(commands()), ["--version"])
    assert (result.exit_code, result.output) == (0, f"otf {version('onthefly-ai')}\n")


def test_a_strangers_broken_command_costs_a_warning_only(runner, capsys):
    broken = EntryPoint("broken", "no_such_module:app", "otf.commands")
    app = build([broken, *commands()])
    assert "'otf broken' of no_such_module:app is not available" in capsys.readouterr().err
    assert runner.invoke(app, ["session", "--help"]).exit_code == 0


def test_the_command_that_is_named_is_loaded_alone():
    found = [EntryPoint(name, f"no_{name}:app", "otf.commands") for name in ("ctl", "serve")]
    assert asked_for(found, ["ctl", "pause"]) == found[:1]
    for words in ([], ["--help"], ["--version"], ["srve"], ["pause", "ctl"]):
        assert asked_for(found, words) == found


@pytest.mark.parametrize("words", [["session", "--help"], ["ctl", "--help"]])
def test_a_command_s_help_names_otf_and_it(words):
    done = subprocess.run(
        [sys.executable, "-m", "onthefly.cli", *words], capture_output=True, text=True, check=True
    )
    assert words[0] in done.stdout.split("[OPTIONS]")[0]
    assert done.stderr == ""


def test_an_unknown_command_is_a_usage_error(runner):
    assert runner.invoke(build(commands()), ["srve"]).exit_code == 2


def test_help_imports_neither_torch_nor_the_server():
    code = (
        "import sys\nfrom onthefly.cli import build, commands\n"
        "try:\n    build(commands())(['--help'])\nexcept SystemExit:\n    pass\n"
        "print([n for n in ('torch', 'starlette', 'peewee') if n in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


def test_a_session_without_sessions_says_what_to_do(runner):
    result = runner.invoke(build(commands()), ["session", "list"])
    assert result.exit_code == 0
    assert "otf demo" in result.output


def test_the_demo_names_a_port_that_is_taken(runner):
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            [sys.executable, "-m", "onthefly.cli", "demo", "--headless", "--port", port],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 1
    assert f"Port {port} is taken" in done.stderr
    assert "Traceback" not in done.stderr
