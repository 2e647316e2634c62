"""The twelve scenarios of claw's parity test: what the model says, what comes of it, a stage."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pytest_agentlimit.chat.messages import ChatRequest, Dialect, ToolResult, Usage
from pytest_agentlimit.harness.harness import Harness
from pytest_agentlimit.harness.presets import harness_spec
from pytest_agentlimit.harness.result import HarnessRun
from pytest_agentlimit.harness.spec import HarnessSpec
from pytest_agentlimit.testing import Scripted, ScriptedEndpoint, call, calls, say

FAKE = Path(__file__).with_name("fake_claw.py")
Replies = Sequence[Scripted] | Callable[[ChatRequest], Scripted]
Calls = tuple[tuple[str, dict[str, Any]], ...]

FIXTURE = "alpha parity line\nbeta line\ngamma parity line\n"
ECHO = {"message": "hello from the plugin"}
PLUGIN = {
    "permission": "workspace-write",
    "command": ["cat"],
    "input_schema": {"type": "object", "properties": {"message": {"type": "string"}}},
}
SUMMARY = "The file was read."
_TOKEN = re.compile(r"PARITY_SCENARIO:(\w+)")
_IN_THIRDS = 15
"""Characters in a piece, so that the arguments of the search come in three."""


class Scenario(NamedTuple):
    """One scenario. Its model speaks `turns`, and when it has tools, what they gave back."""

    turns: tuple[Scripted, ...]
    calls: Calls = ()
    """The calls that are made, as this package names tools and arguments."""
    told: str = ""
    """What the tools gave back."""
    errors: tuple[bool, ...] = ()
    made: tuple[tuple[str, str], ...] = ()
    """The files that are there afterwards and were not before: name and content."""
    mode: str = "read-only"
    """The program's permission mode."""
    answer: str = ""
    """What is typed when the program asks for a permission."""

    @property
    def requests(self) -> int:
        return len(self.turns) + bool(self.calls)

    @property
    def last_words(self) -> str:
        if self.calls:
            return f"The tools say: {self.told}."
        return "".join(getattr(block, "text", "") for block in self.turns[-1].blocks)


def goal(name: str) -> str:
    return f"Do what the scenario wants. PARITY_SCENARIO:{name}"


def scripted_model(request: ChatRequest) -> Scripted:
    """Return what the model of the scenario named in the goal says next."""
    if not request.tools:
        return say(SUMMARY)
    named = _TOKEN.search(request.messages[0].text)
    assert named is not None
    turns = SCENARIOS[named[1]].turns
    spoken = sum(message.role == "assistant" for message in request.messages)
    return turns[spoken] if spoken < len(turns) else say(f"The tools say: {_told(request)}.")


def _told(request: ChatRequest) -> str:
    """Return the results of the last calls; dialects without an error flag say so in words."""
    results = [block for block in request.messages[-1].blocks if isinstance(block, ToolResult)]
    return " | ".join(result.content.removeprefix("Error: ") for result in results)


_READ = ("read_file", {"path": "fixture.txt"})
_SEARCH = {"pattern": "parity", "path": "fixture.txt"}
_FOUND = "fixture.txt:1:alpha parity line\nfixture.txt:3:gamma parity line"
_WRITE = {"path": "output.txt", "content": "written by the scenario\n"}


def _bash(word: str, told: str | None = None, **fields: Any) -> Scenario:
    given = {"command": f"printf {word} | tee {word}.txt"}
    said = word if told is None else told
    made = ((f"{word}.txt", word),) if told is None else ()
    turns = (call("bash", **given),)
    return Scenario(turns, (("shell", given),), said, (told is not None,), made, **fields)


SCENARIOS: dict[str, Scenario] = {
    "streaming_text": Scenario((say("The mock says hello.").with_(piece_chars=4),)),
    "read_file_roundtrip": Scenario((calls(_READ),), (_READ,), FIXTURE, (False,)),
    "grep_chunk_assembly": Scenario(
        (call("grep_search", **_SEARCH).with_(piece_chars=_IN_THIRDS),),
        (("grep", _SEARCH),),
        _FOUND,
        (False,),
    ),
    "write_file_allowed": Scenario(
        (call("write_file", **_WRITE),),
        (("write_file", _WRITE),),
        "wrote output.txt",
        (False,),
        (("output.txt", _WRITE["content"]),),
        mode="workspace-write",
    ),
    "write_file_denied": Scenario(
        (call("write_file", **_WRITE),),
        (("write_file", _WRITE),),
        "permission denied: write_file needs workspace-write, the mode is read-only",
        (True,),
    ),
    "multi_tool_turn_roundtrip": Scenario(
        (calls(_READ, ("grep_search", _SEARCH)),),
        (_READ, ("grep", _SEARCH)),
        f"{FIXTURE} | {_FOUND}",
        (False, False),
    ),
    "bash_stdout_roundtrip": _bash("stdout", mode="danger-full-access"),
    "bash_permission_prompt_approved": _bash("approved", mode="workspace-write", answer="y"),
    "bash_permission_prompt_denied": _bash(
        "denied", "permission denied: bash was not approved", mode="workspace-write"
    ),
    "plugin_tool_roundtrip": Scenario(
        (call("plugin_echo", **ECHO),),
        (("plugin_echo", ECHO),),
        json.dumps(ECHO, separators=(",", ":")),
        (False,),
        mode="workspace-write",
    ),
    "auto_compact_triggered": Scenario(
        (say("A long talk.").with_(usage=Usage(input_tokens=120_000, output_tokens=200)),)
    ),
    "token_cost_reporting": Scenario(
        (
            say("Counted.").with_(
                usage=Usage(input_tokens=1_000, output_tokens=500, cached_tokens=400)
            ),
        )
    ),
}


