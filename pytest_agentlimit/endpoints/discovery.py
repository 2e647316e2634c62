"""Model servers that run on this machine, found on the ports they use by default (DESIGN 3).

Only loopback is asked, with plain GETs that cost no tokens, all ports at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

from pytest_agentlimit.chat.codecs import codec_for
from pytest_agentlimit.chat.messages import Dialect, Frozen
from pytest_agentlimit.endpoints.client import EndpointClient
from pytest_agentlimit.endpoints.outgoing import is_loopback
from pytest_agentlimit.endpoints.spec import Deadlines, EndpointSpec
from pytest_agentlimit.errors import DeadlineExceeded, EndpointError, HTTPFailure, Unreachable
from pytest_agentlimit.text import one_line

NOT_A_LIST = "answers, but not with a model list"
_DEADLINES = Deadlines(connect_s=0.3, first_byte_s=1.0, between_chunks_s=1.0, total_s=1.0)
_MAX_LIST_BYTES = 2_000_000
_MAX_MODELS = 500
_OLLAMA_PORT = 11434
# `owned_by` of a model list says more about the engine than the port it was found on.
_ENGINES = {"llamacpp": "llama.cpp", "vllm": "vLLM"}


class Probe(Frozen):
    """One place to look: who is usually there, and whether it speaks Ollama's own dialect."""

    label: str
    port: int
    host: str = "127.0.0.1"
    ollama: bool = False

    @property
    def address(self) -> str:
        """`host:port`, an IPv6 host in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class FoundServer(Frozen):
    """A server that answers: its models, or the `problem` that keeps them from us."""

    label: str
    address: str
    dialect: Dialect = "openai"
    base_url: str
    models: tuple[str, ...] = ()
    problem: str | None = None


def default_probes(environ: Mapping[str, str]) -> tuple[Probe, ...]:
    """Return where to look; OLLAMA_HOST moves Ollama's place when it stays on this machine."""
    host, port = _ollama_place(environ.get("OLLAMA_HOST", ""))
    others = (
        Probe(label="llama.cpp", port=8080),
        Probe(label="vLLM", port=8000),
        Probe(label="LM Studio", port=1234),
    )
    ollama = Probe(label="Ollama", host=host, port=port, ollama=True)
    return (ollama, *(probe for probe in others if probe.port != port))


def discover(
    environ: Mapping[str, str], probes: Sequence[Probe] | None = None
) -> list[FoundServer]:
    """Return the servers that answer, in the order of `probes`; takes about 2 s at the very most.

    Whatever a server says, nothing is raised: it is in the list with its problem.
    """
    places = default_probes(environ) if probes is None else probes
    if not places:
        return []
    # Imported here, not in the threads: pytest rewrites modules as they are imported, and Python
    # 3.11 cannot build two syntax trees at a time ("AST constructor recursion depth mismatch").
    for dialect in ("ollama", "openai"):
        codec_for(dialect)
    with ThreadPoolExecutor(max_workers=len(places)) as pool:
        return [found for found in pool.map(_look, places) if found is not None]


def _look(probe: Probe) -> FoundServer | None:
    found = _ask(probe, "ollama") if probe.ollama else None
    # Other engines live on Ollama's port too, and speak the OpenAI dialect there.
    if found is None or found.problem == NOT_A_LIST:
        found = _ask(probe, "openai")
    return found


def _ask(probe: Probe, dialect: Dialect) -> FoundServer | None:
    base_url = f"http://{probe.address}" + ("/v1" if dialect == "openai" else "")
    server = FoundServer(
        label=probe.label, address=probe.address, dialect=dialect, base_url=base_url
    )
    spec = EndpointSpec(
        name=probe.label,
        dialect=dialect,
        base_url=base_url,
        model="",
        deadlines=_DEADLINES,
        max_reply_bytes=_MAX_LIST_BYTES,
    )
    try:
        with EndpointClient(spec) as client:
            listing = client.get_json("/api/tags" if dialect == "ollama" else "/models")
    except Unreachable:
        return None
    except EndpointError as error:
        return server.model_copy(update={"problem": _problem(error)})
    return server.model_copy(update=_models(listing, probe, dialect))


def _problem(error: EndpointError) -> str:
    if isinstance(error, DeadlineExceeded):
        return f"accepts connections, but does not answer in {_DEADLINES.total_s:g} s"
    if isinstance(error, HTTPFailure) and error.kind == "auth":
        return f"wants an API key (HTTP {error.status}): name it in a config table"
    return NOT_A_LIST


def _models(listing: Any, probe: Probe, dialect: Dialect) -> dict[str, Any]:
    """Return the fields of FoundServer that a listing fills; foreign JSON is no listing."""
    list_key, name_key = ("models", "name") if dialect == "ollama" else ("data", "id")
    entries = listing.get(list_key) if isinstance(listing, dict) else None
    if not isinstance(entries, list):
        return {"problem": NOT_A_LIST}
    named = [entry for entry in entries if _has_text(entry, name_key)]
    if entries and not named:
        return {"problem": NOT_A_LIST}
    owner = named[0].get("owned_by") if named else None
    label = probe.label if dialect == "ollama" or not probe.ollama else "a server"
    if isinstance(owner, str):
        label = _ENGINES.get(owner, label)
    return {"label": label, "models": tuple(entry[name_key] for entry in named[:_MAX_MODELS])}


def _has_text(entry: Any, key: str) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get(key), str)


def _ollama_place(variable: str) -> tuple[str, int]:
    """Return host and port that OLLAMA_HOST names, Ollama's default when it leads elsewhere."""
    default = ("127.0.0.1", _OLLAMA_PORT)
    text = variable.strip()
    try:
        parts = urlsplit(text if "://" in text else f"//{text}")
        port = parts.port or _OLLAMA_PORT
    except ValueError:
        return default
    host = parts.hostname or "127.0.0.1"
    # A server bound to every address is told so by this same variable, and answers on loopback.
    if host in ("0.0.0.0", "::"):
        host = "127.0.0.1"
    return (host, port) if is_loopback(host) else default


def shown(found: FoundServer) -> str:
    """Return one printable line about a server: its address and its models or its problem."""
    names = ", ".join(one_line(name, 80) for name in found.models[:20]) or "no models"
    return f"{found.label} at {found.address}: {found.problem or names}"
