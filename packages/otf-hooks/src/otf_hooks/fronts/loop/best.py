"""The best state on validation: noted where the script says so, and saved where it can be."""

from __future__ import annotations

import math
from typing import Any, Optional

import torch

from ...engine import Engine
from .front import LoopFront
from .standing import Standing


class Best:
    """The lowest `val_loss` since it was last saved, in the midst of the script's own code."""

    def __init__(self, *, engine: Engine, front: LoopFront, standing: Standing) -> None:
        self._engine = engine
        self._front = front
        self._standing = standing
        self._due: Optional[float] = None

    def note(self, loss: Any) -> None:
        """What validation came to; anything that is no finite number is none."""
        if isinstance(loss, torch.Tensor) and loss.numel() == 1:
            loss = loss.item()
        best = self._front.best
        if isinstance(loss, (int, float)) and math.isfinite(loss) and (best is None or loss < best):
            self._due = float(loss)

    def forget(self) -> None:
        """Training was put somewhere else before it could be saved."""
        self._due = None

    def save(self) -> None:
        """Save the state as the best where that is due."""
        # Each process may have found another value: the first one's counts.
        due, self._due = self._due, None
        value = self._engine.peers.shared(lambda: due)
        if value is not None:
            self._front.best = value
            self._engine.save("best", score=value)

    def save_between(self) -> None:
        """Save it between two epochs, where it can be gone on from exactly."""
        with self._standing.safe():
            self.save()
