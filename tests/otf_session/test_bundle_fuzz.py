"""Bundles with bytes that are not as they were: each is imported as it was, or refused."""

import os
import random
import shutil
import struct
import tempfile
from pathlib import Path
from typing import Callable, List, Optional

import pytest
from otf_session.bundles.importer import import_bundle
from otf_session.bundles.verifier import verify
from otf_session.errors import SessionError
from otf_session.home import DATABASE, Home
from otf_session.queries import events_after, snapshot
from otf_session.store import SessionReader

from ..helpers.bundles import bundle_of, contents, members_of, pack, sign, tiny, tree

_MUTATIONS = 10_000
_SIGNED = 600
#: Numbers that sizes, counts and offsets go wrong at.
_NUMBERS = [0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF]


def flip(data: bytearray, chance: random.Random) -> None:
    for _ in range(chance.choice([1, 1, 1, 2, 8])):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def overwrite(data: bytearray, chance: random.Random) -> None:
    begin, length = chance.randrange(len(data)), chance.choice([1, 2, 4, 8, 64])
    for place in range(begin, min(begin + length, len(data))):
        data[place] = chance.choice([0, 0xFF, chance.randrange(256)])


def number(data: bytearray, chance: random.Random) -> None:
    kind = chance.choice(["<H", "<I", ">H", ">I"])
    size = struct.calcsize(kind)
    value = chance.choice(_NUMBERS) & (256**size - 1)
    begin = chance.randrange(len(data) - size)
    data[begin : begin + size] = struct.pack(kind, value)


def delete(data: bytearray, chance: random.Random) -> None:
    begin = chance.randrange(len(data))
    del data[begin : begin + chance.choice([1, 2, 16, 300])]


def insert(data: bytearray, chance: random.Random) -> None:
    begin = chance.randrange(len(data))
    data[begin:begin] = chance.randbytes(chance.choice([1, 2, 16, 300]))


def repeat(data: bytearray, chance: random.Random) -> None:
    begin = chance.randrange(len(data))
    part = data[begin : begin + chance.choice([1, 16, 100, 1000])]
    data[begin:begin] = part


def move(data: bytearray, chance: random.Random) -> None:
    begin = chance.randrange(len(data))
    part = data[begin : begin + chance.choice([4, 46, 100])]
    del data[begin : begin + len(part)]
    place = chance.randrange(len(data) + 1)
    data[place:place] = part


def truncate(data: bytearray, chance: random.Random) -> None:
    del data[chance.randrange(len(data)) :]


_KINDS: List[Callable[[bytearray, random.Random], None]] = [
    *(flip, overwrite, number, delete, insert, repeat, move, truncate),
]


def headers_of(whole: bytes) -> List[int]:
    """Where the zip file's own structures are; of the rest there is more, and it is hashed."""
    marks = [b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"]
    return [at for at in range(len(whole)) if whole[at : at + 4] in marks]


def mutated(whole: bytes, headers: List[int], chance: random.Random) -> bytes:
    """The bytes with one thing changed: anywhere, or in one of the headers."""
    data = bytearray(whole)
    if chance.random() < 0.5:
        begin = chance.choice(headers)
        header = data[begin : begin + 60]
        chance.choice(_KINDS)(header, chance)
        data[begin : begin + 60] = header
    else:
        chance.choice(_KINDS)(data, chance)
    return bytes(data)


@pytest.fixture
def folder(tmp_path):
    """A folder in memory, where there is such a thing: on a disk its flushes take most of the time."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=memory) as made:
        yield Path(made)


@pytest.fixture
def target(folder):
    """A home in a folder with something beside it that has to stay as it is."""
    (folder / "outer").mkdir()
    (folder / "outer" / "neighbour").write_text("mine")
    home = Home(folder / "outer" / "home")
    home.ensure()
    return home


@pytest.fixture
def source(folder):
    """The home of the session that is exported."""
    return Home(folder / "source")


def imported(target: Home, bundle: Path) -> Optional[Path]:
    """The session's folder, or None where the bundle was refused with a message of ours."""
    try:
        return target.sessions / import_bundle(target, bundle).session
    except SessionError as error:
        if str(error).startswith(str(bundle)):
            return None
        raise


def test_whatever_byte_is_changed_a_bundle_is_imported_as_it_was_or_refused(source, target, folder):
    whole = bundle_of(tiny(source), folder).read_bytes()
    bundle = folder / "mutated.otf.zip"
    bundle.write_bytes(whole)
    intact = imported(target, bundle)
    expected = contents(intact)
    shutil.rmtree(intact)
    before = tree(target.path.parent)
    headers = headers_of(whole)
    taken = 0
    for seed in range(_MUTATIONS):
        bundle.write_bytes(mutated(whole, headers, random.Random(seed)))
        session = imported(target, bundle)
        if session is not None:
            taken += 1
            assert session == intact, seed
            assert contents(session) == expected, seed
            shutil.rmtree(session)
        assert tree(target.path.parent) == before, seed
    # Both happen: the times in the headers are nobody's, and everything else is checked.
    assert 0 < taken < _MUTATIONS / 2


def test_whatever_is_changed_in_a_record_and_signed_is_a_sound_session_or_refused(
    source, target, folder
):
    members = members_of(bundle_of(tiny(source), folder))
    bundle = folder / "mutated.otf.zip"
    before = tree(target.path.parent)
    taken = 0
    for seed in range(_SIGNED):
        chance = random.Random(seed)
        record = bytearray(members[DATABASE])
        chance.choice(_KINDS)(record, chance)
        pack(bundle, sign({**members, DATABASE: bytes(record)}))
        session = imported(target, bundle)
        if session is not None:
            taken += 1
            found = verify(target, session.name)
            assert found.ok, (seed, found)
            with SessionReader(session) as reader:
                assert events_after(reader.database, 0, 100), seed
                assert snapshot(reader, points=10), seed
            shutil.rmtree(session)
        assert tree(target.path.parent) == before, seed
    assert 0 < taken < _SIGNED


def test_whatever_is_changed_in_a_manifest_the_import_is_whole_or_refused(source, target, folder):
    members = members_of(bundle_of(tiny(source), folder))
    bundle = folder / "mutated.otf.zip"
    before = tree(target.path.parent)
    taken = 0
    for seed in range(_SIGNED):
        chance = random.Random(seed)
        manifest = bytearray(members["manifest.json"])
        chance.choice(_KINDS)(manifest, chance)
        pack(bundle, {**members, "manifest.json": bytes(manifest)})
        session = imported(target, bundle)
        if session is not None:
            taken += 1
            assert verify(target, session.name).ok, seed
            shutil.rmtree(session)
        assert tree(target.path.parent) == before, seed
    assert 0 < taken < _SIGNED
