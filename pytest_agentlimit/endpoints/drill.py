"""The fallback drill: the primary is made to fail, and the real fallbacks answer (PROTOCOLS R23).

In each row a server on this machine stands in for the primary and has one fault. What is measured
is what the policy of `endpoints/fallback.py` makes of it with the primary's own deadlines; another
program in front of the same models may do otherwise (PROTOCOLS, finding 9).
"""

from __future__ import annotations

import math
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal, NamedTuple

from pytest_agentlimit._loopback import LoopbackServer
from pytest_agentlimit._scripted import Scripted, played
from pytest_agentlimit.chat.messages import ChatReply, ChatRequest, Frozen, TextBlock, WireError
from pytest_agentlimit.endpoints.fallback import (
    NOT_ASKED,
    Attempt,
    Chain,
    ChainFailed,
)
from pytest_agentlimit.endpoints.probing.offers import WEATHER
from pytest_agentlimit.endpoints.probing.probe import Fix
from pytest_agentlimit.endpoints.probing.talk import user
from pytest_agentlimit.endpoints.spec import Deadlines, EndpointSpec
from pytest_agentlimit.errors import EndpointError, UsageProblem
from pytest_agentlimit.text import one_line

BUDGET_S = 60.0
FAULTS = ("refused", "error 500", "hang", "slow stream", "cut stream", "leaked call")
"""What happens to the primary, one row each."""

_CHARACTERS_PER_TOKEN = 4
_SLOW_GAP_S = 1.0
_CUT_AFTER = 6
_BEGINNING = "I will look up the weather in Oslo for you, one moment please. "
_LEAK = '<tool_call>{"name": "get_weather", "arguments": {"city": "Oslo"}}</tool_call>'
_OPENCLAW_HANGS = (
    "Do not count on this under OpenClaw: 2026.9.6 was seen to retry a hung primary until the run "
    "timed out, and never asked the fallback"
)


class Warm(Frozen):
    """The first call to a fallback, which may have to load its model; it is in no row."""

    name: str
    useful_s: float | None = None
    """Seconds until its first text or tool call; None: `problem` says why nothing came."""
    problem: str | None = None


class Row(Frozen):
    """What became of the work when the primary had one fault; every row is measured once."""

    fault: str
    switched: bool
    """Another model was asked."""
    noticed: str
    """What the chain called the primary's failure: the kind of its error."""
    served_by: str | None = None
    answer: Literal["call", "text"] | None = None
    """What the fallback answered to a question with a tool."""
    useful_s: float | None = None
    """Seconds from the start of the row to the fallback's first text or tool call.

    Where a server does not say when that came (a whole reply, a text after thoughts), the end.
    """
    total_s: float
    lost_attempts: int
    lost_s: float
    """Seconds spent on models that did not carry the work."""
    lost_tokens_estimate: int
    """Tokens they had sent, which were thrown away: four characters each."""
    carried: bool
    """A fallback's whole reply came within the budget."""
    problem: str | None = None
    fix: Fix | None = None


class Drill(Frozen):
    """A finished drill: the warm calls, the rows, and what they were measured against."""

    primary: str
    fallbacks: tuple[str, ...]
    budget_s: float
    """For each row, and for each warm call."""
    deadlines: Deadlines
    """Those of the primary, which decide when it is given up."""
    notes: tuple[str, ...] = ()
    warm: tuple[Warm, ...]
    rows: tuple[Row, ...]
    """Empty when no fallback answered its warm call."""

    @property
    def carried(self) -> bool:
        """True when every fault was tried, and the work was carried through each."""
        return len(self.rows) == len(FAULTS) and all(row.carried for row in self.rows)


def longest_s(fallbacks: int, budget_s: float) -> float:
    """Return the seconds that a drill takes at most, give or take the closing of connections."""
    return (fallbacks + len(FAULTS)) * budget_s


