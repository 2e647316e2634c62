"""`agentlimit bridge`: one endpoint for clients that speak Anthropic messages or OpenAI chat."""

from __future__ import annotations

import importlib.util
import logging
import os
import re
import signal
from collections.abc import Sequence
from contextlib import ExitStack
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pytest_agentlimit.errors import AgentLimitError, UsageProblem
from pytest_agentlimit.units import duration_ms

if TYPE_CHECKING:
    from types import FrameType

    from pytest_agentlimit.bridge.policy import Policy
    from pytest_agentlimit.bridge.serve import Bridge
    from pytest_agentlimit.endpoints.spec import EndpointSpec

_GRACE_S = 3.0
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMG]?)B?", re.IGNORECASE)
_UNITS = {"": 1, "K": 1_000, "M": 1_000_000, "G": 1_000_000_000}


class Tools(Enum):
    """What becomes of the tools a client offers."""

    NATIVE = "native"
    STRIP = "strip"
    EMULATE = "emulate"


class CutCalls(Enum):
    """What becomes of a call whose arguments break off."""

    DROP = "drop"
    ERROR = "error"


class System(Enum):
    """Where system messages in the middle of a conversation go."""

    FOLD = "fold"
    HOIST = "hoist"
    KEEP = "keep"


def bridge(
    upstream: Annotated[
        str,
        typer.Option(
            metavar="SPEC",
            help="The model that answers, as for --agent-model. An address without #MODEL asks for "
            "the model the client names.",
        ),
    ],
    fallback: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SPEC",
            help="Another model, asked when those before it fail; repeatable.",
        ),
    ] = None,
    first_byte: Annotated[
        str | None,
        typer.Option(
            metavar="DURATION",
            help="How long an endpoint may be silent before it answers, such as 20s.",
        ),
    ] = None,
    between_chunks: Annotated[
        str | None,
        typer.Option(
            metavar="DURATION", help="How long it may be silent in the middle of an answer."
        ),
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8787,
    host: Annotated[
        str, typer.Option(help="Another address than this machine's needs --token.")
    ] = "127.0.0.1",
    token: Annotated[
        str | None,
        typer.Option(
            envvar="AGENTLIMIT_BRIDGE_TOKEN",
            help="What clients must show, as bearer token or in x-api-key.",
        ),
    ] = None,
    tools: Annotated[
        Tools,
        typer.Option(
            help="strip: the model is offered none, whatever the client offers. emulate: it is "
            "offered them in its prompt, and calls are read from its text."
        ),
    ] = Tools.NATIVE,
    system: Annotated[
        System,
        typer.Option(help="System messages in the middle: into a neighbour, to the head, or kept."),
    ] = System.FOLD,
    recover_leaks: Annotated[
        bool,
        typer.Option(
            "--recover-leaks",
            help="Make calls of a reply that is nothing but calls written as text; counted.",
        ),
    ] = False,
    cut_calls: Annotated[
        CutCalls,
        typer.Option(
            help="A call that breaks off at max_tokens is left out of the reply, or is an error."
        ),
    ] = CutCalls.DROP,
    capture: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Append every exchange as a line of JSON, keys left out."
        ),
    ] = None,
    max_turns: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Refuse requests after N were answered.")
    ] = None,
    max_body: Annotated[
        str, typer.Option(metavar="SIZE", help="The largest request, such as 5MB.")
    ] = "32MB",
    agent_config: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="An OpenClaw config; default: the one it would read."),
    ] = None,
) -> None:
    """Serve an endpoint to Anthropic and OpenAI clients, until it is stopped with Ctrl-C."""
    need_the_extra()
    from pytest_agentlimit.bridge.policy import Policy
    from pytest_agentlimit.bridge.serve import Bridge, upstream_spec

    policy = Policy(
        tools=tools.value,
        system=system.value,
        recover_leaks=recover_leaks,
        cut_calls=cut_calls.value,
        max_turns=max_turns,
        max_body=_size(max_body),
        token=token or None,
    )
    limits = _deadlines(first_byte, between_chunks)
    named = [
        upstream_spec(name, root=Path.cwd(), environ=os.environ, agent_config=agent_config)
        for name in (upstream, *(fallback or ()))
    ]
    with ExitStack() as stack:
        specs = [_started(spec, stack) for spec in named]
        specs = [
            spec.model_copy(update={"deadlines": spec.deadlines.model_copy(update=limits)})
            for spec in specs
        ]
        first, *others = specs
        served = Bridge(
            first, policy, others, host=host, port=port, capture=capture, grace_s=_GRACE_S
        )
        _serve(served, specs, policy)


