"""How long the shell takes to list and show a session of ten million points.

Claim: `otf session show` under 1 s, the whole process. Beside it, in the same run: a session of ten
points, and the interpreter alone. The long session is written as a trainer writes one: 8 metrics a
step, a batch of 40 steps every tenth of a second, through the store.
"""

import random
import resource
import subprocess
import sys
import time
from typing import Callable

from common import interleaved, own_home, ratio, spread
from otf_session.events import LogLine, Metrics, RunStarted, RunState, StateChanged
from otf_session.home import Home
from otf_session.store import SessionStore

ROUNDS = 15
POINTS = 10_000_000
METRICS = 8
#: Steps in a batch, seconds that a step takes, batches in one append.
BATCH, STEP, APPENDED = 40, 0.0025, 50
RUN = "baseline"


def record(home: Home, points: int) -> SessionStore:
    """A finished session with so many points, and a line of log per batch."""
    store = SessionStore.create(home, f"{points} points")
    begin, steps = time.time(), max(1, points // METRICS)
    noise = random.Random(1)
    events = [RunStarted(time=begin, run=RUN)]
    for first in range(1, steps + 1, BATCH):
        numbers = list(range(first, min(first + BATCH, steps + 1)))
        times = [begin + number * STEP for number in numbers]
        values = {f"metric{n}": [noise.random() for _ in numbers] for n in range(METRICS)}
        events.append(Metrics(run=RUN, steps=numbers, times=times, values=values))
        events.append(
            LogLine(time=times[0], run=RUN, step=first, level=20, logger="bench", text="a line")
        )
        if len(events) > APPENDED:
            store.append(events)
            events = []
    end = StateChanged(time=begin + steps * STEP, run=RUN, state=RunState.FINISHED, step=steps)
    store.append([*events, end])
    store.close()
    return store


def command(*words: str) -> Callable[[], float]:
    """Measures a command of `otf session`, as a process of its own."""

    def measure() -> float:
        return timed([sys.executable, "-m", "onthefly.cli", "session", *words])

    return measure


def timed(words: list) -> float:
    began = time.perf_counter()
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def main() -> None:
    with own_home() as folder:
        home = Home(folder)
        few = record(home, 10)
        began = time.perf_counter()
        many = record(home, POINTS)
        seconds = time.perf_counter() - began
        size = (many.folder / "session.sqlite").stat().st_size
        print(f"recorded {POINTS:,} points in {seconds:.1f} s: {size / 1e6:.0f} MB")
        found = interleaved(
            ROUNDS,
            {
                "show": command("show", many.id),
                "show --json": command("show", many.id, "--json"),
                "show, 10 points": command("show", few.id),
                "list": command("list"),
                "list --size": command("list", "--size"),
                "python -c pass": lambda: timed([sys.executable, "-c", "pass"]),
            },
        )
        for name, figures in found.items():
            print(f"{name:<18}{spread(figures)} s")
        times = ratio(found["show"], found["show, 10 points"])
        print(f"ratio show / show of 10 points: {times:.2f} (claim: show under 1 s)")
        for kind in ("csv", "jsonl"):
            seconds = command("metrics", many.id, "--format", kind)()
            print(f"metrics --format {kind}: {POINTS / seconds / 1e6:.2f} million points a second")
    # On Linux in kB; the largest of all processes that were started here.
    most = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1000
    print(f"memory of the largest of these processes: {most:.0f} MB")


if __name__ == "__main__":
    main()
