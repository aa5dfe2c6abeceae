import contextlib
import subprocess
import sys
import threading

import pytest
from otf_session import liveness
from otf_session.liveness import AliveLock, is_alive

from ..helpers.waiting import wait_for

_HOLD = """
import sys
from pathlib import Path
from otf_session.liveness import AliveLock
lock = AliveLock(Path(sys.argv[1]))
print(lock.acquire(), flush=True)
sys.stdin.readline()
lock.release()
print("released", flush=True)
sys.stdin.readline()
"""


@contextlib.contextmanager
def holder(folder):
    """Another process that holds the lock; a line to its stdin makes it let go, then end."""
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout.readline() == "True\n"
        yield process
    finally:
        process.kill()
        process.communicate(timeout=10)


def test_a_session_that_nobody_opened_is_not_alive(tmp_path):
    assert is_alive(tmp_path) is False
    assert list(tmp_path.iterdir()) == []


def test_a_session_in_another_process_is_alive_until_that_is_killed(tmp_path):
    with holder(tmp_path) as process:
        assert is_alive(tmp_path) is True
        process.kill()
        process.wait(timeout=10)
        wait_for(lambda: is_alive(tmp_path) is False, "the lock of a killed process")


def test_a_session_that_its_process_closed_is_not_alive(tmp_path):
    with holder(tmp_path) as process:
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "released\n"
        assert process.poll() is None
        assert is_alive(tmp_path) is False


def test_a_session_of_this_process_is_alive(tmp_path):
    lock = AliveLock(tmp_path)
    assert lock.acquire()
    assert is_alive(tmp_path) is True
    lock.release()
    assert is_alive(tmp_path) is False


def test_a_session_is_opened_by_one_process_at_a_time(tmp_path):
    lock = AliveLock(tmp_path)
    with holder(tmp_path) as process:
        assert lock.acquire() is False
        process.kill()
        process.wait(timeout=10)
        assert lock.acquire() is True
    assert is_alive(tmp_path) is True
    lock.release()


def test_looking_takes_nothing_away(tmp_path):
    with holder(tmp_path):
        assert [is_alive(tmp_path) for _ in range(3)] == [True] * 3
    lock = AliveLock(tmp_path)
    assert is_alive(tmp_path) is False
    assert lock.acquire() is True
    lock.release()


def test_any_number_may_look_at_once(tmp_path):
    (tmp_path / "alive.lock").touch()
    lookers, seen = 4, []
    barrier = threading.Barrier(lookers)

    def look():
        barrier.wait(10)
        seen.extend(is_alive(tmp_path) for _ in range(200))

    threads = [threading.Thread(target=look) for _ in range(lookers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert seen == [False] * 200 * lookers


def test_the_lock_is_taken_while_others_look(tmp_path):
    lock, done = AliveLock(tmp_path), threading.Event()

    def look():
        while not done.is_set():
            is_alive(tmp_path)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        for _ in range(20):
            assert lock.acquire() is True
            assert is_alive(tmp_path) is True
            lock.release()
    finally:
        done.set()
        thread.join(10)


def test_without_shared_locks_it_is_told_by_taking_the_lock(tmp_path, monkeypatch):
    monkeypatch.setattr(liveness, "fcntl", None)
    assert is_alive(tmp_path) is False
    lock = AliveLock(tmp_path)
    assert lock.acquire()
    assert is_alive(tmp_path) is True
    lock.release()
    assert is_alive(tmp_path) is False


def refuse(*_, **__):
    raise PermissionError(1, "Operation not permitted")


@pytest.mark.parametrize(
    ("what", "has_shared"), [("os.open", True), ("filelock.FileLock.acquire", False)]
)
def test_what_cannot_be_told_is_none(tmp_path, monkeypatch, what, has_shared):
    (tmp_path / "alive.lock").touch()
    if not has_shared:
        monkeypatch.setattr(liveness, "fcntl", None)
    with monkeypatch.context() as patched:
        patched.setattr(what, refuse)
        found = is_alive(tmp_path)
    assert found is None


@pytest.mark.skipif(liveness.fcntl is None, reason="shared locks")
def test_a_file_system_without_locks_cannot_tell(tmp_path, monkeypatch):
    (tmp_path / "alive.lock").touch()
    monkeypatch.setattr(liveness.fcntl, "flock", refuse)
    assert is_alive(tmp_path) is None


@pytest.mark.parametrize("name", ["alive.lock"])
def test_a_lock_file_that_was_left_behind_says_nothing(tmp_path, name):
    (tmp_path / name).write_text("4711")
    assert is_alive(tmp_path) is False
