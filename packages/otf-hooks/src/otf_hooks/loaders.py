"""What can be asked of any loader of batches."""

from __future__ import annotations

import itertools
from typing import Any, Iterable, List

import torch

Loader = Iterable[Any]


def keeps_its_place(loader: Loader) -> bool:
    """Whether the loader can say and take up its own place, like a StatefulDataLoader."""
    return all(callable(getattr(loader, name, None)) for name in ("state_dict", "load_state_dict"))


def persistent_workers(loader: Loader) -> bool:
    """Whether the loader's workers live from epoch to epoch."""
    return bool(getattr(loader, "num_workers", 0) and getattr(loader, "persistent_workers", False))


def batch_indices(loader: Loader, number: int) -> List[int]:
    """The dataset indices of the `number`-th batch (from 1), asking the sampler anew.

    For a dataset without indices, the positions of the batch's samples; none where the loader has
    no batch size. Making an iterator draws what the loader's own would have drawn before.
    """
    if not isinstance(loader, torch.utils.data.DataLoader):
        return []
    if isinstance(loader.dataset, torch.utils.data.IterableDataset):
        size = loader.batch_size
        return [] if size is None else list(range((number - 1) * size, number * size))
    # The seed that the loader's iterator draws for its workers before it asks the sampler.
    torch.empty((), dtype=torch.int64).random_(generator=loader.generator)
    sampler = loader.sampler if loader.batch_sampler is None else loader.batch_sampler
    batch = next(itertools.islice(iter(sampler), number - 1, None), None)
    if batch is None:
        return []
    return [int(index) for index in (batch if isinstance(batch, (list, tuple)) else [batch])]
