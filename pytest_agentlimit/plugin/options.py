"""The command line and ini options: one table, from which parsing and the reference are made.

Nothing heavy is imported here: every pytest session pays for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

GATE_MODES = ("point", "strict", "proven", "off")
SHAPES = ("bare", "agent")
PREFLIGHTS = ("off", "quick", "full")
CLASSIFY = ("instance", "sampling")
TOOLS = ("native", "emulate")


@dataclass(frozen=True)
class Option:
    """One option. `dest` doubles as the ini key; `ini` is pytest's ini type."""

    flag: str
    ini: str
    help: str
    metavar: str | None = None
    choices: tuple[str, ...] | None = None
    repeatable: bool = False
    bare: str | None = None
    """What the flag alone, without `=VALUE`, stands for; None: it needs a value."""
    flag_only: bool = False

    @property
    def shown(self) -> str | None:
        """What stands for the value in help texts."""
        return "{" + ",".join(self.choices) + "}" if self.choices else self.metavar

    @property
    def parser_arguments(self) -> dict[str, Any]:
        """How argparse is to read the flag."""
        if self.flag_only:
            return {"action": "store_true"}
        action = "append" if self.repeatable else "store"
        optional = {} if self.bare is None else {"nargs": "?", "const": self.bare}
        return {"action": action, "metavar": self.shown, **optional}

    @property
    def dest(self) -> str:
        """`--agent-min-score` → `agentlimit_min_score`: dests clash silently, so they are ours."""
        return "agentlimit_" + self.flag.removeprefix("--agent-").replace("-", "_")


OPTIONS = (
    Option(
        "--agent-model",
        "args",
        "model under test: a name from your config, a literal such as "
        "ollama+http://127.0.0.1:11434#qwen3, gguf:/path, smollm2, null:parrot; "
        "repeat or separate by commas for several",
        "NAME",
        repeatable=True,
    ),
    Option(
        "--agent-config",
        "string",
        "an OpenClaw config whose providers, models and agents are names of models (default: the "
        "one OpenClaw itself would read)",
        "FILE",
    ),
    Option("--agent-trials", "int", "trials of every check, each with a new seed (default 1)", "N"),
    Option("--agent-seed", "int", "seed of the run; printed, so that a run can be repeated", "N"),
    Option(
        "--agent-min-score",
        "float",
        "gate: the score to reach, in per cent; the 95%% interval decides, and where it cannot, "
        "--agent-gate does",
        "PCT",
    ),
    Option(
        "--agent-p95",
        "string",
        "gate: P95 of trial latencies; 'within-budget' (each check's own budget) or one duration "
        "such as 8s",
        "BUDGET",
    ),
    Option(
        "--agent-gate",
        "string",
        "what an inconclusive rule does to the exit code (default point: it follows the point "
        "estimate; strict: red; proven: only proven breaches are red; off: report only)",
        choices=GATE_MODES,
    ),
    Option(
        "--agent-baseline",
        "string",
        "gate: not worse, beyond noise, than what a lock file holds (agentlimit lock); FILE#model "
        "where it holds several",
        "FILE",
    ),
    Option(
        "--agent-report",
        "args",
        "write a report: json, markdown, junit or github, with or without :FILE, or term:FILE; "
        "repeatable",
        "TYPE[:FILE]",
        repeatable=True,
    ),
    Option(
        "--agent-shape",
        "string",
        "bare: the check's own request; agent: every request carries a 20 KB agent system prompt "
        "and a dozen decoy tools",
        choices=SHAPES,
    ),
    Option(
        "--agent-preflight",
        "string",
        "what is found out about an endpoint before the first trial: quick (the default) sends at "
        "most 12 short requests, full also measures the context; a result without faults is kept "
        "for an hour",
        choices=PREFLIGHTS,
    ),
    Option(
        "--agent-tools",
        "args",
        "how tools are offered: native, as the dialect has it, or emulate, in the prompt and as "
        "JSON, for models without tool calling; native,emulate runs each model in both ways and "
        "compares the two",
        "native|emulate",
        repeatable=True,
    ),
    Option(
        "--agent-harness",
        "string",
        "the agent program that agent.run goes through: pi, claude-code, mini-swe-agent … or the "
        "NAME of a [tool.agentlimit.harness.NAME] (default: our own tool loop)",
        "NAME",
    ),
    Option("--agent-timeout", "string", "total deadline of one call, such as 90s", "DURATION"),
    Option(
        "--agent-max-inflight",
        "int",
        "calls at a time per endpoint, over all workers and sessions on this machine (default 1); "
        "latencies count only when exactly that many were under way",
        "N",
    ),
    Option(
        "--agent-resume",
        "string",
        "run only what is missing of an earlier run: latest (the default) or its id",
        "RUN",
        bare="latest",
    ),
    Option(
        "--agent-classify",
        "string",
        "run each check until its outcome flips or it is proven stable (29 trials); 'sampling' "
        "repeats one instance, 'instance' (the default) draws a new one each trial",
        choices=CLASSIFY,
        bare="instance",
    ),
    Option(
        "--agent-audit",
        "bool",
        "run the checks against null models, which know nothing; exit 1 when one passes a check",
        flag_only=True,
    ),
)


def add_options(parser: pytest.Parser) -> None:
    """Register every option and its ini key."""
    group = parser.getgroup("agentlimit", "model endpoints under test (pytest-agentlimit)")
    for option in OPTIONS:
        group.addoption(
            option.flag,
            dest=option.dest,
            default=None,
            help=option.help,
            **option.parser_arguments,
        )
        parser.addini(option.dest, option.help.replace("%%", "%"), type=option.ini, default=None)  # type: ignore[arg-type]
