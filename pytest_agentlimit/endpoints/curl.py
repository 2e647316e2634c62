"""A shell command that repeats a request, safe to print and to paste."""

from __future__ import annotations

import shlex

from pytest_agentlimit.endpoints.keys import auth_header, is_secret_header
from pytest_agentlimit.endpoints.outgoing import request_headers
from pytest_agentlimit.endpoints.spec import EndpointSpec

BODY_LIMIT = 8192
"""Bytes of a request body that are shown whole."""


def curl_command(spec: EndpointSpec, url: str, body: str, *, stream: bool) -> str:
    """Return one line of shell that sends `body` (ASCII JSON) to `url` again.

    The key stands as `"$NAME"`, which the shell fills in; secret-looking header values are hidden.
    A body over 8 KB is shortened, and a comment behind the command says so.
    """
    parts = ["curl -sS" + (" -N" if stream else ""), shlex.quote(url)]
    for name, value in request_headers(spec).items():
        shown = "<hidden>" if is_secret_header(name) else value
        parts.append("-H " + shlex.quote(f"{name}: {shown}"))
    if spec.api_key_env:
        name, value = auth_header(spec, f"${spec.api_key_env}")
        parts.append(f'-H "{name}: {value}"')
    cut = len(body) > BODY_LIMIT
    shown_body = body[: BODY_LIMIT // 2] + " … " + body[-BODY_LIMIT // 2 :] if cut else body
    parts.append("-d " + shlex.quote(shown_body))
    if cut:
        parts.append(f"# shortened: body of {len(body)} bytes cut")
    return " ".join(parts)
