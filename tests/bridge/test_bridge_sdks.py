from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import pytest
from bridge_kit import TOOL, Stage, stream

from pytest_agentlimit.chat.messages import Dialect, ToolResult
from pytest_agentlimit.testing import Scripted, call, calls, http_error, raw, say

HI: Any = [{"role": "user", "content": "hi"}]
FUNCTION: Any = {
    "type": "function",
    "function": {"name": "read", "parameters": TOOL["input_schema"]},
}
LLAMA_OVERFLOW = b"""{"error": {"code": 400, "type": "exceed_context_size_error",
    "message": "the request exceeds the available context size, try increasing it",
    "n_prompt_tokens": 12030, "n_ctx": 8192}}"""
VLLM_OVERFLOW = b"""{"object": "error", "type": "BadRequestError", "code": 400, "message":
    "This model's maximum context length is 8192 tokens. However, you requested 12030 tokens"}"""


@pytest.fixture(scope="module", params=["openai", "anthropic", "ollama"])
def spoken(request: pytest.FixtureRequest) -> Iterator[Stage]:
    """A bridge to an upstream of each dialect."""
    dialect: Dialect = request.param
    with Stage(dialect).open() as stage:
        yield stage


@pytest.fixture
def claude(spoken: Stage) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=spoken.bridge.url, api_key="k", max_retries=0) as client:
        yield client


@pytest.fixture
def gpt(spoken: Stage) -> Iterator[openai.OpenAI]:
    url = f"{spoken.bridge.url}/v1"
    with openai.OpenAI(base_url=url, api_key="k", max_retries=0) as client:
        yield client


def ask(client: anthropic.Anthropic, streamed: bool, **fields: Any) -> anthropic.types.Message:
    given: dict[str, Any] = {"model": "m", "max_tokens": 64, "messages": HI} | fields
    if not streamed:
        message: anthropic.types.Message = client.messages.create(**given)
        return message
    with client.messages.stream(**given) as events:
        return events.get_final_message()


both_forms = pytest.mark.parametrize("streamed", [True, False], ids=["stream", "whole"])


@both_forms
def test_text_and_thinking(spoken: Stage, claude: anthropic.Anthropic, streamed: bool) -> None:
    spoken.next = say("Hello there.", thinking="They greet.")
    message = ask(claude, streamed, system="Be kind.")
    thought, text = message.content
    assert thought.type == "thinking"
    assert thought.thinking == "They greet."
    assert thought.signature
    assert text.type == "text"
    assert text.text == "Hello there."
    assert message.stop_reason == "end_turn"
    assert (message.usage.input_tokens, message.usage.output_tokens) == (10, 5)
    assert spoken.upstream.chat_requests[-1].system == "Be kind."


@both_forms
def test_parallel_calls(spoken: Stage, claude: anthropic.Anthropic, streamed: bool) -> None:
    spoken.next = calls(("read", {"path": "a.txt"}), ("read", {"path": "b.txt"}))
    message = ask(claude, streamed, tools=[TOOL])
    assert message.stop_reason == "tool_use"
    assert [block.input for block in message.content if block.type == "tool_use"] == [
        {"path": "a.txt"},
        {"path": "b.txt"},
    ]
    (offered,) = spoken.upstream.chat_requests[-1].tools
    assert (offered.name, offered.parameters) == ("read", TOOL["input_schema"])


def test_a_whole_turn_with_a_tool(spoken: Stage, claude: anthropic.Anthropic) -> None:
    spoken.next = call("read", path="a.txt")
    (block,) = ask(claude, True, tools=[TOOL]).content
    assert block.type == "tool_use"
    result = {
        "type": "tool_result",
        "tool_use_id": block.id,
        "content": [{"type": "text", "text": "42"}],
    }
    spoken.next = say("It says 42.")
    talk = [
        *HI,
        {"role": "assistant", "content": [block]},
        {"role": "user", "content": [result, {"type": "text", "text": "And?"}]},
    ]
    message = ask(claude, True, tools=[TOOL], messages=talk)
    assert message.content[0].type == "text"
    told = spoken.upstream.chat_requests[-1].messages
    assert [turn.role for turn in told] == ["user", "assistant", "tool", "user"]
    assert told[1].blocks[0].arguments == {"path": "a.txt"}  # type: ignore[union-attr]
    (answered,) = told[2].blocks
    assert isinstance(answered, ToolResult)
    assert answered.content == "42"


