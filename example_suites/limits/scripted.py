"""Climb the ladders with scripted models that collapse at known steps, to see them found.

    python -m pytest_agentlimit.example_suites.limits.scripted 3 12

serves a model that is right up to level 3 and wrong above it, and another one for level 12, and
runs the suite on both; what follows the steps goes to pytest. Each ceiling should be the highest
level of its ladder that is not above the step.
"""

from __future__ import annotations

import subprocess
import sys
from contextlib import ExitStack
from itertools import takewhile

from pytest_agentlimit.testing import ScriptedEndpoint

from .oracles import collapsing

SUITE = "pytest_agentlimit.example_suites.limits.test_limits"


def main(arguments: list[str]) -> int:
    """Return the exit code of pytest: 0 when every ladder was climbed; 2 without a step."""
    steps = list(takewhile(str.isdecimal, arguments))
    if not steps:
        given = f"{arguments[0]!r} is no step" if arguments else "there is no step"
        print(f"error: {given} to collapse after; name a level or more, such as 6", file=sys.stderr)
        return 2
    with ExitStack() as stack:
        servers = [
            stack.enter_context(
                ScriptedEndpoint(collapsing(int(step)), model=f"collapses-after-{step}")
            )
            for step in steps
        ]
        models = ",".join(server.spec for server in servers)
        run = ["--pyargs", SUITE, f"--agent-model={models}", "--agent-gate=off", "--tb=no", "-rN"]
        # In a process of its own: pytest wants to import the plugin itself, and first.
        command = [sys.executable, "-m", "pytest", *run, "-p", "no:randomly"]
        return subprocess.run([*command, *arguments[len(steps) :]]).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
