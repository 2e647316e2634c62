"""Scripted servers with one fault each, and healthy ones: what a diagnosis has to tell apart."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from zoo_keepers import (
    BILLED,
    CONTEXT,
    Keeper,
    asks_with_tools,
    breaking,
    cold,
    empty_on_overflow,
    hanging_on_long,
    healthy,
    in_agent_shape,
    instead,
    leaked,
    merging,
    mid_system,
    mind,
    mute,
    no_null,
    nonsense,
    one_at_a_time,
    own_json,
    past_calls,
    plain,
    refuses_two,
    required,
    second_hangs,
    small,
    streams_tools,
    thinker,
    thinks_for_ever,
    truncating,
    wants_objects,
    wordless,
)

from pytest_agentlimit.chat.messages import (
    Dialect,
    ThinkingBlock,
    Usage,
)
from pytest_agentlimit.endpoints.probing import Diagnosis, run_ladder
from pytest_agentlimit.endpoints.spec import EndpointSpec
from pytest_agentlimit.testing import (
    Scripted,
    ScriptedEndpoint,
    call,
    calls,
    hang,
    html,
    http_error,
    raw,
    say,
)

EVERY: tuple[Dialect, ...] = ("openai", "anthropic", "ollama")
LISTS = {"openai": "/v1/models", "anthropic": "/v1/models", "ollama": "/api/tags"}


@dataclass(frozen=True)
class Animal:
    """One server: how it answers, what its diagnosis has to be (None: healthy), where it lives."""

    name: str
    keeper: Callable[[ScriptedEndpoint], Keeper]
    code: str | None = None
    blame: str | None = None
    dialects: tuple[Dialect, ...] = EVERY
    spec: Mapping[str, Any] = field(default_factory=dict)
    """Changes of the EndpointSpec under diagnosis."""
    server: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of the ScriptedEndpoint."""
    listed: Scripted | None = None
    """What the route of the model list answers."""

    def __str__(self) -> str:
        return self.name


@contextmanager
def kept(animal: Animal, dialect: Dialect) -> Iterator[tuple[ScriptedEndpoint, EndpointSpec]]:
    """The running server of an animal and the endpoint to diagnose."""
    den: list[Keeper] = []
    routes = {} if animal.listed is None else {LISTS[dialect]: animal.listed}
    options: dict[str, Any] = {"dialect": dialect, "routes": routes, **animal.server}
    with ScriptedEndpoint(lambda request: den[0](request), **options) as server:
        den.append(animal.keeper(server))
        spec = {"context_window": CONTEXT, **animal.spec}
        if "base_url" in spec:
            spec["base_url"] = spec["base_url"].format(port=server.port)
        yield server, server.endpoint(**spec)


