"""The name that a person gives a session, beside its id, which stays.

It lies in a small file next to the record and not in it: the record is its trainer's alone to write,
and a session may be named at any time, also while it is being trained.
"""

import contextlib
import os
import secrets
from pathlib import Path

from .errors import InvalidName

#: One line of UTF-8.
FILE = "name.txt"

LONGEST = 100

# A file of ours has no more, in bytes.
_MOST = 4 * LONGEST + 2


def check(name: str) -> str:
    """The name; raise `InvalidName` where a session cannot have it."""
    if not name.strip():
        raise InvalidName("A session's name has at least one letter. To take it away, use --clear.")
    if name != name.strip():
        raise InvalidName(f"The name {name!r} begins or ends with a space. Leave that out.")
    if not name.isprintable():
        raise InvalidName(
            f"The name {name!r} has characters that cannot be shown, such as a line break. "
            "Leave them out."
        )
    if len(name) > LONGEST:
        raise InvalidName(
            f"The name has {len(name)} characters, and may have {LONGEST}. Choose a shorter one."
        )
    if name == "latest":
        raise InvalidName("'latest' is the newest session, whichever that is. Choose another name.")
    return name


def read(folder: Path) -> str:
    """The name of the session in a folder; empty where it has none, or none that could be."""
    try:
        with (folder / FILE).open("rb") as file:
            name = file.read(_MOST).decode().rstrip("\r\n")
        return check(name)
    except (OSError, UnicodeDecodeError, InvalidName):
        return ""


def write(folder: Path, name: str) -> None:
    """Name the session in a folder.

    Raises `InvalidName` where it cannot have the name, or where that cannot be written; then it has
    the one it had.
    """
    text = f"{check(name)}\n".encode()
    draft = folder / f".{FILE}.{secrets.token_hex(4)}"
    try:
        with draft.open("xb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(folder / FILE)
    except OSError as error:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise _unchanged(folder, error) from error


def clear(folder: Path) -> None:
    """Take a session's name away, where it has one; `InvalidName` where that fails."""
    try:
        (folder / FILE).unlink()
    except FileNotFoundError:
        pass
    except OSError as error:
        raise _unchanged(folder, error) from error


def _unchanged(folder: Path, error: OSError) -> InvalidName:
    return InvalidName(
        f"The name of the session in {folder} cannot be changed: {error.strerror or error}. "
        "It is as it was."
    )
