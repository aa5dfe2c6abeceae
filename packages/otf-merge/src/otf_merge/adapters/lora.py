"""A low-rank adapter in a checkpoint: which modules have factors, and how much they count."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from ..errors import InputsDiffer, InvalidInputs, NotFinite
from .config import AdapterConfig, config_of
from .names import role_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from ..checkpoints.checkpoint import Checkpoint, TensorSpec
    from ..parents import Parent


@dataclass(frozen=True)
class Factors:
    """The factors of one module: its delta is `scaling * B @ A`.

    A has the shape `(r, inputs)`, B `(outputs, r)`; those of convolutions have the kernel's
    dimensions behind, and those of an embedding its rows for inputs. `names` has the checkpoint's
    name of each part.
    """

    checkpoint: Checkpoint
    module: str
    names: Mapping[str, str]
    scaling: float
    embedding: bool

    @property
    def rank(self) -> int:
        """How many rows A has."""
        return self.spec("A").shape[0]

    @property
    def has_bias(self) -> bool:
        """Whether a vector is added after B."""
        return "bias" in self.names

    def spec(self, part: str) -> TensorSpec:
        """The dtype and shape of a part as it is stored."""
        return self.checkpoint.specs[self.names[part]]

    def tensor(self, part: str) -> Tensor:
        """A part in float64, in the shape in which it is stored; raises `NotFinite`."""
        return read_finite(self.checkpoint, self.names[part])

    def a(self) -> Tensor:
        """A as a matrix: rank by inputs, a kernel's places among these."""
        return self.tensor("A").flatten(1)

    def b(self) -> Tensor:
        """B as a matrix: outputs by rank."""
        return self.tensor("B").flatten(1)


@dataclass(frozen=True)
class Adapter:
    """What a checkpoint holds of a low-rank adapter.

    `magnitudes` are DoRA's by module, and `others` all tensors that are no part of it: biases and
    modules that were trained whole. Both have the checkpoint's own names.
    """

    label: str
    checkpoint: Checkpoint
    config: AdapterConfig | None
    factors: Mapping[str, Factors]
    magnitudes: Mapping[str, str] = field(default_factory=dict)
    others: tuple[str, ...] = ()


def read_adapter(parent: Parent, alpha: float | None = None, *, lone: bool = False) -> Adapter:
    """The adapter in a checkpoint, of which only names and shapes are read.

    Without a configuration the product is scaled by `alpha / r`, or by 1 where `alpha` is None.
    With `lone` there may be no factors at all. Raises `InvalidInputs` where it is none, or is of a
    kind that is not supported.
    """
    checkpoint = parent.checkpoint
    config = config_of(checkpoint)
    if config is not None:
        config.require_supported()
    parts: dict[str, dict[str, str]] = {}
    magnitudes: dict[str, str] = {}
    embeddings: set[str] = set()
    others: list[str] = []
    for name in checkpoint.specs:
        role = role_of(name)
        if role is None:
            others.append(name)
            continue
        known = magnitudes if role.part == "magnitude" else parts.setdefault(role.module, {})
        key = role.module if role.part == "magnitude" else role.part
        if key in known:
            raise InvalidInputs(
                f"`{parent.label}` has two adapters for `{role.module}`: `{known[key]}` and `{name}`. "
                "Save each in a file of its own, as PEFT's `save_pretrained` does."
            )
        known[key] = name
        if role.embedding:
            embeddings.add(role.module)
    if not parts and not lone:
        raise InvalidInputs(
            f"`{parent.label}` holds no low-rank adapter: none of its tensors is named like "
            "`layer.lora_A.weight` and `layer.lora_B.weight`. Name PEFT folders, or merge whole "
            "models by another method."
        )
    factors = {}
    for module, names in parts.items():
        rank = _rank(parent.label, module, names, checkpoint)
        if config is not None:
            scaling = config.scaling(module, rank)
        else:
            scaling = 1.0 if alpha is None else alpha / rank
        factors[module] = Factors(checkpoint, module, names, scaling, module in embeddings)
    return Adapter(parent.label, checkpoint, config, factors, magnitudes, tuple(others))


def read_finite(checkpoint: Checkpoint, name: str) -> Tensor:
    """A tensor in float64, in its shape; raises `NotFinite` where it has NaN or infinity."""
    found = checkpoint.read(name).to(torch.float64).reshape(checkpoint.specs[name].shape)
    if not torch.isfinite(found).all():
        raise NotFinite(
            f"`{name}` in `{checkpoint.path}` holds NaN or infinity. An adapter of such numbers has "
            "no product; take an earlier checkpoint."
        )
    return found


def require_same_shapes(module: str, found: Sequence[tuple[Adapter, Factors]]) -> None:
    """Raise `InputsDiffer` where the module's deltas have different shapes."""
    (first, ours), *others = found
    for adapter, factors in others:
        mine, theirs = (
            (it.spec("B").shape[0], *it.spec("A").shape[1:], it.embedding) for it in (ours, factors)
        )
        if mine != theirs:
            raise InputsDiffer(
                f"`{module}` has {mine[0]} outputs and inputs of {list(mine[1:-1])} in "
                f"`{first.label}`, {theirs[0]} and {list(theirs[1:-1])} in `{adapter.label}`. Merge "
                "adapters of one base only."
            )


def _rank(label: str, module: str, names: Mapping[str, str], checkpoint: Checkpoint) -> int:
    for part in ("A", "B"):
        if part not in names:
            raise InvalidInputs(
                f"`{label}` has only one of the two factors for `{module}`: "
                f"{', '.join(f'`{it}`' for it in names.values())}. Copy the adapter again."
            )
    a, b = (checkpoint.specs[names[part]].shape for part in ("A", "B"))
    fits = min(len(a), len(b)) > 1 and b[1] == a[0] and all(it == 1 for it in b[2:])
    if not fits or not a[0]:
        raise InvalidInputs(
            f"In `{label}` the factors for `{module}` have the shapes {list(a)} and {list(b)}, whose "
            "product is no delta of a plain layer; grouped convolutions and experts in one tensor "
            "are not supported. Merge this adapter into its base with PEFT, and then the models."
        )
    return a[0]
