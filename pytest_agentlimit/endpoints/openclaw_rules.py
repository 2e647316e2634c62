"""What can be wrong with one sound-looking model of an OpenClaw config (PROTOCOLS 1.3)."""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Iterator
from typing import Annotated, NamedTuple
from urllib.parse import urlsplit

from pydantic import Field

from pytest_agentlimit.endpoints.openclaw_endpoint import BUILT_IN, Entry
from pytest_agentlimit.endpoints.openclaw_problem import ConfigProblem, Severity, named
from pytest_agentlimit.endpoints.openclaw_values import Read, complaints

_OLLAMA_PORT = 11434
_VERSION = re.compile(r"/v\d")
_ADDED = {
    "openai-completions": "/chat/completions",
    "openai-responses": "/responses",
    "anthropic-messages": "/v1/messages",
    "ollama": "/api/chat",
}
_WITHOUT_V1 = ("anthropic-messages", "ollama")
_HARD_FLOOR = 4_000
_OLDER_FLOOR = 16_000
_USUAL_REPLY = 8_192
_Price = Annotated[float, Field(ge=0)]


class _Cost(Read):
    input: _Price | None = None
    output: _Price | None = None
    cache_read: _Price | None = Field(default=None, validation_alias="cacheRead")
    cache_write: _Price | None = Field(default=None, validation_alias="cacheWrite")


class _Address(NamedTuple):
    host: str
    port: int | None
    path: str

    @property
    def loopback(self) -> bool:
        if self.host == "localhost" or self.host.endswith(".localhost"):
            return True
        number = self.number
        return number is not None and number.is_loopback

    @property
    def nearby(self) -> bool:
        """True for a machine of one's own, where no gateway hides the /v1."""
        if self.number is not None:
            return self.number.is_private
        return "." not in self.host or self.host.endswith((".localhost", ".local", ".lan"))

    @property
    def number(self) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
        try:
            return ipaddress.ip_address(self.host)
        except ValueError:
            return None


def address_problems(entry: Entry, api: str, address: str) -> Iterator[ConfigProblem]:
    """Yield what is wrong with a given `address` for `api`."""
    given = entry.model.base_url or entry.provider.base_url
    if given is None:
        return
    place = entry.place_of("baseUrl", entry.model.base_url)
    try:
        parts = urlsplit(address)
        split = _Address(parts.hostname or "", parts.port, parts.path.rstrip("/"))
    except ValueError:
        yield ConfigProblem("bad_base_url", place, "its host or its port is none")
        return
    literal = address if "$" not in given else None
    yield from _version_problems(api, split, place, literal)
    yield from _ollama_problems(entry, api, split, place, literal)
    yield from _usage_problems(entry, api, split)


def _version_problems(
    api: str, address: _Address, place: str, literal: str | None
) -> Iterator[ConfigProblem]:
    added = _ADDED.get(api)
    if api.startswith("openai-") and added and not _VERSION.search(address.path):
        plain = not address.path
        line = _line(f"{literal}/v1") if plain and literal else None
        severity: Severity = "error" if plain and address.nearby else "warning"
        what = f"no /v1 in it: for {api} OpenClaw adds {added} and nothing else"
        step = "end it with /v1, where the server has its routes"
        yield ConfigProblem("missing_v1", place, what, step, line=line, severity=severity)
    if api in _WITHOUT_V1 and address.path.endswith("/v1"):
        line = _line(literal.removesuffix("/v1")) if literal and address.path == "/v1" else None
        what = f"/v1 at its end: for {api} OpenClaw adds {added} itself"
        yield ConfigProblem("superfluous_v1", place, what, "take the /v1 away", line=line)


