"""`otf merge` against mergekit and `cat`, on generated checkpoints of a transformer's shapes.

    python benchmarks/merge.py                                # 1 billion parameters, without mergekit
    python benchmarks/merge.py --mergekit VENV/bin/python     # beside it, from an environment with it
    python benchmarks/merge.py --layers 4 --counts 2          # smaller

Everything runs in turn, in processes of their own. `cat` reads all inputs and writes one. What is timed
is the merge itself, from opening the files to the finished output, with the inputs' SHA-256 and
without, which mergekit has no counterpart of; and the whole process, as from a shell, with the import of
torch. Once more, both `otf` and `cat` are timed until the output is on the disk. Memory is the greatest
resident set over that of a process which has imported the same library and done nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional

from common import spread

METHODS = {
    "linear": {},
    "slerp": {"t": 0.5},
    "task-arithmetic": {"scale": 0.5},
    "ties": {"density": 0.2},
    "dare-linear": {"drop_rate": 0.5},
}
#: What mergekit calls them and their parameters, so that both do the same work.
MERGEKIT = {
    "linear": ("linear", {}, {"weight": 1.0}),
    "slerp": ("slerp", {"t": 0.5}, {}),
    "task-arithmetic": ("task_arithmetic", {"lambda": 0.5}, {"weight": 1.0}),
    "ties": ("ties", {"normalize": True}, {"weight": 1.0, "density": 0.2}),
    "dare-linear": ("dare_linear", {}, {"weight": 1.0, "density": 0.5}),
}
WITH_BASE = ("task-arithmetic", "ties", "dare-linear")

GENERATE = """
import json, sys
from pathlib import Path
import torch
from safetensors.torch import save_file
folder, count, layers, hidden, inner, vocabulary = Path(sys.argv[1]), *map(int, sys.argv[2:])
shapes = {"model.embed_tokens.weight": (vocabulary, hidden), "model.norm.weight": (hidden,)}
for i in range(layers):
    for name, shape in {
        "self_attn.q_proj": (hidden, hidden), "self_attn.k_proj": (hidden // 8, hidden),
        "self_attn.v_proj": (hidden // 8, hidden), "self_attn.o_proj": (hidden, hidden),
        "mlp.gate_proj": (inner, hidden), "mlp.up_proj": (inner, hidden),
        "mlp.down_proj": (hidden, inner), "input_layernorm": (hidden,),
        "post_attention_layernorm": (hidden,),
    }.items():
        shapes[f"model.layers.{i}.{name}.weight"] = shape
config = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": hidden,
    "intermediate_size": inner, "num_hidden_layers": layers, "num_attention_heads": 32,
    "num_key_value_heads": 4, "vocab_size": vocabulary, "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
}
draw = torch.Generator().manual_seed(0)
base = {name: torch.randn(shape, generator=draw).mul_(0.02).bfloat16() for name, shape in shapes.items()}
for number in range(count + 1):
    place = folder / ("base" if number == 0 else f"model{number}")
    place.mkdir(parents=True)
    (place / "config.json").write_text(json.dumps(config))
    tensors = base if number == 0 else {
        name: tensor.float().add_(torch.randn(tensor.shape, generator=draw), alpha=0.002).bfloat16()
        for name, tensor in base.items()
    }
    save_file(tensors, place / "model.safetensors", {"format": "pt"})
"""

OURS = """
import json, resource, sys, time, warnings
began = time.perf_counter()
import torch
from otf_merge import merge
imported = time.perf_counter()
warnings.simplefilter("ignore")
asked = json.loads(sys.argv[1])
merge(**asked)
print(json.dumps({
    "import": imported - began, "seconds": time.perf_counter() - imported,
    "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
}))
"""

THEIRS = """
import json, resource, sys, time
began = time.perf_counter()
import torch
from mergekit.config import MergeConfiguration
from mergekit.merge import run_merge
from mergekit.options import MergeOptions
imported = time.perf_counter()
asked = json.loads(sys.argv[1])
run_merge(
    MergeConfiguration.model_validate(asked["config"]), asked["output"],
    MergeOptions(copy_tokenizer=False, lazy_unpickle=True, quiet=True, write_model_card=False),
)
print(json.dumps({
    "import": imported - began, "seconds": time.perf_counter() - imported,
    "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
}))
"""

IDLE = """
import json, resource, sys
exec(sys.argv[1])
print(json.dumps({"peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}))
"""


SHELL = """
import sys
from otf_merge.cli import app
app(sys.argv[1:])
"""


class Timing(NamedTuple):
    """One run: seconds of work, of the whole process, and the greatest resident set in bytes."""

    seconds: float
    whole: float = 0.0
    peak: int = 0


class Ran(NamedTuple):
    """Of each way to do it the runs, and what a process takes that has only imported torch."""

    timings: Dict[str, List[Timing]]
    idle: int
    idle_theirs: int


def run(python: str, program: str, *arguments: str) -> Dict[str, Any]:
    done = subprocess.run(
        [python, "-c", program, *arguments],
        capture_output=True,
        check=False,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    if done.returncode:
        sys.exit(f"{python} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def timed(python: str, program: str, asked: Dict[str, Any]) -> Timing:
    began = time.perf_counter()
    found = run(python, program, json.dumps(asked))
    return Timing(found["seconds"], time.perf_counter() - began, found["peak"])


def weights(folder: Path, count: int) -> List[Path]:
    return [folder / f"model{number}" / "model.safetensors" for number in range(1, count + 1)]


def cat(files: List[Path], output: Path, sync: bool) -> Timing:
    named = " ".join(f"'{file}'" for file in files)
    words = f"cat {named} > /dev/null; cat '{files[0]}' > '{output}'"
    began = time.perf_counter()
    subprocess.run(["sh", "-c", words + (f"; sync -d '{output}'" if sync else "")], check=True)
    return Timing(time.perf_counter() - began)


def ours(folder: Path, count: int, method: str, output: Path, **how: bool) -> Timing:
    asked: Dict[str, Any] = {
        "inputs": [str(file) for file in weights(folder, count)],
        "method": method,
        "output": str(output),
        "force": True,
        **how,
        **METHODS[method],
    }
    if method in WITH_BASE:
        asked["base"] = str(folder / "base" / "model.safetensors")
    return timed(sys.executable, OURS, asked)


def from_the_shell(folder: Path, count: int, method: str, output: Path) -> Timing:
    words = [*map(str, weights(folder, count)), "-m", method, "-o", str(output), "--force"]
    for name, value in METHODS[method].items():
        words += [f"--{name.replace('_', '-')}", str(value)]
    if method in WITH_BASE:
        words += ["--base", str(folder / "base" / "model.safetensors")]
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", SHELL, *words], check=True, capture_output=True)
    seconds = time.perf_counter() - began
    return Timing(seconds, seconds)


def theirs(python: str, folder: Path, count: int, method: str, output: Path) -> Timing:
    name, of_all, of_each = MERGEKIT[method]
    models = [
        {"model": str(folder / f"model{number}"), "parameters": of_each}
        for number in range(1, count + 1)
    ]
    config: Dict[str, Any] = {
        "merge_method": name,
        "models": models,
        "parameters": of_all,
        "dtype": "bfloat16",
    }
    if method in WITH_BASE:
        config["base_model"] = str(folder / "base")
    if method == "slerp":
        config["base_model"] = str(folder / "model1")
    return timed(python, THEIRS, {"config": config, "output": str(output)})


def ways_to(
    method: str, folder: Path, count: int, output: Path, mergekit: Optional[str]
) -> Dict[str, Callable[[], Timing]]:
    read = weights(folder, count)
    if method in WITH_BASE:
        read = [*read, folder / "base" / "model.safetensors"]
    ways: Dict[str, Callable[[], Timing]] = {
        "cat": lambda: cat(read, output, sync=False),
        "cat, synced": lambda: cat(read, output, sync=True),
        "otf": lambda: ours(folder, count, method, output),
        "without hashes": lambda: ours(folder, count, method, output, hashes=False),
        "synced": lambda: ours(folder, count, method, output, hashes=False, sync=True),
        "from the shell": lambda: from_the_shell(folder, count, method, output),
    }
    if mergekit:
        ways["mergekit"] = lambda: theirs(mergekit, folder, count, method, folder / "theirs")
    return ways


def measure(
    folder: Path, count: int, methods: List[str], rounds: int, mergekit: Optional[str]
) -> None:
    size = weights(folder, count)[0].stat().st_size
    print(f"\n{count} checkpoints of {size / 1e9:.2f} GB, {rounds} rounds")
    output = folder / "out.safetensors"
    idle = run(sys.executable, IDLE, "import torch")["peak"]
    idle_theirs = run(mergekit, IDLE, "import torch")["peak"] if mergekit else 0
    for method in methods:
        if method == "slerp" and count > 2:
            continue
        ways = ways_to(method, folder, count, output, mergekit)
        timings: Dict[str, List[Timing]] = {name: [] for name in ways}
        for _ in range(rounds):
            for name, way in ways.items():
                timings[name].append(way())
                output.unlink(missing_ok=True)
                shutil.rmtree(folder / "theirs", ignore_errors=True)
        show(method, Ran(timings, idle, idle_theirs))


def show(method: str, ran: Ran) -> None:
    seconds = {name: [it.seconds for it in found] for name, found in ran.timings.items()}
    whole = {name: [it.whole for it in found] for name, found in ran.timings.items()}
    peak = max(it.peak for it in ran.timings["otf"]) - ran.idle
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    print(f"{method}: {peak / 1e6:.0f} MB over torch alone, load {load:.1f}")
    print(f"  cat {spread(seconds['cat'])} s, synced {spread(seconds['cat, synced'])} s")
    has_peer = "mergekit" in seconds
    if has_peer:
        theirs_peak = max(it.peak for it in ran.timings["mergekit"]) - ran.idle_theirs
        print(
            f"  mergekit {spread(seconds['mergekit'])} s, {spread(whole['mergekit'])} s with "
            f"imports, {theirs_peak / 1e6:.0f} MB over torch alone"
        )
    compared = {"otf": "cat", "without hashes": "cat", "synced": "cat, synced"}
    for name, other in compared.items():
        line = (
            f"  {name:<14} {spread(seconds[name])} s: {ratio(seconds[name], seconds[other])} times "
        )
        line += other
        if has_peer and name != "synced":
            line += f", {ratio(seconds['mergekit'], seconds[name])} times as fast as mergekit"
        print(line)
    line = f"  from the shell {spread(whole['from the shell'])} s"
    if has_peer:
        line += f": {ratio(whole['mergekit'], whole['from the shell'])} times as fast as mergekit"
    print(line, flush=True)


def ratio(ones: List[float], others: List[float]) -> str:
    return f"{statistics.median(a / b for a, b in zip(ones, others)):.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--layers", type=int, default=22)
    parser.add_argument("--hidden", type=int, default=2048)
    parser.add_argument("--inner", type=int, default=5632)
    parser.add_argument("--vocabulary", type=int, default=32000)
    parser.add_argument("--counts", type=int, nargs="+", default=[2, 8])
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--mergekit", help="the Python of an environment with mergekit")
    parser.add_argument("--folder", type=Path, help="where to generate, if not a temporary folder")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        folder = Path(name)
        sizes = (given.layers, given.hidden, given.inner, given.vocabulary)
        made = [str(number) for number in (max(given.counts), *sizes)]
        subprocess.run([sys.executable, "-c", GENERATE, str(folder), *made], check=True)
        for count in given.counts:
            measure(folder, count, given.methods, given.rounds, given.mergekit)


if __name__ == "__main__":
    main()
