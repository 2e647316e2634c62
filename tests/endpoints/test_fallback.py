from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest

from pytest_agentlimit.chat.messages import (
    ChatRequest,
    Dialect,
    Message,
    TextBlock,
    Tool,
    ToolCall,
    ToolChoice,
    WireError,
)
from pytest_agentlimit.endpoints.fallback import Attempt, Chain, ChainFailed
from pytest_agentlimit.endpoints.spec import Deadlines, EndpointSpec
from pytest_agentlimit.errors import UsageProblem
from pytest_agentlimit.testing import (
    Scripted,
    ScriptedEndpoint,
    call,
    drop,
    endless,
    hang,
    html,
    http_error,
    raw,
    say,
)

SHORT = {
    "hung": Deadlines(first_byte_s=0.3),
    "stalled": Deadlines(between_chunks_s=0.3),
    "slow": Deadlines(total_s=0.3),
}
"""Only the deadline that a test is about is short: machines under load are slow at anything."""
LEAK = '<tool_call>{"name": "get_weather", "arguments": {"city": "Oslo"}}</tool_call>'
WEATHER = Tool("get_weather", "The weather in a city.", {"type": "object"})
LONG = say("It snows in Oslo, as it often does.", piece_chars=4)
OVERFLOW = http_error(400, "the prompt exceeds the maximum context length of 4096 tokens")
IN_STREAM = raw(
    b'data: {"error": {"code": 400, "message": "maximum context length is 4096 tokens"}}\n\n',
    "text/event-stream",
)


def asking(**fields: Any) -> ChatRequest:
    turn = Message(role="user", blocks=(TextBlock(text="the weather in Oslo?"),))
    return ChatRequest(**{"model": "", "messages": (turn,), "tools": (WEATHER,), **fields})


