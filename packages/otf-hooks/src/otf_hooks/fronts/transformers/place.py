"""Where the Trainer is in its data: the epoch, the step in it, and how it began.

The Trainer itself finds the place again (`resume_from_checkpoint`): it counts how many batches were
trained on and has its loader leave them out. What decides the order of an epoch is put back before:
the global generators as they were when its iterator was made, and what the sampler and the dataset
remember.
"""

from __future__ import annotations

import contextlib
from typing import Any, Dict, Iterator, List, Optional

from ... import randomness, sources
from ...drawing import DrawsWatch
from ...errors import NotPossible
from ...loaders import persistent_workers, sample_total
from ...position import is_iterable_dataset, other_data

_LATER_READING = (
    "The dataset has no indices, and the checkpoint was made when it was read once already: the Trainer "
    "cannot find that place again, and reads it anew from its beginning."
)
_NOT_SKIPPED = (
    "The arguments have ignore_data_skip=True: the Trainer does not look for the place in the data, "
    "and a new epoch begins."
)
_PERSISTENT = (
    "dataloader_persistent_workers=True: the workers carry their random state from epoch to epoch. If "
    "the dataset draws at random, going back is not exact."
)
_MASKS = (
    "data_collator masks at random (mlm=True) while batches are read ahead of the steps, and the "
    "Trainer leaves batches out without reading them: going back trains on other masks. Masked when "
    "the dataset is made, they would be the same."
)
_DRAWS = (
    "Reading a batch draws from the global generators (the dataset or data_collator does, or a callback "
    "beside it), one batch is read ahead of the steps, and the Trainer leaves batches out without reading them: going back into "
    "the midst of an epoch is not exact. What is drawn when the dataset is made would be the same."
)


class TrainerPlace:
    """The place of one training, over all the passes of `trainer.train`."""

    def __init__(self) -> None:
        #: The epoch under way, from 1; 0 before the first.
        self.epoch = 0
        #: The steps that were done before this epoch.
        self.first_step = 0
        self.is_under_way = False
        #: Whether training was put here, and no step has been trained since.
        self.is_restored = False
        self._loader: Any = None
        self._begin: Optional[Dict[str, Any]] = None
        self._draws = DrawsWatch()
        #: Whether batches are known to be drawn at random while they are read.
        self._are_drawn = False

    @property
    def loader(self) -> Any:
        """What the Trainer reads from, without Accelerate's wrapper."""
        return self._loader

    def use(self, loader: Any) -> None:
        """Read from this loader from here on: every `trainer.train` makes its own."""
        # Accelerate's wrapper is left aside: it remembers nothing that matters here.
        self._loader = getattr(loader, "base_dataloader", loader)

    def joins(self, epoch: float, step: int, steps_per_epoch: Optional[int]) -> None:
        """The Trainer itself went on from a checkpoint of its own."""
        self.epoch = int(epoch)
        self.is_under_way = not float(epoch).is_integer()
        if self.is_under_way:
            self.epoch += 1
        self.first_step = (self.epoch - 1) * (steps_per_epoch or step) if self.is_under_way else 0

    def open_epoch(self, step: int) -> bool:
        """The Trainer is about to make its loader's iterator; whether a new epoch begins."""
        self._draws.forget()
        if self.is_under_way and self._begin is not None:
            # The epoch that training was put into, or an empty pass before it.
            randomness.restore(self._begin["random"])
            sources.restore(self._loader, self._begin["sources"])
            return False
        is_new = not self.is_under_way
        if is_new:
            self.epoch, self.first_step, self.is_under_way = self.epoch + 1, step, True
        self._begin = {
            "random": randomness.capture(),
            "sources": sources.capture(self._loader),
        }
        return is_new

    def are_asked_for(self) -> None:
        """The batches of the next step are about to be read, behind others of this epoch."""
        self._draws.before()

    def are_read(self) -> bool:
        """The batches of a step are there; True where they turn out to be drawn at random."""
        is_first = self._draws.after() and not self._are_drawn
        self._are_drawn = self._are_drawn or is_first
        return is_first

    def close_epoch(self) -> None:
        """The loader is at its end."""
        self.is_under_way, self._begin = False, None

    def capture(self, step: int) -> Dict[str, Any]:
        """The place as plain values and tensors."""
        state: Dict[str, Any] = {
            "epoch": self.epoch,
            "first_step": self.first_step,
            "under_way": self.is_under_way,
            "batch": step - self.first_step,
            "samples": sample_total(self._loader),
            "sources": sources.capture(self._loader),
            "are_drawn": self._are_drawn,
        }
        if self.is_under_way and self._begin is not None:
            state["begin"] = {
                "random": randomness.as_plain(self._begin["random"]),
                "sources": self._begin["sources"],
            }
        return state

    def restore(self, state: Dict[str, Any], step: int) -> List[str]:
        """Be where `capture` was called; what cannot be found again, as sentences."""
        self.epoch, self.first_step = int(state["epoch"]), int(state["first_step"])
        self.is_under_way, self.is_restored = bool(state["under_way"]), True
        findings = other_data(self._loader, state.get("samples"))
        self._draws.forget()
        self._are_drawn = self._are_drawn or bool(state.get("are_drawn"))
        if self.is_under_way and self._are_drawn:
            findings.append(_DRAWS)
        begin = state.get("begin")
        self._begin = None
        if begin is not None:
            self._begin = {
                "random": randomness.from_plain(begin["random"]),
                "sources": begin["sources"],
            }
            findings += sources.missing(self._loader, begin["sources"])
        elif not self.is_under_way:
            findings += sources.restore(self._loader, state["sources"])
        if self.is_under_way and self.epoch > 1 and is_iterable_dataset(self._loader):
            self.first_step = step
            findings.append(_LATER_READING)
        return findings

    def findings(self, args: Any) -> List[str]:
        """Why going back will not be exact, as far as it is known beforehand."""
        found = sources.findings(self._loader)
        if persistent_workers(self._loader):
            found.append(_PERSISTENT)
        if args.ignore_data_skip:
            found.append(_NOT_SKIPPED)
        collator = getattr(self._loader, "collate_fn", None)
        # The Trainer wraps it, to leave out columns that the model does not take.
        collator = getattr(collator, "data_collator", collator)
        if getattr(collator, "mlm", False):
            found.append(_MASKS)
        elif self._are_drawn:
            found.append(_DRAWS)
        return found

    @contextlib.contextmanager
    def read_again(self, back: int) -> Iterator[Iterator[Any]]:
        """The batches of the epoch under way (0), from its first; the one before (1) is not known.

        Generators and sources are afterwards as before. Raises `NotPossible` where there is none.
        """
        begin = None if back else self._begin
        if begin is None:
            raise NotPossible("How that epoch began is not known any more.")
        if persistent_workers(self._loader):
            raise NotPossible(_PERSISTENT)
        once = sources.findings(self._loader)
        if once:
            raise NotPossible(" ".join(once))
        here = sources.capture(self._loader)
        with randomness.preserved():
            randomness.restore(begin["random"])
            sources.restore(self._loader, begin["sources"])
            try:
                yield iter(self._loader)
            finally:
                sources.restore(self._loader, here)
