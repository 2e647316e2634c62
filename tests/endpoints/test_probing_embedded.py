from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_agentlimit.chat.messages import ChatRequest, Message, TextBlock
from pytest_agentlimit.endpoints import catalog
from pytest_agentlimit.endpoints.client import EndpointClient
from pytest_agentlimit.endpoints.connect import open_client
from pytest_agentlimit.endpoints.embedded import EmbeddedServer, start_embedded
from pytest_agentlimit.endpoints.probing import Budget, Diagnosis, ladder, run_ladder
from pytest_agentlimit.endpoints.probing.context import MOST_REQUESTS
from pytest_agentlimit.endpoints.resolve import resolve
from pytest_agentlimit.endpoints.spec import EndpointSpec
from pytest_agentlimit.endpoints.timing import Exchange
from pytest_agentlimit.errors import HTTPFailure

pytest.importorskip("xllamacpp")

PATIENT = Budget(total_s=300.0, first_s=120.0, call_s=120.0, cold_s=120.0)
"""A machine that has much to do makes a slow server, not an ill one."""
SERVED, MORE = 512, 768
GREETING = "Say hello and name one colour."


def serving(context: int) -> EmbeddedServer:
    spec = resolve("smollm2", root=Path("/"), environ={})
    return start_embedded(spec.model_copy(update={"context_window": context}))


def declaring(server: EmbeddedServer, context: int | None, **changes: Any) -> EndpointSpec:
    return server.spec.model_copy(update={"context_window": context, **changes})


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedServer]:
    assert catalog.find("smollm2"), "the embedded model is not there: run `agentlimit pull smollm2`"
    with serving(SERVED) as running:
        yield running


@pytest.fixture(scope="module")
def diagnosis(server: EmbeddedServer) -> Diagnosis:
    return run_ladder(declaring(server, 2 * SERVED), budget=PATIENT)


@pytest.fixture
def client(server: EmbeddedServer) -> Iterator[EndpointClient]:
    with open_client(server.spec) as opened:
        yield opened


def asking(text: str) -> ChatRequest:
    message = Message(role="user", blocks=(TextBlock(text=text),))
    return ChatRequest(model="", messages=(message,), max_tokens=2, stream=False)


def only(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    steps = tuple(step for step in ladder.STEPS if step.name in {"connect", "models", *names})
    monkeypatch.setattr(ladder, "STEPS", steps)


def test_the_only_fault_is_the_claim_that_does_not_hold(diagnosis: Diagnosis) -> None:
    assert [found.code for found in diagnosis.faults] == ["context_smaller"]
    assert diagnosis.requests <= 16


def test_what_is_advertised_is_what_the_server_says(
    diagnosis: Diagnosis, client: EndpointClient
) -> None:
    properties = client.get_json("/props", from_root=True)
    (slot,) = client.get_json("/slots", from_root=True)
    template = properties["chat_template"].encode()
    said = {
        "engine": "llama.cpp",
        "engine_version": properties["build_info"],
        "quantisation": properties["model_ftype"],
        "template_hash": hashlib.sha256(template).hexdigest()[:12],
        "tools_advertised": properties["chat_template_caps"]["supports_tools"],
        "context_advertised": properties["default_generation_settings"]["n_ctx"],
    }
    assert {key: diagnosis.facts[key] for key in said} == said
    assert diagnosis.facts["context_advertised"] == slot["n_ctx"] == SERVED
    assert properties["total_slots"] == 1


def test_what_was_seen_is_what_this_server_does(diagnosis: Diagnosis) -> None:
    seen = {
        "usage_reported": True,
        "json_schema": True,
        "mid_system": True,
        "null_content": True,
        "arguments": "string",
        "concurrency": True,
        "reasoning": None,
        "prompt_cache": True,
        "overflow": "loud",
        "context_estimated": False,
        "context_declared": 2 * SERVED,
    }
    assert {key: diagnosis.facts[key] for key in seen} == seen


def test_the_measured_context_is_the_one_in_the_log(
    diagnosis: Diagnosis, client: EndpointClient, server: EmbeddedServer
) -> None:
    measured = diagnosis.facts["context_measured"]
    assert measured == pytest.approx(SERVED, rel=0.1)
    with pytest.raises(HTTPFailure):
        client.send(asking("The sea is calm. " * measured))
    assert f"exceeds the available context size ({measured} tokens)" in server.log_tail()


def test_tokens_are_counted_as_the_tokeniser_counts(client: EndpointClient) -> None:
    messages = [{"role": "user", "content": GREETING}]
    prompt = client.get_json("/apply-template", from_root=True, body={"messages": messages})
    text = {"content": prompt["prompt"], "add_special": True, "parse_special": True}
    tokens = client.get_json("/tokenize", from_root=True, body=text)["tokens"]
    assert client.send(asking(GREETING)).usage.input_tokens == len(tokens)


def test_cached_tokens_are_those_of_the_servers_own_clock(client: EndpointClient) -> None:
    client.send(asking(GREETING))
    body = {"messages": [{"role": "user", "content": GREETING}], "max_tokens": 2}
    timings = client.get_json("/chat/completions", body=body)["timings"]
    usage = client.send(asking(GREETING)).usage
    assert usage.cached_tokens == timings["cache_n"] > 0
    assert usage.input_tokens == timings["cache_n"] + timings["prompt_n"]


def test_a_prompt_cache_that_is_turned_off_is_seen(
    server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    only(monkeypatch, "text", "stream", "usage")
    spec = declaring(server, SERVED, extra_body={"cache_prompt": False})
    diagnosis = run_ladder(spec, budget=PATIENT)
    assert diagnosis.facts["prompt_cache"] is False
    assert diagnosis.faults == ()


class Terse(EndpointClient):
    """Meets a server that says nothing of itself."""

    def get_json(
        self, path: str, *, from_root: bool = False, body: dict[str, Any] | None = None
    ) -> Any:
        if path == "/props":
            raise HTTPFailure("no such route", status=404, kind="not_found", blame="config")
        return super().get_json(path, from_root=from_root, body=body)


def measured(
    spec: EndpointSpec,
    monkeypatch: pytest.MonkeyPatch,
    kind: type[EndpointClient] = EndpointClient,
) -> tuple[Diagnosis, int]:
    """The diagnosis of the context alone, and how many prompts it took."""
    only(monkeypatch, "context claims", "text", "context")
    calls: list[Exchange] = []
    with kind(spec, on_exchange=calls.append) as client:
        diagnosis = run_ladder(spec, client=client, budget=PATIENT)
    prompts = [call.request.messages[-1].text for call in calls]
    return diagnosis, sum("secret word" in prompt for prompt in prompts)


def test_the_context_is_measured_in_eight_requests(
    server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    diagnosis, prompts = measured(declaring(server, None), monkeypatch)
    assert diagnosis.faults == ()
    assert diagnosis.facts["context_measured"] == pytest.approx(SERVED, rel=0.1)
    assert 0.85 * SERVED < diagnosis.facts["context_fits"] < SERVED
    assert prompts <= MOST_REQUESTS


def test_a_claim_that_the_server_does_not_deny_is_measured(
    smollm2: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(MORE) as larger:
        diagnosis, prompts = measured(declaring(larger, 8 * MORE), monkeypatch, Terse)
    assert diagnosis.facts["context_advertised"] is None
    assert [found.code for found in diagnosis.faults] == ["context_smaller"]
    assert diagnosis.facts["context_measured"] == pytest.approx(MORE, rel=0.1)
    assert diagnosis.facts["context_fits"] > 0.85 * MORE
    assert prompts <= MOST_REQUESTS
