"""A bridge on a socket: in a thread for tests and harnesses, in the foreground for the command."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import uvicorn

from pytest_agentlimit.bridge.app import bridge_app
from pytest_agentlimit.bridge.capture import Capture, Seen
from pytest_agentlimit.bridge.chain import Members
from pytest_agentlimit.bridge.policy import Policy
from pytest_agentlimit.endpoints.keys import Redactor, api_key
from pytest_agentlimit.endpoints.literals import literal_spec, short_id
from pytest_agentlimit.endpoints.outgoing import is_loopback
from pytest_agentlimit.endpoints.resolve import resolve
from pytest_agentlimit.endpoints.spec import EndpointSpec
from pytest_agentlimit.errors import UsageProblem
from pytest_agentlimit.text import one_line

LOOPBACK = "127.0.0.1"
_KEEP_ALIVE_S = 75
"""Longer than clients keep an idle connection (httpx: 5 s): who closes first must not be us, or a
request that is on its way is lost.
"""
_BACKSTOP_S = 2
"""How long a client that does not read may hold up the end, once it was told of it."""


def upstream_spec(
    name: str, *, root: Path, environ: Mapping[str, str], agent_config: str | None = None
) -> EndpointSpec:
    """Return the endpoint `name` stands for; an address without #model has the model "".

    The bridge then asks for the model its client names. Raises UsageProblem as `resolve` does.
    """
    if "://" in name and "#" not in name:
        spec = literal_spec(f"{name}#upstream", environ)
        if spec is not None:
            address = short_id(urlsplit(spec.base_url).netloc)
            return spec.model_copy(update={"model": "", "name": address})
    return resolve(name, root=root, environ=environ, agent_config=agent_config)


class Bridge:
    """A bridge to one upstream, bound to its socket: `start` it in a thread, or `run` it.

    When the upstream fails before a token has reached the client, the `fallbacks` are asked, in
    order. `observe` is called with each conversation request when it is over, from the bridge's own
    thread; when the bridge is closed, it has been called with all of them.

    Raises UsageProblem when the port is in use, an endpoint's key is missing, or the host is not
    this machine and there is no token. `port` 0 takes a free one. When it is stopped, replies get
    `grace_s` seconds to end; after that their clients are told that the bridge shuts down.
    """

    def __init__(
        self,
        spec: EndpointSpec,
        policy: Policy | None = None,
        fallbacks: Sequence[EndpointSpec] = (),
        *,
        host: str = LOOPBACK,
        port: int = 0,
        capture: Path | None = None,
        observe: Callable[[Seen], None] | None = None,
        grace_s: float = 0.0,
    ) -> None:
        policy = policy or Policy()
        specs = (spec, *fallbacks)
        for one in specs:
            _check_endpoint(one)
        _check_door(policy, host)
        members = Members(specs)
        self._socket = _bound(host, port)
        secrets = [policy.token] if policy.token else []
        try:
            log = Capture(capture, map(Redactor, specs), secrets)
        except UsageProblem:
            self._socket.close()
            raise
        self.host = host
        self._server = _Server(
            uvicorn.Config(
                bridge_app(members, policy, log, observe),
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                ws="none",
                lifespan="on",
                timeout_graceful_shutdown=_BACKSTOP_S,
                timeout_keep_alive=_KEEP_ALIVE_S,
            ),
            grace_s,
        )
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        """The port listened on."""
        return self._server.port or int(self._socket.getsockname()[1])

    @property
    def url(self) -> str:
        """The address, without /v1, as ANTHROPIC_BASE_URL wants it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def start(self) -> Self:
        """Serve in a thread; returns when requests are answered."""
        self._server.port = self.port
        self._thread = threading.Thread(target=self._serve, name="agentlimit-bridge", daemon=True)
        self._thread.start()
        self._server.ready.wait()
        return self

    def close(self) -> None:
        """Stop serving; no thread, socket or file is left."""
        self._server.should_exit = True
        if self._thread is not None:
            self._thread.join()
        self._socket.close()

    def run(self, when_ready: Callable[[], None]) -> None:
        """Serve until the process is told to stop (SIGINT, SIGTERM)."""
        self._server.port = self.port
        self._server.when_ready = when_ready
        # What was imported stays: to look through it for garbage would hold up all streams for
        # some 20 ms, again and again.
        gc.freeze()
        self._serve()

    def _serve(self) -> None:
        try:
            self._server.run(sockets=[self._socket])
        finally:
            self._server.ready.set()


class _Server(uvicorn.Server):
    """A server that says when it is ready, and ends what runs `grace_s` after it was stopped."""

    def __init__(self, config: uvicorn.Config, grace_s: float) -> None:
        super().__init__(config)
        self._grace_s = grace_s
        self.ready = threading.Event()
        self.when_ready: Callable[[], None] = lambda: None
        self.port: int | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to serve."""
        await super().startup(sockets=sockets)
        self.ready.set()
        await asyncio.to_thread(self.when_ready)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no more connections, and let those that are served come to an end."""
        for server in self.servers:
            server.close()
        tasks = list(self.server_state.tasks)
        if tasks and self._grace_s:
            await asyncio.wait(tasks, timeout=self._grace_s)
        for task in tasks:
            task.cancel()
        await super().shutdown(sockets)


def _check_endpoint(spec: EndpointSpec) -> None:
    """Raise UsageProblem for an endpoint that cannot be asked."""
    if spec.kind == "null" or not spec.base_url.startswith(("http://", "https://")):
        raise UsageProblem(
            f"{one_line(spec.name)} has no address a bridge could speak to. Next: name a "
            "server, such as openai+http://127.0.0.1:8000/v1"
        )
    api_key(spec)


def _check_door(policy: Policy, host: str) -> None:
    """Raise UsageProblem for a bridge that must not be opened as it stands."""
    if not is_loopback(host) and not policy.token:
        raise UsageProblem(
            f"on {one_line(host)} anybody in the network could use the upstream and its key. "
            "Next: add --token, or leave out --host"
        )
    if policy.token and not (policy.token.isascii() and policy.token.isprintable()):
        raise UsageProblem("the token holds characters that no header can carry. Next: change it")


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # By its protocol number asyncio knows a socket to turn Nagle's algorithm off for; with it on,
    # every answer on a kept connection is 40 ms late.
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        why = error.strerror or os.strerror(error.errno or 0)
        raise UsageProblem(
            f"cannot listen on {one_line(host)} port {port}: {why}. Next: stop what listens "
            "there, or take another port with --port"
        ) from None
    return bound
