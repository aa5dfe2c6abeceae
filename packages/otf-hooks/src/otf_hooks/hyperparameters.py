"""What can be changed while training runs, and who owns the learning rate afterwards.

The rule: without a scheduler a learning rate is what it was last set to. With one, a rate that is
set is a factor on the scheduler's: the scheduler goes on as if nothing had happened, and what it
says is multiplied by the new value over its own. A rate that is held stays as it is until it is
released; the scheduler goes on underneath. Both survive a checkpoint.
"""

from __future__ import annotations

import math
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Set, Tuple, Union

import torch
from otf_session.commands import SetHyperparameters, Value
from otf_session.events import Hyperparameter
from otf_session.results import HyperparameterChange, HyperparametersSet

from .errors import ArgumentError, NotPossible

CLIP = "grad_clip_norm"

_Bounds = Tuple[Optional[float], Optional[float]]

#: As near to 1 as is of any use: a beta of 1 has the optimizer divide by zero.
_BELOW_ONE = 0.999999

#: What an optimizer's entries may be; of others only that they are numbers is known.
_BOUNDS: Dict[str, _Bounds] = {
    "lr": (0.0, None),
    "weight_decay": (0.0, None),
    "momentum": (0.0, None),
    "dampening": (0.0, None),
    "eps": (0.0, None),
    "alpha": (0.0, 1.0),
    "rho": (0.0, 1.0),
    "lambd": (0.0, None),
    "lr_decay": (0.0, None),
    "betas.0": (0.0, _BELOW_ONE),
    "betas.1": (0.0, _BELOW_ONE),
}
#: Written by schedulers and by torch itself: not a person's to change.
_NOT_OFFERED = ("initial_lr", "max_lr", "min_lr", "max_momentum", "base_momentum")


class Tunable(NamedTuple):
    """A value that the script reads back at each step."""

    value: Value
    default: Value
    low: Optional[float]
    high: Optional[float]


class Tunables:
    """What the script registered with `trainer.tunable`."""

    def __init__(self) -> None:
        self._tunables: Dict[str, Tunable] = {}
        self._loaded: Dict[str, Value] = {}
        self._reserved: Set[str] = set()
        #: Called when one is registered, so that the dashboard knows of it.
        self.on_registered: Callable[[], None] = _nothing

    def get(self, name: str, default: Value, low: Optional[float], high: Optional[float]) -> Value:
        """The value that a name has now; registered with `default` where it is new."""
        known = self._tunables.get(name)
        if known is not None:
            return known.value
        if not isinstance(default, (bool, int, float, str)):
            raise NotPossible(
                f"The tunable '{name}' has a {type(default).__name__} as default; it holds a "
                "number, a truth value or a text."
            )
        self._check_name(name)
        value = self._loaded.pop(name, default)
        try:
            value = _checked(name, value, default, (low, high))
        except NotPossible:
            # Kept by a script that had another type or other bounds for it.
            value = default
        self._tunables[name] = Tunable(value, default, low, high)
        self.on_registered()
        return value

    def reserve(self, names: Set[str]) -> None:
        """These are the optimizer's; raises `ArgumentError` where a tunable has one of them."""
        self._reserved = names
        for name in self._tunables:
            self._check_name(name)

    def _check_name(self, name: str) -> None:
        if name in self._reserved:
            raise ArgumentError(
                f"The tunable '{name}' has the name of one of the optimizer's own values, which "
                "can be changed anyway. Give it another name."
            )

    def reset(self) -> None:
        """A new run begins with what the script says."""
        self.load({})

    def known(self) -> Dict[str, Tunable]:
        """All of them, by name."""
        return self._tunables

    def values(self) -> Dict[str, Value]:
        """What a checkpoint keeps of them."""
        registered = {name: tunable.value for name, tunable in self._tunables.items()}
        return {**self._loaded, **registered}

    def put(self, name: str, value: Value) -> None:
        """Change a value; it has been checked."""
        self._tunables[name] = self._tunables[name]._replace(value=value)

    def load(self, values: Dict[str, Value]) -> None:
        """Be as when these values were kept: what was not registered then is its default again.

        One that is not registered yet is kept until it is.
        """
        self._loaded = {k: value for k, value in values.items() if k not in self._tunables}
        for name, tunable in list(self._tunables.items()):
            self.put(name, values.get(name, tunable.default))


