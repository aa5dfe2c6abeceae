"""How a merge looks in a terminal."""

from __future__ import annotations

import io
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable

import pytest
import torch
from otf_merge.decisions import decisions
from otf_merge.display import bar, outcome
from otf_merge.output import Written
from otf_merge.text import as_json, hanging, size

from .shell import Save


class Terminal(io.StringIO):
    """What is written to a terminal."""

    def isatty(self) -> bool:
        """Somebody looks at it."""
        return True

    def lines(self) -> list[str]:
        """What was there to see, without what moves the cursor and sets colours."""
        text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.getvalue())
        return [line.strip() for line in re.split(r"[\r\n]+", text) if line.strip()]


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Terminal]:
    """Have stderr be a terminal from the call on, which pytest takes back between fixtures."""

    def terminal() -> Terminal:
        found = Terminal()
        monkeypatch.setattr(sys, "stderr", found)
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setenv("COLUMNS", "100")
        return found

    return terminal


def test_phases_have_names_and_amounts(terminal: Callable[[], Terminal]) -> None:
    seen = terminal()
    with bar(quiet=False) as watched:
        watched.progress(64, 256, "samples")
        watched.say("slerp: metric\x1b 0.5")
        watched.progress(5e8, 2e9, "bytes")
        watched.progress(2e9, 2e9, "bytes")
    told = seen.lines()
    assert "slerp: metric? 0.5" in told
    assert any(re.match(r"Looking at data .* 64 of 256 samples", line) for line in told)
    assert any(re.match(r"Merging .* 2 GB of 2 GB", line) for line in told)


def test_a_phase_that_starts_again_has_a_bar_of_its_own(terminal: Callable[[], Terminal]) -> None:
    seen = terminal()
    with bar(quiet=False) as watched:
        watched.progress(3, 4, "steps")
        watched.progress(1, 8, "steps")
        watched.say("between")
    told = "\n".join(seen.lines())
    assert "1 of 8 steps" in told
    assert "3 of 4 steps" not in told.partition("between")[2]


def test_nothing_moves_where_nobody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = io.StringIO()
    monkeypatch.setattr(sys, "stderr", plain)
    with bar(quiet=False) as watched:
        watched.progress(1, 2, "bytes")
        watched.say("not to be seen")
    assert plain.getvalue() == ""


def test_a_quiet_bar_is_none(terminal: Callable[[], Terminal]) -> None:
    seen = terminal()
    with bar(quiet=True) as watched:
        watched.progress(1, 2, "bytes")
        watched.say("not to be seen")
    assert seen.getvalue() == ""


@pytest.mark.skipif(sys.platform == "win32", reason="terminals of POSIX")
def test_a_merge_in_a_terminal_shows_its_speed(save: Save) -> None:
    for name in "ab":
        save(f"{name}.pt", {"w": torch.ones(1 << 22)})
    ours, theirs = os.openpty()
    command = [sys.executable, "-c", "from otf_merge.cli import app; app()", "a.pt", "b.pt"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
        env={**os.environ, "TERM": "xterm"},
    )
    os.close(theirs)
    shown = Terminal()
    # A terminal whose other end is closed ends with an error on Linux, and with nothing elsewhere.
    try:
        while part := os.read(ours, 4096):
            shown.write(part.decode(errors="replace"))
    except OSError:
        pass
    told, _ = process.communicate(timeout=60)
    os.close(ours)
    assert process.returncode == 0
    assert told.startswith("Merged 2 checkpoints")
    assert any(
        re.match(r"Merging .* of 16\.8 MB(, .*/s)? \d:\d\d:\d\d", line) for line in shown.lines()
    )


def written(**given: Any) -> Written:
    Path("out.pt").write_bytes(bytes(1500))
    inputs = [Path(f"runs/{n}.pt") for n in range(10)]
    return Written(Path("out.pt"), inputs, "linear", given, tensors=1200, warnings=[])


def test_weights_are_told_as_shares() -> None:
    told = outcome(written(weights=[0.1] * 10)).splitlines()
    assert told == [
        "Merged 10 checkpoints with linear into out.pt (1,200 tensors, 1.5 kB).",
        "Weights: 0.1 each.",
    ]
    told = outcome(written(weights=[0.55, *[0.05] * 9])).splitlines()
    assert told[1].startswith("Weights: 0.pt 0.55, 1.pt 0.05, ")
    assert told[1].endswith("7.pt 0.05, and 2 more.")
    assert len(outcome(written()).splitlines()) == 1


def test_what_was_learned_is_told() -> None:
    scores = {"before": {"metric": 0.7}, "after": {"metric": 0.9}}
    (told,) = decisions({"distill": {**scores, "teacher": "logits", "step": 450}})
    assert told == (
        "Taught by the parents' logits: metric 0.7000 before, 0.9000 at its best, step 450."
    )
    (told,) = decisions({"distill": {**scores, "teacher": "domain", "step": 0}})
    assert told == (
        "Taught by the parents' domain, and no step was better than the start: metric 0.7000."
    )
    found = {**scores, "layers": 2, "batches": 10, "taken": False}
    (told,) = decisions({"recalibration": found})
    assert told.endswith("0.7000 before, 0.9000 after (not taken, since it was no better).")


def test_sizes_are_read_at_a_glance() -> None:
    assert [size(it) for it in (0, 999, 1000, 2_070_000_000, 3e15)] == [
        "0 bytes",
        "999 bytes",
        "1 kB",
        "2.07 GB",
        "3e+03 TB",
    ]


def test_what_json_has_no_number_for_is_null() -> None:
    document = as_json({"loss": math.nan, 1: [math.inf, 2.5], "path": Path("a.pt")})
    assert json.loads(document) == {"loss": None, "1": [None, 2.5], "path": "a.pt"}


def test_text_hangs_under_its_head_in_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    words = "word " * 20
    assert hanging("head  ", words.strip(), 6) == f"head  {words.strip()}"
    monkeypatch.setattr(sys, "stdout", Terminal())
    monkeypatch.setenv("COLUMNS", "50")
    lines = hanging("head  ", words.strip(), 6).splitlines()
    assert lines[0].startswith("head  word")
    assert all(line.startswith("      word") for line in lines[1:])
    assert max(map(len, lines)) <= 50
