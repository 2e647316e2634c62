"""Put a perfect scripted model behind real agent programs, to see them get all six tasks done.

    python -m pytest_agentlimit.example_suites.harness.scripted pi claude-code

runs the suite through each program that is installed, in a process of its own, and prints one line
for each: a task that fails then is the program's doing, or its preset's. `--loop` runs our own tool
loop, too; what follows `--` goes to pytest. The exit code is 1 when a task failed or no program is
there, and 2 for a name that is no program.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pytest_agentlimit.chat.messages import ChatRequest
from pytest_agentlimit.errors import UsageProblem
from pytest_agentlimit.reports import numbers
from pytest_agentlimit.testing import Scripted, ScriptedEndpoint
from pytest_agentlimit.text import one_line

from .oracle import perfect

if TYPE_CHECKING:
    from pytest_agentlimit.harness.spec import HarnessSpec

SUITE = "pytest_agentlimit.example_suites.harness.test_harness"
LOOP = "--loop"
_VERSION = re.compile(r"\d[\w.+-]*\w")
_USAGE = f"name a program, such as pi, or {LOOP} for our own tool loop"


class Result(NamedTuple):
    """What became of one run of the suite."""

    passed: int
    trials: int
    requests: int
    seconds: float
    exit_code: int
    output: str

    @property
    def perfect(self) -> bool:
        """Whether there were trials, and all of them passed."""
        return self.exit_code == 0 and 0 < self.passed == self.trials

    def __str__(self) -> str:
        """Return the line that is printed."""
        passed = f"{self.passed} of {self.trials} passed" if self.trials else "nothing ran"
        asked = numbers.count(self.requests, "request")
        return f"{passed}, {asked}, {numbers.seconds(self.seconds)}"


def main(arguments: list[str]) -> int:
    """Return the exit code, after one line for each program of `arguments`."""
    own, options = _split(arguments)
    names = [name for name in own if name != LOOP]
    flags = [name for name in names if name.startswith("-")]
    try:
        if flags or not own:
            raise UsageProblem(f"{f'{flags[0]} is no option; ' if flags else ''}{_USAGE}")
        specs = _specs(names)
    except UsageProblem as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 2
    results = [_told("our own loop", run_suite(options))] if LOOP in own else []
    results += [result for spec in specs if (result := _through(spec, options)) is not None]
    return 0 if results and all(result.perfect for result in results) else 1


def run_suite(options: Sequence[str], model: Callable[[ChatRequest], Scripted] = perfect) -> Result:
    """Return what became of the suite with a scripted model, run by pytest with `options`."""
    with ScriptedEndpoint(model) as server, tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.json")
        run = ["--pyargs", SUITE, f"--agent-model={server.spec}", f"--agent-report=json:{report}"]
        run += [
            "--agent-preflight=off",
            "--tb=short",
            "-p",
            "no:randomly",
            "-p",
            "no:cacheprovider",
        ]
        started = time.monotonic()
        # In a process of its own: pytest wants to import the plugin itself, and first.
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *run, *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        seconds = time.monotonic() - started
        checks = json.loads(report.read_text())["models"][0]["checks"] if report.exists() else []
        return Result(
            passed=sum(check["passes"] for check in checks),
            trials=sum(check["trials"] for check in checks),
            requests=len(server.chat_requests),
            seconds=seconds,
            exit_code=done.returncode,
            output=done.stdout,
        )


def _split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Return what is ours, and what goes to pytest."""
    if "--" not in arguments:
        return arguments, []
    at = arguments.index("--")
    return arguments[:at], arguments[at + 1 :]


def _specs(names: list[str]) -> list[HarnessSpec]:
    from pytest_agentlimit.harness.presets import harness_spec

    return [harness_spec(name, root=Path.cwd()) for name in names]


def _through(spec: HarnessSpec, options: list[str]) -> Result | None:
    """Return what became of the suite through a program; None, and a line, without the program."""
    from pytest_agentlimit.harness.programs import find_program, program_version

    path = find_program(spec)
    if path is None:
        hint = spec.install or f"put {spec.program} on the PATH"
        print(f"{spec.name}: not installed: {one_line(hint)}", flush=True)
        return None
    told = program_version(spec, path) or ""
    number = _VERSION.search(told)
    version = number[0] if number else one_line(told) or "version unknown"
    return _told(f"{spec.name} {version}", run_suite([f"--agent-harness={spec.name}", *options]))


def _told(who: str, result: Result) -> Result:
    """Print the line of a result, and the output of pytest when it is not perfect."""
    print(f"{who}: {result}", flush=True)
    if not result.perfect:
        print(result.output, file=sys.stderr, flush=True)
    return result


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
