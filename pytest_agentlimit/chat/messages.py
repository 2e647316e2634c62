"""The neutral conversation: what every dialect is decoded to and encoded from.

Plain, frozen data with no I/O. A conversation is canonical when a leading system message is in
`ChatRequest.system`, and the results of one turn stand in one `tool` message.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from pytest_agentlimit.chat import jsontext
from pytest_agentlimit.errors import Blame, ExpectationFailed
from pytest_agentlimit.text import one_line

Dialect = Literal["openai", "anthropic", "ollama"]

StopReason = Literal[
    "end_turn",
    "tool_use",
    "max_tokens",
    "stop_sequence",
    "refusal",
    "context_overflow",
    "pause",
    "unknown",
]
"""Why a reply ended. `unknown`: the server did not say, which is a finding of its own."""


class Frozen(BaseModel):
    """Our own data: immutable, and a misspelt field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Arguments(dict[str, Any]):
    """The arguments of a tool call; a missing key is a failed expectation, not a crash of the test.

    `call.arguments["city"]` is how checks read an argument, and a model that left it out has
    failed the check: a bare KeyError would blame the test instead.
    """

    def __init__(self, values: dict[str, Any], problem: str) -> None:
        super().__init__(values)
        self._problem = problem

    def __missing__(self, key: str) -> Any:
        raise ExpectationFailed(f"the tool call has no argument {key!r}: {self._problem}")


class Tool(Frozen):
    """A tool offered to the model: `Tool(name, description, parameters)` takes a JSON schema.

    `function` runs it with the call's arguments as keywords and returns anything JSON can hold;
    a tool without one can be offered and judged, and not run.
    """

    name: str
    description: str = ""
    parameters: dict[str, Any] = Field(default_factory=dict)
    function: Callable[..., Any] | None = Field(default=None, exclude=True, repr=False)

    def __init__(
        self,
        name: str,
        description: str = "",
        parameters: dict[str, Any] | None = None,
        *,
        function: Callable[..., Any] | None = None,
    ) -> None:
        schema = {"type": "object", "properties": {}} if parameters is None else parameters
        fields = {"name": name, "description": description, "parameters": schema}
        super().__init__(**fields | {"function": function})

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the tool's own function returns."""
        if self.function is None:
            raise TypeError(f"tool {self.name!r} has no function to run; give it function=…")
        return self.function(*args, **kwargs)


class ToolChoice(Frozen):
    """What the request says about calling tools; `name` only with mode `tool`."""

    mode: Literal["auto", "none", "required", "tool"]
    name: str | None = None


class TextBlock(Frozen):
    """Visible text."""

    type: Literal["text"] = "text"
    text: str


class ThinkingBlock(Frozen):
    """Reasoning the server set apart from the answer."""

    type: Literal["thinking"] = "thinking"
    text: str
    signature: str | None = None


class ToolCall(Frozen):
    """One structured tool call; `raw_arguments` is the JSON text as the server sent it."""

    type: Literal["tool_call"] = "tool_call"
    id: str
    name: str
    raw_arguments: str = "{}"

    @property
    def arguments(self) -> Arguments:
        """The arguments as a dict; empty when they do not parse (see `parse_error`)."""
        values, error = _parse_arguments(self.raw_arguments)
        return Arguments(values, error or f"{self.name} was called with {self.raw_arguments[:300]}")

    @property
    def parse_error(self) -> str | None:
        """Why the arguments are not a JSON object, or None."""
        return _parse_arguments(self.raw_arguments)[1]


def _parse_arguments(raw: str) -> tuple[dict[str, Any], str | None]:
    if not raw.strip():
        return {}, None
    try:
        value, _ = jsontext.parse(raw, strict=True)
    except ValueError as error:
        return {}, f"arguments are not JSON ({type(error).__name__}: {error}): {raw[:200]!r}"
    if not isinstance(value, dict):
        return {}, f"arguments are {type(value).__name__}, not an object: {raw[:200]!r}"
    return value, None


