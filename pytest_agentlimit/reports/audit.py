"""What an audit found, in words: vacuous checks and the best null model (METHOD 7)."""

from __future__ import annotations

from pytest_agentlimit.reports import numbers
from pytest_agentlimit.reports.facts import Fact
from pytest_agentlimit.runs.audit import Audit, audit_of
from pytest_agentlimit.runs.names import check_name
from pytest_agentlimit.runs.records import RunData
from pytest_agentlimit.text import one_line


def audit_facts(data: RunData) -> tuple[Fact, ...]:
    """Return the audit of a run over null models as labelled statements."""
    audit = audit_of(data)
    if not audit.checks:
        return (Fact("audit", ("nothing: no check was scored",), "bad"),)
    nulls = numbers.count(len(data.manifest.models), "null model")
    trials = numbers.count(data.manifest.trials, "trial")
    size = f"{numbers.count(len(audit.checks), 'check')} against {nulls}, {trials} each"
    return (Fact("audit", (size,), "strong"), *_vacuous(audit), _best(audit))


def _vacuous(audit: Audit) -> tuple[Fact, ...]:
    if not audit.vacuous:
        return (Fact("vacuous", ("none: no null model passed a check",), "good"),)
    of = f"{len(audit.vacuous)} of {numbers.count(len(audit.checks), 'check')}"
    head = Fact("vacuous", (f"{of}: passed by a model that knows nothing",), "bad")
    rows = [
        Fact("", (f"{check_name(check)}: passed by {', '.join(map(one_line, nulls))}",), "bad")
        for check, nulls in audit.vacuous.items()
    ]
    return (head, *rows)


def _best(audit: Audit) -> Fact:
    if audit.best is None:
        return Fact("best null", (numbers.NOT_MEASURED,))
    if not audit.best.name:
        return Fact("best null", ("0.0 %: a score is all the model's own",))
    share = numbers.percent(audit.best.score)
    return Fact("best null", (f"{one_line(audit.best.name)} scores {share}",))
