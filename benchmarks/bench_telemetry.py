"""What it costs to sample norms and activations, and to read the machine once a second.

Three variants of the same training, in turn: "bare" reads and samples nothing, "meters" reads the
machine and derives the pace, as every run does, and "sampled" takes samples too, with the default
budget of one percent. Beside the ratios stands the share of step time that the samples took, as the
trainer measured it to keep its budget. The ratios are of time, and of the process's CPU time, in
which all its threads are, and which other load on the machine disturbs less.

Claim: sampling takes at most 1.01 times as long, at steps of 0.3, 5 and 50 ms, and so do the meters.
"""

import contextlib
import io
import time
from unittest import mock

import torch
from common import interleaved, own_home, ratio, spread
from otf_hooks import Trainer
from otf_hooks.meters.board import Board
from otf_hooks.meters.sampling import SampleBudget
from torch import nn

ROUNDS = 9
WARM_UP = 10


class Timed:
    """A loader that takes the time of its steps, the first few left out."""

    def __init__(self, batch, steps: int) -> None:
        self._batch, self._steps = batch, steps
        self.seconds = self.cpu_seconds = 0.0

    def __iter__(self):
        for _ in range(WARM_UP):
            yield self._batch
        began, cpu_began = time.perf_counter(), time.process_time()
        for _ in range(self._steps):
            yield self._batch
        self.seconds = time.perf_counter() - began
        self.cpu_seconds = time.process_time() - cpu_began


class Training:
    """A training of a certain size.

    `shares` are what its samples took of step time, `cpu` its CPU seconds, by variant.
    """

    def __init__(self, width: int, batch: int, steps: int) -> None:
        self._width, self._batch, self._steps = width, batch, steps
        self.shares: list[float] = []
        self.cpu: dict[str, list[float]] = {"bare": [], "meters": [], "sampled": []}

    def run(self, variant: str) -> float:
        """Train; milliseconds per step."""
        budget = 0.01 if variant == "sampled" else 0.0
        torch.manual_seed(0)
        width, batch = self._width, self._batch
        model = nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
        model.append(nn.Linear(width, 10))
        loader = Timed((torch.randn(batch, 64), torch.randint(0, 10, (batch,))), self._steps)
        kept: list[SampleBudget] = []
        trainer = Trainer(
            project="bench",
            run_name="r",
            max_epochs=1,
            auto_connect=False,
            telemetry_budget=budget,
        )
        with contextlib.redirect_stderr(io.StringIO()), kept_budgets(kept):
            trainer.fit(
                model=model,
                optimizer=torch.optim.SGD(model.parameters(), lr=0.01),
                loss_fn=nn.CrossEntropyLoss(),
                train_loader=loader,
            )
        self.shares += [each.spent / each.trained for each in kept]
        self.cpu[variant].append(loader.cpu_seconds)
        return loader.seconds / self._steps * 1e3

    def run_bare(self) -> float:
        """Train without samples, and with a board that reads nothing; milliseconds per step."""
        with mock.patch.object(Board, "look", return_value=[]):
            return self.run("bare")


@contextlib.contextmanager
def kept_budgets(kept: list[SampleBudget]):
    """Have `kept` get every budget that is made inside."""
    make = SampleBudget.__init__

    def made(budget, *args, **kwargs):
        make(budget, *args, **kwargs)
        kept.append(budget)

    with mock.patch.object(SampleBudget, "__init__", made):
        yield


def measure(label: str, width: int, batch: int, steps: int) -> None:
    training = Training(width, batch, steps)
    found = interleaved(
        ROUNDS,
        {
            "bare": training.run_bare,
            "meters": lambda: training.run("meters"),
            "sampled": lambda: training.run("sampled"),
        },
    )
    print(f"{label}, ms per step:")
    for name, figures in found.items():
        print(f"  {name:<9}{spread(figures)}")
    for one, other in (("meters", "bare"), ("sampled", "meters")):
        times = ratio(found[one], found[other])
        cpu = ratio(training.cpu[one], training.cpu[other])
        print(f"ratio {one} / {other}: {times:.4f} of time, {cpu:.4f} of CPU time (claim: 1.01)")
    shares = [share * 100 for share in training.shares]
    print(f"samples, percent of step time as measured in the run: {spread(shares)}")


def main() -> None:
    torch.set_num_threads(1)
    with own_home():
        measure("0.3 ms steps", 128, 56, 6000)
        measure("5 ms steps", 512, 320, 400)
        measure("50 ms steps", 1024, 1100, 40)


if __name__ == "__main__":
    main()