def run_drill(
    chain: Sequence[EndpointSpec],
    *,
    budget_s: float = BUDGET_S,
    tell: Callable[[Warm | Row], None] = lambda found: None,
) -> Drill:
    """Return how the fallbacks of `chain` carry the work of its first model through each fault.

    The first model itself is never asked; embedded fallbacks must have been started. `tell` is
    called with each result as it comes. No row and no warm call takes longer than `budget_s`
    seconds. Raises UsageProblem without a fallback, or for one that cannot be sent anything.
    """
    primary = chain[0]
    fallbacks, notes = others_of(chain)
    warm, rows = [], []
    for spec in fallbacks:
        warm.append(warmed(spec, budget_s))
        tell(warm[-1])
    if any(one.problem is None for one in warm):
        for fault in FAULTS:
            rows.append(_row(fault, primary, fallbacks, budget_s))
            tell(rows[-1])
    return Drill(
        primary=primary.name,
        fallbacks=tuple(spec.name for spec in fallbacks),
        budget_s=budget_s,
        deadlines=primary.deadlines,
        notes=notes,
        warm=tuple(warm),
        rows=tuple(rows),
    )


def others_of(chain: Sequence[EndpointSpec]) -> tuple[list[EndpointSpec], tuple[str, ...]]:
    """Return the fallbacks that are not the primary again, and what is odd about the chain.

    Raises UsageProblem when none is left.
    """
    primary, kept, notes = chain[0], [], []
    for spec in chain[1:]:
        name = one_line(spec.name, 80)
        same_server = spec.kind == "remote" and spec.base_url == primary.base_url
        if (same_server and spec.model == primary.model) or (
            spec.gguf is not None and spec.gguf == primary.gguf
        ):
            notes.append(f"{name} is left out: it is the primary again")
            continue
        kept.append(spec)
        if same_server:
            notes.append(f"{name} is on the primary's own server: when that is down, so is it")
    if not kept:
        why = "".join(f" ({note})" for note in notes)
        raise UsageProblem(
            f"no fallback: nothing would carry the work{why}. Next: name one with --fallback, or "
            "name an agent of an OpenClaw config (agent:ID, openclaw:primary) that has fallbacks"
        )
    return kept, tuple(notes)


def _question(nonce: str) -> ChatRequest:
    """Return a question that wants a tool call; `nonce` comes first, so that no cache knows it."""
    return ChatRequest(
        model="",
        system=f"[{nonce}] Use the tools you are given.",
        messages=(user("What is the weather in Oslo right now? Use the tool get_weather."),),
        tools=(WEATHER,),
    )


def warmed(spec: EndpointSpec, budget_s: float) -> Warm:
    """Return how the first call to a fallback went; it takes no more than `budget_s` seconds."""
    went = _sent([spec], _question("warm-up"), budget_s)
    if went.reply is None:
        return Warm(name=spec.name, problem=one_line(str(went.failed[0][1]), 400))
    return Warm(name=spec.name, useful_s=round(useful_s(went.reply), 3))


class _Outcome(NamedTuple):
    """How a request went through a chain: exactly one of `reply` and `failure` is set."""

    attempts: tuple[Attempt, ...]
    reply: ChatReply | None
    failure: ChainFailed | None
    total_s: float

    @property
    def failed(self) -> list[tuple[Attempt, EndpointError]]:
        """The members that were asked in vain, with what they failed of."""
        return [
            (one, one.error)
            for one in self.attempts
            if one.error is not None and one.error.kind not in NOT_ASKED
        ]


def _row(
    fault: str, primary: EndpointSpec, fallbacks: Sequence[EndpointSpec], budget_s: float
) -> Row:
    request = _question(fault)
    with stand_in(primary, fault) as broken:
        went = _sent([broken, *fallbacks], request, budget_s)
    reply, failed = went.reply, went.failed
    lost_s = sum(attempt.seconds for attempt, _ in failed)
    return Row(
        fault=fault,
        noticed=failed[0][1].kind,
        switched=reply is not None or len(failed) > 1,
        carried=reply is not None,
        served_by=went.attempts[-1].name if reply else None,
        answer=None if reply is None else "call" if reply.tool_calls else "text",
        useful_s=round(lost_s + useful_s(reply), 3) if reply else None,
        total_s=round(went.total_s, 3),
        lost_attempts=len(failed),
        lost_s=round(lost_s, 3),
        lost_tokens_estimate=sum(tokens_of(error.partial) for _, error in failed),
        problem=_problem(went, budget_s),
        fix=_fix(fault, primary, went, budget_s),
    )


