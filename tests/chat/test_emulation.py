from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from chat_strategies import TIME, WEATHER, names, objects, texts
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_agentlimit.chat.assemble import ReplyAssembler
from pytest_agentlimit.chat.emulated_reply import EmulatedReply, emulated_reply
from pytest_agentlimit.chat.emulation import emulates
from pytest_agentlimit.chat.jsonstring import JsonString
from pytest_agentlimit.chat.messages import (
    ChatReply,
    ChatRequest,
    Message,
    StopReason,
    StreamStop,
    TextBlock,
    TextDelta,
    ThinkingDelta,
    Tool,
    ToolCall,
    ToolCallDelta,
    ToolCallStart,
    ToolChoice,
)
from pytest_agentlimit.errors import ExpectationFailed

CALL = '{"name":"get_weather","arguments":{"city":"Oslo"}}'
ONE = f'{{"tool_calls":[{CALL}]}}'
HI = (Message(role="user", blocks=(TextBlock(text="hi"),)),)


def asked(**fields: Any) -> ChatRequest:
    return ChatRequest(**{"model": "m", "messages": HI, "tools": (WEATHER, TIME)} | fields)


def read(
    pieces: list[str], stop: StopReason | None = "end_turn", raw: str | None = "stop", **fields: Any
) -> ChatReply:
    emulation, assembler = EmulatedReply(asked(**fields)), ReplyAssembler()
    events = [TextDelta(text=piece) for piece in pieces]
    ends = [] if stop is None else [StreamStop(stop_reason=stop, raw_stop_reason=raw)]
    for event in [*events, *ends]:
        for made in emulation.feed(event):
            assembler.add(made)
    for made in emulation.close():
        assembler.add(made)
    return assembler.reply()


def codes(reply: ChatReply) -> list[str]:
    return [finding.code for finding in reply.findings]


def split(text: str, cuts: list[int]) -> list[str]:
    places = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    return [text[start:end] for start, end in pairwise(places)]


spaces = st.text(st.sampled_from(" \n\t\r"), max_size=3)
cuts = st.lists(st.integers(0, 10**6), max_size=8)


@st.composite
def written(draw: st.DrawFn, value: Any) -> str:
    """A value as some model may write it: spaced or not, escaped or not, fenced or not."""
    text = json.dumps(
        value,
        ensure_ascii=draw(st.booleans()),
        indent=draw(st.sampled_from([None, 2])),
        separators=draw(st.sampled_from([None, (",", ":"), (" , ", " : ")])),
    )
    fenced = draw(st.booleans())
    return draw(spaces) + (f"```json\n{text}\n```" if fenced else text) + draw(spaces)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_split_of_calls_gives_the_same_calls(data: st.DataObject) -> None:
    wanted = data.draw(st.lists(st.tuples(names, objects), min_size=1, max_size=3))
    tools = tuple(Tool(name) for name in dict(wanted))
    calls = [{"name": name, "arguments": values} for name, values in wanted]
    text = data.draw(written({"tool_calls": calls}))
    reply = read(split(text, data.draw(cuts)), tools=tools)
    assert [(call.name, call.arguments) for call in reply.tool_calls] == wanted
    assert len(reply.blocks) == len(wanted)
    assert len({call.id for call in reply.tool_calls}) == len(wanted)
    assert reply.stop_reason == "tool_use"
    assert codes(reply) == (["emulated_fence"] if "```" in text.split("{")[0] else [])


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_split_of_an_answer_gives_its_text(data: st.DataObject) -> None:
    said = data.draw(texts | st.sampled_from(["", '😀\n"\\u0041"😀', ONE, '{"answer": "x"}']))
    text = data.draw(written({"answer": said}))
    reply = read(split(text, data.draw(cuts)))
    assert reply.text == said
    assert reply.tool_calls == ()
    assert reply.stop_reason == "end_turn"
    assert "emulation_unparsed" not in codes(reply)


@settings(max_examples=300, deadline=None)
@given(
    st.text(st.sampled_from('{}[]":,\\u0d8 3e\n`answertool_cx'), max_size=60), cuts, st.booleans()
)
def test_any_split_of_anything_is_the_same_reply(text: str, cuts: list[int], head: bool) -> None:
    text = '{"answer":"' + text if head else text
    assert read(split(text, cuts)) == read([text])
    assert read(list(text)) == read([text])


@pytest.mark.parametrize("space", [" " * 199, " " * 300, '{"answer":' + " " * 199])
def test_nor_does_it_matter_how_long_it_takes_to_begin(space: str) -> None:
    for text in (f'{space}"x', f'{space}{{"answer":"x', f"{space}x"):
        assert read(list(text)) == read([text])


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_what_is_cut_off_is_no_call(data: st.DataObject) -> None:
    keep = data.draw(st.integers(1, len(ONE) - 1))
    reply = read([ONE[:keep]], data.draw(st.sampled_from(["end_turn", "max_tokens", None])))
    assert reply.tool_calls == ()
    assert reply.text == ONE[:keep]
    assert codes(reply) == ["emulation_unparsed"]


