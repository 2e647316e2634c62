from __future__ import annotations

import json
import re
import tomllib
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import pytest_agentlimit.harness
from pytest_agentlimit.agents.workspace import Workspace
from pytest_agentlimit.errors import UsageProblem
from pytest_agentlimit.harness.output import read_output
from pytest_agentlimit.harness.presets import harness_spec, preset_names
from pytest_agentlimit.harness.spec import HarnessSpec
from pytest_agentlimit.harness.templates import PLACEHOLDERS, file_content, launch

FOLDER = Path(pytest_agentlimit.harness.__file__).parent / "presets"
NAMES = [name for name in preset_names() if name != "generic"]
VALUES = {name: f"<{name}>" for name in PLACEHOLDERS} | {
    "prompt": 'say "hi"\nand \\ leave',
    "model": "open-claw:8b",
    "url": "http://127.0.0.1:9",
    "home": "/h",
    "workspace": "/w",
    "context": "32768",
    "max_tokens": "4096",
}


def preset(name: str) -> HarnessSpec:
    return harness_spec(name, root=FOLDER)


def written(spec: HarnessSpec) -> dict[str, str]:
    return {path: file_content(path, text, VALUES) for path, text in spec.files.items()}


def templates(spec: HarnessSpec) -> list[str]:
    return [*spec.argv, *spec.env.values(), *spec.files.values(), *spec.files]


# every preset


def test_the_programs_of_the_table_are_there() -> None:
    assert set(NAMES) >= {
        *("aider", "claude-code", "claw", "codex", "mini-swe-agent"),
        *("openclaw", "opencode", "pi", "qwen-code"),
    }


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_tells_a_user_what_to_know(name: str) -> None:
    spec = preset(name)
    assert spec.install
    assert spec.notes.endswith(".")
    assert sum("{prompt}" in word for word in spec.argv) == 1


@pytest.mark.parametrize("name", NAMES)
def test_words_in_braces_are_known_templates(name: str) -> None:
    words = {word for text in templates(preset(name)) for word in re.findall(r"\{(\w+)\}", text)}
    assert words <= set(PLACEHOLDERS)


@pytest.mark.parametrize("name", NAMES)
def test_the_program_is_told_of_the_bridge_and_its_key(name: str) -> None:
    everything = "\n".join(templates(preset(name)))
    assert "{url}" in everything
    assert "{key}" in everything


@pytest.mark.parametrize("name", NAMES)
def test_the_files_of_a_preset_can_be_read(name: str) -> None:
    for path, text in written(preset(name)).items():
        if path.endswith(".json"):
            json.loads(text)
        elif path.endswith(".toml"):
            tomllib.loads(text)
        else:
            assert path.endswith(".yml"), f"how is {path} read?"
            assert f'"openai/{VALUES["model"]}"' in text


@pytest.mark.parametrize("name", NAMES)
def test_tools_are_ours_and_so_are_their_arguments(name: str, tmp_path: Path) -> None:
    ours = {tool.name: set(tool.parameters["properties"]) for tool in Workspace(tmp_path).tools}
    for tool, theirs in preset(name).tools.items():
        assert set(theirs.arguments) <= ours[tool]
    mapped = [tool.name for tool in preset(name).tools.values()]
    assert len(mapped) == len(set(mapped))


@pytest.mark.parametrize("name", NAMES)
def test_no_goal_is_taken_for_an_option(name: str) -> None:
    argv = preset(name).argv
    word, before = next((w, b) for b, w in pairwise(("", *argv)) if "{prompt}" in w)
    guarded = word.startswith(("--", " ")) or before == "--"
    assert guarded or name in ("claw", "codex")  # not tried, and not served


def test_a_misspelt_key_is_refused(tmp_path: Path) -> None:
    table = '[tool.agentlimit.harness.mine]\npreset = "pi"\nextra_request = 1\n'
    (tmp_path / "pyproject.toml").write_text(table)
    with pytest.raises(UsageProblem, match="did you mean extra_requests"):
        harness_spec("mine", root=tmp_path)


# pi, as it is started


def test_pi_is_started_like_this(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/bin")
    spec = preset("pi")
    argv, env = launch(spec, Path("/bin/pi"), VALUES)
    assert argv == [
        *("/bin/pi", "--provider", "agentlimit", "--model", "open-claw:8b"),
        *("--no-session", "--print", ' say "hi"\nand \\ leave'),
    ]
    assert env == {
        "PATH": "/bin",
        "LANG": "C.UTF-8",
        "HOME": "/h",
        "TMPDIR": "/h/tmp",
        "NO_COLOR": "1",
        "PI_OFFLINE": "1",
        "PI_TELEMETRY": "0",
    }
    files = {path: json.loads(text) for path, text in written(spec).items()}
    assert files["{home}/.pi/agent/models.json"]["providers"]["agentlimit"] == {
        "baseUrl": "http://127.0.0.1:9/v1",
        "api": "openai-completions",
        "apiKey": "<key>",
        "models": [{"id": "open-claw:8b", "contextWindow": 32768, "maxTokens": 4096}],
    }
    assert files["{home}/.pi/agent/settings.json"]["retry"]["maxRetries"] == 1


# what the programs print, as seen


SAID: list[tuple[str, Any, str, bool | None]] = [
    ("pi", "Done.\n", "Done.", None),
    (
        "claude-code",
        {"type": "result", "subtype": "success", "is_error": False, "result": "Done."},
        "Done.",
        False,
    ),
    (
        "claude-code",
        {"type": "result", "subtype": "success", "is_error": True, "result": "API Error: 500"},
        "API Error: 500",
        True,
    ),
    (
        "opencode",
        [
            {"type": "text", "part": {"type": "text", "text": "First I look."}},
            {"type": "tool_use", "part": {"tool": "bash", "state": {"output": "made"}}},
            {"type": "text", "part": {"type": "text", "text": "Done."}},
            {"type": "step_finish", "part": {"reason": "stop"}},
        ],
        "Done.",
        None,
    ),
    (
        "qwen-code",
        [
            {"type": "system", "subtype": "init"},
            {"type": "assistant", "message": {"content": [{"type": "text", "text": "Done."}]}},
            {"type": "result", "subtype": "success", "is_error": False, "result": "Done."},
        ],
        "Done.",
        False,
    ),
    (
        "openclaw",
        {"payloads": [{"text": "I look."}, {"text": "Done."}], "meta": {"aborted": False}},
        "Done.",
        False,
    ),
    ("openclaw", {"ok": False, "error": {"type": "cli_error", "message": "HTTP 500"}}, "", True),
]


@pytest.mark.parametrize(("name", "printed", "text", "failed"), SAID)
def test_the_last_words_are_found(name: str, printed: Any, text: str, failed: bool | None) -> None:
    if isinstance(printed, list):
        printed = "\n".join(json.dumps(item) for item in printed)
    elif isinstance(printed, dict):
        printed = json.dumps(printed, indent=2)
    said = read_output(printed, preset(name).output)
    assert (said.text, said.failed) == (text, failed)
