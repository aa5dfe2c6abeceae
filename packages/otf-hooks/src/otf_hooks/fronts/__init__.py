"""Fronts: who drives the batches. Each drives the same engine."""
