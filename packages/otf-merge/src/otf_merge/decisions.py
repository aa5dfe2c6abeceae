"""What was decided on the way to a merge, and by what, in sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable

from .text import counted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_NAMED = 8


def decisions(report: Mapping[str, Any]) -> Iterator[str]:
    """The sentences that a merge's report has, in the order in which things were done."""
    for key, sentence in _SENTENCES.items():
        if key in report:
            yield sentence(report[key])


def _alignment(found: Mapping[str, Any]) -> str:
    rows = [
        f"{it['parent']} from {it['similarity']['before']:.3f} to {it['similarity']['after']:.3f}"
        for it in found["parents"]
    ]
    units = counted(sum(found["units"].values()), "hidden unit")
    told = f"Aligned {units} to those of {found['reference']}; cosines: {_listed(rows)}."
    kept = [f"{layer} ({why})" for layer, why in found["kept"].items()]
    if kept:
        told += f" Left in their order: {_listed(kept)}."
    return f"{told} {found['assumed']}".rstrip()


def _fisher(found: Mapping[str, Any]) -> str:
    return f"Fisher information: {_source(found)}."


def _grams(found: Mapping[str, Any]) -> str:
    return f"Gram matrices: {_source(found)}."


def _source(found: Mapping[str, Any]) -> str:
    if found["source"] == "task":
        samples = sorted(set(found["samples"]))
        told = " to ".join(dict.fromkeys((f"{samples[0]:,}", f"{samples[-1]:,}")))
        return f"from {told} samples of the task for each checkpoint"
    if found["source"] == "optimizer":
        return f"from the optimizers' states ({', '.join(dict.fromkeys(found['optimizers']))})"
    return "from files" if found["source"] == "file" else "from the checkpoints"


def _regmean(found: Mapping[str, Any]) -> str:
    averaged = found["averaged"]
    also = f"; {len(averaged)} matrices averaged, which have no Gram matrices" if averaged else ""
    return f"Solved {counted(len(found['layers']), 'layer')} by regression{also}."


def _soup(found: Mapping[str, Any]) -> str:
    rows = found["checkpoints"]
    taken = [it["checkpoint"] for it in rows if it["weight"]]
    return (
        f"The soup holds {len(taken)} of {len(rows)} checkpoints, {_listed(taken)}: metric "
        f"{found['metric']:.4f} on validation data."
    )


def _distilled(found: Mapping[str, Any]) -> str:
    before, after = found["before"]["metric"], found["after"]["metric"]
    whom = f"Taught by the parents' {found['teacher']}"
    if not found["step"]:
        return f"{whom}, and no step was better than the start: metric {before:.4f}."
    return f"{whom}: metric {before:.4f} before, {after:.4f} at its best, step {found['step']:,}."


def _adapter_svd(found: Mapping[str, Any]) -> str:
    ranks = sorted({it["rank"] for it in found["modules"].values()})
    told = " to ".join(str(it) for it in dict.fromkeys((ranks[0], ranks[-1])))
    modules = counted(len(found["modules"]), "module")
    return (
        f"Merged the products of {modules} to rank {told}: {found['discarded']:.1%} of the squared "
        f"length was discarded.{_beside(found)}"
    )


def _adapter_linear(found: Mapping[str, Any]) -> str:
    return (
        f"Factors of {counted(len(found['modules']), 'module')} averaged apart: their products are "
        f"{found['error']:.1%} off the average of the products, which `adapter-svd` has."
        f"{_beside(found)}"
    )


def _beside(found: Mapping[str, Any]) -> str:
    count = found["averaged_beside"]
    told = f" Averaged as they are: {counted(count, 'tensor')} beside factors." if count else ""
    if "bases" in found:
        told += f" They name different bases: {_listed(found['bases'])}."
    return told


def _adapter_fusion(found: Mapping[str, Any]) -> str:
    shares = [f"{it['adapter']} {it['share']:.0%}" for it in found["attention"]]
    before, after = found["before"]["metric"], found["after"]["metric"]
    reached = f"{after:.4f} at its best, step {found['step']:,}"
    return (
        f"Attention of {found['trained']:,} weights over adapters: metric {before:.4f} before, "
        f"{reached if found['step'] else 'and no step was better'}. Mean attention: "
        f"{_listed(shares)}."
    )


def _search(found: Mapping[str, Any]) -> str:
    chosen = ", ".join(f"{name}={it}" for name, it in found["chosen"].items())
    return f"Searched {len(found['tried'])} settings and took {chosen}."


def _recalibration(found: Mapping[str, Any]) -> str:
    before, after = found["before"]["metric"], found["after"]["metric"]
    taken = "taken" if found["taken"] else "not taken, since it was no better"
    return (
        f"Normalisation statistics of {counted(found['layers'], 'layer')} recomputed: metric "
        f"{before:.4f} before, {after:.4f} after ({taken})."
    )


def _validation(found: Mapping[str, Any]) -> str:
    return f"On validation data: metric {found['metric']:.4f}, loss {found['loss']:.4f}."


def _gate(found: Mapping[str, Any]) -> str:
    best = found["best"]
    return f"No worse than the best parent, {best} ({found['parents'][best]['metric']:.4f})."


def _listed(names: list[str]) -> str:
    more = [f"and {len(names) - _NAMED} more"] if len(names) > _NAMED else []
    return ", ".join(names[:_NAMED] + more)


_SENTENCES: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "alignment": _alignment,
    "fisher": _fisher,
    "grams": _grams,
    "regmean": _regmean,
    "greedy_soup": _soup,
    "distill": _distilled,
    "adapter_svd": _adapter_svd,
    "adapter_linear": _adapter_linear,
    "adapter_fusion": _adapter_fusion,
    "search": _search,
    "recalibration": _recalibration,
    "validation": _validation,
    "gate": _gate,
}
