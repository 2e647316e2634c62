"""From evidence to exit code (DESIGN 5): what was asked decides what reddens the run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

if TYPE_CHECKING:
    import pluggy

    from pytest_agentlimit.runs.audit import Audit
    from pytest_agentlimit.runs.records import GateSettings, RunData
    from pytest_agentlimit.runs.rules import RuleResult
    from pytest_agentlimit.runs.schema import RunSummary


class Judgement(NamedTuple):
    """Every rule with its lean, and the summary that holds them."""

    results: list[RuleResult]
    summary: RunSummary


@dataclass
class Failures:
    """Failures of this session that are no evidence about a model: they always exit 1."""

    ordinary: int = 0
    resumed: bool = False
    """A trial of the run failed before this session took it up."""

    def count(
        self, report: pytest.TestReport, *, is_trial: bool, record: dict[str, Any] | None
    ) -> None:
        """Take one phase of one test; a check's own failed call is evidence and not counted.

        A check that could not be set up (`inconclusive`) or torn down is a broken test.
        """
        if not is_trial:
            broken = report.failed
        else:
            broken = report.failed and report.when == "teardown"
            broken = broken or (record is not None and record["outcome"] == "inconclusive")
        self.ordinary += broken


def judge(hook: pluggy.HookRelay, data: RunData, summary: RunSummary) -> Judgement:
    """Return the rules of the gate, those of conftest hooks included."""
    from pytest_agentlimit.runs.gate import evaluate, gate_part
    from pytest_agentlimit.runs.rules import RuleResult

    results = evaluate(data, summary.models)
    for added in hook.pytest_agentlimit_gate(summary=summary):
        results += [RuleResult(part, part.verdict != "fail") for part in added]
    return Judgement(results, summary.model_copy(update={"gate": gate_part(results)}))


def decide(
    session: pytest.Session, settings: GateSettings, results: list[RuleResult], failures: Failures
) -> None:
    """Set the exit status and the closing message of `session` from the gate.

    Only over exit codes 0 and 1. With a gate option, or with the gate off, failed checks are
    evidence; otherwise they redden the run as in any pytest session.
    """
    from pytest_agentlimit.runs.gate import is_red

    if session.exitstatus not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        return
    if settings.asked or settings.mode == "off":
        failed = failures.ordinary > 0
        session.exitstatus = pytest.ExitCode.TESTS_FAILED if failed else pytest.ExitCode.OK
    elif failures.resumed:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    if is_red(results, settings):
        parts = [result.part for result in results if result.part.verdict != "pass"]
        worst = next((part for part in parts if part.verdict == "fail"), parts[0])
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        session.shouldfail = session.shouldfail or f"agentlimit gate: {worst.message}"


def decide_audit(session: pytest.Session, audit: Audit, failures: Failures) -> None:
    """Set the exit status of an audit: red when a null model passed a check, or nothing ran."""
    if session.exitstatus not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        return
    red = bool(audit.vacuous or failures.ordinary or not audit.checks)
    session.exitstatus = pytest.ExitCode.TESTS_FAILED if red else pytest.ExitCode.OK
    if not audit.checks:
        session.shouldfail = session.shouldfail or "agentlimit audit: no check was scored"
    elif audit.vacuous:
        session.shouldfail = session.shouldfail or (
            f"agentlimit audit: {len(audit.vacuous)} of {len(audit.checks)} checks are vacuous"
        )
