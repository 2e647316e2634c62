"""A perfect model for the promotion protocol: it answers from the request alone."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from typing import Any

from pytest_agentlimit.chat.messages import ChatRequest, ToolCall, ToolResult
from pytest_agentlimit.testing import Scripted, say

Plan = list[tuple[str, dict[str, Any]]]


class Seen:
    """What a model sees: the system text, what users said, and the results of its calls."""

    def __init__(self, request: ChatRequest) -> None:
        blocks = [block for message in request.messages for block in message.blocks]
        self.system = request.system or ""
        self.said = [message.text for message in request.messages if message.role == "user"]
        self.results = [block.content for block in blocks if isinstance(block, ToolResult)]
        self.calls = [block for block in blocks if isinstance(block, ToolCall)]

    def found(self, pattern: str, text: str | None = None) -> tuple[str, ...]:
        match = re.search(pattern, self.said[0] if text is None else text, re.DOTALL)
        assert match is not None, f"the oracle does not know this wording: {self.said[-1]!r}"
        return match.groups()


def oracle_reply(request: ChatRequest) -> Scripted:
    """The right next reply to `request`; its usage counts the prompt's characters."""
    seen = Seen(request)
    marks = f"{seen.system}\n{seen.said[0]}"
    solve = next((solve for mark, solve in SOLVERS if mark in marks), None)
    answer = "This is no task of the protocol." if solve is None else solve(seen)
    scripted = say(answer) if isinstance(answer, str) else calling(answer, len(seen.calls))
    return scripted.with_(usage=usage_of(request))


def usage_of(request: ChatRequest) -> Any:
    """A server that counts three characters a token."""
    characters = sum(len(message.text) for message in request.messages)
    return {"input_tokens": 20 + characters // 3, "output_tokens": 5}


def calling(plan: Plan, made: int) -> Scripted:
    return Scripted(
        blocks=tuple(
            ToolCall(id=f"call_{made + i}", name=name, raw_arguments=json.dumps(arguments))
            for i, (name, arguments) in enumerate(plan)
        )
    )


def character(seen: Seen) -> str:
    (name,) = seen.found(r"Your name is (\w+)\.", seen.system)
    (marker,) = seen.found(r"holds the word (\w+)\.", seen.system)
    (nick,) = seen.found(r"Call the user (\w+),", seen.system)
    (instead,) = seen.found(r"Write (\w+) in its place", seen.system)
    answers = {
        "What is your name": f"I am {name}.",
        "Which ship": f"It was the {instead}.",
        "who am I": f"You are {nick}.",
    }
    last = seen.said[-1]
    return f"{next((a for q, a in answers.items() if q in last), 'Well.')} {marker.capitalize()}!"


def numbered(seen: Seen) -> str:
    (last_word,) = seen.found(r"with the word (\w+), with nothing")
    left, right = seen.found(r"I had (\d+) \w+ and got (\d+) more", seen.said[-1])
    return f"{len(seen.said)}. You have {int(left) + int(right)}. {last_word.upper()}."


def old_tool(seen: Seen) -> str | Plan:
    (parcel,) = seen.found(r"is (parcel-\w+)\?")
    if seen.results and seen.results[0].startswith("{"):
        return f"It is on {json.loads(seen.results[0])['shelf']}."
    if seen.results:
        return "It cannot be found."
    return [("find_shelf", {"parcel": parcel})]


def denied(seen: Seen) -> str | Plan:
    if seen.results:
        return f"I was not allowed to: {seen.results[-1]}"
    (gate,) = seen.found(r"Open (gate-\w+),")
    return [("open_gate", {"gate": gate})]


def confirmed(seen: Seen) -> str | Plan:
    if len(seen.said) == 1:
        return "What is the confirmation code?"
    (record,) = seen.found(r"Delete (record-\w+),")
    (code,) = seen.found(r"code is (\d+)", seen.said[1])
    return [("delete_record", {"record": record, "confirmation_code": code})]


def plain(seen: Seen) -> str:
    left, right = seen.found(r"weighs (\d+) grams, and its wrapping adds (\d+)")
    return f"{int(left) + int(right):,} grams."


def head(seen: Seen) -> str:
    store, held = seen.found(r"the (\w+) store holds (\d+) bottles")
    asked, more = seen.found(r"The (\w+) store, whose .* now gets (\d+) more", seen.said[-1])
    assert asked == store
    return f"{int(held) + int(more)}"


def shipment(seen: Seen) -> str:
    ship, name, town, zone, boxes, fragile = seen.found(
        r"Shipment (\S+) goes to (\w+) in (\w+), which is in zone (\d+)\. Its boxes: (.*)\. "
        r"Only (\w+) is fragile"
    )
    listed = [
        {"label": label, "kilos": int(kilos), "fragile": label == fragile}
        for label, kilos in re.findall(r"(\w+) with (\d+) kilos", boxes)
    ]
    value = {
        "id": ship,
        "to": {"name": name, "address": {"town": town, "zone": int(zone)}},
        "boxes": listed,
        "total_kilos": sum(int(box["kilos"]) for box in listed),
        "note": None,
    }
    return json.dumps(value)


def report(seen: Seen) -> str | Plan:
    if not seen.results:
        return [("read_file", {"path": "sales.csv"})]
    if len(seen.results) == 2:
        return "Done."
    path, town = seen.found(r"Write the file (\S+): .* sold in (\w+), and")
    rows = csv.DictReader(io.StringIO(seen.results[0]))
    sold = [int(row["crates"]) for row in rows if row["town"] == town]
    content = json.dumps({"crates": sum(sold), "largest": max(sold)})
    return [("write_file", {"path": path, "content": content})]


def rename(seen: Seen) -> str | Plan:
    paths = ("app.json", "worker.json")
    if not seen.results:
        return [("read_file", {"path": path}) for path in paths]
    if len(seen.results) == 4:
        return "Done."
    old, new = seen.found(r'the key "(\w+)" to "(\w+)"')
    return [
        ("write_file", {"path": path, "content": re.sub(rf'"{old}":', f'"{new}":', text)})
        for path, text in zip(paths, seen.results, strict=True)
    ]


def chain(seen: Seen) -> str | Plan:
    results = [json.loads(result) for result in seen.results]
    if not results:
        (customer,) = seen.found(r"open order of (\w+) cost")
        return [("find_order", {"customer": customer})]
    if len(results) == 1:
        return [("list_items", results[0])]
    if len(results) == 2:
        return [("get_price", {"item": lot["item"]}) for lot in results[1]]
    lots = zip(results[1], results[2:], strict=True)
    return f"{sum(lot['pieces'] * found['price'] for lot, found in lots):,} in all."


def small_sum(seen: Seen) -> str:
    left, right = seen.found(r"What is (\d+) \+ (\d+)\?")
    return f"{int(left) + int(right)}"


SOLVERS: list[tuple[str, Callable[[Seen], str | Plan]]] = [
    ("House rules", character),
    ("One rule for all", numbered),
    ("You work in a warehouse", old_tool),
    ("tell me how it went", denied),
    ("You look after records", confirmed),
    ("wrapping adds", plain),
    ("Keep this in mind", head),
    ("goes to", shipment),
    ("The file sales.csv", report),
    ("Rename the key", rename),
    ("the open order of", chain),
    ("What is", small_sum),
]
