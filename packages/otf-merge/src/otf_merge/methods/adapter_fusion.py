"""Adapters under attention that is learned on the task's data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, Optional

import torch
from torch import Tensor, nn

from ..adapters.based import base_model
from ..adapters.fused import is_fused, rebuilt, state_of
from ..adapters.fusion import Alone, Fusion, attach
from ..adapters.gathering import branches_of
from ..batches import again_and_again, moved
from ..evaluation import Scores, device_of, evaluate
from ..parameters import Range
from ..randomness import seeded
from ..recalibration import has_running_statistics
from ..registry import model_method
from ..task import users_code

if TYPE_CHECKING:
    from ..parents import Parent
    from ..progress import Progress
    from ..task import Task


def fitted(
    task: Task, adapter: Parent, base: Parent | None, parameters: Mapping[str, Any]
) -> nn.Module:
    """The task's model with fused adapters beside its layers, or with those of one checkpoint."""
    model = base_model(task, base)
    names = adapter.checkpoint.specs
    layers: Mapping[str, nn.Module]
    if is_fused(names):
        layers = rebuilt({name: adapter.tensor(name) for name in names})
    else:
        found = branches_of(adapter, model, parameters)
        layers = {path: Alone(branch) for path, branch in found.items()}
    attach(model, layers)
    return model


@model_method(
    "adapter-fusion",
    summary="Frozen adapters, also bottleneck ones, mixed in each layer by attention learned on the "
    "task.",
    paper="arXiv:2005.00247",
    any_shapes=True,
    fitted=fitted,
)
def adapter_fusion(
    parents: Sequence[Parent],
    *,
    task: Task,
    progress: Progress,
    report: dict[str, Any],
    base: Optional[Parent] = None,
    steps: Annotated[int, "optimizer steps", Range(least=1)] = 500,
    lr: Annotated[
        float,
        "Adam's learning rate; the paper has 5e-5 for BERT, trained for longer",
        Range(above=0),
    ] = 1e-3,
    temperature: Annotated[
        float, "what scores are divided by before the softmax over adapters", Range(above=0)
    ] = 1.0,
    value_pull: Annotated[
        float,
        "the weight in the loss of how far V is from the identity; the paper's code has 0.01",
        Range(least=0),
    ] = 0.01,
    evaluate_every: Annotated[
        int, "after how many steps the fusion is validated", Range(least=1)
    ] = 50,
    pattern: Annotated[
        str,
        "how bottleneck adapters are named, without its last part, weight or bias: {layer} is the path of the "
        "module whose output they take, {part} down or up, * anything; adapter-hub's are "
        "`{layer}.adapters.*.adapter_{part}*`",
    ] = "{layer}.adapter.{part}",
    activation: Annotated[
        Literal["relu", "gelu", "silu", "tanh", "sigmoid", "identity"],
        "what bottleneck adapters have between their halves",
    ] = "relu",
    lora_alpha: Annotated[
        Optional[float],
        "what low-rank adapters without adapter_config.json are scaled by, over their rank; the "
        "default is a scaling of 1",
        Range(above=0),
    ] = None,
    seed: Annotated[int, "of Q and K, the data's order and dropout"] = 0,
) -> Mapping[str, Tensor]:
    """Learn in each layer which adapter to listen to: `o = h + sum(a[i] * z[i] V)`.

    Pfeiffer et al. 2021, "AdapterFusion", arXiv:2005.00247: `a = softmax((h Q) . (z[i] K) / T)` over
    the adapters i, with h the layer's output of the shape `(..., d)` and z[i] what adapter i adds to
    it, of the same shape; Q, K and V are `(d, d)`. Only these are trained. V has no bias and starts
    as the identity with 1e-6 beside the diagonal; `value_pull * |V - 1|^2` is added to the loss.

    Adapters are low-rank ones by PEFT's names for linear layers, `z = s * B A x` from the layer's
    input x, in PEFT folders or plain files with or without `base_model.model.` before the paths; and
    bottleneck ones, `z = up(activation(down(h)))`, by `pattern`. Checkpoints may adapt different
    layers: attention is over those that a layer has. The base is the task's `model()` with the
    weights that it makes, or with those of `base`. It is not changed and not in the result; its
    normalisation statistics stay too.

    Learned is on the task's training data, or without it on its domains, one batch of each a step.
    The fusion is validated before the first step, when it mixes almost evenly, every
    `evaluate_every` steps and after the last, and the best is kept, by the metric and where that is
    equal by the loss. The report has these scores, how many weights were trained, and the mean
    attention that each adapter gets on validation data, in all and by layer.

    The result holds the adapters and the attention. `otf_merge.adapters.load_fused(model, path)`
    puts it into a base model; PEFT cannot load it, and in a PEFT folder the configuration says so.
    """
    parameters = {"pattern": pattern, "activation": activation, "lora_alpha": lora_alpha}
    model = base_model(task, base).requires_grad_(False)
    gathered: dict[str, list[tuple[int, nn.Module]]] = {}
    for place, parent in enumerate(parents):
        for path, branch in branches_of(parent, model, parameters).items():
            gathered.setdefault(path, []).append((place, branch))
    sources = task.training_sources()
    with seeded(seed, *sources), torch.enable_grad():
        layers = {
            path: Fusion([it for _, it in held], temperature, _precision([it for _, it in held]))
            for path, held in gathered.items()
        }
        attach(model, layers)
        trained = [it for layer in layers.values() for it in layer.trained]
        optimizer = torch.optim.Adam(trained, lr=lr)
        best = _Best(layers, evaluate(model, task))
        before, device = best.scores, device_of(model)
        _learn(model)
        streams = [again_and_again(source) for source in sources]
        for step in range(1, steps + 1):
            optimizer.zero_grad(set_to_none=True)
            for batches in streams:
                batch = moved(next(batches), device)
                with users_code("The task"):
                    outputs = task.outputs(model, batch)
                    (task.loss(outputs, task.targets(batch)) / len(streams)).backward()
            if value_pull:
                pulls = [layer.pull().to(trained[0].device) for layer in layers.values()]
                (value_pull * torch.stack(pulls).sum()).backward()
            optimizer.step()
            if step % evaluate_every == 0 or step == steps:
                best.offer(layers, evaluate(model, task), step)
            progress(step, steps, "steps")
    for path, layer in layers.items():
        layer.load_state_dict(best.states[path])
    report["adapter_fusion"] = {
        "before": before._asdict(),
        "after": best.scores._asdict(),
        "step": best.step,
        "trained": sum(it.numel() for it in trained),
        **_attention(model, task, layers, gathered, [it.label for it in parents]),
    }
    # Whoever takes it for a plain adapter is to be stopped: PEFT knows no such type.
    report["adapter_config"] = {"peft_type": "OTF_ADAPTER_FUSION"}
    return state_of(layers)


