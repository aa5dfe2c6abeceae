"""One merge: tensors of one name in, one tensor out, one name after the other."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any

import torch

from .compatibility import is_averaged, matched_names
from .errors import InvalidInputs, InvalidMethod, NotFinite

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from .checkpoints.checkpoint import Checkpoint
    from .registry import MergeMethod

_RUNNING_STATISTICS = ("running_mean", "running_var")
_COUNTER = "num_batches_tracked"


class Merge:
    """Checkpoints and the method that makes one of them.

    Names, dtypes and whatever cannot be averaged follow the first checkpoint. What the user should
    know beside the result gathers in `warnings` while the tensors are merged.
    """

    def __init__(
        self,
        checkpoints: Sequence[Checkpoint],
        method: MergeMethod,
        weights: Sequence[float] | None = None,
        *,
        allow_nonfinite: bool = False,
    ) -> None:
        self.checkpoints = checkpoints
        self.method = method
        self.weights = _checked_weights(method, weights, len(checkpoints))
        self.allow_nonfinite = allow_nonfinite
        self.specs = checkpoints[0].specs
        self.warnings: list[str] = []
        self._names = matched_names(checkpoints)
        self._warn_of_left_out()
        self._warn_of_running_statistics()

    @property
    def parameters(self) -> dict[str, Any]:
        """What the method is given beside the tensors, with weights as shares of 1."""
        if not self.method.takes_weights:
            return {}
        total = sum(self.weights)
        return {"weights": [weight / total for weight in self.weights]}

    def tensor(self, name: str) -> Tensor:
        """The merged tensor of that name, in memory of its own."""
        parts = [
            checkpoint.read(names[name]) for checkpoint, names in zip(self.checkpoints, self._names)
        ]
        if not is_averaged(self.specs[name].dtype):
            return self._kept(name, parts)
        wide = functools.reduce(_wider, (part.dtype for part in parts), torch.float32)
        parts = [part.to(wide) for part in parts]
        for checkpoint, part in zip(self.checkpoints, parts):
            self._require_finite(
                part,
                f"`{name}` in {checkpoint.path} holds NaN or infinity. Leave that checkpoint out",
            )
        return self._merged(name, parts)

    def _merged(self, name: str, parts: Sequence[Tensor]) -> Tensor:
        dtype, shape = self.specs[name]
        given = {"weights": self.weights} if self.method.takes_weights else {}
        result = self.method(parts, **given)
        if result.shape != shape:
            raise InvalidMethod(
                f"The merge method `{self.method.name}` made a tensor of shape "
                f"{list(result.shape)} of those of `{name}`, whose shape is {list(shape)}. "
                "Report that to its author."
            )
        # A copy, so that a method which returns one of its inputs does not hand out a mapped file.
        result = result.to(dtype, copy=True)
        self._require_finite(
            result.to(parts[0].dtype),
            f"The merged `{name}` holds NaN or infinity as {dtype}, though no input does. Put a "
            "checkpoint of a wider dtype first",
        )
        return result

    def _kept(self, name: str, parts: Sequence[Tensor]) -> Tensor:
        first = parts[0]
        same = all(torch.equal(first, part.to(first.dtype)) for part in parts[1:])
        if not same and not name.endswith(_COUNTER):
            self.warnings.append(
                f"`{name}` differs between the checkpoints and is {first.dtype}, which is never "
                f"averaged: the values are those of {self.checkpoints[0].path}."
            )
        return first.clone()

    def _require_finite(self, tensor: Tensor, complaint: str) -> None:
        if not self.allow_nonfinite and not bool(torch.isfinite(tensor).all()):
            raise NotFinite(f"{complaint}, or pass --allow-nonfinite to merge all the same.")

    def _warn_of_left_out(self) -> None:
        left_out = sorted({key for checkpoint in self.checkpoints for key in checkpoint.left_out})
        if left_out:
            listed = ", ".join(f"`{key}`" for key in left_out)
            self.warnings.append(
                f"Only weights are merged: the output lacks what else the inputs hold, {listed}."
            )

    def _warn_of_running_statistics(self) -> None:
        layers = {name.rpartition(".")[0] for name in self.specs if _is_running_statistic(name)}
        if layers:
            self.warnings.append(
                f"The running statistics of {len(layers)} normalisation "
                f"layer{'s' if len(layers) > 1 else ''} were merged like weights, which is seldom "
                "what the merged model needs. Recompute them on training data, for example with "
                "`torch.optim.swa_utils.update_bn`."
            )


def _checked_weights(
    method: MergeMethod, weights: Sequence[float] | None, count: int
) -> Sequence[float]:
    if weights is None:
        return [1.0] * count
    if not method.takes_weights:
        raise InvalidInputs(
            f"The merge method `{method.name}` takes no weights. Leave them out, or use `linear`."
        )
    if len(weights) != count:
        raise InvalidInputs(
            f"There are {count} checkpoints and {len(weights)} weights. Give one weight for each "
            "checkpoint, in their order."
        )
    if not all(math.isfinite(weight) and weight >= 0 for weight in weights) or not any(weights):
        raise InvalidInputs(
            f"The weights {list(weights)} make no average: each must be a finite number of zero or "
            "more, and one of them more than zero."
        )
    return weights


def _wider(wide: torch.dtype, dtype: torch.dtype) -> torch.dtype:
    # The narrow ones are left out because torch promotes no float8; float32 holds all of them.
    return wide if dtype.itemsize < wide.itemsize else torch.promote_types(wide, dtype)


def _is_running_statistic(name: str) -> bool:
    return name.rpartition(".")[2] in _RUNNING_STATISTICS
