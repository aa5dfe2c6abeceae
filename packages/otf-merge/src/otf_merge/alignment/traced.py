"""What can be permuted in a model, read from its graph.

The model is traced by `torch.fx` and run once on a batch of the task; beside each value goes which
units its dimensions stand for. What adds two values makes their units the same, so a residual
stream has one order throughout. What an operation without a rule here works on stays where it is,
which is said in `kept`. In the end the model is run with random weights and with the same weights
permuted at random: where the outputs differ, nothing is returned.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx, nn

from ..batches import cut, moved
from ..errors import InvalidInputs, InvalidTask
from ..evaluation import device_of, names_between
from ..randomness import seeded
from ..task import users_code
from .dims import Dim, UnitSets
from .operations import Marked, marked_in
from .rules import Rules
from .units import Axis, PermutationSpec

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from ..task import Task

_OTHERWISE = (
    "Give a file that says which axes are permuted together, with --align FILE (the documentation "
    "has an example)."
)
_SAMPLES = 2
# How far outputs may be apart through rounding alone, in units of the greatest.
_ROUNDING = {torch.float64: 1e-9, torch.float32: 1e-3}
_ROUNDING_OF_HALVES = 0.05


def traced_spec(task: Task, names: Collection[str]) -> PermutationSpec:
    """What can be permuted in the task's model, under a checkpoint's `names`.

    Raises `InvalidInputs` where the model cannot be traced, where nothing can be permuted, or where
    a permuted model does not compute the same; `InvalidTask` where the task fails.
    """
    model = _model(task)
    units, dims = _followed(model, _inputs(task, model, _batch(task, model)))
    own = names_between(model.state_dict(), names)
    held = model.state_dict(keep_vars=True)
    axes: dict[str, tuple[Axis, ...]] = {}
    for name, theirs in own.items():
        found = tuple(units.axis(dim) for dim in dims.get(id(held[name]), ()))
        if any(part.units is not None for axis in found for part in axis):
            axes[theirs] = found
    present = {part.units for each in axes.values() for axis in each for part in axis}
    moving = {name: it for name, it in units.moving().items() if name in present}
    spec = PermutationSpec(moving, axes, kept=units.kept())
    if not moving:
        reasons = "; ".join(f"`{name}`: {reason}" for name, reason in list(spec.kept.items())[:5])
        raise InvalidInputs(
            "The checkpoints cannot be aligned: no hidden units of the task's model can be seen to "
            f"be free to move{f' ({reasons})' if reasons else ''}. {_OTHERWISE}"
        )
    confirm(spec, task, names)
    return spec


def confirm(spec: PermutationSpec, task: Task, names: Collection[str]) -> None:
    """Check that the task's model computes the same when it is permuted at random.

    `names` are the checkpoint's, which those of the spec are among. Raises `InvalidInputs` where it
    does not, and where the spec has tensors that the model lacks.
    """
    model = _model(task)
    own = names_between(model.state_dict(), names)
    lacking = [name for name in spec.axes if name not in set(own.values())]
    if lacking:
        raise InvalidInputs(
            f"The checkpoints cannot be aligned: `{lacking[0]}` is to be permuted, and the task's "
            "model has no such tensor. Let the task's `model` make the model that was trained."
        )
    generator = torch.Generator().manual_seed(0)
    state = {name: _filled(name, it, generator) for name, it in model.state_dict().items()}
    permutations = spec.random(generator)
    permuted = {
        name: spec.permuted(own[name], it, permutations) if name in own else it
        for name, it in state.items()
    }
    batch = _batch(task, model)
    first, second = (_outputs(task, model, each, batch) for each in (state, permuted))
    greatest, difference = float(first.abs().max()), float((first - second).abs().max())
    if not difference <= _ROUNDING.get(first.dtype, _ROUNDING_OF_HALVES) * greatest:
        raise InvalidInputs(
            "The checkpoints cannot be aligned: a model whose units are permuted as they should be "
            f"gives outputs that are off by {difference:g}, where the greatest is {greatest:g}. "
            f"Something in it depends on the units' order in a way that is not seen. {_OTHERWISE}"
        )


def _model(task: Task) -> nn.Module:
    with seeded(0), users_code("The task's `model`"):
        return task.model().eval()


def _outputs(task: Task, model: nn.Module, state: Mapping[str, Tensor], batch: Any) -> Tensor:
    model.load_state_dict(state)
    with seeded(0), torch.no_grad(), users_code("The task's `outputs`"):
        return task.outputs(model, batch)


def _batch(task: Task, model: nn.Module) -> Any:
    with seeded(0, task.validation), users_code("The task's `validation`"):
        batch = next(iter(task.validation), None)
    if batch is None:
        raise InvalidTask("The task's validation data has no batches. Give a loader or a list.")
    return moved(cut(batch, 0, _SAMPLES), device_of(model))


def _inputs(task: Task, model: nn.Module, batch: Any) -> dict[str, Any]:
    """What the task calls the model with, by the names of `forward`'s parameters."""
    seen: dict[str, Any] = {}

    def look(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        bound = inspect.signature(module.forward).bind(*args, **kwargs)
        bound.apply_defaults()
        seen.update(bound.arguments)

    handle = model.register_forward_pre_hook(look, with_kwargs=True)
    try:
        with users_code("The task's `outputs`"):
            task.outputs(model, batch)
    finally:
        handle.remove()
    return seen


def _followed(
    model: nn.Module, inputs: Mapping[str, Any]
) -> tuple[UnitSets, dict[int, tuple[Dim, ...]]]:
    """The sets of units in a model, and the dimensions of each parameter and buffer, by its id."""
    plain = {name: it for name, it in inputs.items() if it is None or isinstance(it, (bool, int))}
    try:
        with seeded(0), torch.no_grad():
            graph = fx.symbolic_trace(model, concrete_args=plain)
            follower = _Follower(graph)
            places = [str(it.target) for it in graph.graph.nodes if it.op == "placeholder"]
            follower.run(*(_given(inputs, place) for place in places))
    except Exception as error:
        # Tracing runs the user's code with stand-ins, which can fail in any way.
        raise InvalidInputs(
            "The checkpoints cannot be aligned: the task's model cannot be traced by torch.fx "
            f"({type(error).__name__}: {str(error).partition(chr(10))[0]}). {_OTHERWISE}"
        ) from error
    return follower.units, follower.rules.parameters


def _given(inputs: Mapping[str, Any], place: str) -> Any:
    """What the placeholder of a graph stands for; those of plain values have a number appended."""
    name = place.lstrip("*")
    return inputs[name] if name in inputs else inputs.get(name.rpartition("_")[0])


class _Follower(fx.Interpreter):
    """Runs a graph with every tensor marked by the units that its dimensions stand for."""

    def __init__(self, graph: fx.GraphModule) -> None:
        super().__init__(graph)
        self.units = UnitSets()
        self.rules = Rules(self.units)
        self._where = ""

    def run_node(self, n: fx.Node) -> Any:
        self._where = n.name
        return super().run_node(n)

    def placeholder(self, target: Any, args: Any, kwargs: Any) -> Any:
        value = super().placeholder(target, args, kwargs)
        return self.rules.function(self._where, "input", [], {}, value)

    def get_attr(self, target: Any, args: Any, kwargs: Any) -> Any:
        value = super().get_attr(target, args, kwargs)
        return self.rules.parameter(value, str(target)) if isinstance(value, Tensor) else value

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        result = super().call_function(target, *_values((args, kwargs)))
        return self.rules.function(self._where, target.__name__, list(args), kwargs, result)

    def call_method(self, target: Any, args: Any, kwargs: Any) -> Any:
        result = super().call_method(target, *_values((args, kwargs)))
        return self.rules.function(self._where, target, list(args), kwargs, result)

    def call_module(self, target: Any, args: Any, kwargs: Any) -> Any:
        result = super().call_module(target, *_values((args, kwargs)))
        layer = self.fetch_attr(target)
        return self.rules.module(target, layer, list(args), kwargs, result)

    def output(self, target: Any, args: Any, kwargs: Any) -> Any:
        self.units.keep((dim for it in marked_in(list(args)) for dim in it.dims), "")
        return _values(super().output(target, args, kwargs))


def _values(nested: Any) -> Any:
    """The arguments without their marks."""
    if isinstance(nested, Marked):
        return nested.value
    if isinstance(nested, dict):
        return {key: _values(it) for key, it in nested.items()}
    if isinstance(nested, slice):
        return slice(*(_values(it) for it in (nested.start, nested.stop, nested.step)))
    if isinstance(nested, (list, tuple)):
        return type(nested)(_values(it) for it in nested)
    return nested


def _filled(name: str, tensor: Tensor, generator: torch.Generator) -> Tensor:
    """Random values in a tensor of that name, so that nothing in the model is zero or alike."""
    if not tensor.dtype.is_floating_point:
        return tensor
    drawn = torch.randn(tensor.shape, generator=generator)
    if name.endswith("running_var"):
        drawn = 0.5 + drawn.square()
    elif tensor.dim() > 1:
        drawn = drawn / max(1.0, tensor[0].numel() ** 0.5)
    else:
        drawn = 1 + 0.3 * drawn if name.endswith("weight") else 0.3 * drawn
    return drawn.to(device=tensor.device, dtype=tensor.dtype)
