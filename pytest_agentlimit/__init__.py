"""Find where a model breaks as an agent, and prove it.

The public API. Everything is imported on first use, because pytest imports this package in every
session of an environment it is installed in.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_agentlimit.agents.agent import Agent as Agent
    from pytest_agentlimit.agents.tools import tool as tool
    from pytest_agentlimit.chat.messages import ChatReply as ChatReply
    from pytest_agentlimit.chat.messages import Tool as Tool
    from pytest_agentlimit.chat.messages import ToolCall as ToolCall
    from pytest_agentlimit.chat.messages import Usage as Usage
    from pytest_agentlimit.endpoints.client import EndpointClient as Endpoint
    from pytest_agentlimit.errors import AgentLimitError as AgentLimitError
    from pytest_agentlimit.runs.schema import RunSummary as RunSummary

__version__ = "0.1.0"

_HOMES = {
    "Agent": ("agents.agent", "Agent"),
    "Endpoint": ("endpoints.client", "EndpointClient"),
    "Tool": ("chat.messages", "Tool"),
    "tool": ("agents.tools", "tool"),
    "ChatReply": ("chat.messages", "ChatReply"),
    "ToolCall": ("chat.messages", "ToolCall"),
    "Usage": ("chat.messages", "Usage"),
    "RunSummary": ("runs.schema", "RunSummary"),
    "AgentLimitError": ("errors", "AgentLimitError"),
}

__all__ = [
    "Agent",
    "Endpoint",
    "Tool",
    "tool",
    "ChatReply",
    "ToolCall",
    "Usage",
    "RunSummary",
    "AgentLimitError",
]


def __getattr__(name: str) -> Any:
    """Import a public name on first use (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _HOMES[name]
    value = getattr(import_module(f"{__name__}.{module}"), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
