"""Which checkpoints a person takes along."""

from enum import Enum


class Checkpoints(str, Enum):
    """Which checkpoints of its runs a bundle has: of `latest`, the newest of each run."""

    ALL = "all"
    LATEST = "latest"
    PINNED = "pinned"
    NONE = "none"
