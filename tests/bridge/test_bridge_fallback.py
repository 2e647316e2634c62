from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from bridge_kit import HI, SSE, TOOL, called, chunk, entry, events_of, stream, whole
from chain_kit import BAD_CALL, OVERFLOW, chained, way

from pytest_agentlimit.bridge import exchange
from pytest_agentlimit.testing import (
    Scripted,
    anthropic_grammar,
    call,
    drop,
    hang,
    html,
    http_error,
    raw,
    say,
)

LONG = say("a long story", piece_chars=2)
ERROR = {"error": {"message": "out of memory"}}
IN_STREAM = {"error": {"code": 400, "message": "maximum context length is 4096 tokens"}}


def frames(*parts: dict[str, Any]) -> bytes:
    return b"".join(b"data: " + json.dumps(part).encode() + b"\n\n" for part in parts)


HI_THERE = frames(chunk({"content": "Hi"}))
FAILING = {
    "500": (http_error(500), "server_error"),
    "429": (http_error(429), "rate_limit"),
    "503": (http_error(503), "overloaded"),
    "dropped": (drop(), "cut_stream"),
    "hung": (hang(), "hung"),
    "headers, then silence": (LONG.with_(stall_after=0), "hung"),
    "headers, then the end": (LONG.with_(cut_after=0), "cut_stream"),
    "an empty body": (raw(b"", SSE), "not_json"),
    "an error in a 200": (raw(frames(ERROR), SSE), "stream_error"),
    "overflow": (OVERFLOW, "context_overflow"),
    "overflow in a 200": (raw(frames(IN_STREAM), SSE), "stream_error"),
    "an error after the role": (
        raw(frames(chunk({"role": "assistant", "content": ""}), ERROR), SSE),
        "stream_error",
    ),
    "a role, then silence": (
        raw(frames(chunk({"role": "assistant"})), SSE).with_(chunk_bytes=9000, stall_after=1),
        "stalled",
    ),
    "a call, then silence": (
        raw(frames(called(entry(0, "x", "read", '{"path": "'))), SSE).with_(
            chunk_bytes=9000, stall_after=1
        ),
        "stalled",
    ),
    "a call that breaks": (stream(BAD_CALL, chunk(finish="tool_calls")), "unusable_reply"),
    "a whole reply that breaks off": (
        raw(b'{"choices": [{"message"').with_(chunk_bytes=5, cut_after=2),
        "cut_stream",
    ),
    "a whole reply without a reason to end": (
        whole({"content": "Hi"}, None),
        "unusable_reply",
    ),
}


@pytest.mark.parametrize(
    ("path", "streamed"), [("/v1/messages", True), ("/v1/chat/completions", False)]
)
@pytest.mark.parametrize("how", FAILING)
def test_the_fallback_answers_when_the_primary_fails(how: str, streamed: bool, path: str) -> None:
    reply, kind = FAILING[how]
    with chained(reply, say("From the fallback.")) as chain:
        response, seen = chain.ask(path, streamed=streamed, tools=[])
    assert response.status_code == 200
    assert response.headers["x-agentlimit-served-by"] == "b"
    assert "From the fall" in response.text
    assert "error" not in response.text
    if streamed and path == "/v1/messages":
        assert anthropic_grammar(response.content) == []
    assert way(seen) == [("a", kind), ("b", None)]
    assert [one.seconds > 0 for one in seen.record.attempts] == [True, True]
    assert (seen.record.served_by, seen.failure, seen.record.error) == ("b", None, None)
    assert seen.record.given is not None
    assert seen.record.given.text == "From the fallback."
    assert chain.asked == [1, 1]


def test_the_fallback_answers_when_nobody_listens_at_the_primary() -> None:
    with chained(say("x"), say("y"), say("From c.")) as chain:
        chain.servers[0].close()
        chain.servers[1].close()
        response, seen = chain.ask()
        listed = httpx.get(f"{chain.bridge.url}/v1/models").json()
        counted = httpx.post(f"{chain.bridge.url}/v1/messages/count_tokens", json=HI)
    assert response.headers["x-agentlimit-served-by"] == "c"
    assert way(seen) == [("a", "refused"), ("b", "refused"), ("c", None)]
    assert [one["id"] for one in listed["data"]] == ["scripted"]
    assert counted.headers["x-agentlimit-tokens"] == "estimated"