class Hyperparameters:
    """The optimizer's entries, gradient clipping and tunables of one run."""

    def __init__(
        self,
        *,
        optimizer: torch.optim.Optimizer,
        scheduler: Any,
        grad_clip_norm: Optional[float],
        tunables: Tunables,
    ) -> None:
        self._optimizer = optimizer
        self._scheduler = scheduler
        self.grad_clip_norm = grad_clip_norm
        self._tunables = tunables
        entries = {name for group in optimizer.param_groups for name in _entries(group)}
        tunables.reserve(entries | {CLIP})
        groups = len(optimizer.param_groups)
        self._factors = [1.0] * groups
        self._held: List[Optional[float]] = [None] * groups
        #: The scheduler's own rates, where they are not those in force.
        self._scheduled: Optional[List[float]] = None

    # Reading

    def table(self) -> List[Hyperparameter]:
        """Every hyperparameter with its value and bounds."""
        rows = []
        for number, group in enumerate(self._optimizer.param_groups):
            for name, value in _entries(group).items():
                low, high = _BOUNDS.get(name, (None, None))
                rows.append(
                    Hyperparameter(name=name, value=value, group=number, low=low, high=high)
                )
        rows.append(Hyperparameter(name=CLIP, value=self.grad_clip_norm or 0.0, low=0.0))
        for name, tunable in self._tunables.known().items():
            rows.append(
                Hyperparameter(name=name, value=tunable.value, low=tunable.low, high=tunable.high)
            )
        return rows

    @property
    def lr_owner(self) -> str:
        """`constant`, `scheduler`, `scaled` or `held`."""
        if any(held is not None for held in self._held):
            return "held"
        if self._scheduler is None:
            return "constant"
        return "scaled" if any(factor != 1.0 for factor in self._factors) else "scheduler"

    @property
    def lr_factors(self) -> List[float]:
        """What the scheduler's rate is multiplied by, per parameter group."""
        return list(self._factors)

    @property
    def lr_rule(self) -> str:
        """Who owns the learning rate, as a sentence."""
        owner = self.lr_owner
        if owner == "constant":
            return "No scheduler: the learning rate stays as it is set."
        name = type(self._scheduler).__name__
        if owner == "scheduler":
            return f"{name} sets the learning rate."
        if owner == "scaled":
            factors = ", ".join(f"{factor:.4g}" for factor in dict.fromkeys(self._factors))
            return f"{name} sets the learning rate, times {factors}."
        rates = ", ".join(f"{rate:.4g}" for rate in dict.fromkeys(self._held) if rate is not None)
        below = "" if self._scheduler is None else f"; {name} goes on underneath"
        return f"Held by hand at {rates}{below}."

    # Changing

    def change(self, command: SetHyperparameters) -> HyperparametersSet:
        """Apply all of the command's changes, or raise `NotPossible` and apply none."""
        if not command.values and command.hold is None:
            raise NotPossible("Nothing to change was named. Name a value, such as lr=0.001.")
        groups = self._groups(command.group)
        planned = [
            entry
            for name, value in command.values.items()
            for entry in self._plan(name, value, groups)
        ]
        for name, number, value in planned:
            if name == "lr" and number is not None and value:
                self._check_scalable(number, command.hold)
        before = [self._now(name, number) for name, number, _ in planned]
        if command.hold is False:
            self._release(groups)
        for name, number, value in planned:
            self._put(name, number, value, hold=bool(command.hold))
        if command.hold and "lr" not in command.values:
            for number in groups:
                self._held[number] = self._rate(number)
                self._remember_schedule()
        changes = [
            HyperparameterChange(
                name=name,
                group=number,
                before=old,
                requested=command.values[name],
                applied=self._now(name, number),
            )
            for (name, number, _), old in zip(planned, before)
        ]
        return HyperparametersSet(changes=changes, lr_rule=self.lr_rule)

    def step_scheduler(self, *args: Any) -> None:
        """Step the scheduler; held and scaled learning rates stay so."""
        if self._scheduled is None:
            self._scheduler.step(*args)
            return
        # The scheduler finds its own rates, as if nobody had interfered.
        for group, rate in zip(self._optimizer.param_groups, self._scheduled):
            _put_number(group, "lr", rate)
        self._scheduler.step(*args)
        self._scheduled = [float(group["lr"]) for group in self._optimizer.param_groups]
        self._put_rates()

    # In a checkpoint

    def state(self) -> Dict[str, Any]:
        """What a checkpoint keeps beside the optimizer's and the scheduler's own states."""
        return {
            "grad_clip_norm": self.grad_clip_norm,
            "factors": list(self._factors),
            "held": list(self._held),
            "scheduled": None if self._scheduled is None else list(self._scheduled),
            "tunables": self._tunables.values(),
        }

    def load(self, state: Dict[str, Any]) -> None:
        """Take over what a checkpoint kept; the optimizer's own state has been loaded."""
        self.grad_clip_norm = state["grad_clip_norm"]
        groups = len(self._optimizer.param_groups)
        self._factors = list(state["factors"])[:groups]
        self._held = list(state["held"])[:groups]
        self._scheduled = state["scheduled"]
        self._tunables.load(state["tunables"])

    # Parts

    def _groups(self, group: Optional[int]) -> List[int]:
        count = len(self._optimizer.param_groups)
        if group is None:
            return list(range(count))
        if not 0 <= group < count:
            raise NotPossible(
                f"There is no parameter group {group}: the optimizer has {count}, counted from 0."
            )
        return [group]

    def _plan(
        self, name: str, value: Value, groups: List[int]
    ) -> List[Tuple[str, Optional[int], Value]]:
        if name == CLIP:
            return [(name, None, _checked(name, value, 0.0, (0.0, None)))]
        tunable = self._tunables.known().get(name)
        if tunable is not None:
            bounds = (tunable.low, tunable.high)
            return [(name, None, _checked(name, value, tunable.default, bounds))]
        plan: List[Tuple[str, Optional[int], Value]] = []
        for number in groups:
            entries = _entries(self._optimizer.param_groups[number])
            if name in entries:
                bounds = _BOUNDS.get(name, (None, None))
                # A rate that the script wrote as 1 may become 0.5.
                like = float(entries[name]) if name in _BOUNDS else entries[name]
                plan.append((name, number, _checked(name, value, like, bounds)))
        if not plan:
            offered = sorted({row.name for row in self.table()})
            raise NotPossible(
                f"There is no hyperparameter '{name}'. There are: {', '.join(offered)}."
            )
        return plan

    def _now(self, name: str, group: Optional[int]) -> Value:
        if group is not None:
            return _entries(self._optimizer.param_groups[group])[name]
        if name == CLIP:
            return self.grad_clip_norm or 0.0
        return self._tunables.known()[name].value

    def _put(self, name: str, group: Optional[int], value: Value, *, hold: bool) -> None:
        if name == "lr" and group is not None:
            self._put_rate(group, float(value), hold=hold)
        elif group is not None:
            _put_number(self._optimizer.param_groups[group], name, value)
        elif name == CLIP:
            self.grad_clip_norm = float(value) or None
        else:
            self._tunables.put(name, value)

    def _put_rate(self, group: int, rate: float, *, hold: bool) -> None:
        if hold:
            self._held[group] = rate
        elif self._held[group] is not None:
            # Still held: at the new value.
            self._held[group] = rate
        if self._scheduler is not None:
            self._remember_schedule()
            assert self._scheduled is not None
            own = self._scheduled[group]
            if self._held[group] is None and own:
                self._factors[group] = rate / own
        _put_number(self._optimizer.param_groups[group], "lr", rate)

    def _check_scalable(self, group: int, hold: Optional[bool]) -> None:
        stays_held = hold or (hold is None and self._held[group] is not None)
        if self._scheduler is None or stays_held:
            return
        if not (self._rate(group) if self._scheduled is None else self._scheduled[group]):
            raise NotPossible(
                f"{type(self._scheduler).__name__} sets a learning rate of 0 now, and no factor on "
                "it makes another. Hold the new rate (hold=true), or set it a step later."
            )

    def _remember_schedule(self) -> None:
        if self._scheduler is not None and self._scheduled is None:
            self._scheduled = [float(group["lr"]) for group in self._optimizer.param_groups]

    def _release(self, groups: List[int]) -> None:
        for number in groups:
            self._held[number] = None
            if self._scheduled is not None:
                rate = self._scheduled[number] * self._factors[number]
                _put_number(self._optimizer.param_groups[number], "lr", rate)

    def _put_rates(self) -> None:
        assert self._scheduled is not None
        for number, group in enumerate(self._optimizer.param_groups):
            held = self._held[number]
            rate = self._scheduled[number] * self._factors[number] if held is None else held
            _put_number(group, "lr", rate)

    def _rate(self, group: int) -> float:
        return float(self._optimizer.param_groups[group]["lr"])


