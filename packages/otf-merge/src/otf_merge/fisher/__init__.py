"""The diagonal of the Fisher information: from a file, from data, or from an optimizer's state."""

from .diagonal import Diagonal, Part
from .exact import ExactFisher, exact_fisher
from .moments import second_moments
from .sources import FisherSources, fisher_sources

__all__ = [
    "Diagonal",
    "ExactFisher",
    "FisherSources",
    "Part",
    "exact_fisher",
    "fisher_sources",
    "second_moments",
]
