"""One provider and one model of an OpenClaw config made an endpoint (PROTOCOLS 1.2 and 1.3)."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, NamedTuple

from pydantic import AliasChoices, Field

from pytest_agentlimit.chat.messages import Dialect
from pytest_agentlimit.endpoints.model_table import deadlines_within, is_address
from pytest_agentlimit.endpoints.openclaw_problem import ConfigProblem, Severity, named
from pytest_agentlimit.endpoints.openclaw_values import (
    SHORTEST_KEY,
    Positive,
    Read,
    checked,
    joined,
    key_variable,
    plain_headers,
    plain_text,
    sampling,
)
from pytest_agentlimit.endpoints.spec import Deadlines, EndpointSpec

SPOKEN: dict[str, Dialect] = {
    "openai-completions": "openai",
    "anthropic-messages": "anthropic",
    "ollama": "ollama",
}
"""OpenClaw's names of the dialects that are spoken here."""
_OTHER_APIS = (
    "openai-responses",
    "openai-chatgpt-responses",
    "openai-codex-responses",
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

    @property
    def provider_place(self) -> str:
        """The path of the provider."""
        return joined("models.providers", self.provider)

    @property
    def model_place(self) -> str:
        """The path of the entry."""
        return f"{self.provider_place}.{self.place}"


class ModelTable(Read):
    """What is read of a model's entry."""

    api: str | None = None
    base_url: str | None = Field(default=None, validation_alias=AliasChoices("baseUrl", "baseURL"))
    context_window: Positive | None = Field(default=None, validation_alias="contextWindow")
    context_tokens: Positive | None = Field(default=None, validation_alias="contextTokens")
    max_tokens: Positive | None = Field(default=None, validation_alias="maxTokens")
    headers: dict[str, Any] = Field(default_factory=dict)
    params: dict[str, Any] = Field(default_factory=dict)


class ProviderTable(ModelTable):
    """What is read of a provider; what its models have too are their defaults."""

    api_key: Any = Field(default=None, validation_alias="apiKey")
    auth: str | None = None
    timeout_s: Positive | None = Field(default=None, validation_alias="timeoutSeconds")
    request: dict[str, Any] = Field(default_factory=dict)
    models: list[Any] = Field(default_factory=list)


class Entry(NamedTuple):
    """One model of a config with its tables checked."""

    found: Found
    provider: ProviderTable
    model: ModelTable

    @property
    def context(self) -> float | None:
        """The declared context window in tokens."""
        return self.model.context_window or self.provider.context_window

    @property
    def context_tokens(self) -> float | None:
        """The tokens of it that OpenClaw is to use."""
        return self.model.context_tokens or self.provider.context_tokens

    @property
    def max_tokens(self) -> float | None:
        """The declared limit of a reply in tokens."""
        return self.model.max_tokens or self.provider.max_tokens

    @property
    def params(self) -> list[tuple[str, Any]]:
        """The model's sampling settings as (place, table), the last wins."""
        return [
            (f"{self.found.provider_place}.params", self.provider.params),
            (f"{self.found.model_place}.params", self.model.params),
        ]

    def place_of(self, key: str, value: object) -> str:
        """Return the path of a setting: in the model when its `value` is there."""
        whose = self.found.provider_place if value is None else self.found.model_place
        return f"{whose}.{key}"


def endpoint(
    found: Found, variables: Mapping[str, str], params: list[tuple[str, Any]]
) -> EndpointSpec:
    """Return the endpoint of `found`, called by its full name; the caller gives it a better one.

    `params` are further sampling settings as (place, table), the last wins. The first rule that is
    broken is a ConfigProblem, with its path and without a value that may be a secret.
    """
    entry = Entry(
        found,
        checked(ProviderTable, found.table, found.provider_place),
        checked(ModelTable, found.entry, found.model_place),
    )
    api = api_of(entry)
    limit = entry.max_tokens or min(_DEFAULT_MAX_TOKENS, entry.context or 1e9)
    values = {
        "max_tokens": int(limit),
        **sampling([*entry.params, *params], api, entry.context_tokens),
    }
    timeout = entry.provider.timeout_s
    return EndpointSpec(
        name="model",
        dialect=SPOKEN[api],
        base_url=address_of(entry, variables),
        model=found.model,
        api_key_env=key_of(entry, variables),
        headers=headers_of(entry, variables),
        context_window=None if entry.context is None else int(entry.context),
        deadlines=deadlines_within(timeout) if timeout else Deadlines(),
        **values,
    )


def api_of(entry: Entry) -> str:
    """Return what the model is asked in, one of SPOKEN."""
    api = api_named(entry)
    if api in SPOKEN:
        return api
    place = entry.place_of("api", entry.model.api)
    known = ", ".join(SPOKEN)
    if api in _OTHER_APIS:
        what = f"api {api!r} is not spoken here; there are {known}"
        raise ConfigProblem("api_not_spoken", place, what, severity="warning")
    near = difflib.get_close_matches(api, [*SPOKEN, *_OTHER_APIS], 1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {known}"
    shown = f" {named(api, 40)!r}" if near or len(api) < SHORTEST_KEY else ""
    line = f'api: "{near[0]}"' if near else None
    raise ConfigProblem("unknown_api", place, f"unknown api{shown}: {hint}", line=line)


def api_named(entry: Entry) -> str:
    """Return the api as configured; of providers that name none, some are known by their id."""
    if given := entry.model.api or entry.provider.api:
        return given
    name, address = entry.found.provider, entry.provider.base_url or ""
    if name not in BUILT_IN or (name == "ollama" and address.endswith("/v1")):
        return "openai-completions"
    return BUILT_IN[name].api


def address_of(entry: Entry, variables: Mapping[str, str]) -> str:
    """Return where requests go, as configured: with or without /v1."""
    provider = entry.found.provider
    given = entry.model.base_url or entry.provider.base_url
    if given is None:
        if provider in BUILT_IN:
            return BUILT_IN[provider].base_url
        # OpenClaw brings more providers along than are known here; those need no models either.
        severity: Severity = "error" if entry.provider.models else "warning"
        what, step = "it has no baseUrl", "add the server's address"
        raise ConfigProblem(
            "no_base_url", entry.found.provider_place, what, step, severity=severity
        )
    where = entry.place_of("baseUrl", entry.model.base_url)
    address = plain_text(given.strip(), variables, where)
    if "@" in address:
        raise ConfigProblem(
            "credentials_in_url",
            where,
            "it holds credentials, which would be printed and kept",
            'take them out, and put the key into a variable: apiKey: "${MY_API_KEY}"',
        )
    if not is_address(address):
        raise ConfigProblem(
            "bad_base_url",
            where,
            "must be an http:// or https:// address and nothing more, such as "
            "http://127.0.0.1:8000/v1",
        )
    return address.rstrip("/")


def key_of(entry: Entry, variables: Mapping[str, str]) -> str | None:
    """Return the name of the variable that holds the key, None for no key."""
    provider, place = entry.provider, entry.found.provider_place
    if provider.api_key is not None:
        return key_variable(provider.api_key, variables, f"{place}.apiKey")
    if provider.auth in ("oauth", "aws-sdk"):
        raise ConfigProblem(
            "only_openclaw",
            f"{place}.auth",
            f"only OpenClaw can log in with {provider.auth!r}",
            'use a provider with apiKey: "${MY_API_KEY}"',
            severity="warning",
        )
    # A key of the built-in provider goes to that provider's own address only.
    name = entry.found.provider
    ours = name in BUILT_IN and provider.base_url is None and provider.api is None
    return BUILT_IN[name].key if ours else None


def headers_of(entry: Entry, variables: Mapping[str, str]) -> dict[str, str]:
    """Return the headers of provider and model, without secrets."""
    place, request = entry.found.provider_place, entry.provider.request
    for key in _ONLY_OPENCLAW:
        if request.get(key) is not None:
            raise ConfigProblem(
                "only_openclaw",
                f"{place}.request.{key}",
                "only OpenClaw can do that",
                "describe the endpoint in a [tool.agentlimit.models.NAME] table",
                severity="warning",
            )
    asked = request.get("headers") or {}
    if not isinstance(asked, dict):
        raise ConfigProblem("bad_value", f"{place}.request.headers", "must be an object, {…}")
    tables = [
        (f"{place}.headers", entry.provider.headers),
        (f"{place}.request.headers", asked),
        (f"{entry.found.model_place}.headers", entry.model.headers),
    ]
    return plain_headers(tables, variables)
