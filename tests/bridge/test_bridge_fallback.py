from __future__ import annotations

import json
import logging
import queue
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from bridge_kit import (
    HI,
    SSE,
    TOOL,
    Gate,
    called,
    chunk,
    entry,
    events_of,
    request_bytes,
    stream,
    whole,
)

from pytest_agentlimit.bridge import exchange
from pytest_agentlimit.bridge.capture import Seen
from pytest_agentlimit.bridge.policy import Policy
from pytest_agentlimit.bridge.serve import Bridge, upstream_spec
from pytest_agentlimit.chat.messages import Dialect
from pytest_agentlimit.endpoints.spec import Deadlines, EndpointSpec
from pytest_agentlimit.errors import UsageProblem
from pytest_agentlimit.testing import (
    Scripted,
    ScriptedEndpoint,
    anthropic_grammar,
    call,
    drop,
    hang,
    html,
    http_error,
    raw,
    say,
)

SHORT = Deadlines(first_byte_s=0.2, between_chunks_s=0.2)
"""For those that fall silent only: machines under load are slow at anything."""
LONG = say("a long story", piece_chars=2)
OVERFLOW = http_error(400, "the prompt exceeds the maximum context length of 4096 tokens")
ERROR = {"error": {"message": "out of memory"}}
IN_STREAM = {"error": {"code": 400, "message": "maximum context length is 4096 tokens"}}
BAD_CALL = called(entry(0, "x", "read", '{"path": nowhere}'))


def frames(*parts: dict[str, Any]) -> bytes:
    return b"".join(b"data: " + json.dumps(part).encode() + b"\n\n" for part in parts)


HI_THERE = frames(chunk({"content": "Hi"}))


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

LEAK = json.dumps({"name": TOOL["name"], "arguments": {"path": "notes.txt"}})


@pytest.mark.parametrize("streamed", [True, False])
def test_a_reply_that_is_nothing_but_a_leaked_call_moves_on(streamed: bool) -> None:
    with chained(say(LEAK, piece_chars=3), say("From b.")) as chain:
        response, seen = chain.ask(streamed=streamed, tools=[TOOL])
    assert way(seen) == [("a", "leaked_call"), ("b", None)]
    assert "From b." in response.text
    assert TOOL["name"] not in response.text


def test_the_last_one_is_not_refused_for_a_leak() -> None:
    with chained(http_error(500), say(LEAK)) as chain:
        response, seen = chain.ask(tools=[TOOL])
    assert way(seen) == [("a", "server_error"), ("b", None)]
    assert seen.record.given is not None
    assert seen.record.given.text == LEAK
    assert events_of(response)[-1]["type"] == "message_stop"


def test_where_calls_are_recovered_a_leak_is_no_failure() -> None:
    with chained(say(LEAK), say("x"), policy=Policy(recover_leaks=True)) as chain:
        _, seen = chain.ask(tools=[TOOL])
    assert (way(seen), seen.record.recovered) == ([("a", None)], 1)


@pytest.mark.parametrize("text", [LEAK + " Done.", '{"weather": "snow"}', "```\nls\n```", "{"])
def test_a_text_that_only_begins_like_a_call_is_passed_on_whole(text: str) -> None:
    with chained(say(text, piece_chars=2), say("x")) as chain:
        _, seen = chain.ask(tools=[TOOL])
    assert way(seen) == [("a", None)]
    assert seen.record.given is not None
    assert seen.record.given.text == text


def test_an_endpoint_that_leaks_again_and_again_is_left_alone() -> None:
    with chained(say(LEAK), say("From b.")) as chain:
        kinds = [way(chain.ask(tools=[TOOL])[1])[0][1] for _ in range(4)]
    assert kinds == ["leaked_call"] * 3 + ["circuit_open"]


# the breaker, at work


def test_a_hung_primary_is_waited_for_once() -> None:
    with chained(hang(), say("From b.")) as chain:
        ways = [way(chain.ask(streamed=streamed)[1]) for streamed in (True, False, True)]
    assert ways == [
        [("a", "hung"), ("b", None)],
        [("a", "circuit_open"), ("b", None)],
        [("a", "circuit_open"), ("b", None)],
    ]
    assert chain.asked == [1, 3]


