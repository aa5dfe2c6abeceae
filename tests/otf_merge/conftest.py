"""Checkpoints to merge, and the shell command to merge them with."""

from __future__ import annotations

import contextlib
import ctypes
import inspect
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import pytest
import torch
from hypothesis import settings
from otf_merge.checkpoints.checkpoint import Checkpoint
from otf_merge.checkpoints.formats import open_checkpoint
from otf_merge.cli import app
from typer.testing import CliRunner

# The first call of an operation makes torch set itself up, which says nothing of the code here.
settings.register_profile("otf_merge", deadline=None)
settings.load_profile("otf_merge")


SAFETENSORS_DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.int64: "I64",
}


def safetensors_bytes(tensors: dict[str, torch.Tensor]) -> bytes:
    """A safetensors file by its specification: the package's own writer would need NumPy."""
    header: dict[str, Any] = {}
    data = b""
    for name, tensor in tensors.items():
        start = len(data)
        whole = tensor.contiguous()
        data += ctypes.string_at(whole.data_ptr(), whole.numel() * whole.element_size())
        header[name] = {
            "dtype": SAFETENSORS_DTYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [start, len(data)],
        }
    encoded = json.dumps(header).encode()
    return struct.pack("<Q", len(encoded)) + encoded + data


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    """Save what is given under a file name, in the format of its suffix."""

    def save(name: str, saved: Any) -> Path:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        if path.suffix == ".safetensors":
            path.write_bytes(safetensors_bytes(saved))
        else:
            torch.save(saved, path)
        return path

    return save


@pytest.fixture
def cli() -> Callable[..., Any]:
    """Run `otf-merge` with these words."""
    # Until Click 8.2 the runner mixed both streams unless it was told not to.
    mixes = "mix_stderr" in inspect.signature(CliRunner.__init__).parameters
    options: dict[str, Any] = {"mix_stderr": False} if mixes else {}
    runner = CliRunner(**options)

    def cli(*words: Any) -> Any:
        result = runner.invoke(app, [str(word) for word in words])
        assert result.exception is None or isinstance(result.exception, SystemExit), (
            result.exception
        )
        return result

    return cli


@pytest.fixture
def refused(cli: Callable[..., Any], tmp_path: Path) -> Callable[..., str]:
    """Run `otf-merge` with words that must fail, and return the message; nothing may be written."""

    def refused(*words: Any) -> str:
        before = sorted(tmp_path.rglob("*"))
        result = cli(*words)
        assert result.exit_code == 1
        assert result.stdout == ""
        assert result.stderr.startswith("error: ")
        assert result.stderr.count("error:") == 1
        assert "Traceback" not in result.stderr
        assert sorted(tmp_path.rglob("*")) == before
        return str(result.stderr)

    return refused


@pytest.fixture
def two(save: Callable[..., Path]) -> list[Path]:
    """Two checkpoints in a folder, of zeros and of ones."""
    return [save(f"ckpts/{n}.pt", {"w": torch.full((2,), v)}) for n, v in (("a", 0.0), ("b", 1.0))]


LINE = """
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
def lines(save: Callable[..., Path]) -> list[Path]:
    """Two checkpoints of a line, and in `line.py` a task whose best slope is a quarter."""
    Path("line.py").write_text(LINE)
    slopes = (("a", 0.0), ("b", 1.0))
    return [save(f"{name}.pt", {"weight": torch.full((1, 1), it)}) for name, it in slopes]


@pytest.fixture
def opened() -> Iterator[Callable[..., Checkpoint]]:
    """Open a checkpoint, which is closed after the test."""
    with contextlib.ExitStack() as stack:

        def opened(path: Path, key: str | None = None) -> Checkpoint:
            checkpoint = open_checkpoint(path, key)
            stack.callback(checkpoint.close)
            return checkpoint

        yield opened


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """One core, as a piece of a merge has; on a busy machine tiny tensors lose much by more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