@pytest.mark.parametrize(
    ("reply", "status", "kind"),
    [
        (http_error(400, "temperature?"), 400, "bad_request"),
        (http_error(401, "who?"), 401, "auth"),
        (http_error(404, "no such model"), 404, "not_found"),
        (html(), 502, "html"),
    ],
    ids=["400", "401", "404", "html"],
)
@pytest.mark.parametrize("streamed", [True, False], ids=["stream", "whole"])
def test_a_fault_of_the_request_is_not_hidden_by_a_fallback(
    reply: Scripted, status: int, kind: str, streamed: bool
) -> None:
    with chained(reply, say("x")) as chain:
        response, seen = chain.ask(streamed=streamed)
    assert response.status_code == status
    assert "1 of 2 endpoints asked, a failed last" in response.json()["error"]["message"]
    assert "x-agentlimit-served-by" not in response.headers
    assert (way(seen), seen.record.served_by, chain.asked) == ([("a", kind)], None, [1, 0])
    assert getattr(seen.failure, "kind", None) == kind


def test_an_overflow_goes_to_a_larger_context_or_an_unknown_one() -> None:
    windows = [{"context_window": 4096}, {"context_window": 4096}, {"context_window": 8192}, {}]
    with chained(OVERFLOW, say("x"), OVERFLOW, say("Much."), specs=windows) as chain:
        response, seen = chain.ask()
    assert response.headers["x-agentlimit-served-by"] == "d"
    assert way(seen) == [
        ("a", "context_overflow"),
        ("b", "context_smaller"),
        ("c", "context_overflow"),
        ("d", None),
    ]
    assert seen.record.attempts[1].seconds == 0.0


def test_an_overflow_of_everybody_is_said_in_the_words_clients_look_for() -> None:
    with chained(OVERFLOW, OVERFLOW) as chain:
        response, _ = chain.ask()
        other, _ = chain.ask("/v1/chat/completions")
        again, seen = chain.ask()
    assert (response.status_code, other.status_code) == (400, 400)
    assert response.json()["error"]["message"].startswith("prompt is too long")
    assert "maximum context length of 4096 tokens (2 of 2" in other.json()["error"]["message"]
    assert again.status_code == 400
    assert way(seen) == [("a", "context_overflow"), ("b", "context_overflow")]


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/chat/completions"])
@pytest.mark.parametrize(
    ("reply", "word"),
    [
        (LONG.with_(cut_after=3), "cut the reply short"),
        (LONG.with_(stall_after=3), "(stalled)"),
        (
            raw(HI_THERE + frames(ERROR), SSE).with_(chunk_bytes=len(HI_THERE), chunk_delay_s=0.5),
            "out of memory",
        ),
    ],
    ids=["cut", "stalled", "error"],
)
def test_after_the_first_token_a_failure_is_the_clients_and_the_next_request_the_fallbacks(
    reply: Scripted, word: str, path: str
) -> None:
    with chained(reply, say("From b.")) as chain:
        broken, seen = chain.ask(path)
        assert broken.status_code == 200
        assert broken.headers["x-agentlimit-served-by"] == "a"
        error = events_of(broken)[-1]["error"]
        assert word in error["message"]
        assert "1 of 2 endpoints asked" in error["message"]
        assert len(way(seen)) == 1
        assert seen.failure is not None
        assert chain.asked == [1, 0]
        after, seen = chain.ask(path)
    assert after.headers["x-agentlimit-served-by"] == "b"
    assert way(seen) == [("a", "circuit_open"), ("b", None)]
    assert chain.asked == [1, 1]


def test_what_was_good_of_the_last_reply_reaches_the_client_before_its_error() -> None:
    broken = raw(frames(chunk({"content": "Hi"}), ERROR), SSE)
    with chained(hang(), broken) as chain:
        response, seen = chain.ask()
    assert [one["type"] for one in events_of(response)][-2:] == ["content_block_delta", "error"]
    assert (seen.record.served_by, way(seen)) == ("b", [("a", "hung"), ("b", "stream_error")])


def test_an_error_before_the_first_token_is_told_by_its_status() -> None:
    opened = raw(frames(chunk({"role": "assistant"}), IN_STREAM), SSE)
    with chained(http_error(500), opened) as chain:
        response, seen = chain.ask()
    assert response.status_code == 400
    assert response.json()["error"]["message"].startswith("prompt is too long")
    assert (seen.record.served_by, seen.failure is None) == (None, False)


def test_a_client_that_waits_for_a_long_call_is_shown_life_and_keeps_its_endpoint(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(exchange, "PING_S", 0.0)
    monkeypatch.setattr(exchange, "PATIENCE_S", 0.0)
    long = call("read", path="a" * 400).with_(chunk_bytes=100, chunk_delay_s=0.05, cut_after=6)
    with chained(long, say("x")) as chain:
        response, seen = chain.ask(tools=[TOOL])
    assert events_of(response)[0]["type"] == "message_start"
    assert "event: ping" in response.text
    assert events_of(response)[-1]["type"] == "error"
    assert way(seen) == [("a", "cut_stream")]


# calls written as text
