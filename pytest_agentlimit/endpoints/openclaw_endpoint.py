"""One provider and one model of an OpenClaw config made an endpoint (PROTOCOLS 1.2 and 1.3)."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, NamedTuple

from pydantic import AliasChoices, Field

from pytest_agentlimit.chat.messages import Dialect
from pytest_agentlimit.endpoints.model_table import deadlines_within, is_address
from pytest_agentlimit.endpoints.openclaw_values import (
    Positive,
    Read,
    checked,
    key_variable,
    plain_headers,
    plain_text,
    sampling,
)
from pytest_agentlimit.endpoints.spec import Deadlines, EndpointSpec
from pytest_agentlimit.errors import UsageProblem
from pytest_agentlimit.text import one_line

_SPOKEN: dict[str, Dialect] = {
    "openai-completions": "openai",
    "anthropic-messages": "anthropic",
    "ollama": "ollama",
}
_OTHER_APIS = (
    "openai-responses",
    "openai-chatgpt-responses",
    "google-generative-ai",
    "google-vertex",
    "github-copilot",
    "bedrock-converse-stream",
    "pi-messages",
    "azure-openai-responses",
)
_ONLY_OPENCLAW = ("auth", "proxy", "tls")
_DEFAULT_MAX_TOKENS = 8192


class _BuiltIn(NamedTuple):
    api: str
    base_url: str
    key: str | None


BUILT_IN: dict[str, _BuiltIn] = {
    "anthropic": _BuiltIn("anthropic-messages", "https://api.anthropic.com", "ANTHROPIC_API_KEY"),
    "openai": _BuiltIn("openai-completions", "https://api.openai.com/v1", "OPENAI_API_KEY"),
    "openrouter": _BuiltIn(
        "openai-completions", "https://openrouter.ai/api/v1", "OPENROUTER_API_KEY"
    ),
    "ollama": _BuiltIn("ollama", "http://127.0.0.1:11434", None),
    "lmstudio": _BuiltIn("openai-completions", "http://127.0.0.1:1234/v1", None),
    "vllm": _BuiltIn("openai-completions", "http://127.0.0.1:8000/v1", None),
}
"""Providers that OpenClaw knows without configuration, as far as they can be spoken to here."""


class Found(NamedTuple):
    """One model of a config, unchecked: the tables of its provider and of itself."""

    provider: str
    model: str
    table: Any
    entry: Mapping[str, Any]
    place: str
    """Where the entry stands in its provider."""

    @property
    def name(self) -> str:
        """`provider/model`, as OpenClaw writes it."""
        return f"{self.provider}/{self.model}"


class _Model(Read):
    api: str | None = None
    base_url: str | None = Field(default=None, validation_alias=AliasChoices("baseUrl", "baseURL"))
    context_window: Positive | None = Field(default=None, validation_alias="contextWindow")
    context_tokens: Positive | None = Field(default=None, validation_alias="contextTokens")
    max_tokens: Positive | None = Field(default=None, validation_alias="maxTokens")
    headers: dict[str, Any] = Field(default_factory=dict)
    params: dict[str, Any] = Field(default_factory=dict)


class _Provider(_Model):
    api_key: Any = Field(default=None, validation_alias="apiKey")
    auth: str | None = None
    timeout_s: Positive | None = Field(default=None, validation_alias="timeoutSeconds")
    request: dict[str, Any] = Field(default_factory=dict)
    models: list[Any] = Field(default_factory=list)


def endpoint(
    found: Found, variables: Mapping[str, str], params: list[tuple[str, Any]]
) -> EndpointSpec:
    """Return the endpoint of `found`, called by its full name; the caller gives it a better one.

    `params` are further sampling settings as (place, table), the last wins. UsageProblem begins
    with the path in the config and quotes no value that may be a secret.
    """
    place = f"models.providers.{one_line(found.provider, 80)}"
    provider = checked(_Provider, found.table, place)
    model = checked(_Model, found.entry, f"{place}.{found.place}")
    api, dialect = _api(found, provider, model, place)
    context = model.context_window or provider.context_window
    limit = model.max_tokens or provider.max_tokens or min(_DEFAULT_MAX_TOKENS, context or 1e9)
    own = [
        (f"{place}.params", provider.params),
        (f"{place}.{found.place}.params", model.params),
    ]
    values = {
        "max_tokens": int(limit),
        **sampling([*own, *params], api, model.context_tokens or provider.context_tokens),
    }
    return EndpointSpec(
        name="model",
        dialect=dialect,
        base_url=_address(found, provider, model, variables, place),
        model=found.model,
        api_key_env=_key(found, provider, variables, place),
        headers=_headers(found, provider, model, variables, place),
        context_window=None if context is None else int(context),
        deadlines=deadlines_within(provider.timeout_s) if provider.timeout_s else Deadlines(),
        **values,
    )


def _api(found: Found, provider: _Provider, model: _Model, place: str) -> tuple[str, Dialect]:
    api = model.api or provider.api or _usual_api(found.provider, provider)
    if api in _SPOKEN:
        return api, _SPOKEN[api]
    known = ", ".join(_SPOKEN)
    if api in _OTHER_APIS:
        raise UsageProblem(f"{place}: api {api!r} is not spoken here; there are {known}")
    near = difflib.get_close_matches(api, [*_SPOKEN, *_OTHER_APIS], 1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {known}"
    raise UsageProblem(f"{place}: unknown api {one_line(api, 40)!r}: {hint}")


def _usual_api(name: str, provider: _Provider) -> str:
    """Return the api of a provider that names none: only some are known by their id."""
    if name not in BUILT_IN or (name == "ollama" and (provider.base_url or "").endswith("/v1")):
        return "openai-completions"
    return BUILT_IN[name].api


def _address(
    found: Found, provider: _Provider, model: _Model, variables: Mapping[str, str], place: str
) -> str:
    """Return where requests go, as configured: with or without /v1."""
    given = model.base_url or provider.base_url
    if given is None:
        if found.provider not in BUILT_IN:
            raise UsageProblem(f"{place}: it has no baseUrl. Next: add the server's address")
        return BUILT_IN[found.provider].base_url
    where = f"{place}.{found.place}.baseUrl" if model.base_url else f"{place}.baseUrl"
    address = plain_text(given.strip(), variables, where)
    if "@" in address:
        raise UsageProblem(
            f"{where}: it holds credentials, which would be printed and kept. Next: take them out, "
            'and put the key into a variable: apiKey: "${MY_API_KEY}"'
        )
    if not is_address(address):
        raise UsageProblem(
            f"{where}: must be an http:// or https:// address and nothing more, such as "
            "http://127.0.0.1:8000/v1"
        )
    return address.rstrip("/")


def _key(found: Found, provider: _Provider, variables: Mapping[str, str], place: str) -> str | None:
    if provider.api_key is not None:
        return key_variable(provider.api_key, variables, f"{place}.apiKey")
    if provider.auth in ("oauth", "aws-sdk"):
        raise UsageProblem(
            f"{place}.auth: only OpenClaw can log in with {provider.auth!r}. Next: use a provider "
            'with apiKey: "${MY_API_KEY}"'
        )
    # A key of the built-in provider goes to that provider's own address only.
    ours = found.provider in BUILT_IN and provider.base_url is None and provider.api is None
    return BUILT_IN[found.provider].key if ours else None


def _headers(
    found: Found, provider: _Provider, model: _Model, variables: Mapping[str, str], place: str
) -> dict[str, str]:
    for key in _ONLY_OPENCLAW:
        if provider.request.get(key) is not None:
            raise UsageProblem(
                f"{place}.request.{key}: only OpenClaw can do that. Next: describe the endpoint in "
                "a [tool.agentlimit.models.NAME] table"
            )
    asked = provider.request.get("headers") or {}
    if not isinstance(asked, dict):
        raise UsageProblem(f"{place}.request.headers: must be an object, {{…}}")
    tables = [
        (f"{place}.headers", provider.headers),
        (f"{place}.request.headers", asked),
        (f"{place}.{found.place}.headers", model.headers),
    ]
    return plain_headers(tables, variables)
