"""Gram matrices of what goes into linear layers: from a file, from data, or from a checkpoint."""

from .gathering import GramGatherer
from .layers import KEY, Grams, LayerGram
from .sources import GramSources, gram_sources

__all__ = ["KEY", "GramGatherer", "GramSources", "Grams", "LayerGram", "gram_sources"]