def test_a_failing_primary_is_asked_three_times() -> None:
    with chained(http_error(500), say("From b.")) as chain:
        kinds = [way(chain.ask()[1])[0][1] for _ in range(5)]
    assert kinds == ["server_error"] * 3 + ["circuit_open"] * 2


def test_a_server_that_says_when_to_come_back_is_believed() -> None:
    with chained(http_error(429, retry_after="60"), say("From b.")) as chain:
        kinds = [way(chain.ask()[1])[0][1] for _ in range(2)]
    assert kinds == ["rate_limit", "circuit_open"]


def test_when_every_circuit_is_open_all_are_asked() -> None:
    later = http_error(503, "later", retry_after="7")
    with chained([hang(), hang(), say("Back.")], [later, later, say("x")]) as chain:
        for _ in range(2):
            refused, seen = chain.ask()
            assert way(seen) == [("a", "hung"), ("b", "overloaded")]
            assert refused.status_code == 503
            assert refused.headers["retry-after"] == "7"
            error = refused.json()["error"]
            assert error["message"] == "later (2 of 2 endpoints asked, b failed last)"
            assert getattr(seen.failure, "status", None) == 503
        response, seen = chain.ask()
        assert response.headers["x-agentlimit-served-by"] == "a"
        assert way(chain.ask()[1]) == [("a", None)]


def test_a_fault_of_a_request_or_a_model_says_nothing_about_the_endpoint() -> None:
    script = [OVERFLOW] * 4 + [stream(BAD_CALL, chunk(finish="tool_calls"))] * 4 + [say("Still.")]
    with chained(script, say("From b.")) as chain:
        for _ in range(8):
            assert chain.ask()[0].headers["x-agentlimit-served-by"] == "b"
        assert chain.ask()[0].headers["x-agentlimit-served-by"] == "a"


def test_a_client_that_leaves_is_no_failure_of_the_endpoint() -> None:
    gate = Gate()
    with ScriptedEndpoint([say("x")]) as server:
        spec = server.endpoint(name="a", base_url=f"http://127.0.0.1:{gate.port}/v1")
        records: queue.Queue[Seen] = queue.Queue()
        other = server.endpoint(name="b")
        with Bridge(spec, None, [other], observe=records.put) as bridge:
            with socket.create_connection(("127.0.0.1", bridge.port)) as client:
                client.sendall(request_bytes("/v1/messages"))
                assert gate.asked.wait(10)
            assert gate.left.wait(10)
            first = records.get(timeout=10)
            gate.close()
            httpx.post(f"{bridge.url}/v1/messages", json=HI)
            second = records.get(timeout=10)
    assert (first.record.client_left, first.failure) == (True, None)
    assert way(first) == [("a", "cancelled")]
    assert way(second) == [("a", "refused"), ("b", None)]


def test_a_request_that_is_given_up_is_ended_at_its_endpoint() -> None:
    silent, slow = Gate(), Gate()
    seen: queue.Queue[Seen] = queue.Queue()
    with ScriptedEndpoint([say("x")]) as server:
        first, second = (
            server.endpoint(name=name, base_url=f"http://127.0.0.1:{gate.port}/v1")
            for name, gate in (("a", silent), ("b", slow))
        )
        first = first.model_copy(update={"deadlines": SHORT})
        with Bridge(first, None, [second], observe=seen.put) as bridge:
            with socket.create_connection(("127.0.0.1", bridge.port)) as client:
                client.sendall(request_bytes("/v1/messages"))
                assert slow.asked.wait(10)
                assert silent.left.wait(10)
            assert slow.left.wait(10)
            told = seen.get(timeout=10)
    silent.close()
    slow.close()
    assert way(told) == [("a", "hung"), ("b", "cancelled")]
    assert told.failure is None


# each endpoint has its own


