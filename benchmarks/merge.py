"""`otf merge` against mergekit and `cat`, on generated checkpoints of a transformer's shapes.

    python benchmarks/merge.py                                # 1 billion parameters, without mergekit
    python benchmarks/merge.py --mergekit VENV/bin/python     # beside it, from an environment with it
    python benchmarks/merge.py --layers 4 --counts 2          # smaller

Everything runs in turn, in processes of their own. What is timed is the merge itself, from opening
the files to the finished output; importing torch is told apart. `cat` reads all inputs and writes
one. Once more, both are timed until the output is on the disk, which `otf merge` waits for and
neither `cat` nor mergekit does. Memory is the greatest resident set over that of a process which
has imported the same library and done nothing.
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
from typing import Any, Dict, List, NamedTuple, Optional

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


class Timing(NamedTuple):
    """One run: seconds of work, of imports, and the greatest resident set in bytes."""

    seconds: float
    imports: float = 0.0
    peak: int = 0


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
    found = run(python, program, json.dumps(asked))
    return Timing(found["seconds"], found["import"], found["peak"])


def weights(folder: Path, count: int) -> List[Path]:
    return [folder / f"model{number}" / "model.safetensors" for number in range(1, count + 1)]


def cat(files: List[Path], output: Path, sync: bool) -> Timing:
    named = " ".join(f"'{file}'" for file in files)
    words = f"cat {named} > /dev/null; cat '{files[0]}' > '{output}'"
    began = time.perf_counter()
    subprocess.run(["sh", "-c", words + (f"; sync -d '{output}'" if sync else "")], check=True)
    return Timing(time.perf_counter() - began)


def ours(folder: Path, count: int, method: str, output: Path, hashes: bool) -> Timing:
    asked: Dict[str, Any] = {
        "hashes": hashes,
        "inputs": [str(file) for file in weights(folder, count)],
        "method": method,
        "output": str(output),
        "force": True,
        **METHODS[method],
    }
    if method in WITH_BASE:
        asked["base"] = str(folder / "base" / "model.safetensors")
    return timed(sys.executable, OURS, asked)


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
        read = weights(folder, count)
        if method in WITH_BASE:
            read = [*read, folder / "base" / "model.safetensors"]
        names = ("otf", "otf without hashes", "mergekit", "cat", "cat, synced")
        found: Dict[str, List[Timing]] = {name: [] for name in names}
        for _ in range(rounds):
            for name in ("cat", "cat, synced"):
                found[name].append(cat(read, output, sync=name != "cat"))
                output.unlink()
            for name in ("otf", "otf without hashes"):
                found[name].append(ours(folder, count, method, output, hashes=name == "otf"))
                output.unlink()
            if mergekit:
                place = folder / "theirs"
                found["mergekit"].append(theirs(mergekit, folder, count, method, place))
                shutil.rmtree(place)
        show(method, found, idle, idle_theirs)


def show(method: str, found: Dict[str, List[Timing]], idle: int, idle_theirs: int) -> None:
    own = [it.seconds for it in found["otf"]]
    peak = max(it.peak for it in found["otf"]) - idle
    print(f"{method:<16} otf {spread(own)} s, {peak / 1e6:.0f} MB over torch alone")
    for name in ("otf without hashes", "cat", "cat, synced", "mergekit"):
        other = [it.seconds for it in found[name]]
        if not other:
            continue
        ratios = [b / a if name == "mergekit" else a / b for a, b in zip(own, other)]
        what = "times as fast as" if name == "mergekit" else "times the time of"
        line = f"{'':<16}   {statistics.median(ratios):.2f} {what} {name}, {spread(other)} s"
        if name == "mergekit":
            theirs_peak = max(it.peak for it in found[name]) - idle_theirs
            line += f", {theirs_peak / 1e6:.0f} MB over torch alone"
        print(line, flush=True)


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
