"""What merge methods do on real data: tables from scikit-learn's digits.

    python benchmarks/merging.py                     # all tables, each with its own number of seeds
    python benchmarks/merging.py domains dare --seeds 2

Each table says beside its figures how many seeds they are of; `merging.md` has all of them, and what
they show.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
import time
import warnings
from pathlib import Path

import torch

TABLES = ("soups", "domains", "fisher", "dare", "adapters", "alignment", "batchnorm", "collapse")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("tables", nargs="*", metavar="TABLE", help=", ".join(TABLES))
    parser.add_argument("--seeds", type=int, help="how many, instead of each table's own number")
    asked = parser.parse_args()
    strange = set(asked.tables) - set(TABLES)
    if strange:
        parser.error(f"there is no table {', '.join(sorted(strange))}: {', '.join(TABLES)}")
    torch.set_num_threads(1)
    for name in asked.tables or TABLES:
        show(name, asked.seeds)


def show(name: str, seeds: int | None) -> None:
    """Measure one table and print it."""
    part = importlib.import_module(f"merging_tables.{name}")
    count = seeds or part.SEEDS
    began, worked = time.perf_counter(), time.process_time()
    runs = []
    for seed in range(count):
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            runs.append(part.measure(seed, Path(folder)))
        print(f"\r{name}: {seed + 1} of {count} seeds", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    took = f"{time.process_time() - worked:.0f} s of one core, {time.perf_counter() - began:.0f} s"
    how = f"Mean ± standard error over {count} seed{'s' if count > 1 else ''}"
    print(f"## {part.TITLE}\n\n{part.told(runs)}\n\n{how}; {took}.\n", flush=True)


if __name__ == "__main__":
    main()