@pytest.mark.parametrize(
    ("status", "wanted"),
    [
        (400, anthropic.BadRequestError),
        (401, anthropic.AuthenticationError),
        (404, anthropic.NotFoundError),
        (429, anthropic.RateLimitError),
        (503, anthropic.InternalServerError),
    ],
)
@both_forms
def test_http_errors_keep_their_status(
    spoken: Stage,
    claude: anthropic.Anthropic,
    streamed: bool,
    status: int,
    wanted: type[anthropic.APIStatusError],
) -> None:
    spoken.next = http_error(status, "not today", retry_after="7")
    with pytest.raises(wanted) as caught:
        ask(claude, streamed)
    assert caught.value.status_code == status
    assert caught.value.response.headers["retry-after"] == "7"
    body: Any = caught.value.body
    assert body["type"] == "error"
    assert "not today" in body["error"]["message"]


@pytest.mark.parametrize("body", [LLAMA_OVERFLOW, VLLM_OVERFLOW], ids=["llama.cpp", "vllm"])
def test_an_overflow_is_told_in_the_words_clients_look_for(
    spoken: Stage, claude: anthropic.Anthropic, body: bytes
) -> None:
    spoken.next = raw(body, status=400)
    with pytest.raises(anthropic.BadRequestError) as caught:
        ask(claude, True)
    error: Any = caught.value.body
    assert error["error"] == {
        "type": "invalid_request_error",
        "message": "prompt is too long: 12030 tokens > 8192 maximum",
    }


def test_a_cut_stream_raises_in_the_client(spoken: Stage, claude: anthropic.Anthropic) -> None:
    spoken.next = say("a story that breaks off somewhere", piece_chars=4, cut_after=3)
    with pytest.raises(anthropic.APIStatusError, match="cut the reply short"):
        ask(claude, True)


def test_tokens_are_always_counted(spoken: Stage, claude: anthropic.Anthropic) -> None:
    reply = claude.messages.with_raw_response.count_tokens(
        model="m", messages=[{"role": "user", "content": "x" * 400}], tools=[TOOL]
    )
    assert reply.headers["x-agentlimit-tokens"] == "estimated"
    assert 100 < reply.parse().input_tokens < 200


def test_the_upstreams_models_are_listed(
    spoken: Stage, claude: anthropic.Anthropic, gpt: openai.OpenAI
) -> None:
    assert [model.id for model in claude.models.list()] == ["scripted"]
    assert [model.id for model in gpt.models.list()] == ["scripted"]


# the other door


@both_forms
def test_chat_completions(spoken: Stage, gpt: openai.OpenAI, streamed: bool) -> None:
    spoken.next = Scripted(
        blocks=(*say("Wait.").blocks, *calls(("read", {"path": "a.txt"}), ("read", {})).blocks)
    )
    given: Any = {"model": "m", "messages": HI, "tools": [FUNCTION]}
    if streamed:
        with gpt.chat.completions.stream(**given, stream_options={"include_usage": True}) as events:
            reply = events.get_final_completion()
    else:
        reply = gpt.chat.completions.create(**given)
    choice = reply.choices[0]
    assert choice.message.content == "Wait."
    asked = [one.function for one in choice.message.tool_calls or () if one.type == "function"]
    assert [(one.name, json.loads(one.arguments)) for one in asked] == [
        ("read", {"path": "a.txt"}),
        ("read", {}),
    ]
    assert choice.finish_reason == "tool_calls"
    assert reply.usage is not None
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (10, 5)


def test_counts_are_streamed_only_to_clients_that_asked(spoken: Stage, gpt: openai.OpenAI) -> None:
    spoken.next = say("Hello.")
    chunks = list(gpt.chat.completions.create(model="m", messages=HI, stream=True))
    assert all(one.choices and one.usage is None for one in chunks)


def test_chat_completions_errors(spoken: Stage, gpt: openai.OpenAI) -> None:
    spoken.next = http_error(429, "slower, please")
    with pytest.raises(openai.RateLimitError, match="slower, please"):
        gpt.chat.completions.create(model="m", messages=HI)


def test_an_error_inside_a_stream_reaches_a_chat_completions_client(stage: Stage) -> None:
    stage.next = stream({"error": {"message": "out of memory"}})
    with openai.OpenAI(base_url=f"{stage.bridge.url}/v1", api_key="k", max_retries=0) as client:
        chunks = client.chat.completions.create(model="m", messages=HI, stream=True)
        with pytest.raises(openai.APIError, match="out of memory"):
            list(chunks)
