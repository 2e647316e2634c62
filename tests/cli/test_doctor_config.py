from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from doctor_kit import good
from offline_kit import Cli

from pytest_agentlimit.endpoints import discovery
from pytest_agentlimit.endpoints.openclaw_problem import Code
from pytest_agentlimit.testing import ScriptedEndpoint

SECRET = "sk-proj-abcdefghijklmnop1234"
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(discovery, "default_probes", lambda environ: ())
    monkeypatch.setattr("pytest_agentlimit.endpoints.resolve.default_probes", lambda environ: ())
    for name in ("CONFIG_PATH", "STATE_DIR", "HOME"):
        monkeypatch.delenv(f"OPENCLAW_{name}", raising=False)
        monkeypatch.delenv(f"CLAWDBOT_{name}", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def server() -> Iterator[ScriptedEndpoint]:
    with ScriptedEndpoint(good) as one:
        yield one


def config(address: str, model: str = "m", **entry: Any) -> dict[str, Any]:
    """The model p/MODEL, the primary one."""
    entry = {"id": model, "name": "M", "contextWindow": 65536, "maxTokens": 64, **entry}
    provider = {"baseUrl": address, "api": "openai-completions", "models": [entry]}
    return {
        "models": {"providers": {"p": provider}},
        "agents": {"defaults": {"model": {"primary": f"p/{model}"}}},
    }


def keep(folder: Path, data: object, name: str = ".openclaw/openclaw.json") -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(data if isinstance(data, str) else json.dumps(data))


def block(out: str) -> list[str]:
    """The lines of the config's block."""
    head, *rest = out.splitlines()
    assert head.startswith("OpenClaw config ")
    ends = (number for number, line in enumerate(rest) if not line.startswith(" "))
    return [head, *rest[: next(ends, len(rest))]]


def test_the_faults_of_the_config_come_before_the_endpoints(cli: Cli, home: Path) -> None:
    keep(home, config(NOWHERE, maxTokens=70000, contextTokens=8000, foo=SECRET))
    answer = cli("doctor", "--quick")
    assert block(answer.out) == [
        "OpenClaw config home/.openclaw/openclaw.json",
        "  ✗ models.providers.p.models[0].foo: unknown key 'foo': OpenClaw refuses the whole file "
        "[unknown_key]",
        "      next: remove it",
        "  ✗ models.providers.p.baseUrl: no /v1 in it: for openai-completions OpenClaw adds "
        "/chat/completions and nothing else [missing_v1]",
        "      next: end it with /v1, where the server has its routes",
        "  ✗ models.providers.p.models[0].maxTokens: 70000 tokens of reply are more than the "
        "contextWindow of 65536 [max_tokens_over_context]",
        "      next: leave most of the window to the prompt",
        "  ? models.providers.p.models[0].contextTokens: earlier versions of OpenClaw refuse "
        "models with fewer than 16000 tokens of context [small_context]",
        "      next: serve the model with a larger context, and declare that",
        "  3 errors, 1 warning",
    ]
    assert "p/m: m at http://127.0.0.1:9 (openai)" in answer.out
    assert SECRET not in answer.out


def test_fix_hints_print_the_line_of_the_config(cli: Cli, home: Path) -> None:
    keep(home, config(NOWHERE))
    assert '      line: baseUrl: "http://127.0.0.1:9/v1"' in cli("doctor", "--fix-hints").out


def test_errors_are_problems_and_warnings_are_not(
    cli: Cli, home: Path, server: ScriptedEndpoint
) -> None:
    keep(home, {**config("http://127.0.0.1:11434/v1"), "note": "${UNSET}"}, "a.json")
    keep(home, config(NOWHERE), "b.json")
    warned = cli("doctor", server.spec, "--quick", "--agent-config=home/a.json")
    assert "2 warnings" in block(warned.out)[-1]
    assert warned.code == 0
    broken = cli("doctor", "null:parrot", "--agent-config=home/b.json")
    assert "1 error" in block(broken.out)[-1]
    assert broken.code == 1


def test_a_sound_config_is_said_to_have_no_fault(
    cli: Cli, home: Path, server: ScriptedEndpoint
) -> None:
    keep(home, config(server.url, server.model))
    answer = cli("doctor", "openclaw:primary", "--quick")
    assert block(answer.out) == [
        "OpenClaw config home/.openclaw/openclaw.json",
        "  no fault seen",
    ]


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["null:parrot"], False),
        (["p/m"], True),
        (["agent:x"], True),
        (["null:parrot", "--agent-config=home/.openclaw"], True),
        ([], True),
    ],
)
def test_the_config_is_shown_when_it_has_a_part_in_it(
    cli: Cli, home: Path, arguments: list[str], shown: bool
) -> None:
    keep(home, config(f"{NOWHERE}/v1", api="zzz"))
    out = cli("doctor", *arguments).out
    assert out.count("OpenClaw config home/.openclaw/openclaw.json\n") == shown


