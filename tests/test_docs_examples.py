from __future__ import annotations

import doctest
import re
import shlex
import sys
from collections.abc import Callable
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from docs_pages import DOCS, FENCES, README, Fence
from pytest_agentlimit.example_suites.limits.oracles import collapsing, solve

from pytest_agentlimit import testing
from pytest_agentlimit.chat.messages import ChatRequest, ThinkingBlock, ToolResult
from pytest_agentlimit.endpoints import resolve
from pytest_agentlimit.testing import Scripted, ScriptedEndpoint, call, http_error, say

TESTED = DOCS / "how-to/test-your-checks.md"
CLIMBED = DOCS / "how-to/climb-a-ladder.md"
DRIVEN = DOCS / "how-to/run-an-agent-program.md"


@pytest.fixture
def pytester(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """Inner runs keep file order, have no asyncio mode to warn about, and a known width.

    What listens on the machine of a developer has no say in them.
    """
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p no:randomly -p no:asyncio")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(resolve, "default_probes", lambda environ: ())
    return pytester


def write_files(pytester: pytest.Pytester, page: Path) -> list[str]:
    files = {fence.file: fence.text for fence in FENCES if fence.page == page and fence.file}
    for name, text in files.items():
        target = pytester.path / name
        target.parent.mkdir(exist_ok=True)
        target.write_text(text)
    return list(files)


# Python


def right_answer(request: ChatRequest) -> Scripted:
    """A model that knows the right answer to every example, and to nothing else."""
    last = request.messages[-1]
    if any(isinstance(block, ToolResult) for block in last.blocks):
        return say(f"Done: {last.blocks[-1].content}")  # type: ignore[union-attr]
    prompt = last.text
    if "700,000 people" in prompt:
        return say('{"city": "Oslo", "people": 700000}')
    if "spelling" in prompt:
        return call("write_file", path="greeting.txt", content="Hello, world\n")
    if match := re.search(r"What is (\d+) \+ (\d+)", prompt):
        return call("add", a=int(match[1]), b=int(match[2]))
    if match := re.search(r"will the weather be in (\w+) on (\d+) March 2031", prompt):
        return call("get_forecast", city=match[1], date=f"2031-03-{int(match[2]):02}")
    if match := re.search(r"the weather in (\w+)", prompt):
        return call("get_weather", city=match[1])
    if prompt == "What is my name?":
        return say(request.messages[0].text.split()[-1])
    plain = {
        "My name is Ada.": "Hello, Ada.",
        "Say hello.": "Hello!",
        "Count from 1 to 5.": "1, 2, 3, ",
    }
    return say(plain[prompt])


@pytest.mark.parametrize("dialect", ["openai", "anthropic", "ollama"])
@pytest.mark.parametrize(
    "page", [README, DOCS / "tutorial/first-check.md", DOCS / "reference/fixtures.md"]
)
def test_the_checks_pass_for_a_right_answer(
    pytester: pytest.Pytester, page: Path, dialect: Any
) -> None:
    files = write_files(pytester, page)
    assert files
    with ScriptedEndpoint(right_answer, dialect=dialect) as server:
        # Not by module name: this suite has a test_workspace.py of its own.
        result = pytester.runpytest(
            "--import-mode=importlib",
            *files,
            f"--agent-model={server.spec}",
            "--agent-trials=2",
        )
    assert server.problems == []
    passed = result.parseoutcomes()
    assert set(passed) == {"passed"}
    assert passed["passed"] >= 2 * len(files)


def test_no_page_with_checks_is_left_out() -> None:
    pages = {fence.page for fence in FENCES if fence.file and fence.file != "conftest.py"}
    assert pages == {
        README,
        TESTED,
        CLIMBED,
        DRIVEN,
        DOCS / "tutorial/first-check.md",
        DOCS / "reference/fixtures.md",
    }


def adding(request: ChatRequest) -> Scripted:
    """A model that climbs both ladders of the page."""
    numbers = re.search(r"for each of these numbers.*\[(.*)\]", request.messages[0].text)
    if numbers is None:
        return solve(request)
    wanted = [int(number) for number in numbers[1].split(",")]
    results = [b for m in request.messages for b in m.blocks if isinstance(b, ToolResult)]
    if len(results) < len(wanted):
        return call("add", number=wanted[len(results)])
    return say(f"They make {sum(wanted):,}.")


def test_the_ladders_of_the_page_are_climbed(pytester: pytest.Pytester) -> None:
    files = write_files(pytester, CLIMBED)
    with ScriptedEndpoint(adding) as server:
        pytester.runpytest(*files, f"--agent-model={server.spec}").assert_outcomes(passed=2)
    assert server.problems == []
    with ScriptedEndpoint([say("No.")]) as server:
        pytester.runpytest(*files, f"--agent-model={server.spec}").assert_outcomes(failed=2)


PROGRAM = """#!{python}
import json, os, urllib.request
body = {{"model": "m", "messages": [{{"role": "user", "content": "the notes?"}}]}}
headers = {{"authorization": "Bearer " + os.environ["OPENAI_API_KEY"]}}
url = os.environ["OPENAI_BASE_URL"] + "/chat/completions"
asked = urllib.request.Request(url, json.dumps(body).encode(), headers)
reply = json.load(urllib.request.urlopen(asked))["choices"][0]["message"]["content"]
open("NOTES.md", "w").write(reply)
"""


def test_the_check_of_a_program_goes_through_it(pytester: pytest.Pytester) -> None:
    files = write_files(pytester, DRIVEN)
    (config,) = (f.text for f in FENCES if f.page == DRIVEN and f.language == "toml")
    pytester.makepyprojecttoml(config)
    program = pytester.path / "tools/our-agent"
    program.parent.mkdir()
    program.write_text(PROGRAM.format(python=sys.executable))
    program.chmod(0o755)
    for reply, outcome in ((say("The clock runs forwards."), "passed"), (say("Fine."), "failed")):
        with ScriptedEndpoint([reply]) as server:
            options = [f"--agent-model={server.spec}", "--agent-harness=ours"]
            result = pytester.runpytest("--import-mode=importlib", *files, *options)
        result.assert_outcomes(**{outcome: 1})


def test_the_first_check_is_the_same_wherever_it_is_shown() -> None:
    shown = {f.text for f in FENCES if f.file == "test_weather.py"}
    assert len(shown) == 1


def test_null_models_pass_the_bad_check_and_not_the_good_one(pytester: pytest.Pytester) -> None:
    write_files(pytester, TESTED)
    result = pytester.runpytest("checks", "--agent-audit")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["vacuous *1 of 2 checks*", "*emits a tool call: passed by *"])
    (pytester.path / "checks" / "test_weather.py").unlink()
    assert pytester.runpytest("checks", "--agent-audit").ret == pytest.ExitCode.OK


