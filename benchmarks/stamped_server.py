"""A scripted endpoint in a process of its own, which tells when it did what.

Prints its address, then a line for every chat request: the value of this machine's monotonic
clock when the request arrived and when each write began. That clock is one for all processes.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from pytest_agentlimit import _loopback
from pytest_agentlimit.testing import Scripted, ScriptedEndpoint


class StampingHandler(_loopback._Handler):
    """Answers as scripted, and notes the time."""

    _stamps: list[float]

    def parse_request(self) -> bool:
        """Note the arrival."""
        self._stamps = [time.monotonic()]
        return super().parse_request()

    def _write(self, data: bytes) -> None:
        self._stamps.append(time.monotonic())
        super()._write(data)

    def do_POST(self) -> None:  # noqa: N802 (http.server's name)
        """Serve one chat request and tell its times."""
        self._serve()
        print(json.dumps(self._stamps), flush=True)


def main(script: dict[str, Any]) -> None:
    """Serve until standard input ends."""
    with ScriptedEndpoint([Scripted.model_validate(script)]) as server:
        server._server.RequestHandlerClass = StampingHandler
        print(json.dumps(server.endpoint().model_dump(mode="json")), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