def _started(spec: EndpointSpec, stack: ExitStack) -> EndpointSpec:
    """Return `spec` with its address, served until the stack is closed when it is embedded."""
    if spec.kind != "embedded":
        return spec
    from pytest_agentlimit.endpoints.embedded import start_embedded

    return stack.enter_context(start_embedded(spec)).spec


def need_the_extra() -> None:
    """Raise UsageProblem, with the line that installs it, when what a bridge needs is not there."""
    for name in ("starlette", "uvicorn"):
        if importlib.util.find_spec(name) is None:
            raise UsageProblem(
                f"the bridge needs {name}, which is not installed. Next: pip install "
                '"pytest-agentlimit[bridge]"'
            )


def _size(text: str) -> int:
    """Return the bytes of "5MB", "500 K" or "1000000"; UsageProblem for anything else."""
    match = _SIZE.fullmatch(text.strip())
    size = int(float(match[1]) * _UNITS[match[2].upper()]) if match else 0
    if size < 1:
        raise UsageProblem(f'--max-body: "{text}" is no size: write it as in 5MB')
    return size


def _deadlines(first_byte: str | None, between_chunks: str | None) -> dict[str, float]:
    """Return the deadlines that were given, in seconds; UsageProblem for what is no duration."""
    given = {
        "first_byte_s": ("--first-byte", first_byte),
        "between_chunks_s": ("--between-chunks", between_chunks),
    }
    limits = {}
    for field, (option, text) in given.items():
        try:
            if text is not None:
                limits[field] = duration_ms(text) / 1000
        except ValueError as error:
            raise UsageProblem(f"{option}: {error}") from None
    return limits


def _serve(served: Bridge, specs: Sequence[EndpointSpec], policy: Policy) -> None:
    _log_to_stderr()
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        served.run(lambda: _greet(served, specs, policy))
    except KeyboardInterrupt:
        typer.echo("stopped", err=True)
    finally:
        served.close()


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Make SIGTERM end as Ctrl-C does: with everything closed."""
    raise KeyboardInterrupt


def _log_to_stderr() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    log = logging.getLogger("agentlimit.bridge")
    log.setLevel(logging.INFO)
    log.addHandler(handler)
    logging.getLogger("uvicorn.error").addHandler(logging.NullHandler())


def _greet(served: Bridge, specs: Sequence[EndpointSpec], policy: Policy) -> None:
    """Say where the bridge is, who answers, and who of them does not answer yet."""
    first, *others = specs
    typer.echo(f"bridge at {served.url} to {_shown(first)}")
    key = "the token" if policy.token else "any key"
    typer.echo(f"  ANTHROPIC_BASE_URL={served.url}    with {key}")
    typer.echo(f"  OPENAI_BASE_URL={served.url}/v1")
    for spec in others:
        typer.echo(f"  falls back to {_shown(spec)}")
    if others:
        wait_s = first.deadlines.first_byte_s
        typer.echo(f"  after {wait_s:g} s without a first byte (--first-byte), or an error")
    for spec in specs:
        _warn_if_down(spec)


def _shown(spec: EndpointSpec) -> str:
    from pytest_agentlimit.text import one_line

    model = one_line(spec.model, 80) or "the client's model"
    return f"{one_line(spec.base_url)}, {spec.dialect}, {model}"


def _warn_if_down(spec: EndpointSpec) -> None:
    from pytest_agentlimit.endpoints.client import EndpointClient
    from pytest_agentlimit.text import one_line

    path = {"openai": "/models", "anthropic": "/v1/models", "ollama": "/api/tags"}[spec.dialect]
    impatient = spec.deadlines.model_copy(update={"first_byte_s": 3.0, "total_s": 3.0})
    try:
        with EndpointClient(spec.model_copy(update={"deadlines": impatient})) as client:
            client.get_json(path)
    except AgentLimitError as error:
        typer.echo(f"warning: {one_line(str(error), 300)}. It may come up later", err=True)
