"""The names of a bundle's members: such that they mean the same file on every system.

A member lies at the top (`manifest.json`, `session.sqlite`) or in one of two folders, and nowhere
else. A name that would leave its folder, or that some system takes for another file or a device,
is refused before anything is written.
"""

import re
import unicodedata
from typing import Set

from ..home import DATABASE

MANIFEST = "manifest.json"
CHECKPOINTS = "checkpoints"
FINAL_MODELS = "final_models"
FOLDERS = (CHECKPOINTS, FINAL_MODELS)

_TOP = (MANIFEST, DATABASE)
_LONGEST = 200  # bytes; file systems allow 255
_FORBIDDEN = re.compile(r'[\x00-\x1f\x7f<>:"|?*\\/]')
_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE | re.DOTALL)


def problem(name: str) -> str:
    """Why a member may not have this name, as the end of a sentence; empty where it may."""
    if name in _TOP:
        return ""
    if name.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", name):
        return "is an absolute path"
    folder, slash, plain = name.partition("/")
    if ".." in re.split(r"[/\\]", name):
        return "would leave its folder"
    if not slash or folder not in FOLDERS:
        return f"lies neither at the top as {' or '.join(_TOP)} nor in {' or '.join(FOLDERS)}"
    return _plain_problem(plain)


def _plain_problem(plain: str) -> str:
    if not plain or _FORBIDDEN.search(plain):
        return "has a character that cannot be in a file's name on every system"
    if plain.startswith(".") or plain != plain.strip(" .") or _DEVICES.fullmatch(plain):
        return "is no plain file name"
    try:
        length = len(plain.encode())
    except UnicodeEncodeError:
        return "is no text"
    return "is too long" if length > _LONGEST else ""


def folded(name: str) -> str:
    """Equal for names that are one file where case or composition of letters do not count."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def free_name(folder: str, wanted: str, taken: Set[str]) -> str:
    """A member's name in `folder` like `wanted`, which is not in `taken`; it is added there.

    `taken` holds folded names.
    """
    plain = _FORBIDDEN.sub("_", wanted).strip(" .") or "_"
    plain = plain.encode("utf-8", "replace")[: _LONGEST - 16].decode("utf-8", "ignore")
    if _plain_problem(plain):
        plain = f"_{plain}".rstrip(" .")
    stem, dot, suffix = plain.rpartition(".")
    number, name = 1, f"{folder}/{plain}"
    while folded(name) in taken:
        number += 1
        name = f"{folder}/{stem}-{number}{dot}{suffix}" if dot else f"{folder}/{plain}-{number}"
    taken.add(folded(name))
    return name
