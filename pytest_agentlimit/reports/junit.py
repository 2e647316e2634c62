"""The JUnit report: one test case per check, for Jenkins, GitLab and other readers of JUnit XML.

Its shape is that of pytest's own `--junitxml`, which knows trials and no score. One suite is a
model; one more, "agentlimit gate", has the rules of the gate as test cases, because readers take
properties of suites and cases only and the gate is no model's. A failed rule is a failure there,
an inconclusive one is skipped with its sentence.

Properties are plain numbers or words; units are in the names. What was not measured has no
property, and neither has a latency that never ended: readers disagree on how infinity is spelled,
and some stop at it. `timeouts` and `over_budget` count those.
"""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

from pytest_agentlimit.measure.latency import waiting_time
from pytest_agentlimit.reports.numbers import count
from pytest_agentlimit.reports.view import first_failure
from pytest_agentlimit.runs.records import GateSettings, RunData, TrialRecord
from pytest_agentlimit.runs.schema import (
    CheckPart,
    LadderPart,
    ModelPart,
    RulePart,
    RunSummary,
)
from pytest_agentlimit.runs.trials import CheckTrials, ModelTrials, model_trials
from pytest_agentlimit.text import escape_controls, one_line, printable

GATE_SUITE = "agentlimit gate"
MESSAGE_LIMIT = 500
TEXT_LIMIT = 4000
# Text without controls and surrogates may still hold these two, which no XML 1.0 file may.
_NOT_XML = re.compile("[\ufffe\uffff]")

Scalar = str | float | None


def to_junit(summary: RunSummary, data: RunData) -> str:
    """Return the run as JUnit XML with a final newline; `summary` must be that of `data`.

    A check is a failure when any trial failed, an error when its test broke or nothing but the
    infrastructure was seen, skipped when no trial was scored; in an audit, where there is no
    gate, it is a failure when a null model passed it. `time` is what its trials waited on the
    model, in seconds. With several models their names stand before the class names, as with
    `--junitprefix`: some readers know a test by class and name alone.
    """
    trials = {found.name: found for found in model_trials(data)}
    several, is_audit = len(summary.models) > 1, data.manifest.purpose == "audit"
    root = ET.Element("testsuites", name="pytest-agentlimit")
    for part in summary.models:
        result = _vacuous if is_audit else _result
        cases = _cases(part, trials[part.name], part.name if several else "", result)
        properties = _of_model(part, trials[part.name])
        root.append(_suite(part.name, properties, cases, summary.run.started))
    if not is_audit:
        rules = [_rule_case(rule, summary) for rule in summary.gate.rules]
        properties = _of_run(summary, data.manifest.gate)
        root.append(_suite(GATE_SUITE, properties, rules, summary.run.started))
    ET.indent(root)
    text = ET.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="utf-8"?>\n{text}\n'


def _suite(
    name: str, properties: dict[str, Scalar], cases: Iterable[ET.Element], started: str
) -> ET.Element:
    cases = list(cases)
    tags = Counter(child.tag for case in cases for child in case)
    suite = _element(
        "testsuite",
        name=name,
        errors=str(tags["error"]),
        failures=str(tags["failure"]),
        skipped=str(tags["skipped"]),
        tests=str(len(cases)),
        time=f"{sum(float(case.attrib['time']) for case in cases):.3f}",
        timestamp=started,
    )
    suite.extend([*_properties(properties), *cases])
    return suite


def _cases(
    part: ModelPart,
    trials: ModelTrials,
    prefix: str,
    result: Callable[[CheckTrials], Iterator[ET.Element]],
) -> Iterator[ET.Element]:
    parts = {check.id: check for check in part.checks}
    for check in trials.checks:
        classname, name = _address(check.plan.check)
        case = _element(
            "testcase",
            classname=".".join(filter(None, (prefix, classname))),
            name=name,
            time=f"{sum(map(_waited_s, check.records)):.3f}",
        )
        ladders = [ladder for ladder in part.ladders if ladder.id == check.plan.check]
        seen = _of_check(parts[check.plan.check], check) | _of_ladders(ladders)
        case.extend(_properties(seen))
        case.extend(result(check))
        yield case


def _address(check: str) -> tuple[str, str]:
    """Return class name and name of a check as pytest's own file writes them."""
    head, bracket, parameters = check.partition("[")
    path, *names = head.split("::")
    if not names:
        return "", check
    folders = path.removesuffix(".py").replace("/", ".")
    return ".".join([folders, *names[:-1]]), names[-1] + bracket + parameters


def _waited_s(record: TrialRecord) -> float:
    """Return the seconds a trial waited on the model.

    After a timeout its whole length: a call that was cut off from outside left no clock behind.
    """
    if record.timed_out:
        return record.duration_s
    if record.latency_ms is not None:
        return record.latency_ms / 1000
    return waiting_time((call.start_ms, call.end_ms) for call in record.calls) / 1000


def _result(check: CheckTrials) -> Iterator[ET.Element]:
    """Yield what makes the case more than a pass, if anything does."""
    outcomes = Counter(record.outcome for record in check.records)
    failed = outcomes["failed"] + outcomes["crashed"]
    told = ", ".join(f"{number} {outcome}" for outcome, number in sorted(outcomes.items()))
    first = first_failure(check)
    if failed:
        yield _told("failure", f"{failed} of {count(len(check.scored), 'trial')} failed", first)
    elif outcomes["inconclusive"] or (outcomes["infra"] and not check.scored):
        yield _told("error", f"{len(check.scored)} scored: {told}", first)
    elif not check.scored:
        yield _told("skipped", f"no trial was scored: {told}", first)


