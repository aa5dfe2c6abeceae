"""How a merge looks in a terminal: a bar while it runs, and what came of it."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any

from .progress import unwatched

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .comparing import Contender
    from .output import Written
    from .plan import Plan
    from .progress import Progress

_UNITS = ("bytes", "kB", "MB", "GB", "TB")
_TITLES = {"bytes": "Merging", "samples": "Looking at data", "steps": "Training"}


@contextlib.contextmanager
def bar(*, quiet: bool) -> Iterator[Progress]:
    """A progress bar on stderr, if a person looks at it, as what is told of progress."""
    if quiet or not sys.stderr.isatty():
        yield unwatched
        return

    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[amount]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bars: dict[str, Any] = {}

        def tell(done: float, total: float, unit: str) -> None:
            if unit not in bars:
                title = _TITLES.get(unit, "Working")
                bars[unit] = progress.add_task(title, total=total, amount="")
            amount = _amount(done, total, unit, progress.tasks[bars[unit]].speed)
            progress.update(bars[unit], completed=done, total=total, amount=amount)

        yield tell


def size(count: float) -> str:
    """Bytes as a person reads them: `2.07 GB`."""
    for unit in _UNITS[:-1]:
        if abs(count) < 1000:  # noqa: PLR2004
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} {_UNITS[-1]}"


def outcome(written: Written) -> str:
    """What came of a merge, in a few lines."""
    count = len(written.inputs)
    what = f"{count} checkpoint{'s' if count > 1 else ''} with {written.method}"
    lines = [f"Merged {what} into {written.output} ({written.tensors} tensors)."]
    weights = written.parameters.get("weights")
    if weights and len(set(weights)) > 1:
        shares = (f"{path.name} {share:.3g}" for path, share in zip(written.inputs, weights))
        lines.append(f"Shares: {', '.join(shares)}.")
    lines += _decided(written.report)
    return "\n".join(lines)


def _decided(report: dict[str, Any]) -> Iterator[str]:
    if "search" in report:
        chosen = ", ".join(f"{name}={it}" for name, it in report["search"]["chosen"].items())
        yield f"Searched {len(report['search']['tried'])} settings and took {chosen}."
    if "recalibration" in report:
        found = report["recalibration"]
        taken = "taken" if found["taken"] else "not taken: it was no better"
        yield (
            f"Normalisation statistics of {found['layers']} layers recomputed: metric "
            f"{found['before']['metric']:.4f} before, {found['after']['metric']:.4f} after ({taken})."
        )
    if "validation" in report:
        found = report["validation"]
        yield f"On validation data: metric {found['metric']:.4f}, loss {found['loss']:.4f}."
    if "gate" in report:
        best = report["gate"]["best"]
        metric = report["gate"]["parents"][best]["metric"]
        yield f"No worse than the best parent, {best} ({metric:.4f})."


def planned(plan: Plan) -> str:
    """A plan, in lines; the recipe comes last, to be saved."""
    from .recipe import as_yaml

    lines = [f"Would merge with {plan.method} into {plan.output}:"]
    lines += [f"  {_input(it)}" for it in plan.inputs]
    if plan.base:
        lines.append(f"  base {_input(plan.base)}")
    words = {
        "merge": "merged",
        "keep": "kept",
        "count": "counters",
        "copy": "taken from the first",
        "average": "averaged over those that have them",
    }
    told = ", ".join(f"{count} {words[rule]}" for rule, count in plan.tensors.items())
    lines += [
        f"Tensors    {told}",
        f"Reads      {size(plan.reads)} in {plan.passes} pass{'es' if plan.passes > 1 else ''}",
        f"Writes     {size(plan.writes)}; {size(plan.free)} free on that disk",
        f"Memory     about {size(plan.memory)} beside torch itself",
    ]
    if "assessment" in plan.report:
        found = plan.report["assessment"]
        lines.append(
            f"Distance   collapse score {found['collapse_score']:.2e}, least cosine "
            f"{found['least_cosine']:.3f}"
        )
    return "\n".join([*lines, "Recipe", as_yaml(plan.recipe).rstrip()])


def _input(found: dict[str, Any]) -> str:
    files = f", {found['files']} files" if found["files"] > 1 else ""
    return (
        f"{found['path']}  {size(found['bytes'])}{files}, {found['tensors']} tensors, "
        f"{found['numbers']:,} numbers, {' '.join(found['dtypes'])}"
    )


def ranking(contenders: list[Contender]) -> str:
    """The table of a comparison, the best first."""
    width = max(len(it.name) for it in contenders)
    lines = [f"{'':<{width}}  {'metric':>8}  {'loss':>8}  {'time':>7}"]
    for it in contenders:
        if it.scores is None:
            lines.append(f"{it.name:<{width}}  {'-':>8}  {'-':>8}  {'-':>7}  {it.note}")
            continue
        time = f"{it.seconds:.1f} s" if it.kind == "method" else it.kind
        lines.append(
            f"{it.name:<{width}}  {it.scores.metric:>8.4f}  {it.scores.loss:>8.4f}  {time:>7}"
        )
    return "\n".join(line.rstrip() for line in lines)


def _amount(done: float, total: float, unit: str, speed: float | None) -> str:
    if unit == "bytes":
        rate = f", {size(speed)}/s" if speed else ""
        return f"{size(done)} of {size(total)}{rate}"
    return f"{done:.0f} of {total:.0f} {unit}"
