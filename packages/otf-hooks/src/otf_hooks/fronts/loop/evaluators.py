"""How the script evaluates: functions that it gives, for its own use and for commands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Callable, Dict, NamedTuple, Optional

from ...errors import ArgumentError, NotPossible, StepError
from ...front import Evaluated, KeepGoing
from ...loaders import Loader
from ...peers import Rounds
from ..evaluation import evaluate

#: Of a batch, or of nothing where it evaluates the whole split by itself, to a dict of metrics.
Evaluate = Callable[..., Mapping[str, Any]]

PREFIXES = {"validation": "val_", "test": "test_"}


class _Evaluator(NamedTuple):
    function: Evaluate
    loader: Optional[Loader]


class Evaluators:
    """What is known of each split; the newest function counts."""

    def __init__(self) -> None:
        self._known: Dict[str, _Evaluator] = {}

    def add(self, split: str, function: Evaluate, loader: Optional[Loader]) -> None:
        """Evaluate a split with `function`: of each batch of `loader`, or without one of nothing."""
        if split not in PREFIXES:
            raise ArgumentError(f"split is {split!r}; it is 'validation' or 'test'.")
        if not callable(function):
            raise ArgumentError(
                f"The evaluation of the {split} data is a {type(function).__name__}; it is a "
                "function of a batch that returns a dict with a 'loss'."
            )
        self._known[split] = _Evaluator(function, loader)

    def loader(self, split: str) -> Optional[Loader]:
        """What a split is evaluated on, where that is known."""
        found = self._known.get(split)
        return None if found is None else found.loader

    def run(
        self, split: str, keep_going: KeepGoing, rounds: Optional[Rounds] = None
    ) -> Optional[Evaluated]:
        """The means over a split, None where broken off; to be called inside `Undisturbed`.

        With several processes, in `rounds`, over the batches of all.
        """
        found = self._known.get(split)
        if found is None:
            raise NotPossible(
                f"The script has not said how it evaluates on {split} data. Give it a function of "
                f"a batch that returns a dict: @run.evaluator('{split}', loader), or have the "
                "script itself evaluate by run.evaluate(function, loader)."
            )
        prefix = PREFIXES[split]
        if found.loader is None:
            if not keep_going(0, 0):
                return None
            return _whole(split, found.function(), prefix)
        function = found.function
        return evaluate(
            split=split,
            loader=found.loader,
            loader_name=f"The {split} loader",
            step=lambda batch, state: function(batch),
            state={},
            device=None,
            prefix=prefix,
            keep_going=keep_going,
            rounds=rounds,
        )


def _whole(split: str, metrics: Any, prefix: str) -> Evaluated:
    if not isinstance(metrics, Mapping):
        raise StepError(
            f"The function that evaluates the {split} data returned a {type(metrics).__name__}. "
            "It returns a dict of metrics, such as {'loss': 0.3, 'accuracy': 0.9}."
        )
    return Evaluated(split, 0, named_values(metrics, prefix))


def named_values(metrics: Mapping[str, Any], prefix: str) -> Dict[str, Optional[float]]:
    """Numbers or tensors with one element under names that begin with `prefix`, once."""
    found: Dict[str, Optional[float]] = {}
    for name, value in metrics.items():
        try:
            number = float(value)
        except (TypeError, ValueError) as error:
            raise StepError(
                f"The metric '{name}' is a {type(value).__name__}; it is one number, or a tensor "
                "with one element."
            ) from error
        finite = number - number == 0.0
        found[name if name.startswith(prefix) else prefix + name] = number if finite else None
    return found
