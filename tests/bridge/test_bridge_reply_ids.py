from __future__ import annotations

import json

import httpx
import pytest

from pytest_agentlimit.bridge.serve import Bridge
from pytest_agentlimit.testing import ScriptedEndpoint, say

ROUTES = {"anthropic": "/v1/messages", "openai": "/v1/chat/completions"}


def ids(body: bytes) -> set[str]:
    frames = [line[5:] for line in body.decode().splitlines() if line.startswith("data:")]
    found = [json.loads(one) for one in frames or [body] if one.strip() != "[DONE]"]
    named = [one.get("message", one).get("id") for one in found]
    return {one for one in named if one is not None}


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("upstream", ["openai", "anthropic", "ollama"])
@pytest.mark.parametrize("client", ROUTES)
def test_no_two_replies_have_the_same_id(client, upstream, stream):
    body = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
    with (
        ScriptedEndpoint([say("hello")], dialect=upstream) as server,
        Bridge(server.endpoint()) as bridge,
    ):
        sent = body | {"stream": stream}
        first, second = (
            ids(httpx.post(bridge.url + ROUTES[client], json=sent).content) for _ in range(2)
        )
    assert len(first) == len(second) == 1
    assert first.isdisjoint(second)