def _entries(group: Dict[str, Any]) -> Dict[str, Union[int, float]]:
    """The numeric entries of a parameter group; of a pair such as `betas` each number."""
    found: Dict[str, Union[int, float]] = {}
    for name, value in group.items():
        if name == "params" or name in _NOT_OFFERED or isinstance(value, bool):
            continue
        if isinstance(value, (int, float)):
            found[name] = value
        elif isinstance(value, torch.Tensor) and value.numel() == 1:
            found[name] = float(value)
        elif isinstance(value, tuple) and all(type(item) in (int, float) for item in value):
            found.update({f"{name}.{number}": item for number, item in enumerate(value)})
    return found


def _put_number(group: Dict[str, Any], name: str, value: Value) -> None:
    entry, _, position = name.partition(".")
    now = group[entry]
    if isinstance(now, torch.Tensor):
        # In place: a captured graph and the optimizer hold this very tensor.
        now.fill_(float(value))
    elif position:
        group[entry] = tuple(value if n == int(position) else v for n, v in enumerate(now))
    else:
        group[entry] = value


def _checked(name: str, value: Value, like: Value, bounds: _Bounds) -> Value:
    """The value as the type that `like` has, inside the bounds; else `NotPossible`."""
    wanted = type(like)
    if wanted in (bool, str):
        if type(value) is not wanted:
            raise NotPossible(f"{name} is {value!r}; it takes {_TYPES[wanted]}.")
        return value
    if isinstance(value, (bool, str)) or not math.isfinite(value):
        raise NotPossible(f"{name} is {value!r}; it takes a number.")
    if wanted is int and float(value) != int(value):
        raise NotPossible(f"{name} is {value!r}; it takes a whole number.")
    low, high = bounds
    if (low is not None and value < low) or (high is not None and value > high):
        raise NotPossible(f"{name} is {value!r}; it must be {_described(low, high)}.")
    return int(value) if wanted is int else float(value)


_TYPES = {bool: "true or false", str: "a text"}


def _described(low: Optional[float], high: Optional[float]) -> str:
    if low is None:
        return f"at most {high:g}"
    if high is None:
        return f"at least {low:g}"
    if high == _BELOW_ONE:
        return f"at least {low:g} and below 1"
    return f"from {low:g} to {high:g}"


def _nothing() -> None:
    """Nobody is told."""
