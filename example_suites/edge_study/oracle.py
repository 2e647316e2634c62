"""What a perfect model does: `oracle_reply` solves every task of this suite from the request alone.

It proves that the checks can be passed, over the wire and in every dialect: a model that fails
them has failed, not the check. It sees what a model sees (messages and tool results) and knows the
wording of the prompts, which is why it stands beside them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import date
from typing import Any

from pytest_agentlimit.chat.messages import ChatRequest, ToolCall, ToolResult
from pytest_agentlimit.testing import Scripted, say

from .tasks import CAPITALS
from .words import MONTHS

_DATE = re.compile(r"(\d+) ([A-Z][a-z]+) (20\d\d)")
_GUESTS = re.compile(r"(\d+) adults and (\d+) children")

Plan = list[tuple[str, dict[str, Any]]]
"""Tool calls to make in one turn: name and arguments."""


def oracle_reply(request: ChatRequest) -> Scripted:
    """Return the right next reply to `request`, for `ScriptedEndpoint(oracle_reply)`.

    A task that is none of this suite's is answered with a sentence that says so.
    """
    said = [message.text for message in request.messages if message.role == "user"]
    results = [
        block.content
        for message in request.messages
        for block in message.blocks
        if isinstance(block, ToolResult)
    ]
    for pattern, solve in _SOLVERS:
        if pattern in said[0]:
            answer = solve(said, results)
            break
    else:
        answer = "This is not a task of the edge study."
    return say(answer) if isinstance(answer, str) else _call(answer, request)


def _call(plan: Plan, request: ChatRequest) -> Scripted:
    """Return a reply that makes the calls of `plan`; ids go on counting through a conversation."""
    made = sum(
        isinstance(block, ToolCall) for message in request.messages for block in message.blocks
    )
    return Scripted(
        blocks=tuple(
            ToolCall(id=f"call_{made + i}", name=name, raw_arguments=json.dumps(arguments))
            for i, (name, arguments) in enumerate(plan)
        )
    )


def _dates(text: str) -> list[str]:
    """Return the dates written in words in `text`, as YYYY-MM-DD."""
    return [
        date(int(year), MONTHS.index(month) + 1, int(day)).isoformat()
        for day, month, year in _DATE.findall(text)
    ]


def _found(pattern: str, text: str) -> tuple[str, ...]:
    match = re.search(pattern, text, re.DOTALL)
    assert match is not None, f"the oracle does not know this wording: {text!r}"
    return match.groups()


def _capitals(said: list[str], results: list[str]) -> str:
    first, second = _found(r"capitals of (\w+) and (\w+)\?", said[0])
    return f"They are {CAPITALS[first]} and {CAPITALS[second]}."


def _sum(said: list[str], results: list[str]) -> str:
    left, right = _found(r"What is (\d+) \+ (\d+)\?", said[0])
    return f"{int(left) + int(right)}"


def _order(said: list[str], results: list[str]) -> str:
    lots = re.findall(r"(\d+) crates of (\w+)", said[0])
    order = {
        "customer": said[0].split()[0],
        "fruits": [fruit for _, fruit in lots],
        "crates": sum(int(count) for count, _ in lots),
        "delivery": _dates(said[0])[0],
        "gift": "is a gift" in said[0],
    }
    return json.dumps(order)


def _context(said: list[str], results: list[str]) -> str:
    if "How many bottles" not in said[-1]:
        return "OK"
    held = {
        store: int(bottles)
        for turn in said
        for store, bottles in re.findall(r"the (\w+) store holds (\d+) bottles", turn)
    }
    asked = re.findall(r"the (\w+) store", said[-1])
    return f"{sum(held[store] for store in asked):,}."


_TOWN_WORDS = {
    "high tide": "get_tides",
    "sun set": "get_sunset",
    "weather": "get_forecast",
    "concerts": "list_concerts",
}


def _town(said: list[str], results: list[str]) -> Plan:
    name = next(tool for word, tool in _TOWN_WORDS.items() if word in said[0])
    (place,) = _found(r" in ([A-Z]\w+) on \d", said[0])
    return [(name, {"place": place, "date": _dates(said[0])[0]})]


def _ticket(said: list[str], results: list[str]) -> Plan:
    owner, team, first, second, hours, minutes, title, details = _found(
        r"for (\w+) of the (\w+) team\. Labels: (\w+), then (\w+)\. Effort: (\d+) hours and "
        r"(\d+) minutes\..*\nTitle:\n(.*)\n\nDetails \(two lines\):\n(.*)",
        said[0],
    )
    ticket = {
        "title": title,
        "details": details,
        "labels": [first, second],
        "effort_minutes": 60 * int(hours) + int(minutes),
        "owner": {"name": owner, "team": team},
    }
    return [("open_ticket", ticket)]


def _booking(said: list[str], results: list[str]) -> str | Plan:
    (place,) = _found(r"a table at (\w+)", said[0])
    days, guests = _dates(" ".join(said)), _GUESTS.search(" ".join(said))
    if not days:
        return "For which day?"
    if guests is None:
        return "How many people are you?"
    people = sum(int(count) for count in guests.groups())
    return [("book_table", {"restaurant": place, "date": days[0], "guests": people})]


def _planning(said: list[str], results: list[str]) -> str | Plan:
    (project,) = _found(r"project (\w+)\?", said[0])
    steps = (("find_manager", "project"), ("find_desk", "staff_id"), ("read_lock_code", "desk_id"))
    try:
        found = [project, *(next(iter(json.loads(result).values())) for result in results)]
    except ValueError:
        return "A tool has failed, so the code cannot be looked up."
    if len(results) == len(steps):
        return f"{found[-1]}"
    name, parameter = steps[len(results)]
    return [(name, {parameter: found[-1]})]


def _lookups(said: list[str], results: list[str]) -> str | Plan:
    if results:
        return ", ".join(results)
    wanted = re.findall(r"- the ([a-z ]+) in (\w+) on", said[0])
    days = _dates(said[0])
    return [
        ("get_" + what.replace(" ", "_"), {"place": place, "date": day})
        for (what, place), day in zip(wanted, days, strict=True)
    ]


_TESTS = {"greater than": ">", "smaller than": "<", "divisible by": "%"}
_SIGNS = {"multiply": "*", "add": "+", "subtract": "-"}
_ENDS = {"sum": "sum", "largest": "max", "smallest": "min"}


def _code(said: list[str], results: list[str]) -> str:
    name, test, limit, change, end, empty = _found(
        r"function (\w+)\(.*that are ([a-z ]+) (\d+), (.*), and return the (\w+) of .* return "
        r"(\d+)\.",
        said[0],
    )
    kept = f"n % {limit} == 0" if _TESTS[test] == "%" else f"n {_TESTS[test]} {limit}"
    (amount,) = _found(r"(\d+)", change)
    sign = _SIGNS[change.split()[0]]
    return (
        f"```python\ndef {name}(numbers):\n"
        f"    left = [n {sign} {amount} for n in numbers if {kept}]\n"
        f"    return {_ENDS[end]}(left) if left else {empty}\n```"
    )


_SOLVERS: list[tuple[str, Callable[[list[str], list[str]], str | Plan]]] = [
    ("What is the lock code", _planning),
    ("What is ", _sum),
    ("What are the capitals", _capitals),
    ("crates of", _order),
    ("Note for later", _context),
    ("Open a ticket", _ticket),
    ("book a table", _booking),
    ("Write a Python function", _code),
    ("Look these up", _lookups),
    (" in ", _town),
]
