"""Which tensor an optimizer's state belongs to, where it says no more than their order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Optional, Tuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

#: The shape of a parameter; None where the optimizer keeps nothing for it, so that it is unknown.
Shape = Optional[Tuple[int, ...]]


def assigned(
    groups: Sequence[Sequence[Any]],
    shapes: Mapping[Any, Shape],
    names: Mapping[str, tuple[int, ...]],
) -> dict[Any, str] | None:
    """The names of those parameters for which only one is possible; None where they do not fit.

    `groups` are the optimizer's parameters in the order in which it was given them, `names` the
    model's tensors with their shapes in the model's order. Within a group the order is taken to be
    the model's; a group need not have all tensors, and may lie between the others.
    """
    found: dict[Any, str] = {}
    while True:
        before = len(found)
        for group in groups:
            earliest = _placed(group, shapes, names, found)
            latest = _placed(group[::-1], shapes, dict(reversed(list(names.items()))), found)
            if earliest is None or latest is None:
                return None
            # Both are ways to place the whole group, and no way goes before or beyond them.
            found.update({it: name for it, name in earliest.items() if latest[it] == name})
        # What is settled for one group is no longer free for the others, which may settle more.
        if len(found) == before:
            return found


def _placed(
    group: Iterable[Any],
    shapes: Mapping[Any, Shape],
    names: Mapping[str, tuple[int, ...]],
    found: Mapping[Any, str],
) -> dict[Any, str] | None:
    """The group's parameters placed in order, each as early as it can be; None if one cannot."""
    taken = {name: index for index, name in found.items()}
    left = iter(names.items())
    placed = {}
    for index in group:
        for name, shape in left:
            own = taken.get(name) == index if name in taken or index in found else True
            if own and shapes[index] in (None, shape):
                placed[index] = name
                break
        else:
            return None
    return placed
