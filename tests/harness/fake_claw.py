"""A stand-in for the agent program `claw`: its flags, environment, wire and result, as documented.

Standard library only, so that it starts fast. Two variables are its own, for tests:
FAKE_CLAW_TRACE names a file that gets one JSON line for the start and one for every request, and
FAKE_CLAW_BACKOFF_S replaces the first wait between retries.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

RETRIES = 8
COMPACT_ABOVE = 100_000
LEVELS = ("read-only", "workspace-write", "danger-full-access")
ELSEWHERE = ("openai/", "local/", "qwen", "kimi")
COUNTS: tuple[str, ...] = ("input_tokens", "output_tokens")
COUNTS += ("cache_creation_input_tokens", "cache_read_input_tokens")
DOLLARS_PER_MILLION = dict(zip(COUNTS, (3.0, 15.0, 3.75, 0.3), strict=True))
STEPS: tuple[str, ...] = ("message_start", "message_delta", "message_stop")
STEPS += ("content_block_start", "content_block_delta", "content_block_stop")
DELTAS = {
    "text_delta": ("text", "text"),
    "thinking_delta": ("thinking", "thinking"),
    "signature_delta": ("thinking", "signature"),
    "input_json_delta": ("tool_use", "partial_json"),
}


class Failure(Exception):
    """Ends the program with exit code 1 and this message."""


# the wire


class Wire:
    """The Anthropic API at ANTHROPIC_BASE_URL, with retries."""

    def __init__(self, model: str) -> None:
        if model.startswith(ELSEWHERE) or "OLLAMA_HOST" in os.environ:
            raise Failure(f"no credentials for the provider of {model}")
        address = re.fullmatch(r"http://([^/]+?)/?", os.environ.get("ANTHROPIC_BASE_URL", ""))
        if address is None:
            raise Failure("ANTHROPIC_BASE_URL is no address without a path")
        self.host = address[1]
        self.headers = {"content-type": "application/json", "anthropic-version": "2023-06-01"}
        self.headers |= _credentials()
        self.connection = http.client.HTTPConnection(self.host, timeout=300)

    def preflight(self, body: dict[str, Any]) -> None:
        """Ask for the size of a request; whatever the answer is, it changes nothing."""
        counted = {key: body[key] for key in ("model", "messages", "system", "tools")}
        path = "/v1/messages/count_tokens"
        status, answer = self.post(path, counted)
        trace({"path": path, "status": status, "got": drained(answer)})

    def message(self, body: dict[str, Any]) -> Stream:
        """Return the whole reply to a streaming request."""
        for attempt in range(RETRIES + 1):
            status, answer = self.post("/v1/messages", body)
            if status == 200:
                return self.read(body, answer)
            said = drained(answer)
            trace({"path": "/v1/messages", "sent": body, "status": status, "got": said})
            if attempt == RETRIES or not (status == 429 or status >= 500):
                raise Failure(f"api returned {status}: {said[:300]}")
            first = float(os.environ.get("FAKE_CLAW_BACKOFF_S", "1"))
            time.sleep(float(answer.headers.get("retry-after") or min(first * 2**attempt, 128)))
        raise AssertionError

    def post(self, path: str, body: dict[str, Any]) -> tuple[int, http.client.HTTPResponse]:
        try:
            self.connection.request("POST", path, json.dumps(body), self.headers)
            answer = self.connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            raise Failure(f"cannot reach {self.host}: {error!r}") from None
        return answer.status, answer

    def read(self, body: dict[str, Any], answer: http.client.HTTPResponse) -> Stream:
        stream = Stream()
        got = bytearray()
        event: dict[str, str] = {}
        try:
            for line in answer:
                got += line
                text = line.decode().rstrip("\r\n")
                if text:
                    name, _, value = text.partition(":")
                    event[name] = value.removeprefix(" ")
                else:
                    stream.take(event.pop("event", ""), event.pop("data", ""))
        except (OSError, http.client.HTTPException) as error:
            raise Failure(f"the stream broke off: {error!r}") from None
        finally:
            trace({"path": "/v1/messages", "sent": body, "status": 200, "got": got.decode()})
        stream.end()
        return stream


def _credentials() -> dict[str, str]:
    key, token = (os.environ.get(f"ANTHROPIC_{name}") for name in ("API_KEY", "AUTH_TOKEN"))
    if key:
        return {"x-api-key": key}
    if token:
        return {"authorization": f"Bearer {token}"}
    raise Failure("missing ANTHROPIC_API_KEY or ANTHROPIC_AUTH_TOKEN")


def drained(answer: http.client.HTTPResponse) -> str:
    return answer.read().decode("utf-8", "replace")


def trace(entry: dict[str, Any]) -> None:
    if "FAKE_CLAW_TRACE" in os.environ:
        with open(os.environ["FAKE_CLAW_TRACE"], "a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")


class Stream:
    """One reply, event by event; Failure for whatever is not in the grammar."""

    def __init__(self) -> None:
        self.state = "nothing"
        self.blocks: list[dict[str, Any]] = []
        self.open = False
        self.usage = dict.fromkeys(COUNTS, 0)

    def take(self, name: str, data: str) -> None:
        if name == "ping" or data in ("", "[DONE]"):
            return
        try:
            self._event(name, json.loads(data))
        except (KeyError, TypeError, ValueError) as error:
            raise Failure(f"not an event that can be read: {error!r}") from None

    def _event(self, name: str, event: dict[str, Any]) -> None:
        if name == "error":
            raise Failure(f"{event['error']['type']}: {event['error']['message']}")
        kind = event["type"]
        if kind not in STEPS or name != kind:
            raise Failure(f"unknown event {name!r} of type {kind!r}")
        if self.state == "message_stop" or (kind == "message_start") != (self.state == "nothing"):
            raise Failure(f"{kind} after {self.state}")
        getattr(self, f"_{kind}")(event)
        self.state = kind

    def end(self) -> None:
        if self.state != "message_stop":
            raise Failure(f"the stream ended after {self.state}")

    def _message_start(self, event: dict[str, Any]) -> None:
        self._count(event["message"]["usage"], COUNTS[:2])

    def _content_block_start(self, event: dict[str, Any]) -> None:
        block = dict(event["content_block"])
        if self.open or event["index"] != len(self.blocks) or self.state == "message_delta":
            raise Failure(f"block {event['index']} begins after {self.state}")
        if block["type"] == "tool_use":
            block["partial_json"] = ""
        self.blocks.append(block)
        self.open = True

    def _content_block_delta(self, event: dict[str, Any]) -> None:
        kind, key = DELTAS[event["delta"]["type"]]
        block = self._current(event)
        if block["type"] != kind or not isinstance(event["delta"][key], str):
            raise Failure(f"{event['delta']} in a {block['type']} block")
        block[key] += event["delta"][key]

    def _content_block_stop(self, event: dict[str, Any]) -> None:
        block = self._current(event)
        self.open = False
        if block["type"] == "tool_use":
            block["input"] = json.loads(block.pop("partial_json") or "{}")

    def _message_delta(self, event: dict[str, Any]) -> None:
        if self.open or self.state == "message_delta":
            raise Failure(f"message_delta after {self.state}")
        self._count(event["usage"], COUNTS[1:2])

    def _message_stop(self, event: dict[str, Any]) -> None:
        if self.state != "message_delta":
            raise Failure(f"message_stop after {self.state}")

    def _current(self, event: dict[str, Any]) -> dict[str, Any]:
        if not self.open or event["index"] != len(self.blocks) - 1:
            raise Failure(f"no block {event['index']} is open")
        return self.blocks[-1]

    def _count(self, usage: dict[str, Any], needed: tuple[str, ...]) -> None:
        for key in COUNTS:
            value = usage.get(key, None if key in needed else self.usage[key])
            if type(value) is not int or not 0 <= value < 2**32:
                raise Failure(f"usage: {key} is {value!r}")
            self.usage[key] = value


# the tools


def schema(*needed: str) -> dict[str, Any]:
    properties = {name: {"type": "string"} for name in needed}
    return {"type": "object", "properties": properties, "required": list(needed)}


class Tools:
    """The tools, what each needs to be allowed, and the plugins of CLAW_CONFIG_HOME."""

    def __init__(self, options: argparse.Namespace, config: Path) -> None:
        self.mode: str = options.permission_mode
        self.skip: bool = options.dangerously_skip_permissions
        self.root = Path.cwd().resolve()
        self.child: dict[str, Any] = {"cwd": self.root, "text": True, "capture_output": True}
        self.plugins = {path.stem: json.loads(path.read_text()) for path in config.glob("*.json")}
        self.needs = {"read_file": LEVELS[0], "grep_search": LEVELS[0]}
        self.needs |= {"write_file": LEVELS[1], "bash": LEVELS[2]}
        self.needs |= {name: plugin["permission"] for name, plugin in self.plugins.items()}
        schemas = {
            "read_file": schema("path"),
            "grep_search": schema("pattern", "path"),
            "write_file": schema("path", "content"),
            "bash": schema("command"),
        } | {name: plugin["input_schema"] for name, plugin in self.plugins.items()}
        wanted = {name for given in options.allowed_tools for name in given.split(",")}
        self.offered = [
            {"name": name, "description": f"The tool {name}.", "input_schema": parameters}
            for name, parameters in schemas.items()
            if not wanted or name in wanted
        ]

    def run(self, name: str, given: dict[str, Any]) -> tuple[Any, bool]:
        """Return the content of a tool result, and whether it is an error."""
        if name not in [tool["name"] for tool in self.offered]:
            return f"unknown tool {name}", True
        denied = self._denied(name, given)
        if denied:
            return denied, True
        try:
            return self._plugin(name, given) if name in self.plugins else self._own(name, given)
        except (OSError, KeyError, ValueError, re.error) as error:
            return f"{name} failed: {error!r}", True

    def _denied(self, name: str, given: dict[str, Any]) -> str:
        need = self.needs[name]
        if self.skip or LEVELS.index(self.mode) >= LEVELS.index(need):
            return ""
        if (self.mode, need) != LEVELS[1:]:
            return f"permission denied: {name} needs {need}, the mode is {self.mode}"
        print(f"Allow {name} {json.dumps(given)}? [y/N] ", end="", file=sys.stderr, flush=True)
        approved = sys.stdin.readline().strip().lower() in ("y", "yes")
        return "" if approved else f"permission denied: {name} was not approved"

    def _own(self, name: str, given: dict[str, Any]) -> tuple[Any, bool]:
        if name == "bash":
            command = ["/bin/sh", "-c", given["command"]]
            done = subprocess.run(command, stdin=subprocess.DEVNULL, **self.child)
            return done.stdout + done.stderr, done.returncode != 0
        path = self._inside(given["path"])
        if name == "read_file":
            return path.read_text(), False
        if name == "write_file":
            path.write_text(given["content"])
            return f"wrote {given['path']}", False
        files = sorted(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else [path]
        found = [
            f"{file.relative_to(self.root)}:{number}:{line}"
            for file in files
            for number, line in enumerate(file.read_text().splitlines(), 1)
            if re.search(given["pattern"], line)
        ]
        return "\n".join(found), False

    def _plugin(self, name: str, given: dict[str, Any]) -> tuple[Any, bool]:
        command = self.plugins[name]["command"]
        done = subprocess.run(command, input=json.dumps(given), **self.child)
        if done.returncode:
            return done.stderr, True
        return [{"type": "json", "value": json.loads(done.stdout)}], False

    def _inside(self, given: str) -> Path:
        path = (self.root / given).resolve()
        if not path.is_relative_to(self.root):
            raise ValueError(f"{given} is outside the workspace")
        return path


# the work


class Session:
    """The loop: ask, run the tools, ask again; without any limit of its own."""

    def __init__(self, model: str, wire: Wire, tools: Tools, settings: dict[str, Any]) -> None:
        self.model, self.wire, self.tools = model, wire, tools
        self.compact_above = settings.get("compact_above", COMPACT_ABOVE)
        self.compact_by = settings.get("compact_by", "itself")
        self.messages: list[dict[str, Any]] = []
        self.usage = dict.fromkeys(COUNTS, 0)
        self.result: dict[str, Any] = {"message": "", "model": model, "iterations": 0}
        self.result |= {"auto_compaction": None, "tool_uses": [], "tool_results": []}
        self.result |= {"prompt_cache_events": [], "usage": self.usage, "estimated_cost": "$0"}

    def run(self, prompt: str) -> dict[str, Any]:
        """Return the result of the work that `prompt` asks for."""
        self.messages.append({"role": "user", "content": prompt})
        while True:
            self.result["iterations"] += 1
            reply = self.ask(self.messages, self.tools.offered)
            calls = [block for block in reply.blocks if block["type"] == "tool_use"]
            self.messages.append({"role": "assistant", "content": reply.blocks})
            if calls:
                results = [self.run_tool(call) for call in calls]
                self.messages.append({"role": "user", "content": results})
            if reply.usage["input_tokens"] > self.compact_above:
                self.compact(keep=2 if calls else 1)
            if not calls:
                texts = [block["text"] for block in reply.blocks if block["type"] == "text"]
                return self.result | {"message": "".join(texts)}

    def ask(self, messages: list[dict[str, Any]], tools: list[dict[str, Any]]) -> Stream:
        body = {"model": self.model, "max_tokens": 4096, "stream": True, "messages": messages}
        body |= {"system": "You are a coding agent.", "tools": tools}
        self.wire.preflight(body)
        reply = self.wire.message(body)
        for key in COUNTS:
            self.usage[key] += reply.usage[key]
        if reply.usage["cache_read_input_tokens"]:
            event = {"cache_read_input_tokens": reply.usage["cache_read_input_tokens"]}
            self.result["prompt_cache_events"].append(event)
        dollars = sum(self.usage[key] * price / 1e6 for key, price in DOLLARS_PER_MILLION.items())
        self.result["estimated_cost"] = f"${dollars:.4f}"
        return reply

    def run_tool(self, call: dict[str, Any]) -> dict[str, Any]:
        content, failed = self.tools.run(call["name"], call["input"])
        self.result["tool_uses"].append({key: call[key] for key in ("id", "name", "input")})
        said = {"tool_use_id": call["id"], "is_error": failed}
        self.result["tool_results"].append(said | {"tool_name": call["name"], "output": content})
        return {"type": "tool_result", "content": content} | said

    def compact(self, keep: int) -> None:
        """Put a summary in the place of all but the last `keep` messages."""
        old, kept = self.messages[:-keep], self.messages[-keep:]
        goal = str(old[0]["content"])
        summary = f"{len(old)} messages left out"
        if self.compact_by == "model":
            wanted = {"role": "user", "content": f"Summarise in one sentence: {json.dumps(old)}"}
            summary = "".join(block.get("text", "") for block in self.ask([wanted], []).blocks)
        self.messages = [{"role": "user", "content": f"{goal}\n\n[{summary}]"}, *kept]
        self.result["auto_compaction"] = {"removed_messages": len(old), "summary": summary}


def options_of(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="claw")
    parser.add_argument("--model", default="claude-opus-4-6")
    form = os.environ.get("CLAW_OUTPUT_FORMAT", "text")
    parser.add_argument("--output-format", choices=("text", "json"), default=form)
    parser.add_argument("--permission-mode", choices=LEVELS, default="workspace-write")
    parser.add_argument("--dangerously-skip-permissions", "--skip-permissions", action="store_true")
    parser.add_argument(
        "--allowedTools", "--allowed-tools", dest="allowed_tools", action="append", default=[]
    )
    parser.add_argument("--cwd", "-C", "--directory")
    parser.add_argument("--print", "-p", action="store_true")
    parser.add_argument("--allow-broad-cwd", action="store_true")
    parser.add_argument("--version", action="version", version="claw 0.0.0 (stand-in)")
    parser.add_argument("words", nargs="*")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> NoReturn:
    options = options_of(arguments)
    words = options.words[1:] if options.words[:1] == ["prompt"] else options.words
    if options.cwd:
        os.chdir(options.cwd)
    trace({"env": dict(os.environ), "cwd": os.getcwd(), "argv": arguments})
    config = Path(os.environ.get("CLAW_CONFIG_HOME") or Path.home() / ".claw")
    settings = config / "settings.json"
    try:
        wire, tools = Wire(options.model), Tools(options, config / "plugins")
        given = json.loads(settings.read_text()) if settings.exists() else {}
        result = Session(options.model, wire, tools, given).run(" ".join(words) or sys.stdin.read())
    except Failure as failure:
        sys.exit(f"error: {failure}")
    print(json.dumps(result) if options.output_format == "json" else result["message"])
    sys.exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
