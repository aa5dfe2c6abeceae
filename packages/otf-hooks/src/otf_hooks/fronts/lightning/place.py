"""Where training is in its data, where Lightning reads it.

Lightning makes the iterator of the first epoch before any hook of a callback is called, and all
others as their epochs begin. How the first was made is worked out afterwards, and looked at: done
again from what is supposed, it must have drawn just what was drawn.
"""

from __future__ import annotations

import contextlib
import itertools
from typing import Any, Dict, Iterator, List, Optional, cast

import torch

from ... import randomness, sources
from ...errors import NotPossible
from ...loaders import (
    Loader,
    batch_indices,
    keeps_its_place,
    persistent_workers,
    sampled_indices,
)
from ...position import DataPosition, is_iterable_dataset

_NOT_REPEATABLE = (
    "Lightning began to read the first epoch before training began, and what was drawn for that "
    "cannot be looked at: going back into the first epoch may not be exact. A loader that knows its "
    "number of batches, and is named to attach_lightning as train_loader=, makes it so."
)


class Reading:
    """The loaders of one fit, read by Lightning's fetcher: to a `DataPosition`, one loader."""

    # Beside its attributes, in which sources are looked for.
    __slots__ = ("__dict__", "fetcher")

    def __init__(self, fetcher: Any, loaders: Optional[List[Loader]] = None) -> None:
        self.fetcher = fetcher
        loaders = list(fetcher.combined_loader.flattened) if loaders is None else loaders
        # Under names by which sources are looked for.
        self.datasets: List[Any] = loaders
        if len(loaders) == 1:
            self.dataset = getattr(loaders[0], "dataset", None)
        # Where the number of batches is not known, Lightning has read one batch ahead.
        known = fetcher is not None and fetcher.length is not None
        if known and all(keeps_its_place(loader) for loader in loaders):
            self.state_dict = self._state_dict
            self.load_state_dict = self._load_state_dict

    def __iter__(self) -> Iterator[Any]:
        return cast("Iterator[Any]", iter(self.fetcher))

    @property
    def num_workers(self) -> int:
        """The workers of the loader that has most."""
        return max(int(getattr(loader, "num_workers", 0)) for loader in self.datasets)

    @property
    def persistent_workers(self) -> bool:
        """Whether any loader's workers live from epoch to epoch."""
        return any(persistent_workers(loader) for loader in self.datasets)

    @property
    def loaders(self) -> List[Loader]:
        """The loaders, in the order in which a batch is put together from them."""
        return self.datasets

    @property
    def only_loader(self) -> Optional[Loader]:
        """The loader, where there is one only."""
        return self.datasets[0] if len(self.datasets) == 1 else None

    def _state_dict(self) -> Dict[str, Any]:
        return {str(n): one.state_dict() for n, one in enumerate(self.datasets)}

    def _load_state_dict(self, state: Dict[str, Any]) -> None:
        for number, loader in enumerate(self.datasets):
            loader.load_state_dict(state[str(number)])


