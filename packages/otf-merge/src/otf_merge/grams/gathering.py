"""Gram matrices, gathered by hooks while a model works."""

from __future__ import annotations

import collections
import contextlib
from typing import TYPE_CHECKING, Any, Callable

import torch
from torch import Tensor, nn

from .inputs import is_in_first, rows_of, rows_of_convolution
from .layers import Grams, LayerGram

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_PROJECTIONS = 3


class GramGatherer:
    """Gathers the Gram matrices of a model's layers from all that goes through it inside a `with`.

        with GramGatherer(model) as gatherer:
            evaluate(model, validation_loader)
        gatherer.grams().save(Path("grams.pt"))

    Layers are `nn.Linear` (and the Transformers library's `Conv1D`), convolutions, grouped ones
    too, and the joint projection of queries, keys and values in `nn.MultiheadAttention`, whose own
    output projection is no layer that hooks can see. A weight that another part of the model uses
    too, such as an embedding that is also the last layer, is left out. A layer that is used several times, or for
    several places of a sequence, has a row for each use. Sums are kept in float64 where the layer
    is, in float32 on devices without it; the model computes what it always does.

    Meanwhile the fused kernels of `nn.TransformerEncoder`, which call no layers, are turned off.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._sums: dict[str, _Sum] = {}
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> GramGatherer:
        self._stack.enter_context(_without_fused_encoders(self._model))
        owners = collections.Counter(
            id(it) for part in self._model.modules() for it in part.parameters(recurse=False)
        )
        for name, module in self._model.named_modules():
            rows = _rows_for(module)
            if rows is not None and owners[id(_weight_of(module))] == 1:
                hook = self._hook(f"{name}." if name else "", module, rows)
                handle = module.register_forward_pre_hook(hook, with_kwargs=True)
                self._stack.callback(handle.remove)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def grams(self) -> Grams:
        """What has been gathered so far, of the layers that anything went through."""
        return Grams({name: it.layer() for name, it in self._sums.items() if it.used})

    def _hook(self, prefix: str, module: nn.Module, rows: _Rows) -> Callable[..., None]:
        joint = isinstance(module, nn.MultiheadAttention)
        weight, bias = _names_in(module)
        sums = _Sum(
            _PROJECTIONS if joint else getattr(module, "groups", 1),
            has_bias=getattr(module, bias) is not None,
            in_first=is_in_first(module),
        )
        self._sums[prefix + weight] = sums

        def gather(_: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
            with torch.no_grad():
                for group, found in rows(args, kwargs):
                    sums.add(group, found)

        return gather


#: Gives a call's inputs as rows, `(rows, groups, inputs)`, with the first group that they are of.
_Rows = Callable[["tuple[Any, ...]", "Mapping[str, Any]"], "Iterator[tuple[int, Tensor]]"]


def _rows_for(module: nn.Module) -> _Rows | None:
    """How the inputs of that module are made rows; None for what is no layer of the kind."""
    if isinstance(module, nn.Linear) or is_in_first(module):
        return lambda args, kwargs: iter([(0, rows_of(_input(args, kwargs)))])
    if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
        return lambda args, kwargs: (
            (0, rows) for rows in rows_of_convolution(module, _input(args, kwargs))
        )
    if isinstance(module, nn.MultiheadAttention) and module.in_proj_weight is not None:
        return _rows_of_attention
    return None


def _names_in(module: nn.Module) -> tuple[str, str]:
    """What the module calls its weight and its bias."""
    joint = isinstance(module, nn.MultiheadAttention)
    return ("in_proj_weight", "in_proj_bias") if joint else ("weight", "bias")


def _weight_of(module: nn.Module) -> Any:
    return getattr(module, _names_in(module)[0])


def _input(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
    given: Tensor = args[0] if args else next(iter(kwargs.values()))
    return given.detach()


def _rows_of_attention(
    args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Iterator[tuple[int, Tensor]]:
    for group, name in enumerate(("query", "key", "value")):
        given = args[group] if group < len(args) else kwargs[name]
        yield group, rows_of(given.detach())


class _Sum:
    """The Gram matrices of one layer so far, and how many rows each group had."""

    def __init__(self, groups: int, *, has_bias: bool, in_first: bool) -> None:
        self._groups = groups
        self._has_bias = has_bias
        self._in_first = in_first
        self._rows = [0] * groups
        self._matrix: Tensor | None = None

    @property
    def used(self) -> bool:
        return all(self._rows)

    def add(self, group: int, rows: Tensor) -> None:
        """Add rows of inputs, `(rows, groups, inputs)`, of the groups from `group` on."""
        dtype = torch.float32 if rows.device.type == "mps" else torch.float64
        inputs = rows.to(dtype).transpose(0, 1)
        if self._has_bias:
            inputs = nn.functional.pad(inputs, (0, 1), value=1.0)
        count, number, size = inputs.shape
        if self._matrix is None:
            self._matrix = inputs.new_zeros(self._groups, size, size)
        self._matrix[group : group + count] += inputs.transpose(1, 2) @ inputs
        for place in range(group, group + count):
            self._rows[place] += number

    def layer(self) -> LayerGram:
        """The sums as if every group had had as many rows as the first, which may be queries."""
        assert self._matrix is not None
        shares = [self._rows[0] / rows for rows in self._rows]
        scaled = self._matrix * self._matrix.new_tensor(shares).reshape(-1, 1, 1)
        return LayerGram(scaled.cpu(), self._rows[0], self._in_first)


@contextlib.contextmanager
def _without_fused_encoders(model: nn.Module) -> Iterator[None]:
    """Have the layers of encoders called, with tensors of one shape."""
    changed: list[tuple[Any, str, Any]] = []
    for part in model.modules():
        # For activations unlike those two there is no kernel; padding is cut off for it alone.
        if isinstance(part, nn.TransformerEncoderLayer):
            changed.append((part, "activation_relu_or_gelu", part.activation_relu_or_gelu))
        elif isinstance(part, nn.TransformerEncoder):
            changed.append((part, "use_nested_tensor", part.use_nested_tensor))
    try:
        for part, name, _ in changed:
            setattr(part, name, 0)
        yield
    finally:
        for part, name, value in changed:
            setattr(part, name, value)
