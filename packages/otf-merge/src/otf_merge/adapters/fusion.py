"""Several adapters of one layer under attention, and how they are put into a model."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..errors import InvalidTask

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

#: The attribute of a layer under which what is added to its output lies, and its tensors' names.
ATTRIBUTE = "fusion"
_OFF_DIAGONAL = 1e-6
# As BERT's layers start, which the attention of the paper's implementation does too.
_SPREAD = 0.02


class Alone(nn.Module):
    """One adapter as it was trained: its output is added to the layer's."""

    def __init__(self, adapter: nn.Module) -> None:
        super().__init__()
        self.adapters = nn.ModuleList([adapter])

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        """The layer's output `h` with the adapter's, from the layer's input `x`."""
        added: Tensor = self.adapters[0](x, h)
        return h + added.to(h.dtype)


class Fusion(nn.Module):
    """AdapterFusion's attention over the outputs `z[i]` of a layer's adapters.

    `a = softmax((h Q) . (z[i] K) / T)` over the adapters, and `h + sum(a[i] * z[i] V)` comes out,
    for every position by itself. Q and K are matrices of `(outputs, outputs)` with biases; V has
    none and starts as the identity, so that at first adapters are mixed and no more.
    """

    temperature: Tensor

    def __init__(
        self,
        adapters: Sequence[nn.Module],
        temperature: float = 1.0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        size = int(adapters[0].outputs)  # type: ignore[arg-type]
        self.adapters = nn.ModuleList(adapters)
        self.query, self.key = (nn.Linear(size, size, dtype=dtype) for _ in range(2))
        self.value = nn.Linear(size, size, bias=False, dtype=dtype)
        self.register_buffer("temperature", torch.tensor(temperature, dtype=torch.float32))
        self._watched: list[Tensor] | None = None
        with torch.no_grad():
            for layer in (self.query, self.key):
                layer.weight.normal_(0, _SPREAD)
                layer.bias.zero_()
            self.value.weight.copy_(torch.full((size, size), _OFF_DIAGONAL))
            self.value.weight.fill_diagonal_(1.0)

    @property
    def trained(self) -> list[nn.Parameter]:
        """What is learned: Q, K and V. Adapters stay as they are."""
        return [*self.query.parameters(), *self.key.parameters(), *self.value.parameters()]

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        """The layer's output `h` with the fused adapters', from the layer's input `x`."""
        dtype = self.query.weight.dtype
        z = torch.stack([adapter(x, h).to(dtype) for adapter in self.adapters], dim=-2)
        scores = (self.key(z) @ self.query(h.to(dtype)).unsqueeze(-1)).squeeze(-1)
        attention = (scores / self.temperature.to(dtype)).softmax(-1)
        if self._watched is not None:
            self._watched.append(attention.detach().reshape(-1, len(self.adapters)).double().cpu())
        mixed: Tensor = (attention.unsqueeze(-1) * self.value(z)).sum(-2)
        return h + mixed.to(h.dtype)

    def pull(self) -> Tensor:
        """How far V is from the identity: the sum of squares."""
        weight = self.value.weight
        return (
            (weight - torch.eye(len(weight), dtype=weight.dtype, device=weight.device)).pow(2).sum()
        )

    @contextlib.contextmanager
    def watched(self) -> Iterator[list[Tensor]]:
        """A list of all attention inside the block: for each call one row a position."""
        self._watched = []
        try:
            yield self._watched
        finally:
            self._watched = None


def attach(model: nn.Module, layers: Mapping[str, nn.Module]) -> None:
    """Put what is added to layers' outputs beside these layers, as their part `fusion`.

    They are then the model's own: moved with it, saved in its state dict, and called after each
    layer. Raises `InvalidTask` where a layer is missing or has such a part already.
    """
    modules = dict(model.named_modules())
    for path in layers:
        if path not in modules:
            raise InvalidTask(
                f"The model has no module `{path}`, which the adapters belong to. Make the base that "
                "they were trained on."
            )
        if hasattr(modules[path], ATTRIBUTE):
            raise InvalidTask(
                f"The model's module `{path}` has adapters already, or another attribute "
                f"`{ATTRIBUTE}`. Make a fresh model."
            )
    for path, added in layers.items():
        layer = modules[path]
        parameter = next(layer.parameters(), None)
        if parameter is not None:
            added.to(parameter.device)
        layer.add_module(ATTRIBUTE, added.train(layer.training))
        layer.register_forward_hook(_add, with_kwargs=True)


def _add(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
    """The layer's output with what its `fusion` adds; of several outputs, to the first."""
    given = args[0] if args else next(iter(kwargs.values()))
    added: Any = getattr(layer, ATTRIBUTE)
    if isinstance(output, tuple):
        return (added(given, output[0]), *output[1:])
    return added(given, output)
