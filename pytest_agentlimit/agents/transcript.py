"""What happened in a run of the tool loop, and expectations about it."""

from __future__ import annotations

from typing import Literal

from pytest_agentlimit.chat.messages import ChatReply, Frozen, ToolCall, ToolResult
from pytest_agentlimit.errors import Blame, ExpectationFailed
from pytest_agentlimit.text import one_line

StoppedBecause = Literal["answered", "empty", "refused", "max_steps", "leaked_call", "truncated"]
"""`answered`: text and no more calls. `empty`: neither. `leaked_call`: a call written as text,
which is never run. `truncated`: the reply was cut short, so its calls are not run either."""

_WHY: dict[Blame, str] = {
    "engine": "the model wrote a tool call as text and the server did not parse it",
    "config": "the reply was cut short; raise max_tokens or the context of the server",
    "model": "the model chose so",
}


class Step(Frozen):
    """One reply, and the results of its calls in their order."""

    reply: ChatReply
    results: tuple[ToolResult, ...] = ()


class Transcript(Frozen):
    """A run from the goal to its end."""

    steps: tuple[Step, ...]
    stopped_because: StoppedBecause

    @property
    def final_text(self) -> str:
        """The text of the last reply."""
        return self.steps[-1].reply.text

    @property
    def calls(self) -> tuple[ToolCall, ...]:
        """Every structured call in order, whether it could be run or not."""
        return tuple(call for step in self.steps for call in step.reply.tool_calls)

    @property
    def curl(self) -> str:
        """A command that repeats the last request."""
        return self.steps[-1].reply.curl

    @property
    def blame(self) -> Blame:
        """Who has to act if this run is not what it should be."""
        if self.stopped_because == "leaked_call":
            return "engine"
        return "config" if self.stopped_because == "truncated" else "model"

    def expect_call(self, name: str) -> ToolCall:
        """Return the first call of `name` whose arguments parse, or raise ExpectationFailed."""
        for call in self.calls:
            if call.name == name and not call.parse_error:
                return call
        made = "\n".join(
            f"  {one_line(call.name, 80)} {one_line(call.raw_arguments)}"
            for call in self.calls[:20]
        )
        last = self.steps[-1].reply
        lines = [
            f"expected a call of {name} in the run",
            f"calls made:\n{made}" if made else "no call was made",
            f"the run stopped after {len(self.steps)} steps: {self.stopped_because}",
            f"last text: {one_line(last.text, 400)!r}",
            f"blame: {self.blame} ({_WHY[self.blame]})",
            f"stop reason {last.stop_reason}, tokens in {last.usage.input_tokens}, "
            f"out {last.usage.output_tokens}",
        ]
        if self.curl:
            lines.append(f"repeat the last request:\n{self.curl}")
        raise ExpectationFailed("\n".join(lines), blame=self.blame)


def why_stopped(reply: ChatReply) -> StoppedBecause | None:
    """Return why a run ends with this reply, or None when it has calls to run."""
    if reply.truncated:
        return "truncated"
    if reply.tool_calls:
        return None
    if reply.leaked_calls:
        return "leaked_call"
    if reply.stop_reason == "refusal":
        return "refused"
    return "answered" if reply.text.strip() else "empty"
