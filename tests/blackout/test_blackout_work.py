from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from blackout_kit import perfect

from pytest_agentlimit import Agent, Endpoint
from pytest_agentlimit.agents.workspace import Workspace
from pytest_agentlimit.chat.messages import ChatRequest, Message, TextBlock
from pytest_agentlimit.endpoints.inflight import Turnstile
from pytest_agentlimit.endpoints.timing import Exchange
from pytest_agentlimit.errors import EndpointError, HTTPFailure
from pytest_agentlimit.harness.blackout_tasks import FileTask, draw_tasks, tools_of
from pytest_agentlimit.harness.blackout_work import Patient, work_on
from pytest_agentlimit.testing import Scripted, ScriptedEndpoint, call, http_error, say

HELLO = ChatRequest(model="", messages=(Message(role="user", blocks=(TextBlock(text="hi"),)),))


# a client at another address


def test_a_client_elsewhere_keeps_observer_and_turns_and_takes_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_KEY", "sk-secret-of-the-first")
    told: list[Exchange] = []
    with ScriptedEndpoint([say("x")]) as first, ScriptedEndpoint([say("there")]) as second:
        spec = first.endpoint(api_key_env="SOME_KEY", headers={"x-gateway": "mine"}, max_tokens=77)
        turns = Turnstile("somewhere", 1, tmp_path)
        with Endpoint(spec, on_exchange=told.append, turnstile=turns) as client:
            with client.at(second.url, temperature=0.25) as there:
                assert there.send(HELLO).text == "there"
            assert client.send(HELLO).text == "x"
        assert there.turnstile is turns
        (request,) = second.requests
        assert len(first.requests) == 1
    assert [exchange.inflight_start for exchange in told] == [1, 1]
    assert "secret" not in str(request.headers)
    assert "x-gateway" not in request.headers
    assert (request.body["max_tokens"], request.body["temperature"]) == (77, 0.25)


# requests that are sent again


def sent(
    *replies: Scripted, left_s: Callable[[], float] = lambda: math.inf
) -> tuple[str, int, list[Exchange]]:
    """What became of one request, how often it was sent, and what the observer was told."""
    told: list[Exchange] = []
    with (
        ScriptedEndpoint(list(replies)) as server,
        Endpoint(server.endpoint(), on_exchange=told.append) as client,
    ):
        try:
            text = Patient(client, left_s).send(HELLO).text
        except EndpointError as error:
            text = error.kind
        return text, len(server.chat_requests), told


def test_a_request_that_fails_is_sent_again_twice_at_most() -> None:
    assert sent(http_error(500), say("ok"))[:2] == ("ok", 2)
    assert sent(http_error(503), say("x").with_(cut_after=0), say("ok"))[:2] == ("ok", 3)
    assert sent(http_error(500), http_error(500), http_error(429), say("late"))[:2] == (
        "rate_limit",
        3,
    )


@pytest.mark.parametrize(
    "final", [http_error(401), http_error(404), http_error(400, "maximum context length is 9")]
)
def test_what_no_second_try_mends_is_final(final: Scripted) -> None:
    assert sent(final, say("never"))[1] == 1


def test_a_request_and_its_repetitions_are_one_exchange() -> None:
    text, times, told = sent(http_error(500), say("ok"))
    assert (text, times) == ("ok", 2)
    (exchange,) = told
    assert exchange.error is None
    assert exchange.reply is not None
    # from the first try on, which the reply's own clock knows nothing of
    assert exchange.duration_s > exchange.reply.timing.total_s
    (failed,) = sent(http_error(500))[2]
    assert isinstance(failed.error, HTTPFailure)


def test_without_time_nothing_is_sent() -> None:
    assert sent(say("x"), left_s=lambda: 0.0) == ("out_of_time", 0, [])
    once = iter([5.0])
    assert sent(http_error(500), left_s=lambda: next(once, 0.0))[:2] == ("out_of_time", 1)


def test_a_call_gets_no_more_than_the_time_that_is_left() -> None:
    slow = say("x" * 64, chunk_delay_s=30.0)
    kind, _, (exchange,) = sent(slow, left_s=iter([0.2, 0.0]).__next__)
    assert kind == "out_of_time"
    assert exchange.error is not None
    assert exchange.error.kind in ("slow", "hung")


# the tasks


def tried(task: FileTask, folder: Path, reply: Callable[[ChatRequest], Scripted]) -> str:
    workspace = Workspace(folder / task.name)
    task.lay_out(workspace)
    with ScriptedEndpoint(reply) as server, Endpoint(server.endpoint()) as client:
        run = Agent(client).run(task.goal, tools=tools_of(workspace), max_steps=6)
    assert server.problems == []
    return task.wrong(workspace, run.final_text)


@pytest.mark.parametrize("seed", range(3))
def test_each_task_can_be_done_and_is_not_done_by_itself(tmp_path: Path, seed: int) -> None:
    for task in draw_tasks(Random(seed)):
        assert tried(task, tmp_path / "good", perfect) == ""
        assert tried(task, tmp_path / "bad", lambda request: say("Done.")) != ""


def test_what_is_almost_right_is_wrong(tmp_path: Path) -> None:
    write, read, copy = draw_tasks(Random(1))
    (order, text), (report, number) = *write.wanted.items(), *copy.wanted.items()
    assert read.answer is not None
    for task, path, content in (
        (write, order, text + "!"),
        (write, "elsewhere.txt", text),
        (copy, report, number + "0"),
        (copy, report, f"the number is {number}"),
    ):
        workspace = Workspace(tmp_path / content)
        workspace.write(path, content)
        assert task.wrong(workspace, "Done.") != ""
    nowhere = Workspace(tmp_path / "empty")
    assert read.wrong(nowhere, f"There are {read.answer + 1}, not {read.answer - 1}.") != ""
    assert read.wrong(nowhere, f"1{read.answer}") != ""
    assert read.wrong(nowhere, f"{read.answer:,} crates.") == ""
    assert read.wrong(nowhere, "9" * 5000) != ""


def test_white_space_around_a_text_is_no_mistake(tmp_path: Path) -> None:
    write, _, _ = draw_tasks(Random(2))
    ((path, text),) = write.wanted.items()
    workspace = Workspace(tmp_path)
    workspace.write(path, f"{text}\n\n")
    assert write.wrong(workspace, "") == ""


def test_why_a_task_was_not_done_is_told() -> None:
    leak = say('<tool_call>{"name": "write_file", "arguments": {}}</tool_call>')
    said = {
        "written as text": leak,
        "answered": say("Done."),
        "max_steps": call("list_files"),
        "HTTP 401": http_error(401),
    }
    tasks = draw_tasks(Random(3))
    for words, reply in said.items():
        with ScriptedEndpoint([reply]) as server, Endpoint(server.endpoint()) as client:
            worked = work_on(Patient(client), tasks, Random(3))
        assert (worked.finished, worked.stopped) == (0, False)
        assert [words in problem for problem in worked.problems] == [True, True, True]
