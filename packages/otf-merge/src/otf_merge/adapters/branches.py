"""Single adapters as modules: what each adds to the output of the layer that it belongs to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable

import torch
from torch import Tensor, nn

from ..errors import InvalidTask

if TYPE_CHECKING:
    from collections.abc import Mapping

#: What may lie between the two halves of a bottleneck adapter. A file has the place in this order.
ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "relu": nn.functional.relu,
    "gelu": nn.functional.gelu,
    "silu": nn.functional.silu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "identity": lambda x: x,
}


class LowRank(nn.Module):
    """A low-rank adapter of a linear layer: `scaling * (B A x + bias)` from the layer's input x.

    A has the shape `(r, inputs)`, B `(outputs, r)`, the bias `(outputs,)`.
    """

    lora_bias: Tensor | None
    scaling: Tensor

    def __init__(self, a: Tensor, b: Tensor, scaling: float, bias: Tensor | None = None) -> None:
        super().__init__()
        self.lora_A = nn.Parameter(a, requires_grad=False)
        self.lora_B = nn.Parameter(b, requires_grad=False)
        self.register_buffer("lora_bias", bias)
        self.register_buffer("scaling", torch.tensor(scaling, dtype=torch.float32))

    @property
    def outputs(self) -> int:
        """The size of what comes out."""
        return len(self.lora_B)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        """The shape `(..., outputs)` for an input of `(..., inputs)`."""
        added = (x.to(self.lora_A.dtype) @ self.lora_A.T) @ self.lora_B.T
        if self.lora_bias is not None:
            added = added + self.lora_bias
        return added * self.scaling.to(added.dtype)


class Bottleneck(nn.Module):
    """A bottleneck adapter: `up(activation(down(h)))` from the layer's own output h.

    `down` has a weight of the shape `(bottleneck, outputs)`, `up` one of `(outputs, bottleneck)`.
    """

    activation: Tensor

    def __init__(self, down: nn.Linear, up: nn.Linear, activation: str) -> None:
        super().__init__()
        self.down = down.requires_grad_(False)
        self.up = up.requires_grad_(False)
        self.register_buffer("activation", torch.tensor(list(ACTIVATIONS).index(activation)))

    @property
    def outputs(self) -> int:
        """The size of what comes out."""
        return self.up.out_features

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        """The shape of `h`, `(..., outputs)`."""
        if h.shape[-1] != self.down.in_features:
            raise InvalidTask(
                f"A bottleneck adapter takes {self.down.in_features} numbers, and its layer in the "
                f"task's model gives {h.shape[-1]}. Let the task's `model` make the adapters' base."
            )
        active = list(ACTIVATIONS.values())[int(self.activation)]
        found: Tensor = self.up(active(self.down(h.to(self.down.weight.dtype))))
        return found


def linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """A linear layer of these tensors, `weight` of the shape `(outputs, inputs)`."""
    outputs, inputs = weight.shape
    made = nn.Linear(inputs, outputs, bias=bias is not None, dtype=weight.dtype, device="meta")
    made.weight = nn.Parameter(weight)
    if bias is not None:
        made.bias = nn.Parameter(bias)
    return made