def _ollama_problems(
    entry: Entry, api: str, address: _Address, place: str, literal: str | None
) -> Iterator[ConfigProblem]:
    ollama = entry.found.provider == "ollama" or address.port == _OLLAMA_PORT
    if not ollama or not api.startswith("openai-") or not address.path.endswith("/v1"):
        return
    plain = literal and address.path == "/v1"
    base = _line(literal.removesuffix("/v1")) if literal and plain else None
    yield ConfigProblem(
        "ollama_v1",
        place,
        f"if Ollama serves it, its /v1 takes no tool_choice and no context size: {api} loses both",
        "use Ollama's own api, and a baseUrl without /v1",
        line=f'api: "ollama", {base}' if base else None,
        severity="warning",
    )


def _usage_problems(entry: Entry, api: str, address: _Address) -> Iterator[ConfigProblem]:
    own = {urlsplit(known.base_url).hostname for known in BUILT_IN.values()}
    if api != "openai-completions" or address.loopback or address.host in own:
        return
    if not entry.found.entry:  # a provider that lists no model
        return
    compat = entry.found.entry.get("compat")
    if isinstance(compat, dict) and "supportsUsageInStreaming" in compat:
        return
    yield ConfigProblem(
        "usage_not_streamed",
        f"{entry.found.model_place}.compat.supportsUsageInStreaming",
        "not set for a server on another machine: OpenClaw then asks for no token counts, shows "
        "0 % of the context and does not compact in time",
        "set it when the server counts tokens in streams",
        line="compat: { supportsUsageInStreaming: true }",
        severity="warning",
    )


def _line(address: str) -> str | None:
    """Return the config line of an address, None when a key may be in it."""
    return None if named(address) != address else f'baseUrl: "{address}"'


def limit_problems(entry: Entry) -> Iterator[ConfigProblem]:
    """Yield what is wrong with the limits and the prices of a model."""
    window, used, limit = entry.context, entry.context_tokens, entry.max_tokens
    place = entry.found.model_place
    if entry.found.entry.get("cost") is not None:
        yield from complaints(_Cost, entry.found.entry["cost"], f"{place}.cost")
    if window and limit and limit > window:
        where = entry.place_of("maxTokens", entry.model.max_tokens)
        what = f"{limit:.0f} tokens of reply are more than the contextWindow of {window:.0f}"
        step = "leave most of the window to the prompt"
        line = f"maxTokens: {min(_USUAL_REPLY, window / 2):.0f}"
        yield ConfigProblem("max_tokens_over_context", where, what, step, line=line)
    if window and used and used > window:
        where = entry.place_of("contextTokens", entry.model.context_tokens)
        what = f"{used:.0f} tokens are more than the contextWindow of {window:.0f}"
        step = "use no more than there is"
        line = f"contextTokens: {window:.0f}"
        yield ConfigProblem("context_tokens_over_window", where, what, step, line=line)
    yield from _window_problems(entry)


def _window_problems(entry: Entry) -> Iterator[ConfigProblem]:
    sizes = [
        (entry.context, entry.place_of("contextWindow", entry.model.context_window)),
        (entry.context_tokens, entry.place_of("contextTokens", entry.model.context_tokens)),
    ]
    tokens, where = min((size or math.inf, place) for size, place in sizes)
    if tokens >= _OLDER_FLOOR:
        return
    hard = tokens < _HARD_FLOOR
    who = "OpenClaw refuses" if hard else "earlier versions of OpenClaw refuse"
    yield ConfigProblem(
        "small_context",
        where,
        f"{who} models with fewer than {_HARD_FLOOR if hard else _OLDER_FLOOR} tokens of context",
        "serve the model with a larger context, and declare that",
        severity="error" if hard else "warning",
    )


def missing_window(entry: Entry) -> Iterator[ConfigProblem]:
    """Yield that a model of one's own declares no context window."""
    tables = (entry.found.entry, entry.found.table)
    if any("contextWindow" in table for table in tables) or entry.provider.base_url is None:
        return
    yield ConfigProblem(
        "no_context_window",
        f"{entry.found.model_place}.contextWindow",
        "not declared: OpenClaw then plans with 200000 tokens, whatever the server has",
        "declare the context that the server serves",
        severity="warning",
    )
