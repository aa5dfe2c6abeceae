"""Adapters: low-rank and bottleneck ones, beside a base that they leave as it is."""
