"""The check of distribution: classes and inputs, between epochs and splits, and between processes."""

from __future__ import annotations

from collections import Counter
from typing import Any, List, Optional, Tuple

import torch

from .. import randomness, sources
from ..errors import NotPossible
from . import ranks
from .drift import GREAT_SHIFT, SIGNIFICANT, Moments, of_classes, of_numbers, shares
from .examination import Examination
from .findings import Findings, percent
from .sampling import Reading, Sample, read, spread_over

#: Classes whose shares are listed.
_LISTED = 20
#: A class that is so many times rarer than the most frequent one.
_RARE, _VERY_RARE = 20, 200
#: Standard deviations between the inputs of two samples, and factors between their spreads.
_APART, _WIDER = 0.25, 1.5
#: A mean or a spread of inputs beyond which they count as not normalised.
_LARGE = 10.0
#: Samples that validation must have of a class before its absence from training says something.
_SOME = 3


def check(exam: Examination) -> None:
    """Read this epoch again, the one before, and the validation data, and compare them."""
    notes, probe = exam.notes, exam.probe
    if exam.gather is not None:
        exam.step(0, 1)
        ranks.check(exam)
        return
    now = _epoch(exam, 0)
    if now is None:
        raise NotPossible(notes.facts["epoch"])
    look_at_sample(notes, now)
    before = _epoch(exam, 1)
    if before is not None:
        compare(notes, "the epoch before", now, before)
    if probe.val_loader is not None:
        validation = _validation(exam)
        compare(notes, "the validation data", now, validation)
        look_at_missing(notes, now, validation)


def look_at_sample(notes: Findings, sample: Sample) -> None:
    """One epoch by itself: its classes, their order, and whether inputs are normalised."""
    notes.measure("samples", sample.samples)
    classes = sample.classes
    if classes:
        _look_at_classes(notes, classes)
        _look_at_order(notes, sample)
    inputs = sample.inputs
    if sample.has_bad_inputs:
        notes.critical(
            "train_loader",
            "Inputs hold values that are not finite.",
            value=f"in {sample.samples} samples",
            meaning="The loss of their batches is not finite, whatever the weights are.",
            remedy="Find the samples in the dataset, and drop or repair them.",
        )
    elif inputs is not None:
        _look_at_inputs(notes, inputs)


def compare(notes: Findings, what: str, now: Sample, other: Sample) -> None:
    """This epoch against another sample; what was read in part, in order, stands for nothing."""
    if not (_stands_for_all(now) and _stands_for_all(other)):
        notes.fact(f"drift from {what}", "not compared: the samples come in an order of classes")
        return
    if now.classes and other.classes:
        drift = of_classes(now.classes, other.classes)
        notes.measure(f"class drift from {what} (PSI)", drift.psi)
        if drift.is_shift:
            here, there = shares(now.classes), shares(other.classes)
            most = drift.most
            add = notes.warning if drift.psi >= GREAT_SHIFT else notes.info
            add(
                f"class {most}",
                f"The classes are distributed otherwise than in {what}.",
                value=f"PSI {drift.psi:.2f}, p {drift.p_value:.1g}; class {most}: "
                f"{percent(here.get(most, 0.0))} here, {percent(there.get(most, 0.0))} there",
                meaning="What is learned fits another mixture than what it is judged by; a sampler "
                "that balances classes does this on purpose.",
                remedy="Look at the sampler and at how the data was split; stratify the split.",
            )
    if now.inputs is not None and other.inputs is not None:
        _compare_inputs(notes, what, now.inputs, other.inputs)


def look_at_missing(notes: Findings, now: Sample, validation: Sample) -> None:
    """Classes that are validated on and not trained on."""
    if not (now.classes and _stands_for_all(now)):
        return
    missing = {
        each: count
        for each, count in validation.classes.items()
        if each not in now.classes and _is_missed(count, validation.samples, now)
    }
    if missing:
        named = ", ".join(str(each) for each in sorted(missing)[:_LISTED])
        notes.critical(
            f"class {min(missing)}",
            "Classes of the validation data are not in the training data.",
            value=f"{len(missing)} classes: {named}",
            meaning="They are never learned, and validation counts them all as wrong.",
            remedy="Look at how the data was split, and at how labels become class indices.",
        )


def _is_missed(count: int, total: int, now: Sample) -> bool:
    # Read in part, an epoch may lack a rare class by chance.
    return count >= _SOME and (now.is_whole or count / total * now.samples > 10)  # noqa: PLR2004


