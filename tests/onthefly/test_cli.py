import os
import signal
import socket
import subprocess
import sys
from importlib.metadata import EntryPoint

import pytest
import typer
from onthefly.cli import asked_for, build, commands, needs_typer_options, typed_words
from rich.text import Text
from typer.testing import CliRunner

from ..helpers.sessions import make_session, started
from ..helpers.waiting import wait_for


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


def every_command():
    """All commands of `otf`, each with the words that it is called by."""
    waiting = [((), typer.main.get_command(build(commands())))]
    while waiting:
        words, command = waiting.pop()
        yield words, command
        waiting += [
            ((*words, name), each) for name, each in getattr(command, "commands", {}).items()
        ]


ALL = dict(every_command())


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_help_is_shown_as_it_is_written(runner, words, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    command = ALL[words]
    texts = [command.help, command.epilog, command.short_help]
    texts += [getattr(parameter, "help", None) for parameter in command.params]
    # Words in brackets are taken for rich's markup, and vanish; a backspace keeps lines apart.
    written = [text.replace("\b", "") for text in texts if text]
    assert [text for text in written if Text.from_markup(text).plain != text] == []
    shown = runner.invoke(build(commands()), [*words, "--help"]).output
    assert " ." not in shown.replace(" ...", "").replace(" ..", "")


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_usage_names_no_commands_where_there_are_none(runner, words):
    shown = runner.invoke(build(commands()), [*words, "--help"]).output
    assert "COMMAND [ARGS]..." not in shown or ALL[words].commands


def test_an_app_of_one_command_is_that_command(runner, home):
    make_session(home, started()).close()
    result = runner.invoke(build(commands()), ["resume", "latest", "--", "python", "train.py"])
    assert result.exit_code == 1
    assert "has no checkpoint" in result.output


@pytest.mark.parametrize("words", [["serve", "now"], ["demo", "now"]])
def test_a_word_too_many_is_a_usage_error(runner, words):
    assert runner.invoke(build(commands()), words).exit_code == 2


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


def test_otf_has_options_of_its_own_where_no_command_is_named(runner):
    found = [EntryPoint("ctl", "no_ctl:app", "otf.commands")]
    for words in ([], ["--help"], ["--install-completion"], ["srve"]):
        assert needs_typer_options(found, words, {})
    assert not needs_typer_options(found, ["ctl", "--help"], {})
    assert needs_typer_options(found, ["ctl"], {"_OTF_COMPLETE": "complete_bash"})
    app = build(commands(), typer_options=False)
    assert runner.invoke(app, ["session", "--help"]).exit_code == 0
    assert "No such option: --help" in runner.invoke(app, ["--help"]).output


def test_help_of_a_command_does_not_import_pydantic():
    code = (
        "import sys\nfrom onthefly.cli import main\nsys.argv = ['otf', 'merge', '--help']\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print('pydantic' in sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "--density" in done.stdout
    assert done.stderr.strip() == "False"


def test_the_words_that_a_shell_completes_are_those_that_were_typed():
    assert typed_words(["otf", "session", "list"], {}) == ["session", "list"]
    asked = {"_OTF_COMPLETE": "complete_bash"}
    assert typed_words(["otf"], {**asked, "COMP_WORDS": "otf session sh"}) == ["session", "sh"]
    assert typed_words(["otf"], {**asked, "_TYPER_COMPLETE_ARGS": "otf ctl "}) == ["ctl"]
    assert typed_words(["otf"], asked) == []
    # A variable that is left from something else is no question.
    assert typed_words(["otf", "ctl"], {"COMP_WORDS": "otf session"}) == ["ctl"]


@pytest.mark.parametrize(
    ("line", "offered"),
    [("otf se", ["serve", "session"]), ("otf session sh", ["show"]), ("otf session show ", [])],
)
def test_a_shell_completes_commands_and_ids_through_otf(home, line, offered):
    if not offered:
        offered = [make_session(home, started()).id, "latest"]
    environment = {
        **os.environ,
        "_OTF_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(line.count(" ")),
    }
    code = "import sys; sys.argv = ['otf']; from onthefly.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert (sorted(done.stdout.split()), done.stderr) == (sorted(offered), "")


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


@pytest.fixture
def port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def is_taken(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.skipif(os.name != "posix", reason="POSIX signals")
@pytest.mark.parametrize(
    ("number", "state"),
    [("SIGTERM", "stopped"), ("SIGHUP", "stopped"), ("SIGKILL", "lost"), ("SIGINT", "stopped")],
)
def test_however_the_demo_ends_its_server_ends_with_it(home, port, number, state):
    from otf_session.queries import session_summary
    from otf_session.store import SessionReader

    demo = subprocess.Popen(
        [sys.executable, "-m", "onthefly.cli", "demo", "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        # Neither a desktop nor a browser of this machine's has a part in it.
        env={**{k: v for k, v in os.environ.items() if "DISPLAY" not in k}},
    )

    def summary():
        for folder in home.session_folders():
            with SessionReader(folder) as reader:
                return session_summary(reader)
        return None

    try:
        wait_for(lambda: (found := summary()) and found.state.value == "running", "steps", 60.0)
        assert is_taken(port)
        demo.send_signal(getattr(signal, number))
        demo.wait(timeout=30)
        wait_for(lambda: not is_taken(port), "the end of the server", 10.0)
    finally:
        demo.kill()
        demo.wait()
    assert summary().state.value == state


def test_the_demo_names_a_port_that_is_taken(runner):
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
