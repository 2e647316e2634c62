"""The ladder in order, one line a step (PROTOCOLS R20, R21)."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

from pytest_agentlimit.endpoints.client import EndpointClient
from pytest_agentlimit.endpoints.connect import open_client
from pytest_agentlimit.endpoints.probing import address, context, fixes, replay, talk, tools
from pytest_agentlimit.endpoints.probing.probe import Bench, Diagnosis, Step, climb
from pytest_agentlimit.endpoints.probing.wire import Budget, Wire
from pytest_agentlimit.endpoints.spec import EndpointSpec

STEPS: tuple[Step, ...] = (
    Step("connect", address.connect),
    Step("models", address.models, after=("connect",)),
    Step("context claims", address.context_claims, after=("models",)),
    Step("text", talk.text, after=("models",)),
    Step("stream", talk.stream, after=("text",)),
    Step("usage", talk.usage, after=("stream",)),
    Step("warm", talk.warm, after=("stream",)),
    Step("tool", tools.bare, after=("text",)),
    Step("tool stream", tools.streamed, after=("stream", "tool")),
    Step("tool choice", tools.required, after=("tool",)),
    Step("parallel", tools.parallel, after=("tool stream",)),
    Step("replay", replay.replay, after=("tool",)),
    Step("json schema", talk.json_schema, after=("text",)),
    Step("system in the middle", replay.mid_system, after=("text",), quick=False),
    Step("two at once", talk.two_at_once, after=("stream",), quick=False),
    Step("context", context.measure, after=("text",), quick=False),
    Step("tool in agent shape", tools.agent_shaped, after=("tool",), quick=False),
)
"""Steps that send nothing of their own judge what earlier steps brought.

An agent's request is long, so it comes after the context that it has to fit into.
"""

_FACTS = (
    "tools",
    "parallel_tool_calls",
    "tool_choice",
    "json_schema",
    "stream_equals_whole",
    "reasoning",
    "usage_reported",
    "mid_system",
    "null_content",
    "arguments",
    "concurrency",
    "prompt_cache",
    "cold_s",
    "context_declared",
    "context_advertised",
    "context_measured",
    "context_at_least",
    "context_fits",
    "context_estimated",
    "overflow",
)


def run_ladder(
    spec: EndpointSpec,
    *,
    client: EndpointClient | None = None,
    full: bool = True,
    budget: Budget | None = None,
) -> Diagnosis:
    """Return what is right and wrong with an endpoint; nothing that a server does raises.

    The quick form sends at most 12 requests, the full one also the probes that cost more. A given
    `client` is not closed, and must not be used by others meanwhile. Null and embedded models need
    a client or an address of their own.
    """
    limits = budget or Budget()
    # What the server makes of real tools is asked also where a run will not offer it any.
    spec = spec.model_copy(update={"tools": "native"})
    facts: dict[str, Any] = {**dict.fromkeys(_FACTS), "findings": []}
    facts["context_declared"] = spec.context_window
    with nullcontext(client) if client else open_client(spec) as opened:
        wire = Wire(opened, limits, limits.full_requests if full else limits.quick_requests)
        try:
            bench = Bench(spec=spec, wire=wire, facts=facts)
            steps = [step for step in STEPS if full or step.quick]
            results = climb(steps, bench, fixes.explain)
        finally:
            wire.release()
    return Diagnosis(
        results=tuple(results),
        requests=wire.requests,
        seconds=round(wire.seconds, 3),
        facts=facts,
    )
