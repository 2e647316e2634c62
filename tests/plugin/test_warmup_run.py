from __future__ import annotations

import json
import os
from collections.abc import Callable
from itertools import count

import pytest
from agent_run import AgentRun

from pytest_agentlimit.chat.messages import ChatRequest
from pytest_agentlimit.endpoints.warmup import Warmed, WarmUp
from pytest_agentlimit.plugin.warmth import IdleWatch, warm_up_note
from pytest_agentlimit.testing import FakeClock, Scripted, ScriptedEndpoint, http_error, raw, say

Scripts = Callable[..., ScriptedEndpoint]
CHECK = """
    @pytest.mark.latency_budget("9s")
    def test_a(agent):
        agent.ask("what is it?")
    """
# What a server of flesh and blood lists; a scripted one says that it plays a script.
REAL = {
    path: raw(b'{"data": [{"id": "scripted"}], "models": [{"name": "scripted"}]}')
    for path in ("/v1/models", "/api/tags")
}


@pytest.fixture(autouse=True)
def no_preflight(plain_inner_runs: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Count the calls of a warm-up, and no others."""
    options = os.environ["PYTEST_ADDOPTS"]
    monkeypatch.setenv("PYTEST_ADDOPTS", f"{options} --agent-preflight=off")


def loading(*seconds: float) -> Callable[[ChatRequest], Scripted]:
    """Reply in Ollama's words; the nth call says that it loaded for so long, later ones 0.05 s."""
    numbers = count()

    def reply(request: ChatRequest) -> Scripted:
        number = next(numbers)
        load_s = seconds[number] if number < len(seconds) else 0.05
        body = {"message": {"role": "assistant", "content": f"reply {number}"}, "done": True,
                "done_reason": "stop", "load_duration": int(load_s * 1e9)}  # fmt: skip
        return raw(json.dumps(body).encode() + b"\n", "application/x-ndjson")

    return reply


def warm_ups(server: ScriptedEndpoint) -> int:
    return sum(request.max_tokens == 1 for request in server.chat_requests)


def notes(run: AgentRun) -> list[str]:
    return [line["text"] for line in run.journal if line["kind"] == "note"]


@pytest.mark.parametrize("workers", ["-n0", "-n2"])
def test_one_call_comes_before_the_first_trial_and_is_no_part_of_any(
    agent_run: AgentRun, scripted: Scripts, workers: str
) -> None:
    agent_run.checks(CHECK)
    server = scripted(routes=REAL)
    result = agent_run(workers, f"--agent-model={server.spec}", "--agent-trials=3")
    assert result.ret == 0
    assert warm_ups(server) == 1
    assert server.chat_requests[0].max_tokens == 1
    (model,) = agent_run.report["models"]
    assert (model["usage"]["calls"], model["latency"]["n"]) == (3, 3)
    (note,) = notes(agent_run)
    assert note.startswith("scripted: warm-up call ")
    result.stdout.fnmatch_lines(["*scripted: warm-up call * ms (one call, not in any latency)*"])


def test_a_cold_start_is_said_once_and_is_in_no_latency(
    agent_run: AgentRun, scripted: Scripts
) -> None:
    agent_run.checks(CHECK)
    server = scripted(loading(3.1), dialect="ollama", routes=REAL)
    result = agent_run(f"--agent-model={server.spec}", "--agent-p95=within-budget")
    assert warm_ups(server) == 10
    (note,) = notes(agent_run)
    assert ": cold start " in note
    assert "of which 3100 ms for loading the model (one call, not in any latency)" in note
    assert "first/second call at a prompt length: 16 tokens " in note
    assert agent_run.report["models"][0]["latency"]["n"] == 1
    assert result.stdout.str().count("cold start") == 1


def test_a_trial_during_which_the_model_was_loaded_is_no_sample(
    agent_run: AgentRun, scripted: Scripts
) -> None:
    agent_run.checks(CHECK)
    server = scripted(loading(0.05, 0.05, 2.0), dialect="ollama", routes=REAL)
    result = agent_run(
        f"--agent-model={server.spec}", "--agent-trials=3", "--agent-p95=within-budget"
    )
    (model,) = agent_run.report["models"]
    assert (model["score"]["value"], model["latency"]["n"]) == (1, 2)
    (rule,) = (r for r in agent_run.report["gate"]["rules"] if r["rule"] == "p95")
    assert rule["message"].endswith("1 trial left out: the server was loading the model")
    result.stdout.fnmatch_lines(
        ["cold *1 trial left out of latency: the server was loading the model*"]
    )
    assert "n = 2 calls" in " ".join(result.stdout.str().split())  # to the first token


def test_nothing_is_sent_where_nothing_will_be_asked(
    agent_run: AgentRun, scripted: Scripts
) -> None:
    agent_run.checks("def test_plain():\n    assert True\n")
    agent_run.checks(CHECK, "test_more")
    server = scripted(routes=REAL)
    agent_run(f"--agent-model={server.spec}", "test_checks.py")
    agent_run(f"--agent-model={server.spec}", "--collect-only")
    assert server.chat_requests == []


def test_only_models_that_have_a_trial_are_warmed_up(
    agent_run: AgentRun, scripted: Scripts
) -> None:
    agent_run.checks(CHECK)
    one, other = scripted(routes=REAL), scripted(routes=REAL)
    agent_run.pytester.makepyprojecttoml(
        f"""
        [tool.agentlimit.models]
        one = {{base_url = "{one.url}", model = "scripted"}}
        other = {{base_url = "{other.url}", model = "scripted"}}
        """
    )
    agent_run("--agent-model=one,other", "-k", "other")
    assert (len(one.chat_requests), warm_ups(other)) == (0, 1)


def test_a_failed_warm_up_is_a_note_and_the_run_goes_on(
    agent_run: AgentRun, scripted: Scripts
) -> None:
    agent_run.checks(CHECK)
    server = scripted(
        lambda request: http_error(500, "not yet") if request.max_tokens == 1 else say("yes"),
        routes=REAL,
    )
    result = agent_run(f"--agent-model={server.spec}")
    assert (result.ret, agent_run.outcomes) == (0, ["passed"])
    assert notes(agent_run)[0].startswith(
        "scripted: the warm-up failed, so the first trial may be slow: "
    )


def test_a_client_of_a_conftest_gets_the_calls_of_checks_only(
    agent_run: AgentRun, scripted: Scripts
) -> None:
    agent_run.pytester.makeconftest(
        """
        from pytest_agentlimit import Endpoint

        def pytest_agentlimit_make_client(spec, on_exchange):
            return Endpoint(spec, on_exchange=on_exchange)
        """
    )
    agent_run.checks(CHECK)
    server = scripted(routes=REAL)
    agent_run(f"--agent-model={server.spec}")
    assert (len(server.chat_requests), warm_ups(server)) == (1, 0)


def test_a_run_that_goes_on_is_warmed_up_only_for_what_is_missing(
    agent_run: AgentRun, scripted: Scripts
) -> None:
    agent_run.checks(CHECK)
    server = scripted(routes=REAL)
    agent_run(f"--agent-model={server.spec}")
    agent_run("--agent-resume")
    assert warm_ups(server) == 1
    (journal,) = agent_run.folder.glob(".agentlimit/runs/*/journal.jsonl")
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join(line for line in lines if '"kind":"trial"' not in line))
    agent_run("--agent-resume")
    assert warm_ups(server) == 2


