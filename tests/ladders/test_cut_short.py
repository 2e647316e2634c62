from __future__ import annotations

import json
from random import Random

import pytest
from ladder_kit import attempt

from pytest_agentlimit.ladders.base import circles
from pytest_agentlimit.ladders.chain import Chain
from pytest_agentlimit.ladders.schema import Schema
from pytest_agentlimit.testing import Scripted, call, calls, say

ROUND = "So, I'll keep going. This is a great example of how you can solve problems. "
NUMBERED = "".join(f"{number}. Call the twentieth tool: 25696. " for number in range(1, 40))
SUMS = "".join(f"Turn {n}: {n**5} + {n**4} = {n**5 + n**4}. " for n in range(1, 60))
BOXES = json.dumps(Schema().task(12, Random("schema:12:0")).box, indent=2)
CUT = {"stop_reason": "max_tokens"}


@pytest.mark.parametrize(
    ("reply", "mode", "blame"),
    [
        (say("Let me see. " + ROUND * 9 + ROUND[:30], **CUT), "loop", "model"),
        (say(NUMBERED, **CUT), "loop", "model"),
        (say("", thinking=ROUND * 9, **CUT), "loop", "model"),
        (calls(("hop", '{"token": "' + "ab" * 300)).with_(**CUT), "loop", "model"),
        (calls(*[("hop", '{"token": "abcdef"}')] * 3).with_(**CUT), "loop", "model"),
        (say(SUMS, **CUT), "gave_up", "config"),
        (say("The code is 1" + "0" * 200, **CUT), "gave_up", "config"),
        (calls(("hop", BOXES)).with_(**CUT), "gave_up", "config"),
        (call("hop", token="abcdef").with_(**CUT), "gave_up", "config"),
        (say(ROUND * 9, stop_reason="context_overflow"), "loop", "model"),
        (say(SUMS, stop_reason="context_overflow"), "context_overflow", "config"),
    ],
    ids=[
        "words",
        "numbered",
        "thoughts",
        "a call",
        "calls",
        "work",
        "a number",
        "an object",
        "a sound call",
        "full",
        "work, full",
    ],
)
def test_a_reply_cut_short_is_blamed_on_its_length_unless_it_goes_in_circles(
    reply: Scripted, mode: str, blame: str
) -> None:
    came = attempt(Chain(), lambda request: reply, 2)
    assert (came.mode, came.blame) == (mode, blame)


def test_a_repetition_is_one_wherever_it_is_cut() -> None:
    for cut in range(len(ROUND)):
        assert circles(ROUND * 9 + ROUND[:cut])
        assert circles(SUMS + ROUND * 8 + ROUND[:cut])
    for cut in range(0, len(SUMS), 40):
        assert not circles(SUMS[:cut])
    assert not circles(ROUND)
