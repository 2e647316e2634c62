"""Small agent programs, and the stage on which they are run."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil

from pytest_agentlimit.chat.messages import ChatRequest, Dialect
from pytest_agentlimit.endpoints.timing import Exchange
from pytest_agentlimit.harness.harness import Harness
from pytest_agentlimit.harness.result import HarnessRun
from pytest_agentlimit.harness.spec import HarnessSpec
from pytest_agentlimit.testing import Scripted, ScriptedEndpoint

Replies = Sequence[Scripted] | Callable[[ChatRequest], Scripted]

# What every program below can do: ask the model, run what it calls, work until it calls nothing.
CLIENT = """
import http.client, json, os, subprocess, sys, time
from urllib.parse import urlsplit
PLACE = urlsplit(os.environ.get("MODEL_URL", "http://127.0.0.1:1"))
SHELL = {"name": "bash", "description": "Run it", "parameters": {
    "type": "object", "properties": {"cmd": {"type": "string"}}, "required": ["cmd"]}}
GOAL = sys.argv[1]

def ask(messages, tools=(SHELL,), system=None, **more):
    head = [{"role": "system", "content": system}] if system else []
    body = {"model": "m", "messages": head + messages, **more}
    if tools:
        body["tools"] = [{"type": "function", "function": tool} for tool in tools]
    connection = http.client.HTTPConnection(PLACE.hostname, PLACE.port)
    headers = {"authorization": "Bearer " + os.environ["MODEL_KEY"]}
    connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
    response = connection.getresponse()
    answer = json.loads(response.read())
    if response.status != 200:
        print(answer, file=sys.stderr)
        return None
    return answer["choices"][0]["message"]

def run(call):
    command = json.loads(call["function"]["arguments"])["cmd"]
    return subprocess.run(["sh", "-c", command], capture_output=True, text=True).stdout

def work(messages):
    while True:
        reply = ask(messages)
        if reply is None:
            sys.exit(1)
        messages.append(reply)
        if not reply.get("tool_calls"):
            return reply["content"]
        for call in reply["tool_calls"]:
            messages.append(
                {"role": "tool", "tool_call_id": call["id"], "content": run(call)})
"""
WORKS = 'print(work([{"role": "user", "content": GOAL}]))'
SILENT = 'print("all done")'
ASKS_ONCE = 'ask([{"role": "user", "content": GOAL}])'


class Stage:
    """Runs programs in `tmp_path`: `stage.run(body, replies)`; `exchanges` has what was asked."""

    def __init__(self, tmp_path: Path) -> None:
        self.folder = tmp_path
        self.workspace = tmp_path / "workspace"
        self.workspace.mkdir()
        self.exchanges: list[Exchange] = []
        self.server: ScriptedEndpoint | None = None

    def spec(self, body: str, **fields: Any) -> HarnessSpec:
        script = self.folder / "program.py"
        script.write_text(CLIENT + body)
        usual: dict[str, Any] = {
            "name": "tiny",
            "program": sys.executable,
            "argv": ("-S", str(script), "{prompt}"),
            "version": (),
            "dialect": "openai",
            "env": {"MODEL_URL": "{url}", "MODEL_KEY": "{key}"},
            "tools": {"shell": {"name": "bash", "arguments": {"command": "cmd"}}},
            "timeout_s": 60.0,
        }
        return HarnessSpec.model_validate(usual | fields)

    def run(
        self,
        body: str,
        replies: Replies,
        *,
        goal: str = "Make hello.txt",
        endpoint: dict[str, Any] | None = None,
        max_turns: int = 30,
        check: bool = False,
        harness: dict[str, Any] | None = None,
        upstream: Dialect = "openai",
        **fields: Any,
    ) -> HarnessRun:
        with ScriptedEndpoint(replies, dialect=upstream) as server:
            self.server = server
            program = Harness(
                self.spec(body, **fields),
                server.endpoint(**(endpoint or {})),
                on_exchange=self.exchanges.append,
                **(harness or {}),
            )
            return program.run(goal, self.workspace, max_turns=max_turns, check=check)


def alive(pid: int) -> bool:
    """Return whether a process still does something; a zombie waits for its parent only."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
