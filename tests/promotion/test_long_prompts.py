from __future__ import annotations

from random import Random

import pytest
from promotion_driver import run_check
from promotion_oracle import oracle_reply
from pytest_agentlimit.example_suites.promotion.long_prompts import (
    LONG,
    LONG_CONTEXT,
    long_task,
)

from pytest_agentlimit.chat.messages import ChatRequest, Usage
from pytest_agentlimit.endpoints.connect import open_client
from pytest_agentlimit.errors import ExpectationFailed
from pytest_agentlimit.testing import Scripted, ScriptedEndpoint, raw

LONG_CHECK, HALF_CHECK = "uses_head_of_64k_tokens", "uses_half_of_its_context"


def counting(
    characters_per_token: float, most: int = 10**9, routes: dict[str, Scripted] | None = None
) -> ScriptedEndpoint:
    """A perfect model whose server counts tokens so, and reads no more than `most`."""

    def reply(request: ChatRequest) -> Scripted:
        tokens = int(40 + len(request.messages[0].text) / characters_per_token)
        usage = Usage(input_tokens=min(tokens, most), output_tokens=3)
        return oracle_reply(request).with_(usage=usage)

    return ScriptedEndpoint(reply, routes=routes)


@pytest.mark.parametrize("characters_per_token", [2.1, 3.0, 4.5])
def test_the_long_prompt_has_64_000_tokens_whatever_a_token_is(characters_per_token: float) -> None:
    with counting(characters_per_token) as server:
        with open_client(server.endpoint(context_window=LONG_CONTEXT)) as client:
            for seed in range(4):
                run_check(LONG_CHECK, client, seed)
        for sent in server.chat_requests[2::3]:
            tokens = 40 + len(sent.messages[0].text) / characters_per_token
            assert tokens == pytest.approx(LONG, rel=0.006)
            assert tokens + (sent.max_tokens or 0) <= LONG_CONTEXT


@pytest.mark.parametrize(("declared", "half"), [(131_072, 65_536), (8192, 4096), (None, 2048)])
def test_half_of_what_is_declared_is_filled(declared: int | None, half: int) -> None:
    with counting(3.0) as server:
        with open_client(server.endpoint(context_window=declared)) as client:
            run_check(HALF_CHECK, client, 1)
        tokens = 40 + len(server.chat_requests[-1].messages[0].text) / 3
        assert tokens == pytest.approx(half, rel=0.02)


def test_what_the_server_says_of_its_context_counts_when_nothing_is_configured() -> None:
    listing = b'{"data": [{"id": "scripted", "owned_by": "vllm", "max_model_len": 16384}]}'
    server = counting(3.0, routes={"/v1/models": raw(listing)})
    with server, open_client(server.endpoint()) as client:
        run_check(HALF_CHECK, client, 1)
        tokens = 40 + len(server.chat_requests[-1].messages[0].text) / 3
    assert tokens == pytest.approx(8192, rel=0.02)


@pytest.mark.parametrize(("declared", "why"), [(65_535, "65535 tokens"), (None, "no context")])
def test_the_long_prompt_is_skipped_with_a_reason(declared: int | None, why: str) -> None:
    with (
        counting(3.0) as server,
        open_client(server.endpoint(context_window=declared)) as client,
        pytest.raises(pytest.skip.Exception, match=f"{why}.*64000 .* 65536"),
    ):
        run_check(LONG_CHECK, client, 1)
    assert server.chat_requests == []


@pytest.mark.parametrize("check", [LONG_CHECK, HALF_CHECK])
def test_a_server_that_cuts_the_prompt_in_silence_is_the_fault_of_the_configuration(
    check: str,
) -> None:
    with (
        counting(3.0, most=8192) as server,
        open_client(server.endpoint(context_window=65_536)) as client,
        pytest.raises(ExpectationFailed, match="the server read 8192 of about") as failed,
    ):
        run_check(check, client, 1)
    assert failed.value.blame == "config"


def test_a_server_that_counts_nothing_gets_a_prompt_of_estimated_length() -> None:
    def reply(request: ChatRequest) -> Scripted:
        return oracle_reply(request).with_(usage=Usage())

    with ScriptedEndpoint(reply) as server:
        with open_client(server.endpoint(context_window=8192)) as client:
            run_check(HALF_CHECK, client, 1)
        assert len(server.chat_requests[-1].messages[0].text) == pytest.approx(4096 * 2.5, rel=0.05)


@pytest.mark.parametrize("seed", range(5))
def test_a_longer_prompt_begins_like_a_shorter_one_and_never_holds_the_answer(seed: int) -> None:
    task = long_task(Random(seed))
    short, long = task.prompt(30), task.prompt(3000)
    assert long.startswith(short.removesuffix(task.question))
    assert task.prompt(3000) == long
    assert str(task.answer) not in long
    assert 60 < long.count("bottles") < 400
