from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from promotion_driver import CHECKS
from promotion_oracle import calling, oracle_reply

from pytest_agentlimit.chat.messages import ChatRequest, ThinkingBlock, ToolCall
from pytest_agentlimit.plugin.markers import read_markers
from pytest_agentlimit.reports import numbers
from pytest_agentlimit.runs.names import check_name
from pytest_agentlimit.testing import Scripted, ScriptedEndpoint

SUITE = Path(__file__).parents[2] / "example_suites" / "promotion"
PROTOCOL = ("--pyargs", "pytest_agentlimit.example_suites.promotion")
LONG = "uses_head_of_64k_tokens"
Run = Callable[..., tuple[pytest.RunResult, dict[str, Any]]]


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the protocol in a project of its own; gives the result and the report."""
    monkeypatch.setenv(
        "PYTEST_ADDOPTS", "-p no:randomly -p no:cacheprovider -p no:asyncio --tb=short"
    )

    def start(*arguments: str) -> tuple[pytest.RunResult, dict[str, Any]]:
        result = pytester.runpytest(*PROTOCOL, "--agent-report=json:out.json", *arguments)
        return result, json.loads((pytester.path / "out.json").read_text())

    return start


def configure(pytester: pytest.Pytester, server: ScriptedEndpoint, context: int) -> None:
    pytester.makepyprojecttoml(
        f"""
        [tool.agentlimit.models.candidate]
        base_url = "{server.url}"
        model = "scripted"
        context_window = {context}
        """
    )


def test_a_perfect_model_passes_every_round(pytester: pytest.Pytester, run: Run) -> None:
    with ScriptedEndpoint(oracle_reply) as server:
        configure(pytester, server, 65_536)
        bars = ("--agent-min-score=70", "--agent-p95=within-budget")
        result, report = run("--agent-model=candidate", "--agent-trials=2", *bars)
    result.assert_outcomes(passed=2 * len(CHECKS))
    assert result.ret == 0
    assert report["models"][0]["score"]["value"] == 1.0
    assert server.problems == []
    ids = [check["id"] for check in report["models"][0]["checks"]]
    assert ids == [f"example_suites/promotion/test_promotion.py::test_{name}" for name in CHECKS]


def test_a_small_context_skips_the_long_prompt_and_costs_nothing(
    pytester: pytest.Pytester, run: Run
) -> None:
    with ScriptedEndpoint(oracle_reply) as server:
        configure(pytester, server, 8192)
        result, report = run("--agent-model=candidate", "-rs", "--agent-min-score=60")
    result.assert_outcomes(passed=len(CHECKS) - 1, skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED*8192 tokens are declared; a prompt of 64000 tokens*"])
    assert result.ret == 0
    assert report["models"][0]["score"]["value"] == 1.0


def forcing_gates(request: ChatRequest) -> Scripted:
    """A perfect model that does not take no for an answer."""
    answer = oracle_reply(request)
    made = [block for message in request.messages for block in message.blocks]
    opened = [block for block in made if isinstance(block, ToolCall) and block.name == "open_gate"]
    if opened and len([block for block in made if isinstance(block, ToolCall)]) == 1:
        answer = calling([("force_gate", dict(opened[0].arguments))], 1)
    return answer.with_(blocks=(ThinkingBlock(text=str(request.seed)), *answer.blocks))


def test_one_broken_blocker_fails_the_gate_whatever_the_score(
    pytester: pytest.Pytester, run: Run
) -> None:
    with ScriptedEndpoint(forcing_gates) as server:
        configure(pytester, server, 8192)
        result, report = run("--agent-model=candidate", "--agent-min-score=50")
    assert result.ret == 1
    verdicts = {rule["rule"]: rule["verdict"] for rule in report["gate"]["rules"]}
    assert verdicts["score"] == "pass"
    assert verdicts["blockers"] == "fail"
    result.stdout.fnmatch_lines(["*the model used force_gate to get round a gate*"])


def test_no_check_is_vacuous(run: Run) -> None:
    result, report = run("--agent-audit")
    assert result.ret == 0
    result.assert_outcomes(xfailed=9 * len(CHECKS))
    result.stdout.fnmatch_lines([f"audit *{len(CHECKS)} checks against 9 null models*"])
    assert all(len(model["checks"]) == len(CHECKS) for model in report["models"])


def test_the_readme_has_the_checks_as_they_are() -> None:
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in (SUITE / "README.md").read_text().splitlines()
        if line.startswith("| ")
    ]
    shown = [row[:5] for row in rows[1:]]
    expected = []
    for name, check in CHECKS.items():
        found = read_markers(check.pytestmark, name)  # type: ignore[attr-defined]
        blocker = "yes" if found.blocker else ""
        label = check_name(f"x.py::test_{name}")
        assert found.budget_ms is not None
        budget = numbers.budget(found.budget_ms)
        expected.append([label, found.capability, f"{found.weight:g}", blocker, budget])
    assert shown == expected
