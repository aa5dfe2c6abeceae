"""What `otf ctl health` says: the findings of all checks, the gravest first."""

from __future__ import annotations

import textwrap
from typing import Iterator, List, Sequence, Tuple

from otf_session.health import HealthFinding, HealthReport

_WIDTH = 100
_INDENT = "      "


def lines(reports: Sequence[HealthReport]) -> List[str]:
    """Every finding with what it means and what to try, then what could not be checked."""
    ranked = sorted(_findings(reports), key=lambda each: each[1].severity.rank)
    shown = [line for check, finding in ranked for line in _finding(check, finding)]
    refused = [
        line
        for report in reports
        if report.refusal
        for line in _wrapped(f"{report.check} was not checked: {report.refusal}", "  ", "    ")
    ]
    return [*shown, *refused]


def _findings(reports: Sequence[HealthReport]) -> Iterator[Tuple[str, HealthFinding]]:
    for report in reports:
        for finding in report.findings:
            yield report.check, finding


def _finding(check: str, finding: HealthFinding) -> Iterator[str]:
    where = f"{finding.where}: " if finding.where else ""
    head = f"{finding.severity.value.upper()} {check}: {where}{finding.what}"
    yield from _wrapped(head, "  ", _INDENT)
    yield from _wrapped(finding.value, _INDENT, _INDENT)
    yield from _wrapped(finding.meaning, _INDENT, _INDENT)
    yield from _wrapped(f"Try: {finding.remedy}", _INDENT, _INDENT)


def _wrapped(text: str, first: str, rest: str) -> List[str]:
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=first,
        subsequent_indent=rest,
        break_long_words=False,
        break_on_hyphens=False,
    )
