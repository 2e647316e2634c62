"""Values of an OpenClaw config: `${VAR}`, keys by the name of their variable, headers, sampling.

Nothing here returns a secret or puts one into a message: an endpoint holds names of variables.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, NoReturn, TypeVar

from pydantic import AliasChoices, ConfigDict, Field, ValidationError

from pytest_agentlimit.chat.messages import Frozen
from pytest_agentlimit.endpoints.keys import is_secret_header
from pytest_agentlimit.endpoints.model_table import holds_secret
from pytest_agentlimit.endpoints.openclaw_problem import ConfigProblem, Severity, named

Positive = Annotated[float, Field(gt=0)]
_REFERENCE = re.compile(r"\$(\$?)\{([A-Z_][A-Z0-9_]*)(?::-([^${}]*))?\}")
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]{0,127}")
_SECRET_NAME = re.compile(
    r"(?:^|_)(?:API_?)?(?:KEYS?|TOKEN|SECRET|PASSWORD|PASS|PAT|CREDENTIALS?)$"
)
_SOURCES = ("file", "exec", "store")
_SECRET_REF_MARKER = "secretref-env:"
SHORTEST_KEY = 16
# What guides write where a local server wants no key, and what OpenClaw itself puts there.
_PLACEHOLDER = re.compile(
    r"local|none|empty|dummy|fake|placeholder|example|not?[-_ ]?(?:key|need|requir|use|set)"
    r"|change[-_ ]?me|ollama|vllm|llama|lm-?studio|tinygrad|x{4,}",
    re.IGNORECASE,
)
_REAL_KEY = re.compile(r"(?:sk|pk|hf|gsk|xai|ghp)[-_]|Bearer\b|AIza", re.IGNORECASE)
_NEXT = (
    "put the key into an environment variable and name it there: "
    'apiKey: "${MY_API_KEY}" (or describe the endpoint in [tool.agentlimit.models.NAME])'
)
_WORDS = {
    "string_type": "must be text",
    "float_type": "must be a number",
    "dict_type": "must be an object, {…}",
    "model_type": "must be an object, {…}",
    "list_type": "must be a list",
    "greater_than": "must be more than 0",
    "greater_than_equal": "must not be less than 0",
    "finite_number": "must be a finite number",
}
_M = TypeVar("_M", bound=Frozen)


class Read(Frozen):
    """A part of somebody else's config: known keys are checked, unknown ones are not ours."""

    model_config = ConfigDict(extra="ignore", strict=True, allow_inf_nan=False)