HOSTILE = {
    "prose before": f"Sure: {ONE}",
    "prose after": f"{ONE} done",
    "two objects": ONE + ONE,
    "two fences": f"```\n{ONE}\n```\n```\n{ONE}\n```",
    "an open fence": f"```json\n{ONE}",
    "a fence within": f"See ```json\n{ONE}\n```",
    "a bare call": CALL,
    "a list": f"[{CALL}]",
    "a tagged call": f"<tool_call>{CALL}</tool_call>",
    "no calls": '{"tool_calls":[]}',
    "a call that is no list": f'{{"tool_calls":{CALL}}}',
    "another tool": ONE.replace("get_weather", "rm"),
    "one of two is another tool": f'{{"tool_calls":[{CALL},{CALL.replace("get_weather", "rm")}]}}',
    "a name that is none": ONE.replace('"get_weather"', '["get_weather"]'),
    "arguments in a string": '{"tool_calls":[{"name":"get_weather","arguments":"{}"}]}',
    "arguments in a list": '{"tool_calls":[{"name":"get_weather","arguments":[]}]}',
    "no arguments": '{"tool_calls":[{"name":"get_weather"}]}',
    "another key": '{"tool_calls":[{"name":"get_weather","arguments":{},"id":"1"}]}',
    "both": f'{{"tool_calls":[{CALL}],"answer":"x"}}',
    "a key twice": f'{{"tool_calls":[],"tool_calls":[{CALL}]}}',
    "a name twice": ONE.replace('"name"', '"name":"get_time","name"'),
    "NaN": ONE.replace('"Oslo"', "NaN"),
    "infinite": ONE.replace('"Oslo"', "1e999"),
    "single quotes": ONE.replace('"', "'"),
    "a comment": ONE.replace("{", "{/* */", 1),
    "deep": ONE.replace('"Oslo"', "[" * 300 + "]" * 300),
    "very deep": ONE.replace('"Oslo"', "[" * 99_000 + "]" * 99_000),
    "a number with many digits": ONE.replace('"Oslo"', "1" * 5000),
    "data of another kind": f'{{"data":[{CALL}]}}',
    "in an answer that is no string": f'{{"answer":{ONE}}}',
    "thin space before": f"\u2009{ONE}",
    "thin space after": f"{ONE}\u2009",
    "thin space after a fence": f"```\n{ONE}\n```\u2009",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_nothing_else_becomes_a_call_and_all_of_it_arrives(text: str) -> None:
    reply = read([text])
    assert reply.tool_calls == ()
    assert reply.text == text
    assert codes(reply) == ["emulation_unparsed"]
    assert reply.stop_reason == "end_turn"


@pytest.mark.parametrize("stop", ["max_tokens", "context_overflow", "refusal", None])
def test_a_call_without_a_good_end_is_none(stop: StopReason | None) -> None:
    reply = read([ONE], stop)
    assert reply.tool_calls == ()
    assert reply.text == ONE
    assert read([ONE], "unknown", None).tool_calls == ()
    assert len(read([ONE], "unknown", "eos_token").tool_calls) == 1


def test_a_call_of_the_server_itself_leaves_the_text_text() -> None:
    emulation = EmulatedReply(asked())
    start, more = ToolCallStart(index=0, id="a", name="x"), ToolCallDelta(index=0, fragment="{}")
    assert [*emulation.feed(start), *emulation.feed(more)] == [start, more]
    emulation.feed(TextDelta(text=ONE))
    stop = StreamStop(stop_reason="tool_use")
    assert TextDelta(text=ONE) in emulation.feed(stop)
    assert emulation.calls == 0


def test_an_answer_passes_while_it_comes() -> None:
    emulation = EmulatedReply(asked())
    assert emulation.feed(ThinkingDelta(text="hm")) == [ThinkingDelta(text="hm")]
    assert emulation.feed(TextDelta(text='{ "answer"')) == []
    assert emulation.feed(TextDelta(text=': "It is \\ud83d')) == [TextDelta(text="It is ")]
    assert emulation.feed(TextDelta(text="\\ude00 co")) == [TextDelta(text="😀 co")]
    assert emulation.feed(TextDelta(text='ld."} ')) == [TextDelta(text="ld.")]
    stop = StreamStop(stop_reason="end_turn")
    assert emulation.feed(stop) == [stop]


@pytest.mark.parametrize(
    ("text", "arrives"),
    [
        ('{"answer":"It is', "It is"),
        ('{"answer":"It is \\u00', "It is \\u00"),
        ('{"answer":"It is"', "It is"),
        ('{"answer":"It is" , "x": 1}', 'It is" , "x": 1}'),
        (f'{{"answer":"It is","tool_calls":[{CALL}]}}', f'It is","tool_calls":[{CALL}]}}'),
        ('{"answer":"It is"} I hope', 'It is"} I hope'),
        ('{"answer":"It\nis"}', 'It\nis"}'),
        ('{"answer":"a\\x"}', 'a\\x"}'),
        ("It is", "It is"),
    ],
)
def test_an_answer_that_goes_wrong_keeps_what_passed(text: str, arrives: str) -> None:
    reply = read([text])
    assert reply.text == arrives
    assert reply.tool_calls == ()
    assert codes(reply) == ["emulation_unparsed"]


def test_half_a_surrogate_pair_is_replaced_and_recorded() -> None:
    streamed = read(['{"answer":"a\\ud83d', 'b\\udc00"}'])
    held = read(['```\n{"answer":"a\\ud83db\\udc00"}\n```'])
    assert streamed.text == held.text == "a\ufffdb\ufffd"
    assert codes(streamed) == ["lone_surrogate"]


def test_a_text_without_end_is_not_kept_for_ever() -> None:
    emulation = EmulatedReply(asked())
    out = [event for _ in range(101) for event in emulation.feed(TextDelta(text="{" * 10_000))]
    assert sum(len(event.text) for event in out if isinstance(event, TextDelta)) == 1_010_000


def test_white_space_alone_is_text_and_no_finding() -> None:
    assert read([" \n"]).text == " \n"
    assert read([" \n"]).findings == ()


def test_one_call_where_one_was_allowed() -> None:
    two = f'{{"tool_calls":[{CALL},{CALL}]}}'
    assert len(read([two]).tool_calls) == 2
    assert read([two], parallel_tool_calls=False).tool_calls == ()
    assert len(read([ONE], parallel_tool_calls=False).tool_calls) == 1


def test_without_tools_nothing_is_read() -> None:
    for fields in ({"tools": ()}, {"tool_choice": ToolChoice(mode="none")}):
        assert not emulates(asked(**fields))
        reply = read([ONE], **fields)
        assert (reply.text, reply.findings) == (ONE, ())


def test_ids_differ_from_turn_to_turn() -> None:
    later = read([ONE], messages=HI * 3).tool_calls[0].id
    assert read([ONE]).tool_calls[0].id != later
    assert read([ONE], messages=HI * 3).tool_calls[0].id == later


def test_a_structured_answer_is_its_json() -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}}
    reply = read(['{"answer": {"n"', ": 1}}"], json_schema=schema)
    assert json.loads(reply.text) == {"n": 1}
    assert reply.findings == ()
    assert len(read([ONE], json_schema=schema).tool_calls) == 1


