"""What the benchmarks share: a server to measure against, and medians of interleaved pairs."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Callable, Dict, Iterator, List, NamedTuple


class Serving(NamedTuple):
    """A server that was started for a benchmark."""

    port: int
    token: str
    seconds_to_ready: float


@contextlib.contextmanager
def own_home() -> Iterator[str]:
    """A home that is deleted afterwards, in the environment of this process and its children."""
    before = os.environ.get("ONTHEFLY_HOME")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["ONTHEFLY_HOME"] = folder
        try:
            yield folder
        finally:
            del os.environ["ONTHEFLY_HOME"]
            if before is not None:
                os.environ["ONTHEFLY_HOME"] = before


@contextlib.contextmanager
def server() -> Iterator[Serving]:
    """An `otf serve` on a free port, ended by its process id."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "otf_serve", "--json", "--port", str(port)],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        ready = json.loads(process.stdout.readline())
        seconds = time.perf_counter() - began
        yield Serving(port, Path(ready["token_file"]).read_text().strip(), seconds)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()
        process.stdout.close()


@contextlib.contextmanager
def dashboard(serving: Serving) -> Iterator[None]:
    """A process that does what a dashboard does: watches every session and reads everything."""
    process = subprocess.Popen(
        [sys.executable, __file__.replace("common.py", "viewer.py")],
        env={**os.environ, "VIEWER_PORT": str(serving.port), "VIEWER_TOKEN": serving.token},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout.readline() == "watching\n"
        yield
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


def interleaved(rounds: int, variants: Dict[str, Callable[[], float]]) -> Dict[str, List[float]]:
    """Each variant's figures, measured in turn, so that a drift of the machine hits all alike."""
    found: Dict[str, List[float]] = {name: [] for name in variants}
    for number in range(rounds):
        order = list(variants) if number % 2 == 0 else list(variants)[::-1]
        for name in order:
            found[name].append(variants[name]())
    return found


def ratio(figures: List[float], base: List[float]) -> float:
    """The median of the ratios of pairs that were measured next to each other."""
    return statistics.median(one / other for one, other in zip(figures, base))


def spread(figures: List[float]) -> str:
    """Median with the lowest and the highest figure."""
    middle = statistics.median(figures)
    return f"{middle:.4g} ({min(figures):.4g} to {max(figures):.4g})"
