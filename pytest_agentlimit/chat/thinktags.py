"""Reasoning that a server left in the text as `<think>…</think>`."""

from __future__ import annotations

from pytest_agentlimit.chat.intake import Intake

_OPEN, _CLOSE = "<think>", "</think>"
_LONGEST_WAIT = 64
"""Characters of leading white space after which no tag is expected any more."""


class ThinkTags:
    """Splits the text of a reply into reasoning and answer when it begins with `<think>`.

    A tag that is never closed makes all that follows reasoning. White space between the closing
    tag and the answer is dropped. Text held back while a tag may still come is given by `flush`.
    """

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self._state = "start"
        self._held = ""

    def feed(self, text: str) -> None:
        """Pass `text` on to the intake, as text or as thinking."""
        if self._state == "text":
            self._intake.text(text)
        elif text:
            self._held += text
            self._advance()

    def flush(self) -> None:
        """Pass on what was held back."""
        held, self._held = self._held, ""
        if self._state == "thinking":
            self._intake.thinking(held)
        elif self._state == "start":
            self._intake.text(held)

    def plain(self) -> None:
        """From now on text is text: the server has a field for reasoning."""
        if self._state == "start":
            self.flush()
            self._state = "text"

    def _advance(self) -> None:
        if self._state == "start":
            self._start()
        if self._state == "thinking":
            self._think()
        if self._state == "gap":
            self._gap()

    def _start(self) -> None:
        head = self._held.lstrip()
        if head.startswith(_OPEN):
            self._intake.note("think_tags")
            self._state, self._held = "thinking", head[len(_OPEN) :]
        elif not _OPEN.startswith(head) or len(self._held) > _LONGEST_WAIT:
            self.plain()

    def _think(self) -> None:
        thought, tag, rest = self._held.partition(_CLOSE)
        if tag:
            self._intake.thinking(thought)
            self._state, self._held = "gap", rest
            return
        # Keep back what may be the beginning of the closing tag.
        keep = next(n for n in range(len(_CLOSE) - 1, -1, -1) if self._held.endswith(_CLOSE[:n]))
        safe = len(self._held) - keep
        self._intake.thinking(self._held[:safe])
        self._held = self._held[safe:]

    def _gap(self) -> None:
        self._held = self._held.lstrip()
        if self._held:
            self._state = "text"
            held, self._held = self._held, ""
            self._intake.text(held)
