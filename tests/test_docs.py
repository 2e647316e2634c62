from __future__ import annotations

import doctest
import importlib.util
import json
import re
import shlex
import textwrap
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest
import typer.main
from packaging.requirements import Requirement
from pytest_agentlimit.example_suites.edge_study import test_edge_study as study

from pytest_agentlimit import hookspecs, plugin, testing
from pytest_agentlimit.chat.messages import ChatRequest, ToolResult
from pytest_agentlimit.cli import app
from pytest_agentlimit.endpoints import catalog, resolve
from pytest_agentlimit.endpoints.literals import literal_spec
from pytest_agentlimit.endpoints.model_table import spec_from_table
from pytest_agentlimit.endpoints.nulls import NULL_MODELS
from pytest_agentlimit.plugin.markers import DESCRIPTIONS, read_markers
from pytest_agentlimit.plugin.options import OPTIONS, read_settings
from pytest_agentlimit.reports import numbers
from pytest_agentlimit.reports.view import check_name
from pytest_agentlimit.testing import Scripted, ScriptedEndpoint, call, http_error, say

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
README = ROOT / "README.md"
PAGES = [README, *sorted(DOCS.rglob("*.md"))]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
LANGUAGES = {"python", "pycon", "toml", "yaml", "sh", "text", "{toctree}"}
TESTED = "how-to/test-your-checks.md"  # its checks are judged by name below, not only run


class Fence(NamedTuple):
    page: Path
    line: int
    language: str
    text: str
    comment: str
    """The HTML comment on the line before the fence, if there is one."""

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def file(self) -> str | None:
        """The file a Python example says it is, in its first line."""
        named = re.match(r"# (\S+\.py)\n", self.text)
        return named[1] if named and self.language == "python" else None


def fences_of(page: Path) -> Iterator[Fence]:
    lines = page.read_text().splitlines()
    number = 0
    while number < len(lines):
        opening = re.match(r"( *)(`{3,}|~{3,})(.*)$", lines[number])
        if opening:
            start, (indent, ticks, language) = number, opening.groups()
            number = lines.index(indent + ticks, number + 1)
            body = textwrap.dedent("\n".join(lines[start + 1 : number])) + "\n"
            comment = re.fullmatch(r" *<!-- (.*) -->", lines[start - 1])
            yield Fence(page, start + 1, language.strip(), body, comment[1] if comment else "")
        number += 1


FENCES = [fence for page in PAGES for fence in fences_of(page)]


def of(language: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        "fence", [fence for fence in FENCES if fence.language == language], ids=str
    )


each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


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