@pytest.mark.parametrize("arguments", [[], ["null:parrot", "--agent-config=home/.openclaw"]])
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{\n  models: {},\n  "x": oops }', "is not valid JSON5: line 3, column 8: unexpected 'o'"),
        ('{"$include": "openclaw.json"}', "in a circle: openclaw.json → openclaw.json"),
        (f'{{"a": "{SECRET}" "b"}}', "line 1, column"),
    ],
)
def test_a_config_that_cannot_be_read_is_one_problem(
    cli: Cli, home: Path, arguments: list[str], text: str, words: str
) -> None:
    keep(home, text)
    answer = cli("doctor", *arguments)
    head, fault, end = block(answer.out)
    assert head == "OpenClaw config home/.openclaw/openclaw.json"
    assert words in fault
    assert fault.endswith("[unreadable]")
    assert end == "  1 error"
    assert (answer.code, answer.err) == (1, "")
    assert SECRET not in answer.out


def test_a_config_that_holds_no_object_where_one_must_be_is_one_problem(
    cli: Cli, home: Path
) -> None:
    keep(home, {"models": 3})
    answer = cli("doctor")
    assert answer.out.splitlines() == [
        "OpenClaw config home/.openclaw/openclaw.json",
        "  ✗ models: must be an object, {…} [bad_value]",
        "  1 error",
    ]
    assert answer.code == 1


def test_the_included_file_is_named(cli: Cli, home: Path) -> None:
    keep(home, config(f"{NOWHERE}/v1", foo=1)["models"], ".openclaw/models.json5")
    keep(home, {"models": {"$include": "models.json5"}})
    assert "whole file (in home/.openclaw/models.json5) [unknown_key]" in cli("doctor").out


def test_json_holds_the_config_and_its_faults(cli: Cli, home: Path) -> None:
    keep(home, config(NOWHERE, foo=SECRET))
    answer = cli("doctor", "p/m", "--json")
    found = json.loads(answer.out)
    (one,) = found["configs"]
    assert one["file"] == "home/.openclaw/openclaw.json"
    assert one["faults"] == [
        {
            "code": "unknown_key",
            "path": "models.providers.p.models[0].foo",
            "message": "unknown key 'foo': OpenClaw refuses the whole file",
            "severity": "error",
            "fix": {"sentence": "remove it", "line": None},
            "included": None,
        },
        {
            "code": "missing_v1",
            "path": "models.providers.p.baseUrl",
            "message": "no /v1 in it: for openai-completions OpenClaw adds /chat/completions and "
            "nothing else",
            "severity": "error",
            "fix": {
                "sentence": "end it with /v1, where the server has its routes",
                "line": 'baseUrl: "http://127.0.0.1:9/v1"',
            },
            "included": None,
        },
    ]
    assert json.loads(cli("doctor", "null:parrot", "--json").out)["configs"] == []


def test_names_of_the_config_cannot_drive_the_terminal(cli: Cli, home: Path) -> None:
    evil = "\x1b[2J\u202e\n::error::"
    keep(home, {"models": {"providers": {evil: {evil: 1, "baseUrl": "x", "models": [{evil: 1}]}}}})
    answer = cli("doctor")
    assert answer.code == 1
    assert not any(char in answer.out for char in ("\x1b", "\u202e", "\n::"))


def test_the_page_names_every_fault() -> None:
    page = (Path(__file__).parents[2] / "docs/how-to/ask-the-doctor.md").read_text()
    codes = set(get_args(Code)) - {"no_models"}
    assert [code for code in sorted(codes) if f"`{code}`" not in page] == []
