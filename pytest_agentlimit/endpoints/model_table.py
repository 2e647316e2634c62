"""One `[tool.agentlimit.models.NAME]` table, checked key by key and made an endpoint.

Tables live in files that are committed: nothing that may be a key is accepted, and no value that
was refused is quoted.
"""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, ValidationError

from pytest_agentlimit.chat.messages import Dialect, Frozen
from pytest_agentlimit.endpoints import catalog
from pytest_agentlimit.endpoints.keys import is_secret_header
from pytest_agentlimit.endpoints.spec import Deadlines, EndpointSpec
from pytest_agentlimit.errors import UsageProblem
from pytest_agentlimit.text import one_line
from pytest_agentlimit.units import duration_ms

EMBEDDED_URL = "http://embedded.invalid/v1"
"""Stands in for the address of an embedded model until it has started; no such host can exist."""
_ADDRESS = re.compile(r"https?://[^/?#\s\x00-\x1f\x7f][^?#\s\x00-\x1f\x7f]*", re.IGNORECASE)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_KEY_LIKE = re.compile(r"((sk|pk|hf|gsk|xai|ghp)[-_]|AIza)[\w-]{12,}|Bearer ", re.IGNORECASE)
_KEY_NAMES = re.compile(r"(api|access|secret|auth)?_?-?(key|token|secret|password)", re.IGNORECASE)
_NO_SECRETS = (
    "a key does not belong in a file. Put it into an environment variable, "
    'and write the name of that variable: api_key_env = "MY_API_KEY"'
)
_Positive = Annotated[int, Field(gt=0)]


class _Table(Frozen):
    """The keys of a table; the names are a contract with users."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    base_url: str | None = None
    dialect: Dialect = "openai"
    model: str | None = None
    api_key_env: str | None = None
    context_window: _Positive | None = None
    max_tokens: _Positive = 1024
    temperature: Annotated[float, Field(ge=0)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    timeout: Annotated[float, Field(gt=0)] | str | None = None
    """Seconds as a number, or text with a unit: 90, "90s", "2m"."""
    max_inflight: _Positive | None = None
    watts: Annotated[float, Field(gt=0)] | None = None
    retries: Annotated[int, Field(ge=0)] = 0
    headers: dict[str, str] = Field(default_factory=dict)
    gguf: str | None = None
    tools: Literal["native", "emulate"] = "native"


def spec_from_table(name: str, table: Any, *, where: str, folder: Path) -> EndpointSpec:
    """Return the endpoint that a table describes; `gguf` paths count from `folder`.

    Raises UsageProblem that begins with the place, `where` and the table's name.
    """
    place = f"{where}, model {one_line(name)!r}"
    if not isinstance(table, dict):
        raise UsageProblem(f'{place}: this must be a table with keys such as base_url = "http://…"')
    _refuse_secrets(table, place)
    _refuse_unknown(table, place)
    try:
        checked = _Table.model_validate(table)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        raise UsageProblem(f"{place}: {first['loc'][0]}: {first['msg']}") from None
    return _spec(name, checked, place, where, folder)


def _spec(name: str, table: _Table, place: str, where: str, folder: Path) -> EndpointSpec:
    if (table.base_url is None) == (table.gguf is None):
        raise UsageProblem(
            f"{place}: give it one of base_url (a server's address) and gguf (a file to serve)"
        )
    if table.gguf is not None and table.dialect != "openai":
        raise UsageProblem(f"{place}: a model served from gguf speaks the openai dialect only")
    return EndpointSpec(
        name=name,
        kind="embedded" if table.gguf else "remote",
        dialect=table.dialect,
        base_url=EMBEDDED_URL if table.base_url is None else _address(table.base_url, place),
        model=table.model or name,
        source=f"config table in {where}",
        api_key_env=table.api_key_env,
        headers=table.headers,
        context_window=table.context_window,
        max_tokens=table.max_tokens,
        temperature=table.temperature,
        top_p=table.top_p,
        deadlines=_deadlines(table.timeout, place),
        retries=table.retries,
        max_inflight=table.max_inflight,
        watts=table.watts,
        gguf=_weights(table.gguf, folder),
        tools=table.tools,
    )


def _address(base_url: str, place: str) -> str:
    """Return the address without a trailing slash; only plain http and https will do."""
    if not is_address(base_url):
        raise UsageProblem(
            f"{place}: base_url must be an http:// or https:// address and nothing more, "
            'such as "http://127.0.0.1:8000/v1"; dialect and model are keys of their own'
        )
    if "@" in base_url.split("/")[2]:
        raise UsageProblem(f"{place}: base_url holds credentials: {_NO_SECRETS}")
    return base_url.rstrip("/")


def is_address(base_url: str) -> bool:
    """Return True for a plain http or https address: no query, no fragment, no spaces."""
    return _ADDRESS.fullmatch(base_url) is not None


def _weights(gguf: str | None, folder: Path) -> str | None:
    if gguf is None or gguf in catalog.MODELS:
        return gguf
    return str(folder / Path(gguf).expanduser())


def _deadlines(timeout: float | str | None, place: str) -> Deadlines:
    if timeout is None:
        return Deadlines()
    try:
        return deadlines_within(
            duration_ms(timeout) / 1000 if isinstance(timeout, str) else timeout
        )
    except ValueError as error:
        raise UsageProblem(f"{place}: timeout: {one_line(str(error))}") from None


def deadlines_within(total_s: float) -> Deadlines:
    """Return the deadlines that `total_s` seconds leave; a whole reply's first byte is last."""
    usual = Deadlines()
    return Deadlines(
        connect_s=min(usual.connect_s, total_s),
        first_byte_s=total_s,
        between_chunks_s=min(usual.between_chunks_s, total_s),
        total_s=total_s,
    )


def _refuse_unknown(table: dict[str, Any], place: str) -> None:
    for key in table:
        if key not in _Table.model_fields:
            near = difflib.get_close_matches(key, _Table.model_fields, 1)
            hint = (
                f"did you mean {near[0]}?" if near else f"known: {', '.join(_Table.model_fields)}"
            )
            raise UsageProblem(f"{place}: unknown key {one_line(key)!r}; {hint}")


def holds_secret(key: str, value: Any) -> bool:
    """Return True when `value` is a key by what it is called or by how it begins."""
    named = _KEY_NAMES.fullmatch(key) is not None
    return named or (isinstance(value, str) and _KEY_LIKE.match(value) is not None)


def _refuse_secrets(table: dict[str, Any], place: str) -> None:
    for key, value in table.items():
        if holds_secret(key, value):
            raise UsageProblem(f"{place}: {one_line(key)}: {_NO_SECRETS}")
    variable = table.get("api_key_env")
    if isinstance(variable, str) and not _VARIABLE.fullmatch(variable):
        raise UsageProblem(
            f"{place}: api_key_env must be the name of an environment variable; {_NO_SECRETS}"
        )
    headers = table.get("headers")
    for header in headers if isinstance(headers, dict) else ():
        if is_secret_header(header):
            raise UsageProblem(f"{place}: headers.{one_line(header)}: {_NO_SECRETS}")