def test_the_tests_of_the_checks_run(pytester: pytest.Pytester) -> None:
    write_files(pytester, TESTED)
    pytester.runpytest("test_the_checks.py").assert_outcomes(passed=7)


def test_the_good_check_can_be_passed(pytester: pytest.Pytester) -> None:
    write_files(pytester, TESTED)
    with ScriptedEndpoint(right_answer) as server:
        result = pytester.runpytest(
            "checks/test_forecast.py", f"--agent-model={server.spec}", "--agent-trials=4"
        )
    result.assert_outcomes(passed=4)


@pytest.mark.parametrize("fence", [f for f in FENCES if f.file == "conftest.py"], ids=str)
def test_a_conftest_holds_hooks_that_exist(pytester: pytest.Pytester, fence: Fence) -> None:
    # What each hook does is tested where hooks are; pytest itself refuses unknown names here.
    pytester.makeconftest(fence.text)
    pytester.makepyfile("def test_hi(agent): agent.ask('hi')")
    result = pytester.runpytest("--collect-only", "--agent-model=null:mute")
    assert result.ret == pytest.ExitCode.OK


@pytest.mark.parametrize(
    "fence", [f for f in FENCES if f.language == "python" and not f.file], ids=str
)
def test_a_script_runs_beside_a_report(
    pytester: pytest.Pytester, capsys: pytest.CaptureFixture[str], fence: Fence
) -> None:
    pytester.makepyfile("def test_hi(agent): assert agent.ask('hi').text == 'hi'")
    pytester.runpytest(
        "--agent-model=null:echo,null:mute", "--agent-report=json:agentlimit.json"
    ).assert_outcomes(passed=1, failed=1)
    capsys.readouterr()
    exec(compile(fence.text, str(fence), "exec"), {})
    assert capsys.readouterr().out.splitlines() == ["null-echo 100.0%", "null-mute 0.0%"]


