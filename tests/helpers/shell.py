"""Typer applications, called as from a shell."""

import inspect
import json
import subprocess
import sys
from typing import Any, List, Sequence

import typer
from typer.testing import CliRunner


def invoke(app: typer.Typer, *words: Any) -> Any:
    """Run a command; any exception but an exit is the test's."""
    # Until Click 8.2 the runner mixed both streams unless it was told not to.
    mixes = "mix_stderr" in inspect.signature(CliRunner.__init__).parameters
    runner = CliRunner(**({"mix_stderr": False} if mixes else {}))
    result = runner.invoke(app, [str(word) for word in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def modules_after(statement: str, names: Sequence[str]) -> List[str]:
    """Which of these modules a fresh Python has imported after a statement."""
    script = (
        "import json, sys\n"
        "try:\n"
        f"    {statement}\n"
        "except SystemExit:\n"
        "    pass\n"
        f"print(json.dumps([name for name in {list(names)!r} if name in sys.modules]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    found: List[str] = json.loads(done.stdout.splitlines()[-1])
    return found


def undocumented(app: typer.Typer) -> List[str]:
    """The commands and parameters of an application that have no help text."""
    missing = []
    waiting = [typer.main.get_command(app)]
    while waiting:
        command = waiting.pop()
        if not command.help:
            missing.append(command.name)
        missing += [
            f"{command.name} {parameter.name}"
            for parameter in command.params
            if not getattr(parameter, "help", None)
        ]
        waiting += getattr(command, "commands", {}).values()
    return missing
