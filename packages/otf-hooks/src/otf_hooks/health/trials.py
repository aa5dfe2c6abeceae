"""Other ways to do the same step, to be timed: a batch twice as large, and pinned memory."""

from __future__ import annotations

from statistics import median
from typing import Any, Callable, List, Optional, Tuple

import torch

from ..batches import map_tensors, sample_count, tensors

_REPEATED = 5


def doubled(batch: Any) -> Optional[Any]:
    """The batch with every sample twice; None where not every tensor holds one entry per sample."""
    samples = sample_count(batch)
    found = list(tensors(batch))
    if not found or any(not each.ndim or each.shape[0] != samples for each in found):
        return None
    return map_tensors(batch, lambda tensor: torch.cat([tensor, tensor]))


def pinned(
    batch: Any,
    device: Optional[torch.device],
    clock: Callable[[], float],
    synchronize: Callable[[], None],
) -> Optional[Tuple[float, float]]:
    """Seconds to bring a batch to a CUDA device from pageable and from pinned memory."""
    if device is None or device.type != "cuda":
        return None
    pageable = map_tensors(batch, lambda tensor: tensor.cpu())
    locked = map_tensors(pageable, lambda tensor: tensor.pin_memory())

    def timed(given: Any) -> float:
        synchronize()
        began = clock()
        map_tensors(given, lambda tensor: tensor.to(device, non_blocking=True))
        synchronize()
        return clock() - began

    slow: List[float] = []
    fast: List[float] = []
    for _ in range(_REPEATED):
        slow.append(timed(pageable))
        fast.append(timed(locked))
    return median(slow), median(fast)
