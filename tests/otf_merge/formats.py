"""Checkpoints as dicts of tensors, and dicts of tensors as what a merge hands to a writer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Callable

import torch
from otf_merge.checkpoints.checkpoint import Checkpoint, Contents, TensorSpec

_PIECE = 100


def state_of(checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    """All that a checkpoint holds, read in pieces."""
    state = {}
    for name, spec in checkpoint.specs.items():
        starts = range(0, max(spec.numel, 1), _PIECE)
        pieces = [checkpoint.read(name, it, min(it + _PIECE, spec.numel)) for it in starts]
        assert all(piece.dim() == 1 for piece in pieces)
        state[name] = torch.cat(pieces).reshape(spec.shape)
        assert state[name].dtype == spec.dtype
    return state


def stream_of(
    tensors: Mapping[str, torch.Tensor],
) -> Callable[[Sequence[str]], Iterator[tuple[str, torch.Tensor]]]:
    """The tensors as a merge streams them."""

    def stream(names: Sequence[str]) -> Iterator[tuple[str, torch.Tensor]]:
        for name in names:
            flat = tensors[name].detach().reshape(-1)
            for start in range(0, len(flat), _PIECE):
                yield name, flat[start : start + _PIECE]

    return stream


def contents_of(tensors: Mapping[str, torch.Tensor], **given: Any) -> Contents:
    """The tensors as what a writer is given."""
    specs = {name: TensorSpec(it.dtype, tuple(it.shape)) for name, it in tensors.items()}
    return Contents(specs, stream_of(tensors), {"method": "linear", "inputs": []}, **given)


def assert_same(found: Mapping[str, Any], expected: Mapping[str, torch.Tensor]) -> None:
    """The same names, dtypes, shapes and bytes."""
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype, name
        assert found[name].shape == tensor.shape, name
        assert _bytes(found[name]) == _bytes(tensor), name


def _bytes(tensor: torch.Tensor) -> bytes:
    flat = tensor.detach().resolve_conj().resolve_neg().contiguous().reshape(-1)
    return bytes(flat.view(torch.uint8).tolist()) if flat.dtype != torch.bool else bytes(flat)
