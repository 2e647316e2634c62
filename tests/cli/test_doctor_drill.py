from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from offline_kit import Cli

from pytest_agentlimit.chat.messages import ChatRequest, ToolResult
from pytest_agentlimit.endpoints.drill import FAULTS
from pytest_agentlimit.testing import Scripted, ScriptedEndpoint, call, calls, http_error, say

PAGE = Path(__file__).parents[2] / "docs/how-to/ask-the-doctor.md"


def good(request: ChatRequest) -> Scripted:
    """A model without a fault, as far as the quick form of the doctor looks."""
    if request.json_schema is not None:
        return say('{"colour": "red"}')
    if any(isinstance(block, ToolResult) for block in request.messages[-1].blocks):
        return say("It snows.")
    if request.tools and "Lima" in request.messages[-1].text:
        return calls(("get_weather", {"city": "Oslo"}), ("get_weather", {"city": "Lima"}))
    return call("get_weather", city="Oslo") if request.tools else say("Hello, red.")


@pytest.fixture(autouse=True)
def nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_agentlimit.endpoints.resolve.default_probes", lambda environ: ())


@pytest.fixture
def healthy() -> Iterator[ScriptedEndpoint]:
    with ScriptedEndpoint(good, model="first") as server:
        yield server


@pytest.fixture
def spare() -> Iterator[ScriptedEndpoint]:
    with ScriptedEndpoint([call("get_weather", city="Oslo")], model="second") as server:
        yield server


def openclaw(
    root: Path, primary: ScriptedEndpoint, spare: ScriptedEndpoint, *fallbacks: str
) -> str:
    """Write a config whose main agent has the primary, given one second, and these fallbacks."""

    def provider(server: ScriptedEndpoint, **more: Any) -> dict[str, Any]:
        model = {"id": server.model, "name": server.model, "contextWindow": 32768}
        return {"baseUrl": server.url, "api": "openai-completions", "models": [model], **more}

    config = {
        "models": {"providers": {"p": provider(primary, timeoutSeconds=1), "s": provider(spare)}},
        "agents": {"defaults": {"model": {"primary": "p/first", "fallbacks": list(fallbacks)}}},
    }
    (root / "openclaw.json").write_text(json.dumps(config))
    return "--agent-config=openclaw.json"


def drill_of(out: str) -> dict[str, Any]:
    (model,) = json.loads(out)["models"]
    found = model["drill"]
    assert isinstance(found, dict)
    return found


def test_an_agent_of_openclaw_brings_its_fallbacks(
    cli: Cli, healthy: ScriptedEndpoint, spare: ScriptedEndpoint
) -> None:
    config = openclaw(cli.root, healthy, spare, "s/second")
    answer = cli("doctor", "openclaw:primary", "--quick", "--drill", config)
    lines = answer.out.splitlines()
    assert answer.code == 0, answer.out
    assert any("first byte 1 s" in line and "total 1 s" in line for line in lines)
    for fault in FAULTS:
        assert any(f"✓ {fault:<20} a call from s-second after" in line for line in lines), fault
    assert sum("OpenClaw: 2026.9.6 was seen to retry a hung primary" in line for line in lines) == 1
    assert "carried through 6 of 6 faults" in lines[-1]


def test_a_fault_that_is_not_carried_is_a_problem(
    cli: Cli, healthy: ScriptedEndpoint, spare: ScriptedEndpoint
) -> None:
    answer = cli(
        "doctor", healthy.spec, "--quick", "--drill", "--fallback", spare.spec,
        "--drill-budget", "500ms", "--fix-hints",
    )  # fmt: skip
    assert answer.code == 1
    assert "✗ hang                 nobody: the primary was given up after all of the 0.5 s" in (
        answer.out
    )
    assert "next: Shorten the time-out of the primary" in answer.out
    assert "carried through 4 of 6 faults" in answer.out
    assert "0.5 s a fault, 3.5 s in all" in answer.out


