"""What can be asked of any loader of batches."""

from __future__ import annotations

import itertools
import operator
from typing import Any, Iterable, List, Optional

import torch

Loader = Iterable[Any]


def keeps_its_place(loader: Loader) -> bool:
    """Whether the loader can say and take up its own place, like a StatefulDataLoader."""
    names = ("state_dict", "load_state_dict")
    # Accelerate's has both always, and can do neither where the one inside cannot.
    inside = getattr(loader, "base_dataloader", loader)
    return all(callable(getattr(one, name, None)) for one in (loader, inside) for name in names)


def persistent_workers(loader: Loader) -> bool:
    """Whether the loader's workers live from epoch to epoch."""
    return bool(getattr(loader, "num_workers", 0) and getattr(loader, "persistent_workers", False))


def set_epoch(loader: Loader, epoch: int) -> None:
    """Tell the sampler which epoch begins, from 0, as `DistributedSampler` has to be told."""
    batch_sampler = getattr(loader, "batch_sampler", None)
    for sampler in (getattr(loader, "sampler", None), batch_sampler, _sampler_of(batch_sampler)):
        tell = getattr(sampler, "set_epoch", None)
        if callable(tell):
            tell(epoch)


def _sampler_of(batch_sampler: Any) -> Any:
    return getattr(batch_sampler, "sampler", None)


def sample_total(loader: Loader) -> Optional[int]:
    """The samples of the loader's dataset, where it has indices and knows."""
    try:
        return len(loader.dataset)  # type: ignore[attr-defined]
    except (AttributeError, TypeError, NotImplementedError):
        return None


def batch_indices(loader: Loader, number: int) -> List[int]:
    """The dataset indices of the `number`-th batch (from 1), asking the sampler anew.

    For a dataset without indices, the positions of the batch's samples; none where the loader has
    no batch size, or its sampler yields keys of another kind. What making the loader's iterator
    draws is drawn before.
    """
    if isinstance(loader, torch.utils.data.DataLoader) and not isinstance(
        loader.dataset, torch.utils.data.IterableDataset
    ):
        # The seed that the loader's iterator draws for its workers before it asks the sampler.
        torch.empty((), dtype=torch.int64).random_(generator=loader.generator)
    return sampled_indices(loader, number)


def sampled_indices(loader: Loader, number: int) -> List[int]:
    """As `batch_indices`, where the iterator's own draw has been made."""
    if not isinstance(loader, torch.utils.data.DataLoader):
        return []
    if isinstance(loader.dataset, torch.utils.data.IterableDataset):
        size = loader.batch_size
        return [] if size is None else list(range((number - 1) * size, number * size))
    sampler = loader.sampler if loader.batch_sampler is None else loader.batch_sampler
    batch: Any = next(itertools.islice(iter(sampler), number - 1, None), None)
    if isinstance(batch, torch.Tensor):
        batch = batch.tolist()
    try:
        return [operator.index(i) for i in (batch if isinstance(batch, (list, tuple)) else [batch])]
    except TypeError:
        # No batch, or keys that are no indices: a name, an index and how it is augmented.
        return []
