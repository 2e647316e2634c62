from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from itertools import count

import pytest
from agent_run import AgentRun

from pytest_agentlimit.chat.messages import ChatRequest
from pytest_agentlimit.testing import Scripted, ScriptedEndpoint, hang, say

Scripts = Callable[..., ScriptedEndpoint]
COMPANIONS = ("rerunfailures", "randomly", "timeout", "pytest_cov", "asyncio", "anyio", "xdist")
FIXTURES = {"agent", "agent_rng", "endpoint", "climb", "harness", "workspace"}
MARKERS = {"weight", "latency_budget", "capability", "trials", "blocker"}
INI = """
[pytest]
asyncio_default_fixture_loop_scope = function
"""
EVERYTHING = """
    import asyncio
    import anyio
    import ours

    @pytest.mark.asyncio
    async def test_with_asyncio():
        await asyncio.sleep(0)

    @pytest.mark.anyio
    @pytest.mark.parametrize("anyio_backend", ["asyncio"])
    async def test_with_anyio(anyio_backend):
        await anyio.sleep(0)

    @pytest.mark.timeout(50)
    @pytest.mark.weight(3)
    def test_steady(agent):
        assert ours.is_yes(agent.ask("steady").text)

    @pytest.mark.flaky(reruns=3)
    def test_shaky(agent):
        assert ours.is_yes(agent.ask("shaky").text)
"""


