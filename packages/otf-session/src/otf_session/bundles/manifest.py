"""The manifest: what a bundle holds, said in a file that anybody can read."""

from typing import Any, Dict, List

import msgspec

from ..errors import BundleRefused, BundleTooNew

#: Raised when an older version could misread a bundle. Added fields with defaults do not raise it.
FORMAT = 1

#: The most that a manifest may have, in bytes.
LARGEST = 64 << 20


class _Entry(msgspec.Struct, frozen=True, kw_only=True):
    """The base of what a manifest consists of."""


class SessionEntry(_Entry, frozen=True, kw_only=True):
    """The session in the bundle, as it was when its newest event was `last_seq`.

    `name` is what a person calls it; empty where it has only its id.
    """

    id: str
    project: str
    created: float
    last_seq: int
    schema: int
    name: str = ""


class RunEntry(_Entry, frozen=True, kw_only=True):
    """A run in the bundle. `chosen` is false where it is there because a chosen one grew from it."""

    name: str
    parents: List[str]
    state: str
    step: int
    epoch: int
    chosen: bool = True


class Member(_Entry, frozen=True, kw_only=True):
    """A file in the bundle; `size` is in bytes.

    Of what lies in `checkpoints/` and `final_models/` it says which checkpoint it is, or was made
    from.
    """

    name: str
    size: int
    sha256: str
    checkpoint: str = ""
    run: str = ""
    step: int = 0
    label: str = ""


class LeftOut(_Entry, frozen=True, kw_only=True):
    """A checkpoint of the session that is not in the bundle, and why."""

    checkpoint: str
    reason: str


class Manifest(_Entry, frozen=True, kw_only=True):
    """Everything about a bundle. `created` is seconds since the Unix epoch.

    `runs` with their parents are the lineage; `left_out_runs` are in the session and not here.
    `interventions` are the commands that were applied, as `command-changed` events; `versions`
    those of what made the bundle, and of what trained.
    """

    format: int
    created: float
    session: SessionEntry
    runs: List[RunEntry]
    members: List[Member]
    left_out_runs: List[str] = []
    left_out: List[LeftOut] = []
    versions: Dict[str, str] = {}
    # Not typed as commands: a newer version may know more of them, and nobody executes these.
    interventions: List[Any] = []


class _Version(msgspec.Struct):
    format: int


def encode(manifest: Manifest) -> bytes:
    """The manifest as JSON, indented for people."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n"


def decode(data: bytes) -> Manifest:
    """The manifest in these bytes; `BundleRefused` where it is none, `BundleTooNew` where newer."""
    try:
        found = msgspec.json.decode(data, type=_Version).format
        if found > FORMAT:
            raise BundleTooNew(
                f"The bundle has the format {found}, and this version of OnTheFly reads formats up "
                f"to {FORMAT}. Upgrade it: pip install --upgrade onthefly-ai"
            )
        return msgspec.json.decode(data, type=Manifest)
    # A UnicodeDecodeError is a ValueError, and nesting without end a RecursionError.
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise BundleRefused(f"Its manifest.json is none: {error}.") from error
