"""The tasks that are solved by calling tools.

Tools are offered in shuffled order beside near neighbours, and at least one argument of every
expected call has to be worked out (a date, a sum, an id that another tool returns), so neither a
position nor a word of the prompt gives the call away.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from pytest_agentlimit import Tool, ToolCall

from .words import identifier, in_words, names, pseudo_word, some_day

_STRING: dict[str, Any] = {"type": "string"}
_DATE: dict[str, Any] = {"type": "string", "description": "YYYY-MM-DD"}


@dataclass(frozen=True)
class CallTask:
    """A prompt, the tools offered with it, and the one call that is right."""

    prompt: str
    tools: tuple[Tool, ...]
    tool_name: str
    arguments: dict[str, Any]

    @property
    def schema(self) -> dict[str, Any]:
        """The JSON schema of the right tool's arguments."""
        return next(tool.parameters for tool in self.tools if tool.name == self.tool_name)


@dataclass(frozen=True)
class LoopTask:
    """A goal for the tool loop, the tools to reach it, the calls it takes, and the answer."""

    goal: str
    tools: tuple[Tool, ...]
    calls: tuple[ToolCall, ...]
    answer: int = 0


def _tool(
    name: str,
    description: str,
    properties: dict[str, Any],
    function: Callable[..., Any] | None = None,
) -> Tool:
    return Tool(name, description, _object(properties), function=function)


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _call(name: str, **arguments: Any) -> ToolCall:
    return ToolCall(id="expected", name=name, raw_arguments=json.dumps(arguments))


def _shuffled(rng: Random, tools: list[Tool]) -> tuple[Tool, ...]:
    return tuple(rng.sample(tools, len(tools)))


_TOWN_TOOLS = {
    "get_tides": ("Times of high and low tide", "When is high tide in {place} on {day}?"),
    "get_sunset": ("Time of sunset", "At what time does the sun set in {place} on {day}?"),
    "get_forecast": ("Weather forecast", "What will the weather be in {place} on {day}?"),
    "list_concerts": ("Concerts of a day", "Which concerts are there in {place} on {day}?"),
}


def town_task(rng: Random) -> CallTask:
    """Return a question that one of four tools with equal parameters answers.

    A call of a random tool with the place copied from the prompt is right in 1 of 4 x 1,096.
    """
    place, day = pseudo_word(rng).capitalize(), some_day(rng)
    name = rng.choice(list(_TOWN_TOOLS))
    tools = [
        _tool(each, about + " in a town.", {"place": _STRING, "date": _DATE})
        for each, (about, _) in _TOWN_TOOLS.items()
    ]
    prompt = _TOWN_TOOLS[name][1].format(place=place, day=in_words(day))
    return CallTask(prompt, _shuffled(rng, tools), name, {"place": place, "date": day.isoformat()})


_TEAMS = ("billing", "search", "mobile", "storage")
_LABELS = ("bug", "docs", "crash", "speed", "security")
# Folders whose first letter makes a wrong escape of the backslash before it: \n, \t, \r, \b, \u.
_FOLDERS = ("new", "temp", "reports", "backup", "users")
_ACCENTS = ("naïve café", "žluťoučký kůň", "Ελλάδα ✓", "東京 ✓", "señor Ångström")
_TICKET = {
    "title": _STRING,
    "details": {"type": "string", "description": "Keeps its line breaks"},
    "labels": {"type": "array", "items": {"type": "string", "enum": list(_LABELS)}},
    "effort_minutes": {"type": "integer"},
    "owner": _object({"name": _STRING, "team": {"type": "string", "enum": list(_TEAMS)}}),
}


def ticket_task(rng: Random) -> CallTask:
    """Return a ticket to open, whose text is full of characters that JSON has to escape.

    Every value is one the schema alone does not give: guessing them all is hopeless.
    """
    owner, product = names(rng, 2)
    hours, minutes = rng.randint(2, 9), rng.randrange(5, 60, 5)
    labels, team = rng.sample(_LABELS, 2), rng.choice(_TEAMS)
    path = "C:\\" + "\\".join(rng.sample(_FOLDERS, 2)) + f"\\{product}"
    title = f'"{product}" fails: {rng.choice(_ACCENTS)}'
    details = f'Cannot open "{path}"\nLog says: {{"code": {rng.randint(100, 999)}}}'
    prompt = (
        f"Open a ticket for {owner} of the {team} team. Labels: {labels[0]}, then {labels[1]}. "
        f"Effort: {hours} hours and {minutes} minutes. Copy the title and the details exactly, "
        f"character by character.\n\nTitle:\n{title}\n\nDetails (two lines):\n{details}"
    )
    tools = [
        _tool("open_ticket", "Open a new ticket.", _TICKET),
        _tool("comment_ticket", "Add a comment to a ticket.", {"id": _STRING, "text": _STRING}),
        _tool("close_ticket", "Close a ticket.", {"id": _STRING, "reason": _STRING}),
    ]
    arguments = {
        "title": title,
        "details": details,
        "labels": labels,
        "effort_minutes": 60 * hours + minutes,
        "owner": {"name": owner, "team": team},
    }
    return CallTask(prompt, _shuffled(rng, tools), "open_ticket", arguments)


