"""What other programs read."""

from enum import Enum


class Format(str, Enum):
    """A kind of file."""

    CSV = "csv"
    PARQUET = "parquet"
    JSONL = "jsonl"
    TENSORBOARD = "tensorboard"