class _Best:
    """The best attention so far, what it scored, and after which step."""

    def __init__(self, layers: Mapping[str, Fusion], scores: Scores) -> None:
        self.scores, self.step = scores, 0
        self.states = _copied(layers)

    def offer(self, layers: Mapping[str, Fusion], scores: Scores, step: int) -> None:
        """Take the attention as it is now where it is better."""
        if scores.rank > self.scores.rank:
            self.scores, self.step = scores, step
            self.states = _copied(layers)


def _copied(layers: Mapping[str, Fusion]) -> dict[str, dict[str, Tensor]]:
    return {
        path: {name: it.detach().clone() for name, it in layer.state_dict().items()}
        for path, layer in layers.items()
    }


def _precision(adapters: Sequence[nn.Module]) -> torch.dtype:
    """What attention over these adapters is learned in: float32 at least."""
    dtype = torch.float32
    for adapter in adapters:
        for tensor in adapter.parameters():
            dtype = torch.promote_types(dtype, tensor.dtype)
    return dtype


def _learn(model: nn.Module) -> None:
    """Training mode, so that dropout acts, but for statistics, which belong to the base."""
    model.train()
    for part in model.modules():
        if not list(part.children()) and has_running_statistics(part):
            part.eval()


def _attention(
    model: nn.Module,
    task: Task,
    layers: Mapping[str, Fusion],
    gathered: Mapping[str, Sequence[tuple[int, nn.Module]]],
    labels: Sequence[str],
) -> dict[str, Any]:
    """What share of the attention each adapter gets on validation data, layers counted alike."""
    found: dict[str, list[float]] = {}
    for path, layer in layers.items():
        with layer.watched() as rows:
            evaluate(model, task)
        shares = torch.cat(rows).mean(0).tolist() if rows else [0.0] * len(layer.adapters)
        found[path] = [0.0] * len(labels)
        for (place, _), share in zip(gathered[path], shares):
            found[path][place] = share
    means = [sum(it) / len(found) for it in zip(*found.values())]
    return {
        "attention": [{"adapter": it, "share": mean} for it, mean in zip(labels, means)],
        "layers": found,
    }
