from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from blackout_kit import careless, pair, perfect

from pytest_agentlimit.cli import main
from pytest_agentlimit.endpoints.drill import FAULTS
from pytest_agentlimit.harness import blackout, blackout_work
from pytest_agentlimit.testing import ScriptedEndpoint, http_error, say

pytestmark = pytest.mark.timeout(240)

PAGE = Path(__file__).parents[2] / "docs/how-to/rehearse-a-blackout.md"


class Answer(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


class Drill:
    """`agentlimit drill` in an empty project."""

    def __init__(
        self, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.root = root
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def __call__(self, *arguments: str) -> Answer:
        self._monkeypatch.setattr("sys.argv", ["agentlimit", "drill", *arguments])
        with pytest.raises(SystemExit) as caught:
            main()
        printed = self._capsys.readouterr()
        return Answer(int(caught.value.code or 0), printed.out, printed.err)

    def refused(self, *arguments: str) -> str:
        answer = self(*arguments)
        assert (answer.code, answer.out) == (1, "")
        assert answer.err.startswith("error: ")
        return answer.err


@pytest.fixture
def drill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Drill:
    monkeypatch.setattr("pytest_agentlimit.endpoints.resolve.default_probes", lambda environ: ())
    monkeypatch.chdir(tmp_path)
    return Drill(tmp_path, monkeypatch, capsys)


@pytest.fixture
def short(drill: Drill) -> str:
    """The name of a primary that is given up soon, and is down."""
    table = '[models.first]\nbase_url = "http://127.0.0.1:9/v1"\ntimeout = "300ms"\n'
    (drill.root / "agentlimit.toml").write_text(table)
    return "--primary=first"


@pytest.fixture
def spare() -> Iterator[ScriptedEndpoint]:
    with ScriptedEndpoint(perfect, model="second") as server:
        yield server


def test_a_fallback_that_carries_the_work(
    drill: Drill, short: str, spare: ScriptedEndpoint
) -> None:
    answer = drill(short, "--fallback", spare.spec)
    assert answer.code == 0, answer.out
    assert "stands in for first" in answer.lines[0]
    assert "Budget 1 min 00 s a fault, 8 min 00 s in all" in answer.lines[0]
    assert "sent again at once, at most 2 times" in answer.lines[1]
    assert "first byte 0.3 s" in answer.lines[2]
    assert any("✓ warm-up" in line for line in answer.lines)
    assert any("✓ control              second alone, no bridge: 3 of 3" in o for o in answer.lines)
    for fault in FAULTS:
        (line,) = (line for line in answer.lines if f"✓ {fault:<20} 3 of 3 tasks in" in line)
        assert "first token from second after" in line
        assert "lost " in line
    assert answer.lines[-1].startswith(
        "  drill: second would have carried the work through all 6 faults (n = 3 tasks a fault"
    )
    assert "a third of the budget" not in answer.out


def test_a_patient_primary_is_said_to_be_cut(drill: Drill, spare: ScriptedEndpoint) -> None:
    answer = drill(
        "--primary=openai+http://127.0.0.1:9/v1#first", "--fallback", spare.spec, "--budget=1500ms"
    )
    head = " ".join(answer.lines[:4])
    assert "first byte 0.5 s, between chunks 0.5 s, total 0.5 s" in head
    assert "its own (connect 5 s, first byte 120 s, between chunks 60 s, total 300 s)" in head
    assert "agentlimit bridge --first-byte 0.5s --between-chunks 0.5s" in head
    assert 'timeout = "0.5s" in its table' in head


def test_a_fallback_that_fails_later(drill: Drill, short: str) -> None:
    asked = iter(range(8))

    def tiring(request: Any) -> Any:
        return perfect(request) if next(asked, None) is not None else http_error(500, "worn out")

    with ScriptedEndpoint(tiring, model="second") as server:
        answer = drill(short, "--fallback", server.spec)
    assert answer.code == 1
    assert any("✗ hang                 0 of 3 tasks in" in line for line in answer.lines)
    assert "not done: write a file:" in answer.out
    assert "worn out" in answer.out
    end = answer.lines[-1]
    assert "second would not have carried the work: 0 of 6 faults were got through" in end
    assert all(fault in end for fault in FAULTS)


def test_a_careless_fallback_shows_nothing(drill: Drill, short: str) -> None:
    with ScriptedEndpoint(careless, model="second") as server:
        answer = drill(short, "--fallback", server.spec)
    assert answer.code == 1
    assert any("✗ control" in line and "0 of 3 tasks" in line for line in answer.lines)
    assert sum("not done: " in line for line in answer.lines) == 3
    assert sum(line.startswith("  ? ") for line in answer.lines) == len(FAULTS)
    assert "finishes none of the 3 tasks even alone, so nothing was shown" in answer.lines[-1]


def test_machines_get_every_key_that_is_documented(
    drill: Drill, short: str, spare: ScriptedEndpoint
) -> None:
    answer = drill(short, "--fallback", spare.spec, "--json", "-o", "out/drill.json")
    found = json.loads(answer.out)
    assert (found["schema_version"], found["exit_code"], found["carried"]) == (1, 0, True)
    assert [row["fault"] for row in found["rows"]] == list(FAULTS)
    assert json.loads((drill.root / "out" / "drill.json").read_text()) == found
    parts = (found, found["rows"][0], found["control"], found["warm"][0], found["deadlines"])
    page = PAGE.read_text()
    assert {key for part in parts for key in part if f"`{key}`" not in page} == set()


def test_the_page_names_every_fault() -> None:
    page = PAGE.read_text()
    assert [fault for fault in FAULTS if f"| {fault} |" not in page] == []


def test_ctrl_c_shows_what_was_measured(
    drill: Drill, short: str, spare: ScriptedEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    worked = blackout_work._worked_on
    left = iter(range(3 + 3 + 1))  # the control, one row, one task

    def until(*arguments: Any) -> str:
        if next(left, None) is None:
            raise KeyboardInterrupt
        return worked(*arguments)

    monkeypatch.setattr(blackout_work, "_worked_on", until)
    answer = drill(short, "--fallback", spare.spec, "-o", "part.json")
    assert answer.code == 130
    assert any("✓ refused              3 of 3 tasks" in line for line in answer.lines)
    assert any("✗ error 500            1 of 3 tasks" in line for line in answer.lines)
    assert "stopped; 2 of 6 faults were begun" in answer.lines[-1]
    found = json.loads((drill.root / "part.json").read_text())
    assert (found["stopped"], found["carried"], len(found["rows"])) == (True, False, 2)


def test_a_real_ctrl_c_in_the_middle_of_a_hang(drill: Drill, spare: ScriptedEndpoint) -> None:
    program = [sys.executable, "-c", "from pytest_agentlimit.cli import main; main()", "drill"]
    primary = "--primary=openai+http://127.0.0.1:9/v1#first"
    options = [primary, "--fallback", spare.spec, "--budget=300s", "-o", "part.json"]
    with subprocess.Popen(
        [*program, *options],
        cwd=drill.root,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        text=True,
        stdout=subprocess.PIPE,
    ) as process:
        try:
            assert process.stdout is not None
            while "error 500" not in process.stdout.readline():
                assert process.poll() is None
            process.send_signal(signal.SIGINT)
            rest, _ = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130
    assert "  drill: stopped; " in rest
    assert json.loads((drill.root / "part.json").read_text())["stopped"]


def test_an_agent_of_openclaw_brings_its_fallbacks(drill: Drill, spare: ScriptedEndpoint) -> None:
    def provider(url: str, model: str, **more: Any) -> dict[str, Any]:
        models = [{"id": model, "name": model, "contextWindow": 32768}]
        return {"baseUrl": url, "api": "openai-completions", "models": models, **more}

    gone = provider("http://127.0.0.1:9/v1", "first", timeoutSeconds=1)
    chain = {"primary": "p/first", "fallbacks": ["s/second"]}
    config = {
        "models": {"providers": {"p": gone, "s": provider(spare.url, "second")}},
        "agents": {"defaults": {"model": chain}},
    }
    (drill.root / "openclaw.json").write_text(json.dumps(config))
    answer = drill("--primary=openclaw:primary", "--agent-config=openclaw.json", "--json")
    assert answer.code == 0, answer.out
    assert json.loads(answer.out)["fallbacks"] == ["s-second"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--primary={spec}"], "no fallback: nothing would carry the work"),
        (["--primary={spec}", "--fallback={spec}"], "it is the primary again"),
        (["--primary=no-such-model", "--fallback={spec}"], "no model is called 'no-such-model'"),
        (["--primary={spec}", "--fallback=nobody"], "no model is called 'nobody'"),
        (["--primary={spec}", "--fallback=null:echo", "--budget=0s"], "--budget: "),
        (["--primary={spec}", "--fallback=null:echo", "--budget=60"], '"60" has no unit'),
        (["--primary={spec}", "--fallback=null:echo", "-o", "."], "this is a folder"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_asked(
    drill: Drill, spare: ScriptedEndpoint, arguments: list[str], said: str
) -> None:
    assert said in drill.refused(*(one.format(spec=spare.spec) for one in arguments))
    assert spare.requests == []


def test_a_missing_extra_says_how_to_get_it(
    drill: Drill, short: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    line = drill.refused(short, "--fallback=null:echo")
    assert 'pip install "pytest-agentlimit[bridge]"' in line


def test_what_a_server_says_cannot_drive_the_terminal(drill: Drill, short: str) -> None:
    evil = http_error(500, "\x1b[2J::error::\u202egnp")
    with pair(lambda request: evil) as (_, server):
        answer = drill(short, "--fallback", server.spec, "--budget=5s")
    assert answer.code == 1
    assert "even alone" in answer.lines[-1]
    assert "\x1b" not in answer.out
    assert "\u202e" not in answer.out


def test_an_embedded_fallback_is_started(
    drill: Drill, short: str, smollm2: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blackout, "FAULTS", ("refused",))
    answer = drill(short, "--fallback=smollm2", "--budget=5s", "--json")
    found = json.loads(answer.out)
    assert answer.code == 1
    assert found["fallbacks"] == ["smollm2"]
    # Slow it may be, but it is there.
    problem = found["warm"][0]["problem"]
    assert problem is None or "(hung)" in problem or "(slow)" in problem
    assert found["control"]["tasks"] == 3


def test_the_primary_itself_is_never_asked(drill: Drill) -> None:
    with (
        ScriptedEndpoint([say("I am well.")], model="first") as primary,
        ScriptedEndpoint(careless, model="second") as second,
    ):
        drill("--primary", primary.spec, "--fallback", second.spec, "--budget=1s")
        assert primary.requests == []
