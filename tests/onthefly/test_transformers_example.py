"""The example as a person runs it."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("transformers")
pytest.importorskip("sklearn")

from ..otf_hooks.record import series, summary
from ..otf_hooks.scenarios import ROOT


def test_the_example_records_a_run_of_real_digits():
    script = ROOT / "examples" / "transformers_finetune.py"
    command = [sys.executable, str(script), "--epochs", "2", "--samples", "400"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (run,) = summary().runs
    assert (run.name, run.state.value, run.step) == ("bert", "finished", 20)
    losses = [value for _, value in series("step_loss")]
    assert len(losses) == 20
    assert sum(losses[-5:]) < sum(losses[:5])
    assert [step for step, _ in series("eval_accuracy")] == [10, 20]