@pytest.mark.parametrize("page", sorted({f.page for f in FENCES if f.language == "pycon"}))
def test_a_console_session_goes_as_shown(page: Path) -> None:
    result = doctest.testfile(str(page), module_relative=False)
    assert result.attempted > 0
    assert result.failed == 0


def test_the_docstring_of_the_test_kit_goes_as_shown() -> None:
    result = doctest.testmod(testing)
    assert result.attempted > 0
    assert result.failed == 0


# output


def incumbent() -> Callable[[ChatRequest], Scripted]:
    """A model that fails one trial in eight, never in the same words twice."""
    numbers = count(1)

    def reply(request: ChatRequest) -> Scripted:
        number = next(numbers)
        answer = say("It snows.") if number % 8 == 0 else right_answer(request)
        return answer.with_(blocks=(ThinkingBlock(text=f"thought {number}"), *answer.blocks))

    return reply


def candidate() -> Callable[[ChatRequest], Scripted]:
    """A model that has lost the tool."""
    numbers = count(1)
    return lambda request: say("It snows.", thinking=f"thought {next(numbers)}")


SCRIPTS: dict[str, Any] = {
    "@incumbent": incumbent,
    "@candidate": candidate,
    "@leaked": say('<tool_call>{"name": "get_weather", "arguments": {"city":"Oslo"}}</tool_call>'),
    "@cut": call("get_weather", city="Oslo").with_(stop_reason="max_tokens"),
    "@broken": http_error(500, "out of memory"),
    "@spare": call("get_weather", city="Oslo"),
    "@chains6": lambda: collapsing(6),
}
OUTPUTS = [fence for fence in FENCES if fence.comment.startswith("output of: ")]


def loosely(line: str) -> str:
    """A line without what differs from run to run: times, widths, rulers, ids of runs."""
    line = re.sub(r"\d{8}T\d{6}Z-[0-9a-f]{8}", "RUN", line)
    line = re.sub(r"\d+(\.\d+)? ms|\d+\.\d+s", "TIME", line.removesuffix("…"))
    return re.sub(r"={3,}", "=", " ".join(line.split()))


def printed_by(pytester: pytest.Pytester, command: str) -> list[str]:
    """Run one command of a chain in the folder of the test."""
    program, *arguments = shlex.split(command)
    with ExitStack() as stack:
        for name, script in SCRIPTS.items():
            replies = script() if callable(script) else [script]
            if {name, f"--agent-model={name}"} & set(arguments):
                server = stack.enter_context(ScriptedEndpoint(replies, model=name[1:]))
                arguments = [a.replace(name, server.spec) for a in arguments]
        if program == "agentlimit":
            main = [sys.executable, "-c", "from pytest_agentlimit.cli import main; main()"]
            return pytester.run(*main, *arguments).outlines
        assert program == "pytest"
        result = pytester.runpytest(*arguments)
    return [*result.outlines, *result.errlines]


@pytest.mark.parametrize("fence", OUTPUTS, ids=str)
def test_output_is_what_the_command_prints(pytester: pytest.Pytester, fence: Fence) -> None:
    assert fence.language == "text"
    (weather,) = {f.text for f in FENCES if f.file == "test_weather.py"}
    (pytester.path / "test_weather.py").write_text(weather)
    if fence.page == CLIMBED:
        write_files(pytester, CLIMBED)
    for config in (f for f in FENCES if f.page == fence.page and f.language == "json5"):
        (pytester.path / "openclaw.json").write_text(config.text)
    lines: list[str] = []
    for command in fence.comment.removeprefix("output of: ").split(" && "):
        lines = printed_by(pytester, command)
    printed = iter(map(loosely, lines))
    for line in filter(None, map(loosely, fence.text.splitlines())):
        assert any(line in found for found in printed), f"not printed, or not here: {line}"


def test_every_output_is_held_against_a_command_or_is_of_a_real_run() -> None:
    texts = [fence for fence in FENCES if fence.language == "text" and fence not in OUTPUTS]
    drawings = [fence for fence in texts if fence.page.name == "architecture.md"]
    assert [str(f) for f in texts if f not in drawings and f.comment != "real run"] == []
    assert len(drawings) == 1
