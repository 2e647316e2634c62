"""One trial, observed: every exchange of its calls, then one record with outcome and blame."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from pytest_agentlimit.errors import (
    AgentLimitError,
    Blame,
    DeadlineExceeded,
    EndpointError,
    ExpectationFailed,
    UsageProblem,
)

if TYPE_CHECKING:
    import pluggy

    from pytest_agentlimit.endpoints.inflight import Turnstile
    from pytest_agentlimit.endpoints.known_faults import KnownFault
    from pytest_agentlimit.endpoints.timing import Exchange
    from pytest_agentlimit.harness.result import HarnessRun
    from pytest_agentlimit.runs.records import (
        CallRecord,
        CheckPlan,
        HarnessUse,
        LadderRecord,
        Outcome,
        TrialRecord,
    )

MESSAGE_LIMIT = 4000
_MOST_PROBLEMS = 8
_SHARE_IN_LINE = 0.1
"""From this share of its time on, a trial that pytest-timeout ended had not enough of its own."""
PYTEST_TIMEOUT = "Timeout (>"
"""How the message of pytest-timeout begins."""


class Unsupported(pytest.skip.Exception):  # type: ignore[name-defined, misc]
    """Ends a trial that needs what a preflight proved the engine not to have.

    A skip of pytest's, so that no `except Exception` of a check takes it for a bad answer.
    """

    def __init__(self, fault: KnownFault, model: str) -> None:
        super().__init__(
            f"unsupported by {model}: {fault.message} (preflight: {fault.code}, blame: "
            f"{fault.blame}). Next: agentlimit doctor {model} --fix-hints; --agent-preflight=off "
            "asks all the same"
        )
        self.fault = fault


class Recorder:
    """Collects what one attempt at a trial did; a fresh one per attempt."""

    def __init__(self, plan: CheckPlan, nodeid: str, *, engine_has_tools: bool | None) -> None:
        self.plan = plan
        self.nodeid = nodeid
        self.engine_has_tools = engine_has_tools
        self.exchanges: list[Exchange] = []
        self.failure: BaseException | None = None
        self.failed_in = ""
        self.skipped = False
        self.not_tried = ""
        """Why the trial was given up before it asked anything."""
        self.unsupported: Unsupported | None = None
        """What ended the trial before it asked for something the engine cannot do."""
        self.earlier_calls: list[CallRecord] = []
        """Calls of a climb that an earlier part of the run began."""
        self.ladder: LadderRecord | None = None
        """The climb, if the check is one; it grows with every trial."""
        self.harness_runs: list[HarnessRun] = []
        """What agent programs did, if the trial went through one."""
        self.rewarmed_s: float | None = None
        """Seconds that the warm-up before this trial took, if there was one."""
        self.started = time.perf_counter()
        self._turnstile: Turnstile | None = None
        self._waited_before_s = 0.0

    def watch_line(self, turnstile: Turnstile | None) -> None:
        """Take where the calls of this trial stand in line."""
        self._turnstile = turnstile
        self._waited_before_s = turnstile.waited_s if turnstile else 0.0

    def observe(self, exchange: Exchange) -> None:
        """Take one exchange of the endpoint's client."""
        self.exchanges.append(exchange)

    def went_through(self, run: HarnessRun) -> None:
        """Take what an agent program did."""
        self.harness_runs.append(run)

    def phase(self, when: str, error: BaseException | None) -> None:
        """Take the end of a phase; the first failure counts, whatever subtests follow."""
        if error is None or when == "teardown" or self.failure is not None:
            return
        if isinstance(error, Unsupported):
            self.unsupported = error
        elif isinstance(error, pytest.skip.Exception):
            self.skipped = True
        else:
            self.failure = error
            self.failed_in = when

    def record(self, *, worker: str | None, attempt: int, hook: pluggy.HookRelay) -> TrialRecord:
        """Return the record of this attempt; `hook` redacts its message."""
        from pytest_agentlimit.measure.latency import waiting_time
        from pytest_agentlimit.runs.records import TrialRecord

        stood_in_line = self._stood_in_line()
        outcome, blame = ("infra", "config") if stood_in_line else self._judge()
        calls = (*self.earlier_calls, *self.calls())
        timed_out = (
            isinstance(self.failure, DeadlineExceeded)
            or (_is_pytest_timeout(self.failure) and not stood_in_line)
            or any(call.timed_out for call in calls)
        )
        waited = waiting_time([(call.start_ms, call.end_ms) for call in calls])
        return TrialRecord(
            plan=self.plan,
            nodeid=self.nodeid,
            outcome=outcome,
            blame=blame,
            message=self._message(hook, stood_in_line),
            duration_s=time.perf_counter() - self.started,
            calls=calls,
            latency_ms=waited if calls and not timed_out and not self.ladder else None,
            timed_out=timed_out and self.ladder is None,
            ladder=self.ladder,
            harness=_use(self.harness_runs),
            rewarmed_ms=_ms(self.rewarmed_s),
            worker=worker,
            attempt=attempt,
        )

    def calls(self, since: int = 0) -> tuple[CallRecord, ...]:
        """Return the calls made so far, from the exchange number `since` on."""
        return tuple(_call_record(exchange, self.started) for exchange in self.exchanges[since:])

    def _message(self, hook: pluggy.HookRelay, stood_in_line: float) -> str | None:
        if self.failure is None:
            return self.not_tried or (str(self.unsupported) if self.unsupported else None)
        said = describe(self.failure, hook)
        if not stood_in_line:
            return said
        return (
            f"{said} Of that, {stood_in_line:.1f} s were spent in line behind calls of other "
            "workers or sessions. Give pytest-timeout more room, or run fewer workers"
        )

    def _stood_in_line(self) -> float:
        """Return the seconds in line when those, and not the server, used up a test's time."""
        if self._turnstile is None or not _is_pytest_timeout(self.failure):
            return 0.0
        waited_s = self._turnstile.waited_s - self._waited_before_s
        spent_s = time.perf_counter() - self.started
        return waited_s if waited_s > _SHARE_IN_LINE * spent_s else 0.0

    def _judge(self) -> tuple[Outcome, Blame | None]:
        error = self.failure
        if self.not_tried:
            return "infra", "network"
        if self.unsupported is not None:
            return "unsupported", self.unsupported.fault.blame
        if error is None:
            return ("skipped", "test") if self.skipped else ("passed", None)
        if isinstance(error, EndpointError):
            return ("failed" if error.outcome == "timeout" else "infra"), error.blame
        if self.ladder is not None:
            return _of_climb(error, self.ladder)
        if isinstance(error, UsageProblem):
            # After a call that went through, it is the check that asks for the impossible.
            return ("inconclusive", "test") if self.exchanges else ("infra", "config")
        broken = next((e.error for e in self.exchanges if e.error is not None), None)
        if broken is not None:  # the test caught it, and failed because of it
            return ("failed" if broken.outcome == "timeout" else "infra"), broken.blame
        if self.failed_in == "setup":
            return "inconclusive", "test"  # a broken fixture says nothing about the model
        return "failed", self._blame(error)

    def _blame(self, error: BaseException) -> Blame:
        """Return who has to act on a failed trial whose every call was answered."""
        if _is_pytest_timeout(error):
            return "engine"
        from pytest_agentlimit.endpoints.known_faults import blame_in

        replies = [e.reply for e in self.exchanges if e.reply is not None]
        if not (isinstance(error, ExpectationFailed) and error.about_reply):
            if any(reply.leaked_calls for reply in replies):
                return "engine"
            if any(reply.truncated for reply in replies):
                return "config"
            known = blame_in(replies)
            if known is not None:
                return known.blame
        elif error.blame != "model":
            return error.blame
        if self.engine_has_tools is False and any(e.request.tools for e in self.exchanges):
            return "config"  # the chat template drops the tools: the model never saw them
        if isinstance(error, AssertionError | pytest.fail.Exception):
            return "model" if replies else "test"
        return "test"