def test_every_endpoint_is_asked_in_its_own_words(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {"A_KEY": "sk-the-key-of-a-0123456789", "B_KEY": "sk-the-key-of-b-0123456789"}
    for variable, key in keys.items():
        monkeypatch.setenv(variable, key)
    specs: list[dict[str, Any]] = [
        {"model": "gpt-a", "api_key_env": "A_KEY", "headers": {"x-team": "red"}},
        {"model": "claude-b", "dialect": "anthropic", "api_key_env": "B_KEY"},
        {"model": "", "dialect": "ollama", "max_tokens": 9},
    ]
    with chained(http_error(500), http_error(500), say("From c."), specs=specs) as chain:
        for path in ("/v1/messages", "/v1/chat/completions"):
            response, _ = chain.ask(path, thinking={"type": "enabled", "budget_tokens": 7})
            assert "From c." in response.text
    paths = [{one.path for one in server.requests} for server in chain.servers]
    assert paths == [{"/v1/chat/completions"}, {"/v1/messages"}, {"/api/chat"}]
    models = [{one.body["model"] for one in server.requests} for server in chain.servers]
    assert models == [{"gpt-a"}, {"claude-b"}, {"m"}]
    first, second, third = (server.requests[0].headers for server in chain.servers)
    assert first["authorization"] == f"Bearer {keys['A_KEY']}"
    assert second["x-api-key"] == keys["B_KEY"]
    for headers, foreign in [(first, "B_KEY"), (second, "A_KEY"), (third, "A_KEY")]:
        assert keys[foreign] not in str(headers)
    assert "x-team" not in second | third
    assert not {"authorization", "x-api-key"} & set(third)


def test_the_capture_and_the_log_tell_of_every_switch_and_no_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "agentlimit")
    keys = {"A_KEY": "sk-the-key-of-a-0123456789", "B_KEY": "sk-the-key-of-b-0123456789"}
    for variable, key in keys.items():
        monkeypatch.setenv(variable, key)
    specs = [{"api_key_env": "A_KEY"}, {"api_key_env": "B_KEY"}]
    echo = f"I know {keys['A_KEY']} and {keys['B_KEY']}"
    replies = [http_error(503, echo), say(echo)]
    capture = tmp_path / "wire.jsonl"
    prompt = [{"role": "user", "content": echo}]
    with chained(*replies, specs=specs, capture=capture) as chain:
        for path in ("/v1/messages", "/v1/chat/completions"):
            chain.ask(path, messages=prompt, streamed=False)
        chain.servers[1].close()
        chain.ask(messages=prompt)
    text = capture.read_text()
    for key in keys.values():
        assert key not in text + caplog.text
    records = [json.loads(line) for line in text.splitlines()]
    assert [one["served_by"] for one in records] == ["b", "b", None]
    assert [(one["name"], one["kind"]) for one in records[0]["attempts"]] == [
        ("a", "overloaded"),
        ("b", None),
    ]
    assert "I know $A_KEY and $B_KEY" in text
    lines = [record.getMessage() for record in caplog.records]
    assert "served by b (a overloaded)" in lines[0]
    assert "served by nobody (a overloaded, b refused)" in lines[2]


def test_names_fit_into_a_header_and_differ(tmp_path: Path) -> None:
    specs = [{"name": "ollama/qwen3:4b\r\nx: y"}, {"name": "ollama/qwen3:4b\r\nx: y"}]
    with chained(http_error(500), say("x"), specs=specs) as chain:
        response, seen = chain.ask()
    assert response.headers["x-agentlimit-served-by"] == "ollama-qwen3-4b-x-y-2"
    assert [name for name, _ in way(seen)] == ["ollama-qwen3-4b-x-y", "ollama-qwen3-4b-x-y-2"]
    spec = upstream_spec("openai+http://127.0.0.1:8001/v1", root=tmp_path, environ={})
    assert (spec.name, spec.model) == ("127.0.0.1-8001", "")


def test_a_bridge_without_fallbacks_says_nothing_of_a_chain() -> None:
    with chained([say("Hi."), http_error(500, "no")]) as chain:
        response, seen = chain.ask()
        assert "x-agentlimit-served-by" not in response.headers
        assert (way(seen), seen.record.served_by) == ([("a", None)], "a")
        response, seen = chain.ask()
        assert response.json()["error"]["message"] == "no"


