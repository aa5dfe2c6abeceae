"""Where an imported session came from: the manifest of its bundle, kept beside its record."""

from pathlib import Path
from typing import Optional

import msgspec

from .manifest import Manifest

_FILE = "imported.json"


class Provenance(msgspec.Struct, frozen=True, kw_only=True):
    """The bundle that a session was imported from. `time` is seconds since the Unix epoch."""

    time: float
    bundle: str
    manifest: Manifest


def write(folder: Path, found: Provenance) -> None:
    """Keep it in the session's folder."""
    text = msgspec.json.format(msgspec.json.encode(found), indent=1)
    (folder / _FILE).write_bytes(text + b"\n")


def read(folder: Path) -> Optional[Provenance]:
    """Where the session came from; None where it was trained here, or it cannot be read."""
    try:
        return msgspec.json.decode((folder / _FILE).read_bytes(), type=Provenance)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return None
