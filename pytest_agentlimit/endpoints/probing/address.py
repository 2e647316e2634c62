"""Is anybody there, is it the right place, and does it have the model."""

from __future__ import annotations

from pytest_agentlimit.endpoints import failures
from pytest_agentlimit.endpoints.preflight import (
    LISTS,
    better_base,
    inspect_listed,
    require_model,
)
from pytest_agentlimit.endpoints.probing import fixes
from pytest_agentlimit.endpoints.probing.probe import Bench, Fix, Found, fault, ok, unknown
from pytest_agentlimit.errors import (
    DeadlineExceeded,
    EndpointError,
    EndpointUnusable,
    HTTPFailure,
    NotTheProtocol,
    Unreachable,
)

_SHORT = 0.98
"""Servers round their context; a claim this close to it is honest."""


def connect(bench: Bench) -> Found:
    """Something listens and answers; the model list is asked for, and any answer will do."""
    try:
        bench.models = bench.wire.get_json(LISTS[bench.spec.dialect])
    except (Unreachable, DeadlineExceeded):
        raise
    except EndpointError as error:
        bench.listing_error = error
    return ok(f"{bench.spec.base_url} answers")


def models(bench: Bench) -> Found:
    """The model list is JSON, at this base URL, and holds the model."""
    error = bench.listing_error
    if error is not None and (broken := _refused(bench, error)):
        return broken
    bench.facts |= _fingerprint(bench)
    if error is not None:
        return unknown("the server has no model list")
    try:
        require_model(bench.spec, bench.models)
    except EndpointUnusable as missing:
        what, _, next_step = str(missing).partition(" Next: ")
        return fault("wrong_model", what, blame="config", fix=Fix(sentence=next_step))
    engine = bench.facts["engine"] or "a server that does not name itself"
    return ok(f"{engine} has {bench.spec.model}")


def context_claims(bench: Bench) -> Found:
    """What the config declares is not more than what the server says it serves."""
    declared, served = bench.spec.context_window, bench.facts["context_advertised"]
    if declared is None:
        fix = Fix(
            sentence="Declare the context window that the server has",
            line=fixes.setting(bench, "contextWindow", served) if served else None,
        )
        if bench.spec.source.startswith("OpenClaw"):
            message = "the config declares no context window: OpenClaw then assumes 200000 tokens"
            return fault("no_context_window", message, blame="config", fix=fix)
        says = f"the server advertises {served} tokens" if served else "nor does the server"
        return unknown(f"no context window is declared; {says}", fix)
    if served is None:
        return unknown(f"declared {declared} tokens; the server does not say what it serves")
    if served < _SHORT * declared:
        message = f"the config declares {declared} tokens of context, the server serves {served}"
        fix = fixes.larger_context(bench, declared)
        return fault("context_smaller", message, blame="config", fix=fix)
    return ok(f"declared {declared} tokens, the server advertises {served}")


def _refused(bench: Bench, error: EndpointError) -> Found | None:
    """Return the fault that a failed model list proves, None when the server just has none."""
    page = isinstance(error, NotTheProtocol) and error.kind == "html"
    status = error.status if isinstance(error, HTTPFailure) else None
    if page or status == 404:
        bench.wire.take(bench.wire.budget.list_s)
        better = better_base(bench.wire.spec)
        if better is not None:
            where = bench.spec.base_url
            message = f"{where} has no model list, and {better} has one"
            rule = failures.v1_rule(bench.spec)
            line = fixes.setting(bench, "baseUrl", better)
            fix = Fix(sentence=f"Correct the base URL: {rule}", line=line)
            return fault("wrong_base", message, blame="config", fix=fix)
    if page or status in (301, 302, 307, 308, 401, 403, 503):
        return fixes.explain(bench, error)
    return None


def _fingerprint(bench: Bench) -> dict[str, object]:
    found = inspect_listed(bench.wire, bench.models)
    found["context_advertised"] = found.pop("context")
    found["tools_advertised"] = found.pop("tools")
    return found
