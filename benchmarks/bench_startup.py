"""How long `otf serve` takes until it is ready, and what it imports for it.

Claim: under 0.7 s, and no torch. Beside it, in the same run: the interpreter alone.
"""

import statistics
import subprocess
import sys
import time

from common import interleaved, own_home, server, spread

ROUNDS = 11


def interpreter() -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    return time.perf_counter() - began


def to_ready() -> float:
    with server() as serving:
        return serving.seconds_to_ready


def main() -> None:
    with own_home():
        to_ready()  # Compiles the bytecode and makes the token, once in a machine's life.
        found = interleaved(ROUNDS, {"otf serve": to_ready, "python -c pass": interpreter})
    for name, figures in found.items():
        print(f"{name:<16}{spread(figures)} s")
    times = statistics.median(found["otf serve"]) / statistics.median(found["python -c pass"])
    print(f"ratio otf serve / interpreter: {times:.1f} (claim: otf serve under 0.7 s)")
    loaded = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys, otf_serve.cli, otf_serve.server; print('torch' in sys.modules)",
        ],
        check=True,
        capture_output=True,
        text=True,
    )
    print(f"imports torch: {loaded.stdout.strip()} (claim: False)")


if __name__ == "__main__":
    main()
