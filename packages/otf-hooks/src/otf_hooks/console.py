"""What the product says on the script's terminal: little, on stderr, and recognisably its own."""

from __future__ import annotations

import sys


def say(message: str) -> None:
    """Print a line for the person who started the script."""
    print(f"[onthefly] {message}", file=sys.stderr, flush=True)