@dataclass(frozen=True)
class BookingTask:
    """A request that lacks a detail, what the user says when asked, and the call it then takes."""

    system: str
    request: str
    detail: str
    tools: tuple[Tool, ...]
    arguments: dict[str, Any]


def booking_task(rng: Random) -> BookingTask:
    """Return a booking without its date or without the number of guests.

    Both have to be worked out, so the last call cannot be copied: 1 of 1,096 for the date alone.
    """
    place, day = pseudo_word(rng).capitalize(), some_day(rng)
    adults, children = rng.randint(2, 9), rng.randint(2, 9)
    when, who = f"on {in_words(day)}", f"for {adults} adults and {children} children"
    known, missing = rng.sample((when, who), 2)
    table = {"restaurant": _STRING, "date": _DATE, "guests": {"type": "integer"}}
    tools = [
        _tool("book_table", "Book a table. Guests: all people together.", table),
        _tool("cancel_table", "Cancel a booking.", {"restaurant": _STRING, "date": _DATE}),
        _tool("list_menus", "Show the menus of a restaurant.", {"restaurant": _STRING}),
    ]
    return BookingTask(
        system="You book tables with the tools. Never guess: when the user has not told you the "
        "date or the number of guests, call no tool and reply with one question, ending in a "
        "question mark.",
        request=f"Please book a table at {place} {known}.",
        detail=f"It is {missing}.",
        tools=_shuffled(rng, tools),
        arguments={"restaurant": place, "date": day.isoformat(), "guests": adults + children},
    )


def _lookup(field: str, known: dict[str, Any]) -> Callable[..., Any]:
    """Return a tool function that finds its one argument in `known`, whatever its case."""

    def find(**arguments: str) -> dict[str, Any]:
        (key,) = arguments.values()
        for name, value in known.items():
            if name.casefold() == key.strip().casefold():
                return {field: value}
        raise LookupError(f"nothing is known about {key!r}")

    return find


def planning_task(rng: Random) -> LoopTask:
    """Return a goal three calls away, each of which needs what the one before returned.

    The ids and the final six digits exist nowhere but in the tools' results.
    """
    project, rival = names(rng, 2)
    people = [identifier(rng, "staff") for _ in range(2)]
    desks = [identifier(rng, "desk") for _ in range(2)]
    codes = rng.sample(range(100_000, 1_000_000), 2)
    managers = _lookup("staff_id", dict(zip((project, rival), people, strict=True)))
    places = _lookup("desk_id", dict(zip(people, desks, strict=True)))
    locks = _lookup("code", dict(zip(desks, codes, strict=True)))
    budgets = _lookup("budget", {project: rng.randint(100, 999), rival: rng.randint(100, 999)})
    tools = [
        _tool("find_manager", "Who manages a project.", {"project": _STRING}, managers),
        _tool("find_desk", "The desk of a person.", {"staff_id": _STRING}, places),
        _tool("read_lock_code", "The lock code of a desk.", {"desk_id": _STRING}, locks),
        _tool("read_budget", "The budget of a project.", {"project": _STRING}, budgets),
    ]
    goal = (
        f"What is the lock code of the desk of the manager of project {project}? "
        "Look it up with the tools, then answer with the code only."
    )
    calls = (
        _call("find_manager", project=project),
        _call("find_desk", staff_id=people[0]),
        _call("read_lock_code", desk_id=desks[0]),
    )
    return LoopTask(goal, _shuffled(rng, tools), calls, codes[0])


_MEASURES = {
    "get_temperature": "the temperature",
    "get_rainfall": "the rainfall",
    "get_wind_speed": "the wind speed",
    "get_air_pressure": "the air pressure",
}


def _measurement(value: int) -> Callable[..., Any]:
    return lambda **_: {"value": value}


def lookups_task(rng: Random) -> LoopTask:
    """Return a goal that takes three independent calls: two of one tool and one of another.

    Three dates have to be rewritten; the right calls by chance are 1 in more than a billion.
    """
    places, days = names(rng, 3), [some_day(rng) for _ in range(3)]
    twice, once = rng.sample(list(_MEASURES), 2)
    wanted = list(zip((twice, twice, once), places, days, strict=True))
    tools = [
        _tool(
            name,
            f"Look up {what} in a town on a day.",
            {"place": _STRING, "date": _DATE},
            _measurement(rng.randint(1, 40)),
        )
        for name, what in _MEASURES.items()
    ]
    questions = "\n".join(f"- {_MEASURES[n]} in {p} on {in_words(d)}" for n, p, d in wanted)
    goal = f"Look these up with the tools, then list the three values:\n{questions}"
    calls = tuple(_call(name, place=place, date=day.isoformat()) for name, place, day in wanted)
    return LoopTask(goal, _shuffled(rng, tools), calls)