def as_imported(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# every fence is known to some test below


@each_page
def test_every_fence_says_what_it_is(page: Path) -> None:
    for fence in fences_of(page):
        assert fence.language in LANGUAGES, f"{fence}: {fence.language!r} is checked by no test"
        toctree = fence.language == "{toctree}"
        assert not toctree or page == DOCS / "index.md", fence


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
        result = pytester.runpytest(*files, f"--agent-model={server.spec}", "--agent-trials=2")
    assert server.problems == []
    passed = result.parseoutcomes()
    assert set(passed) == {"passed"}
    assert passed["passed"] >= 2 * len(files)


def test_no_page_with_checks_is_left_out() -> None:
    pages = {fence.page for fence in FENCES if fence.file and fence.file != "conftest.py"}
    assert pages == {
        README,
        DOCS / TESTED,
        DOCS / "tutorial/first-check.md",
        DOCS / "reference/fixtures.md",
    }


def test_the_first_check_is_the_same_wherever_it_is_shown() -> None:
    shown = {f.text for f in FENCES if f.file == "test_weather.py"}
    assert len(shown) == 1


def test_null_models_pass_the_bad_check_and_not_the_good_one(pytester: pytest.Pytester) -> None:
    write_files(pytester, DOCS / TESTED)
    example = as_imported(pytester.path / "test_null_models.py")
    passed = example.passed_by_null_models("checks", pytester.path / "nulls.json")
    bad = "checks/test_weather.py::test_emits_a_tool_call"
    models = ("null-first-tool", "null-every-tool", "null-stale-context")
    assert passed == [(model, bad) for model in models]
    (pytester.path / "checks" / "test_weather.py").unlink()
    pytester.runpytest("test_null_models.py").assert_outcomes(passed=1)


def test_the_tests_of_the_checks_run(pytester: pytest.Pytester) -> None:
    write_files(pytester, DOCS / TESTED)
    pytester.runpytest("test_the_checks.py").assert_outcomes(passed=7)


def test_the_good_check_can_be_passed(pytester: pytest.Pytester) -> None:
    write_files(pytester, DOCS / TESTED)
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


# configuration


@of("toml")
def test_configuration_is_accepted(fence: Fence, tmp_path: Path) -> None:
    tool = tomllib.loads(fence.text)["tool"]
    for name, table in tool.pop("agentlimit", {"models": {}})["models"].items():
        spec_from_table(name, table, where=str(fence), folder=tmp_path)
    settings = tool.pop("pytest", {"ini_options": {}})["ini_options"]
    assert set(settings) <= {option.dest for option in OPTIONS}
    assert tool == {}


def test_settings_in_the_ini_file_are_read(pytester: pytest.Pytester) -> None:
    (fence,) = (f for f in FENCES if f.page.name == "options.md" and f.language == "toml")
    pytester.makepyprojecttoml(fence.text)
    settings = read_settings(pytester.parseconfig())
    assert settings.models == ("open-claw",)
    assert (settings.trials, settings.min_score, settings.p95) == (6, 0.8, "within-budget")


# commands


def commands_of(fence: Fence) -> list[list[str]]:
    lines = fence.text.splitlines() if fence.language == "sh" else list(yaml_commands(fence.text))
    words = [shlex.split(re.sub(r"(^|\s)#.*", "", line)) for line in lines]
    return [command for command in words if command]


def yaml_commands(text: str) -> Iterator[str]:
    """The commands of `run:` steps; a folded one goes on as long as lines are indented deeper."""
    for match in re.finditer(r"^( *)- run: (.*(?:\n\1    .*)*)$", text, re.M):
        yield " ".join(match[2].removeprefix(">-").split())


@pytest.mark.parametrize("fence", [f for f in FENCES if f.language in ("sh", "yaml")], ids=str)
def test_every_command_is_accepted(pytester: pytest.Pytester, fence: Fence) -> None:
    commands = commands_of(fence)
    assert commands
    verbs = typer.main.get_group(app).commands
    for program, *arguments in commands:
        if program == "pytest":
            check_pytest(pytester, arguments)
        elif program == "agentlimit":
            verbs[arguments[0]].make_context(arguments[0], arguments[1:])  # raises on wrong usage
        elif program == "make":
            assert re.search(rf"^{arguments[0]}:", (ROOT / "Makefile").read_text(), re.M)
        elif program == "pip":
            assert arguments[0] == "install"
            wanted = Requirement(arguments[1])
            assert wanted.name == PROJECT["project"]["name"]
            assert wanted.extras <= set(PROJECT["project"]["optional-dependencies"])
        else:
            assert program == "cat", f"{fence}: {program}"


def check_pytest(pytester: pytest.Pytester, arguments: list[str]) -> None:
    settings = read_settings(pytester.parseconfig(*arguments))
    for name in settings.models:
        known = name in catalog.MODELS or name in tables() or literal_spec(name, {}) is not None
        assert known, f"{name} is a model that no page defines"


def tables() -> set[str]:
    """The models that the configuration examples define."""
    shown = [tomllib.loads(fence.text)["tool"] for fence in FENCES if fence.language == "toml"]
    return {name for tool in shown for name in tool.get("agentlimit", {}).get("models", ())}


@of("yaml")
def test_a_workflow_is_indented_as_yaml_wants_it(fence: Fence) -> None:
    assert "\t" not in fence.text
    depths = [len(line) - len(line.lstrip()) for line in fence.text.splitlines()]
    assert all(depth % 2 == 0 for depth in depths)
    assert any(command[0] == "pytest" for command in commands_of(fence))


# output

SCRIPTS = {
    "@leaked": say('<tool_call>{"name": "get_weather", "arguments": {"city":"Oslo"}}</tool_call>'),
    "@cut": call("get_weather", city="Oslo").with_(stop_reason="max_tokens"),
    "@broken": http_error(500, "out of memory"),
}
OUTPUTS = [fence for fence in FENCES if fence.comment.startswith("output of: ")]


def loosely(line: str) -> str:
    """A line without what differs from run to run: times, widths, rulers."""
    line = re.sub(r"\d+(\.\d+)? ms|\d+\.\d+s", "TIME", line.removesuffix("…"))
    return re.sub(r"={3,}", "=", " ".join(line.split()))


@pytest.mark.parametrize("fence", OUTPUTS, ids=str)
def test_output_is_what_the_command_prints(pytester: pytest.Pytester, fence: Fence) -> None:
    assert fence.language == "text"
    program, *arguments = shlex.split(fence.comment.removeprefix("output of: "))
    assert program == "pytest"
    (weather,) = {f.text for f in FENCES if f.file == "test_weather.py"}
    (pytester.path / "test_weather.py").write_text(weather)
    name = next((name for name in SCRIPTS if f"--agent-model={name}" in arguments), "@cut")
    with ScriptedEndpoint([SCRIPTS[name]]) as server:
        result = pytester.runpytest(*(a.replace(name, server.spec) for a in arguments))
    printed = iter([loosely(line) for line in [*result.outlines, *result.errlines]])
    for line in filter(None, map(loosely, fence.text.splitlines())):
        assert any(line in found for found in printed), f"not printed, or not here: {line}"


def test_output_is_held_against_a_command() -> None:
    assert len(OUTPUTS) >= 7


def test_the_readme_shows_the_study_as_it_is() -> None:
    (block,) = re.findall(r"<!-- real run -->\n(.*?)<!-- real run -->", README.read_text(), re.S)
    for name, check in vars(study).items():
        if not name.startswith("test_"):
            continue
        markers = read_markers(check.pytestmark, name)
        budget = re.escape(numbers.budget(markers.budget_ms))
        row = rf"^{check_name(f'x.py::{name}')} +{markers.weight:g}  .* {budget}( |$)"
        assert re.search(row, block, re.M), f"{name} is not in the table as it is in the study"
    assert re.search(r"^score .*95 % interval, n = 10 checks × 1 trial", block, re.M)


# words: options, markers, verbs


@each_page
def test_every_option_marker_and_verb_exists(page: Path) -> None:
    text = page.read_text()
    assert set(re.findall(r"--agent-[a-z0-9-]+", text)) <= {option.flag for option in OPTIONS}
    known = {option.dest for option in OPTIONS} | set(plugin.__all__)
    assert set(re.findall(r"(?<![a-z_])agentlimit_[a-z0-9_]+", text)) <= known
    markers = {re.split(r"\W", text)[0] for text in DESCRIPTIONS} | {"parametrize"}
    assert set(re.findall(r"pytest\.mark\.(\w+)", text)) <= markers
    verbs = {command.name for command in app.registered_commands}
    assert set(re.findall(r"`agentlimit (\w+)", text)) <= verbs


# pages


def links_of(page: Path) -> set[Path]:
    prose = re.sub(r"^ *```.*?^ *```$", "", page.read_text(), flags=re.S | re.M)
    found = re.findall(r"\]\(\s*([^)#\s]+)(?:#[^)]*)?\)", prose)
    return {(page.parent / link).resolve() for link in found if "://" not in link}


def listed() -> list[Path]:
    """The pages of the tables of contents in index.md."""
    toctrees = [fence.text for fence in fences_of(DOCS / "index.md") if "toctree" in fence.language]
    entries = [line for text in toctrees for line in text.split() if "/" in line]
    return [DOCS / f"{entry}.md" for entry in entries]


@each_page
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in links_of(page):
        assert target.exists(), f"{page.name} links to {target}"
        assert target.is_relative_to(ROOT)


def test_every_page_is_in_the_table_of_contents_once() -> None:
    assert sorted(listed()) == sorted(set(DOCS.rglob("*.md")) - {DOCS / "index.md"})


def test_every_page_can_be_reached_from_the_readme() -> None:
    assert links_of(README) >= set(listed())


def test_the_readme_is_short() -> None:
    assert len(README.read_text().splitlines()) <= 150


# references, against the code they describe

GENERATOR = as_imported(DOCS / "generate_reference.py")


@pytest.mark.parametrize("name", sorted(GENERATOR.PAGES))
def test_a_generated_page_is_up_to_date(name: str) -> None:
    again = "run `python docs/generate_reference.py`"
    assert (DOCS / "reference" / name).read_text() == GENERATOR.PAGES[name](), again


def test_the_report_page_has_every_key_of_the_schema() -> None:
    schema = json.loads((DOCS / "reference" / "report-schema.json").read_text())
    page = (DOCS / "reference" / "report.md").read_text()
    for part in [schema, *schema["$defs"].values()]:
        for key in part["properties"]:
            assert f"\n| `{key}` |" in page


def test_the_hooks_page_has_every_hook() -> None:
    page = (DOCS / "reference" / "hooks.md").read_text()
    hooks = [name for name in vars(hookspecs) if name.startswith("pytest_agentlimit_")]
    assert re.findall(r"^## (\w+)\(", page, re.M) == hooks


@pytest.mark.parametrize(
    ("page", "names"),
    [
        ("reference/fixtures.md", plugin.__all__),
        ("reference/testing.md", testing.__all__),
        ("how-to/test-your-checks.md", [f"null:{name}" for name in NULL_MODELS]),
    ],
)
def test_a_reference_names_everything(page: str, names: list[str]) -> None:
    text = (DOCS / page).read_text()
    assert [name for name in names if not re.search(rf"`{re.escape(name)}\b", text)] == []


def test_every_dependency_says_why_it_is_here() -> None:
    page = (DOCS / "explanation" / "dependencies.md").read_text()
    groups = [PROJECT["project"]["dependencies"], *PROJECT["dependency-groups"].values()]
    groups += PROJECT["project"]["optional-dependencies"].values()
    for requirement in (Requirement(text) for group in groups for text in group):
        name = requirement.name.removeprefix("types-")
        assert re.search(rf"\b{re.escape(name)}\b", page), f"{name} is not explained"
