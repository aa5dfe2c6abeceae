"""The other processes of a training, as an engine sees them; usually there are none.

Whatever only one process knows (the session, its checkpoints, who is watching) is asked through
`shared`, and what all do at once through `together`, so that the code around them is the same with
one process and with many. `otf_hooks.distributed` has the peers of `torch.distributed`.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, Iterable, Iterator, List, Optional, Protocol, Tuple, TypeVar

from .errors import CheckpointError
from .inbox import Inbox, Waiting
from .parts import Recording, Session, Target

T = TypeVar("T")


class Rounds(Protocol):
    """An evaluation over a loader, whose batches may be more on one process than on another."""

    def __enter__(self) -> Rounds: ...

    def __exit__(self, *error: Any) -> Any: ...

    def over(
        self, loader: Iterable[Any], *, keeps_step: bool = False
    ) -> Iterator[Tuple[int, Any, bool]]:
        """Number, batch, and whether it counts, for each batch of this process.

        Between two of them the processes agree on what is to be done. One that has no batch left
        gets None, or with `keeps_step` its last batch again, until all are done.
        """

    def gathered(self, value: T) -> List[T]:
        """Every process's value, in the order of their ranks."""


class Peers(Protocol):
    """What one process of a training asks of all."""

    #: Which of the processes this is, and how many there are.
    rank: int
    size: int
    #: Whether the others cannot be asked any more, because this process failed.
    is_parted: bool

    def shared(self, ask: Callable[[], T]) -> T:
        """What the first process finds, on each of them; its error, where it raises one."""

    def shared_state(self, load: Callable[[], Dict[str, Any]]) -> Dict[str, Any]:
        """As `shared`, for a state with tensors that may be large."""

    def together(self, act: Callable[[], T]) -> T:
        """Do something on each process; where it fails on one, it is an error on all."""

    def gathered(self, value: T) -> List[T]:
        """Every process's value, in the order of their ranks."""

    def whole(self, state: Dict[str, Any]) -> Dict[str, Any]:
        """On the first process its state and what differs on others; elsewhere nothing."""

    def recording(self, recorder: Target) -> Recording:
        """What the front records with, and through it into `recorder`."""

    def inbox(self) -> Waiting:
        """Where what is asked for waits until all processes do it."""

    def failed(self, session: Session, reason: str, trace: str) -> Tuple[str, str]:
        """Leave word that this process failed; the reason to be recorded, and a line of the log."""

    def parted(self) -> Peers:
        """The peers of a process that has failed: it is alone from here on."""


class Alone:
    """One process, as usual."""

    rank: int = 0
    size: int = 1
    is_parted: bool = False

    def shared(self, ask: Callable[[], T]) -> T:
        """What is found."""
        return ask()

    def shared_state(self, load: Callable[[], Dict[str, Any]]) -> Dict[str, Any]:
        """What is loaded."""
        return load()

    def together(self, act: Callable[[], T]) -> T:
        """Do it."""
        return act()

    def gathered(self, value: T) -> List[T]:
        """The only value."""
        return [value]

    def whole(self, state: Dict[str, Any]) -> Dict[str, Any]:
        """The state."""
        return state

    def recording(self, recorder: Target) -> Recording:
        """The recorder."""
        return recorder

    def inbox(self) -> Waiting:
        """A queue."""
        return Inbox()

    def failed(self, session: Session, reason: str, trace: str) -> Tuple[str, str]:
        """The reason; the log has the rest."""
        return reason, ""

    def parted(self) -> Peers:
        """The same."""
        return self


def own_state(state: Dict[str, Any], peers: Peers, *, weights_only: bool = False) -> Dict[str, Any]:
    """What a process goes on from: the checkpoint's state, with what it had for itself.

    Raises `CheckpointError` where the checkpoint is of another number of processes, unless it is
    for the weights alone, which are the same on each.
    """
    kept: Optional[List[Any]] = state.get("ranks")
    size = 1 if kept is None else len(kept)
    if weights_only:
        return state
    if size != peers.size:
        raise CheckpointError(
            f"The checkpoint is of a training with {_processes(size)}, and this one has "
            f"{_processes(peers.size)}: each has generators and a place in the data of its own. "
            f"Start as many (torchrun --nproc-per-node {size}), or take only its weights: "
            "otf resume --weights-only."
        )
    if kept is None:
        return state
    own = kept[peers.rank]
    if own is not None:
        return {**state, **own}
    finding = (
        f"The checkpoint was made when the process of rank 0 was alone: the generators and the "
        f"place in the data of rank {peers.rank} are not in it."
    )
    return {**state, "findings": [*state.get("findings", []), finding]}


def _processes(count: int) -> str:
    return "1 process" if count == 1 else f"{count} processes"
