"""A check that fails because of its server is blamed on whoever runs it, never on the model."""

from __future__ import annotations

import pytest
from agent_run import AgentRun
from zoo import HEALTHY, ILL, ZOO, Animal, kept

TOOLS = """
    from pytest_agentlimit import Tool
    PLACE = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    WEATHER = Tool("get_weather", "The weather in a city.", PLACE, function=lambda city: "snow")
    """
CHECKS = {
    "text": """
    def test_it(agent):
        assert "hello" in agent.ask("Say hello.").text.lower()
    """,
    "tool": """
    def test_it(agent):
        reply = agent.ask("What is the weather in Oslo?", tools=[WEATHER])
        assert reply.expect_tool_call("get_weather").arguments["city"] == "Oslo"
    """,
    "required": """
    def test_it(agent):
        reply = agent.ask("Say hello.", tools=[WEATHER], tool_choice="required")
        reply.expect_tool_call("get_weather")
    """,
    "parallel": """
    def test_it(agent):
        reply = agent.ask("What is the weather in Oslo and in Lima?", tools=[WEATHER])
        assert [call.arguments["city"] for call in reply.tool_calls] == ["Oslo", "Lima"]
        assert len({call.id for call in reply.tool_calls}) == 2
    """,
    "run": """
    def test_it(agent):
        assert "snow" in agent.run("What is the weather in Oslo?", tools=[WEATHER]).final_text
    """,
    "schema": """
    COLOUR = {"type": "object", "properties": {"colour": {"enum": ["red", "green"]}},
              "required": ["colour"]}
    def test_it(agent):
        assert agent.ask("A colour?", schema=COLOUR).expect_json(COLOUR)["colour"] == "red"
    """,
    "system": """
    from pytest_agentlimit.chat.messages import ChatRequest, Message, TextBlock
    def turn(role, text):
        return Message(role=role, blocks=(TextBlock(text=text),))
    def test_it(endpoint):
        turns = (turn("user", "Hi."), turn("system", "Be kind."), turn("user", "Say hello."))
        assert endpoint.send(ChatRequest(model="", messages=turns)).text
    """,
    "two": """
    from concurrent.futures import ThreadPoolExecutor
    def test_it(agent):
        with ThreadPoolExecutor() as pool:
            replies = list(pool.map(agent.ask, ["Say hello.", "Say hello again."]))
        assert all(reply.text for reply in replies)
    """,
    "long": """
    def test_it(agent):
        filler = "The sea is calm and the wind is low today. " * 780
        asked = f"The secret word is k4711. {filler} What is the secret word?"
        assert "k4711" in agent.ask(asked).text
    """,
}
FAILS = {
    "hangs_later": "run",
    "tool_choice_ignored": "required",
    "tool_choice_refused": "required",
    "calls_merged": "parallel",
    "null_content_refused": "run",
    "wants_arguments_object": "run",
    "replay_refused": "run",
    "schema_ignored": "schema",
    "schema_refused": "schema",
    "mid_system_refused": "system",
    "concurrency_hang": "two",
    "concurrency_refused": "two",
    "reasoning_eats_budget": "text",
    "empty_completion": "text",
    **dict.fromkeys(("silent_truncation", "context_smaller", "empty_on_overflow"), "long"),
    **dict.fromkeys(("breaks_on_long", "hangs_on_long"), "long"),
}
"""By the fault, the check that fails because of it; where none is named, the one with a tool."""
REFUSED = ("html", "auth", "wrong_model", "wrong_base")
"""Faults with which a run does not even start."""
HARMLESS = (
    *("usage_missing", "stream_ignored", "no_context_window", "stop_with_call", "cold_start"),
    "calls_merged",
)
"""Faults that fail no check of what a model can do, or that the client puts right."""
UNSUPPORTED = (
    *("no_tools", "no_tool_parser", "tool_choice_ignored", "tool_choice_refused"),
    *("schema_ignored", "schema_refused"),
)
FULL = (
    *("mid_system_refused", "concurrency_hang", "concurrency_refused", "silent_truncation"),
    *("context_smaller", "empty_on_overflow", "breaks_on_long", "hangs_on_long"),
)
SHORT = ("hung", "hangs_later", "concurrency_hang", "hangs_on_long")


