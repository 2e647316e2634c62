"""`agentlimit fit`: whether a model and its cache go into the memory at hand, before a run."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

if TYPE_CHECKING:
    from pytest_agentlimit.endpoints.fit import Load, Need, Verdict
    from pytest_agentlimit.endpoints.memory import Memory
    from pytest_agentlimit.endpoints.model_facts import Known

_NOT_KNOWN = "not known"


class Kv(StrEnum):
    """The types of a KV cache."""

    F16 = "f16"
    Q8_0 = "q8_0"
    Q4_0 = "q4_0"


class _Fit(NamedTuple):
    """All that is said of one model."""

    model: str
    known: Known
    load: Load
    need: Need
    memory: Memory | None
    room: int | None
    """Bytes of that memory the model can have."""
    verdict: Verdict
    largest: int | None


def fit(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A name or literal, as for --agent-model.")
    ],
    context: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Tokens of context; default: what a run would have."),
    ] = None,
    parallel: Annotated[
        int, typer.Option(min=1, metavar="N", help="Requests at a time, each with that context.")
    ] = 1,
    kv: Annotated[Kv, typer.Option(metavar="f16|q8_0|q4_0", help="Type of the KV cache.")] = Kv.F16,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Say what a model needs in memory at a context, and whether it fits; nothing is generated.

    Exit 1 when it does not fit. What a server does not tell is not known.
    """
    found = _fit(model, context, parallel, kv.value)
    if as_json:
        import json

        typer.echo(json.dumps(_as_json(found), indent=2))
    else:
        for label, text in _lines(found):
            typer.echo(f"{label:<12} {text}")
    if found.verdict not in ("fits", _NOT_KNOWN):
        raise typer.Exit(1)


def _fit(model: str, context: int | None, parallel: int, kv: str) -> _Fit:
    import os

    from pytest_agentlimit.endpoints.fit import Load, largest_context, need, verdict
    from pytest_agentlimit.endpoints.memory import memory_at_hand
    from pytest_agentlimit.endpoints.model_facts import known_of
    from pytest_agentlimit.endpoints.resolve import resolve
    from pytest_agentlimit.errors import UsageProblem

    spec = resolve(model, root=Path.cwd(), environ=os.environ)
    known = known_of(spec)
    tokens = context or known.context or known.facts.trained
    if tokens is None:
        raise UsageProblem(
            f"{spec.name} does not tell its context, and nothing can be counted without one. "
            "Next: add --context N"
        )
    load = Load(tokens, parallel, kv)
    needed = need(known.facts, load)
    memory = memory_at_hand() if known.here else None
    room = None if memory is None else memory.total if known.running else memory.free
    largest = None if room is None else largest_context(known.facts, load, room)
    said = verdict(needed, room)
    return _Fit(spec.name, known, load, needed, memory, room, said, largest)


def _lines(found: _Fit) -> list[tuple[str, str]]:
    facts, load = found.known.facts, found.load
    asked = "1 request" if load.parallel == 1 else f"{load.parallel} requests"
    own = found.known.context is None and load.context == facts.trained
    limit = " (its own limit: what is served is not told)" if own else ""
    return [
        ("model", f"{found.model}, told by {found.known.source}"),
        ("load", f"{load.context} tokens of context{limit} × {asked}, cache in {load.kv}"),
        ("weights", _size(found.need.weights)),
        ("KV cache", _cache(found)),
        ("compute", _size(found.need.compute, "≈ ", ", an estimate")),
        ("total", _size(found.need.total, "≈ ")),
        ("memory", _memory(found)),
        ("verdict", found.verdict + _why(found)),
        ("largest", _largest(found)),
        *(("note", note) for note in facts.notes),
    ]


def _cache(found: _Fit) -> str:
    from pytest_agentlimit.endpoints.fit import growth_bytes

    layers = found.known.facts.layers or ()
    growth = growth_bytes(found.known.facts, found.load.kv)
    sliding = sum(layer.window is not None for layer in layers)
    if not growth:
        return _size(found.need.cache)
    some = f" in {len(layers) - sliding} of {len(layers)} layers" if sliding else ""
    return f"{_size(found.need.cache)} ({_size(growth)} a token{some})"


def _memory(found: _Fit) -> str:
    if found.memory is None:
        return f"{_NOT_KNOWN}: " + (
            "this system does not tell" if found.known.here else "the server is another machine"
        )
    kind, free, total, devices = found.memory
    where = f"{kind} of {devices} GPUs" if devices > 1 else kind
    if found.known.running:
        return f"{where}, {_size(total)} in all (a part may hold the model already)"
    return f"{where}, {_size(free)} free of {_size(total)}"


def _why(found: _Fit) -> str:
    """Return what a verdict lacks, or by how much it is missed; empty when it says all."""
    if found.room is None:
        return ""
    if found.need.known > found.room:
        return f": {_size(found.need.known - found.room)} too much"
    parts = [
        name
        for name, size in zip(("weights", "cache", "compute buffer"), found.need, strict=True)
        if size is None
    ]
    rest = _size(found.room - found.need.known)
    return f": {', '.join(parts)} not told, and {rest} are left for them" if parts else ""


def _largest(found: _Fit) -> str:
    if found.largest is None:
        return _NOT_KNOWN
    if not found.largest:
        return "none: no context fits"
    limit = ", all it was trained on" if found.largest == found.known.facts.trained else ""
    return f"{found.largest} tokens{limit}"


def _size(value: int | None, before: str = "", after: str = "") -> str:
    """Return bytes in binary units, as memory is sold and logged."""
    if value is None:
        return _NOT_KNOWN
    power = next(power for power in (1, 2, 3) if value < 1024 ** (power + 1) or power == 3)
    return f"{before}{value / 1024**power:.1f} {('KiB', 'MiB', 'GiB')[power - 1]}{after}"


def _as_json(found: _Fit) -> dict[str, Any]:
    from pytest_agentlimit.endpoints.fit import growth_bytes

    facts, memory = found.known.facts, found.memory
    return {
        "model": found.model,
        "context": found.load.context,
        "parallel": found.load.parallel,
        "kv": found.load.kv,
        "weights_bytes": found.need.weights,
        "cache_bytes": found.need.cache,
        "cache_bytes_per_token": growth_bytes(facts, found.load.kv),
        "compute_bytes_estimate": found.need.compute,
        "total_bytes": found.need.total,
        "memory": None
        if memory is None
        else {"kind": memory.kind, "free_bytes": memory.free, "total_bytes": memory.total},
        "verdict": found.verdict,
        "largest_context": found.largest,
        "trained_context": facts.trained,
        "notes": list(facts.notes),
    }