class LightningPlace(DataPosition):
    """The place in the batches of a fit. Lightning's fetcher is at it, once `open` was called."""

    def __init__(self, reading: Reading) -> None:
        super().__init__(reading)
        self.reading = reading
        self._first_epoch = 1
        #: How the iterator of the first epoch was made, as it is supposed.
        self._made: Optional[Dict[str, Any]] = None
        self._repeatable = True
        self._is_read_from = False
        #: Where Lightning reads a batch ahead: the generators before it read the last one.
        self._ahead: Optional[Dict[str, Any]] = None

    def found(self, epoch: int, before: Dict[str, Any]) -> None:
        """The iterator for the next epoch, `epoch`, is there: work out how it was made.

        `before` holds the global generators as they were before Lightning read anything (`random`),
        and the `sources` of the loaders where those were known.
        """
        self._first_epoch = epoch
        here = sources.capture(self.reading)
        own = before["sources"]
        if own is None or own.keys() != here.keys():
            own = {path: _as_seeded(state) for path, state in here.items()}
        self._made = {"random": before["random"], "sources": own}
        late = all(_draws_late(loader) for loader in self.reading.loaders)
        self._repeatable = late or leads_here(self.reading, self._made)

    @property
    def reads_ahead(self) -> bool:
        """Whether a batch is read in this process before the step that it comes after."""
        return self.reading.fetcher.length is None and self.reading.num_workers == 0

    def about_to_read(self) -> None:
        """Note the generators, where the next batch but one is read with this one."""
        self._ahead = randomness.capture()

    def rebind(self, reading: Reading) -> None:
        """Lightning has loaded its data anew."""
        self.reading = self._loader = reading
        self._keeps_its_place = keeps_its_place(reading)

    def open_epoch(self, *, anew: bool) -> None:
        """Lightning has begun an epoch, with an iterator that it has made `anew` or had.

        In the first epoch it takes the one that it has, which may have been read from.
        """
        if anew and self.epoch == self._first_epoch:
            # Where Lightning was resumed, some versions give up the one that they had.
            self._made, self._repeatable = None, True
        elif not anew and self._is_read_from:
            self._make_first()
        self._is_read_from = True

    def open(self) -> bool:
        """Have Lightning's fetcher stand before the next batch; False where it does."""
        if self._resume_at is None:
            return False
        self._is_read_from = True
        self._batches = self._opened()
        return True

    def capture(self, step: int) -> Dict[str, Any]:
        """The place as plain values and tensors: in an epoch, or between two."""
        state = super().capture(step)
        state["first_epoch"] = self._first_epoch
        if self.reads_ahead and self._ahead is not None and state["batch"]:
            state["ahead"] = randomness.as_plain(self._ahead)
        if self._made is not None and self.epoch <= self._first_epoch:
            state["made"] = {
                "random": randomness.as_plain(self._made["random"]),
                "sources": self._made["sources"],
                "repeatable": self._repeatable,
            }
        return state

    def restore(self, state: Dict[str, Any]) -> List[str]:
        """Go back to where `capture` was called; what could not be restored, as sentences."""
        found = super().restore(state)
        self._ahead = randomness.from_plain(state["ahead"]) if "ahead" in state else None
        made = state.get("made")
        self._made = None
        if made is not None:
            self._first_epoch = state["first_epoch"]
            self._made = {**made, "random": randomness.from_plain(made["random"])}
            self._repeatable = made["repeatable"]
            if not self._repeatable and "loader" not in state:
                found.append(_NOT_REPEATABLE)
        self._is_read_from = True
        return found

    @contextlib.contextmanager
    def read_again(self, back: int) -> Iterator[Iterator[Any]]:
        """The batches of the newest epoch (0) or of the one before (1), from its first.

        Generators and sources are afterwards as before. Raises `NotPossible` where that epoch's
        beginning is not known, or where reading it would leave traces.
        """
        begin = (self._begin, self._begin_before)[back]
        loader, reasons = self.reading.only_loader, self.findings()
        if begin is None:
            raise NotPossible("How that epoch began is not known any more.")
        if loader is None or keeps_its_place(loader) or reasons:
            raise NotPossible(
                " ".join(reasons)
                or "This needs one train_loader, which does not keep its own place."
            )
        here = sources.capture(self.reading)
        with randomness.preserved():
            is_first = begin["epoch"] == self._first_epoch and self._made is not None
            made = self._made if is_first else begin
            assert made is not None
            try:
                randomness.restore(made["random"])
                sources.restore(self.reading, made["sources"])
                batches = iter(loader)
                if is_first and self._late:
                    # Made before training began, and read from when it did.
                    randomness.restore(begin["random"])
                    sources.restore(self.reading, begin["sources"])
                yield itertools.islice(batches, self.reading.fetcher.length)
            finally:
                sources.restore(self.reading, here)

    def findings(self) -> List[str]:
        """Why going back will not be exact, known beforehand; none where it will."""
        return super().findings() + ([] if self._repeatable else [_NOT_REPEATABLE])

    def close(self) -> None:
        """Training is over: the fetcher is Lightning's, and so is its end."""
        self._batches = None

    def _opened(self) -> Iterator[Any]:
        if self._place is not None or self.epoch != self._first_epoch or self._made is None:
            return super()._opened()
        skipped, self._resume_at = self._resume_at or 0, None
        here = randomness.capture()
        self._make_first()
        assert self._begin is not None
        randomness.restore(self._begin["random"])
        if self._late:
            sources.restore(self.reading, self._begin["sources"])
        batches = self.reading.fetcher
        self._skip(batches, skipped)
        randomness.restore(here)
        return cast("Iterator[Any]", batches)

    def _skip(self, batches: Iterator[Any], count: int) -> None:
        if self._ahead is None or not count:
            super()._skip(batches, count)
            return
        super()._skip(batches, count - 1)
        randomness.restore(self._ahead)
        super()._skip(batches, 1)

    @property
    def _late(self) -> bool:
        """Whether an iterator draws its order when it is read from, rather than when it is made."""
        return self.reading.num_workers == 0

    def _make_first(self) -> None:
        """Make the first epoch's iterator as Lightning did; generators are left as they are."""
        assert self._made is not None
        here = sources.capture(self.reading)
        with randomness.preserved():
            randomness.restore(self._made["random"])
            sources.restore(self.reading, self._made["sources"])
            iter(self.reading)
        sources.restore(self.reading, here)

    def _indices(self, begin: Dict[str, Any], number: int) -> List[int]:
        loader = self.reading.only_loader
        if loader is None:
            return []
        here = sources.capture(self.reading)
        with randomness.preserved():
            is_first = begin["epoch"] == self._first_epoch and self._made is not None
            made = self._made if is_first and not self._late else begin
            assert made is not None
            randomness.restore(made["random"])
            sources.restore(self.reading, made["sources"])
            try:
                # The seed for an iterator's workers had been drawn when the first epoch began.
                drawn = is_first and self._late
                return (sampled_indices if drawn else batch_indices)(loader, number)
            finally:
                sources.restore(self.reading, here)


