"""A bridge in front of several scripted endpoints, and what became of each request."""

from __future__ import annotations

import queue
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx
from bridge_kit import HI, called, entry

from pytest_agentlimit.bridge.capture import Seen
from pytest_agentlimit.bridge.policy import Policy
from pytest_agentlimit.bridge.serve import Bridge
from pytest_agentlimit.chat.messages import Dialect
from pytest_agentlimit.endpoints.spec import Deadlines
from pytest_agentlimit.testing import Scripted, ScriptedEndpoint, http_error

SHORT = Deadlines(first_byte_s=0.2, between_chunks_s=0.2)
"""For those that fall silent only: machines under load are slow at anything."""
OVERFLOW = http_error(400, "the prompt exceeds the maximum context length of 4096 tokens")
BAD_CALL = called(entry(0, "x", "read", '{"path": nowhere}'))


class Chained:
    """A bridge to scripted endpoints in a row, called a, b, c …, and what its observer saw."""

    def __init__(self, servers: Sequence[ScriptedEndpoint], bridge: Bridge) -> None:
        self.servers = servers
        self.bridge = bridge
        self.seen: queue.Queue[Seen] = queue.Queue()

    def ask(
        self, path: str = "/v1/messages", *, streamed: bool = True, **fields: Any
    ) -> tuple[httpx.Response, Seen]:
        body = HI | {"stream": streamed} | fields
        response = httpx.post(self.bridge.url + path, json=body, timeout=20)
        return response, self.seen.get(timeout=20)

    @property
    def asked(self) -> list[int]:
        """How many conversations each endpoint was asked for."""
        return [len(server.chat_requests) for server in self.servers]


@contextmanager
def chained(
    *replies: Scripted | list[Scripted],
    specs: Sequence[dict[str, Any]] = (),
    policy: Policy | None = None,
    **options: Any,
) -> Iterator[Chained]:
    with ExitStack() as stack:
        servers = []
        given = []
        for number, reply in enumerate(replies):
            fields: dict[str, Any] = {"name": "abcdef"[number]}
            fields |= specs[number] if number < len(specs) else {}
            dialect: Dialect = fields.pop("dialect", "openai")
            script = reply if isinstance(reply, list) else [reply]
            server = stack.enter_context(ScriptedEndpoint(script, dialect=dialect))
            if any(one.act == "hang" or one.stall_after is not None for one in script):
                fields |= {"deadlines": SHORT}
            servers.append(server)
            given.append(server.endpoint(**fields))
        made: list[Chained] = []
        bridge = Bridge(
            given[0], policy, given[1:], observe=lambda seen: made[0].seen.put(seen), **options
        )
        made.append(Chained(servers, bridge))
        stack.enter_context(bridge)
        yield made[0]


def way(seen: Seen) -> list[tuple[str, str | None]]:
    return [(one.name, one.kind) for one in seen.record.attempts]
