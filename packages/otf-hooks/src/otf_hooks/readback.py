"""From what the training thread recorded to columns of numbers; done by the writer thread."""

from __future__ import annotations

import math
from typing import Any, Callable, Dict, Iterable, List, Optional, Sequence, Tuple

import torch
from otf_session.events import Metrics

from .recorder import HeldTensor, Measurement, version_of

Number = Optional[float]


def columns(run: str, measurements: Sequence[Measurement]) -> List[Metrics]:
    """The measurements of one run as `Metrics`, one for each set of steps that metrics share."""
    names = measurements[0].values.keys()
    # The usual case, in which every step measures the same: no look at single values.
    if all(item.values.keys() == names for item in measurements):
        groups = [(list(measurements), list(names))]
    else:
        groups = _groups(measurements)
    events = [_event(run, chosen, shared) for chosen, shared in groups]
    timed = [item for item in measurements if item.seconds]
    if timed:
        derived: Dict[str, List[Number]] = {
            "step_time": [item.seconds for item in timed],
            "throughput": [item.samples / item.seconds for item in timed],
        }
        waits = [item.waited for item in timed if item.waited is not None]
        # A front measures it at every step, or at none.
        if len(waits) == len(timed):
            derived["data_wait"] = list(waits)
        if len(groups) == 1 and len(timed) == len(measurements):
            events[0].values.update({**derived, **events[0].values})
        else:
            events.append(Metrics(run=run, values=derived, **_axes(timed)))
    return events


def _groups(measurements: Sequence[Measurement]) -> List[Tuple[List[Measurement], List[str]]]:
    """The measurements and the names that belong together, because they have all of them."""
    present: Dict[str, List[int]] = {}
    for position, measurement in enumerate(measurements):
        for name in measurement.values:
            present.setdefault(name, []).append(position)
    groups: Dict[Tuple[int, ...], List[str]] = {}
    for name, positions in present.items():
        groups.setdefault(tuple(positions), []).append(name)
    return [([measurements[p] for p in where], names) for where, names in groups.items()]


def _event(run: str, measurements: Sequence[Measurement], names: Sequence[str]) -> Metrics:
    values = {name: _finite([item.values[name] for item in measurements]) for name in names}
    return Metrics(run=run, values=values, **_axes(measurements))


def _axes(measurements: Sequence[Measurement]) -> Dict[str, Any]:
    return {
        "steps": [item.step for item in measurements],
        "times": [round(item.time, 4) for item in measurements],
    }


class TensorReader:
    """Reads held tensors back in one transfer per device, beside the training stream."""

    def __init__(self, on_changed: Callable[[str], None]) -> None:
        self._on_changed = on_changed
        self._streams: Dict[torch.device, Any] = {}

    def read(self, measurements: Iterable[Measurement]) -> None:
        """Replace every held tensor in these measurements by its number.

        A tensor that was changed in place since it was recorded becomes NaN, and `on_changed` is
        told the metric's name, so that it is copied from then on.
        """
        places: Dict[Tuple[torch.device, torch.dtype], List[Tuple[Dict[str, Any], str]]] = {}
        for measurement in measurements:
            for name, value in measurement.values.items():
                if isinstance(value, HeldTensor):
                    key = (value.tensor.device, value.tensor.dtype)
                    places.setdefault(key, []).append((measurement.values, name))
        for (device, _), found in places.items():
            held = [values[name] for values, name in found]
            for (values, name), item, number in zip(found, held, self._numbers(device, held)):
                changed = version_of(item.tensor) != item.version
                if changed:
                    self._on_changed(name)
                values[name] = math.nan if changed else number

    def _numbers(self, device: torch.device, held: Sequence[HeldTensor]) -> List[float]:
        scalars = [item.tensor.reshape(()) for item in held]
        if device.type != "cuda":
            return [float(number) for number in torch.stack(scalars).tolist()]
        if device not in self._streams:
            self._streams[device] = torch.cuda.Stream(device)
        side = self._streams[device]
        # The training thread works on the device's default stream unless the script says
        # otherwise; an event there orders the read after the kernels that make the values,
        # and waiting for it holds neither the training thread nor its stream.
        side.wait_event(torch.cuda.default_stream(device).record_event())
        with torch.cuda.stream(side):
            return [float(number) for number in torch.stack(scalars).tolist()]


def _finite(column: List[Any]) -> List[Number]:
    # `map` runs in C: this is done for every value that is recorded.
    if all(map(math.isfinite, column)):
        return list(map(float, column))
    return [float(value) if math.isfinite(value) else None for value in column]
