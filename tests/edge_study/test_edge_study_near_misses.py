from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from edge_study_driver import run_check
from pytest_agentlimit.example_suites.edge_study.oracle import oracle_reply
from pytest_agentlimit.example_suites.edge_study.tasks import CAPITALS

from pytest_agentlimit import Agent, ToolCall
from pytest_agentlimit.chat.messages import ChatRequest, TextBlock
from pytest_agentlimit.endpoints.connect import open_client
from pytest_agentlimit.testing import Scripted, ScriptedEndpoint, calls, say

Model = Callable[[ChatRequest], Scripted]


def said(answer: Scripted) -> str:
    """What an answer says: its text or the arguments of its calls."""
    return "".join(
        block.raw_arguments if isinstance(block, ToolCall) else block.text
        for block in answer.blocks
        if isinstance(block, ToolCall | TextBlock)
    )


def rewriting(pattern: str, replacement: str | Callable[[re.Match[str]], str]) -> Model:
    """A perfect model but for one change in the text or the arguments of each reply."""

    def change(block: TextBlock | ToolCall) -> TextBlock | ToolCall:
        field = "raw_arguments" if isinstance(block, ToolCall) else "text"
        changed = re.sub(pattern, replacement, getattr(block, field), count=1, flags=re.DOTALL)
        return block.model_copy(update={field: changed})

    def reply(request: ChatRequest) -> Scripted:
        answer = oracle_reply(request)
        return answer.with_(blocks=tuple(change(block) for block in answer.blocks))

    return reply


def also_calling(name: str) -> Model:
    """A perfect model that makes one call too many, of another tool that is offered."""

    def reply(request: ChatRequest) -> Scripted:
        answer = oracle_reply(request)
        extra = ToolCall(id="call_extra", name=name, raw_arguments=said(answer) or "{}")
        return answer.with_(blocks=(*answer.blocks, extra))

    return reply


def dropping_a_call(request: ChatRequest) -> Scripted:
    answer = oracle_reply(request)
    several = sum(isinstance(block, ToolCall) for block in answer.blocks) > 1
    return answer.with_(blocks=answer.blocks[1:]) if several else answer


def doubling_a_call(request: ChatRequest) -> Scripted:
    answer = oracle_reply(request)
    if not isinstance(answer.blocks[0], ToolCall):
        return answer
    again = answer.blocks[0].model_copy(update={"id": "call_again"})
    return answer.with_(blocks=(*answer.blocks, again))


def calling_another_tool(request: ChatRequest) -> Scripted:
    answer = oracle_reply(request)
    first = answer.blocks[0]
    if not isinstance(first, ToolCall):
        return answer
    other = next(tool.name for tool in request.tools if tool.name != first.name)
    changed = first.model_copy(update={"name": other})
    return answer.with_(blocks=(changed, *answer.blocks[1:]))


def booking_at_once(request: ChatRequest) -> Scripted:
    answer = oracle_reply(request)
    if isinstance(answer.blocks[0], ToolCall):
        return answer
    invented = {"restaurant": "Vilora", "date": "2027-01-01", "guests": 2}
    return calls(("book_table", invented))


def answering_with_another_code(request: ChatRequest) -> Scripted:
    answer = oracle_reply(request)
    return answer if isinstance(answer.blocks[0], ToolCall) else say("The code is 123456.")


def one_more(match: re.Match[str]) -> str:
    return str(int(match.group()) + 1)


