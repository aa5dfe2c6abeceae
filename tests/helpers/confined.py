"""Processes that may do less than the tests may: for read-only homes and full disks."""

import contextlib
import ctypes
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, Iterator, List, NamedTuple, Sequence

import pytest

#: Linux's numbers, from linux/prctl.h and linux/capability.h.
_DROP_FROM_BOUNDING_SET = 24
_OVERRIDES = (1, 2)  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH

#: Runs commands one after the other in one process, and prints what came of each.
_RUN = """
import importlib, json, sys
sys.path.insert(0, sys.argv[1])
from tests.helpers.shell import invoke
found = []
for module, *words in json.loads(sys.argv[2]):
    app = importlib.import_module(f"otf_session.{module}").app
    result = invoke(app, *words)
    found.append([result.exit_code, result.stdout, result.stderr])
print(json.dumps(found))
"""


class Outcome(NamedTuple):
    """What came of a command."""

    exit_code: int
    stdout: str
    stderr: str


#: Runs commands, each a module of otf_session that has an app, and the words that follow.
Run = Callable[..., List[Outcome]]


def freely(*commands: Sequence[Any]) -> List[Outcome]:
    """Run commands in a process of their own."""
    return _run(commands, None)


def without_overrides(*commands: Sequence[Any]) -> List[Outcome]:
    """Run commands in a process that the permission bits of files bind, also as root."""
    return _run(commands, _bound_by_bits if _is_root() else None)


def with_no_room(*commands: Sequence[Any]) -> List[Outcome]:
    """Run commands in a process that can make no file grow."""
    import resource

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))

    return _run(commands, limit)


def _run(commands: Sequence[Sequence[Any]], confine: Any) -> List[Outcome]:
    asked = json.dumps([[str(word) for word in words] for words in commands])
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", _RUN, root, asked],
        preexec_fn=confine,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert done.returncode == 0, done.stderr
    return [Outcome(*each) for each in json.loads(done.stdout)]


def _is_root() -> bool:
    return hasattr(os, "geteuid") and os.geteuid() == 0


def _bound_by_bits() -> None:
    # What is not in the bounding set is lost when the process becomes another program.
    libc = ctypes.CDLL(None, use_errno=True)
    for capability in _OVERRIDES:
        if libc.prctl(_DROP_FROM_BOUNDING_SET, capability, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "prctl")


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Take the right to write from a folder and all in it; skip where that binds nobody."""
    if os.name != "posix":
        pytest.skip("permission bits are POSIX's")
    paths = [folder, *folder.rglob("*")]
    modes = {path: path.stat().st_mode for path in paths}
    for path in paths:
        path.chmod(modes[path] & ~0o222)
    try:
        if _is_root():
            _check_that_bits_bind(folder)
        yield
    finally:
        for path, mode in modes.items():
            if path.exists():
                path.chmod(mode)


def _check_that_bits_bind(folder: Path) -> None:
    probe = f"import os; print(os.access({str(folder)!r}, os.W_OK))"
    try:
        done = subprocess.run(
            [sys.executable, "-c", probe],
            preexec_fn=_bound_by_bits,
            capture_output=True,
            text=True,
            check=True,
        )
    except (subprocess.SubprocessError, OSError):
        pytest.skip("root may write anywhere, and may not give that up here")
    if done.stdout.strip() != "False":
        pytest.skip("root may write anywhere")


@contextlib.contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """A file system of so many megabytes at `folder`; skip where none can be mounted."""
    if not sys.platform.startswith("linux") or not _is_root() or shutil.which("mount") is None:
        pytest.skip("only root mounts a small disk")
    folder.mkdir()
    options = ["-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
    if subprocess.run(["mount", *options], capture_output=True, check=False).returncode:
        pytest.skip("no file system may be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Fill a small disk to its last byte."""
    path = folder / "fill"
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        for size in (1 << 16, 1 << 12, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(size))
    return path


def files(folder: Path) -> "dict[str, bytes]":
    """All files in a folder, but for what SQLite makes beside a database to read it."""
    passing: List[str] = ["-shm"]
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.endswith(tuple(passing))
    }
