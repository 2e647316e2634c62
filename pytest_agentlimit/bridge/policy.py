"""What a client's request becomes before it goes to the upstream (PROTOCOLS R14)."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import Field

from pytest_agentlimit.chat import jsontext
from pytest_agentlimit.chat.emulation import emulated_request
from pytest_agentlimit.chat.messages import (
    ChatRequest,
    Dialect,
    Frozen,
    Message,
    TextBlock,
    Tool,
    ToolResult,
)
from pytest_agentlimit.endpoints.spec import EndpointSpec

DEFAULT_MAX_BODY = 32_000_000
"""Bytes: what the Anthropic API itself takes."""

_BILLING = re.compile(r"\s*x-anthropic-billing-header:[^\n]*\n*", re.IGNORECASE)
_NO_SCHEMA = frozenset({"cache_control", "defer_loading", "$schema"})
_NAMED = frozenset({"properties", "patternProperties", "$defs", "definitions"})
_VALUES = frozenset({"const", "enum", "default", "examples"})
_PARAGRAPH = "\n\n"


class Policy(Frozen):
    """How a bridge treats what passes through it."""

    tools: Literal["native", "strip", "emulate"] = "native"
    """`strip`: the model is offered no tools, whatever the client offers. `emulate`: it is offered
    them in its prompt, and calls are read from its text (chat/emulation.py).
    """
    system: Literal["fold", "hoist", "keep"] = "fold"
    """System messages in the middle: into a neighbour's text, to the head, or left in place."""
    recover_leaks: bool = False
    """A reply that is nothing but tool calls written as text becomes these calls.

    Without effect where tools are emulated: an answer may hold such a text as data.
    """
    cut_calls: Literal["drop", "error"] = "drop"
    """A call whose arguments break off: left out, and the reply ends in `max_tokens`; or an error.

    Some programs take the first for an answer and stop; the second makes them ask again.
    """
    max_turns: int | None = Field(default=None, ge=1)
    """Conversation requests that are answered; None is without end."""
    max_body: int = Field(default=DEFAULT_MAX_BODY, ge=1)
    """Bytes of a request body."""
    token: str | None = Field(default=None, repr=False)
    """What clients must show, as a bearer token or in x-api-key."""


def emulates_tools(policy: Policy, spec: EndpointSpec) -> bool:
    """Return True when tools are offered in the prompt: by the policy, or by the endpoint's own."""
    return policy.tools == "emulate" or (policy.tools == "native" and spec.tools == "emulate")


def upstream_request(
    request: ChatRequest, body: dict[str, Any], policy: Policy, client: Dialect, spec: EndpointSpec
) -> ChatRequest:
    """Return `request` as the upstream gets it; `body` is what it was decoded from.

    Keys of the body that the codec does not know stay within their own dialect: a strict server of
    another one would refuse them. What the endpoint's configuration sets is filled in.
    """
    extra = request.extra if client == spec.dialect else {}
    extra = {key: value for key, value in extra.items() if key != "stream_options"}
    if spec.dialect == "ollama":
        # An overflow is then an error; by default the oldest messages are dropped in silence.
        extra = {"truncate": False, "shift": False} | extra
    changes: dict[str, Any] = {
        "model": spec.model or request.model,
        "tools": _tools(request.tools),
        "temperature": spec.temperature if request.temperature is None else request.temperature,
        "top_p": spec.top_p if request.top_p is None else request.top_p,
        "extra": spec.extra_body | extra,
    }
    thinking = body.get("thinking")
    if client == "anthropic" and isinstance(thinking, dict):
        if spec.dialect == "anthropic":
            changes["extra"] = {"thinking": thinking} | changes["extra"]  # with its own budget
        elif thinking.get("type") == "adaptive":
            changes["think"] = None  # the model's own choice: other dialects say nothing then
    if policy.tools == "strip":
        changes |= {"tools": (), "tool_choice": None, "parallel_tool_calls": None}
    changes["system"], changes["messages"] = _conversation(request, policy)
    asked = request.model_copy(update=changes)
    return emulated_request(asked) if emulates_tools(policy, spec) else asked


def _tools(tools: tuple[Tool, ...]) -> tuple[Tool, ...]:
    """Return the tools as local servers take them."""
    schemas = [_top(tool.parameters) for tool in tools]
    written = jsontext.wire(schemas)
    if any(key.encode() in written for key in _NO_SCHEMA):
        # Agents have such keys at the top, if anywhere: the walk through all of it is rarely due.
        schemas = [_schema(schema) for schema in schemas]
    changed = zip(tools, schemas, strict=True)
    return tuple(tool.model_copy(update={"parameters": schema}) for tool, schema in changed)


def _top(schema: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in schema.items() if key not in _NO_SCHEMA}


def _schema(node: Any, *, names: bool = False) -> Any:
    """Return a JSON schema without the keys local servers refuse; properties keep their names."""
    if isinstance(node, list):
        return [_schema(item) for item in node]
    if not isinstance(node, dict):
        return node
    return {
        key: value
        if not isinstance(value, (dict, list)) or (key in _VALUES and not names)
        else _schema(value, names=key in _NAMED and not names)
        for key, value in node.items()
        if names or key not in _NO_SCHEMA
    }


def _conversation(request: ChatRequest, policy: Policy) -> tuple[str | None, tuple[Message, ...]]:
    """Return the system prompt, without its changing billing line, and the turns."""
    system = request.system
    if system is not None:
        # The line changes with every request, and with it the prompt cache is lost.
        system = _BILLING.sub("", system, count=1) if _BILLING.match(system) else system
    if policy.system == "keep":
        return system or None, request.messages
    if policy.system == "hoist":
        inline = [message.text for message in request.messages if message.role == "system"]
        turns = tuple(message for message in request.messages if message.role != "system")
        return _PARAGRAPH.join([*([system] if system else []), *inline]) or None, turns
    return system or None, _folded(request.messages)


def _folded(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """Return the turns with system messages as text of a neighbour; no earlier turn changes place.

    The user's turn before it takes it, else the user's turn after it, else the last tool result,
    so that calls and their results stay together.
    """
    turns: list[Message] = []
    waiting: list[TextBlock] = []
    for message in messages:
        if message.role == "system":
            text = TextBlock(text=message.text)
            if turns and turns[-1].role == "user":
                turns[-1] = Message(role="user", blocks=(*turns[-1].blocks, text))
            else:
                waiting.append(text)
            continue
        if waiting:
            if message.role == "user":
                message = Message(role="user", blocks=(*waiting, *message.blocks))
            else:
                _settle(turns, waiting)
            waiting = []
        turns.append(message)
    if waiting:
        _settle(turns, waiting)
    return tuple(turns)


def _settle(turns: list[Message], waiting: list[TextBlock]) -> None:
    """Give texts that no user's turn takes a place after what they followed."""
    last = turns[-1].blocks[-1] if turns and turns[-1].blocks else None
    if turns and turns[-1].role == "tool" and isinstance(last, ToolResult):
        said = _PARAGRAPH.join([last.content, *(block.text for block in waiting)])
        result = last.model_copy(update={"content": said})
        turns[-1] = Message(role="tool", blocks=(*turns[-1].blocks[:-1], result))
    else:
        turns.append(Message(role="user", blocks=tuple(waiting)))
