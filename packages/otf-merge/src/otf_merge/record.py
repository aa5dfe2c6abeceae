"""What a merged file says about how it was made."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from . import package_version

if TYPE_CHECKING:
    from pathlib import Path

    from .engine import Merge

_CHUNK = 1 << 20


def record_of(merge: Merge) -> dict[str, Any]:
    """The merge's inputs, method and parameters, in plain values.

    Files are told by name and hash, not by path, so that sharing a merged file tells nothing of
    the machine it was made on.
    """
    return {
        "version": package_version(),
        "method": merge.method.name,
        "parameters": merge.parameters,
        "inputs": [
            {"file": checkpoint.path.name, "sha256": _sha256(checkpoint.path)}
            for checkpoint in merge.checkpoints
        ],
    }


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
