"""Starts a function on several ranks at once, each a process of its own."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import time
import traceback
from datetime import timedelta
from pathlib import Path
from typing import Any, Callable, List

import torch
import torch.distributed as dist

# Forked from one process that has imported everything: a rank starts in a moment.
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["tests.otf_hooks.distributed.preload"])

#: A rank that has not ended by then never will.
_SECONDS = 90.0


class Ranks:
    """The processes of one training that was started."""

    def __init__(
        self, work: Callable[..., Any], *args: Any, size: int = 2, seconds: float = 60.0
    ) -> None:
        self.folder = Path(tempfile.mkdtemp(dir=os.environ["ONTHEFLY_HOME"]))
        self.processes = [
            _context.Process(
                target=_run,
                args=(rank, size, self.folder, dict(os.environ), seconds, work, args),
            )
            for rank in range(size)
        ]
        for process in self.processes:
            process.start()

    def join(self) -> List[int]:
        """Wait for all to end; their exit codes."""
        until = time.monotonic() + _SECONDS
        for process in self.processes:
            process.join(max(0.1, until - time.monotonic()))
        late = [process for process in self.processes if process.is_alive()]
        for process in late:
            process.kill()
            process.join()
        assert not late, "a rank hung"
        return [process.exitcode for process in self.processes]

    def results(self) -> List[Any]:
        """What each rank returned; fails with the traceback of one that raised."""
        codes = self.join()
        assert codes == [0] * len(codes), "\n".join(self.errors())
        return [
            torch.load(self.folder / f"result-{rank}", weights_only=False)
            for rank in range(len(codes))
        ]

    def errors(self) -> List[str]:
        """The tracebacks of the ranks that raised."""
        return [path.read_text() for path in sorted(self.folder.glob("error-*"))]


def on_each(work: Callable[..., Any], *args: Any, size: int = 2) -> List[Any]:
    """What `work(*args)` returns on each rank."""
    return Ranks(work, *args, size=size).results()


def _run(
    rank: int,
    size: int,
    folder: Path,
    environment: Any,
    seconds: float,
    work: Callable[..., Any],
    args: Any,
) -> None:
    os.environ.clear()
    os.environ.update(environment)
    # Sums come out differently when they are shared among another number of threads.
    torch.set_num_threads(1)
    try:
        dist.init_process_group(
            "gloo",
            init_method=f"file://{folder}/rendezvous",
            rank=rank,
            world_size=size,
            timeout=timedelta(seconds=seconds),
        )
        torch.save(work(*args), folder / f"result-{rank}")
        dist.destroy_process_group()
    except BaseException:
        (folder / f"error-{rank}").write_text(traceback.format_exc())
        raise
