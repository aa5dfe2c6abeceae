"""Where training is in its data, so exactly that it can be gone back to.

A loader's order is decided when an epoch begins: by the generators it draws from (torch's global
one, or its own) and by what its sampler and dataset remember. All of that is written down at the
beginning of each epoch. To come back to batch n, it is put back, the loader is started again, and
n batches are read without being trained on: whatever the sampler, the dataset and the workers drew
on the way, they draw again. A loader that keeps its own place (`state_dict` and `load_state_dict`,
like torchdata's StatefulDataLoader) is asked for it instead.
"""

from __future__ import annotations

import contextlib
from typing import Any, Dict, Iterator, List, Optional

import torch

from . import randomness, sources
from .errors import CheckpointError, NotPossible
from .loaders import Loader, batch_indices, keeps_its_place, persistent_workers, sample_total


class DataPosition:
    """The training loader's place: which epoch, which of its steps, and how that epoch began."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader
        self._keeps_its_place = keeps_its_place(loader)
        #: The epoch under way, from 1; 0 before the first.
        self.epoch = 0
        #: The steps that were done before this epoch.
        self.first_step = 0
        self._begin: Optional[Dict[str, Any]] = None
        self._begin_before: Optional[Dict[str, Any]] = None
        self._resume_at: Optional[int] = None
        self._place: Any = None
        self._batches: Optional[Iterator[Any]] = None
        #: Whether an epoch has begun whose batches are not at their end.
        self.is_under_way = False

    # Going through an epoch

    def begin_epoch(self, epoch: int, step: int) -> None:
        """Begin an epoch; its batches are drawn anew."""
        self._begin_before = self._begin
        self.epoch, self.first_step = epoch, step
        self._begin = self._written(epoch, step)
        self._batches, self._resume_at, self._place = None, None, None
        self.is_under_way = True

    def batches(self) -> Iterator[Any]:
        """The batches of this epoch that are still to come."""
        if self._batches is None:
            self._batches = self._opened()
        return self._batches

    def end_epoch(self) -> None:
        """The loader is at its end: let its iterator and workers go."""
        self._batches = None
        self.is_under_way = False

    def close(self) -> None:
        """Training is over: let the loader's iterator go, wherever it is."""
        self._batches = None

    def put_back(self, batches: List[Any], iterator: Iterator[Any]) -> None:
        """Have these batches come again before the rest; each with the randomness it left."""
        self._batches = _replayed(batches, iterator)
        self._resume_at, self._place = None, None

    @contextlib.contextmanager
    def remembering(self) -> Iterator[None]:
        """Go back to this very place inside: how the newest two epochs began stays known."""
        begun = self._begin, self._begin_before
        try:
            yield
        finally:
            self._begin, self._begin_before = begun

    # Writing down and going back

    def capture(self, step: int) -> Dict[str, Any]:
        """The place as plain values and tensors: in an epoch, or between two."""
        under_way = self.is_under_way
        state: Dict[str, Any] = {
            "epoch": self.epoch,
            "first_step": self.first_step,
            "under_way": under_way,
            "batch": step - self.first_step,
            "samples": sample_total(self._loader),
        }
        if under_way and self._place is not None:
            # Where it is to be; the loader itself is put there when its batches are asked for.
            state["loader"] = self._place
        elif under_way and self._keeps_its_place:
            state["loader"] = self._loader.state_dict()  # type: ignore[attr-defined]
        elif under_way:
            assert self._begin is not None
            state["begin"] = {
                "random": randomness.as_plain(self._begin["random"]),
                "sources": self._begin["sources"],
            }
        else:
            state["sources"] = sources.capture(self._loader)
        return state

    def restore(self, state: Dict[str, Any]) -> List[str]:
        """Go back to where `capture` was called; what could not be restored, as sentences.

        The batches are read again only when they are asked for.
        """
        self.epoch, self.first_step = int(state["epoch"]), int(state["first_step"])
        self._batches, self._begin_before = None, None
        self._resume_at, self._place = None, None
        self.is_under_way = bool(state["under_way"])
        findings = other_data(self._loader, state.get("samples"))
        if not self.is_under_way:
            self._begin = None
            return [*findings, *sources.restore(self._loader, state["sources"])]
        self._resume_at = int(state["batch"])
        if "loader" in state:
            self._place = state["loader"]
            self._begin = None
            return findings
        begin = state["begin"]
        self._begin = {
            "epoch": self.epoch,
            "step": self.first_step,
            "random": randomness.from_plain(begin["random"]),
            "sources": begin["sources"],
        }
        return [*findings, *sources.missing(self._loader, begin["sources"])]

    def indices(self, step: int) -> List[int]:
        """The dataset indices of the batch that `step` was trained on; none where unknown.

        The sampler is asked again, from how the epoch began; generators are afterwards as before.
        """
        for begin in (self._begin, self._begin_before):
            if begin is not None and step > begin["step"]:
                return self._indices(begin, step - begin["step"])
        return []

    @contextlib.contextmanager
    def read_again(self, back: int) -> Iterator[Iterator[Any]]:
        """The batches of the newest epoch (0) or of the one before (1), from its first.

        Generators and sources are afterwards as before. Raises `NotPossible` where that epoch's
        beginning is not known, or where reading it would leave traces.
        """
        begin = (self._begin, self._begin_before)[back]
        if begin is None:
            raise NotPossible("How that epoch began is not known any more.")
        reasons = self.findings()
        if self._keeps_its_place or reasons:
            raise NotPossible(
                " ".join(reasons) or "train_loader keeps its own place, which a second pass moves."
            )
        here = sources.capture(self._loader)
        with randomness.preserved():
            randomness.restore(begin["random"])
            sources.restore(self._loader, begin["sources"])
            try:
                yield iter(self._loader)
            finally:
                sources.restore(self._loader, here)

    def findings(self) -> List[str]:
        """Why going back in this loader will not be exact, known beforehand; none where it will."""
        found = sources.findings(self._loader)
        if persistent_workers(self._loader) and not self._keeps_its_place:
            found.append(
                "train_loader has persistent_workers=True: its workers carry their random state "
                "from epoch to epoch, where it cannot be read. If the dataset draws at random, "
                "going back is exact only within the first epoch; persistent_workers=False is."
            )
        return found

    def _indices(self, begin: Dict[str, Any], number: int) -> List[int]:
        here = sources.capture(self._loader)
        with randomness.preserved():
            randomness.restore(begin["random"])
            sources.restore(self._loader, begin["sources"])
            try:
                return batch_indices(self._loader, number)
            finally:
                sources.restore(self._loader, here)

    @contextlib.contextmanager
    def undisturbed(self) -> Iterator[None]:
        """Draw what you like inside: all generators are afterwards as they were."""
        with randomness.preserved(), sources.preserved(self._loader):
            yield

    def _written(self, epoch: int, step: int) -> Dict[str, Any]:
        return {
            "epoch": epoch,
            "step": step,
            "random": randomness.capture(),
            "sources": sources.capture(self._loader),
        }

    def _opened(self) -> Iterator[Any]:
        place, self._place = self._place, None
        skipped, self._resume_at = self._resume_at, None
        if skipped is None:
            return iter(self._loader)
        here = randomness.capture()
        if place is not None:
            self._loader.load_state_dict(place)  # type: ignore[attr-defined]
            batches = iter(self._loader)
        else:
            assert self._begin is not None
            randomness.restore(self._begin["random"])
            sources.restore(self._loader, self._begin["sources"])
            batches = iter(self._loader)
            self._skip(batches, skipped)
        if skipped:
            # Where nothing was read yet, what making the iterator drew was still to come.
            randomness.restore(here)
        return batches

    def _skip(self, batches: Iterator[Any], count: int) -> None:
        for number in range(count):
            try:
                next(batches)
            except StopIteration:
                raise CheckpointError(
                    f"The checkpoint was made after {count} batches of an epoch, and train_loader "
                    f"yields {number} now. Resume with the data and the loader it was made with."
                ) from None


def other_data(loader: Loader, before: Optional[int]) -> List[str]:
    """That the dataset has another number of samples than when a checkpoint was made, if so."""
    now = sample_total(loader)
    if before is None or now is None or before == now:
        return []
    finding = (
        f"The dataset had {before} samples when the checkpoint was made, and has {now} now: "
        "the order of its batches is another."
    )
    return [finding]


def _replayed(held: List[Any], rest: Iterator[Any]) -> Iterator[Any]:
    for batch, random in held:
        randomness.restore(random)
        yield batch
    yield from rest


def steps_per_epoch(loader: Loader) -> Optional[int]:
    """The batches of an epoch, where the loader knows."""
    try:
        return len(loader)  # type: ignore[arg-type]
    except (TypeError, NotImplementedError, RuntimeError):
        return None


def is_iterable_dataset(loader: Loader) -> bool:
    """Whether the loader's dataset is only iterated over, and has no indices."""
    return isinstance(getattr(loader, "dataset", None), torch.utils.data.IterableDataset)
