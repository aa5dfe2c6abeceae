"""What is said of a command that has no outcome yet."""

from __future__ import annotations

from typing import Literal, Optional

import msgspec
from otf_session.frames import CommandProgress


class Pending(msgspec.Struct, frozen=True, kw_only=True):
    """A command without an outcome yet. `received` is what the trainer itself has recorded."""

    id: str
    session: str
    status: Literal["queued", "received"]
    progress: Optional[CommandProgress] = None
