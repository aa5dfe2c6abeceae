"""What recording 8 scalars costs the training thread, beside TensorBoard's SummaryWriter.

Claim: under 5 µs at the median, and at least 10 times less than SummaryWriter in the same run.
"""

import statistics
import tempfile
import time

import torch
from common import interleaved, own_home, spread
from otf_hooks.assembly import Address, open_engine
from otf_session.events import RunState
from otf_session.home import Home
from torch.utils.tensorboard import SummaryWriter

STEPS = 3000
ROUNDS = 9
NAMES = [f"metric{number}" for number in range(8)]


def median_microseconds(record) -> float:
    """The median time of one step's recording; a step's worth of other work lies in between."""
    seconds = []
    for step in range(STEPS):
        values = {name: float(step) for name in NAMES}
        began = time.perf_counter()
        record(step, values)
        seconds.append(time.perf_counter() - began)
        # As between real steps: the other threads get their turn.
        time.sleep(0.0002)
    return statistics.median(seconds) * 1e6


def main() -> None:
    with own_home(), tempfile.TemporaryDirectory() as folder, SummaryWriter(folder) as board:
        nowhere = Address(host="127.0.0.1", port=1, connect=False)
        engine = open_engine(project="b", home=Home.find(), folder=None, address=nowhere)
        engine.start()
        engine.start_run("baseline")
        engine.running()

        def ours(step, values):
            engine.step = step
            engine.record(values)

        def tensors(step, values):
            engine.step = step
            engine.record(held)

        def tensorboard(step, values):
            for name, value in values.items():
                board.add_scalar(name, value, step)

        held = {name: torch.tensor(1.0) for name in NAMES}
        found = interleaved(
            ROUNDS,
            {
                "ours": lambda: median_microseconds(ours),
                "tensorboard": lambda: median_microseconds(tensorboard),
                "ours, CPU tensors": lambda: median_microseconds(tensors),
            },
        )
        engine.close(RunState.FINISHED)
    print("recording 8 scalars a step, µs on the training thread, median of steps:")
    for name, figures in found.items():
        print(f"  {name:<20}{spread(figures)}")
    times = statistics.median(b / o for b, o in zip(found["tensorboard"], found["ours"]))
    print(f"ratio TensorBoard / ours: {times:.1f} (claim: at least 10; ours under 5 µs)")


if __name__ == "__main__":
    main()
