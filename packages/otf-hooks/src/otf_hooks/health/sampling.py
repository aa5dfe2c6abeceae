"""What is known of some batches: their classes, and the numbers of their inputs."""

from __future__ import annotations

from collections import Counter
from typing import Any, Callable, Iterator, List, Optional

import torch

from ..batches import part, sample_count, tensors
from ..errors import LoaderError
from ..loaders import Loader
from .drift import Moments


class Sample:
    """Classes and inputs of batches. `is_whole` says whether nothing was left out."""

    def __init__(self) -> None:
        self.samples = 0
        self.is_whole = False
        #: The classes of each batch, where targets are classes.
        self.batches: List[Counter[int]] = []
        self.has_classes = True
        self.has_bad_inputs = False
        self._sums = [0.0, 0.0, 0.0]

    @property
    def classes(self) -> Counter[int]:
        """How often each class is there; empty where targets are no classes."""
        found: Counter[int] = Counter()
        for batch in self.batches if self.has_classes else []:
            found.update(batch)
        return found

    @property
    def inputs(self) -> Optional[Moments]:
        """The numbers of all inputs together, counted as samples; None where there are none."""
        count, summed, squares = self._sums
        if not count:
            return None
        mean = summed / count
        # Neighbouring numbers of an input are alike, so that only samples count as independent.
        return Moments(self.samples, mean, max(0.0, squares / count - mean * mean) ** 0.5)

    def add(self, batch: Any) -> None:
        """Take a batch along."""
        self.samples += sample_count(batch)
        classes = classes_of(batch)
        self.has_classes = self.has_classes and classes is not None
        if classes is not None:
            self.batches.append(Counter(classes))
        for tensor in inputs_of(batch):
            values = tensor.detach().double()
            found = torch.stack([values.sum(), values.square().sum()]).tolist()
            self.has_bad_inputs |= not bool(values.isfinite().all())
            self._sums = [
                self._sums[0] + values.numel(),
                self._sums[1] + found[0],
                self._sums[2] + found[1],
            ]


def classes_of(batch: Any) -> Optional[List[int]]:
    """The class of each sample; None where the target is no class index."""
    try:
        target = part(batch).target
    except LoaderError:
        return None
    if not isinstance(target, torch.Tensor) or target.is_floating_point() or target.is_complex():
        return None
    if target.ndim == 2 and target.shape[1] == 1:  # noqa: PLR2004 - one class per row
        target = target[:, 0]
    return [int(each) for each in target.tolist()] if target.ndim == 1 else None


def inputs_of(batch: Any) -> List[torch.Tensor]:
    """The inputs that are numbers: floating point, or bytes as images are."""
    try:
        parts = part(batch)
        given: Any = [*parts.args, *parts.kwargs.values()]
    except LoaderError:
        given = batch
    found = [each for each in tensors(given) if each.numel()]
    return [each for each in found if each.is_floating_point() or each.dtype is torch.uint8]


class Reading:
    """How much is read at most: so many batches, or for so long once there are a few.

    `step` is called before each batch; `clock` measures in seconds.
    """

    def __init__(
        self, step: Callable[[int, int], None], clock: Callable[[], float], most: int = 50
    ) -> None:
        self.most = most
        self._step = step
        self._clock = clock
        self._began = clock()

    def goes_on(self, number: int) -> bool:
        """Whether the batch of this number is to be read."""
        self._step(number, self.most)
        has_time = number < _FEWEST or self._clock() - self._began < _LONG_ENOUGH
        return number < self.most and has_time


#: Batches that are read however long they take, and seconds after which no more are.
_FEWEST, _LONG_ENOUGH = 5, 20.0


def read(batches: Iterator[Any], reading: Reading) -> Sample:
    """A sample of the first batches."""
    sample = Sample()
    number = 0
    while reading.goes_on(number):
        batch = next(batches, None)
        if batch is None:
            sample.is_whole = True
            break
        sample.add(batch)
        number += 1
    return sample


def spread_over(loader: Loader, reading: Reading) -> Sample:
    """A sample of batches that are each spread evenly over the dataset, where it has indices.

    The samples are taken and collated in this process. Whoever calls this keeps the generators.
    """
    dataset: Any = getattr(loader, "dataset", None)
    collate = getattr(loader, "collate_fn", None)
    size = getattr(loader, "batch_size", None)
    has_indices = hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__")
    is_iterable = isinstance(dataset, torch.utils.data.IterableDataset)
    if is_iterable or not (has_indices and callable(collate) and size):
        return read(iter(loader), reading)
    total = len(dataset)
    wanted = min(total, reading.most * size)
    indices = [place * total // wanted for place in range(wanted)]
    count = -(-wanted // size)
    batches = (collate([dataset[i] for i in indices[number::count]]) for number in range(count))
    sample = read(batches, reading)
    # Evenly spread, a part of it stands for all.
    sample.is_whole = True
    return sample
