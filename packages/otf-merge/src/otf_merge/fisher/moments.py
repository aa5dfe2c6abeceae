"""The Fisher diagonal that a training run has left behind: the optimizer's second moments.

They are running means of squared gradients. Li et al. 2025, arXiv:2507.18807, use Adam's in the
place of the Fisher diagonal. Against the diagonal over single samples they are of batches, which
makes them smaller by about the batch's size, the same for all weights.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor

from ..alignment.aligned import AlignedCheckpoint
from ..checkpoints.names import counterparts
from ..checkpoints.torch_file import TorchFile
from ..errors import InvalidInputs
from ..family import is_averaged
from .diagonal import Diagonal, Part
from .positions import assigned

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ..checkpoints.checkpoint import Checkpoint
    from ..parents import Parent

#: Where checkpoints keep optimizers' states: this project's and many others', Lightning's, and
#: names in use elsewhere.
KEYS = (
    "optimizer",
    "optimizer_states",
    "optimizer_state_dict",
    "optimizer_state",
    "optim",
    "optim_state_dict",
    "optimizers",
)

_OTHERWISE = (
    "Give the Fisher information as files with --fisher, or a --task to compute it from. Only the "
    "states of Adam and its relatives, RMSprop, Adadelta and Adagrad hold it."
)


class Moments(NamedTuple):
    """One checkpoint's second moments as a Fisher diagonal, and the optimizer's kind in words."""

    diagonal: Diagonal
    optimizer: str


def second_moments(parent: Parent) -> Moments | None:
    """The second moments in a checkpoint, bias-corrected; None where it has no optimizer's state.

    Parameters that the optimizer never updated are left out. Raises `InvalidInputs` where the
    optimizer keeps no second moments of each weight, or where it cannot be told which tensor they
    belong to.
    """
    states = list(_states(parent))
    if not states:
        return None
    parts, kind = _parts(parent, _joined(states))
    return Moments(Diagonal(parent.checkpoint.path, parts), kind)


def _states(parent: Parent) -> Iterator[Mapping[str, Any]]:
    """Every optimizer's state dict in the checkpoint."""
    for key in KEYS:
        value = parent.extra(key)  # noqa: S610 - no Django
        if isinstance(value, Mapping) and not _is_state(value):
            value = list(value.values())
        found = [it for it in (value if isinstance(value, list) else [value]) if _is_state(it)]
        if found:
            yield from found
            return


def _joined(states: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Several optimizers' states as one, their parameters' numbers told apart."""

    def told(place: int, index: Any) -> Any:
        return index if isinstance(index, str) else (place, index)

    return {
        "state": {
            told(place, index): values
            for place, state in enumerate(states)
            for index, values in state["state"].items()
        },
        "param_groups": [
            {**group, "params": [told(place, index) for index in group["params"]]}
            for place, state in enumerate(states)
            for group in state["param_groups"]
        ],
    }


def _is_state(value: Any) -> bool:
    return isinstance(value, Mapping) and "state" in value and "param_groups" in value


def _parts(parent: Parent, state: Mapping[str, Any]) -> tuple[dict[str, Part], str]:
    """The second moments under the first checkpoint's names, and the optimizers' kinds."""
    groups = {index: group for group in state["param_groups"] for index in group["params"]}
    kept = {index: values for index, values in state["state"].items() if values}
    found = {index: _moment(values, groups.get(index, {})) for index, values in kept.items()}
    moments = {index: moment for index, moment in found.items() if moment is not None}
    if len(moments) < len(found) or not moments:
        keeps = sorted({str(key) for values in kept.values() for key in values})
        raise InvalidInputs(
            f"The optimizer's state in `{parent.label}` has no second moments of each weight: it "
            f"keeps {', '.join(keeps) or 'nothing'}. {_OTHERWISE}"
        )
    names = _names(parent, state, {index: it.shape for index, it in moments.items()})
    return (
        {
            names[index]: it.part_in(parent.checkpoint, names[index])
            for index, it in moments.items()
            if it.step
        },
        ", ".join(dict.fromkeys(it.optimizer for it in moments.values())),
    )


# What each kind of optimizer keeps


class _Moment(NamedTuple):
    """The running mean of one parameter's squared gradients, as an optimizer keeps it."""

    optimizer: str
    tensor: Tensor
    step: float
    factor: float
    offset: float = 0.0

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.tensor.shape)

    def part_in(self, checkpoint: Checkpoint, name: str) -> Part:
        """The moment as it lies in the checkpoint's file, where it can be read in pieces.

        It is of the tensor `name`, whose order it takes where the checkpoint is an aligned one.
        """
        if isinstance(checkpoint, AlignedCheckpoint):
            return Part.of(checkpoint.reordered(name, self.tensor), self.factor, self.offset)
        part = Part.of(self.tensor, self.factor, self.offset)
        if not isinstance(checkpoint, TorchFile):
            return part
        return part._replace(read=functools.partial(checkpoint.elements, self.tensor))


