"""The GitHub report: a job summary in Markdown, and annotations as workflow commands.

A workflow command is a line on stdout that starts with `::`. Its message ends at the end of the
line, its properties at a colon or comma, so these are escaped as GitHub's own toolkit does
(actions/toolkit, packages/core/src/command.ts). Nothing in a text can then start a command.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from pytest_agentlimit.reports.markdown import to_markdown
from pytest_agentlimit.reports.numbers import count
from pytest_agentlimit.reports.view import RunView, first_failure
from pytest_agentlimit.runs.audit import audit_of
from pytest_agentlimit.runs.gate import evaluate, is_red
from pytest_agentlimit.runs.names import check_name
from pytest_agentlimit.runs.records import RunData
from pytest_agentlimit.runs.rules import RuleResult
from pytest_agentlimit.runs.schema import RunSummary
from pytest_agentlimit.runs.trials import CheckTrials, model_trials
from pytest_agentlimit.text import escape_controls, one_line

STEP_BYTES = 1024 * 1024
"""A step's summary that is larger is not shown at all."""
MOST = 10
"""How many annotations of one kind GitHub shows of a step."""
_CUT = (
    "\n**Cut here**: GitHub shows at most 1 MiB of a step's summary. "
    "`--agent-report=markdown` writes it whole.\n"
)
_TITLE_LIMIT = 200
_MESSAGE_LIMIT = 1000
_DATA = str.maketrans({"%": "%25", "\r": "%0D", "\n": "%0A"})
_PROPERTY = {**_DATA, ord(":"): "%3A", ord(","): "%2C"}


@dataclass(frozen=True)
class Annotation:
    """One message at a place in the repository; GitHub shows it beside the code."""

    kind: Literal["error", "warning", "notice"]
    title: str
    message: str
    file: str = ""
    """Relative to the repository; empty for no place."""
    line: int | None = None

    def command(self) -> str:
        """Return the workflow command, one line whatever the texts hold."""
        properties = {
            "file": escape_controls(self.file),
            "line": str(self.line) if self.file and self.line is not None else "",
            "title": one_line(self.title, _TITLE_LIMIT),
        }
        shown = [f"{name}={text.translate(_PROPERTY)}" for name, text in properties.items() if text]
        message = one_line(self.message, _MESSAGE_LIMIT).translate(_DATA)
        return f"::{self.kind} {','.join(shown)}::{message}"


def step_summary(view: RunView, used: int = 0) -> str:
    """Return Markdown to append to a summary that holds `used` bytes; empty when it is full.

    What would go beyond 1 MiB is cut at the end of a line, and said.
    """
    text = ("\n" if used else "") + to_markdown(view)
    room = STEP_BYTES - used
    data = text.encode()
    if len(data) <= room:
        return text
    end = data.rfind(b"\n", 0, max(0, room - len(_CUT.encode())))
    return data[: end + 1].decode() + _CUT if end > 0 else ""


def workflow_commands(
    view: RunView, summary: RunSummary, data: RunData, folder: str = ""
) -> list[str]:
    """Return the annotations of a run, a command each: the verdict, then rules, then checks.

    A rule that makes the run red is an error, another that failed is a warning, and so is a check
    with a failed trial, blockers first; of an audit, checks that a null model passed are errors.
    `folder` is where the tests' root lies in the repository.
    """
    if data.manifest.purpose == "audit":
        found = [_audit(view), *_vacuous(data, folder)]
    else:
        found = [_verdict(view), *_rules(summary, data), *_checks(data, folder)]
    kinds: tuple[Literal["notice", "error", "warning"], ...] = ("notice", "error", "warning")
    return [
        annotation.command()
        for kind in kinds
        for annotation in _bounded([a for a in found if a.kind == kind])
    ]


def _verdict(view: RunView) -> Annotation:
    scores = [
        f"{model.name}: score {', '.join(fact.parts)}"
        for model in view.models
        for fact in model.facts
        if fact.label == "score"
    ]
    said = " · ".join([*scores, view.gate.comment])
    return Annotation("notice", f"agentlimit: gate {view.gate.word}", said)


def _audit(view: RunView) -> Annotation:
    said = [f"{fact.label}: {', '.join(fact.parts)}" for fact in view.audit if fact.label]
    return Annotation("notice", "agentlimit: audit", " · ".join(said))


def _vacuous(data: RunData, folder: str) -> Iterator[Annotation]:
    plans = {check.plan.check: check.plan for model in model_trials(data) for check in model.checks}
    for name, nulls in audit_of(data).vacuous.items():
        said = f"passed by a model that knows nothing: {', '.join(nulls)}"
        title = f"{check_name(name)} is vacuous"
        yield Annotation("error", title, said, _file(name, folder), plans[name].line)


def _rules(summary: RunSummary, data: RunData) -> Iterator[Annotation]:
    settings = data.manifest.gate
    known = {result.part: result for result in evaluate(data, summary.models)}
    for rule in summary.gate.rules:
        # A rule of a conftest hook has no lean of its own.
        result = known.get(rule) or RuleResult(rule, rule.verdict != "fail")
        title = f"agentlimit: {rule.rule} {rule.verdict}"
        if is_red([result], settings):
            yield Annotation("error", title, rule.message)
        elif rule.verdict == "fail":
            yield Annotation("warning", title, rule.message)


def _checks(data: RunData, folder: str) -> list[Annotation]:
    failed = [
        (model.name, check)
        for model in model_trials(data)
        for check in model.checks
        if any(record.outcome in ("failed", "crashed") for record in check.records)
    ]
    failed.sort(key=lambda found: not found[1].plan.blocker)
    return [_failed(name, check, folder) for name, check in failed]


def _failed(model: str, check: CheckTrials, folder: str) -> Annotation:
    plan, first = check.plan, first_failure(check)
    scored = len(check.scored)
    said = f"{scored - check.passes} of {count(scored, 'trial')} failed"
    if first is not None:
        said += f"; trial {first.plan.trial}, blame {first.blame}: {first.message or 'no message'}"
    blocker = " (blocker)" if plan.blocker else ""
    title = f"{check_name(plan.check)}{blocker} on {one_line(model)}"
    return Annotation("warning", title, said, _file(plan.check, folder), plan.line)


def _file(check: str, folder: str) -> str:
    """Return the file of a check in the repository, empty when it lies elsewhere."""
    path, colons, _ = check.partition("::")
    if not colons:
        return ""
    found = posixpath.normpath(posixpath.join(folder, path))
    return "" if found.startswith(("/", "../")) else found


def _bounded(annotations: list[Annotation]) -> list[Annotation]:
    """Return at most as many as are shown; the last then says how many there are besides."""
    if len(annotations) <= MOST:
        return annotations
    kind = annotations[0].kind
    rest = len(annotations) - MOST + 1
    more = Annotation(kind, f"agentlimit: {rest} more", "see the job summary for all of them")
    return [*annotations[: MOST - 1], more]
