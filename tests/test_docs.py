from __future__ import annotations

import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from runpy import run_path
from typing import Any

import pytest
import typer.main
from docs_pages import (
    DOCS,
    FENCES,
    README,
    ROOT,
    Fence,
    each_page,
    fences_of,
    of,
)
from packaging.requirements import Requirement
from pytest_agentlimit.example_suites.edge_study import test_edge_study as study

from pytest_agentlimit import hookspecs, plugin, testing
from pytest_agentlimit.cli import app
from pytest_agentlimit.endpoints import catalog
from pytest_agentlimit.endpoints.literals import literal_spec
from pytest_agentlimit.endpoints.model_table import spec_from_table
from pytest_agentlimit.endpoints.nulls import NULL_MODELS
from pytest_agentlimit.harness.presets import harness_spec, preset_names
from pytest_agentlimit.plugin.markers import DESCRIPTIONS, read_markers
from pytest_agentlimit.plugin.options import OPTIONS
from pytest_agentlimit.plugin.settings import read_settings
from pytest_agentlimit.reports import numbers
from pytest_agentlimit.runs.names import check_name

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
LANGUAGES = {"python", "pycon", "toml", "yaml", "json5", "sh", "text", "{toctree}"}


# every fence is known to some test below


@each_page
def test_every_fence_says_what_it_is(page: Path) -> None:
    for fence in fences_of(page):
        assert fence.language in LANGUAGES, f"{fence}: {fence.language!r} is checked by no test"
        toctree = fence.language == "{toctree}"
        assert not toctree or page == DOCS / "index.md", fence


# configuration


@of("toml")
def test_configuration_is_accepted(fence: Fence, tmp_path: Path) -> None:
    tool = tomllib.loads(fence.text)["tool"]
    own = tool.pop("agentlimit", {})
    for name, table in own.pop("models", {}).items():
        spec_from_table(name, table, where=str(fence), folder=tmp_path)
    (tmp_path / "pyproject.toml").write_text(fence.text)
    for name in own.pop("harness", {}):
        harness_spec(name, root=tmp_path)
    assert own == {}
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
    program = settings.harness
    assert program is None or program in {*preset_names(), *tables("harness")}


def tables(kind: str = "models") -> set[str]:
    """The models, or another kind, that the configuration examples define."""
    shown = [tomllib.loads(fence.text)["tool"] for fence in FENCES if fence.language == "toml"]
    return {name for tool in shown for name in tool.get("agentlimit", {}).get(kind, ())}


@of("yaml")
def test_a_workflow_is_indented_as_yaml_wants_it(fence: Fence) -> None:
    assert "\t" not in fence.text
    depths = [len(line) - len(line.lstrip()) for line in fence.text.splitlines()]
    assert all(depth % 2 == 0 for depth in depths)
    assert any(command[0] == "pytest" for command in commands_of(fence))


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
    verbs = set(typer.main.get_group(app).commands)
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
    assert len(README.read_text().splitlines()) <= 170


# references, against the code they describe

GENERATED = run_path(str(DOCS / "generate_reference.py"))["PAGES"]


@pytest.mark.parametrize("name", sorted(GENERATED))
def test_a_generated_page_is_up_to_date(name: str) -> None:
    again = "run `python docs/generate_reference.py`"
    assert (DOCS / "reference" / name).read_text() == GENERATED[name](), again


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
    ("page", "rows"),
    [
        ("reference/fixtures.md", [rf"\| `{name}` \|" for name in plugin.__all__]),
        ("reference/testing.md", [rf"`{name}[(`]" for name in testing.__all__]),
        ("how-to/test-your-checks.md", [rf"\| `null:{name}` \|" for name in NULL_MODELS]),
    ],
)
def test_a_page_names_everything_there_is(page: str, rows: list[str]) -> None:
    text = (DOCS / page).read_text()
    assert [row for row in rows if not re.search(row, text)] == []


def test_every_dependency_says_why_it_is_here() -> None:
    page = (DOCS / "explanation" / "dependencies.md").read_text()
    groups = [PROJECT["project"]["dependencies"], *PROJECT["dependency-groups"].values()]
    groups += PROJECT["project"]["optional-dependencies"].values()
    for requirement in (Requirement(text) for group in groups for text in group):
        name = requirement.name.removeprefix("types-")
        assert re.search(rf"\b{re.escape(name)}\b", page), f"{name} is not explained"
