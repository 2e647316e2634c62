from __future__ import annotations

import json

import pytest
from chat_strategies import DIALECTS, assembled, decode, replies, requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_agentlimit.chat.assemble import ReplyAssembler, reply_events
from pytest_agentlimit.chat.codecs import codec_for
from pytest_agentlimit.chat.messages import (
    ChatReply,
    ChatRequest,
    Dialect,
    Message,
    TextBlock,
    Tool,
    Usage,
)

quick = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
dialects = pytest.mark.parametrize("dialect", DIALECTS)


@dialects
@quick
@given(data=st.data())
def test_a_request_survives_the_wire(dialect: str, data: st.DataObject) -> None:
    codec = codec_for(dialect)
    request = data.draw(requests(dialect))
    body = json.loads(json.dumps(codec.encode_request(request)))
    assert codec.decode_request(body) == request


@dialects
@quick
@given(data=st.data())
def test_a_whole_reply_survives_the_wire(dialect: str, data: st.DataObject) -> None:
    codec = codec_for(dialect)
    reply = data.draw(replies(dialect))
    body = json.loads(json.dumps(codec.encode_reply(reply)))
    assert codec.decode_reply(body) == reply


@dialects
@quick
@given(data=st.data())
def test_a_streamed_reply_survives_the_wire(dialect: str, data: st.DataObject) -> None:
    codec = codec_for(dialect)
    reply = data.draw(replies(dialect))
    assert assembled(codec, _stream(dialect, reply)) == reply


@dialects
@quick
@given(data=st.data())
def test_every_split_of_a_stream_gives_the_same_events(dialect: str, data: st.DataObject) -> None:
    codec = codec_for(dialect)
    stream = _stream(dialect, data.draw(replies(dialect)))
    stream = data.draw(
        st.sampled_from([stream, stream.replace(b"\n", b"\r\n"), b"\xef\xbb\xbf" + stream])
    )
    stream = stream[: data.draw(st.integers(0, len(stream)))]
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=20))
    whole = decode(codec, stream)
    assert decode(codec, stream, cuts) == whole
    assert decode(codec, stream, range(len(stream))) == whole


@dialects
@quick
@given(data=st.data())
def test_the_events_of_a_reply_assemble_to_it(dialect: str, data: st.DataObject) -> None:
    reply = data.draw(replies(dialect))
    assembler = ReplyAssembler()
    for event in reply_events(reply):
        assembler.add(event)
    assert assembler.reply() == reply


def test_anthropic_requires_a_cap_so_a_request_without_one_comes_back_with_the_default() -> None:
    codec = codec_for("anthropic")
    request = ChatRequest(
        model="m", messages=(Message(role="user", blocks=(TextBlock(text="hi"),)),)
    )
    expected = request.model_copy(update={"max_tokens": 4096})
    assert codec.decode_request(codec.encode_request(request)) == expected


def test_a_request_goes_from_anthropic_to_openai_and_back() -> None:
    tool = Tool("f", "does f", {"type": "object", "properties": {}})
    request = ChatRequest(
        model="m",
        system="be brief",
        messages=(Message(role="user", blocks=(TextBlock(text="hi"),)),),
        tools=(tool,),
        max_tokens=7,
    )
    there = codec_for("anthropic").decode_request(codec_for("anthropic").encode_request(request))
    back = codec_for("openai").decode_request(codec_for("openai").encode_request(there))
    assert back == request


def _stream(dialect: str, reply: ChatReply) -> bytes:
    encoder = codec_for(dialect).stream_encoder("")
    return b"".join(encoder.feed(event) for event in reply_events(reply)) + encoder.close()


@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
def test_estimated_counts_say_that_they_are(dialect: Dialect) -> None:
    guess = Usage(input_tokens=3, output_tokens=2, estimated=True)
    reply = ChatReply(stop_reason="end_turn", usage=guess)
    usage = codec_for(dialect).encode_reply(reply)["usage"]
    assert usage["estimated"] is True
    counted = reply.model_copy(update={"usage": guess.model_copy(update={"estimated": False})})
    assert "estimated" not in codec_for(dialect).encode_reply(counted)["usage"]