@pytest.fixture(autouse=True)
def every_plugin_is_active(
    plain_inner_runs: None, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTEST_ADDOPTS")
    pytester.makeini(INI)


def alone(pytester: pytest.Pytester, *args: str) -> pytest.RunResult:
    """Run pytest in a process of its own: most of these plugins change the process they are in."""
    return pytester.runpytest_subprocess("-p", "no:cacheprovider", *args)


def shaky_at_first() -> Callable[[ChatRequest], Scripted]:
    thoughts, shaky = count(), count()

    def reply(request: ChatRequest) -> Scripted:
        first = request.messages[-1].text == "shaky" and next(shaky) == 0
        return say("no" if first else "yes", thinking=f"thought {next(thoughts)}")

    return reply


def test_the_companions_are_really_there(pytester: pytest.Pytester) -> None:
    shown = alone(pytester, "--trace-config", "--collect-only").stdout.str()
    for name in COMPANIONS:
        assert re.search(rf"^ +{name} *: ", shown, re.MULTILINE), name


@pytest.mark.parametrize("workers", ["-n0", "-n2"])
def test_all_of_them_in_one_run(agent_run: AgentRun, scripted: Scripts, workers: str) -> None:
    agent_run.pytester.makepyfile(ours="def is_yes(text):\n    return text == 'yes'\n")
    agent_run.checks(EVERYTHING)
    server = scripted(shaky_at_first())
    result = alone(
        agent_run.pytester,
        workers,
        f"--agent-model={server.spec}",
        "--agent-trials=3",
        "--agent-report=json:out.json",
        "--timeout=60",
        "--cov=ours",
        "--cov-report=term",
        "--reruns=1",
        "--randomly-seed=7",
    )
    assert result.ret == 0
    assert result.parseoutcomes() == {"passed": 8, "rerun": 1}
    result.stdout.re_match_lines([r"ours\.py +2 +0 +100%"])
    model = agent_run.report["models"][0]
    checks = {c["id"].split("::")[1]: (c["trials"], c["passes"]) for c in model["checks"]}
    assert checks == {"test_steady": (3, 3), "test_shaky": (3, 3)}
    assert model["completion"]["expected"] == model["completion"]["reported"] == 6
    assert server.problems == []


def test_a_rerun_is_journalled_and_counted_once(agent_run: AgentRun, scripted: Scripts) -> None:
    agent_run.checks("def test_hi(agent):\n    assert agent.ask('hi').text == 'yes'\n")
    server = scripted([say("no"), say("no"), say("yes")])
    result = alone(
        agent_run.pytester,
        f"--agent-model={server.spec}",
        "--agent-report=json:out.json",
        "--reruns=2",
    )
    assert result.parseoutcomes() == {"passed": 1, "rerun": 2}
    records = [line["record"] for line in agent_run.journal if "record" in line]
    assert [(r["attempt"], r["outcome"]) for r in records] == [
        (1, "failed"),
        (2, "failed"),
        (3, "passed"),
    ]
    assert [len(record["calls"]) for record in records] == [1, 1, 1]
    model = agent_run.report["models"][0]
    assert [(c["trials"], c["passes"]) for c in model["checks"]] == [(1, 1)]
    assert model["usage"]["calls"] == 1


def test_random_order_shuffles_checks_and_keeps_rounds(pytester: pytest.Pytester) -> None:
    names = [f"test_{letter}" for letter in "abcdefgh"]
    pytester.makepyfile("\n".join(f"def {name}(agent): pass" for name in names))
    orders = []
    for seed in (1, 2):
        result = alone(
            pytester,
            "--collect-only",
            "-q",
            "--agent-model=null:mute",
            "--agent-trials=3",
            f"--randomly-seed={seed}",
        )
        found = re.findall(r"::(test_\w)\[null-mute-t(\d)\]", result.stdout.str())
        assert [trial for _, trial in found] == [trial for trial in "123" for _ in names]
        orders.append([check for check, trial in found if trial == "1"])
        assert sorted(orders[-1]) == names
    assert orders[0] != orders[1]


def test_a_timed_out_check_is_a_failure_of_the_engine_and_the_next_one_runs(
    agent_run: AgentRun, scripted: Scripts
) -> None:
    agent_run.checks(
        """
        @pytest.mark.timeout(0.3)
        def test_hangs(agent):
            agent.ask("hang")

        def test_lives(agent):
            assert agent.ask("live").text == "yes"
        """
    )
    server = scripted(lambda sent: hang() if sent.messages[-1].text == "hang" else say("yes"))
    result = alone(
        agent_run.pytester, "-p", "no:randomly", f"--agent-model={server.spec}", "--tb=no"
    )
    result.assert_outcomes(failed=1, passed=1)
    hung, lived = (line["record"] for line in agent_run.journal if "record" in line)
    assert (hung["outcome"], hung["blame"]) == ("failed", "engine")
    assert "Timeout (>0.3s)" in hung["message"]
    assert hung["timed_out"] is True
    assert (lived["outcome"], len(lived["calls"])) == ("passed", 1)


def test_no_option_clashes(pytester: pytest.Pytester) -> None:
    from pytest_agentlimit.plugin.options import OPTIONS

    others = names_in_help(alone(pytester, "--help", "-p", "no:agentlimit").stdout.lines)
    ours = {name for option in OPTIONS for name in (option.flag, option.dest)}
    added = names_in_help(alone(pytester, "--help").stdout.lines) - others
    assert {"--reruns", "--timeout", "--cov", "asyncio_mode", "--randomly-seed"} <= others
    assert added == ours
    assert all(name.startswith(("--agent-", "agentlimit_")) for name in ours)
    assert not [name for name in others if name.startswith(("--agent-", "agentlimit_"))]


def names_in_help(lines: list[str]) -> set[str]:
    """Return option names and ini keys; both stand at the start of a line of `pytest --help`."""
    return set(re.findall(r"^  (?:-\w, )?(--[\w-]+|\w+(?= \(\w+\):))", "\n".join(lines), re.M))


def test_no_marker_clashes(pytester: pytest.Pytester) -> None:
    everyone = markers_in(alone(pytester, "--markers").stdout.str())
    others = markers_in(alone(pytester, "--markers", "-p", "no:agentlimit").stdout.str())
    assert others.keys() >= {"flaky", "timeout", "asyncio", "anyio"}
    assert everyone - others == dict.fromkeys(MARKERS, 1)
    assert not others.keys() & MARKERS


def markers_in(text: str) -> Counter[str]:
    return Counter(re.findall(r"^@pytest\.mark\.(\w+)", text, re.MULTILINE))


def test_no_fixture_clashes(pytester: pytest.Pytester) -> None:
    shown = "\n".join(alone(pytester, "--fixtures", "-v").stdout.lines)
    found = re.findall(r"^(\w+)(?: \[\w+ scope\])? -- (\S+)", shown, re.MULTILINE)
    places: dict[str, set[str]] = {}
    for name, place in found:
        places.setdefault(name, set()).add(place)
    assert places.keys() >= {"cov", "event_loop_policy", "anyio_backend", "tmp_path"}
    ours = {name for name, where in places.items() if any(map(is_ours, where))}
    assert {name for name in ours if not name.startswith("agentlimit_")} == FIXTURES
    assert {name: len(places[name]) for name in ours} == dict.fromkeys(ours, 1)


def is_ours(place: str) -> bool:
    return "pytest_agentlimit" in place