def _of_climb(error: BaseException, ladder: LadderRecord) -> tuple[Outcome, Blame]:
    """Return what a failed climb is; failed calls on the way were its trials' business."""
    from pytest_agentlimit.runs.ladders import blame_of

    if isinstance(error, AssertionError | pytest.fail.Exception):
        return "failed", blame_of(ladder)
    return "inconclusive", "test"


def _use(runs: list[HarnessRun]) -> HarnessUse | None:
    """Return what agent programs did in a trial, summed up; None when none was started."""
    if not runs:
        return None
    from pytest_agentlimit.runs.records import HarnessUse

    problems = dict.fromkeys(problem for run in runs for problem in run.problems)
    return HarnessUse(
        runs=len(runs),
        requests=sum(run.wire.requests for run in runs),
        turns=sum(run.wire.turns for run in runs),
        background=sum(run.wire.background for run in runs),
        retries=sum(run.wire.retries for run in runs),
        largest_request=max(run.wire.largest_request for run in runs),
        seconds=sum(run.process.duration_s for run in runs),
        problems=tuple(problems)[:_MOST_PROBLEMS],
    )


def crash_record(plan: dict[str, Any], nodeid: str, message: str) -> dict[str, Any]:
    """Return the record of a trial whose worker died."""
    from pytest_agentlimit.runs.records import CheckPlan, TrialRecord
    from pytest_agentlimit.text import printable

    record = TrialRecord(
        plan=CheckPlan.model_validate(plan),
        nodeid=nodeid,
        outcome="crashed",
        blame="test",
        message=printable(f"the worker process died while this trial ran: {message}", 500),
    )
    return record.model_dump(mode="json")


