"""One warm-up per endpoint and run, so that no trial pays for a cold server (METHOD 4.4).

It costs one request of one token. Only a server that turns out to be cold is asked at further
lengths, each twice: some engines compile for every prompt length, and none of them says so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count

from pytest_agentlimit.chat.messages import COLD_LOAD_S, ChatReply, ChatRequest, Message, TextBlock
from pytest_agentlimit.endpoints.client import EndpointClient
from pytest_agentlimit.endpoints.preflight import owner
from pytest_agentlimit.endpoints.spec import Deadlines, EndpointSpec
from pytest_agentlimit.errors import AgentLimitError, DeadlineExceeded
from pytest_agentlimit.text import one_line

LENGTHS = (16, 32, 64, 128, 256)
"""Prompt lengths in words of about one token each; the chat template adds its own."""
LENGTH_S = 20.0
"""Seconds that a call of the ladder may take, and longer only where the first call took longer."""
BUDGET_S = 120.0
"""No further length is begun when the ladder has taken this long."""

_QUICK_S = 0.5
_TIMES = 3.0
"""A first call is cold when it takes so many times the second, and `_QUICK_S` more than it."""
_COMPILE_S = 0.1
"""In place of `_QUICK_S` at a length of the ladder: there, nothing is left to load."""
_RECORDED = "scripted"
_WORDS = ("red", "sun", "map", "oak", "ice", "jar", "fox", "key")
_turns = count()


@dataclass(frozen=True)
class Warmed:
    """The calls at one prompt length; both are None where `error` says why nothing came."""

    tokens: int
    first_s: float | None = None
    second_s: float | None = None
    """Of another prompt of that length, so that a prompt cache cannot look like a compiler."""
    error: str | None = None


@dataclass(frozen=True)
class WarmUp:
    """What a warm-up saw; its calls are in no latency, no score and no count of calls."""

    lengths: tuple[Warmed, ...]
    """In the order they were tried; the first failure is the last."""
    load_s: float | None = None
    """What the server said it spent on loading the model in the first call."""
    cold: bool | None = None
    """The first call paid for something that later ones do not; None: it or the second failed."""

    @property
    def cold_start_s(self) -> float | None:
        """Seconds of the very first call, cold or not; None when it failed."""
        return self.lengths[0].first_s

    @property
    def compiles_per_length(self) -> bool | None:
        """True when most lengths were slow once; None below two lengths called twice.

        The first length does not count: its first call paid for everything else as well.
        """
        pairs = [
            (length.first_s, length.second_s)
            for length in self.lengths[1:]
            if length.first_s is not None and length.second_s is not None
        ]
        slow = [first > max(_TIMES * second, second + _COMPILE_S) for first, second in pairs]
        return 2 * sum(slow) > len(slow) if len(slow) > 1 else None


def wants_warm_up(spec: EndpointSpec) -> bool:
    """Return whether there is a server that can be cold.

    Null models answer in this process; a server that plays a script or a recording says so in its
    model list (`"owned_by": "scripted"`), and a request that is not in the script would spoil it.
    """
    return spec.kind != "null" and owner(spec) != _RECORDED


def warm_up(
    spec: EndpointSpec,
    connect: Callable[[EndpointSpec], EndpointClient],
    lengths: Sequence[int] = LENGTHS,
) -> WarmUp:
    """Return what the first calls to an endpoint took; never raises for a server that fails.

    `connect` makes the clients. The first call has the deadlines of `spec`, since it may have to
    wait for a model to load, and some servers give up loading when the caller leaves.
    """
    try:
        with connect(spec) as client:
            reply = call_once(client, lengths[0])
    except AgentLimitError as error:
        return WarmUp((Warmed(lengths[0], error=_why(error, spec.deadlines)),))
    first_s, load_s = reply.timing.total_s, _load_s(reply)
    loaded = load_s is not None and load_s >= COLD_LOAD_S
    if first_s < _QUICK_S and not loaded:
        return WarmUp((Warmed(lengths[0], first_s),), load_s, cold=False)
    limits = _hurried(spec.deadlines, first_s)
    hurried = spec.model_copy(update={"deadlines": limits, "retries": 0})
    with connect(hurried) as client:
        base = _again(client, lengths[0], first_s, limits)
        slow = base.second_s is not None and first_s > max(
            _TIMES * base.second_s, base.second_s + _QUICK_S
        )
        cold = True if loaded or slow else None if base.error else False
        if not cold or base.error:
            return WarmUp((base,), load_s, cold)
        return WarmUp((base, *_ladder(client, lengths[1:], limits)), load_s, cold)


def call_once(client: EndpointClient, tokens: int = LENGTHS[0]) -> ChatReply:
    """Return the reply of one token to a prompt of about `tokens` tokens; raises as `send` does.

    Every prompt starts with other words, so that no prompt cache answers for the engine.
    """
    turn = next(_turns)
    start = [_WORDS[turn // len(_WORDS) ** place % len(_WORDS)] for place in range(4)]
    text = " ".join([*start, *["one"] * (tokens - len(start))])
    message = Message(role="user", blocks=(TextBlock(text=text),))
    # Streamed, as the calls of most checks are: the path that is warmed up is the one they take.
    return client.send(ChatRequest(model="", messages=(message,), max_tokens=1, stream=True))


def _ladder(client: EndpointClient, lengths: Sequence[int], limits: Deadlines) -> list[Warmed]:
    """Return the calls at each length, up to the first that fails or the end of the budget."""
    found: list[Warmed] = []
    spent_s = 0.0
    for tokens in lengths:
        if spent_s > BUDGET_S:
            why = f"not tried: the warm-up had used up its {BUDGET_S:g} s"
            return [*found, Warmed(tokens, error=why)]
        try:
            first_s = call_once(client, tokens).timing.total_s
        except AgentLimitError as error:
            return [*found, Warmed(tokens, error=_why(error, limits))]
        found.append(_again(client, tokens, first_s, limits))
        spent_s += first_s + (found[-1].second_s or 0.0)
        if found[-1].error:
            break
    return found


def _again(client: EndpointClient, tokens: int, first_s: float, limits: Deadlines) -> Warmed:
    try:
        return Warmed(tokens, first_s, call_once(client, tokens).timing.total_s)
    except AgentLimitError as error:
        return Warmed(tokens, first_s, error=f"the second time {_why(error, limits)}")


def _hurried(limits: Deadlines, first_s: float) -> Deadlines:
    most_s = min(limits.total_s, max(LENGTH_S, first_s))
    shorter = {name: min(value, most_s) for name, value in limits}
    return Deadlines(**shorter)


def _why(error: AgentLimitError, limits: Deadlines) -> str:
    if isinstance(error, DeadlineExceeded):
        waits = {"hung": limits.first_byte_s, "stalled": limits.between_chunks_s}
        return f"no answer within {waits.get(error.kind, limits.total_s):g} s"
    return one_line(str(error), 300)


def _load_s(reply: ChatReply) -> float | None:
    return None if reply.timing.server is None else reply.timing.server.load_s
