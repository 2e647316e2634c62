from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from pytest_agentlimit.chat.messages import (
    Block,
    ChatReply,
    ChatRequest,
    TextBlock,
    ThinkingBlock,
    ToolCall,
)


class FakeSender:
    """Answers with `replies` in order, and keeps the requests."""

    def __init__(self, replies: Sequence[ChatReply | Exception]) -> None:
        self.replies = list(replies)
        self.requests: list[ChatRequest] = []

    def send(self, request: ChatRequest) -> ChatReply:
        self.requests.append(request)
        reply = self.replies[min(len(self.requests), len(self.replies)) - 1]
        if isinstance(reply, Exception):
            raise reply
        return reply


def said(text: str, **changes: Any) -> ChatReply:
    blocks = (TextBlock(text=text),) if text else ()
    return ChatReply(blocks=blocks, stop_reason="end_turn", curl="curl -sS …").model_copy(
        update=changes
    )


def thought(text: str) -> ChatReply:
    return ChatReply(blocks=(ThinkingBlock(text=text),), stop_reason="end_turn")


def call(name: str, call_id: str = "c1", raw: str | None = None, **arguments: Any) -> ToolCall:
    return ToolCall(
        id=call_id, name=name, raw_arguments=json.dumps(arguments) if raw is None else raw
    )


def called(*blocks: Block, **changes: Any) -> ChatReply:
    return ChatReply(blocks=blocks, stop_reason="tool_use").model_copy(update=changes)