class _Sampling(Read):
    """The `params` of a model that have a meaning here."""

    temperature: Annotated[float, Field(ge=0)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = Field(
        default=None, validation_alias=AliasChoices("topP", "top_p")
    )
    max_tokens: Positive | None = Field(
        default=None, validation_alias=AliasChoices("maxTokens", "max_tokens")
    )
    num_ctx: Positive | None = None
    extra_body: dict[str, Any] = Field(
        default_factory=dict, validation_alias=AliasChoices("extra_body", "extraBody")
    )
    chat_template_kwargs: dict[str, Any] = Field(default_factory=dict)


def checked(model: type[_M], value: Any, place: str) -> _M:
    """Return `value` as `model`; ConfigProblem with the path of the first wrong key, not its value.

    `place` is the path of `value` in the config.
    """
    for problem in complaints(model, value, place):
        raise problem
    return model.model_validate(value)


def complaints(model: type[Frozen], value: Any, place: str) -> list[ConfigProblem]:
    """Return what keeps `value` from being a `model`, one problem for each wrong key."""
    try:
        model.model_validate(value)
    except ValidationError as error:
        found = error.errors(include_input=False, include_url=False)
        return [
            ConfigProblem(
                "bad_value", joined(place, *one["loc"]), _WORDS.get(one["type"], one["msg"])
            )
            for one in found
        ]
    return []


def joined(place: str, *keys: str | int) -> str:
    """Return the path of what lies below `place`, as messages show it."""
    for key in keys:
        step = f"[{key}]" if isinstance(key, int) else f".{named(key)}"
        place = f"{place}{step}" if place else step.removeprefix(".")
    return place


def substituted(text: str, variables: Mapping[str, str]) -> tuple[str, tuple[str, ...]]:
    """Return `text` with every `${VAR}` replaced, and the names of those that are not set.

    An empty variable counts as unset, `${VAR:-words}` falls back to the words and `$${VAR}` stays
    as `${VAR}` (PROTOCOLS 1.4).
    """
    missing: list[str] = []

    def value(match: re.Match[str]) -> str:
        if match[1]:
            return match[0][1:]
        found = variables.get(match[2]) or match[3]
        if found is None:
            missing.append(match[2])
            return match[0]
        return found

    return _REFERENCE.sub(value, text), tuple(missing)


def plain_text(text: str, variables: Mapping[str, str], place: str) -> str:
    """Return `text` with its variables, to be printed and kept; ConfigProblem for a secret."""
    for _, name, _ in _REFERENCE.findall(text):
        if _SECRET_NAME.search(name):
            what = f"${name} is a secret by its name"
            raise ConfigProblem("secret_variable", place, what, _NEXT, severity="warning")
    full, missing = substituted(text, variables)
    if missing:
        raise unset_variable(missing[0], place)
    if any(holds_secret("", part) for part in full.split("/")):
        _refuse_key(place)
    return full


def unset_variable(name: str, place: str, severity: Severity = "error") -> ConfigProblem:
    """Return the complaint about a variable that is not set, or empty."""
    return ConfigProblem(
        "unset_variable",
        place,
        f"the environment variable {name} is not set",
        f"export {name}=… (OpenClaw may have it in a file of its own, which is not read)",
        severity=severity,
    )


def key_variable(value: Any, variables: Mapping[str, str], place: str) -> str | None:
    """Return the name of the variable that holds a key; None for no key and for a placeholder.

    Takes what `apiKey` may be: `${VAR}`, a SecretRef, the bare name of a variable, or a word such
    as "ollama" where a server wants none. ConfigProblem when it is anything else: the key itself,
    or a secret that only OpenClaw can fetch.
    """
    if isinstance(value, dict):
        return _from_secret_ref(value, place)
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise ConfigProblem("bad_value", place, "must be text or a SecretRef", _NEXT)
    text = value.strip().removeprefix(_SECRET_REF_MARKER)
    if (match := _REFERENCE.fullmatch(text)) and not match[1]:
        if match[3] is None or variables.get(match[2]):
            return match[2]
        text = match[3]
    if _VARIABLE.fullmatch(text) and (variables.get(text) or _SECRET_NAME.search(text)):
        return text
    if text == "secretref-managed" or text.startswith("oauth:"):
        what = "only OpenClaw can fetch that secret"
        raise ConfigProblem("secret_ref", place, what, _NEXT, severity="warning")
    if not is_placeholder(text):
        _refuse_key(place)
    return None


def is_placeholder(key: str) -> bool:
    """Return True when `key` is a word that stands for no key, such as "ollama" or "x"."""
    if _REFERENCE.search(key):
        return False
    short = len(key) < SHORTEST_KEY and not _REAL_KEY.match(key)
    return short or _PLACEHOLDER.search(key) is not None


def plain_headers(
    tables: Iterable[tuple[str, Mapping[str, Any]]], variables: Mapping[str, str]
) -> dict[str, str]:
    """Return headers without secrets, later tables winning; `tables` are (place, headers).

    ConfigProblem for a header that holds a secret: headers are sent from plain data.
    """
    headers: dict[str, str] = {}
    for place, table in tables:
        for name, value in table.items():
            where = joined(place, name)
            if isinstance(value, dict) or is_secret_header(name):
                what = "a secret in a header cannot be passed on; only apiKey can"
                raise ConfigProblem("secret_header", where, what, _NEXT, severity="warning")
            if not isinstance(value, str):
                raise ConfigProblem("bad_value", where, "must be text")
            headers[name] = plain_text(value, variables, where)
    return headers


def sampling(
    layers: Iterable[tuple[str, Any]], api: str, context_tokens: float | None
) -> dict[str, Any]:
    """Return the fields of an endpoint that `params` set; `layers` are (place, params), last wins.

    `extra_body` goes to openai-completions only, `num_ctx` to Ollama only, as OpenClaw does it.
    """
    whole: dict[str, Any] = {}
    for where, params in layers:
        if params is None:
            continue
        if not isinstance(params, dict):
            raise ConfigProblem("bad_value", where, "must be an object")
        here = checked(_Sampling, params, where)  # now, so that a message has the right place
        if api == "openai-completions":
            _refuse_secrets_in(here.extra_body, f"{where}.extra_body")
            _refuse_secrets_in(here.chat_template_kwargs, f"{where}.chat_template_kwargs")
        whole |= params
    params = checked(_Sampling, whole, "params")
    fields: dict[str, Any] = {"temperature": params.temperature, "top_p": params.top_p}
    if params.max_tokens is not None:
        fields["max_tokens"] = int(params.max_tokens)
    if api == "openai-completions":
        kwargs = params.chat_template_kwargs
        own = {"chat_template_kwargs": kwargs} if kwargs else {}
        fields["extra_body"] = own | params.extra_body
    elif api == "ollama" and (num_ctx := params.num_ctx or context_tokens):
        fields["extra_body"] = {"options": {"num_ctx": int(num_ctx)}}
    return fields


def _from_secret_ref(ref: Mapping[str, Any], place: str) -> str:
    source, name = ref.get("source"), ref.get("id")
    if source != "env":
        known = isinstance(source, str) and source in _SOURCES
        what = f"a SecretRef from {source if known else 'no known source'!r}"
        raise ConfigProblem(
            "secret_ref",
            place,
            f"{what}: only OpenClaw can read it",
            _NEXT,
            severity="warning" if known else "error",
        )
    if not isinstance(name, str) or not _VARIABLE.fullmatch(name):
        what = "the id of a SecretRef from 'env' must be the name of an environment variable"
        raise ConfigProblem("secret_ref", place, f"{what} in capitals", _NEXT)
    return name


def _refuse_secrets_in(value: Any, place: str) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            if holds_secret(key, item):
                _refuse_key(joined(place, key))
            _refuse_secrets_in(item, place)
    elif isinstance(value, list):
        for item in value:
            _refuse_secrets_in(item, place)
    elif isinstance(value, str) and (holds_secret("", value) or _REFERENCE.search(value)):
        _refuse_key(place)


def _refuse_key(place: str) -> NoReturn:
    what = "this seems to hold a key itself, and what is read here is printed and kept"
    raise ConfigProblem("key_in_file", place, what, _NEXT, severity="warning")
