"""Everything that is settled before a tensor is merged: files opened, names matched, needs met."""

from __future__ import annotations

import contextlib
import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from . import needs
from .advice import assess, warnings_of
from .alignment.choosing import aligned_checkpoints
from .checkpoints.sources import files_of, held_by, opened
from .choices import Choices
from .deciding import decided
from .engine import Computing, Engine
from .errors import InvalidInputs, MissingNeed, UnreadableInput
from .family import Rule, family_of
from .merged import Streamed, Whole, with_dtype
from .progress import unwatched
from .registry import MergeMethod, find_method

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from pathlib import Path

    from .checkpoints.checkpoint import Checkpoint
    from .family import Family
    from .merged import Merged
    from .needs import Needs
    from .progress import Progress
    from .request import Machine, Request
    from .task import Task

_SHOWN = 10


@dataclass
class Preparation:
    """An open merge: what it is made of, and what to know about it.

    `checkpoints` are the parents' files as they were opened. `report` gathers what is said of the
    result, in plain values; `warnings` what its user should know.
    """

    request: Request
    machine: Machine
    method: MergeMethod
    family: Family
    choices: Choices
    checkpoints: Sequence[Checkpoint]
    base: Checkpoint | None
    needs: Needs
    progress: Progress
    warnings: list[str] = field(default_factory=list)
    report: dict[str, Any] = field(default_factory=dict)

    @property
    def task(self) -> Task | None:
        """The user's model and data, where they were given."""
        return self.needs.task

    def final(self) -> Merged:
        """The merged model after all that validation data decide, where there are any."""
        return self.result() if self.task is None else decided(self)

    def result(self) -> Merged:
        """The merged model as the method makes it: streamed where it works tensor by tensor."""
        if self.method.form == "model":
            return self._whole_model()
        engine = Engine(
            self.family,
            self.method,
            self.choices,
            fisher=self.needs.fisher(self),
            computing=Computing(
                self.machine.threads, self.machine.device, self.request.allow_nonfinite
            ),
            progress=self.progress,
        )
        return Streamed(engine)

    def with_parameters(self, **given: Any) -> Preparation:
        """The same merge with other parameters; what is reported goes to the same place."""
        changed = self.choices.with_parameters({**self.choices.given, **given})
        return dataclasses.replace(self, choices=changed)

    def choose(self, given: dict[str, Any]) -> None:
        """Settle on these parameters."""
        self.choices = self.choices.with_parameters({**self.choices.given, **given})

    def warn(self, text: str) -> None:
        """Have the user know, once."""
        if text not in self.warnings:
            self.warnings.append(text)

    def warn_of_statistics(self) -> None:
        """Say that running statistics were averaged, where there are any and nothing mends it."""
        count = len(self.family.statistics())
        if count:
            self.warn(
                f"The running statistics of {count} normalisation layer{'s' if count > 1 else ''} "
                "were merged like weights, which is seldom what the merged model needs. Give a "
                "--task, and they are recomputed on its training data where that is better; or do "
                "so yourself, for example with `torch.optim.swa_utils.update_bn`."
            )

    def _whole_model(self) -> Whole:
        supplied: dict[str, Any] = {
            "weights": self.choices.own_weights,
            "base": self.family.base,
            "task": self.task,
            "progress": self.progress,
            "report": self.report,
        }
        if "grams" in self.method.takes:
            supplied["grams"] = self.needs.grams(self)
        given = {key: supplied[key] for key in self.method.takes}
        state = self.method(self.family.parents, **given, **self.choices.given)
        dtypes = {name: spec.dtype for name, spec in self.family.specs.items()}
        ties = [it for it in self.family.ties if set(it) <= set(state)]
        return Whole({name: it.to(dtypes.get(name, it.dtype)) for name, it in state.items()}, ties)


@contextlib.contextmanager
def prepared(
    request: Request,
    machine: Machine,
    outputs: Collection[Path] = (),
    progress: Progress = unwatched,
) -> Iterator[Preparation]:
    """The merge that was asked for, its files open until the block ends.

    `outputs` are not taken for inputs where they lie in a folder of checkpoints. Raises a
    `MergeError` for whatever keeps the merge from being done, before any tensor is merged.
    """
    method = request.method
    if not isinstance(method, MergeMethod):
        method = find_method(method)
    _require_device(machine.device)
    with contextlib.ExitStack() as stack:
        needed = needs.needs_of(request, method, machine, stack)
        _require_base(request, method)
        files = files_of(request.inputs, outputs)
        _require_count(method, files)
        checkpoints = stack.enter_context(opened(files, request.key))
        bases = [request.base] if request.base else []
        base = next(iter(stack.enter_context(opened(bases, request.key))), None)
        report: dict[str, Any] = {}
        aligned: Sequence[Checkpoint] = checkpoints
        if request.align:
            aligned = aligned_checkpoints(
                checkpoints, request.align, needed.task, report, progress, base
            )
        family = _family(request, method, aligned, base)
        choices = Choices(
            method, len(files), request.weights, request.parameters, request.overrides
        )
        choices.require_matches(family.merged)
        preparation = Preparation(
            *(request, machine, method, family, choices, checkpoints, base, needed, progress),
            report=report,
        )
        _advise(preparation)
        yield preparation


