"""The check of determinism: what of this run can be reproduced, what cannot, and a proof."""

from __future__ import annotations

import os
import warnings
from typing import Any, Dict, List

import torch

from ..errors import NotPossible
from ..loaders import Loader
from ..trace import difference
from .examination import BrokenOff, Examination
from .findings import Findings
from .modules import Whereabouts, eager

#: torch draws a seed of 53 bits where the script sets none, and scripts set small ones.
_DRAWN = 2**32
_ALERT = " does not have a deterministic implementation"


def check(exam: Examination) -> None:
    """Look at seeds, loader and flags, find the operators used, and prove it where that is asked."""
    notes, probe = exam.notes, exam.probe
    exam.step(0, 2)
    is_cuda = probe.device is None or probe.device.type == "cuda"
    look_at_seed(notes, torch.initial_seed())
    look_at_loader(notes, probe.loader, exam.prover.findings() if exam.prover else [])
    look_at_flags(notes, is_cuda=is_cuda and torch.cuda.is_available())
    exam.step(1, 2)
    try:
        _look_at_operators(exam)
    except NotPossible as error:
        notes.fact("operators", f"not looked at: {error}")
    if exam.proof and exam.gather is None:
        _prove(exam)
    exam.step(2, 2)


def look_at_seed(notes: Findings, seed: int) -> None:
    """Whether the script has set torch's seed, as far as the seed tells."""
    if seed < _DRAWN:
        notes.fact("seed", seed)
        return
    notes.fact("seed", "drawn by torch")
    notes.warning(
        "torch's generator",
        "The script seems to have set no seed.",
        value=f"torch.initial_seed() is {seed}, which torch draws by itself",
        meaning="Another run of this script begins with other weights and another order. Going back "
        "and resuming are exact nevertheless.",
        remedy="Trainer.fit(seed=1) seeds Python's, NumPy's and torch's generators; build the model "
        "after torch.manual_seed.",
    )


def look_at_loader(notes: Findings, loader: Loader, reasons: List[str]) -> None:
    """Why going back is not exact, and what is special about the loader."""
    workers = int(getattr(loader, "num_workers", 0) or 0)
    sampler: Any = getattr(loader, "sampler", None)
    notes.fact("workers", workers)
    notes.fact("sampler", type(sampler).__name__ if sampler is not None else "none")
    notes.fact("order of the data", "can be replayed" if not reasons else "cannot be replayed")
    for reason in reasons:
        notes.warning(
            "train_loader",
            "Going back and resuming will not be exact.",
            value=reason,
            meaning="After it, training sees other data than it did the first time.",
            remedy="See the reason; `otf ctl prove` shows what it comes to on this run.",
        )
    seed_workers = getattr(loader, "worker_init_fn", None)
    if workers and seed_workers is not None:
        notes.fact("worker_init_fn", getattr(seed_workers, "__qualname__", str(seed_workers)))


def look_at_flags(notes: Findings, *, is_cuda: bool) -> None:
    """The flags of torch, where they matter for this device."""
    strict = torch.are_deterministic_algorithms_enabled()
    only_warns = torch.is_deterministic_algorithms_warn_only_enabled()
    words = "warned of" if only_warns else "refused"
    notes.fact("non-deterministic operators", words if strict else "allowed")
    if not is_cuda:
        return
    cudnn = torch.backends.cudnn
    notes.fact("cudnn.deterministic", cudnn.deterministic)
    notes.fact("TF32 in matrix products", torch.backends.cuda.matmul.allow_tf32)
    if cudnn.benchmark:
        notes.warning(
            "cudnn",
            "cuDNN chooses its algorithms by timing them.",
            value="torch.backends.cudnn.benchmark is True",
            meaning="Another choice, at another start or beside other programs, rounds differently.",
            remedy="torch.backends.cudnn.benchmark = False where the same bits matter more than speed.",
        )
    workspace = os.environ.get("CUBLAS_WORKSPACE_CONFIG", "")
    notes.fact("CUBLAS_WORKSPACE_CONFIG", workspace or "not set")
    if strict and workspace not in (":4096:8", ":16:8"):
        notes.warning(
            "cuBLAS",
            "Matrix products may differ from run to run.",
            value=f"CUBLAS_WORKSPACE_CONFIG is {workspace or 'not set'}",
            meaning="With several streams cuBLAS takes whichever workspace is free.",
            remedy="Set CUBLAS_WORKSPACE_CONFIG=:4096:8 before the script starts.",
        )


class Alerts:
    """While entered, torch names the operators that have no deterministic form; nothing is refused."""

    def __init__(self, where: Whereabouts) -> None:
        self._where = where
        self._caught = warnings.catch_warnings()
        #: Of each operator, the layer that called it first; empty in the backward pass.
        self.found: Dict[str, str] = {}

    def __enter__(self) -> Alerts:
        self._before = (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
        )
        self._caught.__enter__()
        warnings.simplefilter("always")
        warnings.showwarning = self._show  # type: ignore[assignment]
        torch.use_deterministic_algorithms(True, warn_only=True)
        return self

    def __exit__(self, *_: object) -> None:
        strict, only_warns = self._before
        torch.use_deterministic_algorithms(strict, warn_only=only_warns)
        self._caught.__exit__(None, None, None)

    def _show(self, message: Any, category: Any, *rest: Any) -> None:
        # What else is warned of meanwhile is said again by the run's own steps.
        text = str(message)
        if _ALERT in text:
            operator = text.partition(_ALERT)[0].rpartition(" ")[2]
            self.found.setdefault(operator, self._where.name if self._where.is_inside else "")


def _look_at_operators(exam: Examination) -> None:
    notes, probe = exam.notes, exam.probe
    with exam.rehearse() as rehearsal, eager(probe.model):
        batch = rehearsal.read()
        if batch is None:
            notes.fact("operators", "not looked at: the epoch has no batch left")
            return
        with Whereabouts(probe.model) as where, Alerts(where) as alerts:
            rehearsal.train(rehearsal.move(batch))
    notes.fact("operators", "those of one step, forward and backward")
    for operator, layer in alerts.found.items():
        notes.warning(
            layer or "backward pass, loss or optimizer",
            f"The operator {operator} has no deterministic form on this device.",
            value=operator,
            meaning="Its parallel parts are added up in whatever order they end, so that two runs "
            "of the same steps may differ in their last bits, and more with each step.",
            remedy="Use another operator where the same bits matter; "
            "torch.use_deterministic_algorithms(True) refuses it.",
        )


def _prove(exam: Examination) -> None:
    notes = exam.notes
    if exam.prover is None:
        notes.fact("proof", "this front cannot train steps twice")
        return
    try:
        traces = exam.prover.retrain(exam.proof, exam.keep_going)
    except NotPossible as error:
        notes.fact("proof", f"not made: {error}")
        return
    if len(traces) < 2:  # noqa: PLR2004 - the first time and the second
        raise BrokenOff
    first, second = traces
    found = difference(first, second)
    steps = len({entry.step for entry in first})
    notes.measure("steps trained twice", steps)
    notes.fact("proof", "every bit the same" if found is None else "not the same")
    if found is not None:
        notes.critical(
            f"step {found.step}",
            "The same steps, trained twice, are not the same.",
            value=found.what,
            meaning="Going back to a checkpoint, and resuming from one, will not be exact.",
            remedy=found.hint,
        )
