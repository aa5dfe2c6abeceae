"""What becomes of the signal from the first layer to the last: it may explode, vanish, or collapse.

Compared are the medians over the first and the last third of the layers with weights, without the
very last one, whose outputs a script may well begin at 0.
"""

from __future__ import annotations

import math
from statistics import median
from typing import Any, Dict, List, Optional, Tuple

import torch
from torch import nn

from ..batches import tensors
from .findings import Findings
from .modules import named

#: Layers, without the last, from which on there is a depth to speak of.
_FEWEST = 4
#: How much the spread may grow or shrink from the first third to the last.
_FACTOR = 1e3
#: Below this share of its size an output is the same for every sample.
_SAME = 1e-5


class Signal:
    """Watches the outputs of the layers with weights, in the order in which they are called."""

    def __init__(self, model: nn.Module) -> None:
        self._layers = {
            name: module for name, module in model.named_modules() if _has_weights(module)
        }
        self._hooks: List[Any] = []
        #: Of each layer and call the standard deviation, the part between samples, and the size.
        self._seen: Dict[str, List[torch.Tensor]] = {}
        self._samples: Optional[int] = None

    def __enter__(self) -> Signal:
        for name, module in self._layers.items():
            self._hooks.append(module.register_forward_hook(self._output_of(named(name, module))))
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        self._samples = None

    def settle(self, notes: Findings) -> None:
        """Say whether it explodes, vanishes, or is the same for every sample."""
        spreads: List[Tuple[str, float]] = []
        collapsed = ""
        for name, calls in self._seen.items():
            spread, between, size = torch.stack(calls).mean(dim=0).tolist()
            spreads.append((name, spread))
            notes.measure(f"spread/{name}", spread)
            if not collapsed and not math.isnan(between) and between <= _SAME * size:
                collapsed = name
        if collapsed:
            notes.critical(
                collapsed,
                "The output of this layer is the same for every sample.",
                value=f"less than {_SAME:g} of its size differs between samples",
                meaning="Nothing of the input gets behind this layer, so that nothing can be learned "
                "from it there.",
                remedy="Look at dead or saturated units before it, and at whether its inputs differ.",
            )
        for finding in judged(spreads):
            notes.warning(*finding[:2], **finding[2])

    def _output_of(self, name: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            given = next((each for each in tensors(args) if each.ndim), None)
            found = next((each for each in tensors(output) if each.is_floating_point()), None)
            if found is None or found.ndim < 2 or not found.numel():  # noqa: PLR2004
                return
            if self._samples is None and given is not None:
                self._samples = given.shape[0]
            self._seen.setdefault(name, []).append(_measured(found, self._samples))

        return hook


def judged(spreads: List[Tuple[str, float]]) -> List[Tuple[str, str, Dict[str, str]]]:
    """What is to be said of the standard deviations of layers' outputs, in their order."""
    hidden = spreads[:-1]
    if len(hidden) < _FEWEST:
        return []
    third = max(1, len(hidden) // 3)
    first = median(spread for _, spread in hidden[:third])
    last = median(spread for _, spread in hidden[-third:])
    value = f"standard deviation {first:.3g} in the first layers, {last:.3g} in the last"
    if last > _FACTOR * first:
        what = "The signal explodes with depth."
    elif last * _FACTOR < first:
        what = "The signal vanishes with depth."
    else:
        return []
    said = {
        "value": value,
        "meaning": "Gradients do the same on their way back, so that some layers learn nothing and "
        "others too fast.",
        "remedy": "Normalise between layers, add residual connections, or initialise with the gain "
        "of the activation (torch.nn.init.kaiming_normal_).",
    }
    return [(hidden[-1][0], what, said)]


def _has_weights(module: nn.Module) -> bool:
    weight = getattr(module, "weight", None)
    is_lookup = isinstance(module, (nn.Embedding, nn.EmbeddingBag))
    return isinstance(weight, torch.Tensor) and weight.ndim > 1 and not is_lookup


def _measured(output: torch.Tensor, samples: Optional[int]) -> torch.Tensor:
    values = output.detach()
    values = values if values.dtype is torch.float64 else values.float()
    if samples == values.shape[0] and samples > 1:
        between = values.std(dim=0).square().mean().sqrt()
    else:
        # It does not hold one entry per sample: nothing can be said.
        between = values.new_tensor(float("nan"))
    return torch.stack([values.std(), between, values.square().mean().sqrt()])
