"""A null model on a port of this machine, so that a suite's audit can go through a program too."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from pytest_agentlimit._loopback import Answer, LoopbackServer
from pytest_agentlimit._scripted import Scripted, played
from pytest_agentlimit.chat import jsontext
from pytest_agentlimit.chat.codecs import codec_for
from pytest_agentlimit.chat.messages import WireError
from pytest_agentlimit.endpoints.nulls import null_reply
from pytest_agentlimit.endpoints.spec import EndpointSpec


@contextmanager
def reachable(spec: EndpointSpec) -> Iterator[EndpointSpec]:
    """Yield an endpoint that a bridge can speak to: `spec`, or its null model on loopback."""
    if spec.kind != "null":
        yield spec
        return
    server = LoopbackServer(partial(_answer, spec.model))
    try:
        url = f"http://127.0.0.1:{server.port}/v1"
        yield spec.model_copy(update={"kind": "remote", "dialect": "openai", "base_url": url})
    finally:
        server.close()


def _answer(name: str, method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
    if method != "POST":
        listed = json.dumps({"object": "list", "data": [{"id": name, "object": "model"}]})
        return played(Scripted(body=listed.encode()), None, "openai", name)
    try:
        request = codec_for("openai").decode_request(jsontext.parse(body.decode())[0])
    except ValueError as error:
        refused = WireError(status=400, kind="bad_request", message=str(error))
        return played(Scripted(error=refused), None, "openai", name)
    reply = null_reply(name, request)
    said = Scripted(blocks=reply.blocks, stop_reason=reply.stop_reason, usage=reply.usage)
    return played(said, request, "openai", name)
