"""Scripts that are run many times, each time in a process of its own that has imported them already.

`python -m tests.otf_hooks.forked MODULE` imports the module, forks itself for each line that it is
given, and calls `main` in the child, which begins with the words, the environment and the output of
that line and ends as any script does. Importing torch takes longer than what the tests train.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, NamedTuple

from .scenarios import ROOT


class Done(NamedTuple):
    """How a process ended; negative is the number of the signal that ended it."""

    returncode: int
    stderr: str


class Forked:
    """A module whose `main` is run in processes of its own."""

    def __init__(self, module: str) -> None:
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.otf_hooks.forked", module],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, *words: Any, **variables: str) -> Done:
        """Run it with these words, and variables beside those that this process has."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        handle, output = tempfile.mkstemp(prefix="forked-")
        os.close(handle)
        order = {
            "words": [str(word) for word in words],
            "environment": {**os.environ, **variables},
            "output": output,
        }
        try:
            self._server.stdin.write(json.dumps(order) + "\n")
            self._server.stdin.flush()
            return Done(int(self._server.stdout.readline()), Path(output).read_text())
        finally:
            Path(output).unlink()

    def close(self) -> None:
        """It is run no more."""
        self._server.communicate()


def main() -> None:
    """Fork for each line; return in the parent when there is no more, and in each child."""
    module = importlib.import_module(sys.argv[1])
    # Else each child did, when it makes its first optimizer.
    importlib.import_module("torch._dynamo")
    # Not `for line in sys.stdin`: what that reads ahead, a child would have as well.
    while True:
        line = sys.stdin.readline()
        if not line:
            return
        child = os.fork()
        if not child:
            _begin(json.loads(line))
            module.main()
            return
        _, status = os.waitpid(child, 0)
        print(-os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status))
        sys.stdout.flush()


def _begin(order: Dict[str, Any]) -> None:
    """Be the process that was asked for."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    output = os.open(order["output"], os.O_WRONLY | os.O_APPEND)
    for number, stream in enumerate((nothing, output, output)):
        os.dup2(stream, number)
    os.environ.clear()
    os.environ.update(order["environment"])
    sys.argv[1:] = order["words"]


if __name__ == "__main__":
    main()