def _family(
    request: Request,
    method: MergeMethod,
    checkpoints: Sequence[Checkpoint],
    base: Checkpoint | None,
) -> Family:
    family = family_of(
        checkpoints,
        base,
        skip=request.skip,
        allow_missing=request.allow_missing,
        any_shapes=method.any_shapes,
    )
    if request.dtype:
        specs = with_dtype(family.specs, _dtype(request.dtype))
        family = dataclasses.replace(family, specs=specs)
    return family


def _advise(preparation: Preparation) -> None:
    """Gather what can be said before anything is merged."""
    used = preparation.needs.keys_used(preparation.method, preparation.choices.given)
    left_out = sorted(
        {
            key
            for it in preparation.checkpoints
            for key in it.left_out
            if used.isdisjoint(key.split("."))
        }
    )
    if left_out:
        preparation.warn(
            "Only weights are merged: the output lacks what else the inputs hold, "
            f"{_listed(left_out)}."
        )
    partial = preparation.family.under(Rule.AVERAGE)
    if partial and preparation.method.form == "tensor":
        preparation.warn(
            f"{len(partial)} tensors are not in every checkpoint and are averaged over those that "
            f"have them: {_listed(partial)}."
        )
    if preparation.method.form == "model":
        return
    if preparation.task is None:
        preparation.warn_of_statistics()
    assessment = assess(preparation.family)
    if assessment is not None:
        preparation.report["assessment"] = assessment.told()
        base = preparation.base.path.name if preparation.base else None
        found = warnings_of(
            *(assessment, preparation.method, preparation.choices.given, base),
            aligned=preparation.request.align is not None,
        )
        for text in found:
            preparation.warn(text)


def _listed(names: Sequence[str]) -> str:
    shown = [f"`{name}`" for name in names[:_SHOWN]]
    if len(names) > _SHOWN:
        shown.append(f"and {len(names) - _SHOWN} more")
    return ", ".join(shown)


def _require_base(request: Request, method: MergeMethod) -> None:
    if "base" in method.needs and request.base is None:
        raise MissingNeed(
            f"The merge method `{method.name}` works on what the checkpoints have learned since a "
            "common base, and there is none. Name it with --base."
        )
    if "base" not in method.takes and request.base is not None:
        raise InvalidInputs(f"The merge method `{method.name}` uses no base. Leave --base out.")


def _require_count(method: MergeMethod, files: Collection[Path]) -> None:
    named = ", ".join(f"`{file}`" for file in files)
    if len(files) < method.fewest:
        absent = next((file for file in files if not file.exists()), None)
        if absent is not None:
            raise UnreadableInput(f"`{absent}` does not exist. Check the path.")
        needed = f"{method.fewest} checkpoints" if method.fewest > 1 else "one checkpoint"
        held = [it for file in files if file.is_dir() for it in held_by(file)]
        more = f"those in it, such as `{held[0]}`" if held else "a folder that holds them"
        raise InvalidInputs(
            f"The merge method `{method.name}` needs at least {needed}, and there is "
            f"{f'only {named}' if files else 'none'}. Name more files, or {more}."
        )
    if method.most is not None and len(files) > method.most:
        taken = f"{method.most} checkpoints" if method.most > 1 else "one checkpoint"
        raise InvalidInputs(
            f"The merge method `{method.name}` takes {taken}, and there are {len(files)}: {named}. "
            "Name fewer, or use another method."
        )


def _require_device(name: str) -> None:
    try:
        torch.empty(0, device=name)
    # torch raises what its backend raises: for an unknown word, and for a device that is not there.
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise InvalidInputs(
            f"The device `{name}` cannot be used ({reason}). Leave --device out, or say cpu."
        ) from error


def _dtype(name: str) -> torch.dtype:
    found = getattr(torch, name, None)
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise InvalidInputs(
            f"There is no floating-point type `{name}`. The usual ones are float32, bfloat16 and "
            "float16."
        )
    return found
