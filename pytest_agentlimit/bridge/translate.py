"""One reply on its way down: the upstream's bytes in, the client's bytes out, event by event."""

from __future__ import annotations

from pytest_agentlimit.bridge.rules import Rules
from pytest_agentlimit.chat import jsontext
from pytest_agentlimit.chat.assemble import ReplyAssembler, reply_events
from pytest_agentlimit.chat.codecs import codec_for
from pytest_agentlimit.chat.messages import (
    ChatReply,
    ChatRequest,
    Dialect,
    StreamError,
    StreamEvent,
    StreamFinding,
    StreamStart,
    StreamUsage,
    WireError,
)
from pytest_agentlimit.endpoints.keys import Redactor
from pytest_agentlimit.endpoints.reading import ReplyReader
from pytest_agentlimit.endpoints.spec import EndpointSpec

_OPENING = (StreamStart, StreamUsage, StreamFinding)


class Translation:
    """Translates one reply, streamed or whole as the request asks, whatever the upstream does.

    `request` is the client's. `error` is set when the reply turns out to be none that a client
    may take for a good one; nothing but `failed` is to be sent after it. `begun` is True when more
    than the opening was passed on: text, a thought, a call or the end. `counted` is False for a
    client that asked for no token counts in its stream.
    """

    def __init__(
        self,
        spec: EndpointSpec,
        request: ChatRequest,
        client: Dialect,
        rules: Rules,
        content_type: str,
        *,
        counted: bool = True,
    ) -> None:
        self.rules = rules
        self.error: WireError | None = None
        self.begun = False
        self._read: list[StreamEvent] = []
        # An emulated call is text to the reader, and none that leaked.
        read_as = request.model_copy(update={"tools": ()}) if rules.emulation else request
        self._reader = ReplyReader(
            spec, read_as, content_type, Redactor(spec), self._take, keep_raw=False
        )
        self._streamed = False  # an answer in one piece yields no events while it is read
        self._dialect = client
        self._codec = codec_for(client)
        self._streams = request.stream
        self._encoder = self._codec.stream_encoder(request.model)
        self._counted = counted
        self._given = ReplyAssembler()
        self._all_given: ChatReply | None = None
        self._received: ChatReply | None = None
        self._model = request.model

    @property
    def content_type(self) -> str:
        """The type of what goes to the client."""
        return self._codec.CONTENT_TYPE if self._streams else "application/json"

    @property
    def complete(self) -> bool:
        """True when the reply's own end was read: `finish` is due, more bytes are not."""
        return self._reader.complete

    @property
    def given(self) -> ChatReply:
        """What the client was told, so far."""
        return self._all_given or self._given.reply()

    @property
    def received(self) -> ChatReply | None:
        """What the upstream said, with its findings; None when nothing could be decoded."""
        reply, emulation = self._received or self._reader.partial(), self.rules.emulation
        if reply is None:
            return None
        clocks = {"ttft_s": self._reader.ttft_s, "first_tool_s": self._reader.first_tool_s}
        reply = reply.model_copy(update={"timing": reply.timing.model_copy(update=clocks)})
        if emulation is None:
            return reply
        odd = tuple(one for one in self.given.findings if one not in reply.findings)
        # No server was asked to make out calls: one in another form is the model's own fault.
        return reply.model_copy(update={"findings": reply.findings + odd, "leaked_calls": ()})

    def feed(self, chunk: bytes, at_s: float) -> bytes:
        """Return what the client gets for a chunk that came `at_s` after the start.

        Raises an EndpointError for what is no reply; `passed_on` has what was good until then.
        """
        self._reader.feed(chunk, at_s)
        return self.passed_on()

    def finish(self) -> bytes:
        """Return the end of the reply, or the whole of it. EndpointError when there is no end."""
        self._received = self._reader.result()
        if not self._streamed:
            self._read.extend(reply_events(self._received))
        out = self.passed_on()
        if self.error is not None:
            return out
        if self._streams:
            return out + self._comments() + self._encoder.close()
        reply = self._all_given = self.given
        reply = reply if reply.model else reply.model_copy(update={"model": self._model})
        return jsontext.wire(self._codec.encode_reply(reply))

    def _take(self, event: StreamEvent) -> None:
        self._streamed = True
        self._read.append(event)

    def ping(self) -> bytes:
        """Return what keeps a client waiting that gets nothing else: a call may take minutes."""
        if self._dialect == "anthropic":
            return b'event: ping\ndata: {"type":"ping"}\n\n'
        return b": ping\n\n"

    def failed(self, error: WireError) -> bytes:
        """Return the frame that ends a stream in an error."""
        return self._encoder.feed(StreamError(error=error))

    def passed_on(self) -> bytes:
        """Return the client's bytes for everything that was read and not passed on yet."""
        events = self._read.copy()
        self._read.clear()
        out = bytearray()
        for event in events:
            for ruled in self.rules.feed(event):
                if isinstance(ruled, StreamError):
                    self.error = ruled.error
                    return bytes(out)
                self.begun = self.begun or not isinstance(ruled, _OPENING)
                self._given.add(ruled)
                if self._streams and (self._counted or not isinstance(ruled, StreamUsage)):
                    out += self._encoder.feed(ruled)
        return bytes(out)

    def _comments(self) -> bytes:
        """Return the counts that a whole reply has in its headers, as comments of the stream."""
        return "".join(f": {name}: {n}\n\n" for name, n in self.rules.marks.items()).encode()
