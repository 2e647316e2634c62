"""`agentlimit drill`: would the fallbacks carry an agent's work through a blackout?"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pytest_agentlimit.cli.bridge import need_the_extra
from pytest_agentlimit.cli.drill import (
    INDENT,
    WIDTH,
    Asked,
    deadlines_said,
    fallbacks_of,
    served,
    warm_said,
)
from pytest_agentlimit.errors import AgentLimitError, UsageProblem

if TYPE_CHECKING:
    from pytest_agentlimit.endpoints.drill import Warm
    from pytest_agentlimit.endpoints.spec import EndpointSpec
    from pytest_agentlimit.harness.blackout_result import Blackout, Control, Row

_CARRIED, _NOT_CARRIED, _STOPPED = 0, 1, 130


def drill(
    primary: Annotated[
        str,
        typer.Option(
            metavar="SPEC",
            help="The model whose failure is rehearsed, as for --agent-model. It is never asked.",
        ),
    ],
    fallback: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SPEC",
            help="A model that follows it; repeatable, in order. Default: the fallbacks that an "
            "OpenClaw config gives the agent.",
        ),
    ] = None,
    budget: Annotated[
        str, typer.Option(metavar="DURATION", help="How long each fault may last.")
    ] = "60s",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE", help="Write that object to a file as well."),
    ] = None,
    agent_config: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="An OpenClaw config; default: the one it would read."),
    ] = None,
) -> None:
    """Rehearse a blackout: the primary fails in six ways while an agent works behind a bridge.

    Exit 0 when its fallbacks carry the work through all of them, 1 when not, 130 after Ctrl-C,
    with what was measured until then.
    """
    need_the_extra()
    budget_s = _seconds(budget)
    if out is not None and out.is_dir():
        raise UsageProblem("-o: this is a folder. Next: name a file")
    chain = _chain(primary, Asked(fallback or (), budget_s, agent_config))
    found = _drilled(chain, budget_s, quiet=as_json)
    code = _code(found)
    text = _as_json(found, code)
    if as_json:
        typer.echo(text)
    else:
        for line in _end(found):
            typer.echo(line)
    if out is not None:
        _write(out, text)
    raise typer.Exit(code)


def _seconds(budget: str) -> float:
    from pytest_agentlimit.units import duration_ms

    try:
        return duration_ms(budget) / 1000
    except ValueError as error:
        raise UsageProblem(f"--budget: {error}") from None


def _chain(primary: str, wanted: Asked) -> list[EndpointSpec]:
    """Return the primary and its fallbacks; UsageProblem before anything is started or asked."""
    from pytest_agentlimit.endpoints.drill import others_of
    from pytest_agentlimit.endpoints.resolve import resolve

    config = wanted.agent_config
    first = resolve(primary, root=Path.cwd(), environ=os.environ, agent_config=config)
    chain = [first, *fallbacks_of(primary, first, wanted)]
    others_of(chain)
    return chain


def _drilled(chain: Sequence[EndpointSpec], budget_s: float, *, quiet: bool) -> Blackout:
    """Return the drill; each line is printed as soon as it is known."""
    from pytest_agentlimit.endpoints.drill import others_of
    from pytest_agentlimit.harness.blackout import run_blackout

    lines = _Lines()

    def tell(found: Warm | Control | Row) -> None:
        for line in () if quiet else lines.of(found):
            typer.echo(line)

    first, *others = chain
    with ExitStack() as stack:
        fallbacks = [served(other, stack) for other in others]
        asked, _ = others_of(chain)
        for line in () if quiet else _head(first, len(asked), budget_s):
            typer.echo(line)
        return run_blackout([first, *fallbacks], budget_s=budget_s, tell=tell)


def _code(found: Blackout) -> int:
    if found.stopped:
        return _STOPPED
    return _CARRIED if found.carried else _NOT_CARRIED


def _as_json(found: Blackout, code: int) -> str:
    import json

    head = {"schema_version": 1, "exit_code": code, "carried": found.carried}
    return json.dumps(head | found.model_dump(mode="json"), indent=2)


def _write(out: Path, text: str) -> None:
    from pytest_agentlimit.files import write_whole
    from pytest_agentlimit.text import one_line

    try:
        write_whole(out, f"{text}\n".encode())
    except OSError as error:
        why = error.strerror or str(error)
        raise AgentLimitError(
            f"the drill was not written to {one_line(str(out))}: {one_line(why)}. Next: name "
            "another file with -o, or make room and rights there"
        ) from None


def _head(primary: EndpointSpec, fallbacks: int, budget_s: float) -> Iterator[str]:
    """Yield what is measured, and against what."""
    from pytest_agentlimit.harness.blackout import impatient, longest_s
    from pytest_agentlimit.harness.blackout_work import REPEATS
    from pytest_agentlimit.reports.numbers import seconds
    from pytest_agentlimit.text import one_line

    name = one_line(primary.name, 80)
    deadlines, cut = impatient(primary.deadlines, budget_s)
    yield (
        f"  drill: a server with one fault stands in for {name}; behind a bridge that falls back, "
        f"an agent works on tasks with files. Budget {seconds(budget_s)} a fault, "
        f"{seconds(longest_s(fallbacks, budget_s))} in all"
    )
    yield f"{INDENT}a request that fails is sent again at once, at most {REPEATS} times"
    yield f"{INDENT}{name} is given up after: {deadlines_said(deadlines)}"
    if cut:
        own = ", ".join(f"{_DEADLINES[key]} {value:g} s" for key, value in cut.items())
        yield (
            f"{INDENT}cut to a third of the budget: its own ({own}) would leave a fallback little "
            f"of it, or nothing. Next: {_settings(primary, cut, budget_s / 3)}"
        )


_DEADLINES = {
    "connect_s": "connect",
    "first_byte_s": "first byte",
    "between_chunks_s": "between chunks",
    "total_s": "total",
}
_OPTIONS = {"first_byte_s": "--first-byte", "between_chunks_s": "--between-chunks"}


def _settings(primary: EndpointSpec, cut: dict[str, float], limit_s: float) -> str:
    """Return what to give a bridge, and the primary's own configuration, for such deadlines."""
    options = "".join(f" {_OPTIONS[key]} {limit_s:g}s" for key in cut if key in _OPTIONS)
    bridge = [f"agentlimit bridge{options}"] if options else []
    table = f'timeout = "{limit_s:g}s" in its table'
    if primary.source.startswith("OpenClaw"):
        table = f"timeoutSeconds: {max(1, int(limit_s))} of its provider"
    return ", ".join([*bridge, table])


