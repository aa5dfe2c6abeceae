"""Whether reading a batch draws from the global generators, told from what reading does to them."""

from __future__ import annotations

from typing import Any, Dict, Iterator, Optional

from . import randomness
from .loaders import Loader

#: Readings that are looked at: an augmentation may leave some samples as they are.
_LOOKS = 16


class DrawsWatch:
    """Compares the generators before and behind some readings, each of one batch or several.

    The first reading of an epoch is left out: what shuffles it draws as well. What draws in workers
    is not seen.
    """

    def __init__(self) -> None:
        #: Whether a reading has drawn.
        self.seen = False
        self._left = _LOOKS
        self._before: Optional[Dict[str, Any]] = None

    def before(self) -> None:
        """Batches are about to be read."""
        if self._left and not self.seen:
            self._before = randomness.capture()

    def again(self) -> None:
        """Something else happened since `before`, which may have drawn."""
        if self._before is not None:
            self.before()

    def forget(self) -> None:
        """The next reading is the first of its epoch, or none."""
        self._before = None

    def after(self) -> bool:
        """They were read; True where this is the first reading that was seen to draw."""
        before, self._before = self._before, None
        if before is None:
            return False
        self._left -= 1
        self.seen = not randomness.are_same(before, randomness.capture())
        return self.seen

    def over(self, batches: Iterator[Any]) -> Iterator[Any]:
        """The batches, the readings between them looked at; `seen` is said before one is given."""
        self.forget()
        for batch in batches:
            self.after()
            yield batch
            self.before()
        self.forget()


def reads_ahead(loader: Loader) -> bool:
    """Whether it reads a batch more, in this process, than it has given: as Accelerate's does."""
    return hasattr(loader, "base_dataloader") and not getattr(loader, "num_workers", 0)
