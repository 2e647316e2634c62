"""What a model says of its size: the head of its GGUF file, or the metadata of its server.

Nothing is generated and nothing is guessed: what a server does not tell is not known.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from pytest_agentlimit.endpoints import catalog
from pytest_agentlimit.endpoints.client import EndpointClient
from pytest_agentlimit.endpoints.embedded import CONTEXT_CAP
from pytest_agentlimit.endpoints.fit import Facts, facts_of
from pytest_agentlimit.endpoints.gguf import GGUFError, metadata
from pytest_agentlimit.endpoints.outgoing import is_loopback
from pytest_agentlimit.endpoints.preflight import PROBE_S, require_usable
from pytest_agentlimit.endpoints.spec import Deadlines, EndpointSpec
from pytest_agentlimit.errors import EndpointError, EndpointUnusable, UsageProblem
from pytest_agentlimit.text import one_line

_SPLIT = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.gguf")
_PROBING = Deadlines(
    connect_s=PROBE_S, first_byte_s=PROBE_S, between_chunks_s=PROBE_S, total_s=PROBE_S
)


class Known(NamedTuple):
    """A model's facts, and where it is served."""

    facts: Facts
    source: str
    """Who told them, in words."""
    context: int | None
    """Tokens a run of today would have; None when nobody says."""
    here: bool
    """True when the memory of this machine is the one it needs."""
    running: bool
    """True when a server has it already, so that it is a part of what is in use."""


def known_of(spec: EndpointSpec) -> Known:
    """Return what is known of an endpoint's model.

    Raises UsageProblem for a null model, EndpointUnusable for weights that are missing or broken
    and for a server that cannot be used.
    """
    if spec.kind == "null":
        raise UsageProblem(
            f"{spec.name} is a null model and needs no memory: name a model with weights, "
            "such as gguf:/path/model.gguf"
        )
    return _of_embedded(spec) if spec.kind == "embedded" else _of_server(spec)


def facts_of_file(path: Path) -> Facts:
    """Return the facts in a GGUF file's head, with the bytes of all its parts.

    Raises OSError and GGUFError as `gguf.metadata` does.
    """
    facts = facts_of(metadata(path), None)
    split = _SPLIT.fullmatch(path.name)
    if split is None:
        return replace(facts, weights=path.stat().st_size)
    name, _, count = split.groups()
    parts = [
        path.with_name(f"{name}-{number:05}-of-{count}.gguf") for number in range(1, int(count) + 1)
    ]
    try:
        return replace(facts, weights=sum(part.stat().st_size for part in parts))
    except FileNotFoundError:
        note = f"the weights are not known: not all of the file's {int(count)} parts are here"
        return replace(facts, notes=(*facts.notes, note))


def _of_embedded(spec: EndpointSpec) -> Known:
    name = spec.gguf or ""
    path = catalog.find(name) if name in catalog.MODELS else Path(name)
    if path is None:
        raise EndpointUnusable(
            f"the weights of {name} are not on this machine. Run: agentlimit pull {name}"
        )
    try:
        facts = facts_of_file(path)
    except OSError as error:
        raise EndpointUnusable(f"cannot read {one_line(str(path))}: {error.strerror}") from error
    except GGUFError as error:
        raise EndpointUnusable(
            f"{one_line(str(path))} is not a usable GGUF file: {one_line(str(error))}. "
            "Download it again"
        ) from error
    context = spec.context_window or min(facts.trained or CONTEXT_CAP, CONTEXT_CAP)
    return Known(facts, f"the head of {one_line(path.name, 80)}", context, True, False)


def _of_server(spec: EndpointSpec) -> Known:
    told = require_usable(spec)
    engine = told["engine"]
    here = is_loopback(urlsplit(spec.base_url).hostname or "")
    facts = Facts(notes=("this server tells nothing of the model's size",))
    with EndpointClient(spec.model_copy(update={"deadlines": _PROBING})) as client:
        if engine == "llama.cpp":
            facts = _of_llama_cpp(client, here)
        elif engine == "Ollama":
            facts = _of_ollama(client)
    context = spec.context_window or told["context"]
    return Known(facts, engine or "the server", context, here, True)


def _of_llama_cpp(client: EndpointClient, here: bool) -> Facts:
    """Return the facts of llama.cpp's model: from its file when that lies here, else its lists.

    https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md
    """
    props = _asked(client, "/props")
    slots, path = _number(props.get("total_slots")), props.get("model_path")
    notes = []
    if slots is not None and slots > 1:
        notes.append(
            f"the server has {slots} slots: they share one context, or each has its own; "
            f"in that case add --parallel {slots}"
        )
    facts = _file_named(path) if here else None
    if facts is None:
        entries = _dicts(_asked(client, "/v1/models").get("data"))
        meta = _dict(entries[0].get("meta")) if entries else {}
        facts = Facts(
            weights=_number(meta.get("size")),
            vocabulary=_number(meta.get("n_vocab")),
            width=_number(meta.get("n_embd")),
            trained=_number(meta.get("n_ctx_train")),
            notes=(
                "the cache is not known: llama.cpp tells nothing of the model's layers, and "
                "its file cannot be read from here",
            ),
        )
    return replace(facts, notes=(*facts.notes, *notes))


def _file_named(path: Any) -> Facts | None:
    """Return the facts of the file a server on this machine says it serves, None without one."""
    try:
        return facts_of_file(Path(path)) if isinstance(path, str) and Path(path).is_file() else None
    except (OSError, ValueError):
        return None


def _of_ollama(client: EndpointClient) -> Facts:
    """Return the facts of Ollama's model: /api/show has its metadata, /api/tags its size.

    https://github.com/ollama/ollama/blob/main/docs/api.md
    """
    shown = _asked(client, "/api/show", {"model": client.spec.model})
    names = (client.spec.model, f"{client.spec.model}:latest")
    entries = _dicts(_asked(client, "/api/tags").get("models"))
    entry = next((one for one in entries if one.get("name") in names), {})
    return facts_of(_dict(shown.get("model_info")), _number(entry.get("size")))


def _asked(client: EndpointClient, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the object that a route of the host answers, empty when there is none."""
    try:
        return _dict(client.get_json(path, from_root=True, body=body))
    except EndpointError:
        return {}


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _number(value: Any) -> int | None:
    plain = isinstance(value, int) and not isinstance(value, bool)
    return value if plain and 0 < value < 1 << 62 else None
