"""Units that are dead or saturated, from what activation functions are given and return."""

from __future__ import annotations

import contextlib
from typing import Any, Dict, Iterator, NamedTuple, Optional, Tuple

import torch
from torch import nn

from .findings import Findings, percent
from .modules import Whereabouts
from .operators import channel_dim

#: Inputs below which a function's output hardly depends on them: 0 for a ReLU; where the slope is
#: below 0.02 for GELU and SiLU, whose outputs there are near 0 as well.
_OFF_BELOW = {"relu": 0.0, "hardtanh": None, "gelu": -3.0, "silu": -6.5}
#: Magnitudes above which the slope is below 0.02 of its steepest (sigmoid: 0.25, tanh: 1).
_FLAT_BEYOND = {"sigmoid": 5.3, "tanh": 2.65}
#: Entries a unit must have had before it can be called dead.
_FEWEST = 64
#: Shares of a layer's units that are dead, and of its entries that are saturated or 0.
_DEAD_CRITICAL, _DEAD_WARNING = 0.5, 0.1
_FLAT_CRITICAL, _FLAT_WARNING = 0.9, 0.5
_ZERO_WARNING = 0.95


class _Call(NamedTuple):
    """One call of an activation function, seen before it is executed."""

    place: str
    off: torch.Tensor
    flat: Optional[torch.Tensor]
    entries: int


class _Place:
    """What was seen of one activation function in the model; counts stay on the device."""

    def __init__(self, operator: str) -> None:
        self.operator = operator
        self.off: Any = 0
        self.flat: Any = 0
        self.sums: Any = 0
        self.entries = 0
        self.pointer = 0
        self.is_result = False


class Units:
    """Watches activation functions: ReLU, GELU, SiLU, sigmoid and tanh, wherever they are called."""

    def __init__(self) -> None:
        self._places: Dict[str, _Place] = {}
        self._numbers: Dict[int, Dict[str, int]] = {}
        self._last = ""

    def before(self, operator: str, args: Tuple[Any, ...], where: Whereabouts) -> Optional[_Call]:
        """Count what each unit is given."""
        if operator == "hardtanh" and args[1:] != (0.0, 6.0):
            return None
        # The gates of a recurrent layer are meant to be open or shut.
        if isinstance(where.module, nn.RNNBase):
            return None
        if operator not in _OFF_BELOW and operator not in _FLAT_BEYOND:
            return None
        given = args[0].detach()
        if given.ndim < 2 or not given.numel():  # noqa: PLR2004 - a batch of units
            return None
        place = self._place(operator, where)
        units = channel_dim(given, where)
        rest = [dim for dim in range(given.ndim) if dim != units]
        flat = None
        if operator in _FLAT_BEYOND:
            off = given.abs() > _FLAT_BEYOND[operator]
            flat = off
        else:
            off = given <= (_OFF_BELOW[operator] or 0.0)
        counts = off.sum(dim=rest)
        entries = given.numel() // given.shape[units]
        return _Call(place, counts, None if flat is None else flat.sum(), entries)

    def after(self, seen: _Call, result: torch.Tensor) -> None:
        """Count what it returned."""
        place = self._places[seen.place]
        values = result.detach()
        wide = values.double() if values.dtype is torch.float64 else values.float()
        sums = torch.stack([(values == 0).sum().to(wide), wide.sum(), wide.square().sum()])
        # A layer may be called with other numbers of units; then only the last is kept.
        same = isinstance(place.off, torch.Tensor) and place.off.shape == seen.off.shape
        place.off = place.off + seen.off if same else seen.off
        place.entries = place.entries + seen.entries if same else seen.entries
        place.sums = place.sums + sums if same else sums
        if seen.flat is not None:
            place.flat = place.flat + seen.flat if same else seen.flat
        place.pointer = values.data_ptr()
        self._last = seen.place

    @contextlib.contextmanager
    def leaving_out_the_result_of(self, model: nn.Module) -> Iterator[None]:
        """What the model returns may be saturated: a probability near 1 is what is wanted."""
        self._numbers.clear()

        def hook(module: nn.Module, args: Any, output: Any) -> None:
            last = self._places.get(self._last)
            if last is not None and isinstance(output, torch.Tensor):
                last.is_result |= last.pointer == output.data_ptr()
            self._numbers.clear()

        handle = model.register_forward_hook(hook)
        try:
            yield
        finally:
            handle.remove()

    def settle(self, notes: Findings) -> None:
        """Say which layers have dead or saturated units."""
        for name, place in self._places.items():
            if place.is_result:
                continue
            units = len(place.off)
            total = units * place.entries
            zeros, summed, squares = (float(value) for value in place.sums)
            mean = summed / total
            notes.measure(f"mean/{name}", mean)
            notes.measure(f"std/{name}", max(0.0, squares / total - mean * mean) ** 0.5)
            whole = place.off == place.entries
            if place.operator in _FLAT_BEYOND:
                _saturated(notes, name, float(place.flat) / total, int(whole.sum()), units)
                continue
            notes.measure(f"zero/{name}", zeros / total)
            dead = int(whole.sum())
            notes.measure(f"dead/{name}", dead / units)
            if place.entries >= _FEWEST:
                _dead(notes, name, place.operator, dead, units, zeros / total)

    def _place(self, operator: str, where: Whereabouts) -> str:
        # One module may call a function several times: they are told apart by their order.
        numbers = self._numbers.setdefault(id(where.module), {})
        numbers[operator] = numbers.get(operator, 0) + 1
        number = numbers[operator]
        name = where.name if number == 1 else f"{where.name}, {operator} {number}"
        self._places.setdefault(name, _Place(operator))
        return name


def _dead(notes: Findings, name: str, operator: str, dead: int, units: int, zeros: float) -> None:
    share = dead / units
    add = notes.critical if share >= _DEAD_CRITICAL else notes.warning
    if share >= _DEAD_WARNING and (dead > 1 or units == 1):
        add(
            name,
            f"{dead} of {units} units are dead.",
            value=f"{percent(share)} of the units, for every sample",
            meaning="Their inputs are so far below 0 that neither they nor what leads to them gets "
            "a gradient: they do not come back by themselves.",
            remedy="Lower the learning rate or warm it up, look at large negative biases, normalise "
            + ("before it, or use LeakyReLU or GELU." if operator == "relu" else "before it."),
        )
    elif zeros > _ZERO_WARNING:
        notes.warning(
            name,
            "Almost all outputs are 0.",
            value=f"{percent(zeros)} of the outputs",
            meaning="Little of the signal, and of the gradient, comes through this layer.",
            remedy="Look at the biases before it, and normalise before it.",
        )


def _saturated(notes: Findings, name: str, share: float, whole: int, units: int) -> None:
    notes.measure(f"saturated/{name}", share)
    if share < _FLAT_WARNING:
        return
    add = notes.critical if share >= _FLAT_CRITICAL else notes.warning
    add(
        name,
        "Most outputs are saturated.",
        value=f"{percent(share)} of the outputs; {whole} of {units} units for every sample",
        meaning="The function is flat there, so that hardly any gradient comes through.",
        remedy="Normalise before it, begin with smaller weights, or lower the learning rate.",
    )
