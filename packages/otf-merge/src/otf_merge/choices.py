"""What was chosen for each tensor: weights and parameters, and where a pattern says otherwise."""

from __future__ import annotations

import fnmatch
import functools
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .errors import InvalidInputs, InvalidParameter

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from .registry import MergeMethod

_WEIGHTS = ("weight", "weights")


@dataclass(frozen=True)
class Override:
    """Other weights or parameters for the tensors whose names match a pattern."""

    pattern: str
    given: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> Override:
        """The override that `PATTERN:KEY=VALUE[,VALUE...][;KEY=VALUE]` says.

        A pattern is compared with whole names, `*` standing for anything.
        """
        pattern, colon, rest = text.rpartition(":")
        pairs = [part.partition("=") for part in rest.split(";")]
        if (
            not colon
            or not pattern
            or not all(key and equals and value for key, equals, value in pairs)
        ):
            raise InvalidInputs(
                f"`--set {text}` says nothing. Write PATTERN:KEY=VALUE, for example "
                "'encoder.*:weight=0.7' or 'head.*:density=0.5;scale=0.8'."
            )
        return cls(pattern, {key.strip(): value.strip() for key, _, value in pairs})


class Choices:
    """The weights and parameters of every tensor, checked when this is made.

    Later overrides win over earlier ones.
    """

    def __init__(
        self,
        method: MergeMethod,
        count: int,
        weights: Sequence[float] | None = None,
        given: Mapping[str, Any] | None = None,
        overrides: Sequence[Override] = (),
    ) -> None:
        self.method = method
        self.given = method.values(given or {})
        self.own_weights = _checked(method, weights, count, self.given)
        self.overrides = overrides
        self._count = count
        self._weights = weights
        self._of = functools.lru_cache(maxsize=None)(self._found)
        for override in overrides:
            self._apply(override, self.given, self.own_weights)

    def with_parameters(self, given: Mapping[str, Any]) -> Choices:
        """The same choices with other parameters."""
        return Choices(self.method, self._count, self._weights, given, self.overrides)

    def values(self, name: str) -> dict[str, Any]:
        """The method's parameters for that tensor."""
        return self._of(name)[0]

    def weights(self, name: str) -> Sequence[float]:
        """Each checkpoint's weight for that tensor; they need not add up to 1."""
        return self._of(name)[1]

    def require_matches(self, names: Iterable[str]) -> None:
        """Raise `InvalidInputs` for an override that concerns none of those tensors."""
        known = list(names)
        for override in self.overrides:
            if not any(fnmatch.fnmatchcase(name, override.pattern) for name in known):
                raise InvalidInputs(
                    f"No merged tensor's name matches `--set {override.pattern}`. A pattern is "
                    "compared with whole names, where * stands for anything."
                )

    def _found(self, name: str) -> tuple[dict[str, Any], Sequence[float]]:
        values, weights = dict(self.given), self.own_weights
        for override in self.overrides:
            if fnmatch.fnmatchcase(name, override.pattern):
                values, weights = self._apply(override, values, weights)
        return values, weights

    def _apply(
        self, override: Override, values: Mapping[str, Any], weights: Sequence[float]
    ) -> tuple[dict[str, Any], Sequence[float]]:
        parameters = {key: it for key, it in override.given.items() if key not in _WEIGHTS}
        changed = {
            **values,
            **{key: self.method.values({key: it})[key] for key, it in parameters.items()},
        }
        for key in _WEIGHTS:
            if key in override.given:
                given = numbers_of(override.given[key], self._count)
                weights = _checked(self.method, given, self._count, changed)
        _require_usable(self.method, weights, changed)
        return changed, weights


def numbers_of(given: Any, count: int) -> list[float]:
    """Weights as a list of numbers; of two checkpoints, one share says both."""
    parts = given.split(",") if isinstance(given, str) else given
    try:
        numbers = [float(part) for part in (parts if isinstance(parts, (list, tuple)) else [parts])]
    except (TypeError, ValueError):
        raise InvalidParameter(f"`weight` is {given!r}, and must be numbers with commas.") from None
    return [numbers[0], 1 - numbers[0]] if len(numbers) == 1 and count == 2 else numbers  # noqa: PLR2004


def _checked(
    method: MergeMethod,
    weights: Sequence[float] | None,
    count: int,
    values: Mapping[str, Any],
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
    _require_usable(method, weights, values)
    return weights


def _require_usable(
    method: MergeMethod, weights: Sequence[float], values: Mapping[str, Any]
) -> None:
    signed = method.signed(values)
    are_finite = all(math.isfinite(weight) for weight in weights)
    if are_finite and any(weights) and (signed or min(weights) >= 0):
        return
    if signed:
        raise InvalidInputs(
            f"The weights {list(weights)} make no sum: each must be a finite number, and one of "
            "them other than zero."
        )
    raise InvalidInputs(
        f"The weights {list(weights)} make no average: each must be a finite number of zero or "
        "more, and one of them more than zero. Only where deltas are added up, as "
        "`task-arithmetic` does without `normalize`, may a weight be negative."
    )