class _Lines:
    """The lines of results, in the order they come."""

    def __init__(self) -> None:
        self._alone = 0  # tasks that the fallback finishes alone

    def of(self, found: Warm | Control | Row) -> Iterator[str]:
        """Yield the lines of one result."""
        from pytest_agentlimit.endpoints.drill import Warm
        from pytest_agentlimit.harness.blackout_result import Control

        if isinstance(found, Warm):
            yield warm_said(found)
        elif isinstance(found, Control):
            self._alone = found.finished
            yield from _control(found)
        else:
            yield from _row(found, self._alone > 0)


def _control(control: Control) -> Iterator[str]:
    from pytest_agentlimit.reports.numbers import duration
    from pytest_agentlimit.text import one_line

    first = "nothing of use came"
    if control.useful_s is not None:
        first = f"first token after {duration(1000 * control.useful_s)}"
    mark, name = "✓" if control.finished else "✗", one_line(control.fallback, 80)
    yield f"  {mark} {'control':<{WIDTH}} {name} alone, no bridge: {_tasks(control)}, {first}"
    yield from _not_done(control.problems)


def _row(row: Row, shows: bool) -> Iterator[str]:
    """Yield the lines of a fault; without `shows` nothing can be said of what was not done."""
    from pytest_agentlimit.reports.numbers import duration
    from pytest_agentlimit.text import one_line

    first = "nothing of use came from a fallback"
    if row.useful_s is not None:
        who = one_line(str(row.served_by), 80)
        first = f"first token from {who} after {duration(1000 * row.useful_s)}"
    mark = "✓" if row.carried else "✗" if shows else "?"
    noticed = row.noticed or "not noticed"
    yield f"  {mark} {row.fault:<{WIDTH}} {_tasks(row)}, {first} [{noticed}]; {_lost(row)}"
    if shows and not row.carried:
        yield from _not_done(row.problems)


def _tasks(found: Control | Row) -> str:
    from pytest_agentlimit.reports.numbers import duration

    return f"{found.finished} of {found.tasks} tasks in {duration(1000 * found.total_s)}"


def _not_done(problems: Sequence[str]) -> Iterator[str]:
    from pytest_agentlimit.text import one_line

    for problem in problems:
        yield f"{INDENT}not done: {one_line(problem, 400)}"


def _lost(row: Row) -> str:
    from pytest_agentlimit.reports.numbers import count

    tokens = f"about {row.lost_tokens_estimate} tokens" if row.lost_tokens_estimate else "no tokens"
    requests = count(row.lost_requests, "request") if row.lost_requests else "no request"
    return f"lost {requests}, {count(row.lost_attempts, 'attempt')}, {tokens}"


def _end(found: Blackout) -> Iterator[str]:
    """Yield what is odd about the chain, and whether the fallback would have carried the work."""
    for note in found.notes:
        yield f"  ? {'chain':<{WIDTH}} {note}"
    yield f"  drill: {_verdict(found)}"


def _verdict(found: Blackout) -> str:
    from pytest_agentlimit.endpoints.drill import FAULTS
    from pytest_agentlimit.text import one_line

    control, tried = found.control, len(found.rows)
    if control is None or found.stopped:
        return (
            f"stopped; {tried} of {len(FAULTS)} faults were begun, and nothing is known of the rest"
        )
    alone = one_line(control.fallback, 80)
    if not control.finished:
        return (
            f"{alone} finishes none of the {control.tasks} tasks even alone, so nothing was shown: "
            "name a fallback that does, or look at it with agentlimit doctor"
        )
    who = alone if len(found.fallbacks) == 1 else "the fallbacks"
    n = (
        f"(n = {control.tasks} tasks a fault, each tried once: no interval; alone it finished "
        f"{control.finished})"
    )
    failed = [row.fault for row in found.rows if not row.carried]
    if not failed:
        return f"{who} would have carried the work through all {tried} faults {n}"
    return (
        f"{who} would not have carried the work: {tried - len(failed)} of {tried} faults were got "
        f"through, not {', '.join(failed)} {n}"
    )
