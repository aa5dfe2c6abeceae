"""What tests of the shell command have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable

import torch

Save = Callable[[str, Any], Path]
Cli = Callable[..., Any]
Refused = Callable[..., str]


def size_of(path: str) -> str:
    return f"{Path(path).stat().st_size / 1000:.3g} kB"


def merged(path: str) -> list[float]:
    return list(torch.load(path, weights_only=True)["w"].tolist())
