"""What methods need beside the checkpoints, and where it comes from."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .checkpoints.sources import files_of, opened
from .errors import InvalidInputs, MissingNeed
from .parents import Parent
from .task import Task, load_task

if TYPE_CHECKING:
    import contextlib
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from .checkpoints.checkpoint import Checkpoint
    from .preparing import Preparation
    from .registry import MergeMethod
    from .request import Machine, Request


@dataclass
class Needs:
    """The user's task and files, open until the merge ends; what is computed of them once."""

    task: Task | None = None
    fisher_files: Sequence[Checkpoint] = ()
    gram_files: Sequence[Path] = ()
    _fisher: dict[Any, Sequence[Parent]] = field(default_factory=dict)
    _grams: Sequence[Any] | None = None

    def fisher(self, preparation: Preparation) -> Sequence[Parent]:
        """The Fisher information's diagonal of each parent, under the first one's names."""
        if "fisher" not in preparation.method.takes:
            return ()
        from .fisher import fisher_sources

        given = preparation.choices.given
        chosen = {key: given[key] for key in ("source", "kind", "seed", "normalize")}
        place = tuple(chosen.items())
        if place not in self._fisher:
            found = fisher_sources(
                preparation.family.parents,
                files=self.fisher_files,
                task=self.task,
                samples=preparation.request.samples,
                names=preparation.family.merged,
                progress=preparation.progress,
                **chosen,
            )
            preparation.report["fisher"] = found.report
            for text in found.warnings:
                preparation.warn(text)
            self._fisher[place] = [
                Parent(it, {name: name for name in it.specs}) for it in found.diagonals
            ]
        return self._fisher[place]

    def keys_used(self, method: MergeMethod, given: Mapping[str, Any]) -> frozenset[str]:
        """The keys under which checkpoints may keep what this merge uses beside their weights.

        These are optimizers' states, where the Fisher information comes from nowhere else.
        """
        if "fisher" not in method.takes:
            return frozenset()
        is_elsewhere = self.fisher_files or (self.task and self.task.has_training_data)
        if given["source"] != "optimizer" and (given["source"] != "auto" or is_elsewhere):
            return frozenset()
        from .fisher.moments import KEYS

        return frozenset(KEYS)

    def grams(self, preparation: Preparation) -> Sequence[Any]:
        """The Gram matrices of each parent's layers."""
        from .grams import gram_sources

        if self._grams is None:
            found = gram_sources(
                preparation.family.parents,
                files=self.gram_files,
                task=self.task,
                samples=preparation.request.samples,
                progress=preparation.progress,
            )
            preparation.report["grams"] = found.report
            self._grams = found.grams
        return self._grams


def needs_of(
    request: Request, method: MergeMethod, machine: Machine, stack: contextlib.ExitStack
) -> Needs:
    """What was given of what methods need; files stay open until the stack is left.

    A task's models are worked on where the machine says, unless the task itself says where.

    Raises `MissingNeed` where there is no task and the method cannot do without, or something that
    was asked for cannot be done without one.
    """
    if request.fisher and "fisher" not in method.takes:
        raise InvalidInputs(
            f"The merge method `{method.name}` uses no Fisher information. Leave --fisher out."
        )
    if request.grams and "grams" not in method.takes:
        raise InvalidInputs(
            f"The merge method `{method.name}` uses no Gram matrices. Leave --grams out."
        )
    task = _task(request, method)
    if task is not None and task.device is None and machine.device != "cpu":
        task = dataclasses.replace(task, device=machine.device)
    files = files_of(request.fisher, ()) if request.fisher else []
    return Needs(task, stack.enter_context(opened(files, None)), request.grams)


def _task(request: Request, method: MergeMethod) -> Task | None:
    if isinstance(request.task, Task):
        return request.task
    if request.task is not None:
        return load_task(request.task)
    wanting = {
        f"The merge method `{method.name}`": "task" in method.needs,
        "A search for parameters (--search)": bool(request.search),
        "The comparison with the parents (--gate)": request.gate,
        "The recalibration of statistics (--recalibrate always)": request.recalibrate == "always",
    }
    for what, wants in wanting.items():
        if wants:
            raise MissingNeed(
                f"{what} needs a model and data. Give them with --task module:function, where the "
                "function returns an `otf_merge.Task`."
            )
    return None
