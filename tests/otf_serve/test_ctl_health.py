"""How findings are shown in a shell."""

from otf_serve import ctl_health, ctl_text
from otf_session.commands import Applied
from otf_session.frames import CommandReply
from otf_session.health import HealthFinding, HealthReport, Severity
from otf_session.results import HealthChecked


def finding(severity, where, what="It is odd."):
    return HealthFinding(
        severity=severity,
        where=where,
        what=what,
        value="3 of 4",
        meaning="It matters.",
        remedy="another way.",
    )


REPORTS = [
    HealthReport(check="numerics", findings=[finding(Severity.INFO, "fc1")]),
    HealthReport(check="throughput", refusal="There is no batch left."),
    HealthReport(
        check="activations",
        findings=[finding(Severity.CRITICAL, "act"), finding(Severity.WARNING, "")],
    ),
]


def test_the_gravest_finding_of_all_checks_comes_first():
    assert ctl_health.lines(REPORTS) == [
        "  CRITICAL activations: act: It is odd.",
        "      3 of 4",
        "      It matters.",
        "      Try: another way.",
        "  WARNING activations: It is odd.",
        "      3 of 4",
        "      It matters.",
        "      Try: another way.",
        "  INFO numerics: fc1: It is odd.",
        "      3 of 4",
        "      It matters.",
        "      Try: another way.",
        "  throughput was not checked: There is no batch left.",
    ]


def test_long_sentences_are_broken_between_words():
    report = HealthReport(
        check="numerics", findings=[finding(Severity.INFO, "w", "word " * 60 + "end.")]
    )
    lines = ctl_health.lines([report])
    assert max(map(len, lines)) <= 100
    assert " ".join(" ".join(lines).split()).startswith("INFO numerics: w: word word")


def test_nothing_found_is_one_line():
    outcome = Applied(
        step=3,
        message="numerics: nothing found.",
        result=HealthChecked(reports=[HealthReport(check="numerics")]),
    )
    reply = CommandReply(id="1", session="s", outcome=outcome)
    assert ctl_text.answered(reply) == ["numerics: nothing found."]
