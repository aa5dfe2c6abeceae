"""How long `otf ctl pause` and `otf ctl resume` take from the shell, to the trainer's answer.

Claim: under 0.4 s in all. Beside them, in the same run: the interpreter alone, and Typer with an
empty command, which is what any command of this kind pays before it does anything.

The trainer is real and trains: the time includes the rest of its step, of 5 ms, and the server's
part.
"""

import contextlib
import io
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

import torch
from common import interleaved, own_home, server, spread
from otf_hooks import Trainer
from otf_session.home import Home
from torch import nn

ROUNDS = 15
OTF = str(Path(sys.executable).with_name("otf"))
EMPTY = "import typer; app = typer.Typer(); app.command()(lambda: None); app([])"


def timed(*words: str) -> float:
    began = time.perf_counter()
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return time.perf_counter() - began


def train(port: int, over: threading.Event) -> None:
    """Train until it is over, as a script does."""

    class Batches:
        def __iter__(self):
            inputs, targets = torch.randn(8, 4), torch.randint(0, 2, (8,))
            while not over.is_set():
                time.sleep(0.005)
                yield inputs, targets

    model = nn.Linear(4, 2)
    trainer = Trainer(project="bench", run_name="r", max_epochs=1, dashboard_port=port)
    trainer.fit(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.01),
        loss_fn=nn.CrossEntropyLoss(),
        train_loader=Batches(),
    )


def main() -> None:
    torch.set_num_threads(1)
    over = threading.Event()
    with own_home(), server() as serving, contextlib.redirect_stderr(io.StringIO()):
        training = threading.Thread(target=train, args=[serving.port, over])
        training.start()
        try:
            measure(serving.port)
        finally:
            over.set()
            # It may be paused, and then ends only once it goes on.
            subprocess.run(
                [OTF, "ctl", "resume", "--port", str(serving.port)],
                capture_output=True,
                check=False,
            )
            training.join()


def measure(port: int) -> None:
    where = ["--port", str(port)]
    # Until it is linked and trains.
    while not Home.find().session_folders():
        time.sleep(0.05)
    time.sleep(2.0)
    # A pause needs a running training and a resume a paused one: they are measured by turns.
    paused = []

    def pause() -> float:
        return timed(OTF, "ctl", "pause", *where)

    def pause_and_resume() -> float:
        paused.append(pause())
        return timed(OTF, "ctl", "resume", *where)

    pause()
    timed(OTF, "ctl", "resume", *where)
    found = interleaved(
        ROUNDS,
        {
            "otf ctl resume": pause_and_resume,
            "an empty Typer app": lambda: timed(sys.executable, "-c", EMPTY),
            "python -c pass": lambda: timed(sys.executable, "-c", "pass"),
        },
    )
    for name, figures in {"otf ctl pause": paused, **found}.items():
        print(f"{name:<20}{spread(figures)} s")
    base = statistics.median(found["python -c pass"])
    print(
        f"ratio otf ctl pause / interpreter: {statistics.median(paused) / base:.1f} "
        "(claim: otf ctl pause under 0.4 s)"
    )


if __name__ == "__main__":
    main()
