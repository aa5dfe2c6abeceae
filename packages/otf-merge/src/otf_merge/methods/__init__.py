"""The merge methods that come with the package, one a file."""

from .linear import linear
from .swa import swa

BUILT_IN = (linear, swa)
