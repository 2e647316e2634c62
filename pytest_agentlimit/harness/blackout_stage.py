"""The stage of a blackout: a stand-in with one fault, a bridge, and the client of an agent."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

from pytest_agentlimit.bridge.capture import Seen
from pytest_agentlimit.bridge.policy import Policy
from pytest_agentlimit.bridge.serve import Bridge
from pytest_agentlimit.endpoints.client import EndpointClient
from pytest_agentlimit.endpoints.drill import stand_in
from pytest_agentlimit.endpoints.spec import Deadlines, EndpointSpec

from .blackout_tasks import LEAK
from .null_server import reachable

PASSED_OVER = frozenset({"circuit_open", "context_smaller"})
"""Kinds of the attempts of a bridge's chain at which nobody was asked."""


class Stage(NamedTuple):
    """What an agent sends through, and what the bridge saw: all of it once the stage is closed."""

    client: EndpointClient
    seen: list[Seen]


@contextmanager
def blackout(
    fault: str,
    primary: EndpointSpec,
    fallbacks: Sequence[EndpointSpec],
    client: EndpointClient,
    deadlines: Deadlines,
) -> Iterator[Stage]:
    """Yield a stage on which `primary` has `fault` and the bridge falls back to `fallbacks`.

    Nothing is asked of `primary` itself. Its deadlines decide when it is given up; `deadlines` are
    the agent's patience with the bridge. The stage's client is `client` at the bridge.
    """
    seen: list[Seen] = []
    with ExitStack() as stack:
        others = [stack.enter_context(reachable(spec)) for spec in fallbacks]
        broken = stack.enter_context(stand_in(primary, fault, leak=LEAK))
        # The fallback's key is behind it, and this machine may have other users.
        policy = Policy(token=secrets.token_urlsafe(24))
        bridge = stack.enter_context(Bridge(broken, policy, others, observe=seen.append))
        place = _place(bridge, client.spec)
        door = {"authorization": f"Bearer {policy.token}"}
        there = client.at(**place, headers=door, deadlines=deadlines)
        yield Stage(stack.enter_context(there), seen)


def _place(bridge: Bridge, spec: EndpointSpec) -> dict[str, Any]:
    """Return how `spec` is asked through a bridge, which adds what each endpoint wants.

    Sampling and max_tokens stay those of `spec`, whoever answers.
    """
    anthropic = spec.dialect == "anthropic"
    return {
        "base_url": bridge.url if anthropic else f"{bridge.url}/v1",
        "dialect": "anthropic" if anthropic else "openai",
        "tools": "native",
        "extra_body": {},
        "retries": 0,
    }


def asked(seen: Seen) -> list[str]:
    """Return the names of those who were asked for a request, in order."""
    return [one.name for one in seen.record.attempts if one.kind not in PASSED_OVER]


def primary_of(seen: Sequence[Seen]) -> str:
    """Return what the bridge calls the primary, who is first in every chain; "" before requests."""
    return next((one.record.attempts[0].name for one in seen if one.record.attempts), "")


def not_answered(seen: Seen) -> bool:
    """Return True for a request that got no reply a program may take for a good one."""
    record = seen.record
    return seen.failure is not None or record.error is not None or record.client_left
