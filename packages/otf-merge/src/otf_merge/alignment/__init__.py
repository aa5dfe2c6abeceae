"""Permutation alignment: hidden units in the order of another model's, before any merge."""

from .aligned import AlignedCheckpoint
from .aligning import align
from .choosing import spec_for
from .units import PermutationSpec

__all__ = ["AlignedCheckpoint", "PermutationSpec", "align", "spec_for"]
