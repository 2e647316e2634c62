"""Three sources compared: what the process says, what the wire shows, what the workspace holds.

An exit code of 0 and a cheerful last sentence prove nothing (PROTOCOLS finding 1): the first rule
that holds decides, and everything else that does not fit together is told beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from pytest_agentlimit.agents.transcript import why_stopped
from pytest_agentlimit.bridge.capture import Seen
from pytest_agentlimit.errors import AgentLimitError, Blame, EndpointError
from pytest_agentlimit.text import one_line

from .result import Changes, HarnessFailure, HarnessOutcome, HarnessTimeout, Process, Wire
from .wire import Asked, Talk, given_reply

_WORDS = 300


class Verdict(NamedTuple):
    """How a run is judged; `failure` is behind `infra` and `timeout`."""

    outcome: HarnessOutcome
    blame: Blame | None
    problems: tuple[str, ...]
    failure: EndpointError | None = None


class Evidence(NamedTuple):
    """The three sources. `over`: when the program ended, or was ended, on the bridge's clock."""

    process: Process
    talk: Talk
    wire: Wire
    changes: Changes
    over: float
    context_window: int | None
    complete: bool
    """Whether all files of the workspace were compared."""


class _Found(NamedTuple):
    outcome: HarnessOutcome
    blame: Blame
    said: str
    failure: EndpointError | None = None


def judge(seen: Evidence) -> Verdict:
    """Return the verdict: the first rule that holds, and every other disagreement."""
    found = next((found for rule in _RULES if (found := rule(seen))), None)
    told = _told(seen, finished=found is None)
    if found is None:
        return Verdict("finished", None, told)
    return Verdict(found.outcome, found.blame, (found.said, *told), found.failure)


def _silent(seen: Evidence) -> _Found | None:
    """No request reached the endpoint: the program, or how it is started, is at fault."""
    if seen.talk.asked:
        return None
    refused = [one.record.error.message for one in seen.talk.seen if one.record.error is not None]
    if refused:
        what = f"of {_some(len(refused))} none could be passed on: {_line(refused[-1])}"
    else:
        what = "it asked the model nothing"
    said = f"{what} ({_ended(seen)}). It wrote last: {_last_words(seen.process)}"
    failure = HarnessFailure(said, kind="harness_silent", blame="config", hint=_TRY)
    return _Found("infra", "config", said, failure)


def _upstream_failed(seen: Evidence) -> _Found | None:
    """The last request of the work failed: what failed is the endpoint, and nothing else."""
    last = _last(seen)
    failure = None if last is None else last.seen.failure
    if failure is None:
        return None
    error = endpoint_error(failure)
    said = f"its last request was not answered: {_line(str(failure))}"
    return _Found(error.outcome, error.blame, said, error)


def _out_of_time(seen: Evidence) -> _Found | None:
    if not seen.process.timed_out:
        return None
    waiting = any(under_way(one.seen, seen.over) for one in seen.talk.asked)
    blame: Blame = "engine" if waiting else "config"
    what = "while a request was under way" if waiting else "while no request was under way"
    said = f"it was stopped after {seen.process.duration_s:.1f} s, {what}"
    failure = HarnessTimeout(
        said,
        kind="harness_timeout",
        blame=blame,
        hint="Raise its time limit (timeout_s), or use a faster model",
    )
    return _Found("timeout", blame, said, failure)


def _round_in_circles(seen: Evidence) -> _Found | None:
    if not seen.wire.turn_limit:
        return None
    turns = f"{_some(seen.wire.turns, 'turn')} and {_some(len(seen.wire.calls), 'tool call')}"
    return _Found("failed", "model", f"it came to no end: {turns}, then the turn limit")


def _bad_end(seen: Evidence) -> _Found | None:
    """The last reply of the work is none that ends a task, whatever the process says."""
    last = _last(seen)
    if last is None:
        return None
    reply = last.reply
    if reply is None:
        return _gave_up(seen, last.seen) if _given_up(last, seen.over) else _unusable(last.seen)
    stopped = why_stopped(reply)
    if stopped == "leaked_call":
        call = reply.leaked_calls[0]
        wrote = f"{_line(call.name, 60)} {_line(call.raw_arguments, 120)}"
        said = (
            f"{_claims(seen.process)}, and the call it ends with was never run: the model wrote "
            f"{wrote} as text and the server did not parse it"
        )
        return _Found("failed", "engine", said)
    if stopped == "truncated":
        said = f"the last reply was cut short ({reply.stop_reason}); raise max_tokens or context"
        return _Found("failed", "config", said)
    if stopped == "empty":
        return _Found("failed", "model", "the last reply was empty: no text and no tool call")
    return None


