"""What adapters hold beside factors: DoRA's magnitudes, biases, and modules trained whole.

These stand in the place of the base's own tensors instead of being added to them. So they can be
averaged, where all adapters have them, but not summed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..averaging import averaged
from ..errors import InputsDiffer, InvalidInputs
from ..parents import Parent
from .names import canonical

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from .lora import Adapter

_SHOWN = 5


def averaged_beside(
    adapters: Sequence[Adapter], shares: Sequence[float], *, normalized: bool
) -> dict[str, Tensor]:
    """All such tensors, averaged by the shares, under the first adapter's names.

    Raises `InvalidInputs` where they would have to be summed, and `InputsDiffer` where not all
    adapters have the same.
    """
    parents = [Parent(it.checkpoint, _names(it)) for it in adapters]
    first = parents[0]
    for adapter, parent in zip(adapters, parents):
        if set(parent.names) != set(first.names):
            lone = sorted(set(parent.names) ^ set(first.names))
            raise InputsDiffer(
                f"Not all adapters hold {_listed(lone)}, of which `{adapters[0].label}` and "
                f"`{adapter.label}` differ. It stands in the place of a tensor of the base, which is "
                "not at hand here to be averaged with. Merge adapters that were trained alike."
            )
        for name in parent.names:
            if parent.specs[name].shape != first.specs[name].shape:
                raise InputsDiffer(
                    f"`{name}` has the shape {list(first.specs[name].shape)} in "
                    f"`{adapters[0].label}`, and {list(parent.specs[name].shape)} in "
                    f"`{adapter.label}`. Merge adapters that were trained alike."
                )
    if first.names and not normalized and len(adapters) > 1:
        raise InvalidInputs(
            f"The adapters hold {_listed(sorted(first.names))}, which stand in the place of tensors "
            "of the base and cannot be summed. Let `normalize` be true, so that all is averaged."
        )
    return {own: averaged(parents, name, shares) for name, own in first.names.items()}


def _names(adapter: Adapter) -> dict[str, str]:
    own = [*adapter.magnitudes.values(), *adapter.others]
    return {canonical(name): name for name in own}


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN
    shown = ", ".join(f"`{name}`" for name in names[:_SHOWN])
    return shown + (f" and {more} more" if more > 0 else "")
