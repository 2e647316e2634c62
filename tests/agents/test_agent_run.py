from __future__ import annotations

from typing import Any

import pytest
from agent_fakes import FakeSender, call, called, said, thought

from pytest_agentlimit.agents.agent import Agent
from pytest_agentlimit.agents.shape import decoy_names
from pytest_agentlimit.agents.tools import tool
from pytest_agentlimit.agents.transcript import Transcript
from pytest_agentlimit.chat.messages import (
    ChatReply,
    Finding,
    TextBlock,
    Tool,
    ToolCall,
    ToolResult,
)
from pytest_agentlimit.errors import ExpectationFailed, Unreachable


class Till:
    """Two tools with a log."""

    def __init__(self) -> None:
        self.log: list[Any] = []

        @tool
        def add(amount: int) -> int:
            self.log.append(amount)
            return sum(entry for entry in self.log if entry != "lost")

        @tool
        def lose() -> None:
            self.log.append("lost")
            raise RuntimeError("the drawer is stuck")

        self.tools = (add, lose)


def run(*replies: ChatReply | Exception, till: Till | None = None, **options: Any) -> Transcript:
    tools = till.tools if till else ()
    return Agent(FakeSender(replies)).run("do it", tools=tools, **options)


def results_of(transcript: Transcript) -> list[ToolResult]:
    return [result for step in transcript.steps for result in step.results]


def test_calls_are_run_until_the_model_answers() -> None:
    till = Till()
    done = run(called(call("add", amount=2)), called(call("add", amount=3)), said("5"), till=till)
    assert till.log == [2, 3]
    assert (done.final_text, done.stopped_because, len(done.steps)) == ("5", "answered", 3)
    assert [result.content for result in results_of(done)] == ["2", "5"]
    assert [one.arguments["amount"] for one in done.calls] == [2, 3]


def test_the_model_sees_its_calls_and_their_results() -> None:
    till, reply = Till(), called(TextBlock(text="so"), call("add", call_id="a", amount=2))
    sender = FakeSender([reply, said("2")])
    Agent(sender).run("do it", tools=till.tools, system="be brief")
    goal, turn, results = sender.requests[1].messages
    assert (goal.role, goal.text) == ("user", "do it")
    assert (turn.role, turn.blocks) == ("assistant", reply.blocks)
    assert (results.role, results.blocks) == (
        "tool",
        (ToolResult(call_id="a", name="add", content="2"),),
    )
    assert {request.system for request in sender.requests} == {"be brief"}
    assert [request.tools for request in sender.requests] == [till.tools, till.tools]


def test_parallel_calls_run_in_order_and_answer_in_one_message() -> None:
    till = Till()
    sender = FakeSender(
        [
            called(
                call("add", call_id="a", amount=1),
                call("lose", call_id="b"),
                call("add", call_id="c", amount=5),
            ),
            said("ok"),
        ]
    )
    Agent(sender).run("do it", tools=till.tools)
    assert till.log == [1, "lost", 5]
    results = sender.requests[1].messages[-1].blocks
    assert [block.call_id for block in results if isinstance(block, ToolResult)] == ["a", "b", "c"]


def test_a_tool_that_raises_is_an_error_the_model_can_act_on() -> None:
    till = Till()
    done = run(called(call("lose")), said("sorry"), till=till)
    (result,) = results_of(done)
    assert (result.content, result.is_error) == ("RuntimeError: the drawer is stuck", True)
    assert done.stopped_because == "answered"


def test_bad_calls_are_answered_and_not_run() -> None:
    till = Till()
    bad = [call("subtract", amount=1), call("add", raw='{"amount": '), call("add", amount="two")]
    done = run(*(called(one) for one in bad), said("I give up"), till=till)
    assert till.log == []
    assert all(result.is_error for result in results_of(done))
    assert [result.content.split(":")[0] for result in results_of(done)] == [
        "no such tool",
        "arguments are not JSON (JSONDecodeError",
        "the arguments do not fit the schema of add",
    ]


def test_a_leaked_call_is_never_run() -> None:
    till = Till()
    leak = said('<tool_call>{"name": "add"}', leaked_calls=(call("add", amount=9),))
    done = run(leak, said("never asked"), till=till)
    assert till.log == []
    assert (done.stopped_because, done.blame, len(done.steps)) == ("leaked_call", "engine", 1)
    assert done.calls == ()


