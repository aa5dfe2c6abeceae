"""How a merge looks in a terminal: a bar while it runs, and what came of it."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable

from .decisions import decisions
from .progress import unwatched
from .text import counted, printable, size

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .output import Written
    from .plan import Plan
    from .progress import Progress

_TITLES = {"bytes": "Merging", "samples": "Looking at data", "steps": "Working"}
_NAMED = 8


@dataclass(frozen=True)
class Watched:
    """Work that is watched: who is told how far it is, and of what there is to say meanwhile."""

    progress: Progress
    say: Callable[[str], None]


@contextlib.contextmanager
def bar(*, quiet: bool) -> Iterator[Watched]:
    """A progress bar on stderr, if a person looks at it."""
    if quiet or not sys.stderr.isatty():
        yield Watched(unwatched, lambda _: None)
        return

    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[amount]}"),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True, highlight=False)
    with Progress(*columns, console=console, transient=True) as shown:

        def say(text: str) -> None:
            console.print(printable(text), markup=False, soft_wrap=True)

        yield Watched(_Phases(shown), say)


class _Phases:
    """One bar at a time: another unit, or less done than before, is a new phase of the work."""

    def __init__(self, shown: Any) -> None:
        self._shown = shown
        self._unit = ""
        self._done = 0.0

    def __call__(self, done: float, total: float, unit: str) -> None:
        if unit != self._unit or done < self._done:
            for task in self._shown.tasks:
                self._shown.remove_task(task.id)
            title = _TITLES.get(unit, "Working")
            amount = _amount(done, total, unit, None)
            self._shown.add_task(title, completed=done, total=total, amount=amount)
        self._unit, self._done = unit, done
        (task,) = self._shown.tasks
        amount = _amount(done, total, unit, task.speed)
        self._shown.update(task.id, completed=done, total=total, amount=amount)


def _amount(done: float, total: float, unit: str, speed: float | None) -> str:
    if unit == "bytes":
        rate = f", {size(speed)}/s" if speed else ""
        return f"{size(done)} of {size(total)}{rate}"
    return f"{done:.0f} of {total:.0f} {unit}"


def outcome(written: Written) -> str:
    """What came of a merge, in a few lines."""
    what = f"{counted(len(written.inputs), 'checkpoint')} with {written.method}"
    came = f"{counted(written.tensors, 'tensor')}, {size(_on_disk(written.output))}"
    lines = [f"Merged {what} into {written.output} ({came})."]
    weights = written.parameters.get("weights")
    if weights:
        lines.append(f"Weights: {_weights(written.inputs, weights)}.")
    return "\n".join([*lines, *decisions(written.report)])


def _weights(inputs: list[Path], weights: list[float]) -> str:
    if len(set(weights)) == 1:
        return f"{weights[0]:.3g} each"
    told = [f"{path.name} {weight:.3g}" for path, weight in zip(inputs, weights)]
    more = [f"and {len(told) - _NAMED} more"] if len(told) > _NAMED else []
    return ", ".join(told[:_NAMED] + more)


def _on_disk(path: Path) -> int:
    files = [it for it in path.rglob("*") if it.is_file()] if path.is_dir() else [path]
    return sum(it.stat().st_size for it in files)


_RULES = {
    "merge": "merged",
    "keep": "kept as they are",
    "count": "counters",
    "copy": "taken from the first checkpoint",
    "average": "averaged over those that have them",
}


def planned(plan: Plan) -> str:
    """A plan as comments, and its recipe: together a YAML file to be saved."""
    from .recipe import as_yaml

    told = ", ".join(f"{count:,} {_RULES[rule]}" for rule, count in plan.tensors.items())
    passes = "1 pass" if plan.passes == 1 else f"{plan.passes} passes"
    hashed = f", and {size(plan.hashed)} for the inputs' SHA-256" if plan.hashed else ""
    lines = [
        f"Would merge with {plan.method} into {plan.output}:",
        *_table([*plan.inputs, *([{**plan.base, "is_base": True}] if plan.base else [])]),
        f"Tensors   {told}",
        f"Reads     {size(plan.reads)} in {passes}{hashed}",
        f"Writes    {size(plan.writes)}; {size(plan.free)} are free on that disk",
        f"Memory    about {size(plan.memory)} at its peak, beside torch itself",
    ]
    if plan.settings > 1:
        lines.append(f"Searches  {plan.settings:,} settings, each of which is a merge to be tried")
    if "assessment" in plan.report:
        found = plan.report["assessment"]
        lines.append(
            f"Distance  collapse score {found['collapse_score']:.2e}, least cosine "
            f"{found['least_cosine']:.3f}"
        )
    lines += [*decisions(plan.report), "Recipe"]
    # A name with a line break in it stays within its comment.
    comments = ("# " + line.replace("\n", "?") for line in lines)
    return "\n".join([*comments, as_yaml(plan.recipe).rstrip()])


def _table(checkpoints: list[dict[str, Any]]) -> list[str]:
    rows = [
        (
            f"{'base ' if it.get('is_base') else ''}{it['path']}",
            size(it["bytes"]),
            counted(it["tensors"], "tensor"),
            f"{it['format']}, {' '.join(it['dtypes'])}",
        )
        for it in checkpoints
    ]
    path, taken, tensors = (max(len(row[place]) for row in rows) for place in range(3))
    return [f"  {a:<{path}}  {b:>{taken}}  {c:>{tensors}}  {d}" for a, b, c, d in rows]