# the stage


class Played(NamedTuple):
    """A run of the program, what it noted down itself, and what reached the model's server."""

    run: HarnessRun
    started: dict[str, Any]
    exchanges: list[dict[str, Any]]
    server: ScriptedEndpoint
    folder: Path

    @property
    def result(self) -> dict[str, Any]:
        result = json.loads(self.run.process.stdout)
        assert isinstance(result, dict)
        return result

    @property
    def replies(self) -> list[dict[str, Any]]:
        return [one for one in self.exchanges if one["path"] == "/v1/messages"]


def claw_spec(
    trace: Path, mode: str | None = None, answer: str = "", **settings: Any
) -> HarnessSpec:
    """The preset with the stand-in as its program; `answer` is typed when it asks."""
    preset = harness_spec("claw", root=trace.parent)
    argv = list(preset.argv)
    place = argv.index("--permission-mode") + 1
    argv[place] = mode or argv[place]
    command = (sys.executable, "-IS", str(FAKE), *argv)
    if answer:
        command = ("/bin/sh", "-c", f'echo {answer} | "$@"', "sh", *command)
    files = {"{home}/.claw/plugins/plugin_echo.json": json.dumps(PLUGIN)}
    files |= {"{home}/.claw/settings.json": json.dumps(settings)} if settings else {}
    own = {"FAKE_CLAW_TRACE": str(trace), "FAKE_CLAW_BACKOFF_S": "0"}
    return preset.model_copy(
        update={
            "program": command[0],
            "argv": command[1:],
            "version": (),
            "env": preset.env | own,
            "files": preset.files | files,
        }
    )


def play(
    folder: Path,
    replies: Replies,
    task: str = "Read the file.",
    *,
    dialect: Dialect = "openai",
    max_turns: int = 30,
    model: str = "scripted",
    mode: str | None = None,
    answer: str = "",
    **settings: Any,
) -> Played:
    """Let the program work, whatever becomes of it."""
    workspace = folder / "workspace"
    workspace.mkdir(parents=True)
    (workspace / "fixture.txt").write_text(FIXTURE)
    trace = folder / "trace.jsonl"
    spec = claw_spec(trace, mode, answer, **settings)
    with ScriptedEndpoint(replies, dialect=dialect, model=model) as server:
        harness = Harness(spec, server.endpoint())
        run = harness.run(task, workspace, max_turns=max_turns, check=False)
    assert server.problems == []
    started, *exchanges = [json.loads(line) for line in trace.read_text().splitlines()]
    return Played(run, started, exchanges, server, workspace)


class Alone(NamedTuple):
    """A run of the program without harness and bridge."""

    exit_code: int
    stdout: str
    stderr: str
    exchanges: list[dict[str, Any]]


def play_alone(folder: Path, replies: Replies, *arguments: str, **env: str) -> Alone:
    """Let the program speak to an Anthropic server itself; a prompt `stdin` is piped into it."""
    (folder / "fixture.txt").write_text(FIXTURE)
    trace = folder / "trace.jsonl"
    piped = env.pop("stdin", "")
    with ScriptedEndpoint(replies, dialect="anthropic") as server:
        own = {"ANTHROPIC_BASE_URL": server.url, "FAKE_CLAW_TRACE": str(trace)}
        home = {"HOME": str(folder), "ANTHROPIC_API_KEY": "dummy", "PATH": "/usr/bin:/bin"}
        done = subprocess.run(
            [sys.executable, "-IS", str(FAKE), *arguments],
            env=home | own | env,
            cwd=folder,
            input=piped,
            text=True,
            capture_output=True,
            timeout=60,
        )
    lines = trace.read_text().splitlines()
    return Alone(done.returncode, done.stdout, done.stderr, [json.loads(one) for one in lines[1:]])
