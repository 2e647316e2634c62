from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import pytest
from agent_fakes import call
from pydantic import BaseModel

from pytest_agentlimit.agents.calls import RESULT_LIMIT, as_text, carry_out
from pytest_agentlimit.agents.tools import tool
from pytest_agentlimit.chat.messages import Tool, ToolCall, ToolResult
from pytest_agentlimit.errors import ToolProblem, Unreachable, UsageProblem


@tool
def double(n: int) -> int:
    """Double a number."""
    return 2 * n


def raising(error: Exception) -> Tool:
    def fail() -> None:
        raise error

    return Tool("fail", "", {"type": "object", "properties": {}}, function=fail)


def carry(wanted: ToolCall, *tools: Tool) -> ToolResult:
    return carry_out(wanted, tools or (double,), frozenset({"decoy"}))


def test_a_good_call_gives_its_result() -> None:
    assert carry(call("double", call_id="x7", n=21)) == ToolResult(
        call_id="x7", name="double", content="42"
    )


def test_an_unknown_tool_names_the_known_ones() -> None:
    result = carry(call("tripple\x1b[2J", n=1))
    assert result.is_error
    assert "no such tool" in result.content
    assert result.content.endswith("the tools are: double")
    assert "\x1b" not in result.content


def test_a_decoy_is_not_available() -> None:
    assert carry(call("decoy")).content == "decoy is not available in this session"


@pytest.mark.parametrize("raw", ['{"n": ', "[1]", "42", '"text"', "[" * 5000])
def test_arguments_that_are_no_object_are_refused(raw: str) -> None:
    result = carry(call("double", raw=raw))
    assert result.is_error
    assert "send one JSON object" in result.content
    assert len(result.content) < 600


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({}, "'n' is a required property"),
        ({"n": "2"}, "'2' is not of type 'integer' (at $.n)"),
        ({"n": 2, "m": 3}, "'m' was unexpected"),
    ],
)
def test_a_violation_of_the_schema_is_named(arguments: dict[str, Any], reason: str) -> None:
    result = carry(call("double", **arguments))
    assert result.is_error
    assert "do not fit the schema of double" in result.content
    assert reason in result.content


def test_a_tool_with_a_plain_schema_is_held_to_it() -> None:
    schema = {"type": "object", "properties": {"unit": {"enum": ["C", "F"]}}}
    thermometer = Tool("t", "", schema, function=lambda unit="C": f"20 {unit}")
    assert carry(call("t", unit="F"), thermometer).content == "20 F"
    assert carry(call("t", unit="K"), thermometer).is_error


def test_a_schema_that_is_none_is_the_author_s_mistake() -> None:
    broken = Tool("t", "", {"type": "objekt"}, function=lambda: "x")
    with pytest.raises(UsageProblem, match="the parameters of tool 't' are no JSON schema"):
        carry(call("t"), broken)


def test_a_format_beyond_the_schema_is_named_too() -> None:
    @tool
    def book(day: datetime.date) -> str:
        return day.isoformat()

    assert carry(call("book", day="2026-02-28"), book).content == "2026-02-28"
    result = carry(call("book", day="2026-02-30"), book)
    assert result.is_error
    assert "day: " in result.content


def test_a_tool_that_raises_says_type_and_message() -> None:
    result = carry(call("fail"), raising(ZeroDivisionError("division by nothing")))
    assert (result.content, result.is_error) == ("ZeroDivisionError: division by nothing", True)


def test_a_problem_raised_on_purpose_is_told_as_it_is() -> None:
    assert carry(call("fail"), raising(ToolProblem("the shop is closed"))).content == (
        "the shop is closed"
    )


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(2, "No such file or directory", str(Path.home() / "private/notes.txt")),
        ValueError(f"cannot read '{Path.cwd()}/deep/private/notes.txt'"),
        RuntimeError(f"{Path.home()}/private/notes.txt: bad"),
    ],
)
def test_paths_of_this_machine_are_not_told(error: Exception) -> None:
    content = carry(call("fail"), raising(error)).content
    assert "notes.txt" in content
    assert "private" not in content
    assert str(Path.cwd()) not in content
    assert "Traceback" not in content


def test_control_characters_of_an_error_are_shown() -> None:
    assert "\x1b" not in carry(call("fail"), raising(ValueError("a\x1b[31mred"))).content


def test_an_endpoint_error_inside_a_tool_passes_through() -> None:
    error = Unreachable("no route", kind="refused", blame="network")
    with pytest.raises(Unreachable):
        carry(call("fail"), raising(error))


class Report(BaseModel):
    day: datetime.date
    names: tuple[str, ...]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("plain", "plain"),
        (None, "null"),
        (True, "true"),
        ({"a": [1, "é"]}, '{"a": [1, "é"]}'),
        (
            Report(day=datetime.date(2026, 1, 2), names=("x",)),
            '{"day": "2026-01-02", "names": ["x"]}',
        ),
        ({"p": Path("a/b")}, '{"p": "a/b"}'),
        ("lone \ud800 surrogate", "lone ? surrogate"),
    ],
)
def test_results_are_strings_or_json(value: object, text: str) -> None:
    assert as_text("t", value) == text


def test_a_result_json_cannot_hold_is_the_tool_s_defect() -> None:
    with pytest.raises(TypeError, match="tool 't' returned object, which is not JSON"):
        as_text("t", object())


def test_a_long_result_is_cut_with_a_note() -> None:
    long = Tool("t", function=lambda: "x" * 50_000)
    content = carry(call("t"), long).content
    assert len(content) == RESULT_LIMIT
    assert content.endswith("[cut: 50000 characters in all; ask for a smaller part]")


def test_a_result_that_just_fits_is_whole() -> None:
    whole = Tool("t", function=lambda: "x" * RESULT_LIMIT)
    assert carry(call("t"), whole).content == "x" * RESULT_LIMIT


def test_results_survive_a_round_through_json() -> None:
    content = carry(call("t"), Tool("t", function=lambda: {"k": 'a"b'})).content
    assert json.loads(content) == {"k": 'a"b'}