def _epoch(exam: Examination, back: int) -> Optional[Sample]:
    try:
        with exam.front.read_again(back) as batches:
            return read(batches, Reading(exam.step, exam.clock))
    except NotPossible as error:
        exam.notes.fact("epoch" if back == 0 else "the epoch before", error)
        return None


def _validation(exam: Examination) -> Sample:
    loader: Any = exam.probe.val_loader
    kept = sources.capture(loader)
    with randomness.preserved(), torch.no_grad():
        try:
            return spread_over(loader, Reading(exam.step, exam.clock))
        finally:
            sources.restore(loader, kept)


def _look_at_classes(notes: Findings, classes: Counter[int]) -> None:
    of_class = shares(classes)
    for each in list(of_class)[:_LISTED]:
        notes.measure(f"class {each}", of_class[each])
    notes.measure("classes", len(of_class))
    if len(of_class) == 1:
        notes.critical(
            f"class {next(iter(of_class))}",
            "All samples have the same class.",
            value=f"{sum(classes.values())} samples of one class",
            meaning="The model learns to say this class whatever it is given.",
            remedy="Look at the labels, and at how the data was split and filtered.",
        )
        return
    rarest = min(classes, key=lambda each: classes[each])
    ratio = max(classes.values()) / classes[rarest]
    notes.measure("imbalance", ratio)
    if ratio >= _RARE:
        add = notes.warning if ratio >= _VERY_RARE else notes.info
        add(
            f"class {rarest}",
            "This class is much rarer than others.",
            value=f"{percent(of_class[rarest])} of the samples, {ratio:.0f} times fewer than the "
            "most frequent class",
            meaning="A model that never says this class is hardly wrong by its mean loss.",
            remedy="Weight the loss (CrossEntropyLoss(weight=...)), sample by class "
            "(WeightedRandomSampler), and watch its own recall.",
        )


def _look_at_order(notes: Findings, sample: Sample) -> None:
    p_value, psi = _halves(sample)
    if p_value < SIGNIFICANT and psi >= GREAT_SHIFT:
        notes.warning(
            "train_loader",
            "The classes come in an order.",
            value=f"first and second half of the batches: PSI {psi:.2f}, p {p_value:.1g}",
            meaning="Each stretch of steps pulls the weights towards the classes it holds, and "
            "batch statistics follow.",
            remedy="shuffle=True, or a sampler that mixes; for an iterable dataset a shuffle buffer.",
        )


def _halves(sample: Sample) -> Tuple[float, float]:
    middle = len(sample.batches) // 2
    halves: List[Counter[int]] = [Counter(), Counter()]
    for number, batch in enumerate(sample.batches):
        halves[number >= middle].update(batch)
    drift = of_classes(*halves)
    return drift.p_value, drift.psi


def _stands_for_all(sample: Sample) -> bool:
    if sample.is_whole or not sample.classes:
        return True
    p_value, psi = _halves(sample)
    return not (p_value < SIGNIFICANT and psi >= GREAT_SHIFT)


def _look_at_inputs(notes: Findings, inputs: Moments) -> None:
    notes.measure("inputs mean", inputs.mean)
    notes.measure("inputs std", inputs.std)
    value = f"mean {inputs.mean:.4g}, standard deviation {inputs.std:.4g}"
    if not inputs.std:
        notes.critical(
            "train_loader",
            "All inputs are the same number.",
            value=value,
            meaning="There is nothing in them to learn from.",
            remedy="Look at how the dataset reads and transforms its samples.",
        )
    elif abs(inputs.mean) > _LARGE or inputs.std > _LARGE:
        notes.warning(
            "train_loader",
            "The inputs are not normalised.",
            value=value,
            meaning="The first layer's outputs and gradients are as large, so that a learning rate "
            "that suits it is too small for the others.",
            remedy="Subtract their mean and divide by their standard deviation, or begin the model "
            "with a normalisation.",
        )


def _compare_inputs(notes: Findings, what: str, here: Moments, there: Moments) -> None:
    apart = of_numbers(here, there)
    notes.measure(f"inputs apart from {what}", apart)
    wider = max(here.std, there.std) / max(min(here.std, there.std), 1e-12)
    if apart < _APART and wider < _WIDER:
        return
    notes.warning(
        "inputs",
        f"The inputs are distributed otherwise than in {what}.",
        value=f"mean {here.mean:.4g} and standard deviation {here.std:.4g} here, "
        f"{there.mean:.4g} and {there.std:.4g} there",
        meaning="The model is given there what it was not trained on.",
        remedy="Use the same transforms and the same normalisation for both; augmentation alone "
        "should not move the mean.",
    )
