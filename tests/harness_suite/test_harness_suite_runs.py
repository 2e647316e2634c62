from __future__ import annotations

import sys
from pathlib import Path

import pytest
from harness_suite_driver import CHECKS
from pytest_agentlimit.example_suites.harness import scripted
from pytest_agentlimit.example_suites.harness.oracle import says_done

from pytest_agentlimit.plugin.markers import read_markers
from pytest_agentlimit.reports import numbers
from pytest_agentlimit.runs.names import check_name

README = Path(__file__).parents[2] / "example_suites" / "harness" / "README.md"
TINY = """
import json, subprocess, sys, urllib.request
url, key, model, prompt = sys.argv[1:]
properties = {"cmd": {"type": "string"}, "note": {"type": "string"}}
parameters = {"type": "object", "properties": properties, "required": ["cmd", "note"]}
tools = [{"type": "function", "function": {"name": "run_it", "parameters": parameters}}]
messages = [{"role": "user", "content": f"Please do this: {prompt}"}]
headers = {"content-type": "application/json", "authorization": f"Bearer {key}"}
while True:
    body = json.dumps({"model": model, "messages": messages, "tools": tools}).encode()
    request = urllib.request.Request(f"{url}/v1/chat/completions", body, headers)
    message = json.load(urllib.request.urlopen(request))["choices"][0]["message"]
    if not message.get("tool_calls"):
        print(message["content"])
        break
    messages.append(message)
    for call in message["tool_calls"]:
        command = json.loads(call["function"]["arguments"])["cmd"]
        done = subprocess.run(["sh", "-c", command], capture_output=True, text=True)
        content = f"<output>{done.stdout}{done.stderr}</output>"
        messages.append({"role": "tool", "tool_call_id": call["id"], "content": content})
"""
LAZY = """
import sys
if len(sys.argv) == 1:
    print("This is the lazy agent, version 2.0.1.")
    sys.exit()
"""
PROJECT = """
[tool.agentlimit.harness.tiny]
program = "{python}"
argv = ["{script}", "{{url}}", "{{key}}", "{{model}}", "{{prompt}}"]
version = []
dialect = "openai"
[tool.agentlimit.harness.tiny.tools.shell]
name = "run_it"
arguments = {{ command = "cmd" }}

[tool.agentlimit.harness.lazy]
program = "{python}"
argv = ["{lazy}", "{{url}}", "{{key}}", "{{model}}", "{{prompt}}"]
version = ["{lazy}"]
dialect = "openai"

[tool.agentlimit.harness.nowhere]
program = "no-such-agent-program"
argv = ["{{prompt}}"]
install = "build it yourself"
dialect = "openai"
"""


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A project with a tiny agent program of its own, and one that is not there."""
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p no:asyncio")
    script = pytester.path / "tiny.py"
    script.write_text(TINY)
    lazy = pytester.path / "lazy.py"
    lazy.write_text(LAZY + TINY.replace('if not message.get("tool_calls"):', "if True:"))
    text = PROJECT.format(python=sys.executable, script=script, lazy=lazy)
    (pytester.path / "pyproject.toml").write_text(text)
    return pytester


def run(project: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    return project.run(sys.executable, "-m", scripted.__name__, *arguments)


def test_a_program_gets_all_six_tasks_done_and_a_missing_one_is_told(
    project: pytest.Pytester,
) -> None:
    result = run(project, "nowhere", "tiny")
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            "nowhere: not installed: build it yourself",
            "tiny version unknown: 6 of 6 passed, 20 requests, * s",
        ]
    )


def test_nothing_but_missing_programs_is_a_failure(project: pytest.Pytester) -> None:
    result = run(project, "nowhere")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["nowhere: not installed: build it yourself"])


def test_our_own_loop_gets_them_done_too_and_options_go_to_pytest(
    project: pytest.Pytester,
) -> None:
    result = run(project, "--loop", "--", "--agent-shape=agent", "-k", "file or denial")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["our own loop: 2 of 2 passed, 6 requests, * s"])


def test_a_task_that_a_program_does_not_do_is_the_exit_code(project: pytest.Pytester) -> None:
    result = run(project, "tiny", "lazy", "--", "-k", "makes_a_file")
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        ["tiny version unknown: 1 of 1 passed*", "lazy 2.0.1: 0 of 1 passed, 1 request, * s"]
    )
    result.stderr.fnmatch_lines(["*FileMissing: there is no *", "FAILED*makes_a_file*"])


def test_a_run_that_never_started_is_told_with_the_reason(project: pytest.Pytester) -> None:
    result = run(project, "--loop", "--", "-k", "makes_a_file", "--agent-max-inflight=nonsense")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["our own loop: nothing ran, 0 requests, * s"])
    result.stderr.fnmatch_lines(["*--agent-max-inflight*"])


def test_a_weak_model_fails_all_six(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project.path)
    result = scripted.run_suite([], says_done)
    assert (result.passed, result.trials, result.exit_code) == (0, len(CHECKS), 1)
    assert not result.perfect


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "name a program, such as pi"),
        (["--lop"], "--lop is no option; name a program"),
        (["no-such-preset"], "no-such-preset"),
        (["--", "-x"], "name a program"),
    ],
)
def test_what_cannot_be_run_is_an_error_in_one_line(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert scripted.main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert told in line


def test_the_readme_has_the_checks_as_they_are() -> None:
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in README.read_text().splitlines()
        if line.startswith("| ")
    ]
    shown = [row[:4] for row in rows[1:] if len(row) == 6]
    expected = []
    for name, check in CHECKS.items():
        found = read_markers(check.pytestmark, name)  # type: ignore[attr-defined]
        assert found.budget_ms is not None
        budget = numbers.budget(found.budget_ms)
        label = check_name(f"x.py::test_{name}")
        expected.append([label, found.capability, f"{found.weight:g}", budget])
    assert shown == expected
