"""What an endpoint says about itself, asked before a token is spent.

At most three small requests with short deadlines, none of which generates anything. What a server
does not say stays None: a fingerprint never guesses.
"""

from __future__ import annotations

import difflib
import hashlib
import re
from contextlib import nullcontext
from typing import Any, Protocol

from pytest_agentlimit.chat.messages import ChatRequest
from pytest_agentlimit.endpoints import failures
from pytest_agentlimit.endpoints.client import EndpointClient
from pytest_agentlimit.endpoints.outgoing import complete_request
from pytest_agentlimit.endpoints.spec import Deadlines, EndpointSpec
from pytest_agentlimit.errors import (
    DeadlineExceeded,
    EndpointError,
    EndpointUnusable,
    HTTPFailure,
    NotTheProtocol,
    Unreachable,
)
from pytest_agentlimit.text import one_line

PROBE_S = 5.0
"""Seconds that one probe may take."""

LISTS = {"openai": "/models", "anthropic": "/v1/models", "ollama": "/api/tags"}
_OWNERS = {"llamacpp": "llama.cpp", "vllm": "vLLM", "library": "Ollama"}
"""Engines by what `owned_by` says in their model lists."""


class Asks(Protocol):
    """What asks a server for JSON: an EndpointClient, or one that counts."""

    spec: EndpointSpec

    def get_json(
        self, path: str, *, from_root: bool = False, body: dict[str, Any] | None = None
    ) -> Any:
        """Return the JSON that the server answers; raises EndpointError."""


def inspect_endpoint(spec: EndpointSpec, *, client: EndpointClient | None = None) -> dict[str, Any]:
    """Return the fingerprint of what serves a model; None where it is not known.

    Keys: dialect, model, engine, engine_version, context (tokens served), quantisation,
    template_hash, digest, sampling, tools (True, False or None). A server that
    fails to answer makes no error.
    """
    if spec.kind == "null":
        return _fingerprint(spec, engine="null")
    with nullcontext(client) if client else _probing(spec) as probe:
        try:
            models = probe.get_json(LISTS[spec.dialect])
        except EndpointError:
            models = None
        return inspect_listed(probe, models)


def require_usable(spec: EndpointSpec) -> dict[str, Any]:
    """Return the fingerprint of an endpoint that can be used.

    Raises EndpointUnusable with one message (what, why, what next) when nothing listens, the key
    is refused, a web page answers, the base URL has /v1 too much or too little, the server does
    not answer at all, or it does not have the model. A server without a model list is usable.
    """
    if spec.kind == "null":
        return _fingerprint(spec, engine="null")
    with _probing(spec) as probe:
        try:
            models = probe.get_json(LISTS[spec.dialect])
        except EndpointError as error:
            _refuse(probe, error)
            models = None
        require_model(spec, models)
        return inspect_listed(probe, models)


def absence(spec: EndpointSpec) -> str | None:
    """Return why nothing can be asked of an endpoint right now, None when it answers anything.

    An answer that is an error is an answer: somebody is there.
    """
    if spec.kind == "null":
        return None
    with _probing(spec) as probe:
        try:
            probe.get_json(LISTS[spec.dialect])
        except (Unreachable, DeadlineExceeded) as error:
            return str(error)
        except EndpointError:
            return None
    return None


def owner(spec: EndpointSpec) -> str | None:
    """Return what the server's model list says of who serves it, None when it does not say."""
    with _probing(spec) as probe:
        try:
            entries = _entries(probe.get_json(LISTS[spec.dialect])) or [{}]
        except EndpointError:
            return None
    return _text(entries[0].get("owned_by"))


def _probing(spec: EndpointSpec) -> EndpointClient:
    wanted = spec.deadlines
    limits = Deadlines(
        connect_s=min(PROBE_S, wanted.connect_s),
        first_byte_s=min(PROBE_S, wanted.first_byte_s),
        between_chunks_s=min(PROBE_S, wanted.between_chunks_s),
        total_s=min(PROBE_S, wanted.total_s),
    )
    return EndpointClient(spec.model_copy(update={"deadlines": limits}))


def _refuse(client: EndpointClient, error: EndpointError) -> None:
    """Raise EndpointUnusable when a failed model list means that no call can work."""
    spec = client.spec
    if isinstance(error, DeadlineExceeded):
        raise EndpointUnusable(
            f"{spec.base_url} accepts connections and does not answer: the model list did not come "
            f"within {min(PROBE_S, spec.deadlines.first_byte_s):g} s. Next: see whether the server "
            "is busy with another request or still loading, or restart it"
        ) from None
    status = error.status if isinstance(error, HTTPFailure) else None
    page = isinstance(error, NotTheProtocol) and error.kind == "html"
    if isinstance(error, Unreachable) or status in (301, 302, 307, 308, 401, 403, 503):
        raise EndpointUnusable(str(error)) from None
    if (status == 404 or page) and (better := better_base(spec)):
        raise EndpointUnusable(
            f"{spec.base_url} has no model list, and {better} has one: "
            f"{failures.v1_rule(spec)}. Next: write {better}"
        ) from None
    if page:
        raise EndpointUnusable(str(error)) from None


def better_base(spec: EndpointSpec) -> str | None:
    """Return the base URL with /v1 added or taken away, when a model list is there."""
    base = spec.base_url.rstrip("/")
    if spec.dialect == "openai":
        other = None if base.endswith("/v1") else base + "/v1"
    else:
        other = base.removesuffix("/v1") if base.endswith("/v1") else None
    if other is None:
        return None
    with EndpointClient(spec.model_copy(update={"base_url": other})) as probe:
        try:
            models = probe.get_json(LISTS[spec.dialect])
        except EndpointError:
            return None
    return other if _entries(models) is not None else None


