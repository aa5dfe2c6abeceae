"""Save checkpoint: write the whole state down, on request."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Callable, Union

from otf_session.commands import Outcome, Refused, SaveCheckpoint
from otf_session.events import CheckpointSaved

from ..errors import NotPossible
from ..keeper import PINNED_LABELS
from .outcomes import Pending, written

if TYPE_CHECKING:
    from ..engine import Engine

_RESERVED = (*PINNED_LABELS, "periodic", "interrupted", "latest")


def save_checkpoint(engine: Engine, command: SaveCheckpoint) -> Union[Outcome, Pending]:
    """Copy the state at this safe point; answered when it is on disk."""
    name = command.name.strip()
    if name and not re.fullmatch(r"[\w.+-]{1,60}", name):
        raise NotPossible(
            f"A checkpoint cannot be called {name!r}: use letters, digits, and . _ + - only."
        )
    if name in _RESERVED or name.isdigit():
        raise NotPossible(f"'{name}' names checkpoints of another kind. Choose another name.")
    step = engine.step

    def start(answer: Callable[[Outcome], None]) -> None:
        def done(saved: Union[CheckpointSaved, str]) -> None:
            if isinstance(saved, str):
                answer(Refused(reason=saved))
            else:
                answer(written(saved, step, f"Saved at step {step}."))

        engine.save(name or "saved", pinned=command.pin or bool(name), done=done)

    return Pending(start)
