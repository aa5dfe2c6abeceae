"""Norms and shares of many tensors at once, left on their device: nothing here waits for it.

All of it is for use without gradients (`torch.no_grad`).
"""

from __future__ import annotations

from typing import Any, Iterable, List, Optional, Sequence

import torch

#: Types that are a tensor and nothing more. Any other may be a shard of one, whose norm the other
#: processes would have to be asked for.
_PLAIN = (torch.Tensor, torch.nn.Parameter)
_CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}
_HALF = (torch.float16, torch.bfloat16)


def are_plain(tensors: Iterable[torch.Tensor]) -> bool:
    """Whether these are dense tensors with numbers, on one kind of device, and there are any."""
    kinds = set()
    for tensor in tensors:
        if type(tensor) not in _PLAIN or tensor.layout is not torch.strided or tensor.is_meta:
            return False
        kinds.add(tensor.device.type)
    return len(kinds) == 1


def total_norm(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """The 2-norm of all tensors together, on the first one's device. See `are_plain`."""
    # torch's own works on lists of tensors, where it is there (since 2.6); it rounds halves to
    # halves, which lets the norm of large gradients overflow.
    of_list = getattr(torch.nn.utils, "get_total_norm", None)
    if of_list is not None and not any(tensor.dtype in _HALF for tensor in tensors):
        return torch.as_tensor(of_list(tensors))
    return together([_norm(tensor) for tensor in tensors])


def together(norms: Sequence[torch.Tensor]) -> torch.Tensor:
    """The 2-norm of tensors whose norms these are."""
    device = norms[0].device
    norm: torch.Tensor = _norm(torch.stack([n.to(device, non_blocking=True) for n in norms]))
    return norm


def gathered(tensors: Sequence[torch.Tensor], most: int) -> Optional[torch.Tensor]:
    """A copy of about `most` elements of all tensors, the same ones each time; all if they are few.

    None where the tensors are on several devices.
    """
    if len({tensor.device for tensor in tensors}) != 1:
        return None
    stride = -(-sum(tensor.numel() for tensor in tensors) // most)
    found = torch.cat([spread(tensor, stride) for tensor in tensors if tensor.numel()])
    return found.float() if found.dtype in _HALF else found


def spread(tensor: torch.Tensor, stride: int) -> torch.Tensor:
    """Every `stride`-th element (N), as a view where the tensor's memory has no gaps.

    The stride is made odd: an even one would often see the same few channels over and over.
    """
    stride = max(stride, 1) | 1 if stride > 1 else 1
    count = -(-tensor.numel() // stride)
    if _is_dense(tensor):
        return tensor.as_strided((count,), (stride,))
    return tensor.reshape(-1)[::stride]


def _is_dense(tensor: torch.Tensor) -> bool:
    """Whether the elements fill their stretch of memory, channels first or last."""
    last = _CHANNELS_LAST.get(tensor.ndim)
    return tensor.is_contiguous() or (last is not None and tensor.is_contiguous(memory_format=last))


def _norm(tensor: torch.Tensor) -> Any:
    dtype = torch.float32 if tensor.dtype in _HALF else None
    return torch.linalg.vector_norm(tensor, dtype=dtype)


def all_of(optimizer: torch.optim.Optimizer) -> List[torch.Tensor]:
    """The parameters that an optimizer holds."""
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]