def test_a_fallback_that_cannot_be_asked_is_said_before_anything_listens(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("B_KEY", raising=False)
    with ScriptedEndpoint([say("x")]) as server:
        spec = server.endpoint()
        with pytest.raises(UsageProblem, match="B_KEY is not set"):
            Bridge(spec, None, [server.endpoint(api_key_env="B_KEY")])
        null = EndpointSpec(name="n", kind="null", base_url="null:", model="parrot")
        with pytest.raises(UsageProblem, match="no address"):
            Bridge(spec, None, [null])


def test_the_models_are_those_of_the_first_that_answers() -> None:
    with chained([hang(), say("x")], say("y")) as chain:
        chain.servers[1].model = "second"
        url = f"{chain.bridge.url}/v1/models"
        assert httpx.get(url).json()["data"][0]["id"] == "scripted"
        chain.ask()
        assert httpx.get(url).json()["data"][0]["id"] == "second"
        assert chain.servers[0].requests[-1].path == "/v1/chat/completions"
        chain.servers[1].close()
        assert httpx.get(url).json()["data"][0]["id"] == "scripted"
        chain.servers[0].close()
        assert httpx.get(url).status_code == 502


def test_the_primarys_tokenizer_counts_and_only_while_it_is_sound() -> None:
    routes = {"/tokenize": raw(b'{"count": 78}')}
    with (
        ScriptedEndpoint([hang()], routes=routes) as first,
        ScriptedEndpoint([say("x")]) as second,
    ):
        specs = [first.endpoint(deadlines=SHORT), second.endpoint()]
        with Bridge(specs[0], None, specs[1:]) as bridge:
            url = f"{bridge.url}/v1/messages"
            assert httpx.post(f"{url}/count_tokens", json=HI).json() == {"input_tokens": 78}
            httpx.post(url, json=HI)
            estimated = httpx.post(f"{url}/count_tokens", json=HI)
    assert estimated.headers["x-agentlimit-tokens"] == "estimated"
    assert [one.path for one in first.requests] == ["/tokenize", "/v1/chat/completions"]


def test_nothing_of_a_chain_is_left_when_it_stops() -> None:
    process = psutil.Process()
    sockets = len(process.net_connections())
    with chained([http_error(500), hang(), say("x")], say("y"), say("z")) as chain:
        for _ in range(3):
            chain.ask()
    assert len(process.net_connections()) == sockets


# the observer


def test_an_observer_sees_each_conversation_once() -> None:
    replies = [say("Hi."), http_error(500, "no"), stream(BAD_CALL, chunk(finish="tool_calls"))]
    with chained(replies, policy=Policy(max_turns=3)) as chain:
        httpx.post(f"{chain.bridge.url}/v1/messages/count_tokens", json=HI)
        _, first = chain.ask(tools=[TOOL])
        _, second = chain.ask("/v1/chat/completions")
        _, third = chain.ask()
        _, limited = chain.ask()
        httpx.post(f"{chain.bridge.url}/v1/messages", content=b"{")
        garbage = chain.seen.get(timeout=10)
    assert chain.seen.empty()
    assert first.request is not None
    assert [tool.name for tool in first.request.tools] == ["read"]
    assert first.record.request["tools"] == [TOOL]
    assert first.started < first.ended < second.started
    assert getattr(second.failure, "status", None) == 500
    assert (third.failure, third.record.error is not None) == (None, True)
    turns = [one.record.turn_limit for one in (first, second, third, limited, garbage)]
    assert turns == [False, False, False, True, False]
    assert (limited.failure, limited.record.attempts, limited.record.status) == (None, (), 400)
    assert (garbage.request, garbage.failure, garbage.record.status) == (None, None, 400)


def test_an_observer_that_fails_costs_nobody_an_answer(caplog: pytest.LogCaptureFixture) -> None:
    def observe(seen: Seen) -> None:
        raise RuntimeError("mine")

    with (
        ScriptedEndpoint([say("Hi.")]) as server,
        Bridge(server.endpoint(), observe=observe) as bridge,
    ):
        for _ in range(2):
            assert httpx.post(f"{bridge.url}/v1/messages", json=HI).status_code == 200
    assert "the observer of the bridge failed" in caplog.text
