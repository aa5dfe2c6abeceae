"""What can be asked of any loader of batches."""

from __future__ import annotations

import itertools
import operator
from typing import Any, Iterable, List, Optional

import torch

Loader = Iterable[Any]


def keeps_its_place(loader: Loader) -> bool:
    """Whether the loader can say and take up its own place, like a StatefulDataLoader."""
    return all(callable(getattr(loader, name, None)) for name in ("state_dict", "load_state_dict"))


def persistent_workers(loader: Loader) -> bool:
    """Whether the loader's workers live from epoch to epoch."""
    return bool(getattr(loader, "num_workers", 0) and getattr(loader, "persistent_workers", False))


def sample_total(loader: Loader) -> Optional[int]:
    """The samples of the loader's dataset, where it has indices and knows."""
    try:
        return len(loader.dataset)  # type: ignore[attr-defined]
    except (AttributeError, TypeError, NotImplementedError):
        return None


def batch_indices(loader: Loader, number: int) -> List[int]:
    """The dataset indices of the `number`-th batch (from 1), asking the sampler anew.

    For a dataset without indices, the positions of the batch's samples; none where the loader has
    no batch size, or its sampler yields keys of another kind. Making an iterator draws what the loader's own would have drawn before.
    """
    if not isinstance(loader, torch.utils.data.DataLoader):
        return []
    if isinstance(loader.dataset, torch.utils.data.IterableDataset):
        size = loader.batch_size
        return [] if size is None else list(range((number - 1) * size, number * size))
    # The seed that the loader's iterator draws for its workers before it asks the sampler.
    torch.empty((), dtype=torch.int64).random_(generator=loader.generator)
    sampler = loader.sampler if loader.batch_sampler is None else loader.batch_sampler
    batch: Any = next(itertools.islice(iter(sampler), number - 1, None), None)
    if isinstance(batch, torch.Tensor):
        batch = batch.tolist()
    try:
        return [operator.index(i) for i in (batch if isinstance(batch, (list, tuple)) else [batch])]
    except TypeError:
        # No batch, or keys that are no indices: a name, an index and how it is augmented.
        return []
