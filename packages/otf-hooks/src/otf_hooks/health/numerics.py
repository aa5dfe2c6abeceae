"""The check of numerics: every tensor of the training, the loss scale, and where it goes wrong."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Dict, List, Sequence

import torch

from ..batches import tensors
from ..errors import NotPossible
from . import precision
from .examination import Examination
from .findings import LISTED, Findings
from .origins import Origin, Origins
from .tensors import Named, described, extremes, held

_MEANING = {
    "parameter": "Every output that depends on it is not finite, and no further step repairs that.",
    "buffer": "A statistic that is not finite spoils every output that is normalised by it.",
    "gradient": "The optimizer's next step with it makes the parameter itself not finite.",
    "optimizer state": "Each further step takes it into the parameter, also after good gradients.",
}
_REMEDY = {
    "parameter": "Go back to a checkpoint from before it (otf ctl load), with a lower learning rate "
    "or clipped gradients.",
    "buffer": "Go back to a checkpoint from before it, and look for inputs that are not finite.",
    "gradient": "Look at where it arises below; clip gradients, or lower the learning rate.",
    "optimizer state": "Go back to a checkpoint from before it: the weights alone do not repair it.",
}


def check(exam: Examination) -> None:
    """Look at all tensors, then train one batch on trial and see where a bad value arises."""
    notes, probe = exam.notes, exam.probe
    exam.step(0, 2)
    found = held(probe)
    largest = extremes([each.tensor for each in found])
    look_at_tensors(notes, found, largest, is_scaled=probe.scaler is not None)
    precision.look_at_range(notes, found, largest, probe.amp_type)
    if probe.scaler is not None:
        scale = float(probe.scaler.get_scale())
        precision.look_at_scale(notes, exam.history("loss_scale"), scale)
    exam.step(1, 2)
    try:
        _rehearse(exam)
    except NotPossible as error:
        notes.fact("replayed batch", f"none: {error}")
    exam.step(2, 2)


def look_at_tensors(
    notes: Findings, found: Sequence[Named], largest: Sequence[float], *, is_scaled: bool
) -> None:
    """Find the tensors that are not finite, by the greatest magnitude in each."""
    bad: Dict[str, List[Named]] = {}
    for each, value in zip(found, largest):
        if not math.isfinite(value):
            bad.setdefault(each.kind, []).append(each)
    for kind in _MEANING:
        of_kind = [value for each, value in zip(found, largest) if each.kind == kind]
        notes.measure(f"{kind} tensors", len(of_kind))
        if of_kind:
            notes.measure(f"{kind} max", _greatest(of_kind))
    for kind, tensors_ in bad.items():
        # A scaler's own skipped step leaves such gradients behind, and no harm is done.
        is_harmless = kind == "gradient" and is_scaled and set(bad) == {"gradient"}
        add = notes.info if is_harmless else notes.critical
        for each in tensors_[:LISTED]:
            add(
                each.name,
                f"This {kind} holds values that are not finite.",
                value=described(each.tensor),
                meaning=_SCALED if is_harmless else _MEANING[kind],
                remedy=_SCALED_REMEDY if is_harmless else _REMEDY[kind],
            )
        if len(tensors_) > LISTED:
            add(
                kind,
                f"{len(tensors_) - LISTED} more of this kind hold values that are not finite.",
                value=f"{len(tensors_)} of {sum(each.kind == kind for each in found)} tensors",
                meaning=_MEANING[kind],
                remedy=_REMEDY[kind],
            )


_SCALED = "The loss scale was too high for this step, which the scaler has skipped by itself."
_SCALED_REMEDY = "Nothing, where it is rare: the scaler lowers its scale and goes on."


def _greatest(values: Sequence[float]) -> float:
    return math.nan if any(math.isnan(value) for value in values) else max(values)


def _rehearse(exam: Examination) -> None:
    notes, probe = exam.notes, exam.probe
    with exam.rehearse() as rehearsal:
        batch = rehearsal.read()
        if batch is None:
            notes.fact("replayed batch", "none: the epoch has no batch left")
            return
        _look_at_batch(notes, batch)
        batch = rehearsal.move(batch)
        with Origins(probe.model) as origins:
            metrics = rehearsal.train(batch)
        origins.settle()
        notes.fact("replayed batch", "one, forward and backward")
        precision.look_at_outputs(notes, origins.halves)
        _look_at_origin(notes, origins, metrics, is_scaled=probe.scaler is not None)


def _look_at_batch(notes: Findings, batch: object) -> None:
    for number, tensor in enumerate(tensors(batch)):
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            notes.critical(
                "train_loader",
                f"Tensor {number} of a batch holds values that are not finite.",
                value=described(tensor),
                meaning="The loss of this batch is not finite, whatever the weights are.",
                remedy="Find the samples in the dataset, and drop or repair them.",
            )


def _look_at_origin(
    notes: Findings, origins: Origins, metrics: Mapping[str, object], *, is_scaled: bool
) -> None:
    given = metrics.get("loss")
    loss = given.detach() if isinstance(given, torch.Tensor) else given
    is_bad = isinstance(loss, (int, float, torch.Tensor)) and not math.isfinite(float(loss))
    if origins.forward is not None:
        _tell(notes.critical, "forward", origins.forward)
    elif is_bad:
        notes.critical(
            "loss",
            "The loss is not finite, though the model's output is.",
            value=f"loss {float(loss)}",  # type: ignore[arg-type]
            meaning="The loss function overflows or takes the logarithm of 0, or a target is bad.",
            remedy="Use the form of the loss that takes logits, or bound its argument from below.",
        )
    elif origins.backward is not None:
        _tell(notes.info if is_scaled else notes.critical, "backward", origins.backward)


def _tell(add: object, which: str, origin: Origin) -> None:
    what = {
        "forward": "The first output that is not finite comes from this layer.",
        "backward": "The first gradient that is not finite arrives at this layer's output.",
    }[which]
    if origin.has_bad_weights:
        meaning = "Its own weights are not finite: they were spoilt at an earlier step."
        remedy = "Go back to a checkpoint from before it (otf ctl load)."
    elif which == "forward" and not origin.has_good_inputs:
        meaning = "What it is given is not finite already: it comes from the batch."
        remedy = "Find the samples in the dataset, and drop or repair them."
    elif which == "forward":
        meaning = (
            "Its weights and what it is given are finite: it overflows, or is undefined there."
        )
        remedy = (
            "Keep what it is given in range: normalise before it, lower the learning rate, bound "
            "the argument of a logarithm, a root or a division, or run it in float32."
        )
    else:
        meaning = "What follows this layer has no finite derivative at this point."
        remedy = (
            "Look at the operations behind it: a root, a norm or a division at 0, or one that is "
            "masked by torch.where. Clip gradients where they only grow too large."
        )
    assert callable(add)
    add(origin.name, what, value=origin.value, meaning=meaning, remedy=remedy)
