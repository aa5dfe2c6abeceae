"""Health: check how the run is, without disturbing it."""

from __future__ import annotations

import logging
import time
import traceback
from typing import TYPE_CHECKING, List, Optional, Sequence

from otf_session.commands import Applied, CheckHealth, Outcome, Refused
from otf_session.events import HealthReported
from otf_session.health import HealthFinding, HealthReport, Severity
from otf_session.queries import series
from otf_session.results import HealthChecked
from otf_session.store import SessionReader

from ..errors import NotPossible, TrainingError
from ..front import Examinable, Probe
from ..health import CHECKS, BrokenOff, Examination
from ..health.examination import History
from ..health.schedule import known, names

if TYPE_CHECKING:
    from ..engine import Engine

_MOST_PROVED = 1000


def health(engine: Engine, command: CheckHealth) -> Outcome:
    """Make the checks, record what each came to, or plan them where that is asked for."""
    chosen = names(command.check)
    if not chosen:
        raise NotPossible(f"'{command.check}' is no check. {known()}")
    if not 0 <= command.proof <= _MOST_PROVED:
        raise NotPossible(f"{command.proof} steps cannot be proved: use 1 to {_MOST_PROVED}.")
    if engine.gate.is_stopping:
        return Refused(reason="The run is stopping.")
    if command.every is not None:
        return _planned(engine, command)
    if not engine.parking.is_empty:
        return Refused(
            reason="The model is in host memory. Resume first, or pause without release."
        )
    engine.desk.begin_long()
    try:
        reports = _reports(engine, chosen, command.proof)
    finally:
        cancelled = engine.desk.end_long()
    author = engine.desk.current.author if engine.desk.current is not None else ""
    for report in reports:
        engine.journal.add(HealthReported, report=report, author=author)
    if cancelled or len(reports) < len(chosen):
        return Refused(reason="The check was broken off; the run is as it was.")
    if len(reports) == 1 and reports[0].refusal:
        return Refused(reason=reports[0].refusal)
    return Applied(step=engine.step, message=_told(reports), result=HealthChecked(reports=reports))


def _reports(engine: Engine, chosen: Sequence[str], proof: int) -> List[HealthReport]:
    """What each check came to; fewer where they were broken off."""
    front = engine.front
    if not isinstance(front, Examinable):
        raise NotPossible("The loop that drives this training cannot be checked for its health.")
    probe = front.probe()
    reports: List[HealthReport] = []
    for name in chosen:
        report = _made(engine, front, probe, name, proof)
        if report is None:
            break
        reports.append(report)
    return reports


def _planned(engine: Engine, command: CheckHealth) -> Outcome:
    steps = command.every
    if steps is None or steps < 0:
        raise NotPossible(f"{steps} is no number of steps: use 1 or more, or 0 to end it.")
    engine.checkups.every(command.check, steps)
    planned = engine.checkups.planned()
    said = ", ".join(f"{name} every {every} steps" for name, every in planned.items())
    return Applied(step=engine.step, message=f"Planned: {said or 'no check'}.")


def _made(
    engine: Engine, front: Examinable, probe: Probe, name: str, proof: int
) -> Optional[HealthReport]:
    """The report of one check; None where it was broken off."""
    exam = Examination(
        front=front,
        probe=probe,
        keep_going=engine.keep_going,
        prover=engine.front,
        proof=proof,
        history=lambda metric: engine.peers.shared(lambda: _history(engine, metric)),
        gather=engine.peers.gathered if engine.peers.size > 1 else None,
    )
    began = time.perf_counter()
    try:
        CHECKS[name](exam)
    except BrokenOff:
        return None
    except TrainingError as error:
        return HealthReport(check=name, refusal=str(error))
    # The boundary of one check: what goes wrong in it must not keep the others from being made.
    except Exception as error:  # noqa: BLE001
        engine.log(traceback.format_exc().rstrip(), logging.ERROR)
        reason = f"The check failed: {type(error).__name__}: {error}. The log has the traceback."
        return HealthReport(check=name, refusal=reason)
    return exam.notes.report(name, time.perf_counter() - began)


def _history(engine: Engine, metric: str) -> History:
    with SessionReader(engine.store.folder) as reader:
        found = series(reader.database, points=10_000, runs=[engine.run], names=[metric])
    return list(zip(found[0].steps, found[0].values)) if found else []


def _told(reports: List[HealthReport]) -> str:
    """The counts by severity, and the gravest finding."""
    findings = [each for report in reports for each in report.findings]
    refused = [report.check for report in reports if report.refusal]
    names_ = ", ".join(report.check for report in reports if not report.refusal)
    left_out = f" Not made: {', '.join(refused)}." if refused else ""
    if not findings:
        return f"{names_}: nothing found.{left_out}"
    counts = [
        f"{number} {severity.value}"
        for severity in Severity
        for number in [sum(each.severity is severity for each in findings)]
        if number
    ]
    return f"{names_}: {', '.join(counts)}. {_gravest(findings)}{left_out}"


def _gravest(findings: List[HealthFinding]) -> str:
    first = min(findings, key=lambda each: each.severity.rank)
    where = f"{first.where}: " if first.where else ""
    return f"{where}{first.what} ({first.value})"