def _sent(chain: Sequence[EndpointSpec], request: ChatRequest, budget_s: float) -> _Outcome:
    with Chain(chain) as members:
        began = time.monotonic()
        try:
            served = members.send(request, budget_s)
        except ChainFailed as failure:
            return _Outcome(failure.attempts, None, failure, time.monotonic() - began)
        return _Outcome(served.attempts, served.reply, None, time.monotonic() - began)


@contextmanager
def stand_in(primary: EndpointSpec, fault: str, *, leak: str = _LEAK) -> Iterator[EndpointSpec]:
    """Yield the primary with its place taken by a server that has `fault`; it never gets a key.

    The server streams. `leak` is the text of its leaked call, to a tool that must be offered.
    """
    if fault == "refused":
        # Bound and not listening: connections are refused, and nobody else can take the port.
        with socket.socket() as deaf:
            deaf.bind(("127.0.0.1", 0))
            yield _placed(primary, deaf.getsockname()[1])
        return
    scripted = _script(fault, primary.deadlines, leak)
    asked = ChatRequest(model=primary.model, messages=())
    server = LoopbackServer(lambda *_: played(scripted, asked, primary.dialect, primary.model))
    try:
        yield _placed(primary, server.port)
    finally:
        server.close()


def _placed(primary: EndpointSpec, port: int) -> EndpointSpec:
    path = "/v1" if primary.dialect == "openai" else ""
    place = {"kind": "remote", "gguf": None, "base_url": f"http://127.0.0.1:{port}{path}"}
    return primary.model_copy(update={**place, "api_key_env": None, "headers": {}})


def _script(fault: str, limits: Deadlines, leak: str) -> Scripted:
    """Return what the stand-in does; its pieces are of four characters, which count as a token."""
    gap_s = min(_SLOW_GAP_S, limits.first_byte_s / 3, limits.between_chunks_s / 3)
    error = WireError(status=500, kind="server_error", message="the drill's own error")
    return {
        "error 500": Scripted(error=error),
        "hang": Scripted(act="hang"),
        "slow stream": Scripted(act="flood", piece_chars=4, chunk_delay_s=gap_s),
        "cut stream": Scripted(
            blocks=(TextBlock(text=_BEGINNING),), piece_chars=4, cut_after=_CUT_AFTER
        ),
        "leaked call": Scripted(blocks=(TextBlock(text=leak),)),
    }[fault]


def useful_s(reply: ChatReply) -> float:
    """Return the seconds to the first text or tool call; where thoughts hide it, the end."""
    timing = reply.timing
    marks = [timing.first_tool_s, None if reply.thinking else timing.ttft_s]
    return min((mark for mark in marks if mark is not None), default=timing.total_s)


def tokens_of(partial: object) -> int:
    """Return about how many tokens a reply has that was given up; 0 when nothing had come."""
    if not isinstance(partial, ChatReply):
        return 0
    written = [partial.text, partial.thinking, *(c.raw_arguments for c in partial.tool_calls)]
    return math.ceil(sum(map(len, written)) / _CHARACTERS_PER_TOKEN)


def _problem(went: _Outcome, budget_s: float) -> str | None:
    """Return why nobody carried the work, None when somebody did."""
    if went.failure is None:
        return None
    if len(went.failed) == 1:
        return f"the primary was given up after all of the {budget_s:g} s, so nobody else was asked"
    hint = went.failure.hint
    return one_line(str(went.failure).removesuffix(f". {hint}" if hint else ""), 400)


def _fix(fault: str, primary: EndpointSpec, went: _Outcome, budget_s: float) -> Fix | None:
    """Return the next step of a row, None when there is nothing to do."""
    of_openclaw = primary.source.startswith("OpenClaw")
    parts, line = [], None
    if went.failure is not None and went.attempts[0].seconds > budget_s / 2:
        parts.append("Shorten the time-out of the primary, or allow a larger budget")
        limit = int(budget_s / 3)
        own = f"timeoutSeconds: {limit}" if of_openclaw else f'timeout = "{limit}s"'
        line = own if limit else None
    elif went.failure is not None and went.failure.hint:
        parts.append(went.failure.hint)
    if fault == "hang" and of_openclaw:
        parts.append(_OPENCLAW_HANGS)
    return Fix(sentence=". ".join(parts), line=line) if parts else None
