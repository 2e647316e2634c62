"""Models named by a literal: the whole endpoint in one argument (DESIGN 3, point 1)."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from pytest_agentlimit.chat.messages import Dialect
from pytest_agentlimit.endpoints.model_table import EMBEDDED_URL
from pytest_agentlimit.endpoints.nulls import NULL_MODELS, NULL_URL
from pytest_agentlimit.endpoints.outgoing import is_loopback
from pytest_agentlimit.endpoints.spec import EndpointSpec
from pytest_agentlimit.errors import ModelNotFound, UsageProblem
from pytest_agentlimit.text import one_line

_DIALECTS: dict[str, Dialect] = {
    "openai": "openai",
    "anthropic": "anthropic",
    "ollama": "ollama",
}
_DEFAULT_KEYS = {"openai": "OPENAI_API_KEY", "anthropic": "ANTHROPIC_API_KEY"}
_ADDRESS = re.compile(r"(?:([a-z0-9_-]+)\+)?(https?)://", re.IGNORECASE)
_NOT_ID = re.compile(r"[^A-Za-z0-9._-]+")
_EXAMPLE = "openai+http://127.0.0.1:8000/v1#qwen3"


def short_id(name: str) -> str:
    """Return `name` in letters that are safe in test ids and on every shell: [A-Za-z0-9._-]."""
    return _NOT_ID.sub("-", name).strip("-") or "model"


def literal_spec(name: str, environ: Mapping[str, str]) -> EndpointSpec | None:
    """Return the endpoint that a literal spells out, None when `name` is no literal.

    A relative `gguf:` path counts from where the user is. A literal for a remote https host uses
    OPENAI_API_KEY or ANTHROPIC_API_KEY, by its dialect, when that variable is set; anything else is
    sent without a key, as is every call to this machine. UsageProblem for a literal that is not
    whole.
    """
    scheme, _, rest = name.partition(":")
    if scheme == "null":
        return _null(rest)
    if scheme == "gguf":
        return _gguf(rest)
    if match := _ADDRESS.match(name):
        return _remote(name, match, environ)
    return None


def null_spec(null: str, source: str = "literal") -> EndpointSpec:
    """Return the endpoint of one of the null models; `null` is its bare name."""
    return EndpointSpec(
        name=f"null-{null}", kind="null", base_url=NULL_URL, model=null, source=source
    )


def _null(null: str) -> EndpointSpec:
    if null in NULL_MODELS:
        return null_spec(null)
    near = difflib.get_close_matches(null, NULL_MODELS, 1)
    hint = f"did you mean null:{near[0]}? " if near else ""
    raise ModelNotFound(
        f"no null model is called {one_line(null)!r}: {hint}There are {', '.join(NULL_MODELS)}"
    )


def _gguf(path: str) -> EndpointSpec:
    if not path:
        raise UsageProblem("gguf: names no file: write gguf:/path/model.gguf")
    full = Path(path).expanduser().absolute()
    return EndpointSpec(
        name=short_id(full.stem),
        kind="embedded",
        base_url=EMBEDDED_URL,
        model=short_id(full.stem),
        gguf=str(full),
    )


def _remote(name: str, match: re.Match[str], environ: Mapping[str, str]) -> EndpointSpec:
    parts = _parts(name[match.start(2) :])
    shown = one_line(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}")
    dialect = _dialect(match.group(1), shown)
    if parts.username is not None or parts.password is not None or parts.query:
        raise UsageProblem(
            f"{shown}: a name must not hold credentials or a query: it is printed and kept. "
            "Put the key into an environment variable, and its name into api_key_env of a "
            "[tool.agentlimit.models.NAME] table"
        )
    if not parts.fragment:
        raise UsageProblem(
            f"{shown} names no model: add it after a #, as in {_EXAMPLE}. "
            "`agentlimit models` lists what servers on this machine offer"
        )
    return EndpointSpec(
        name=short_id(parts.fragment.rstrip("/").rpartition("/")[2]),
        dialect=dialect,
        base_url=f"{parts.scheme}://{parts.netloc}{parts.path}".rstrip("/"),
        model=parts.fragment,
        api_key_env=_default_key(dialect, parts, environ),
    )


def _parts(address: str) -> SplitResult:
    try:
        parts = urlsplit(address)
        if parts.hostname and parts.port != 0 and address.isprintable():
            return parts
    except ValueError:
        pass
    raise UsageProblem(f"that is no address with a host and a port: write it as in {_EXAMPLE}")


def _dialect(typed: str | None, shown: str) -> Dialect:
    if typed is None:
        raise UsageProblem(
            f"{shown} does not say its dialect: put openai+, anthropic+ or ollama+ in front, "
            f"as in {_EXAMPLE}"
        )
    if typed.lower() not in _DIALECTS:
        raise UsageProblem(
            f"unknown dialect {one_line(typed)!r} in front of {shown}: "
            f"there are {', '.join(_DIALECTS)}"
        )
    return _DIALECTS[typed.lower()]


def _default_key(dialect: Dialect, parts: SplitResult, environ: Mapping[str, str]) -> str | None:
    variable = _DEFAULT_KEYS.get(dialect)
    remote = parts.scheme == "https" and not is_loopback(parts.hostname or "")
    return variable if remote and variable and environ.get(variable) else None
