"""A conversation as it is sent again: always legal on the wire, whatever the model did."""

from __future__ import annotations

from collections.abc import Iterable

from pytest_agentlimit.chat.messages import (
    Block,
    ChatReply,
    Message,
    TextBlock,
    ToolCall,
    ToolResult,
)

NOT_RUN = "not run"
NO_ANSWER = "(no answer)"


class History:
    """The messages so far. Every call has one result, every id is unique, no turn is empty."""

    def __init__(self) -> None:
        self._messages: list[Message] = []
        self._ids: set[str] = set()
        self._open: tuple[ToolCall, ...] = ()

    def copy(self) -> History:
        """Return a history that can go on without this one."""
        other = History()
        other._messages, other._ids = self._messages.copy(), self._ids.copy()
        other._open = self._open
        return other

    @property
    def messages(self) -> tuple[Message, ...]:
        """The messages, ready for a request."""
        return tuple(self._messages)

    def add_user(self, text: str) -> None:
        """Add what the user says; calls nobody answered get the result "not run"."""
        self.add_results(
            ToolResult(call_id=call.id, name=call.name, content=NOT_RUN) for call in self._open
        )
        self._messages.append(Message(role="user", blocks=(TextBlock(text=text),)))

    def add_reply(self, reply: ChatReply) -> tuple[ToolCall, ...]:
        """Add a reply and return its calls, with the ids their results have to name.

        Servers number calls anew in each reply, and some refuse an id they have seen before.
        Arguments that do not parse are sent back as none: templates that parse them would fail.
        A turn of thinking alone, or of nothing, gets a placeholder: many templates insist that
        user and assistant alternate.
        """
        blocks: list[Block] = []
        calls: list[ToolCall] = []
        for block in reply.blocks:
            if isinstance(block, ToolCall):
                calls.append(block.model_copy(update={"id": self._fresh(block.id)}))
                blocks.append(_replayable(calls[-1]))
            elif not isinstance(block, TextBlock) or block.text:
                blocks.append(block)
        if not any(isinstance(block, TextBlock | ToolCall) for block in blocks):
            blocks.append(TextBlock(text=NO_ANSWER))
        self._messages.append(Message(role="assistant", blocks=tuple(blocks)))
        self._open = tuple(calls)
        return self._open

    def add_results(self, results: Iterable[ToolResult]) -> None:
        """Add the results of the calls of the last reply, in one message."""
        blocks = tuple(results)
        if blocks:
            self._messages.append(Message(role="tool", blocks=blocks))
        self._open = ()

    def _fresh(self, wanted: str) -> str:
        number, candidate = len(self._ids), wanted
        while not candidate or candidate in self._ids:
            candidate = f"call_{number}"
            number += 1
        self._ids.add(candidate)
        return candidate


def _replayable(call: ToolCall) -> ToolCall:
    return call.model_copy(update={"raw_arguments": "{}"}) if call.parse_error else call
