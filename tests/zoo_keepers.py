"""How the servers of the zoo answer: healthy ones, and each fault by itself."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from typing import Any

from pytest_agentlimit.chat.messages import (
    ChatRequest,
    Message,
    ThinkingBlock,
    ToolCall,
    ToolResult,
    Usage,
)
from pytest_agentlimit.testing import (
    Scripted,
    ScriptedEndpoint,
    call,
    calls,
    hang,
    http_error,
    raw,
    say,
)

CONTEXT = 8192
BILLED = Usage(input_tokens=60, output_tokens=20)
Keeper = Callable[[ChatRequest], Scripted]


# a healthy server


def tokens_of(request: ChatRequest) -> int:
    parts = [message.model_dump_json() for message in request.messages]
    parts += [tool.model_dump_json() for tool in request.tools]
    return sum(map(len, [*parts, request.system or ""])) // 4


def last_text(request: ChatRequest) -> str:
    return request.messages[-1].text


def used(reply: Scripted, request: ChatRequest, output: int = 12) -> Scripted:
    return reply.with_(usage=Usage(input_tokens=tokens_of(request), output_tokens=output))


def overflow(context: int = CONTEXT) -> Scripted:
    return http_error(400, f"the request exceeds the available context size ({context} tokens)")


def mind(request: ChatRequest) -> Scripted:
    """What a good model answers, whatever the size of the prompt."""
    text = last_text(request)
    if request.json_schema is not None:
        return say('{"colour": "red"}')
    if request.tool_choice is not None and request.tool_choice.mode == "required":
        return call("get_weather", city="Oslo")
    if any(isinstance(block, ToolResult) for block in request.messages[-1].blocks):
        return say("It snows in Oslo.")
    if request.tools and "Lima" in text:
        return calls(("get_weather", {"city": "Oslo"}), ("get_weather", {"city": "Lima"}))
    if request.tools and "weather" in text:
        return call("get_weather", city="Oslo")
    if found := re.search(r"The secret word is (\w+)", text):
        return say(found[1])
    return say("Hello, red is a colour.")


def healthy(request: ChatRequest) -> Scripted:
    if tokens_of(request) > CONTEXT:
        return overflow()
    return used(mind(request), request)


def nonsense(request: ChatRequest) -> Scripted:
    """A model that understands nothing, on a server that enforces what it is asked to."""
    if tokens_of(request) > CONTEXT:
        return overflow()
    if request.json_schema is not None:
        return used(say('{"colour": "green"}'), request)
    if request.tool_choice is not None:
        return used(call("get_weather", city="banana"), request)
    return used(say("banana banana the the"), request)


def mute(request: ChatRequest) -> Scripted:
    """A model that ends every free reply at once, on a server that is healthy."""
    if request.json_schema is not None or request.tool_choice is not None:
        return nonsense(request)
    if tokens_of(request) > CONTEXT:
        return overflow()
    return used(say(""), request, output=1)


def own_json(request: ChatRequest) -> Scripted:
    """A weak model writes JSON instead of its call format; the server can parse calls."""
    if request.tools and request.tool_choice is None and "weather" in last_text(request):
        return used(say('{"name": "get_weather", "arguments": {"city": "Oslo"}}'), request)
    return healthy(request)


def thinker(request: ChatRequest) -> Scripted:
    """A model that thinks first, and needs more tokens than a short probe gives."""
    if tokens_of(request) > CONTEXT:
        return overflow()
    thought = (ThinkingBlock(text="Let me think about that for a while."),)
    if request.max_tokens is not None and request.max_tokens < 200:
        return used(Scripted(blocks=thought, stop_reason="max_tokens"), request)
    answer = mind(request)
    return used(answer.with_(blocks=(*thought, *answer.blocks)), request)


# one fault each


def plain(keeper: Keeper) -> Callable[[ScriptedEndpoint], Keeper]:
    return lambda server: keeper


def instead(applies: Callable[[ChatRequest], bool], reply: Scripted) -> Any:
    """A server that is healthy but for the requests that `applies` picks."""

    def keeper(request: ChatRequest) -> Scripted:
        return reply if applies(request) else healthy(request)

    return plain(keeper)


def leaked(text: str, *, everywhere: bool = True) -> Any:
    def applies(request: ChatRequest) -> bool:
        wanted = bool(request.tools) and not isinstance(request.messages[-1].blocks[0], ToolResult)
        return wanted and (everywhere or request.stream)

    return instead(applies, say(text).with_(usage=BILLED))


def truncating(request: ChatRequest) -> Scripted:
    """A quarter of what is declared fits; of longer prompts the head is dropped."""
    size = tokens_of(request)
    if size <= CONTEXT // 4:
        return healthy(request)
    return say("What?").with_(usage=Usage(input_tokens=CONTEXT // 4, output_tokens=3))


def forgetting(request: ChatRequest) -> Scripted:
    """The same, and nothing is counted anywhere."""
    size = tokens_of(request)
    reply = mind(request) if size <= CONTEXT // 4 else say("What?")
    return reply.with_(usage=Usage())


def small(request: ChatRequest) -> Scripted:
    return overflow(CONTEXT // 2) if tokens_of(request) > CONTEXT // 2 else healthy(request)


def wordless(request: ChatRequest) -> Scripted:
    """Overflow is loud and does not say at how many tokens."""
    if tokens_of(request) > CONTEXT // 2:
        return http_error(400, "input is too long: prompt too long")
    return healthy(request)


def empty_on_overflow(request: ChatRequest) -> Scripted:
    if tokens_of(request) > CONTEXT // 2:
        return used(say(""), request, output=0)
    return healthy(request)


def breaking(request: ChatRequest) -> Scripted:
    return http_error(500, "boom") if tokens_of(request) > CONTEXT // 2 else healthy(request)


def hanging_on_long(request: ChatRequest) -> Scripted:
    return hang() if tokens_of(request) > CONTEXT // 2 else healthy(request)


def second_hangs(server: ScriptedEndpoint) -> Keeper:
    return lambda request: healthy(request) if len(server.chat_requests) < 2 else hang()


def cold(server: ScriptedEndpoint) -> Keeper:
    def keeper(request: ChatRequest) -> Scripted:
        first = len(server.chat_requests) < 2
        return healthy(request).with_(first_delay_s=1.0 if first else 0.0)

    return keeper


def one_at_a_time(server: ScriptedEndpoint) -> Keeper:
    """Of two requests at once, the second is never answered."""
    busy = threading.Lock()

    def keeper(request: ChatRequest) -> Scripted:
        alone = _only_one_greeting(server)
        if not alone and not busy.acquire(blocking=False):
            return hang()
        return healthy(request)

    return keeper


def refuses_two(server: ScriptedEndpoint) -> Keeper:
    busy = threading.Lock()

    def keeper(request: ChatRequest) -> Scripted:
        alone = not _greets(request) or _only_one_greeting(server)
        if not alone and not busy.acquire(blocking=False):
            return http_error(503, "no slot is free")
        return healthy(request)

    return keeper


def _only_one_greeting(server: ScriptedEndpoint) -> bool:
    """True until the streamed greeting is asked for again, which only the probe of two does."""
    return sum(map(_greets, list(server.chat_requests))) < 2


def _greets(request: ChatRequest) -> bool:
    return request.stream and not request.tools and "hello" in last_text(request)


def thinks_for_ever(request: ChatRequest) -> Scripted:
    if tokens_of(request) > CONTEXT:
        return overflow()
    thought = (ThinkingBlock(text="Hmm. " * 20),)
    return used(Scripted(blocks=thought, stop_reason="max_tokens"), request, output=1024)


def past_calls(request: ChatRequest) -> list[Message]:
    return [
        message
        for message in request.messages
        if any(isinstance(block, ToolCall) for block in message.blocks)
    ]


def no_null(request: ChatRequest) -> bool:
    return any(not message.text for message in past_calls(request))


def wants_objects(server: ScriptedEndpoint) -> Keeper:
    def keeper(request: ChatRequest) -> Scripted:
        for message in server.requests[-1].body["messages"]:
            for past in message.get("tool_calls", ()):
                if isinstance(past["function"]["arguments"], str):
                    return http_error(500, "can only concatenate str to str in the template")
        return healthy(request)

    return keeper


def mid_system(request: ChatRequest) -> bool:
    return any(message.role == "system" for message in request.messages)


def merging(request: ChatRequest) -> Scripted:
    if not (request.tools and request.stream and "Lima" in last_text(request)):
        return healthy(request)
    deltas: list[dict[str, Any]] = [
        {"role": "assistant", "tool_calls": [_delta("a", "Oslo")]},
        {"tool_calls": [_delta("b", "Lima")]},
    ]
    chunks = [{"choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]})
    chunks.append({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 9}})
    lines = [f"data: {json.dumps(chunk)}\n\n" for chunk in chunks] + ["data: [DONE]\n\n"]
    return raw("".join(lines).encode(), "text/event-stream")


def _delta(call_id: str, city: str) -> dict[str, Any]:
    function = {"name": "get_weather", "arguments": json.dumps({"city": city})}
    return {"index": 0, "id": call_id, "type": "function", "function": function}


def asks_with_tools(request: ChatRequest) -> bool:
    return bool(request.tools) and "weather" in last_text(request)


def streams_tools(request: ChatRequest) -> bool:
    return asks_with_tools(request) and request.stream


def required(request: ChatRequest) -> bool:
    return request.tool_choice is not None and request.tool_choice.mode == "required"


def in_agent_shape(request: ChatRequest) -> bool:
    return len(request.tools) > 1


def limited(true: int, look: str) -> Any:
    """A server with `true` tokens of context, and one way to deal with more."""

    def keeper(request: ChatRequest) -> Scripted:
        size = tokens_of(request)
        counted = Usage() if look == "uncounted" else Usage(input_tokens=size, output_tokens=9)
        if size <= true:
            return mind(request).with_(usage=counted)
        return {
            "loud": overflow(true),
            "wordless": http_error(400, "prompt too long"),
            "silent": say("What?").with_(usage=Usage(input_tokens=true, output_tokens=2)),
            "uncounted": say("What?").with_(usage=Usage()),
            "empty": say("").with_(usage=Usage(input_tokens=size, output_tokens=0)),
            "broken": http_error(500, "index out of range"),
        }[look]

    return plain(keeper)
