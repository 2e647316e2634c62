"""API keys: read from the environment when a request is sent, and kept out of everything else."""

from __future__ import annotations

import os
import re

from pytest_agentlimit.chat.messages import ChatReply
from pytest_agentlimit.endpoints.spec import EndpointSpec
from pytest_agentlimit.errors import UsageProblem
from pytest_agentlimit.text import one_line

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SECRET_HEADER = re.compile(r"auth|key|token|secret|cookie|password", re.IGNORECASE)
_ENV_IN_HEADER = {"openai": "authorization", "ollama": "authorization", "anthropic": "x-api-key"}
# Below these lengths a key is a placeholder ("x", "ollama", "EMPTY"): an ordinary word, which must
# not be cut out of a server's message and even less out of what a model wrote.
_SHORTEST_IN_MESSAGES = 6
_SHORTEST_IN_REPLIES = 16


def api_key(spec: EndpointSpec) -> str | None:
    """Return the key of an endpoint, None when it needs none.

    Raises UsageProblem naming the environment variable when it is not set or cannot be sent.
    """
    name = spec.api_key_env
    if name is None:
        return None
    if not _VARIABLE.fullmatch(name):
        raise UsageProblem(
            f"model {spec.name!r}: api_key_env does not hold the name of an environment variable. "
            "Put the key in a variable, and the variable's name in api_key_env"
        )
    value = os.environ.get(name, "").strip()
    if not value:
        raise UsageProblem(
            f"model {spec.name!r}: the environment variable {name} is not set, and the endpoint's "
            f"API key is read from it. Next: export {name}=…"
        )
    if not (value.isascii() and value.isprintable()):
        raise UsageProblem(
            f"model {spec.name!r}: the value of {name} holds characters that no HTTP header can "
            "carry. Next: export it again, without quotes, line breaks or typographic characters"
        )
    return value


def auth_header(spec: EndpointSpec, key: str) -> tuple[str, str]:
    """Return the name and value of the header that carries `key` in the endpoint's dialect."""
    name = _ENV_IN_HEADER[spec.dialect]
    return name, key if name == "x-api-key" else f"Bearer {key}"


def is_secret_header(name: str) -> bool:
    """Return True when a header's name says that its value must not be shown."""
    return _SECRET_HEADER.search(name) is not None


class Redactor:
    """Replaces an endpoint's secrets in text that came from its server."""

    def __init__(self, spec: EndpointSpec) -> None:
        self._secrets: list[tuple[str, str]] = []
        if spec.api_key_env and (key := os.environ.get(spec.api_key_env, "").strip()):
            self._secrets.append((key, f"${spec.api_key_env}"))
        for name, value in spec.headers.items():
            if is_secret_header(name) and value:
                self._secrets.append((value, "<hidden>"))

    def text(self, text: str) -> str:
        """Return `text` with every secret replaced by its variable's name."""
        for secret, shown in self._secrets:
            if len(secret) >= _SHORTEST_IN_MESSAGES:
                text = text.replace(secret, shown)
        return text

    def line(self, text: str, limit: int = 300) -> str:
        """Return `text` redacted, printable and on one line."""
        return one_line(self.text(text), limit)

    def reply(self, reply: ChatReply) -> ChatReply:
        """Return `reply` without secrets, its raw bytes included.

        A server that echoes its request's headers would otherwise put the key into records.
        """
        for secret, shown in self._secrets:
            if len(secret) < _SHORTEST_IN_REPLIES:
                continue
            raw = reply.raw.replace(secret.encode(), shown.encode())
            dumped = reply.model_dump_json()
            if secret in dumped:
                reply = ChatReply.model_validate_json(dumped.replace(secret, shown))
            reply = reply.model_copy(update={"raw": raw})
        return reply