def run_on(agent_run: AgentRun, animal: Animal, check: str, *args: str) -> pytest.RunResult:
    """Run a check on an animal of the zoo, named in the project's configuration."""
    agent_run.checks(TOOLS + CHECKS[check])
    with kept(animal, animal.dialects[0]) as (server, spec):
        table = [f'base_url = "{spec.base_url}"', f'dialect = "{spec.dialect}"']
        table += [f'model = "{spec.model}"']
        if spec.context_window:
            table += [f"context_window = {spec.context_window}"]
        lines = "\n".join(["[models.patient]", *table])
        (agent_run.folder / "agentlimit.toml").write_text(lines + "\n")
        result = agent_run("--agent-model=patient", *args)
        assert server.problems == []
    return result


@pytest.mark.parametrize("animal", ILL, ids=str)
def test_an_ill_server_is_blamed_and_not_its_model(agent_run: AgentRun, animal: Animal) -> None:
    code = animal.code or ""
    args = ["--agent-preflight=full" if code in FULL else "--agent-preflight=quick"]
    if code in SHORT:
        args.append("--agent-timeout=500ms")
    if animal.name == "only bare":
        args.append("--agent-shape=agent")
    result = run_on(agent_run, animal, FAILS.get(code, "tool"), *args)
    if code in REFUSED or animal.name == "silent":
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        assert agent_run.journal == []
        return
    (check,) = agent_run.report["models"][0]["checks"]
    if code in HARMLESS:
        assert check["outcomes"] == {"passed": 1}
        return
    assert check["passes"] == 0
    (blame,) = check["blame"]
    assert blame in ("engine", "config")
    assert ("unsupported" in check["outcomes"]) is (code in UNSUPPORTED)


@pytest.mark.parametrize("animal", HEALTHY, ids=str)
def test_no_fault_is_seen_where_there_is_none(agent_run: AgentRun, animal: Animal) -> None:
    result = run_on(agent_run, animal, "tool", "--agent-preflight=quick")
    result.stdout.fnmatch_lines(["agentlimit: preflight of patient: *", "*no fault seen"])
    (check,) = agent_run.report["models"][0]["checks"]
    if animal.name in ("nonsense", "mute", "json of its own"):
        assert check["outcomes"] == {"failed": 1}


@pytest.mark.parametrize("name", ["nonsense", "mute"])
def test_a_bad_model_on_a_healthy_server_is_to_blame(agent_run: AgentRun, name: str) -> None:
    run_on(agent_run, ZOO[name], "tool", "--agent-preflight=quick")
    (check,) = agent_run.report["models"][0]["checks"]
    assert check["blame"] == {"model": 1}


@pytest.mark.parametrize("name", ["stream loses calls", "loses calls", "truncates"])
def test_some_of_it_only_a_preflight_can_know(agent_run: AgentRun, name: str) -> None:
    check = FAILS.get(ZOO[name].code or "", "tool")
    blames = []
    for mode in ("off", "full"):
        run_on(agent_run, ZOO[name], check, f"--agent-preflight={mode}")
        blames += list(agent_run.report["models"][0]["checks"][0]["blame"])
    assert blames == ["model", ZOO[name].blame]


def test_a_wrong_answer_is_the_models_even_where_the_server_is_ill(agent_run: AgentRun) -> None:
    wrong = """
    def test_it(agent):
        reply = agent.ask("What is the weather in Oslo?", tools=[WEATHER])
        assert "Lima" in reply.text or reply.tool_calls[0].arguments["city"] == "Lima"
    """
    agent_run.checks(TOOLS + wrong)
    with kept(ZOO["merges calls"], "openai") as (server, _):
        agent_run(f"--agent-model={server.spec}", "--agent-preflight=quick")
    (check,) = agent_run.report["models"][0]["checks"]
    assert check["blame"] == {"model": 1}
