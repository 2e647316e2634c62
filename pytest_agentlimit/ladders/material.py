"""What the tasks are made of: made-up words, opaque tokens, calls judged, answers read.

Everything random is drawn from the `random.Random` of the trial, so a seed gives the same task
again. What a model wrote is untrusted: every reader here is linear in it and never raises.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from random import Random
from typing import Any

from pytest_agentlimit.agents.calls import schema_violation
from pytest_agentlimit.chat.messages import Tool, ToolCall
from pytest_agentlimit.text import one_line

from .base import FailureMode

_CONSONANTS = "bdfklmnprstvz"
_VOWELS = "aeiou"
_LETTERS = "bcdfghjkmpqrtvwxz"
_SEPARATORS = ",'\u202f\u00a0"
_GROUPED = re.compile(rf"(?<=\d)[{_SEPARATORS}](?=\d{{3}}(?!\d))")
# Only letters of our own alphabet hold on to a number: `是482913。` has no space and is an answer.
_NUMBER = re.compile(r"(?<![0-9A-Za-z.])[0-9]+(?![0-9A-Za-z])(?!\.[0-9])")


def heading(rng: Random, ladder: str, level: int) -> str:
    """Return the first words of a prompt, `Task qzkvhm-chain-4.`: a nonce, the ladder, the level.

    The nonce comes first, so that no two trials share a cached prompt; the rest tells a scripted
    model what it is asked (example_suites/limits/oracles), and gives no answer away.
    """
    return f"Task {nonce(rng)}-{ladder}-{level}."


def nonce(rng: Random) -> str:
    """Return six letters nobody has seen before; one of 24 million."""
    return "".join(rng.choices(_LETTERS, k=6))


def word(rng: Random) -> str:
    """Return a pronounceable word of six letters that means nothing; one of 274,625."""
    return "".join(rng.choice(_CONSONANTS) + rng.choice(_VOWELS) for _ in range(3))


def words(rng: Random, count: int) -> list[str]:
    """Return `count` different made-up words."""
    found: dict[str, None] = {}
    while len(found) < count:
        found[word(rng)] = None
    return list(found)


def code(rng: Random, digits: int = 6) -> str:
    """Return a number of so many digits, the first not 0; one of 900,000 for six."""
    return str(rng.randrange(10 ** (digits - 1), 10**digits))


def opaque_tokens(rng: Random, count: int) -> tuple[str, ...]:
    """Return `count` different tokens of six letters: HMACs of a random key and their place.

    No token tells anything about another one.
    """
    key, found, place = rng.randbytes(16), dict[str, None](), 0
    while len(found) < count:
        number, letters = _digest(key, str(place)), ""
        for _ in range(6):
            number, letter = divmod(number, len(_LETTERS))
            letters += _LETTERS[letter]
        found[letters] = None
        place += 1
    return tuple(found)


def keyed_number(key: bytes, text: str, digits: int = 5) -> int:
    """Return the number of so many digits that `text` has under `key`: the same every time."""
    least: int = 10 ** (digits - 1)
    return least + _digest(key, text) % (9 * least)


def _digest(key: bytes, text: str) -> int:
    return int.from_bytes(hmac.digest(key, text.encode(), hashlib.sha256), "big")


def object_schema(**properties: dict[str, Any]) -> dict[str, Any]:
    """Return the JSON schema of an object with exactly these properties, all required."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def misuse(call: ToolCall, tools: tuple[Tool, ...]) -> tuple[FailureMode, str] | None:
    """Return what makes `call` one that cannot be run, as a mode and a line for people, or None.

    `malformed_call`: the arguments are no JSON object or violate the schema. `wrong_tool`: no such
    tool among the task's own (the decoys of an agent-shaped request are none of them).
    """
    wanted = next((tool for tool in tools if tool.name == call.name), None)
    if wanted is None:
        return "wrong_tool", f"called {one_line(call.name, 80)}"
    wrong = call.parse_error or schema_violation(wanted, dict(call.arguments))
    return ("malformed_call", f"{wanted.name}: {one_line(wrong, 300)}") if wrong else None


def last_code(text: str, digits: int) -> str | None:
    """Return the last whole number of so many digits in `text`, or None.

    Numbers of another size are passed over, so `482913, after 4 hops` gives 482913; so does
    `**482,913**`. The last one counts, because people show their working.
    """
    found = [number for number in _NUMBER.findall(_GROUPED.sub("", text)) if len(number) == digits]
    return found[-1] if found else None
