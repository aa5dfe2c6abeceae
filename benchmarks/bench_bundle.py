"""Export and import of a session of 2 GB, beside `cp` and `sha256sum` of the same files.

Claim: at least 0.7 times the bytes per second, and under 200 MB of memory.
"""

import argparse
import contextlib
import hashlib
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import interleaved, spread
from otf_session.events import CheckpointSaved, Metrics, RunStarted, RunState, StateChanged
from otf_session.home import Home
from otf_session.store import SessionStore

CHECKPOINTS = 8
STEPS = 100_000
_BLOCK = 1_000_000

#: What a process does that is timed, with the seconds it took and its highest memory in MB.
_SCRIPT = """
import resource, sys, time
from pathlib import Path
from otf_session.bundles.exporter import export_session
from otf_session.bundles.importer import import_bundle
from otf_session.home import Home
what, source, target = sys.argv[1:]
began = time.perf_counter()
if what == "export":
    export_session(Path(source), Path(target))
else:
    import_bundle(Home(target), Path(source))
seconds = time.perf_counter() - began
print(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--gb", type=float, default=2.0, help="the session's size")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as name:
        folder = Path(name)
        session = make_session(Home(folder / "home"), int(options.gb * 1e9))
        files = [path for path in session.rglob("*") if path.is_file()]
        size = sum(path.stat().st_size for path in files)
        bundle = folder / "session.otf.zip"
        memory = {"export": 0.0, "import": 0.0}

        def plain() -> float:
            with emptied(folder / "copy") as copy:
                began = time.perf_counter()
                subprocess.run(["cp", "-r", str(session), str(copy)], check=True)
                copied = [str(path) for path in copy.rglob("*") if path.is_file()]
                subprocess.run(["sha256sum", *copied], check=True, stdout=subprocess.DEVNULL)
                return size / 1e6 / (time.perf_counter() - began)

        def ours(what: str, source: Path, target: Path) -> float:
            words = [sys.executable, "-c", _SCRIPT, what, str(source), str(target)]
            done = subprocess.run(words, check=True, capture_output=True, text=True)
            seconds, most = map(float, done.stdout.split())
            memory[what] = max(memory[what], most)
            return size / 1e6 / seconds

        def exported() -> float:
            with emptied(bundle):
                return ours("export", session, bundle)

        ours("export", session, bundle)
        kept = bundle.rename(folder / "kept.otf.zip")

        def imported() -> float:
            with emptied(folder / "elsewhere") as elsewhere:
                return ours("import", kept, elsewhere)

        found = interleaved(
            options.rounds, {"cp + sha256sum": plain, "export": exported, "import": imported}
        )
    print(f"a session of {size / 1e9:.2f} GB, MB a second:")
    for what, figures in found.items():
        print(f"  {what:<16}{spread(figures)}")
    for what, most in memory.items():
        pairs = zip(found[what], found["cp + sha256sum"])
        times = statistics.median(one / other for one, other in pairs)
        print(
            f"{what}: {times:.2f} times cp + sha256sum (claim: at least 0.7), "
            f"{most:.0f} MB of memory (claim: under 200)"
        )


def make_session(home: Home, size: int) -> Path:
    """A session of about `size` bytes: checkpoints that cannot be compressed, and some metrics."""
    store = SessionStore.create(home, "benchmark")
    store.append([RunStarted(time=0.0, run="baseline")])
    for first in range(1, STEPS, 1000):
        steps = list(range(first, first + 1000))
        values = {name: [1 / step for step in steps] for name in ("loss", "lr", "throughput")}
        times = [float(step) for step in steps]
        store.append([Metrics(run="baseline", steps=steps, times=times, values=values)])
    for number in range(CHECKPOINTS):
        store.append([write_checkpoint(store, number, size // CHECKPOINTS)])
    store.append([StateChanged(time=1.0, run="baseline", state=RunState.FINISHED, step=STEPS)])
    store.close()
    return store.folder


def write_checkpoint(store: SessionStore, number: int, size: int) -> CheckpointSaved:
    path, digest = f"checkpoints/baseline-{number}.pt", hashlib.sha256()
    chance = random.Random(number)
    with (store.folder / path).open("wb") as file:
        for begin in range(0, size, _BLOCK):
            block = chance.randbytes(min(_BLOCK, size - begin))
            digest.update(block)
            file.write(block)
    return CheckpointSaved(
        time=float(number),
        run="baseline",
        step=number,
        label="periodic",
        path=path,
        size=size,
        sha256=digest.hexdigest(),
        id=f"baseline@{number}",
    )


@contextlib.contextmanager
def emptied(path: Path):
    """A place where something is made, and gone again afterwards, from the disk's queue too."""
    os.sync()
    try:
        yield path
    finally:
        shutil.rmtree(path) if path.is_dir() else path.unlink()


if __name__ == "__main__":
    main()
