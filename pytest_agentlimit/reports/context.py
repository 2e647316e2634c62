"""The context of an endpoint in one line: what the config, the server and the measurement say."""

from __future__ import annotations

from typing import Any

from pytest_agentlimit.reports import numbers


def context_said(facts: dict[str, Any]) -> str:
    """Return "context declared …, advertised …, measured …" from the facts of a diagnosis."""
    claims = [
        f"{word} {facts.get(f'context_{word}') or 'nowhere'}" for word in ("declared", "advertised")
    ]
    return f"context {', '.join([*claims, _measured(facts)])}"


def _measured(facts: dict[str, Any]) -> str:
    measured, fits = facts.get("context_measured"), facts.get("context_fits")
    estimated = " (estimated)" if facts.get("context_estimated") else ""
    if measured and fits and fits < measured:
        return f"measured {measured}{estimated} by what is refused, {fits} seen to fit"
    if measured:
        return f"measured {measured}{estimated}"
    if facts.get("context_at_least"):
        return f"measured at least {facts['context_at_least']}{estimated}"
    return numbers.NOT_MEASURED