def require_model(spec: EndpointSpec, models: Any) -> None:
    """Raise EndpointUnusable when a server lists its models and the one asked for is not there."""
    entries = _entries(models) or []
    names = [name for entry in entries if isinstance(name := _name(entry), str)]
    if not names or _engine(entries) == "llama.cpp" or models.get("has_more"):
        return  # llama.cpp serves its one model under any name; a first page proves nothing
    wanted = {spec.model, f"{spec.model}:latest"} if spec.dialect == "ollama" else {spec.model}
    if wanted & set(names):
        return
    if spec.dialect == "anthropic" and any(name.startswith(spec.model) for name in names):
        return  # an alias of a dated id
    near = difflib.get_close_matches(spec.model, names, n=3, cutoff=0.4) or names[:5]
    shown = ", ".join(one_line(name, 80) for name in near)
    raise EndpointUnusable(
        f"{spec.base_url} does not have the model {one_line(spec.model, 80)!r}; it has "
        f"{len(names)}: {shown}{', …' if len(names) > len(near) else ''}. "
        "Next: use one of these names, or load the model"
    )


def inspect_listed(client: Asks, models: Any) -> dict[str, Any]:
    """Return the fingerprint of `inspect_endpoint`, the model list being known already."""
    spec = client.spec
    entries = _entries(models) or []
    if spec.dialect == "ollama":
        return _inspect_ollama(client, entries)
    engine = _engine(entries)
    entry = next((one for one in entries if _name(one) == spec.model), {})
    if engine == "llama.cpp":
        return _inspect_llama_cpp(client)
    if engine == "vLLM":
        version = _asked(client, "/version").get("version")
        context = entry.get("max_model_len")
        return _fingerprint(spec, engine=engine, engine_version=version, context=context)
    if engine == "Ollama":
        return _inspect_ollama(client, entries)
    return _fingerprint(spec, engine=engine)


def _inspect_llama_cpp(client: Asks) -> dict[str, Any]:
    props = _asked(client, "/props")
    settings = _dict(props.get("default_generation_settings"))
    return _fingerprint(
        client.spec,
        engine="llama.cpp",
        engine_version=props.get("build_info"),
        context=settings.get("n_ctx") or props.get("n_ctx"),
        quantisation=props.get("model_ftype"),
        template_hash=_hash(props.get("chat_template")),
        tools=_dict(props.get("chat_template_caps")).get("supports_tools"),
    )


def _inspect_ollama(client: Asks, entries: list[dict[str, Any]]) -> dict[str, Any]:
    spec = client.spec
    names = (spec.model, f"{spec.model}:latest")
    version = _asked(client, "/api/version").get("version")
    shown = _asked(client, "/api/show", {"model": spec.model})
    entry = next((one for one in entries if _name(one) in names), {})
    # The model's own maximum is also there, and is not what Ollama serves: only num_ctx says that.
    num_ctx = re.search(r"^num_ctx\s+(\d{1,9})", str(shown.get("parameters", "")), re.MULTILINE)
    abilities = shown.get("capabilities")
    return _fingerprint(
        spec,
        engine="Ollama" if version or shown else None,
        engine_version=version,
        context=int(num_ctx.group(1)) if num_ctx else None,
        quantisation=_dict(shown.get("details")).get("quantization_level"),
        template_hash=_hash(shown.get("template")),
        digest=entry.get("digest"),
        tools="tools" in abilities if isinstance(abilities, list) else None,
    )


def _fingerprint(spec: EndpointSpec, **known: Any) -> dict[str, Any]:
    """Return the whole fingerprint; of `known`, only plain values of the right kind are kept."""
    sent = complete_request(spec, ChatRequest(model=spec.model, messages=()))
    texts = ("engine", "engine_version", "quantisation", "template_hash", "digest")
    context, tools = known.get("context"), known.get("tools")
    return {
        "dialect": spec.dialect,
        "model": spec.model,
        **{key: _text(known.get(key)) for key in texts},
        "context": context if isinstance(context, int) else None,
        "sampling": {
            "temperature": sent.temperature,
            "top_p": sent.top_p,
            "max_tokens": sent.max_tokens,
        },
        "tools": tools if isinstance(tools, bool) else None,
    }


def _asked(client: Asks, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the object that a route of the host answers, empty when there is none."""
    try:
        return _dict(client.get_json(path, from_root=True, body=body))
    except EndpointError:
        return {}


def _entries(models: Any) -> list[dict[str, Any]] | None:
    """Return the entries of a model list of any dialect, None when it is none."""
    listed = _dict(models).get("data", _dict(models).get("models"))
    if not isinstance(listed, list):
        return None
    return [entry for entry in listed if isinstance(entry, dict)]


def _engine(entries: list[dict[str, Any]]) -> str | None:
    owner = entries[0].get("owned_by") if entries else None
    return _OWNERS.get(owner) if isinstance(owner, str) else None


def _name(entry: dict[str, Any]) -> Any:
    return entry.get("id", entry.get("name"))


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str | None:
    return one_line(value, 120) if isinstance(value, str) and value else None


def _hash(template: Any) -> str | None:
    if not isinstance(template, str) or not template:
        return None
    return hashlib.sha256(template.encode("utf-8", "replace")).hexdigest()[:12]
