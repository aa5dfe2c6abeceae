"""Each example, run as a person runs it; those that are watched come to what the others come to."""

from __future__ import annotations

import difflib
import subprocess
import sys
from pathlib import Path

import pytest

from ..otf_hooks.record import series, states, summary

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"


def printed(name, *words):
    command = [sys.executable, str(EXAMPLES / name), *words]
    done = subprocess.run(
        command, check=False, cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    ("before", "watched", "needs", "steps"),
    [
        ("own_loop_before.py", "own_loop.py", "sklearn", 45),
        ("accelerate_before.py", "accelerate_loop.py", "accelerate", 18),
    ],
)
def test_a_watched_example_prints_what_the_one_before_prints(before, watched, needs, steps):
    pytest.importorskip(needs)
    epochs = ("--epochs", "2")
    wanted = printed(before, *epochs)
    assert len(wanted) == 2
    assert printed(watched, *epochs) == wanted
    assert states() == ["running", "finished"]
    assert summary().runs[0].step == 2 * steps
    assert [step for step, _ in series("loss")] == list(range(1, 2 * steps + 1))


def code_of(name):
    """The statements of an example, without indentation, docstring and import of the product."""
    lines = (EXAMPLES / name).read_text().split('"""')[2:]
    stripped = [line.strip() for line in '"""'.join(lines).splitlines()]
    return [line for line in stripped if line and line != "import onthefly"]


def test_a_loop_is_watched_by_four_changed_lines():
    changes = difflib.ndiff(code_of("own_loop_before.py"), code_of("own_loop.py"))
    assert len([line for line in changes if line.startswith("+ ")]) == 4
