"""A model whose answers depend on the request alone, so that every run of a seed gives the same."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pytest_agentlimit.chat.messages import ChatRequest
from pytest_agentlimit.testing import Scripted, http_error, say

CHECKS = """
import pytest

@pytest.mark.weight(2)
@pytest.mark.latency_budget("10s")
def test_mostly(agent, agent_rng):
    agent.ask(f"mostly {agent_rng.random()}").expect_json({"const": 1})

@pytest.mark.capability("rare")
def test_rarely(agent, agent_rng):
    agent.ask(f"rarely {agent_rng.random()}").expect_json({"const": 1})

def test_always(agent, agent_rng):
    agent.ask(f"always {agent_rng.random()}")

@pytest.mark.trials(3)
@pytest.mark.parametrize("city", ["Oslo", "Bergen"])
def test_city(agent, city):
    assert agent.ask(city).text

def test_skipped(agent):
    pytest.skip("not today")
"""
CHANCES = {"mostly": 0.8, "rarely": 0.2}


def steady(delay_s: float = 0.0) -> Callable[[ChatRequest], Scripted]:
    """Answer 1 or 0 with the chance that the first word of the prompt has."""

    def reply(request: ChatRequest) -> Scripted:
        time.sleep(delay_s)
        prompt = request.messages[-1].text
        draw = hashlib.sha256(f"{request.seed} {prompt}".encode()).digest()
        if prompt.startswith("mostly") and draw[1] < 12:
            return http_error(500, "out of memory")
        passed = draw[0] < 256 * CHANCES.get(prompt.split()[0], 1.0)
        return say("1" if passed else "0", thinking=draw.hex())

    return reply


def timeless(report: Path) -> str:
    """Return a JSON report without what differs between two runs of the same replies: times."""
    content = json.loads(report.read_text())
    content["run"] |= {"id": "", "started": "", "duration_s": 0}
    return json.dumps(_without_times(content), indent=1)


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: "a time" if re.search(r"_ms$|^speed_", key) and item else _without_times(item)
            for key, item in value.items()
        }
    return [_without_times(item) for item in value] if isinstance(value, list) else value