def _moment(values: Mapping[str, Any], group: Mapping[str, Any]) -> _Moment | None:
    """The second moment of one parameter, or None where that optimizer keeps none.

    Running means that start at zero are divided by `1 - decay ** step`, as Adam does it. Adagrad's
    sum is divided by the number of steps.
    """
    step = float(values.get("step", group.get("step", 1)))
    pair = group.get("betas", ())
    if _is_moment(values, "exp_avg_sq") and len(pair) == len(("first", "second")):
        return _Moment("Adam", values["exp_avg_sq"], step, _correction(pair[1], step))
    if _is_moment(values, "square_avg") and "alpha" in group:
        return _Moment("RMSprop", values["square_avg"], step, _correction(group["alpha"], step))
    if _is_moment(values, "square_avg") and "rho" in group:
        return _Moment("Adadelta", values["square_avg"], step, _correction(group["rho"], step))
    if _is_moment(values, "sum") and "lr_decay" in group:
        start = float(group.get("initial_accumulator_value", 0))
        return _Moment("Adagrad", values["sum"], step, 1 / max(step, 1), start)
    return None


def _is_moment(values: Mapping[str, Any], key: str) -> bool:
    moment = values.get(key)
    return isinstance(moment, Tensor) and moment.is_floating_point()


def _correction(decay: Any, step: float) -> float:
    return 1.0 / (1.0 - math.pow(float(decay), max(step, 1.0)))


# Whose moments they are


def _names(
    parent: Parent, state: Mapping[str, Any], shapes: Mapping[Any, tuple[int, ...]]
) -> dict[Any, str]:
    """The first checkpoint's name of each parameter that has a moment."""
    given = _given_names(state)
    if all(index in given for index in shapes):
        ours = counterparts(parent.names, set(given.values()))
        named = {theirs: name for name, theirs in ours.items()}
        names = {index: named[given[index]] for index in shapes if given[index] in named}
    else:
        names = _names_by_order(parent, state, shapes)
    strange = [
        index
        for index, shape in shapes.items()
        if index not in names or parent.specs[names[index]].shape != shape
    ]
    if strange:
        raise InvalidInputs(
            f"The optimizer's state in `{parent.label}` does not fit the weights: "
            f"{len(strange)} of its parameters, such as {_told(strange[0])} of shape "
            f"{list(shapes[strange[0]])}, are not among them under that name or shape. {_OTHERWISE}"
        )
    return names


def _told(index: Any) -> str:
    return f"`{index}`" if isinstance(index, str) else f"number {index[1]}"


def _given_names(state: Mapping[str, Any]) -> dict[Any, str]:
    """The names that the state itself says: in `param_names`, or in the place of numbers."""
    found: dict[Any, str] = {}
    for group in state["param_groups"]:
        names = group.get("param_names") or [it for it in group["params"] if isinstance(it, str)]
        found.update(zip(group["params"], names))
    return found


def _names_by_order(
    parent: Parent, state: Mapping[str, Any], shapes: Mapping[Any, tuple[int, ...]]
) -> dict[Any, str]:
    if parent.checkpoint.path.is_dir():
        # Files of safetensors hold tensors in an order of their own.
        raise InvalidInputs(
            f"The optimizer's state in `{parent.label}` says nothing of names, and the folder "
            f"nothing of their order. {_OTHERWISE}"
        )
    groups = [group["params"] for group in state["param_groups"]]
    every = {index: shapes.get(index) for group in groups for index in group}
    names = _candidates(parent)
    frozen = set(parent.extra("frozen") or ())  # noqa: S610 - no Django
    trained = {name: shape for name, shape in names.items() if parent.names[name] not in frozen}
    found = assigned(groups, every, trained)
    if found is None and frozen:
        found = assigned(groups, every, names)
    if found is None:
        return {}
    open_ones = [index for index in shapes if index not in found]
    if open_ones:
        raise InvalidInputs(
            f"The optimizer's state in `{parent.label}` says nothing of names, and by order and "
            f"shape {len(open_ones)} of its parameters, such as {_told(open_ones[0])} of shape "
            f"{list(shapes[open_ones[0]])}, may be one of several tensors. Make the optimizer from "
            f"`model.named_parameters()` the next time, so that it keeps names. {_OTHERWISE}"
        )
    return found


def _candidates(parent: Parent) -> dict[str, tuple[int, ...]]:
    """The tensors that an optimizer may have been given, in the model's order."""
    checkpoint = parent.checkpoint
    tied = {name for group in checkpoint.ties for name in group[1:]}
    ours = {own: name for name, own in parent.names.items()}
    return {
        ours[own]: spec.shape
        for own, spec in checkpoint.specs.items()
        if own in ours
        and own not in tied
        and is_averaged(spec.dtype)
        and own.rpartition(".")[2] not in ("running_mean", "running_var")
    }