def _is_pytest_timeout(error: BaseException | None) -> bool:
    """Return whether pytest-timeout ended the trial: a call it cut off never reports itself."""
    return isinstance(error, pytest.fail.Exception) and str(error).startswith(PYTEST_TIMEOUT)


def describe(error: BaseException, hook: pluggy.HookRelay) -> str:
    """Return what a failure says, redacted, printable and bounded; the type only where needed."""
    from pytest_agentlimit.text import printable

    text = str(error) or type(error).__name__
    if not isinstance(error, AgentLimitError | AssertionError | pytest.fail.Exception):
        text = f"{type(error).__name__}: {text}"
    # Redacted whole: a bounded text could end inside a secret, and hide it from the hook.
    return printable(redacted(text, hook), MESSAGE_LIMIT)


def redacted(text: str, hook: pluggy.HookRelay) -> str:
    """Return `text` after every `pytest_agentlimit_redact`, each given what the last one left.

    One that returns no text changes nothing. One that raises takes the whole text with it: a
    secret must not be stored because of a bug, and a run must not end because of one.
    """
    for found in reversed(hook.pytest_agentlimit_redact.get_hookimpls()):  # pluggy's own order
        try:
            changed = found.function(*[text] * len(found.argnames))
        except Exception as error:
            return f"[not kept: pytest_agentlimit_redact raised {type(error).__name__}]"
        text = changed if isinstance(changed, str) else text
    return text


def _call_record(exchange: Exchange, origin: float) -> CallRecord:
    from pytest_agentlimit.runs.records import CallRecord

    error, reply = exchange.error, exchange.reply
    return CallRecord(
        start_ms=(exchange.started - origin) * 1000,
        end_ms=(exchange.started + exchange.duration_s - origin) * 1000,
        attempts=exchange.attempts,
        waited_ms=exchange.waited_s * 1000,
        inflight_start=exchange.inflight_start,
        inflight_end=exchange.inflight_end,
        error_kind=None if error is None else error.kind,
        timed_out=isinstance(error, DeadlineExceeded),
        **({} if reply is None else dict(_reply_fields(reply))),
    )


def _reply_fields(reply: Any) -> Iterator[tuple[str, Any]]:
    clocks = ("connect", "first_byte", "ttft", "first_tool")
    yield from ((f"{name}_ms", _ms(getattr(reply.timing, f"{name}_s"))) for name in clocks)
    if reply.timing.server is not None:
        for name in ("load", "prompt", "predicted"):
            yield f"server_{name}_ms", _ms(getattr(reply.timing.server, f"{name}_s"))
    yield "verdict", reply.verdict
    yield "stop_reason", reply.stop_reason
    yield "usage", reply.usage
    yield "findings", reply.findings
    yield "output_digest", _digest(reply)


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1000


def _digest(reply: Any) -> str:
    """Return a hash of what the model said; call ids are the server's, so they are left out."""
    parts = [
        (block.type, block.name, block.raw_arguments)
        if block.type == "tool_call"
        else (block.type, getattr(block, "text", ""))
        for block in reply.blocks
    ]
    return hashlib.sha256(repr(parts).encode("utf-8", "replace")).hexdigest()
