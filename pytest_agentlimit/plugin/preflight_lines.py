"""A preflight in four lines at the top of a run: who serves, what it can do, what is wrong."""

from __future__ import annotations

from typing import Any

from pytest_agentlimit.endpoints.warmup import WarmUp
from pytest_agentlimit.reports import numbers
from pytest_agentlimit.reports.context import context_said
from pytest_agentlimit.text import one_line

from .preflight import Found

_NOT_SHOWN = "not shown"
_REASONING = {"field": "in a field of its own", "tags": "as tags in the text"}
_MOST_NAMED = 3


def preflight_lines(found: Found, warm: WarmUp | None) -> list[str]:
    """Return the four lines; what was not established is said so, never guessed."""
    facts = found.preflight.facts
    return [
        f"agentlimit: preflight of {one_line(found.model.name, 80)}: {_served(found, warm)}",
        f"agentlimit:   {_abilities(facts)}",
        f"agentlimit:   {_replies(facts)}; {context_said(facts)}",
        f"agentlimit:   {_verdict(found)}",
    ]


def _served(found: Found, warm: WarmUp | None) -> str:
    known = found.model.fingerprint
    engine = " ".join(str(known[key]) for key in ("engine", "engine_version") if known.get(key))
    parts = [one_line(engine, 80) or "engine not known"]
    if known.get("template_hash"):
        parts.append(f"chat template {one_line(str(known['template_hash']), 20)}")
    if warm is not None and warm.cold is not None:
        parts.append("was cold" if warm.cold else "warm")
    return f"{', '.join(parts)}; {_cost(found)}"


def _cost(found: Found) -> str:
    asked = numbers.count(found.preflight.requests, "request")
    said = f"{asked} in {numbers.seconds(found.preflight.seconds)}"
    return said if found.age_s is None else f"{said}, {numbers.seconds(found.age_s)} ago"


def _abilities(facts: dict[str, Any]) -> str:
    shown = [
        ("parallel_tool_calls", "parallel calls", "yes", "broken"),
        ("tool_choice", "tool choice", "enforced", "not enforced"),
        ("json_schema", "JSON schema", "enforced", "not enforced"),
        ("stream_equals_whole", "stream = whole", "yes", "no"),
    ]
    said = [f"{label} {_said(facts.get(key), yes, no)}" for key, label, yes, no in shown]
    return ", ".join([_tools(facts), *said])


def _tools(facts: dict[str, Any]) -> str:
    """Return what is known of tools; what a template promises is no call that was seen."""
    seen, promised = facts.get("tools"), facts.get("tools_advertised")
    if seen is None and promised is not None:
        return f"tools {'promised' if promised else 'not'} in the template, no call seen"
    return f"tools {_said(seen, 'native', 'broken')}"


def _replies(facts: dict[str, Any]) -> str:
    reasoning = _REASONING.get(str(facts.get("reasoning")), "none seen")
    usage = _said(facts.get("usage_reported"), "reported", "not reported")
    cache = _said(facts.get("prompt_cache"), "used", "not used")
    return f"reasoning {reasoning}, token counts {usage}, prompt cache {cache}"


def _said(value: object, yes: str, no: str) -> str:
    return _NOT_SHOWN if not isinstance(value, bool) else yes if value else no


def _verdict(found: Found) -> str:
    faults = found.preflight.faults
    if not faults:
        return "no fault seen"
    named = ", ".join(f"{one.code} ({one.blame}: {one.message})" for one in faults[:_MOST_NAMED])
    more = f" and {len(faults) - _MOST_NAMED} more" if len(faults) > _MOST_NAMED else ""
    name = one_line(found.model.name, 80)
    return (
        f"{numbers.count(len(faults), 'fault')}: {one_line(named, 600)}{more}. "
        f"Next: agentlimit doctor {name} --fix-hints"
    )
