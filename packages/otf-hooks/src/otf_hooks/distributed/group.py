"""The process group through which the processes of a training agree: gloo, on the CPU.

It is one of our own, so that nothing here waits for a device, or comes between the collectives of
the script.
"""

from __future__ import annotations

import contextlib
import os
import platform
import threading
from datetime import timedelta
from typing import Any, ClassVar, Dict, Iterator, List, Optional, Tuple

import psutil
import torch
import torch.distributed as dist

from .. import console
from ..errors import RankLost

#: Seconds after which a process says that it waits for the others.
_PATIENCE = 10.0
_LEAST_TIMEOUT = timedelta(minutes=30)
#: What torch raises where a process cannot be reached, and where the script has destroyed the group.
_GONE = (RuntimeError, ValueError)


class Group:
    """Collectives of plain values and tensors on the CPU; a lost connection is `RankLost`."""

    #: Made once for the script's own group, which is the other one of the pair.
    _made: ClassVar[Optional[Tuple[Any, Group]]] = None

    def __init__(self) -> None:
        self.rank = dist.get_rank()
        self.size = dist.get_world_size()
        with _saying_whom_one_waits_for(self.rank), _telling_of_loss():
            self._group = dist.new_group(backend="gloo", timeout=_timeout())
            mine = (platform.node(), os.getpid())
            #: Host and process id of each rank.
            self._processes: List[Tuple[str, int]] = self.gather_all(mine)

    @classmethod
    def of_world(cls) -> Group:
        """The group of all processes, made where there is none yet."""
        world = dist.group.WORLD
        if cls._made is None or cls._made[0] is not world:
            cls._made = (world, cls())
        return cls._made[1]

    # Collectives: every process calls them in the same order

    def highest(self, numbers: List[int]) -> List[int]:
        """For each place the highest of all processes' numbers."""
        tensor = torch.tensor(numbers, dtype=torch.int64)
        with _telling_of_loss():
            dist.all_reduce(tensor, op=dist.ReduceOp.MAX, group=self._group)
        return [int(number) for number in tensor.tolist()]

    def gather_all(self, value: Any) -> List[Any]:
        """Every process's value, in the order of their ranks."""
        values: List[Any] = [None] * self.size
        with _telling_of_loss():
            dist.all_gather_object(values, value, group=self._group)
        return values

    def gather(self, value: Any) -> List[Any]:
        """On rank 0 every process's value; elsewhere nothing."""
        values: Optional[List[Any]] = [None] * self.size if self.rank == 0 else None
        with _telling_of_loss():
            dist.gather_object(value, values, dst=0, group=self._group)
        return values or []

    def broadcast(self, value: Any) -> Any:
        """Rank 0's value."""
        values = [value if self.rank == 0 else None]
        with _telling_of_loss():
            dist.broadcast_object_list(values, src=0, group=self._group)
        return values[0]

    def broadcast_tensor(self, tensor: torch.Tensor) -> None:
        """Fill a tensor on the CPU with rank 0's, byte by byte."""
        with _telling_of_loss():
            dist.broadcast(tensor.reshape(-1).view(torch.uint8), src=0, group=self._group)

    # Last words: without collectives, because a process that has failed takes part in none

    def leave_word(self, topic: str, words: Dict[str, str]) -> None:
        """Have the others find why this process failed."""
        with contextlib.suppress(*_GONE):
            store = _store()
            for name, text in words.items():
                store.set(_key(topic, self.rank, name), text)
            store.add(_key(topic, self.rank, "count"), 1)

    def word_of(self, topic: str, rank: int, name: str) -> Optional[str]:
        """What a process that failed has left; None where it left nothing."""
        with contextlib.suppress(*_GONE):
            store = _store()
            # Counted, because to ask for what is not there is to wait for it.
            if store.add(_key(topic, rank, "count"), 0):
                return str(store.get(_key(topic, rank, name)).decode())
        return None

    def gone(self) -> List[int]:
        """The ranks whose processes were on this machine and have ended."""
        host = self._processes[self.rank][0]
        return [
            rank
            for rank, (where, process) in enumerate(self._processes)
            if where == host and not _is_running(process)
        ]

    def described(self, rank: int) -> str:
        """A rank's process in words."""
        host, process = self._processes[rank]
        return f"rank {rank} (process {process} on {host})"


@contextlib.contextmanager
def _telling_of_loss() -> Iterator[None]:
    try:
        yield
    except _GONE as error:
        if not dist.is_initialized():
            raise RankLost(
                "The script has destroyed the process group before its run had ended, so the processes "
                "cannot agree any more. Call destroy_process_group() after it."
            ) from error
        raise RankLost(
            "Another process of this training has ended or cannot be reached, so this one cannot go "
            f"on: {error}"
        ) from error


@contextlib.contextmanager
def _saying_whom_one_waits_for(rank: int) -> Iterator[None]:
    message = (
        f"rank {rank} waits for the other ranks: every process of the training has to come to "
        "OnTheFly, also those that record nothing. Do not put it behind `if rank == 0`."
    )
    timer = threading.Timer(_PATIENCE, console.say, [message])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _timeout() -> timedelta:
    """At least as long as the script's own collectives wait: what they survive, these do."""
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    try:
        options = dist.group.WORLD._get_backend(torch.device(device)).options  # type: ignore[union-attr]  # noqa: SLF001
        return max(_LEAST_TIMEOUT, options._timeout)  # noqa: SLF001
    except (AttributeError, RuntimeError):
        # A backend that does not say.
        return _LEAST_TIMEOUT


def _key(topic: str, rank: int, name: str) -> str:
    return f"onthefly/{topic}/{rank}/{name}"


def _store() -> Any:
    # The store that the processes met in: torch has no public name for it.
    return dist.distributed_c10d._get_default_store()  # noqa: SLF001


def _is_running(process: int) -> bool:
    try:
        # One that has ended and whose parent has not looked yet is there, as a zombie.
        return bool(psutil.Process(process).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True
