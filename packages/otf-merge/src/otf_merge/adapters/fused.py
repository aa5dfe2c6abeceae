"""Fused adapters as a state dict, and back in a model.

The tensors of a layer are named after its path in the base model: `PATH.fusion.query.weight` and
`.bias`, `PATH.fusion.key.weight` and `.bias`, `PATH.fusion.value.weight`, `PATH.fusion.temperature`,
and for each adapter `PATH.fusion.adapters.0.`, 1 and so on. There a low-rank one has `lora_A`,
`lora_B`, `scaling` and perhaps `lora_bias`; a bottleneck one `down.weight`, `up.weight`, perhaps
their biases, and `activation`, the place of its function in `otf_merge.adapters.branches.ACTIVATIONS`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from torch import nn

from ..checkpoints.sources import opened
from ..errors import InvalidInputs, UnreadableInput
from .branches import ACTIVATIONS, Bottleneck, LowRank, linear
from .fusion import ATTRIBUTE, Fusion, attach

if TYPE_CHECKING:
    import os
    from collections.abc import Collection, Mapping

    from torch import Tensor

Model = TypeVar("Model", bound=nn.Module)

_INFIX = f".{ATTRIBUTE}."


def load_fused(model: Model, path: str | os.PathLike[str]) -> Model:
    """Put fused adapters, as `otf merge --method adapter-fusion` has written them, into a model.

        from otf_merge.adapters import load_fused

        model = load_fused(build_base(), "merged.safetensors")

    `model` is the base that the adapters were trained on, with its weights: modules are found by
    their paths. It is changed in place and returned; from then on each of these layers adds its
    adapters' outputs, by attention, to its own, and `state_dict()` has the fusion's tensors too.
    Nothing of the base changes. Parts are in the dtype in which they are stored, and on the device
    of their layer; what they add is given in the dtype of the layer's output. Only query, key and
    value would be trained further.

    Raises `UnreadableInput` or `InvalidInputs` where the file is none of fused adapters, and
    `InvalidTask` where the model has no such layers.
    """
    with opened([Path(path)], None) as checkpoints:
        (checkpoint,) = checkpoints
        state = {
            name: checkpoint.read(name).reshape(spec.shape).clone()
            for name, spec in checkpoint.specs.items()
        }
    if not is_fused(state):
        raise InvalidInputs(
            f"`{path}` holds no fused adapters: no tensor's name has `{_INFIX}` in it. Name what "
            "`otf merge --method adapter-fusion` has written."
        )
    attach(model, rebuilt(state))
    return model


def is_fused(names: Collection[str]) -> bool:
    """Whether these are the names of fused adapters."""
    return any(_INFIX in name for name in names)


def state_of(layers: Mapping[str, Fusion]) -> dict[str, Tensor]:
    """The tensors of the fusions at these paths, by their names in a file."""
    return {
        f"{path}{_INFIX}{name}": tensor.detach().cpu().clone()
        for path, layer in layers.items()
        for name, tensor in layer.state_dict().items()
    }


def rebuilt(state: Mapping[str, Tensor]) -> dict[str, Fusion]:
    """The fusions that a state dict holds, by the paths of their layers.

    Raises `UnreadableInput` where a tensor is missing or is none of theirs.
    """
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in state.items():
        path, infix, own = name.rpartition(_INFIX)
        if not infix:
            raise UnreadableInput(
                f"`{name}` is no tensor of fused adapters. Name a file as it was written."
            )
        parts.setdefault(path, {})[own] = tensor
    return {path: _layer(path, own) for path, own in parts.items()}


def _layer(path: str, state: Mapping[str, Tensor]) -> Fusion:
    try:
        count = 1 + max(int(name.split(".")[1]) for name in state if name.startswith("adapters."))
        adapters = [_branch(_beneath(state, f"adapters.{place}.")) for place in range(count)]
        made = Fusion(adapters, float(state["temperature"]), state["query.weight"].dtype)
        made.load_state_dict(dict(state), assign=True)
    except (KeyError, ValueError, RuntimeError, IndexError) as error:
        raise UnreadableInput(
            f"The fused adapters of `{path}` are not complete, or not of one size ({error}). Write "
            "the file again."
        ) from error
    for adapter in made.adapters:
        adapter.requires_grad_(False)
    return made


def _branch(state: Mapping[str, Tensor]) -> nn.Module:
    if "lora_A" in state:
        return LowRank(
            *(state["lora_A"], state["lora_B"], float(state["scaling"]), state.get("lora_bias"))
        )
    down, up = (linear(state[f"{it}.weight"], state.get(f"{it}.bias")) for it in ("down", "up"))
    return Bottleneck(down, up, list(ACTIVATIONS)[int(state["activation"])])


def _beneath(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name[len(prefix) :]: it for name, it in state.items() if name.startswith(prefix)}
