"""The shape of a real agent's request: a long system prompt and a dozen tools nobody needs.

Minimal probes pass where agents fail (PROTOCOLS R9, B17), so every check can also be run with
what real agents send along: 20 to 22 KB, which an 8k context still holds.
"""

from __future__ import annotations

import functools
import json
import random
from pathlib import Path

from pytest_agentlimit.chat.messages import ChatRequest, Tool

_HERE = Path(__file__).parent


@functools.cache
def agent_prompt() -> str:
    """Return the system prompt of a coding agent, in general terms."""
    return (_HERE / "agent_prompt.md").read_text(encoding="utf-8").strip()


@functools.cache
def decoys() -> tuple[Tool, ...]:
    """Return the tools that are offered beside a check's own and cannot be run."""
    entries = json.loads((_HERE / "decoys.json").read_text(encoding="utf-8"))
    return tuple(Tool(**entry) for entry in entries)


def decoy_names() -> frozenset[str]:
    """Return the names of all decoys."""
    return frozenset(decoy.name for decoy in decoys())


def agent_shape(request: ChatRequest, *, seed: int = 0) -> ChatRequest:
    """Return `request` as a coding agent would send it.

    The request's own system text comes last, where it can overrule. Its tools stand among the
    decoys in an order that depends on `seed` and the names alone, so that every request of a
    conversation begins alike; a decoy named like one of them is left out.
    """
    own = {tool.name.lower() for tool in request.tools}
    offered = [decoy for decoy in decoys() if decoy.name.lower() not in own]
    tools = sorted([*request.tools, *offered], key=lambda tool: tool.name)
    random.Random(f"agent-shape:{seed}").shuffle(tools)
    system = "\n\n".join(text for text in (agent_prompt(), request.system) if text)
    return request.model_copy(update={"system": system, "tools": tuple(tools)})
