"""SHA-256 of the inputs' files, beside other work."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from otf_merge.errors import UnreadableInput
from otf_merge.hashing import Hashing

SIZES = [0, 1, (1 << 20) - 1, 1 << 20, (5 << 20) + 3]


@pytest.fixture
def files() -> list[Path]:
    found = []
    for size in SIZES:
        found.append(Path(f"{size}.bin"))
        found[-1].write_bytes(bytes(i % 251 for i in range(1000)) * (size // 1000 + 1))
        with found[-1].open("rb+") as file:
            file.truncate(size)
    return found


@pytest.mark.parametrize("threads", [1, 4])
def test_the_hashes_are_those_of_the_files(files: list[Path], threads: int) -> None:
    with Hashing(threads) as hashing:
        hashing.begin(files[::-1])
        for file in files:
            assert hashing.sha256(file) == hashlib.sha256(file.read_bytes()).hexdigest()


def test_each_file_is_read_once(files: list[Path]) -> None:
    with Hashing(2) as hashing:
        hashing.begin([files[1], files[1]])
        before = hashing.sha256(files[1])
        files[1].write_bytes(b"another")
        hashing.begin([files[1]])
        assert hashing.sha256(files[1]) == before


def test_a_file_that_cannot_be_read_is_named() -> None:
    with Hashing(1) as hashing:
        hashing.begin([Path("gone.pt")])
        with pytest.raises(UnreadableInput, match=r"`gone.pt` cannot be read to its end: No such"):
            hashing.sha256(Path("gone.pt"))


@pytest.mark.skipif(sys.platform == "win32", reason="no pipes with a name")
def test_what_is_under_way_is_given_up() -> None:
    import os

    os.mkfifo("endless")
    over = threading.Event()

    def feed() -> None:
        with Path("endless").open("wb") as pipe:
            while not over.is_set():
                try:
                    pipe.write(bytes(1 << 16))
                except BrokenPipeError:
                    return

    feeder = threading.Thread(target=feed, daemon=True)
    feeder.start()
    with Hashing(1) as hashing:
        hashing.begin([Path("endless"), Path("never-reached")])
    feeder.join(timeout=60)
    over.set()
    assert not feeder.is_alive()
    assert not any(it.name.startswith("otf-merge-hash") for it in threading.enumerate())


def test_torch_is_not_needed() -> None:
    code = "import sys, otf_merge.hashing; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "False\n"
