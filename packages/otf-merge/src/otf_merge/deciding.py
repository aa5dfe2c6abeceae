"""What validation data decide about a merge: parameters, normalisation statistics, acceptance."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from .adapters.held import held
from .errors import GateRefused, InvalidInputs, MissingNeed
from .evaluation import Scores, evaluate, model_with, names_between
from .merged import Whole, whole
from .recalibration import has_running_statistics, recalibrate

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor

    from .parents import Parent
    from .preparing import Preparation
    from .task import Task


def decided(preparation: Preparation) -> Whole:
    """The merged model after all that the task's validation data decide.

    The report says of each choice what was tried and what was taken. Raises `GateRefused` where a
    gate was asked for and the result is worse than the best of the parents.
    """
    task = preparation.task
    if task is None:
        raise AssertionError("nothing can be decided without a task")
    merged, scores = _searched(preparation, task)
    merged, scores = _recalibrated(preparation, task, merged, scores)
    preparation.report["validation"] = told(scores)
    if preparation.request.gate:
        _gate(preparation, task, scores)
    return merged


def told(scores: Scores) -> dict[str, float]:
    """Scores as plain values."""
    return {"metric": scores.metric, "loss": scores.loss}


def score(task: Task, state: Mapping[str, Tensor]) -> Scores:
    """How well those weights do on the task's validation data."""
    return evaluate(model_with(task, state), task)


def scored(preparation: Preparation, task: Task, merged: Whole) -> Scores:
    """How well the result does on the task's validation data, in the model that it is for."""
    method = preparation.method
    if method.fitted is None:
        return score(task, merged.state)
    changes = preparation.report.get("adapter_config", {})
    result = held(merged.state, preparation.checkpoints[0], changes)
    return _tried(preparation, task, result)


def scored_parent(preparation: Preparation, task: Task, parent: Parent) -> Scores:
    """How well one of the checkpoints does by itself."""
    if preparation.method.fitted is None:
        return score(task, parent.state())
    return _tried(preparation, task, parent)


def _tried(preparation: Preparation, task: Task, parent: Parent) -> Scores:
    fitted = preparation.method.fitted
    assert fitted is not None
    base, given = preparation.family.base, preparation.choices.given
    return evaluate(fitted(task, parent, base, given), task)


def _searched(preparation: Preparation, task: Task) -> tuple[Whole, Scores]:
    """The best of the values to be tried; where two are as good, the one named first."""
    if not preparation.request.search:
        merged = whole(preparation.result())
        return merged, scored(preparation, task, merged)
    best: tuple[Whole, Scores] | None = None
    rows: list[dict[str, Any]] = []
    chosen: dict[str, Any] = {}
    told_of_best: dict[str, Any] = {}
    for given in _combinations(preparation):
        merged = whole(preparation.with_parameters(**given).result())
        scores = scored(preparation, task, merged)
        rows.append({**given, **told(scores)})
        if best is None or scores.rank > best[1].rank:
            best, chosen, told_of_best = (merged, scores), given, dict(preparation.report)
    if best is None:
        raise InvalidInputs("A search needs at least one value for each parameter.")
    preparation.choose(chosen)
    # Each result has told of itself in its turn, and the last one need not be the best.
    preparation.report.update(told_of_best)
    preparation.report["search"] = {"tried": rows, "chosen": chosen}
    return best


def _combinations(preparation: Preparation) -> Iterator[dict[str, Any]]:
    search = preparation.request.search
    for values in itertools.product(*search.values()):
        given = dict(zip(search, values))
        checked = preparation.method.values(given)
        yield {name: checked[name] for name in given}


def _recalibrated(
    preparation: Preparation, task: Task, merged: Whole, scores: Scores
) -> tuple[Whole, Scores]:
    """With statistics taken anew from training data, where asked for or where that is better.

    They are indispensable where parents are far apart, and can do harm where they are near.
    """
    how = preparation.request.recalibrate
    if preparation.method.fitted is not None:
        if how == "always":
            raise InvalidInputs(
                f"The merge method `{preparation.method.name}` leaves the base as it is, and its "
                "normalisation statistics too. Leave --recalibrate out."
            )
        return merged, scores
    model = model_with(task, merged.state)
    if not has_running_statistics(model):
        return merged, scores
    if how == "never" or (task.train is None and task.domains is None):
        if how == "always":
            raise MissingNeed(
                "Normalisation statistics cannot be recomputed: the task has no training data. "
                "Give it `train=`, an iterable of batches."
            )
        preparation.warn_of_statistics()
        return merged, scores
    done = recalibrate(model, task)
    again = evaluate(model, task)
    taken = how == "always" or again.rank > scores.rank
    preparation.report["recalibration"] = {
        "layers": done.layers,
        "batches": done.batches,
        "before": told(scores),
        "after": told(again),
        "taken": taken,
    }
    if not taken:
        return merged, scores
    return Whole(_like(merged.state, model.state_dict()), merged.ties), again


def _like(state: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The model's tensors under the checkpoint's names and in its dtypes."""
    names = names_between(found, state)
    renamed = {theirs: found[own] for own, theirs in names.items()}
    return {
        name: renamed[name].to(dtype=it.dtype, device="cpu") if name in renamed else it
        for name, it in state.items()
    }


def _gate(preparation: Preparation, task: Task, scores: Scores) -> None:
    parents = {it.label: scored_parent(preparation, task, it) for it in preparation.family.parents}
    best = max(parents, key=lambda label: parents[label].rank)
    accepted = scores.metric >= parents[best].metric
    preparation.report["gate"] = {
        "parents": {label: told(it) for label, it in parents.items()},
        "best": best,
        "accepted": accepted,
    }
    if not accepted:
        rows = "\n  ".join(f"{label}: {it.metric:.4f}" for label, it in parents.items())
        raise GateRefused(
            f"The merge is worse on validation data than its best parent, `{best}`: "
            f"{scores.metric:.4f} against {parents[best].metric:.4f}. Nothing was written.\n"
            f"  {rows}\nTry another method (`otf-merge compare`), or leave --gate out to take it "
            "all the same.",
            preparation.report,
        )