def test_a_structured_call_beside_a_leaked_one_is_run_alone() -> None:
    till = Till()
    both = called(call("add", amount=1), leaked_calls=(call("add", amount=9),))
    done = run(both, said("1"), till=till)
    assert till.log == [1]
    assert done.stopped_because == "answered"


@pytest.mark.parametrize(
    "changes",
    [
        {"stop_reason": "max_tokens"},
        {"stop_reason": "context_overflow"},
        {"findings": (Finding(code="truncated_arguments"),)},
    ],
)
def test_a_reply_cut_short_is_not_run(changes: dict[str, Any]) -> None:
    till = Till()
    done = run(called(call("add", amount=1), **changes), till=till)
    assert till.log == []
    assert (done.stopped_because, done.blame) == ("truncated", "config")


def test_the_number_of_steps_is_bounded() -> None:
    till = Till()
    done = run(called(call("add", amount=1)), till=till, max_steps=3)
    assert (done.stopped_because, len(done.steps), till.log) == ("max_steps", 3, [1, 1, 1])
    assert done.blame == "model"


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (said("no", stop_reason="refusal"), "refused"),
        (said(""), "empty"),
        (said(" \n"), "empty"),
        (thought("hm"), "empty"),
        (said("42"), "answered"),
    ],
)
def test_other_endings_have_their_names(reply: ChatReply, reason: str) -> None:
    done = run(reply)
    assert (done.stopped_because, done.blame) == (reason, "model")


def test_without_tools_every_call_is_unknown() -> None:
    (result,) = results_of(run(called(call("add", amount=1)), said("oh")))
    assert result.content == "no such tool: add; the tools are: none"


def test_a_call_of_a_decoy_is_not_available() -> None:
    till, decoy = Till(), sorted(decoy_names())[0]
    sender = FakeSender([called(call(decoy)), said("done")])
    done = Agent(sender, shape="agent").run("do it", tools=till.tools)
    (result,) = results_of(done)
    assert (result.is_error, result.content) == (
        True,
        f"{decoy} is not available in this session",
    )


def test_a_tool_that_cannot_run_is_refused_before_a_request() -> None:
    sender = FakeSender([said("x")])
    with pytest.raises(TypeError, match="tool 't' has no function to run"):
        Agent(sender).run("do it", tools=[Tool("t")])
    assert sender.requests == []


def test_no_steps_are_refused() -> None:
    with pytest.raises(ValueError, match="max_steps is 0"):
        run(said("x"), max_steps=0)


def test_an_endpoint_error_passes_through() -> None:
    with pytest.raises(Unreachable):
        run(called(call("add", amount=1)), Unreachable("gone", kind="refused", blame="network"))


def test_repeated_call_ids_are_told_apart() -> None:
    till, reply = (
        Till(),
        called(call("add", call_id="x", amount=1), call("add", call_id="x", amount=1)),
    )
    sender = FakeSender([reply, reply, said("4")])
    Agent(sender).run("do it", tools=till.tools)
    messages = sender.requests[2].messages
    ids = [b.id for m in messages for b in m.blocks if isinstance(b, ToolCall)]
    answered = [b.call_id for m in messages for b in m.blocks if isinstance(b, ToolResult)]
    assert len(set(ids)) == 4
    assert answered == ids


def test_expect_call_returns_the_first_good_call() -> None:
    till = Till()
    done = run(called(call("add", raw="{")), called(call("add", amount=7)), said("7"), till=till)
    assert done.expect_call("add").arguments["amount"] == 7


def test_expect_call_explains_what_happened_instead() -> None:
    done = run(called(call("add", amount=7)), said("se\x1bven"), till=Till())
    with pytest.raises(ExpectationFailed) as caught:
        done.expect_call("lose")
    message = str(caught.value)
    for part in (
        "expected a call of lose",
        'add {"amount": 7}',
        "2 steps: answered",
        "blame: model",
    ):
        assert part in message
    assert message.endswith("curl -sS …")
    assert "\x1b" not in message
    assert caught.value.blame == "model"


def test_expect_call_blames_the_engine_for_a_leak() -> None:
    done = run(said("add()", leaked_calls=(call("add"),)), till=Till())
    with pytest.raises(ExpectationFailed, match="did not parse it") as caught:
        done.expect_call("add")
    assert caught.value.blame == "engine"
