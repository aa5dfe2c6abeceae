"""Adapters: low-rank and bottleneck ones, beside a base that they leave as it is."""

from .fused import load_fused

__all__ = ["load_fused"]
