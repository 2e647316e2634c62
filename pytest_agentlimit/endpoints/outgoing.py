"""What a request is before it is sent: its defaults, its headers, and where it goes."""

from __future__ import annotations

import ipaddress
from urllib.parse import SplitResult, urlsplit

from pytest_agentlimit.chat.messages import ChatRequest
from pytest_agentlimit.endpoints.spec import EndpointSpec
from pytest_agentlimit.errors import UsageProblem
from pytest_agentlimit.text import one_line

DEFAULT_TEMPERATURE = 0.7
DEFAULT_TOP_P = 1.0


def complete_request(spec: EndpointSpec, request: ChatRequest) -> ChatRequest:
    """Return `request` with everything filled in that servers would otherwise choose themselves.

    Defaults differ by server and by route (PROTOCOLS R7), so max_tokens, temperature and top_p are
    always sent; but no top_p to Anthropic, whose recent models refuse it beside temperature.
    """
    top_p = request.top_p if request.top_p is not None else spec.top_p
    if top_p is None and spec.dialect != "anthropic":
        top_p = DEFAULT_TOP_P
    wanted = (request.temperature, spec.temperature, DEFAULT_TEMPERATURE)
    return request.model_copy(
        update={
            "model": request.model or spec.model,
            "max_tokens": spec.max_tokens if request.max_tokens is None else request.max_tokens,
            "temperature": next(value for value in wanted if value is not None),
            "top_p": top_p,
            "extra": {**spec.extra_body, **request.extra},
        }
    )


def request_headers(spec: EndpointSpec) -> dict[str, str]:
    """Return the headers of every request, names in lower case, without the API key."""
    headers = {
        "content-type": "application/json",
        # A compressed stream is held back by proxies until a block is full.
        "accept-encoding": "identity",
        "user-agent": "pytest-agentlimit",
    }
    if spec.dialect == "anthropic":
        headers["anthropic-version"] = "2023-06-01"
    for name, value in spec.headers.items():
        if not (name.isascii() and value.isascii() and (name + value).isprintable()):
            raise UsageProblem(
                f"model {spec.name!r}: the header {one_line(name)!r} holds characters that HTTP "
                "does not allow. Next: keep headers to printable ASCII"
            )
        headers[name.lower()] = value
    return headers


def split_address(spec: EndpointSpec) -> SplitResult:
    """Return the parts of the base URL. UsageProblem when nothing can be sent there."""
    try:
        parts = urlsplit(spec.base_url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        raise bad_address(spec) from None
    if "@" in parts.netloc:
        raise UsageProblem(
            f"model {spec.name!r}: the base URL holds a user name or password, which would end up "
            "in reports. Next: take it out, and name a variable with the key in api_key_env"
        )
    if not usable:
        raise bad_address(spec)
    return parts


def bad_address(spec: EndpointSpec) -> UsageProblem:
    """Return the complaint about a base URL that nothing can be sent to."""
    return UsageProblem(
        f"model {spec.name!r}: {one_line(spec.base_url)!r} is no http:// or https:// address. "
        "Next: write the base URL like http://127.0.0.1:8000/v1"
    )


def is_loopback(host: str) -> bool:
    """Return True when `host` is this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