class Servers:
    """Scripted servers and a chain over them, in order."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self.servers: list[ScriptedEndpoint] = []
        self.specs: list[EndpointSpec] = []

    def add(self, name: str, *replies: Scripted, dialect: Dialect = "openai", **spec: Any) -> None:
        server = self._stack.enter_context(
            ScriptedEndpoint(replies, model=f"{name}-model", dialect=dialect)
        )
        self.servers.append(server)
        self.specs.append(server.endpoint(name=name, **spec))

    def chain(self) -> Chain:
        return self._stack.enter_context(Chain(self.specs))

    def asked(self) -> list[int]:
        return [len(server.chat_requests) for server in self.servers]

    def close(self) -> None:
        self._stack.close()


@pytest.fixture
def servers() -> Iterator[Servers]:
    found = Servers()
    yield found
    found.close()


def kinds(attempts: tuple[Attempt, ...]) -> list[str | None]:
    return [attempt.error.kind if attempt.error else None for attempt in attempts]


@pytest.mark.parametrize(
    ("broken", "kind"),
    [
        (http_error(500), "server_error"),
        (http_error(503), "overloaded"),
        (http_error(529), "overloaded"),
        (http_error(429), "rate_limit"),
        (hang(), "hung"),
        (LONG.with_(stall_after=2), "stalled"),
        (endless(chunk_delay_s=0.1), "slow"),
        (drop(), "cut_stream"),
        (LONG.with_(cut_after=2), "cut_stream"),
        (raw(b"oops", "text/plain"), "not_json"),
        (say(""), "empty_reply"),
        (say("", thinking="Hm."), "empty_reply"),
        (say(LEAK), "leaked_call"),
        (say("", thinking=LEAK), "leaked_call"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_failing_endpoint_is_replaced(servers: Servers, broken: Scripted, kind: str) -> None:
    servers.add("first", broken, deadlines=SHORT.get(kind, Deadlines()))
    servers.add("second", call("get_weather", city="Oslo"))
    served = servers.chain().send(asking())
    assert served.served_by == "second"
    assert served.reply.tool_calls[0].name == "get_weather"
    assert [attempt.name for attempt in served.attempts] == ["first", "second"]
    assert kinds(served.attempts) == [kind, None]
    assert servers.asked() == [1, 1]


def test_a_refused_connection_is_replaced(servers: Servers, free_port: int) -> None:
    servers.add("first", say("unheard"), base_url=f"http://127.0.0.1:{free_port}/v1")
    servers.add("second", say("It snows."))
    served = servers.chain().send(asking())
    assert (served.reply.text, kinds(served.attempts)) == ("It snows.", ["refused", None])


@pytest.mark.parametrize("answer", [http_error(400), http_error(401), http_error(404), html()])
def test_a_fault_of_the_caller_is_not_hidden(servers: Servers, answer: Scripted) -> None:
    servers.add("first", answer)
    servers.add("second", say("It snows."))
    with pytest.raises(ChainFailed, match="first turned the request down") as caught:
        servers.chain().send(asking())
    assert servers.asked() == [1, 0]
    assert caught.value.blame == "config"
    assert len(caught.value.attempts) == 1


def test_a_fallback_that_turns_the_request_down_is_named(servers: Servers) -> None:
    servers.add("first", http_error(500))
    servers.add("second", http_error(401, "no such key"))
    servers.add("third", say("It snows."))
    with pytest.raises(ChainFailed, match="second turned the request down.*no such key") as caught:
        servers.chain().send(asking())
    assert kinds(caught.value.attempts) == ["server_error", "auth"]
    assert servers.asked() == [1, 1, 0]


@pytest.mark.parametrize(
    ("answer", "changes"),
    [
        (say(LEAK), {"tools": ()}),
        (say(LEAK), {"tool_choice": ToolChoice(mode="none")}),
        (say("It snows.", thinking=LEAK), {}),
        (
            Scripted(blocks=(TextBlock(text=LEAK), ToolCall(id="1", name="get_weather"))),
            {},
        ),
        (say("Call get_weather when you like."), {}),
    ],
    ids=["no tools", "no call allowed", "only thought of", "also called", "prose"],
)
def test_what_is_no_leak_is_an_answer(
    servers: Servers, answer: Scripted, changes: dict[str, Any]
) -> None:
    servers.add("first", answer)
    servers.add("second", say("It snows."))
    assert servers.chain().send(asking(**changes)).served_by == "first"
    assert servers.asked() == [1, 0]


@pytest.mark.parametrize("answer", [OVERFLOW, IN_STREAM], ids=["status", "in stream"])
@pytest.mark.parametrize(
    ("window", "asked"), [(2048, False), (4096, False), (8192, True), (None, True)]
)
def test_an_overflow_goes_to_a_larger_context_only(
    servers: Servers, answer: Scripted, window: int | None, asked: bool
) -> None:
    servers.add("first", answer, context_window=4096)
    servers.add("second", say("It fits."), context_window=window)
    if asked:
        assert servers.chain().send(asking()).reply.text == "It fits."
        return
    with pytest.raises(ChainFailed, match="first failed last") as caught:
        servers.chain().send(asking())
    assert kinds(caught.value.attempts)[1] == "context_smaller"
    assert servers.asked() == [1, 0]


def test_a_reply_that_ran_out_of_context_is_an_overflow(servers: Servers) -> None:
    half = say("It", stop_reason="context_overflow")
    servers.add("first", half, dialect="anthropic", context_window=4096)
    servers.add("second", say("It snows."), context_window=8192)
    assert kinds(servers.chain().send(asking()).attempts) == ["context_overflow", None]


def test_without_an_overflow_the_context_says_nothing(servers: Servers) -> None:
    servers.add("first", http_error(500), context_window=4096)
    servers.add("second", say("It snows."), context_window=2048)
    assert servers.chain().send(asking()).served_by == "second"


def test_when_nobody_answers_everyone_who_was_asked_is_told(servers: Servers) -> None:
    servers.add("first", http_error(500))
    servers.add("second", LONG.with_(cut_after=3))
    with pytest.raises(ChainFailed, match="second failed last: .* cut the reply short") as caught:
        servers.chain().send(asking())
    failure = caught.value
    assert (failure.kind, failure.blame) == ("cut_stream", "engine")
    assert kinds(failure.attempts) == ["server_error", "cut_stream"]
    assert failure.partial.text == "It snows in "
    assert str(failure).count(failure.hint) == 1


def test_the_budget_holds_for_the_whole_chain(servers: Servers) -> None:
    servers.add("first", hang())
    servers.add("second", say("too late"))
    with pytest.raises(ChainFailed) as caught:
        servers.chain().send(asking(), budget_s=0.3)
    assert kinds(caught.value.attempts) == ["hung", "out_of_time"]
    assert servers.asked() == [1, 0]


def test_a_fallback_has_what_is_left_of_the_budget(servers: Servers) -> None:
    servers.add("first", http_error(500))
    servers.add("second", hang())
    with pytest.raises(ChainFailed) as caught:
        servers.chain().send(asking(), budget_s=0.5)
    assert kinds(caught.value.attempts) == ["server_error", "hung"]


def test_nobody_is_asked_twice_and_each_for_its_own_model(servers: Servers) -> None:
    servers.add("first", http_error(500), retries=3)
    servers.add("second", say("It snows."))
    servers.chain().send(asking(model="what the caller calls it"))
    assert servers.asked() == [1, 1]
    assert [server.chat_requests[0].model for server in servers.servers] == [
        "first-model",
        "second-model",
    ]


def test_one_chain_serves_several_threads(servers: Servers) -> None:
    servers.add("first", http_error(500))
    servers.add("second", say("It snows."))
    chain = servers.chain()
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda number: chain.send(asking(), 5.0 + number), range(12)))
    assert {one.served_by for one in found} == {"second"}
    assert servers.asked() == [12, 12]


def test_a_member_without_its_key_is_refused_at_once(servers: Servers) -> None:
    servers.add("first", say("It snows."))
    servers.add("second", say("It snows."), api_key_env="NO_SUCH_KEY_HERE")
    with pytest.raises(UsageProblem, match="'second'.*NO_SUCH_KEY_HERE is not set"):
        Chain(servers.specs)
    assert servers.asked() == [0, 0]


def test_an_error_inside_the_stream_that_is_no_overflow_moves_on(servers: Servers) -> None:
    error = WireError(status=500, kind="server_error", message="CUDA out of memory")
    body = b'data: {"error": {"code": 500, "message": "%s"}}\n\n' % error.message.encode()
    servers.add("first", raw(body, "text/event-stream"), context_window=4096)
    servers.add("second", say("It snows."), context_window=2048)
    served = servers.chain().send(asking())
    assert kinds(served.attempts) == ["stream_error", None]
