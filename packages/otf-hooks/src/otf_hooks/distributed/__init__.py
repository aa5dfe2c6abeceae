"""Several processes of one training, on `torch.distributed`: rank 0 records and talks for all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable, List

import torch

from ..peers import Alone, Peers

if TYPE_CHECKING:
    from ..engine import Engine


def join(*, averages: bool = False) -> Peers:
    """The peers of this process; every process of the training comes here at the same time.

    `averages` has metrics recorded as means over all processes, and not as rank 0 measured them.
    """
    distributed = torch.distributed
    if not (distributed.is_available() and distributed.is_initialized()):
        return Alone()
    if distributed.get_world_size() == 1:
        return Alone()
    from .group import Group
    from .ranks import Ranks

    return Ranks(Group.of_world(), averages=averages)


def open_on_each(peers: Peers, open_here: Callable[[], Engine]) -> Engine:
    """The engine of this process: on rank 0 the one that `open_here` makes, else a follower."""
    if peers.size == 1:
        return open_here()
    from ..assembly import follow
    from .following import Elsewhere

    opened: List[Engine] = []

    def on_first() -> Elsewhere:
        engine = open_here()
        opened.append(engine)
        return Elsewhere(engine.store.id, engine.store.folder)

    session = peers.shared(on_first)
    return opened[0] if opened else follow(session, peers)


__all__ = ["join", "open_on_each"]
