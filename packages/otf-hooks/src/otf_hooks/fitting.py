"""Whether a checkpoint fits what a script has made, said tensor by tensor."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping

import torch

from .errors import CheckpointError

#: The tensors that a message names.
_LISTED = 10

_REMEDY = "Nothing was changed. Use the script, and the arguments, that it was made with."


def check_tensors(what: str, here: Mapping[str, Any], kept: Mapping[str, Any]) -> None:
    """Raise `CheckpointError` where the states of two modules differ in names or shapes.

    `here` is the script's `what`, `kept` the checkpoint's.
    """
    found = differences(here, kept)
    if not found:
        return
    lines = [f"  {line}" for line in found[:_LISTED]]
    if len(found) > _LISTED:
        lines.append(f"  and {len(found) - _LISTED} more")
    listed = "\n".join(lines)
    count = "1 tensor differs" if len(found) == 1 else f"{len(found)} tensors differ"
    raise CheckpointError(
        f"The checkpoint does not fit this script's {what}: {count}.\n{listed}\n{_REMEDY}"
    )


def differences(here: Mapping[str, Any], kept: Mapping[str, Any]) -> List[str]:
    """A line for every tensor that only one of two states has, or that has another shape there."""
    found = []
    for name, tensor in here.items():
        if name not in kept:
            found.append(f"{name}: {_shape(tensor)} in the script, not in the checkpoint")
        elif not _alike(tensor, kept[name]):
            found.append(
                f"{name}: {_shape(kept[name])} in the checkpoint, {_shape(tensor)} in the script"
            )
    found += [
        f"{name}: {_shape(tensor)} in the checkpoint, not in the script"
        for name, tensor in kept.items()
        if name not in here
    ]
    return found


def check_groups(here: List[Dict[str, Any]], kept: List[Dict[str, Any]]) -> None:
    """Raise `CheckpointError` where two optimizers divide their parameters in different ways."""
    ours, theirs = _sizes(here), _sizes(kept)
    if ours != theirs:
        raise CheckpointError(
            "The checkpoint does not fit this script's optimizer: the parameters in its groups are "
            f"{theirs} in the checkpoint and {ours} in the script. {_REMEDY}"
        )


def _sizes(groups: List[Dict[str, Any]]) -> List[int]:
    return [len(group["params"]) for group in groups]


def _alike(one: Any, other: Any) -> bool:
    if not (isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor)):
        # What a module keeps beside its tensors is the module's to understand.
        return isinstance(one, torch.Tensor) is isinstance(other, torch.Tensor)
    return torch.nn.parameter.is_lazy(one) or one.shape == other.shape


def _shape(value: Any) -> str:
    if not isinstance(value, torch.Tensor):
        return f"a {type(value).__name__}"
    if torch.nn.parameter.is_lazy(value):
        return "a shape yet to be found"
    return str(list(value.shape))
