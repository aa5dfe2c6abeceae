"""Permutation alignment: hidden units in the order of another model's, before any merge."""

from .aligned import AlignedCheckpoint, in_order_of
from .aligning import align
from .choosing import aligned_checkpoints, spec_for
from .units import PermutationSpec

__all__ = [
    "AlignedCheckpoint",
    "PermutationSpec",
    "align",
    "aligned_checkpoints",
    "in_order_of",
    "spec_for",
]