# the whole reply


def reply_of(text: str, **fields: Any) -> ChatReply:
    return ChatReply(
        **{"blocks": (TextBlock(text=text),), "stop_reason": "end_turn", "raw": b"x"} | fields
    )


def test_a_whole_reply_keeps_its_evidence() -> None:
    given = reply_of(ONE, curl="curl …", id="r1", leaked_calls=(ToolCall(id="l", name="x"),))
    reply = emulated_reply(asked(), given)
    assert [call.name for call in reply.tool_calls] == ["get_weather"]
    assert (reply.raw, reply.curl, reply.id) == (b"x", "curl …", "r1")
    assert reply.leaked_calls == ()
    assert reply.verdict == "call"


def test_a_call_in_text_of_another_form_is_no_leak_of_the_server() -> None:
    reply = emulated_reply(asked(), reply_of(f"I call {CALL}"))
    assert reply.verdict == "no_call"
    with pytest.raises(ExpectationFailed) as caught:
        reply.expect_tool_call("get_weather")
    assert caught.value.blame == "model"


def test_an_answer_that_holds_a_call_as_data_is_no_leak() -> None:
    answer = emulated_reply(asked(), reply_of(json.dumps({"answer": f"Write {CALL}"})))
    assert (answer.text, answer.leaked_calls) == (f"Write {CALL}", ())


@settings(max_examples=150, deadline=None)
@given(st.text(st.characters() | st.sampled_from("\ud83d\ude00"), max_size=30), cuts)
def test_a_json_string_is_read_like_json(text: str, cuts: list[int]) -> None:
    string = JsonString()
    read = "".join(map(string.feed, split(json.dumps(text)[1:], cuts)))
    assert read == text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    assert string.state == "closed"


def test_what_follows_a_json_string_is_its_rest() -> None:
    string = JsonString()
    assert (string.feed('a"} b'), string.state, string.rest) == ("a", "closed", "} b")
    string = JsonString()
    assert (string.feed("a\\xb"), string.state, string.rest) == ("a", "broken", "\\xb")