def test_five_idle_minutes_bring_another_call(agent_run: AgentRun, scripted: Scripts) -> None:
    agent_run.pytester.makeconftest(
        """
        import pytest
        from pytest_agentlimit.plugin.context import CONTEXT
        from pytest_agentlimit.plugin.warmth import IdleWatch
        from pytest_agentlimit.testing import FakeClock

        CLOCK = FakeClock()

        @pytest.fixture
        def pause():
            return CLOCK.advance

        def pytest_collection_modifyitems(config):
            config.stash[CONTEXT].idle = IdleWatch(CLOCK)
            CLOCK.advance(400)  # a slow collection
        """
    )
    agent_run.checks(
        """
        def test_a(agent): agent.ask("a")
        def test_short_pause(pause): pause(299)
        def test_b(agent): agent.ask("b")
        def test_long_pause(pause): pause(300)
        def test_c(agent): agent.ask("c")
        def test_d(agent): agent.ask("d")
        """
    )
    server = scripted(routes=REAL)
    result = agent_run(f"--agent-model={server.spec}")
    asked = [
        "-" if request.max_tokens == 1 else request.messages[-1].text
        for request in server.chat_requests
    ]
    assert asked == ["-", "a", "b", "-", "c", "d"]
    records = [line["record"] for line in agent_run.journal if "record" in line]
    assert [record["rewarmed_ms"] is not None for record in records] == [False, False, True, False]
    assert [len(record["calls"]) for record in records] == [1, 1, 1, 1]
    result.stdout.fnmatch_lines(["cold *warmed up again before 1 trial, after idle minutes: *"])


def test_idleness_is_counted_for_each_model() -> None:
    clock = FakeClock()
    idle = IdleWatch(clock)
    clock.advance(200)
    idle.used("a")
    clock.advance(100)
    assert (idle.is_long("a"), idle.is_long("b")) == (False, True)
    clock.advance(200)
    assert idle.is_long("a")


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        (
            WarmUp((Warmed(16, 0.9, 0.1), Warmed(32, 0.8, 0.1), Warmed(64, 0.8, 0.2)), cold=True),
            "m: cold start 900 ms (one call, not in any latency); first/second call at a prompt "
            "length: 16 tokens 900 ms/100 ms, 32 tokens 800 ms/100 ms, 64 tokens 800 ms/200 ms; "
            "the server compiles per length: a trial of another length may pay for it",
        ),
        (
            WarmUp((Warmed(16, 3.4, 0.4), Warmed(32, error="no answer within 20 s")), cold=True),
            "m: cold start 3400 ms (one call, not in any latency); first/second call at a prompt "
            "length: 16 tokens 3400 ms/400 ms; answers 16 tokens in 3400 ms; 32 tokens: no answer "
            "within 20 s",
        ),
    ],
)  # fmt: skip
def test_what_is_said_of_a_warm_up(seen: WarmUp, said: str) -> None:
    assert warm_up_note("m", seen) == said


def test_a_models_name_cannot_drive_the_terminal() -> None:
    note = warm_up_note("m\x1b[2J\n", WarmUp((Warmed(16, 0.1),), cold=False))
    assert note.isprintable()