def test_machines_get_every_key_that_is_documented(
    cli: Cli, healthy: ScriptedEndpoint, spare: ScriptedEndpoint
) -> None:
    common = ("doctor", healthy.spec, "--quick", "--json", "--drill-budget=300ms")
    answer = cli(*common, "--drill", "--fallback", spare.spec, "--fallback", spare.spec)
    drill = drill_of(answer.out)
    assert (answer.code, drill["carried"], drill["problem"]) == (1, False, None)
    assert [row["fault"] for row in drill["rows"]] == list(FAULTS)
    assert len(drill["warm"]) == len(drill["fallbacks"]) == 2
    keys = {*drill, *drill["rows"][0], *drill["warm"][0], *drill["deadlines"]}
    page = PAGE.read_text()
    assert {key for key in keys if f"`{key}`" not in page} == set()
    none = drill_of(cli(*common, "--drill").out)
    assert set(none) <= set(drill)
    assert json.loads(cli(*common).out)["models"][0]["drill"] is None


def test_the_page_names_every_fault() -> None:
    assert [fault for fault in FAULTS if f"| {fault} |" not in PAGE.read_text()] == []


def test_without_a_fallback_one_line_says_so(cli: Cli, healthy: ScriptedEndpoint) -> None:
    answer = cli("doctor", healthy.spec, "--quick", "--drill")
    assert answer.code == 1
    assert "no fallback: nothing would carry the work" in answer.out.splitlines()[-1]


def test_an_agent_without_fallbacks_has_none(
    cli: Cli, healthy: ScriptedEndpoint, spare: ScriptedEndpoint
) -> None:
    config = openclaw(cli.root, healthy, spare)
    answer = cli("doctor", "openclaw:primary", "--quick", "--drill", config)
    assert answer.code == 1
    assert "no fallback: nothing would carry the work" in answer.out


def test_a_fallback_that_was_named_goes_before_those_of_the_config(
    cli: Cli, healthy: ScriptedEndpoint, spare: ScriptedEndpoint
) -> None:
    config = openclaw(cli.root, healthy, spare, "s/gone")
    common = ("doctor", "openclaw:primary", "--quick", "--drill", "--json", config)
    assert drill_of(cli(*common, "--fallback", "s/second").out)["fallbacks"] == ["s-second"]
    broken = drill_of(cli(*common).out)
    assert "no provider offers 's/gone'" in broken["problem"]


def test_a_model_that_is_down_is_drilled_all_the_same(cli: Cli, spare: ScriptedEndpoint) -> None:
    answer = cli(
        "doctor", "openai+http://127.0.0.1:9/v1#gone", "--json",
        "--drill", "--fallback", spare.spec,
        "--drill-budget=300ms",
    )  # fmt: skip
    assert answer.code == 2
    assert [row["carried"] for row in drill_of(answer.out)["rows"]].count(True) == 4


@pytest.mark.parametrize("fallback", ["no-such-model", "openai+http://h/v1"])
def test_a_fallback_that_is_none_is_a_problem(
    cli: Cli, healthy: ScriptedEndpoint, fallback: str
) -> None:
    answer = cli("doctor", healthy.spec, "--quick", "--drill", "--fallback", fallback)
    assert answer.code == 1
    assert answer.out.splitlines()[-1].startswith("  ✗ drill ")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["m", "--fallback=null:echo"], "--fallback is for the drill. Next: add --drill"),
        (["--drill"], "--drill needs the model"),
        (["m", "--drill", "--drill-budget=60"], '--drill-budget: "60" has no unit'),
        (["m", "--drill", "--drill-budget=0s"], "--drill-budget"),
    ],
)
def test_options_that_cannot_work_are_refused(cli: Cli, arguments: list[str], said: str) -> None:
    assert said in cli.refused("doctor", *arguments)


def test_what_a_fallback_says_cannot_drive_the_terminal(
    cli: Cli, healthy: ScriptedEndpoint
) -> None:
    with ScriptedEndpoint([http_error(500, "\x1b[2J::error::\u202egnp")]) as evil:
        answer = cli("doctor", healthy.spec, "--quick", "--drill", "--fallback", evil.spec)
    assert answer.code == 1
    assert "no fallback answered its first call" in answer.out
    assert "\x1b" not in answer.out
    assert "\u202e" not in answer.out
