"""Bytes of a stream to frames: server-sent events and newline-delimited JSON.

Any split of the same bytes gives the same frames and findings in the same order.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Protocol

from pytest_agentlimit.chat.findings import found
from pytest_agentlimit.chat.messages import Finding

MAX_FRAME = 4 * 1024 * 1024
"""Bytes of one frame; a larger one is dropped and recorded, so memory stays bounded."""

_LINE_END = re.compile(rb"\r\n|\r|\n")
_BOM = b"\xef\xbb\xbf"
_CRLF = found("crlf")
_COMMENT = found("sse_comment")
_FIELDS = frozenset({"data", "event", "id", "retry"})


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame. `complete` is False when the stream ended before the frame did."""

    data: str
    event: str | None = None
    complete: bool = True


class Framer(Protocol):
    """Cuts one stream into frames; findings stand between them, repeats included."""

    def feed(self, chunk: bytes) -> list[Frame | Finding]:
        """Return what `chunk` completes."""
        ...

    def close(self) -> list[Frame | Finding]:
        """Return what was left without an end."""
        ...


class _Lines:
    """Cuts bytes into lines at LF, CRLF and lone CR; a line over the limit is dropped."""

    def __init__(self) -> None:
        self._pending = bytearray()
        self._dropping = False
        self._after_cr = False
        self._first = True

    def feed(self, chunk: bytes) -> list[str | Finding]:
        # A CR at the end of a chunk already ended its line; an LF that follows belongs to it.
        if self._after_cr and chunk:
            self._after_cr = False
            if chunk.startswith(b"\n"):
                chunk = chunk[1:]
        out: list[str | Finding] = []
        start = 0
        for end in _LINE_END.finditer(chunk):
            self._keep(chunk[start : end.start()])
            start = end.end()
            if end.group() != b"\n":
                out.append(_CRLF)
                self._after_cr = start == len(chunk) and end.group() == b"\r"
            out.extend(self._line())
        self._keep(chunk[start:])
        return out

    def close(self) -> list[str | Finding]:
        return self._line() if self._pending or self._dropping else []

    def _keep(self, part: bytes) -> None:
        if self._dropping or len(self._pending) + len(part) > MAX_FRAME:
            self._dropping = True
            self._pending.clear()
        else:
            self._pending += part

    def _line(self) -> list[str | Finding]:
        line = bytes(self._pending)
        self._pending.clear()
        if self._first:
            self._first = False
            line = line.removeprefix(_BOM)
        if self._dropping:
            self._dropping = False
            return [found("frame_too_large")]
        try:
            return [line.decode("utf-8")]
        except UnicodeDecodeError:
            return [found("invalid_utf8"), line.decode("utf-8", "replace")]


class NDJSONFramer:
    """Newline-delimited JSON: every line that is not blank is a frame."""

    def __init__(self) -> None:
        self._lines = _Lines()

    def feed(self, chunk: bytes) -> list[Frame | Finding]:
        """Return what `chunk` completes."""
        return self._frames(self._lines.feed(chunk), complete=True)

    def close(self) -> list[Frame | Finding]:
        """Return the last line when it had no end."""
        return self._frames(self._lines.close(), complete=False)

    @staticmethod
    def _frames(lines: list[str | Finding], *, complete: bool) -> list[Frame | Finding]:
        return [
            line if isinstance(line, Finding) else Frame(data=line, complete=complete)
            for line in lines
            if isinstance(line, Finding) or line.strip()
        ]


class SSEFramer:
    """Server-sent events: `data:` lines joined until a blank line, with their `event:` name."""

    def __init__(self) -> None:
        self._lines = _Lines()
        self._data: list[str] = []
        self._size = 0
        self._event: str | None = None

    def feed(self, chunk: bytes) -> list[Frame | Finding]:
        """Return what `chunk` completes."""
        out: list[Frame | Finding] = []
        for line in self._lines.feed(chunk):
            out.extend(self._take(line))
        return out

    def close(self) -> list[Frame | Finding]:
        """Return the last frame when no blank line ended it, marked incomplete."""
        out: list[Frame | Finding] = []
        for line in self._lines.close():
            out.extend(self._take(line))
        return out + self._dispatch(complete=False)

    def _take(self, line: str | Finding) -> list[Frame | Finding]:
        if isinstance(line, Finding):
            return [line]
        if not line:
            return self._dispatch(complete=True)
        if line.startswith(":"):
            return [_COMMENT]
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name not in _FIELDS:
            return [found("bad_frame", f"a line that is no field of an event stream: {line[:80]}")]
        if name == "event":
            self._event = value
        elif name == "data":
            return self._keep(value)
        return []

    def _keep(self, value: str) -> list[Frame | Finding]:
        self._size += len(value) + 1
        if self._size <= MAX_FRAME:
            self._data.append(value)
            return []
        self._data.clear()
        return [found("frame_too_large")]

    def _dispatch(self, *, complete: bool) -> list[Frame | Finding]:
        data, event = self._data, self._event
        kept = bool(data) and self._size <= MAX_FRAME
        self._data, self._event, self._size = [], None, 0
        return [Frame(data="\n".join(data), event=event, complete=complete)] if kept else []
