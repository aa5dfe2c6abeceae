"""Importing the package and asking for help must not load torch."""

from __future__ import annotations

import subprocess
import sys

import otf_merge
import pytest


def run(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout


@pytest.mark.parametrize(
    "code",
    [
        "import otf_merge",
        "import otf_merge.cli",
        "from otf_merge import MergeError, merge_method",
        "from otf_merge.cli import app\napp(['--help'], standalone_mode=False)",
        "from otf_merge.cli import app\napp(['methods', '--help'], standalone_mode=False)",
    ],
)
def test_torch_is_not_loaded(code: str) -> None:
    heavy = ["torch", "numpy", "safetensors"]
    printed = run(f"{code}\nimport sys\nprint([m for m in {heavy} if m in sys.modules])")
    assert printed.splitlines()[-1] == "[]"


def test_every_public_name_exists() -> None:
    for name in otf_merge.__all__:
        assert getattr(otf_merge, name).__name__ == name
        assert name in dir(otf_merge)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = otf_merge.nonsense