def begin(loaders: Any) -> Dict[str, Any]:
    """The generators before Lightning reads anything; `loaders` where they are known already."""
    known = loaders is not None
    return {
        "random": randomness.capture(),
        "sources": sources.capture(Reading(None, flat(loaders))) if known else None,
    }


def flat(loaders: Any) -> List[Any]:
    """Loaders as a trainer takes them (one, or a list, tuple or dict of them) in their order."""
    if loaders is None:
        return []
    if isinstance(loaders, dict):
        loaders = list(loaders.values())
    if not isinstance(loaders, (list, tuple)):
        return [loaders]
    return [one for inner in loaders for one in flat(inner)]


def leads_here(reading: Reading, made: Dict[str, Any]) -> bool:
    """Whether drawing what iterators draw, from how they are supposed to be made, leads to now."""
    if not all(isinstance(loader, torch.utils.data.DataLoader) for loader in reading.loaders):
        return False
    if reading.fetcher.length is None and reading.num_workers == 0:
        # A batch was read ahead, which cannot be read again for the sake of looking.
        return False
    now, here = randomness.capture(), sources.capture(reading)
    try:
        randomness.restore(made["random"])
        sources.restore(reading, made["sources"])
        for loader in reading.loaders:
            _draw_as_iterator(cast("torch.utils.data.DataLoader[Any]", loader))
        is_so = _are_same(randomness.as_plain(randomness.capture()), randomness.as_plain(now))
        return is_so and _are_same(sources.capture(reading), here)
    finally:
        randomness.restore(now)
        sources.restore(reading, here)


def _draw_as_iterator(loader: torch.utils.data.DataLoader[Any]) -> None:
    """Draw what making the loader's iterator draws, without its workers."""
    if loader.num_workers == 0 or is_iterable_dataset(loader):
        # The seed for its workers, whether it has any or not.
        torch.empty((), dtype=torch.int64).random_(generator=loader.generator)
        return
    # Its workers are given their first batches.
    batch_indices(loader, loader.num_workers * (loader.prefetch_factor or 2))


def _draws_late(loader: Any) -> bool:
    """Whether making its iterator decides nothing: all is drawn when it is read from."""
    is_torchs = type(loader) is torch.utils.data.DataLoader
    return is_torchs and loader.num_workers == 0 and not is_iterable_dataset(loader)


def _as_seeded(state: Any) -> Any:
    """The state of a torch generator when it was seeded; anything else as it is."""
    if not (isinstance(state, dict) and state.keys() == {"torch"}):
        return state
    generator = torch.Generator()
    generator.set_state(state["torch"])
    return {"torch": torch.Generator().manual_seed(generator.initial_seed()).get_state()}


def _are_same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_are_same(one[k], other[k]) for k in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(_are_same, one, other))
    return bool(one == other)