def _gave_up(seen: Evidence, last: Seen) -> _Found:
    """The program ended, or went on, without the reply to its last request."""
    said = (
        f"it did not wait for its last reply, and left after {last.ended - last.started:.1f} s "
        f"({_ended(seen)}). It wrote last: {_last_words(seen.process)}"
    )
    hint = "Give the program more patience with the model, or use a faster one"
    failure = HarnessFailure(said, kind="harness_crash", blame="config", hint=hint)
    return _Found("infra", "config", said, failure)


def _unusable(seen: Seen) -> _Found | None:
    if seen.record.error is None:
        return None
    received = seen.record.received
    broken = received is not None and any(call.parse_error for call in received.tool_calls)
    said = f"the last reply could not be passed on: {_line(seen.record.error.message)}"
    return _Found("failed", "model" if broken else "engine", said)


def _crashed(seen: Evidence) -> _Found | None:
    """The model did its part, and the program ends in an error: its own fault."""
    process = seen.process
    if not process.exit_code and not process.says_failed:
        return None
    says = "and says that it failed" if process.says_failed else "with an error"
    said = f"it ended {says} ({_ended(seen)}). It wrote last: {_last_words(process)}"
    failure = HarnessFailure(said, kind="harness_crash", blame="config", hint=_TRY)
    return _Found("infra", "config", said, failure)


_RULES: tuple[Callable[[Evidence], _Found | None], ...] = (
    *(_silent, _upstream_failed, _round_in_circles, _out_of_time, _bad_end, _crashed),
)
_TRY = "Run it by hand, and compare with how its spec starts it"


def _told(seen: Evidence, *, finished: bool) -> tuple[str, ...]:
    """Return what else does not fit together, worst first."""
    wire, window = seen.wire, seen.context_window
    last = _last(seen)
    ends_leaked = last is not None and last.reply is not None and bool(last.reply.leaked_calls)
    idle = bool(seen.talk.asked) and not wire.calls and not seen.changes
    largest = wire.largest_prompt or 0
    left = sum(_given_up(one, seen.over) for one in seen.talk.asked)
    facts = (
        (wire.leaked_calls and not ends_leaked, f"{_some(wire.leaked_calls, 'call')} came as text"),
        (idle and finished, f"{_claims(seen.process)}, yet it called no tool and changed no file"),
        (idle and not finished, "it called no tool and changed no file"),
        (wire.failed, f"{wire.failed} of {_some(wire.requests)} failed"),
        (wire.retries, f"{_some(wire.retries)} asked the same again, unseen in its result"),
        (left, f"{_some(left)} given up by the program before the reply was whole"),
        (window and largest > window, f"a prompt of {largest} tokens passed the {window} declared"),
        (wire.background, f"{_some(wire.background)} beside the work"),
        (not seen.complete, "the workspace has too many files: only the first were compared"),
    )
    return tuple(said for holds, said in facts if holds)


def under_way(seen: Seen, over: float) -> bool:
    """Return whether a request had no whole reply yet at the moment `over`."""
    return seen.failure is None and seen.ended >= over and given_reply(seen) is None


def endpoint_error(failure: AgentLimitError) -> EndpointError:
    """Return what an upstream call failed of as an error of a call."""
    if isinstance(failure, EndpointError):
        return failure
    return EndpointError(str(failure), kind="not_sent", blame="config")


def _last(seen: Evidence) -> Asked | None:
    """Return the request that the work ended with; what was given up after its end is none."""
    work = seen.talk.work
    while len(work) > 1 and _given_up(work[-1], seen.over):
        before = work[-2].reply
        if before is None or before.tool_calls:
            break
        work = work[:-1]
    return work[-1] if work else None


def _given_up(one: Asked, over: float) -> bool:
    """Return whether the program went away before it had the reply."""
    left = one.seen.record.client_left or under_way(one.seen, over)
    return one.reply is None and one.seen.failure is None and left


def _some(count: int, what: str = "request") -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _claims(process: Process) -> str:
    """Return what the process wants to be believed."""
    said = {True: ", it says it failed", False: ", it says all went well", None: ""}
    return _code(process) + said[process.says_failed]


def _ended(seen: Evidence) -> str:
    return f"{_code(seen.process)} after {seen.process.duration_s:.1f} s"


def _code(process: Process) -> str:
    return "out of time" if process.timed_out else f"exit code {process.exit_code}"


def _last_words(process: Process) -> str:
    """Return the end of what the program wrote, of stderr when there is any."""
    text = process.stderr.strip() or process.stdout.strip()
    return _line(text[-_WORDS:]) if text else "nothing"


def _line(text: str, limit: int = _WORDS) -> str:
    return one_line(text, limit)