def _vacuous(check: CheckTrials) -> Iterator[ET.Element]:
    """Yield a failure when a null model passed: it knows nothing, so the check proves nothing."""
    if check.passes:
        trials = count(len(check.scored), "trial")
        said = f"vacuous: a model that knows nothing passed {check.passes} of {trials}"
        yield _element("failure", message=said, type="vacuous")


def _told(tag: str, said: str, first: TrialRecord | None) -> ET.Element:
    if first is None:
        return _element(tag, message=said)
    outcome = "timeout" if first.timed_out else first.outcome
    text = first.message or "no message"
    where = f"trial {first.plan.trial}, blame {first.blame or 'not known'}"
    message = one_line(f"{said}; {where}: {text}", MESSAGE_LIMIT)
    element = _element(tag, message=message, type=outcome)
    element.text = _xml(printable(text, TEXT_LIMIT))
    return element


def _rule_case(rule: RulePart, summary: RunSummary) -> ET.Element:
    case = _element(
        "testcase", classname="agentlimit.gate", name=_rule_name(rule, summary), time="0.000"
    )
    seen: dict[str, Scalar] = {"observed": rule.observed, "limit": rule.limit}
    case.extend(_properties({"verdict": rule.verdict, **seen}))
    message = one_line(rule.message, MESSAGE_LIMIT)
    if rule.verdict == "fail":
        case.append(_element("failure", message=message, type="gate"))
    elif rule.verdict == "inconclusive":
        case.append(_element("skipped", message=f"inconclusive: {message}", type="gate"))
    return case


def _rule_name(rule: RulePart, summary: RunSummary) -> str:
    """Return the name of a rule, with the model it is about when there are several.

    The sentence of a rule starts with that model then.
    """
    if len(summary.models) > 1:
        for model in summary.models:
            if rule.message.startswith(f"{one_line(model.name)}: "):
                return f"{rule.rule}: {one_line(model.name)}"
    return rule.rule


def _of_model(part: ModelPart, trials: ModelTrials) -> dict[str, Scalar]:
    score, latency, completion, usage = part.score, part.latency, part.completion, part.usage
    return {
        "score": score.value,
        "score_low": score.low,
        "score_high": score.high,
        "score_level": score.level if score.value is not None else None,
        "rounds": score.rounds,
        "p50_ms": latency.p50_ms,
        "p95_ms": latency.p95_ms,
        "p95_upper_ms": latency.p95_upper_ms,
        "latency_n": latency.n,
        "timeouts": sum(record.timed_out for record in trials.records),
        "over_budget": latency.over_budget,
        "latency_verdict": latency.verdict,
        "expected": completion.expected,
        "scored": completion.scored,
        "infra": completion.infra,
        "unsupported": completion.unsupported,
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "calls": usage.calls,
    }


def _of_check(part: CheckPart, check: CheckTrials) -> dict[str, Scalar]:
    first = first_failure(check)
    return {
        "weight": part.weight,
        "rate": part.passes / part.trials if part.trials else None,
        "rate_low": part.rate_low,
        "rate_high": part.rate_high,
        "trials": part.trials,
        "passes": part.passes,
        "p50_ms": part.p50_ms,
        "stability": part.stability if part.trials else None,
        "capability": part.capability,
        "blame": first.blame if first else None,
    }


def _of_ladders(ladders: Sequence[LadderPart]) -> dict[str, Scalar]:
    """Return the ceilings of a check that climbs; of several climbs with the trial behind."""
    found: dict[str, Scalar] = {}
    for ladder in ladders:
        values: dict[str, Scalar] = {
            "ceiling": ladder.ceiling,
            "ceiling_low": ladder.low,
            "ceiling_high": ladder.high,
            "ceiling_interval": None if ladder.ceiling is None else ladder.interval,
            "ceiling_reliability": ladder.reliability,
            "ceiling_trials": ladder.trials,
            "ceiling_at_least": ladder.at_least,
            "ceiling_verdict": ladder.verdict,
        }
        behind = f"_t{ladder.trial}" if len(ladders) > 1 else ""
        found |= {f"{name}{behind}": value for name, value in values.items()}
    return found


def _of_run(summary: RunSummary, settings: GateSettings) -> dict[str, Scalar]:
    return {
        "gate_verdict": summary.gate.verdict if settings.asked else "not asked",
        "gate_mode": settings.mode,
        "run": summary.run.id,
        "seed": summary.run.seed,
        "plugin_version": summary.run.plugin_version,
    }


def _properties(values: dict[str, Scalar]) -> Iterator[ET.Element]:
    found = [
        _element("property", name=name, value=text)
        for name, value in values.items()
        if (text := _scalar(value)) is not None
    ]
    if found:
        group = ET.Element("properties")
        group.extend(found)
        yield group


def _scalar(value: Scalar) -> str | None:
    """Return a value as text, None for what has no finite value."""
    if isinstance(value, float):
        return f"{value:.10g}" if math.isfinite(value) else None
    return None if value is None else str(value)


def _element(tag: str, **attributes: str) -> ET.Element:
    return ET.Element(tag, {name: _xml(value) for name, value in attributes.items()})


def _xml(text: str) -> str:
    """Return `text` with everything that XML 1.0 cannot hold as a visible escape."""
    return _NOT_XML.sub(lambda match: f"\\u{ord(match.group()):04x}", escape_controls(text))
