"""What a probe finds, and the runner that climbs the ladder of probes (PROTOCOLS R20).

A fault is only what can be seen on the wire and cannot be the model's doing: a model that answers
badly makes a probe `unknown`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from pytest_agentlimit.chat.messages import ChatReply, ChatRequest, Frozen
from pytest_agentlimit.endpoints.probing.wire import OutOfBudget, Wire
from pytest_agentlimit.endpoints.spec import EndpointSpec
from pytest_agentlimit.errors import Blame, DeadlineExceeded, EndpointError, UsageProblem
from pytest_agentlimit.text import one_line

Verdict = Literal["ok", "fault", "unknown", "skipped"]

TEXT_TOKENS = 48
"""max_tokens of a short answer in plain text."""
_SEED = 7
_SLOW_FACTOR = 8
"""How much longer than the first reply explains a reply may take before it is called a hang."""


class Fix(Frozen):
    """The next step: a sentence, and the exact config line or server flag when there is one."""

    sentence: str
    line: str | None = None


class Found(Frozen):
    """What one probe says; `code` is the stable short name of a fault."""

    verdict: Verdict
    message: str
    code: str | None = None
    blame: Blame | None = None
    fix: Fix | None = None


class ProbeResult(Found):
    """What the step `name` of the ladder found, and the seconds it took."""

    name: str
    seconds: float = 0.0


class Diagnosis(Frozen):
    """All results in the order of the ladder, the requests sent, and the facts they established.

    A fact that was not established is None.
    """

    results: tuple[ProbeResult, ...]
    requests: int
    seconds: float
    facts: dict[str, Any]

    @property
    def faults(self) -> tuple[ProbeResult, ...]:
        """The results that are faults."""
        return tuple(result for result in self.results if result.verdict == "fault")

    @property
    def reachable(self) -> bool:
        """False when nothing answered at all."""
        return not any(
            result.name == "connect" and result.code != "config" for result in self.faults
        )

    def result(self, name: str) -> ProbeResult:
        """Return what the step `name` found; KeyError for a step that is not in the ladder."""
        found = {result.name: result for result in self.results}
        return found[name]


def ok(message: str) -> Found:
    """Return that all is well."""
    return Found(verdict="ok", message=message)


def unknown(message: str, fix: Fix | None = None) -> Found:
    """Return that the wire shows no fault, and that the probe could not prove its point."""
    return Found(verdict="unknown", message=message, fix=fix)


def skipped(message: str) -> Found:
    """Return that the probe makes no sense here."""
    return Found(verdict="skipped", message=message)


def fault(code: str, message: str, *, blame: Blame = "engine", fix: Fix | None = None) -> Found:
    """Return a fault that was seen on the wire."""
    return Found(verdict="fault", message=message, code=code, blame=blame, fix=fix)


@dataclass
class Bench:
    """What the probes of one diagnosis share: the wire, the replies so far, the facts."""

    spec: EndpointSpec
    wire: Wire
    facts: dict[str, Any]
    replies: dict[str, ChatReply] = field(default_factory=dict)
    models: Any = None
    """The model list, None when the server has none."""
    listing_error: EndpointError | None = None

    def request(self, *, max_tokens: int, **fields: Any) -> ChatRequest:
        """Return a request that asks for the same thing every time; `fields` of ChatRequest."""
        plain = {"model": self.spec.model, "seed": _SEED, "temperature": self.temperature}
        return ChatRequest(**{**plain, "max_tokens": self.tokens(max_tokens), **fields})

    @property
    def temperature(self) -> float:
        """What the user configured, else 0."""
        return 0.0 if self.spec.temperature is None else self.spec.temperature

    def tokens(self, wanted: int) -> int:
        """Return `wanted`, or all that runs allow when the model thinks before it answers."""
        return max(wanted, self.room) if self.facts["reasoning"] else wanted

    @property
    def room(self) -> int:
        """The max_tokens of a run."""
        return self.spec.max_tokens or 1024

    def ask(self, key: str, request: ChatRequest, seconds: float | None = None) -> ChatReply:
        """Return the reply to `request`, which is kept as `key`, its findings noted."""
        reply = self.wire.send(request, seconds or self.patience_s(request))
        self.replies[key] = reply
        seen = {*self.facts["findings"], *(finding.code for finding in reply.findings)}
        self.facts["findings"] = sorted(seen)
        return reply

    def patience_s(self, request: ChatRequest) -> float:
        """Return how long `request` may take; a whole reply of a slow server looks like a hang."""
        known = self.replies.get("text")
        if known is None:
            return self.wire.budget.call_s
        share = (request.max_tokens or self.room) / TEXT_TOKENS
        return max(self.wire.budget.call_s, known.timing.total_s * share * _SLOW_FACTOR)


@dataclass(frozen=True)
class Step:
    """One rung: its probe, whether the quick form has it, and the steps it cannot do without."""

    name: str
    probe: Callable[[Bench], Found]
    after: tuple[str, ...] = ()
    quick: bool = True


def climb(
    steps: Iterable[Step], bench: Bench, explain: Callable[[Bench, EndpointError], Found]
) -> list[ProbeResult]:
    """Return the result of every step; nothing that a server does raises.

    A step is skipped when one it needs found a fault or came to no end, and when the server has
    stopped answering.
    """
    results: list[ProbeResult] = []
    broken: set[str] = set()
    silent = ""
    for step in steps:
        begun = bench.wire.seconds
        missing = next((name for name in step.after if name in broken), None)
        if silent:
            found, end = skipped(f"not asked: the server stopped answering ({silent})"), _BROKEN
        elif missing:
            found, end = skipped(f"not asked: needs {missing}"), _BROKEN
        else:
            found, end = _probed(step, bench, explain)
        if end != _DONE:
            broken.add(step.name)
        silent = step.name if end == _SILENT else silent
        results.append(_result(step, found, bench.wire.seconds - begun))
    return results


def _result(step: Step, found: Found, seconds: float) -> ProbeResult:
    shown = {"message": one_line(found.message, 400), "seconds": round(seconds, 3)}
    return ProbeResult(**{**dict(found), **shown, "name": step.name})


def _probed(
    step: Step, bench: Bench, explain: Callable[[Bench, EndpointError], Found]
) -> tuple[Found, str]:
    """Return what a step found, and whether later steps can build on it."""
    try:
        found = step.probe(bench)
    except OutOfBudget as limit:
        return skipped(f"not asked: {limit}"), _BROKEN
    except UsageProblem as problem:
        return fault("config", str(problem), blame="config"), _BROKEN
    except EndpointError as error:
        late = isinstance(error, DeadlineExceeded)
        if late and bench.wire.hurried:
            return skipped("no answer in the time that was left"), _BROKEN
        hangs = late and error.kind != "slow"
        return explain(bench, error), _SILENT if hangs else _BROKEN
    if found.code in SILENCES:
        return found, _SILENT
    return found, _BROKEN if found.verdict == "fault" else _DONE


_DONE, _BROKEN, _SILENT = "done", "broken", "silent"
SILENCES = frozenset({"concurrency_hang", "hangs_on_long"})
"""Faults after which a server may still be busy with what it never answered."""