LEAK = '<tool_call>{"name": "get_weather", "arguments": {"city": "Oslo"}}</tool_call>'
BARE_LEAK = '{"name": "get_weather", "arguments": {"city": "Oslo"}}'
NO_PARSER = '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'
INSIDE = Scripted(blocks=(ThinkingBlock(text=LEAK),), usage=BILLED)
VLLM = {"id": "scripted", "owned_by": "vllm", "max_model_len": CONTEXT // 2}
HALF_LISTED = raw(json.dumps({"object": "list", "data": [VLLM]}).encode())

HEALTHY = (
    Animal("healthy", plain(healthy)),
    Animal("nonsense", plain(nonsense)),
    Animal("mute", plain(mute)),
    Animal("json of its own", plain(own_json), dialects=("openai", "anthropic")),
    Animal("thinker", plain(thinker)),
    Animal("nothing declared", plain(small), spec={"context_window": None}),
    Animal("no model list", plain(healthy), listed=http_error(404, "no such route")),
)

ILL = (
    Animal("web page", plain(healthy), "html", "config", listed=html()),
    Animal("wrong key", plain(healthy), "auth", "config", server={"api_key": "other"}),
    Animal("wrong model", plain(healthy), "wrong_model", "config", spec={"model": "qwen3"}),
    Animal(
        "missing /v1",
        plain(healthy),
        "wrong_base",
        "config",
        ("openai",),
        spec={"base_url": "http://127.0.0.1:{port}"},
    ),
    Animal(
        "extra /v1",
        plain(healthy),
        "wrong_base",
        "config",
        ("anthropic", "ollama"),
        spec={"base_url": "http://127.0.0.1:{port}/v1"},
    ),
    Animal("silent", plain(healthy), "hung", "engine", listed=hang()),
    Animal("hangs at once", plain(lambda request: hang()), "hung", "engine"),
    Animal("second hangs", second_hangs, "hangs_later", "engine"),
    Animal("cold", cold, "cold_start", "config"),
    Animal("thinks for ever", plain(thinks_for_ever), "reasoning_eats_budget", "config"),
    Animal(
        "empty", plain(lambda request: say("").with_(usage=BILLED)), "empty_completion", "engine"
    ),
    Animal(
        "no stream",
        plain(lambda request: healthy(request).with_(stream=False)),
        "stream_ignored",
        "engine",
    ),
    Animal(
        "counts nothing",
        plain(lambda request: mind(request).with_(usage=Usage())),
        "usage_missing",
        "engine",
        spec={"context_window": None},
    ),
    Animal("leaks", leaked(LEAK), "leaked_call", "engine"),
    Animal("leaks JSON", leaked(BARE_LEAK), "leaked_call", "engine"),
    Animal("call in reasoning", instead(asks_with_tools, INSIDE), "call_in_reasoning", "engine"),
    Animal(
        "loses calls",
        instead(asks_with_tools, say("").with_(usage=BILLED)),
        "lost_call",
        "engine",
    ),
    Animal("no parser", instead(asks_with_tools, http_error(400, NO_PARSER)), "no_tool_parser"),
    Animal(
        "no tools",
        instead(asks_with_tools, http_error(400, "scripted does not support tools")),
        "no_tools",
    ),
    Animal(
        "plain stop",
        instead(asks_with_tools, call("get_weather", city="Oslo").with_(stop_reason="end_turn")),
        "stop_with_call",
        "engine",
        ("openai", "anthropic"),
    ),
    Animal("stream leaks", leaked(LEAK, everywhere=False), "stream_leaks_calls", "engine"),
    Animal(
        "stream loses calls",
        instead(streams_tools, say("One moment.").with_(usage=BILLED)),
        "stream_loses_calls",
        "engine",
    ),
    Animal(
        "stream breaks arguments",
        instead(streams_tools, calls(("get_weather", '{"city": "Os'))),
        "stream_breaks_arguments",
        "engine",
        ("openai", "anthropic"),
    ),
    Animal(
        "tool choice ignored",
        instead(required, say("Hello.").with_(usage=BILLED)),
        "tool_choice_ignored",
        "engine",
        ("openai", "anthropic"),
    ),
    Animal(
        "tool choice refused",
        instead(required, http_error(400, "tool_choice must be auto")),
        "tool_choice_refused",
        "engine",
        ("openai", "anthropic"),
    ),
    Animal("merges calls", plain(merging), "calls_merged", "engine", ("openai",)),
    Animal(
        "only bare",
        instead(in_agent_shape, say(LEAK).with_(usage=BILLED)),
        "leaked_call",
        "engine",
    ),
    Animal(
        "refuses null",
        instead(no_null, http_error(400, "content must be a string")),
        "null_content_refused",
        "engine",
        ("openai",),
    ),
    Animal("wants objects", wants_objects, "wants_arguments_object", "engine", ("openai",)),
    Animal(
        "refuses replay",
        instead(lambda request: bool(past_calls(request)), http_error(500, "template error")),
        "replay_refused",
        "engine",
    ),
    Animal(
        "schema ignored",
        instead(lambda request: request.json_schema is not None, say("The sea is blue.")),
        "schema_ignored",
        "engine",
    ),
    Animal(
        "schema refused",
        instead(lambda request: request.json_schema is not None, http_error(400, "no schemas")),
        "schema_refused",
        "engine",
    ),
    Animal(
        "system in the middle",
        instead(mid_system, http_error(400, "System message must be at the beginning.")),
        "mid_system_refused",
        "engine",
    ),
    Animal("one at a time", one_at_a_time, "concurrency_hang", "engine"),
    Animal("refuses two", refuses_two, "concurrency_refused", "engine"),
    Animal("truncates", plain(truncating), "silent_truncation", "config"),
    Animal("smaller context", plain(small), "context_smaller", "config"),
    Animal("smaller, unsaid", plain(wordless), "context_smaller", "config"),
    Animal(
        "smaller, advertised",
        plain(small),
        "context_smaller",
        "config",
        ("openai",),
        listed=HALF_LISTED,
    ),
    Animal("empty on overflow", plain(empty_on_overflow), "empty_on_overflow", "engine"),
    Animal("breaks on long", plain(breaking), "breaks_on_long", "engine"),
    Animal("hangs on long", plain(hanging_on_long), "hangs_on_long", "engine"),
    Animal(
        "no window in OpenClaw",
        plain(healthy),
        "no_context_window",
        "config",
        spec={"context_window": None, "source": "OpenClaw config x"},
    ),
)

ZOO = {animal.name: animal for animal in HEALTHY + ILL}


def diagnose(animal: Animal, dialect: Dialect = "openai", **options: Any) -> Diagnosis:
    """The diagnosis of an animal; `options` of run_ladder."""
    with kept(animal, dialect) as (_, spec):
        return run_ladder(spec, **options)


def listing(**entry: Any) -> Scripted:
    """A model list with one entry."""
    return raw(json.dumps({"object": "list", "data": [{"id": "scripted", **entry}]}).encode())


def engine(name: str) -> dict[str, Any]:
    """Arguments of a ScriptedEndpoint that says it is this engine."""
    routes: dict[str, dict[str, Any]] = {
        "vLLM": {"/v1/models": listing(owned_by="vllm"), "/version": raw(b'{"version": "1"}')},
        "llama.cpp": {
            "/v1/models": listing(owned_by="llamacpp"),
            "/props": raw(b'{"default_generation_settings": {"n_ctx": 8192}}'),
        },
        "Ollama": {
            "/v1/models": listing(owned_by="library"),
            "/api/version": raw(b'{"version": "0.40"}'),
            "/api/show": raw(b'{"parameters": "num_ctx 8192", "capabilities": ["tools"]}'),
        },
    }
    return {"routes": routes[name]}
