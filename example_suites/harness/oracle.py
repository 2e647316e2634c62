"""A perfect model for these tasks, whatever program asks it: `perfect` knows only what it is sent.

It works through the shell tool that the request offers, one command a reply, and reads what the
commands said from the conversation. It knows the wording of the goals, which is why it stands
beside them; what is to be found out, it finds out.

Programs differ. Some rewrite the ids of calls, add a user message after results or wrap results in
JSON, so only the number of calls counts, and results are searched wherever they stand.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from typing import Any

from pytest_agentlimit.chat.messages import ChatRequest, Tool, ToolCall, ToolResult
from pytest_agentlimit.testing import Scripted, say

from .file_task import RULER
from .fix_task import MISTAKES

_SHELLS = ("shell", "bash", "Bash", "exec", "exec_command", "run_shell_command")
_COMMANDS = ("command", "cmd")
_END = "COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT"
"""What mini-swe-agent wants to be echoed by the last command, alone."""
_FILL: dict[str, Any] = {
    "string": "One step of the task",
    "boolean": False,
    "integer": 60,
    "number": 60,
    "array": [],
    "object": {},
}


class Stuck(Exception):
    """The conversation does not hold what the next step needs."""


class Seen:
    """What a model sees: the goal somewhere in the user texts, its commands, what they said."""

    def __init__(self, request: ChatRequest) -> None:
        blocks = [block for message in request.messages for block in message.blocks]
        self.commands = [block for block in blocks if isinstance(block, ToolCall)]
        said = [message.text for message in request.messages if message.role == "user"]
        results = [block.content for block in blocks if isinstance(block, ToolResult)]
        self.said = "\n".join(said)
        self.results = "\n".join(map(_plain, [*results, *said[1:]]))
        self.rules = "\n".join([request.system or "", self.said])

    def told(self, pattern: str) -> tuple[str, ...]:
        """Return the groups of `pattern` in what the user said."""
        return _found(pattern, self.said)

    def shown(self, pattern: str) -> tuple[str, ...]:
        """Return the groups of `pattern` in the results of the commands."""
        return _found(pattern, self.results)


def _plain(result: str) -> str:
    """Return the texts of a result that came as a JSON object; any other as it is."""
    try:
        value = json.loads(result)
    except (ValueError, RecursionError):
        return result
    if not isinstance(value, dict):
        return result
    return "\n".join(text for text in value.values() if isinstance(text, str))


def _found(pattern: str, text: str) -> tuple[str, ...]:
    match = re.search(pattern, text, re.DOTALL)
    if match is None:
        raise Stuck(f"there is nothing like {pattern!r} in the conversation")
    return match.groups()


Step = Callable[[Seen], str]
"""Returns the next command."""


def perfect(request: ChatRequest) -> Scripted:
    """Return the right next reply to `request`, for `ScriptedEndpoint(perfect)`.

    Requests that offer no shell (for titles and summaries) are answered with a short text.
    """
    shell = shell_of(request)
    if shell is None:
        return say("Work in a folder.")
    seen = Seen(request)
    steps = next((steps for mark, steps in _TASKS if mark in seen.said), None)
    if steps is None:
        return say("This is none of the six tasks.")
    try:
        command = _command(seen, steps)
    except Stuck as stuck:
        return say(f"I cannot go on: {stuck}.")
    return say("It is done.") if command is None else calling(shell, command, len(seen.commands))


def says_done(request: ChatRequest) -> Scripted:
    """Return a reply that claims to have done everything and has done nothing."""
    return say("Done. I have finished the task and checked every step of it.")


def _command(seen: Seen, steps: tuple[Step, ...]) -> str | None:
    """Return the next command, the end command of a program that wants one, or None at the end."""
    made = len(seen.commands)
    if made < len(steps):
        return steps[made](seen)
    return f"echo {_END}" if made == len(steps) and _END in seen.rules else None


def shell_of(request: ChatRequest) -> Tool | None:
    """Return the tool that runs commands: by its name, else the only one that takes a command."""
    named = {tool.name: tool for tool in request.tools}
    for name in _SHELLS:
        if name in named and _parameter(named[name]):
            return named[name]
    taking = [tool for tool in request.tools if _parameter(tool)]
    return taking[0] if len(taking) == 1 else None


def calling(shell: Tool, command: str, made: int) -> Scripted:
    """Return a call of `shell`; what else it requires is filled in by its schema."""
    properties = shell.parameters.get("properties", {})
    needed = [name for name in shell.parameters.get("required", []) if name in properties]
    arguments = {name: _value(properties[name]) for name in needed}
    arguments[_parameter(shell)] = command
    call = ToolCall(id=f"call_{made}", name=shell.name, raw_arguments=json.dumps(arguments))
    return Scripted(blocks=(call,))


def _parameter(tool: Tool) -> str:
    """Return the name of the text parameter that takes a command, empty when there is none."""
    properties = tool.parameters.get("properties", {})
    texts = (name for name in _COMMANDS if properties.get(name, {}).get("type") == "string")
    return next(texts, "")


def _value(schema: dict[str, Any]) -> Any:
    for key in ("default", "const"):
        if key in schema:
            return schema[key]
    if schema.get("enum"):
        return schema["enum"][0]
    kind = schema.get("type", "string")
    kind = kind[0] if isinstance(kind, list) else kind
    low = schema.get("minimum", 0)
    return max(low, 60) if kind in ("integer", "number") else _FILL.get(kind)


def _python(code: str, *arguments: str) -> str:
    return shlex.join(["python3", "-c", code, *arguments])


# A file with given content


def _write(seen: Seen) -> str:
    (path,) = seen.told(r"Make the file (\S+) \(")
    (text,) = seen.told(rf"\n{RULER}\n(.*?\n){RULER}\n")
    folder = path.rpartition("/")[0]
    return f"mkdir -p {folder} && printf '%s' {shlex.quote(text)} > {path} && wc -c {path}"


# A module with a mistake


def _read_module(seen: Seen) -> str:
    (path,) = seen.told(r"one mistake in (\w+\.py)")
    return f"cat {path}"


def _mend(seen: Seen) -> str:
    """Return the command that puts the right code where one of the known mistakes stands."""
    (path,) = seen.told(r"one mistake in (\w+\.py)")
    percent, limit = seen.shown(r"Return (\d+) percent of the total, .* if it is (\d+) or more")
    fee, box = seen.shown(r"Return (\d+) for each box; a box holds up to (\d+) pieces")
    for pair in MISTAKES:
        right, wrong = (
            text.format(limit=limit, percent=percent, box=box, fee=fee) for text in pair
        )
        if wrong in seen.results:
            code = "import sys; p, a, b = sys.argv[1:]; t = open(p).read(); "
            return _python(f"{code}open(p, 'w').write(t.replace(a, b))", path, wrong, right)
    raise Stuck("the module has none of the mistakes that are known")


def _test(seen: Seen) -> str:
    (command,) = seen.told(r"Run the test with: (python3 -m unittest \w+)")
    return command


# A function under another name


def _find_name(seen: Seen) -> str:
    (old,) = seen.told(r"Rename the function (\w+) to")
    return f"grep -nw {old} *.py"


def _rename(seen: Seen) -> str:
    old, new = seen.told(r"Rename the function (\w+) to (\w+) in")
    paths = sorted(set(re.findall(rf"\b(\w+\.py):\d+:.*\b{old}\b", seen.results)))
    if not paths:
        raise Stuck("no file was shown that has the name")
    code = "import re, sys; r = re.compile(r'\\b' + sys.argv[1] + r'\\b'); "
    code += "[(t := open(p).read(), open(p, 'w').write(r.sub(sys.argv[2], t))) "
    return _python(f"{code}for p in sys.argv[3:]]", old, new, *paths)


def _try_program(seen: Seen) -> str:
    (command,) = seen.told(r"The program \((python3 main\.py [\d ]+)\)")
    return command


# A fact in a log


def _search(seen: Seen) -> str:
    path, job = seen.told(r"The file (\S+) has one line .* one run of the job (\w+) in the mode")
    return f"grep -w {job} {path} | grep mode=live | grep failed"


def _answer(seen: Seen) -> str:
    job, path = seen.told(r"one run of the job (\w+) in the mode live .* into the file (\S+),")
    (run,) = seen.shown(rf"\d (run-\w+) job={job} mode=live result=failed(?![\w-])")
    return f"echo {run} > {path}"


# A command that is denied


def _release(seen: Seen) -> str:
    (command,) = seen.told(r"Publish version \S+ with: (python3 release\.py [\d.]*\d)")
    return command


def _ask_for_ticket(seen: Seen) -> str:
    (command,) = seen.shown(r"denied: .* Get one with: (python3 \S+) REASON")
    (reason,) = seen.told(r"the reason is (\S+) and nothing else")
    return f"{command} {reason}"


def _release_with_ticket(seen: Seen) -> str:
    (command,) = seen.shown(r"Then: (python3 \S+ \S+ --ticket) NUMBER")
    (number,) = seen.shown(r"ticket (\d{6}) for")
    return f"{command} {number}"


# A value among settings


def _read_settings(seen: Seen) -> str:
    (path,) = seen.told(r"In the file (\S+), in the section")
    return f"cat {path}"


def _set_value(seen: Seen) -> str:
    path, section, key, value = seen.told(
        r"In the file (\S+), in the section (\w+), set (\w+) to (\d+)\."
    )
    old = seen.shown(rf"\[{section}\].*?\n{key} = (\d+)")[0]
    code = "import re, sys; p, s, k, a, b = sys.argv[1:]; t = open(p, newline='').read(); "
    code += "h, m, r = t.partition('[' + s + ']'); "
    code += "open(p, 'w', newline='').write(h + m + r.replace("
    code += "'\\n' + k + ' = ' + a, '\\n' + k + ' = ' + b, 1))"
    return _python(code, path, section, key, old, value)


_TASKS: list[tuple[str, tuple[Step, ...]]] = [
    ("(its folder does not exist yet)", (_write,)),
    ("there is one mistake in", (_read_module, _mend, _test)),
    ("names and words that only contain the old name", (_find_name, _rename, _try_program)),
    ("has one line for each run of a job", (_search, _answer)),
    ("do what the denial says", (_release, _ask_for_ticket, _release_with_ticket)),
    ("Change this one value", (_read_settings, _set_value)),
]
