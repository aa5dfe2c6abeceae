"""A bundle opened for reading: every rule about its members is checked before one is read.

Python's zipfile reads the file. What it leaves to its caller is here: which names may be, that
nothing is there twice or overlaps, that no member is a link or encrypted, that sizes are those in
the manifest, and that what unfolds beyond reason is a bomb.
"""

import contextlib
import hashlib
import stat
import zipfile
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Dict, Iterator, Optional, Type

from ..errors import BundleRefused
from ..home import DATABASE
from . import manifest, names
from .careful import ZIP_FAULTS, careful
from .work import BLOCK, Work

#: How many times its compressed size a member may have, where it is larger than `_SMALL`. What is
#: compressed in our own bundles, the record, has times in it that differ from step to step.
_RATIO = 200
_SMALL = 64 << 20

#: The bytes before a member's name and its data.
_HEADER = 30
#: What other tools add when they pack a folder; it holds nothing.
_FOLDERS = tuple(f"{folder}/" for folder in names.FOLDERS)

_ENCRYPTED = 0x1 | 0x40 | 0x2000
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


class Archive:
    """A bundle for as long as the `with` lasts.

    Raises `BundleRefused` and `BundleTooNew`; `OSError` where the file cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.manifest: manifest.Manifest
        self._file: BinaryIO
        self._zip: zipfile.ZipFile
        self._infos: Dict[str, zipfile.ZipInfo] = {}

    def __enter__(self) -> "Archive":
        self._file = self.path.open("rb")
        try:
            with self._refusing():
                self._zip = zipfile.ZipFile(careful(self._file))
                self._infos = _checked(self._zip)
                self.manifest = manifest.decode(self._manifest_text())
            _compare(self.manifest, self._infos)
        except BaseException:
            self._file.close()
            raise
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self._zip.close()
        self._file.close()

    @property
    def size(self) -> int:
        """The bytes of all members, unfolded."""
        return sum(member.size for member in self.manifest.members)

    def copy(self, member: manifest.Member, target: BinaryIO, work: Work) -> None:
        """Write a member into a file; `BundleRefused` where it is not what the manifest says."""
        digest, left = hashlib.sha256(), member.size
        for block in self._blocks(self._infos[member.name]):
            left -= len(block)
            digest.update(block)
            target.write(block)
            work.did(len(block))
        if left or digest.hexdigest() != member.sha256:
            raise BundleRefused(
                f"Its {member.name} is not what the manifest says: the SHA-256 differs."
            )

    def _blocks(self, info: zipfile.ZipInfo) -> Iterator[bytes]:
        with self._refusing(info.filename), self._zip.open(info) as source:
            while True:
                block = source.read(BLOCK)
                if not block:
                    return
                yield block

    def _manifest_text(self) -> bytes:
        info = self._infos.get(names.MANIFEST)
        if info is None:
            raise BundleRefused("It has no manifest.json, so it is no bundle of a session.")
        if info.file_size > manifest.LARGEST:
            raise BundleRefused("Its manifest.json is larger than any that was ever made.")
        return b"".join(self._blocks(info))

    @contextlib.contextmanager
    def _refusing(self, member: str = "") -> Iterator[None]:
        """Say of whatever zipfile stumbles over that the bundle is damaged."""
        try:
            yield
        except ZIP_FAULTS as error:
            where = f"Its {member}" if member else "The file"
            raise BundleRefused(
                f"{where} cannot be read: {error or type(error).__name__}. It is no bundle, or was "
                "cut short or changed on its way; copy it again."
            ) from error


def _checked(archive: zipfile.ZipFile) -> Dict[str, zipfile.ZipInfo]:
    """The members by name, each of which may be read."""
    infos: Dict[str, zipfile.ZipInfo] = {}
    seen: Dict[str, str] = {}
    end = 0
    ordered = sorted(archive.infolist(), key=lambda info: info.header_offset)
    if ordered and ordered[0].header_offset:
        # A checkpoint is a zip file itself: where the bundle's end is missing, its end is found.
        raise BundleRefused(
            "It does not begin with its first member: it was cut short or changed on its way; copy "
            "it again."
        )
    for info in ordered:
        name = info.filename
        twin = seen.setdefault(names.folded(name), name)
        problem = _problem(info)
        if not problem and name in infos:
            problem = "is there twice"
        elif not problem and twin != name:
            problem = f"is the same file as '{twin}' on many systems"
        elif not problem and info.header_offset < end:
            problem = "overlaps another one"
        if problem:
            raise BundleRefused(f"Its member '{name[:200]}' {problem}.")
        end = info.header_offset + _HEADER + len(name) + info.compress_size
        infos[name] = info
    if end > archive.start_dir:
        raise BundleRefused("Its last member overlaps the list of members.")
    return {name: info for name, info in infos.items() if name not in _FOLDERS}


def _problem(info: zipfile.ZipInfo) -> str:
    """Why a member may not be there, as the end of a sentence; empty where it may."""
    is_folder = info.orig_filename in _FOLDERS
    # zipfile cuts a name at a null byte, and on Windows replaces backslashes.
    unsafe = "" if is_folder else names.problem(info.orig_filename)
    kind = stat.S_IFMT(info.external_attr >> 16)
    if unsafe:
        return unsafe
    if kind not in (0, stat.S_IFDIR if is_folder else stat.S_IFREG):
        return "is a link" if stat.S_ISLNK(kind) else "is no plain file"
    if info.flag_bits & _ENCRYPTED:
        return "is encrypted"
    if info.compress_type not in _METHODS:
        return "is compressed in a way that no bundle is"
    if info.compress_type == zipfile.ZIP_STORED and info.file_size != info.compress_size:
        return "has two sizes"
    if info.file_size > max(_SMALL, _RATIO * info.compress_size):
        return "unfolds to more than any record does: it is a bomb"
    return "is no folder" if is_folder and info.file_size else ""


def _compare(found: manifest.Manifest, infos: Dict[str, Any]) -> None:
    """Raise `BundleRefused` where the members are not those that the manifest lists."""
    listed = {member.name: member for member in found.members}
    if len(listed) != len(found.members):
        raise BundleRefused("Its manifest.json lists a member twice.")
    present = set(infos) - {names.MANIFEST}
    for name in sorted({DATABASE, *listed} - present):
        raise BundleRefused(f"Its member '{name[:200]}' is missing.")
    for name in sorted(present - set(listed)):
        raise BundleRefused(f"Its member '{name[:200]}' is not in the manifest.")
    for name, member in listed.items():
        if member.size != infos[name].file_size:
            raise BundleRefused(
                f"Its {name} has {infos[name].file_size} bytes, and the manifest says {member.size}."
            )
