"""Permutation alignment: hidden units in the order of another model's, before any merge."""

from .aligned import AlignedCheckpoint
from .aligning import align
from .choosing import aligned_checkpoints, spec_for
from .units import PermutationSpec

__all__ = ["AlignedCheckpoint", "PermutationSpec", "align", "aligned_checkpoints", "spec_for"]