NEAR_MISSES: list[tuple[str, Model]] = [
    ("basic_response", rewriting(r"are \w+", "are Bern")),
    ("basic_response", rewriting(r"(?<=and )\w+", "so on")),
    ("basic_response", lambda request: say(", ".join(CAPITALS.values()))),
    ("latency_burst", rewriting(r"\d+", one_more)),
    ("latency_burst", rewriting(r"$", ", or 1000 more than 417")),
    ("basic_response", also_calling("get_time")),
    ("tool_call_emission", rewriting(r"\d\d(?=\")", "32")),
    ("tool_call_emission", rewriting(r"\d{4}-\d\d-\d\d", "3 May 2027")),
    ("tool_call_emission", rewriting(r"}$", ', "unit": "metric"}')),
    ("tool_call_emission", doubling_a_call),
    ("tool_call_emission", calling_another_tool),
    ("strict_json_output", rewriting(r"(.+)", r"```json\n\1\n```")),
    ("strict_json_output", rewriting(r"^", "Here it is: ")),
    ("strict_json_output", rewriting(r"(?<=crates\": )\d+", one_more)),
    ("strict_json_output", rewriting(r"(?<=crates\": )(\d+)", r'"\1"')),
    ("strict_json_output", rewriting(r"(?<=gift\": )(\w+)", r'"\1"')),
    ("strict_json_output", rewriting(r"}$", ', "note": ""}')),
    ("multi_step_planning", doubling_a_call),
    ("multi_step_planning", calling_another_tool),
    ("multi_step_planning", answering_with_another_code),
    ("multi_step_planning", rewriting(r"^\d+$", "I have found the code.")),
    ("tool_input_valid_json", rewriting(r"\\\\", r"\\")),
    ("tool_input_valid_json", rewriting(r"(?<!\\)\\n", " ")),
    ("tool_input_valid_json", rewriting(r"(?<=effort_minutes\": )(\d+)", r'"\1"')),
    ("tool_input_valid_json", rewriting(r"(?<=labels\": )\[(.*?), (.*?)\]", r"[\2, \1]")),
    ("tool_input_valid_json", rewriting(r"\\\"", "'")),
    ("context_retention", rewriting(r"\d", lambda digit: str(int(digit.group()) % 9 + 1))),
    ("context_retention", also_calling("remember")),
    ("graceful_ambiguity_handling", booking_at_once),
    ("graceful_ambiguity_handling", rewriting(r".*\?", "I have booked a table for two.")),
    ("graceful_ambiguity_handling", rewriting(r"(?<=guests\": )\d+", one_more)),
    ("graceful_ambiguity_handling", lambda request: say("What do you want?")),
    ("code_generation", rewriting(r"else (\d+)", "else 0")),
    ("code_generation", rewriting(r"n (?=[-+*])", "1 + n ")),
    ("code_generation", rewriting(r"if n [<>=%]+", r"if 1 + n <")),
    ("code_generation", rewriting(r"\(left\)", "(numbers)")),
    ("multiple_tool_calls", dropping_a_call),
    ("multiple_tool_calls", doubling_a_call),
    ("multiple_tool_calls", calling_another_tool),
    ("multiple_tool_calls", rewriting(r"\d{4}-\d\d-\d\d", "2026-12-31")),
    ("latency_burst", lambda request: say("6417")),
    ("latency_burst", also_calling("get_time")),
]


@pytest.mark.parametrize(
    ("check", "model"),
    [pytest.param(*miss, id=f"{miss[0]}-{number}") for number, miss in enumerate(NEAR_MISSES)],
)
def test_a_nearly_perfect_model_fails(check: str, model: Model) -> None:
    with ScriptedEndpoint(model) as server, open_client(server.endpoint()) as client:
        for seed in range(4):
            with pytest.raises(AssertionError):
                run_check(check, Agent(client, seed=seed), seed)
        assert not server.problems


FORGIVEN: list[tuple[str, Model]] = [
    ("basic_response", rewriting(r".+", lambda m: m.group().upper())),
    ("context_retention", rewriting(r"(\d),(\d{3})\.", r"That makes **\1\2** bottles!")),
    ("latency_burst", rewriting(r"(\d+)", r"The sum is \1.")),
    ("tool_call_emission", rewriting(r"(?<=place\": \")(\w+)", lambda m: m.group().upper())),
    ("strict_json_output", rewriting(r"(.+)", r"\n \1 \n")),
    ("multi_step_planning", rewriting(r"^(\d+)$", r"The code is \1.")),
    ("code_generation", rewriting(r"```python\n(.*)```", r"\1")),
    ("code_generation", rewriting(r"(.*)", r"Sure!\n\n\1\n\nIt filters the list.")),
]


@pytest.mark.parametrize(
    ("check", "model"),
    [pytest.param(*each, id=f"{each[0]}-{number}") for number, each in enumerate(FORGIVEN)],
)
def test_a_right_answer_in_another_dress_passes(check: str, model: Model) -> None:
    with ScriptedEndpoint(model) as server, open_client(server.endpoint()) as client:
        for seed in range(4):
            run_check(check, Agent(client, seed=seed), seed)
