"""One model endpoint, fully resolved: plain data that crosses to xdist workers as JSON."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from pytest_agentlimit.chat.messages import Dialect, Frozen


class Deadlines(Frozen):
    """How long each part of a call may take, in seconds; they tell refused, hung and slow apart."""

    connect_s: float = 5.0
    first_byte_s: float = 120.0
    """From the request sent to the first byte of the answer; a local prefill can be slow."""
    between_chunks_s: float = 60.0
    total_s: float = 300.0


class EndpointSpec(Frozen):
    """An address, a dialect and a model id, with what the user said about them.

    It never holds a secret: `api_key_env` is the name of an environment variable.
    """

    name: str
    """A short id in [A-Za-z0-9._-], from what the user typed; used in test ids and reports."""
    kind: Literal["remote", "embedded", "null"] = "remote"
    dialect: Dialect = "openai"
    base_url: str
    model: str
    source: str = "literal"
    """Which rule of the resolver won, in words for the header line."""
    api_key_env: str | None = None
    headers: dict[str, str] = Field(default_factory=dict, repr=False)
    """Sent with every request; not in the repr, since gateways want tokens in headers."""
    context_window: int | None = None
    max_tokens: int | None = 1024
    """Sent with every request that sets none: a model must not stream for ever."""
    temperature: float | None = None
    top_p: float | None = None
    deadlines: Deadlines = Deadlines()
    retries: int = 0
    max_inflight: int | None = None
    watts: float | None = None
    max_reply_bytes: int = 8_000_000
    gguf: str | None = None
    """The weights an embedded endpoint serves: a path, or the short name of an embedded model.

    `base_url` is filled in when it has started.
    """
    extra_body: dict[str, Any] = Field(default_factory=dict)
    tools: Literal["native", "emulate"] = "native"
    """`emulate`: for a server or model without tool calling. Tools are declared in the prompt and
    calls read from the text, strictly (chat/emulation.py); a call's `first_tool_s` is then None,
    and its `ttft_s` that of the JSON it was written in.
    """
