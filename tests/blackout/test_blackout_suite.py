from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
from blackout_kit import careless, perfect
from pytest_agentlimit.example_suites.blackout import dark, test_blackout

from pytest_agentlimit import Agent, Endpoint
from pytest_agentlimit.agents.transcript import Step, Transcript
from pytest_agentlimit.bridge.capture import AttemptRecord, Record, Seen
from pytest_agentlimit.chat.messages import ChatReply, ChatRequest, TextBlock
from pytest_agentlimit.endpoints.drill import FAULTS
from pytest_agentlimit.errors import EndpointError, ExpectationFailed
from pytest_agentlimit.plugin.markers import read_markers
from pytest_agentlimit.reports import numbers
from pytest_agentlimit.runs.names import check_name
from pytest_agentlimit.testing import Scripted, ScriptedEndpoint, call, http_error

pytestmark = pytest.mark.timeout(240)

PACKAGE = "pytest_agentlimit.example_suites.blackout"
README = Path(__file__).parents[2] / "example_suites" / "blackout" / "README.md"
CHECKS = {
    name.removeprefix("test_"): check
    for name, check in vars(test_blackout).items()
    if name.startswith("test_")
}
Run = Callable[..., tuple[pytest.RunResult, dict[str, Any]]]


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the suite in a project of its own; gives the result and the report."""
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p no:randomly -p no:cacheprovider -p no:asyncio")

    def start(*arguments: str) -> tuple[pytest.RunResult, dict[str, Any]]:
        more = ("--agent-preflight=off", "--agent-seed=5", "--agent-report=json:out.json")
        result = pytester.runpytest("--pyargs", PACKAGE, *arguments, *more)
        return result, json.loads((pytester.path / "out.json").read_text())

    return start


def outcomes(report: dict[str, Any]) -> dict[str, tuple[dict[str, int], dict[str, int]]]:
    (model,) = report["models"]
    return {
        check["id"].rpartition("test_")[2]: (check["outcomes"], check["blame"])
        for check in model["checks"]
    }


@pytest.mark.parametrize("dialect", ["openai", "anthropic", "ollama"])
def test_a_perfect_model_passes_every_check(run: Run, dialect: Any) -> None:
    with ScriptedEndpoint(perfect, dialect=dialect) as server:
        result, report = run(f"--agent-model={server.spec}", "--agent-min-score=50")
        assert server.problems == []
    result.assert_outcomes(passed=len(CHECKS))
    assert result.ret == 0
    ids = [check["id"] for check in report["models"][0]["checks"]]
    assert ids == [f"example_suites/blackout/test_blackout.py::test_{name}" for name in CHECKS]
    assert {check["capability"] for check in report["models"][0]["checks"]} == {"fallback"}


def test_every_fault_has_a_check() -> None:
    assert [name.replace("_", " ") for name in CHECKS] == ["control", *FAULTS]


def test_calls_through_the_bridge_are_in_the_trial(run: Run, pytester: pytest.Pytester) -> None:
    with ScriptedEndpoint(perfect) as server:
        run(f"--agent-model={server.spec}", "-k", "control or cut_stream")
        assert len(server.chat_requests) == 6
    (journal,) = pytester.path.glob(".agentlimit/runs/*/journal.jsonl")
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    records = [line["record"] for line in lines if "record" in line]
    # a request and its repetition are one call, from the first try on
    assert [len(record["calls"]) for record in records] == [3, 3]
    assert [call["error_kind"] for record in records for call in record["calls"]] == [None] * 6


def test_no_null_model_passes(run: Run) -> None:
    # The others wait for deadlines, nine times each, and judge the same work in the same way.
    result, _ = run("--agent-audit", "-k", "control or refused or leaked")
    assert result.ret == 0
    result.assert_outcomes(xfailed=9 * 3, deselected=9 * (len(CHECKS) - 3))
    result.stdout.fnmatch_lines(["audit *3 checks against 9 null models*"])


def test_a_model_that_does_it_wrong_is_blamed_with_or_without_a_lost_request(run: Run) -> None:
    with ScriptedEndpoint(careless) as server:
        _, report = run(f"--agent-model={server.spec}")
    assert outcomes(report) == {name: ({"failed": 1}, {"model": 1}) for name in CHECKS}


def test_a_fallback_whose_server_fails_is_failed_and_not_left_out(run: Run) -> None:
    alone: list[int] = []

    def tired(request: ChatRequest) -> Scripted:
        # well in the control, which comes first
        alone.append(1)
        return perfect(request) if len(alone) <= 3 else http_error(500, "worn out")

    with ScriptedEndpoint(tired) as server:
        result, report = run(f"--agent-model={server.spec}", "--agent-gate=off", "-rf")
    found = outcomes(report)
    assert found.pop("control") == ({"passed": 1}, {})
    assert found == {name: ({"failed": 1}, {"engine": 1}) for name in found}
    result.stdout.fnmatch_lines(["*was asked and did not answer*worn out*"])


# whose fault it was


def reply(text: str) -> Transcript:
    last = ChatReply(blocks=(TextBlock(text=text),), stop_reason="end_turn")
    return Transcript(steps=(Step(reply=last),), stopped_because="answered")


def seen(*attempts: tuple[str, str | None]) -> Seen:
    record = Record(
        number=1,
        started=0.0,
        route="/v1/messages",
        client="anthropic",
        upstream="openai",
        attempts=tuple(AttemptRecord(name=n, kind=k, seconds=0.1) for n, k in attempts),
    )
    return Seen(record, None, None, 0.0, 1.0)


@pytest.mark.parametrize(
    ("last", "blame"),
    [
        ([("primary", None)], "config"),
        ([("primary", "hung"), ("second", None)], "model"),
        ([("primary", "circuit_open"), ("second", None)], "model"),
        ([("primary", None), ("second", "circuit_open")], "config"),
    ],
)
def test_who_answered_last_is_blamed(last: list[tuple[str, str | None]], blame: str) -> None:
    stage = unlit(seen(("primary", None)), seen(*last))
    with pytest.raises(ExpectationFailed, match="no file here") as caught:
        dark.require("no file here", reply("Done."), stage)
    assert caught.value.blame == blame
    dark.require("", reply("Done."), stage)


def unlit(*requests: Seen) -> dark.Dark:
    """A stage on which nothing was played, with what its bridge would have seen."""
    with ScriptedEndpoint([call("x")]) as server, Endpoint(server.endpoint()) as client:
        stage = dark.Dark("hang", client, Agent(client), Random(1))
    stage.seen = list(requests)
    return stage


def test_no_reply_is_not_the_models_fault() -> None:
    error = EndpointError("nothing came", kind="hung", blame="engine")
    never = unlit(seen(("primary", "bad_request"))).not_carried(error)
    asked = unlit(seen(("primary", "hung"), ("second", "hung"))).not_carried(error)
    nothing = unlit().not_carried(error)
    assert (never.blame, asked.blame, nothing.blame) == ("config", "engine", "config")
    assert {one.outcome for one in (never, asked)} == {"timeout"}
    assert "was never asked: nothing came" in str(never)


def test_the_readme_has_the_checks_as_they_are() -> None:
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in README.read_text().splitlines()
        if line.startswith("| ")
    ]
    expected = []
    for name, check in CHECKS.items():
        found = read_markers(check.pytestmark, name)  # type: ignore[attr-defined]
        assert found.budget_ms is not None
        label = check_name(f"x.py::test_{name}")
        expected.append([label, f"{found.weight:g}", numbers.budget(found.budget_ms)])
    assert [row[:3] for row in rows[1:]] == expected
