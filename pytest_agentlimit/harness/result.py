"""What an agent program did: its process, its talk with the model, its traces in the workspace."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field

from pytest_agentlimit.agents.transcript import Transcript
from pytest_agentlimit.chat.messages import Frozen, ToolCall
from pytest_agentlimit.errors import Blame, DeadlineExceeded, EndpointError, ExpectationFailed

HarnessOutcome = Literal["finished", "failed", "infra", "timeout"]
"""`failed` is the model's or the engine's doing; `infra` and `timeout` say nothing about the
model, as for a failed call."""


class HarnessFailure(EndpointError):
    """The program itself failed: kinds `harness_silent` (it asked the model nothing) and
    `harness_crash`.
    """


class HarnessTimeout(DeadlineExceeded):
    """The program ran out of time: kind `harness_timeout`."""


class Process(Frozen):
    """The program, seen from outside; its texts are bounded and printable."""

    exit_code: int | None
    """None after a time-out; 128 + n when signal n ended it."""
    timed_out: bool
    duration_s: float
    stdout: str
    stderr: str
    final_text: str
    """What it says at the end, read as its spec says."""
    says_failed: bool | None
    """Whether it says itself that it failed; None: it does not say."""


class Wire(Frozen):
    """Its talk with the model, as the bridge saw it."""

    requests: int
    """Conversation requests, refused ones included."""
    turns: int
    """Requests of the work itself, without those that were refused or sent again."""
    background: int
    """Requests beside the work: titles, summaries, helpers."""
    retries: int
    """Requests of the work that asked the same as the one before."""
    failed: int
    """Requests that the endpoint did not answer."""
    calls: tuple[ToolCall, ...]
    """Every call a reply made, in order; mapped tools in our words."""
    leaked_calls: int
    """Calls the model wrote as text, which nobody runs."""
    input_tokens: int | None
    output_tokens: int | None
    """Sums of what the endpoint counted; None: it counted nothing."""
    ttft_s: float | None
    """Median seconds to the first token of a streamed reply; None: not measured."""
    largest_request: int
    """Bytes."""
    largest_prompt: int | None
    """Tokens, as the endpoint counted them."""
    findings: tuple[str, ...]
    """Codes of what was odd about the replies."""
    turn_limit: bool
    """The work wanted more turns than it was allowed."""


class Changes(Frozen):
    """What became of the files in the workspace, by relative path, sorted."""

    made: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Return whether anything changed."""
        return bool(self.made or self.changed or self.removed)


class HarnessRun(Frozen):
    """One run of an agent program, judged from three sources (PROTOCOLS R25)."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    harness: str
    version: str | None
    goal: str
    process: Process
    wire: Wire
    changes: Changes
    transcript: Transcript
    """The work, one step a reply; mapped tools and arguments in our words."""
    outcome: HarnessOutcome
    blame: Blame | None
    problems: tuple[str, ...]
    """One line each, worst first: every disagreement between the three sources."""
    failure: EndpointError | None = Field(default=None, exclude=True, repr=False)
    """What is behind `infra` and `timeout`; it does not survive being stored."""

    def expect_finished(self) -> HarnessRun:
        """Return this run, or raise what a check needs of one that did not finish.

        ExpectationFailed for `failed`, the EndpointError behind it for `infra` and `timeout`.
        """
        self.expect_judgeable()
        if self.outcome == "failed":
            raise ExpectationFailed(self._said(), blame=self.blame or "model")
        return self

    def expect_judgeable(self) -> HarnessRun:
        """Return this run unless it says nothing about the model: then its EndpointError."""
        if self.outcome == "timeout":
            raise self.failure or HarnessTimeout(
                self._said(), kind="harness_timeout", blame=self.blame or "engine"
            )
        if self.outcome == "infra":
            raise self.failure or HarnessFailure(
                self._said(), kind="harness_crash", blame=self.blame or "config"
            )
        return self

    def _said(self) -> str:
        code = self.process.exit_code
        ended = "out of time" if code is None else f"exit code {code}"
        lines = [
            f"{self.harness} did not do its task: {self.problems[0]}",
            *(f"  {problem}" for problem in self.problems[1:8]),
            f"{ended} after {self.process.duration_s:.1f} s, turns: {self.wire.turns}, "
            f"tool calls: {len(self.wire.calls)}",
            f"blame: {self.blame}",
        ]
        return "\n".join(lines)
