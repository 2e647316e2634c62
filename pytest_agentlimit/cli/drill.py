"""The fallback drill as `agentlimit doctor --drill` runs, prints and writes it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from pytest_agentlimit.errors import UsageProblem

if TYPE_CHECKING:
    from pytest_agentlimit.endpoints.drill import Drill, Row, Warm
    from pytest_agentlimit.endpoints.spec import Deadlines, EndpointSpec

DrillOption = Annotated[
    bool,
    typer.Option("--drill", help="Then let it fail in six ways: do its fallbacks carry the work?"),
]
FallbackOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="SPEC",
        help="A model that follows it in the drill; repeatable, in order. Default: the fallbacks "
        "that an OpenClaw config gives the agent.",
    ),
]
BudgetOption = Annotated[
    str, typer.Option(metavar="DURATION", help="How long each fault of the drill may last.")
]

WIDTH = 20
INDENT = " " * (WIDTH + 5)


class Asked(NamedTuple):
    """What was typed about the drill."""

    fallbacks: Sequence[str]
    budget_s: float
    agent_config: str | None


class Drilled(NamedTuple):
    """A finished drill, or why there was none."""

    drill: Drill | None
    problem: str = ""

    @property
    def code(self) -> int:
        """The exit code: 0 when the work was carried through every fault."""
        return 0 if self.drill is not None and self.drill.carried else 1

    def as_json(self) -> dict[str, Any]:
        """Return the `drill` key of a model, the same keys with and without a drill."""
        if self.drill is None:
            return {"carried": False, "problem": self.problem, "warm": [], "rows": []}
        found = self.drill.model_dump(mode="json")
        return {"carried": self.drill.carried, "problem": None, **found}


def asked(
    drill: bool,
    models: Sequence[str] | None,
    fallbacks: Sequence[str] | None,
    budget: str,
    agent_config: str | None,
) -> Asked | None:
    """Return the options of a drill, checked, None when none is wanted; raises UsageProblem."""
    from pytest_agentlimit.units import duration_ms

    if not drill:
        if fallbacks:
            raise UsageProblem("--fallback is for the drill. Next: add --drill")
        return None
    if not models:
        raise UsageProblem(
            "--drill needs the model whose failure is rehearsed. Next: agentlimit doctor MODEL "
            "--drill --fallback SPEC"
        )
    try:
        budget_s = duration_ms(budget) / 1000
    except ValueError as error:
        raise UsageProblem(f"--drill-budget: {error}") from None
    return Asked(fallbacks or (), budget_s, agent_config)


def drilled(
    name: str,
    spec: EndpointSpec,
    wanted: Asked,
    fix_hints: bool,
    say: Callable[[str], None] | None,
) -> Drilled:
    """Return the drill of the model `name`; each line goes to `say` as soon as it is known."""
    from pytest_agentlimit.endpoints.drill import run_drill
    from pytest_agentlimit.text import one_line

    def tell(lines: Iterable[str]) -> None:
        if say is not None:
            for line in lines:
                say(line)

    try:
        with ExitStack() as stack:
            fallbacks = [served(other, stack) for other in fallbacks_of(name, spec, wanted)]
            tell(_head(spec, fallbacks, wanted.budget_s))
            drill = run_drill(
                [spec, *fallbacks],
                budget_s=wanted.budget_s,
                tell=lambda found: tell(_found(found, fix_hints)),
            )
    except UsageProblem as problem:
        tell([f"  ✗ {'drill':<{WIDTH}} {one_line(str(problem), 1000)}"])
        return Drilled(None, str(problem))
    tell(_end(drill))
    return Drilled(drill)


def fallbacks_of(name: str, spec: EndpointSpec, wanted: Asked) -> list[EndpointSpec]:
    """Return the endpoints that were named, else those that the OpenClaw config names."""
    from pytest_agentlimit.endpoints.openclaw import fallback_chain, open_config
    from pytest_agentlimit.endpoints.resolve import resolve

    if wanted.fallbacks:
        return [
            resolve(other, root=Path.cwd(), environ=os.environ, agent_config=wanted.agent_config)
            for other in wanted.fallbacks
        ]
    if not spec.source.startswith("OpenClaw"):
        return []
    config = open_config(wanted.agent_config, Path.cwd(), os.environ)
    return fallback_chain(config, name)[1:] if config else []


def served(spec: EndpointSpec, stack: ExitStack) -> EndpointSpec:
    """Return an endpoint that answers: an embedded one is served until `stack` ends."""
    if spec.kind != "embedded":
        return spec
    from pytest_agentlimit.endpoints.embedded import start_embedded

    return stack.enter_context(start_embedded(spec)).spec


def _head(spec: EndpointSpec, fallbacks: Sequence[EndpointSpec], budget_s: float) -> Iterator[str]:
    """Yield what is measured against what; nothing when there is no drill to come."""
    from pytest_agentlimit.endpoints.drill import longest_s
    from pytest_agentlimit.reports.numbers import seconds
    from pytest_agentlimit.text import one_line

    if not fallbacks:
        return
    name = one_line(spec.name, 80)
    yield (
        f"  drill: a server with one fault stands in for {name}, and its fallbacks answer. Budget "
        f"{seconds(budget_s)} a fault, {seconds(longest_s(len(fallbacks), budget_s))} in all"
    )
    yield f"{INDENT}{name} is given up by its own deadlines: {deadlines_said(spec.deadlines)}"


def deadlines_said(limits: Deadlines) -> str:
    """Return all deadlines of an endpoint in words."""
    return (
        f"connect {limits.connect_s:g} s, first byte {limits.first_byte_s:g} s, "
        f"between chunks {limits.between_chunks_s:g} s, total {limits.total_s:g} s"
    )


def warm_said(found: Warm) -> str:
    """Return the line of a warm call."""
    from pytest_agentlimit.reports.numbers import duration
    from pytest_agentlimit.text import one_line

    name = one_line(found.name, 80)
    if found.useful_s is None:
        return f"  ✗ {'warm-up':<{WIDTH}} {name}: {found.problem}"
    first = duration(1000 * found.useful_s)
    return f"  ✓ {'warm-up':<{WIDTH}} {name}: {first} to its first token, in no row"


def _found(found: Warm | Row, fix_hints: bool) -> Iterator[str]:
    """Yield the lines of one result."""
    from pytest_agentlimit.endpoints.drill import Warm
    from pytest_agentlimit.text import one_line

    if isinstance(found, Warm):
        yield warm_said(found)
        return
    yield f"  {'✓' if found.carried else '✗'} {found.fault:<{WIDTH}} {_carried(found)}"
    if found.fix is not None:
        yield f"{INDENT}next: {one_line(found.fix.sentence, 400)}"
        if fix_hints and found.fix.line:
            yield f"{INDENT}line: {found.fix.line}"


def _carried(row: Row) -> str:
    from pytest_agentlimit.reports.numbers import count, duration
    from pytest_agentlimit.text import one_line

    attempts = count(row.lost_attempts, "attempt")
    tokens = f"about {row.lost_tokens_estimate} tokens" if row.lost_tokens_estimate else "no tokens"
    lost = f"lost {attempts}, {tokens}, {duration(1000 * row.lost_s)}"
    if not row.carried or row.useful_s is None:
        return f"nobody: {row.problem} [{row.noticed}]; {lost}"
    answer = "a call" if row.answer == "call" else "text, no call,"
    who = one_line(str(row.served_by), 80)
    return f"{answer} from {who} after {duration(1000 * row.useful_s)} [{row.noticed}]; {lost}"


def _end(drill: Drill) -> Iterator[str]:
    """Yield what is odd about the chain, and the sum of the rows."""
    for note in drill.notes:
        yield f"  ? {'chain':<{WIDTH}} {note}"
    if not drill.rows:
        yield "  drill: no fallback answered its first call, so nothing would carry the work"
        return
    carried = sum(row.carried for row in drill.rows)
    yield (
        f"  drill: the work was carried through {carried} of {len(drill.rows)} faults, each tried "
        "once (n = 1: no interval)"
    )
