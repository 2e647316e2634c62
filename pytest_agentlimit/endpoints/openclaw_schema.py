"""The keys that OpenClaw knows in `models` (PROTOCOLS 1.2, with those of earlier versions).

OpenClaw refuses a whole config for one key that it does not know.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from pytest_agentlimit.endpoints.openclaw_problem import ConfigProblem, Severity, named
from pytest_agentlimit.endpoints.openclaw_values import joined

_VERSION = "2026.9.6"


class Keys(NamedTuple):
    """What may stand in one kind of object, and what has to."""

    known: frozenset[str]
    required: tuple[str, ...] = ()
    settled: bool = True
    """False where versions differ much: a key that is like no other may be right in yours."""


def _keys(known: str, required: str = "", *, settled: bool = True) -> Keys:
    return Keys(frozenset(known.split()), tuple(required.split()), settled)


MODELS = _keys("mode providers pricing bedrockDiscovery proxy", settled=False)
PROVIDER = _keys(
    "baseUrl apiKey auth authHeader headers api contextWindow contextTokens maxTokens "
    "timeoutSeconds injectNumCtxForOpenAICompat region params agentRuntime request localService "
    "models"
)
REQUEST = _keys("headers auth proxy tls allowPrivateNetwork")
TLS = _keys("ca cert key passphrase serverName insecureSkipVerify")
SERVICE = _keys("command args cwd env healthUrl readyTimeoutMs idleStopMs", "command")
MODEL = _keys(
    "id name api baseUrl reasoning input cost contextWindow contextTokens maxTokens "
    "thinkingLevelMap params headers agentRuntime mediaInput metadataSource compat",
    "name",
)
COST = _keys("input output cacheRead cacheWrite tieredPricing")
COMPAT = _keys(
    "supportsStore supportsPromptCacheKey supportsResponsesContinuation supportsDeveloperRole "
    "supportsReasoningEffort supportsTemperature supportsInstructions supportsUsageInStreaming "
    "supportsTools supportsStrictMode supportsJsonSchemaResponseFormat "
    "supportsEagerToolInputStreaming supportsLongCacheRetention codeMode requiresStringContent "
    "strictMessageKeys visibleReasoningDetailTypes supportedReasoningEfforts reasoningEffortMap "
    "maxTokensField thinkingFormat requiresToolResultName requiresAssistantAfterToolResult "
    "requiresThinkingAsText requiresReasoningContentOnAssistantMessages requiresMistralToolIds "
    "toolSchemaProfile unsupportedToolSchemaKeywords toolCallArgumentsEncoding "
    "requiresOpenAiAnthropicToolPayload nativeWebSearchTool openRouterRouting "
    "vercelGatewayRouting zaiToolStream cacheControlFormat sendSessionAffinityHeaders "
    "sendSessionIdHeader",
    settled=False,
)
CHOICE = _keys("primary fallbacks", settled=False)
"""Of a `model` setting of agents."""


def provider_keys(provider: str, table: Mapping[str, Any]) -> Iterator[ConfigProblem]:
    """Yield what is wrong with the keys of a provider, its models apart."""
    place = joined("models.providers", provider)
    lenient = provider == "ollama" or table.get("api") == "ollama"
    yield from key_problems(PROVIDER, table, place, lenient=lenient)
    request = table.get("request")
    yield from key_problems(REQUEST, request, f"{place}.request")
    tls = request.get("tls") if isinstance(request, dict) else None
    yield from key_problems(TLS, tls, f"{place}.request.tls")
    yield from key_problems(SERVICE, table.get("localService"), f"{place}.localService")


def model_keys(entry: Mapping[str, Any], place: str) -> Iterator[ConfigProblem]:
    """Yield what is wrong with the keys of a model's entry."""
    yield from key_problems(MODEL, entry, place)
    yield from key_problems(COST, entry.get("cost"), f"{place}.cost")
    yield from key_problems(COMPAT, entry.get("compat"), f"{place}.compat")


def key_problems(
    keys: Keys, table: Any, place: str, *, lenient: bool = False
) -> Iterator[ConfigProblem]:
    """Yield what is wrong with the keys of `table`; what is no object is said by others.

    `lenient`: where OpenClaw takes the older `baseURL` too.
    """
    if not isinstance(table, dict):
        return
    for key in table:
        if key not in keys.known:
            yield _unknown(keys, key, joined(place, key), lenient)
    for key in keys.required:
        if table.get(key) in (None, ""):
            what = f"it has no {key}: OpenClaw refuses the whole file"
            yield ConfigProblem("missing_key", joined(place, key), what, f"give it a {key}")


def _unknown(keys: Keys, key: str, place: str, lenient: bool) -> ConfigProblem:
    if key == "baseURL" and "baseUrl" in keys.known:
        what = "an older spelling of baseUrl"
        what += ", which is taken for Ollama only" if not lenient else ""
        severity: Severity = "warning" if lenient else "error"
        step = "write baseUrl"
        return ConfigProblem("legacy_spelling", place, what, step, severity=severity)
    near = _nearest(key, keys.known)
    step = f"did you mean {near}?" if near else "remove it"
    what = f"unknown key {named(key)!r}"
    if near or keys.settled:
        return ConfigProblem("unknown_key", place, f"{what}: OpenClaw refuses the whole file", step)
    what = f"{what} in OpenClaw {_VERSION}: a version that does not know it refuses the whole file"
    return ConfigProblem("unknown_key", place, what, step, severity="warning")


def _nearest(key: str, known: frozenset[str]) -> str | None:
    plain = {_plain(one): one for one in sorted(known)}
    near = difflib.get_close_matches(_plain(key), plain, 1, 0.75)
    return plain[near[0]] if near else None


def _plain(key: str) -> str:
    """Return a key without what spellings differ in: base_url, baseURL."""
    return key.replace("_", "").replace("-", "").lower()