class ToolResult(Frozen):
    """What a tool gave back; content is always text (arrays lose their call id on some servers)."""

    type: Literal["tool_result"] = "tool_result"
    call_id: str
    name: str = ""
    content: str
    is_error: bool = False


Block = Annotated[TextBlock | ThinkingBlock | ToolCall | ToolResult, Field(discriminator="type")]


class Message(Frozen):
    """One turn. `tool` holds ToolResults only; `system` appears here only mid-conversation."""

    role: Literal["system", "user", "assistant", "tool"]
    blocks: tuple[Block, ...]

    @property
    def text(self) -> str:
        """All visible text of the turn, joined."""
        return "".join(block.text for block in self.blocks if isinstance(block, TextBlock))


class ChatRequest(Frozen):
    """One request in no dialect. None always means: not sent."""

    model: str
    messages: tuple[Message, ...]
    system: str | None = None
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    json_schema: dict[str, Any] | None = None
    """A JSON schema the answer's text must follow."""
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    think: bool | None = None
    stream: bool = True
    extra: dict[str, Any] = Field(default_factory=dict)
    """Top-level keys of the body that no field above covers, passed through as they are."""


class Usage(Frozen):
    """Token counts; None is not measured. `input_tokens` is the whole prompt, cached or not."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    estimated: bool = False


COLD_LOAD_S = 0.5
"""From so much `load_s` on a call was cold; warm ones have up to 0.2 s of it (ollama#12443)."""


class ServerTimings(Frozen):
    """The server's own clocks, in seconds; None is not reported."""

    load_s: float | None = None
    prompt_s: float | None = None
    predicted_s: float | None = None
    total_s: float | None = None


class Timing(Frozen):
    """Client-side clocks in seconds from the moment the request was sent; None is not seen.

    `ttft_s` ends at the first content, thinking or tool delta. A whole (not streamed) reply has
    no `ttft_s`: its first byte says nothing about its first token.
    """

    connect_s: float | None = None
    first_byte_s: float | None = None
    ttft_s: float | None = None
    first_tool_s: float | None = None
    total_s: float = 0.0
    attempts: int = 1
    server: ServerTimings | None = None


class Finding(Frozen):
    """A deviation that was tolerated: a stable `code`, what was seen, and whose defect it is."""

    code: str
    detail: str = ""
    blame: Blame = "engine"


class ChatReply(Frozen):
    """One reply: ordered blocks, why it ended, what it cost, and what was odd about it."""

    blocks: tuple[Block, ...] = ()
    stop_reason: StopReason = "unknown"
    raw_stop_reason: str | None = None
    model: str | None = None
    id: str | None = None
    usage: Usage = Usage()
    timing: Timing = Timing()
    findings: tuple[Finding, ...] = ()
    leaked_calls: tuple[ToolCall, ...] = ()
    """Tool calls the model wrote as text and the server did not parse. Never executed."""
    curl: str = ""
    """A command that repeats the request; the key is named by its environment variable."""
    raw: bytes = Field(default=b"", exclude=True, repr=False)
    """The bytes as they came, bounded, as evidence."""

    @property
    def text(self) -> str:
        """All visible text, joined."""
        return "".join(block.text for block in self.blocks if isinstance(block, TextBlock))

    @property
    def thinking(self) -> str:
        """All reasoning text, joined."""
        return "".join(block.text for block in self.blocks if isinstance(block, ThinkingBlock))

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The structured calls in order."""
        return tuple(block for block in self.blocks if isinstance(block, ToolCall))

    def __repr__(self) -> str:
        """Return what a failed assert should show of a reply: not the request, not the bytes."""
        parts = [repr(one_line(self.text, 120))] if self.text else []
        parts += [f"{call.name}({one_line(call.raw_arguments, 120)})" for call in self.tool_calls]
        return f"<ChatReply {' '.join(parts) or 'empty'} {self.stop_reason}>"

    @property
    def truncated(self) -> bool:
        """True when the reply was cut short, whatever its finish reason claims (PROTOCOLS R4)."""
        return self.stop_reason in ("max_tokens", "context_overflow") or any(
            finding.code in ("truncated_arguments", "cut_stream") for finding in self.findings
        )

    @property
    def verdict(self) -> Literal["call", "leaked", "truncated", "no_call"]:
        """What became of tool calling here; leaked and truncated are verdicts of their own."""
        if self.truncated:
            return "truncated"
        if self.tool_calls:
            return "call"
        return "leaked" if self.leaked_calls else "no_call"

    def expect_tool_call(self, name: str) -> ToolCall:
        """Return the one call of the reply, named `name`, with arguments that parse.

        Raises ExpectationFailed, blaming the engine for a leaked call and config for a truncated
        one, when there is no call, another call, or more than one.
        """
        from pytest_agentlimit.chat import expectations

        return expectations.tool_call(self, name)

    def expect_no_tool_call(self) -> None:
        """Raise ExpectationFailed when the reply calls a tool, structured or as text."""
        from pytest_agentlimit.chat import expectations

        expectations.no_tool_call(self)

    def expect_json(self, schema: dict[str, Any]) -> Any:
        """Return the text parsed as strict JSON and valid under `schema` (a JSON schema).

        Raises ExpectationFailed with the first violation and its path.
        """
        from pytest_agentlimit.chat import expectations

        return expectations.json_value(self, schema)


class TextDelta(Frozen):
    """More visible text."""

    type: Literal["text_delta"] = "text_delta"
    text: str


class ThinkingDelta(Frozen):
    """More reasoning; `signature` comes alone, at the end of a thinking block."""

    type: Literal["thinking_delta"] = "thinking_delta"
    text: str = ""
    signature: str | None = None


class ToolCallStart(Frozen):
    """A new call. `index` is ours: 0, 1, 2 … by first appearance, whatever the server numbers."""

    type: Literal["tool_call_start"] = "tool_call_start"
    index: int
    id: str
    name: str


class ToolCallDelta(Frozen):
    """A fragment of the JSON text of the arguments of call `index`; calls may interleave."""

    type: Literal["tool_call_delta"] = "tool_call_delta"
    index: int
    fragment: str


class StreamStart(Frozen):
    """The first event, when the server names itself."""

    type: Literal["start"] = "start"
    id: str | None = None
    model: str | None = None


class StreamUsage(Frozen):
    """Token counts or server clocks; later ones complete or replace earlier ones."""

    type: Literal["usage"] = "usage"
    usage: Usage | None = None
    server: ServerTimings | None = None


class StreamFinding(Frozen):
    """A deviation seen in the stream."""

    type: Literal["finding"] = "finding"
    finding: Finding


class StreamStop(Frozen):
    """The reply is complete."""

    type: Literal["stop"] = "stop"
    stop_reason: StopReason
    raw_stop_reason: str | None = None


class StreamError(Frozen):
    """An error object inside a 200 stream."""

    type: Literal["error"] = "error"
    error: WireError


class WireError(Frozen):
    """An error as a dialect reports it, over HTTP or inside a stream."""

    status: int | None = None
    kind: Literal[
        "auth",
        "not_found",
        "rate_limit",
        "overloaded",
        "server_error",
        "context_overflow",
        "bad_request",
    ]
    message: str
    retry_after_s: float | None = None
    prompt_tokens: int | None = None
    context_tokens: int | None = None
    """What an overflow says of itself: the size of the prompt, and what there is room for."""


StreamEvent = (
    StreamStart
    | TextDelta
    | ThinkingDelta
    | ToolCallStart
    | ToolCallDelta
    | StreamUsage
    | StreamFinding
    | StreamStop
    | StreamError
)

StreamError.model_rebuild()
