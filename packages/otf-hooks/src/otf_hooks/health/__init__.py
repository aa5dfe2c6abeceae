"""Checks of a run's health: one a file, made on the training thread, leaving no trace in training.

A check is a function of an `Examination`, to whose `notes` it adds what it finds.
"""

from __future__ import annotations

from typing import Callable, Dict

from . import activations, determinism, distribution, numerics, throughput
from .examination import BrokenOff, Examination

#: Each check by its name, as in `otf_session.health.CHECKS`.
CHECKS: Dict[str, Callable[[Examination], None]] = {
    "numerics": numerics.check,
    "activations": activations.check,
    "distribution": distribution.check,
    "determinism": determinism.check,
    "throughput": throughput.check,
}

__all__ = ["CHECKS", "BrokenOff", "Examination"]
