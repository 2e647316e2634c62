from __future__ import annotations

import json
import unicodedata
from typing import Any, get_args

import pytest
from chat_strategies import DIALECTS
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_agentlimit.chat.codecs import codec_for
from pytest_agentlimit.chat.messages import WireError
from pytest_agentlimit.chat.wire_errors import ErrorKind, read_error

VLLM = "This model's maximum context length is 4096 tokens. However, you requested 5000"
LLAMA_CPP = "request (351 tokens) exceeds the available context size (256 tokens)"
ANTHROPIC = "prompt is too long: 9 tokens > 8 maximum"
OVERFLOWS = [
    {"error": {"message": VLLM}},
    {"error": {"type": "exceed_context_size_error", "message": "too big", "n_ctx": 8192}},
    {"error": {"code": 400, "message": LLAMA_CPP}},
    {"error": {"code": "context_length_exceeded", "message": "no"}},
    {"type": "error", "error": {"type": "invalid_request_error", "message": ANTHROPIC}},
    {"error": "prompt too long; exceeded max context length by 12 tokens"},
    {"error": json.dumps({"error": {"code": 400, "message": LLAMA_CPP}})},
]


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("body", OVERFLOWS)
@pytest.mark.parametrize("status", [400, 413, 500, None])
def test_every_wording_of_a_full_context_is_known(
    dialect: str, body: Any, status: int | None
) -> None:
    assert codec_for(dialect).decode_error(status, json.dumps(body)).kind == "context_overflow"


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        *((401, "auth"), (403, "auth"), (404, "not_found"), (429, "rate_limit")),
        *((503, "overloaded"), (529, "overloaded"), (500, "server_error"), (502, "server_error")),
        *((400, "bad_request"), (413, "bad_request"), (422, "bad_request")),
    ],
)
def test_the_status_decides(status: int, kind: str) -> None:
    assert read_error(status, "whatever") == WireError(status=status, kind=kind, message="whatever")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"error": {"message": "no such model"}}, "no such model"),
        ({"error": "model 'x' not found"}, "model 'x' not found"),
        ({"error": '"x" does not support tools'}, '"x" does not support tools'),
        ({"object": "error", "message": "auto needs a flag"}, "auto needs a flag"),
        ({"detail": "Not Found"}, "Not Found"),
        ({"error": {"error": "bad_request", "message": "odd"}}, "odd"),
        ({"error": "Unauthorized", "message": "log in first"}, "log in first"),
    ],
)
def test_the_message_is_found_wherever_it_is(body: Any, message: str) -> None:
    assert read_error(400, json.dumps(body)).message == message


def test_a_web_page_is_named_by_its_title() -> None:
    page = "<html><head><title>502 Bad\nGateway</title></head><body>" + "x" * 9000
    error = read_error(502, page)
    assert (error.kind, error.message) == ("server_error", "a web page: 502 Bad Gateway")


def test_nothing_at_all_still_says_something() -> None:
    assert read_error(500, "").message == "HTTP 500"
    assert read_error(None, "") == WireError(kind="server_error", message="no message")


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({"error": {"type": "authentication_error", "message": "m"}}, "auth"),
        ({"error": {"type": "overloaded_error", "message": "m"}}, "overloaded"),
        ({"error": {"type": "rate_limit_error", "message": "m"}}, "rate_limit"),
        ({"error": {"code": 404, "message": "m"}}, "not_found"),
        ({"error": "this model does not support tools"}, "bad_request"),
        ({"error": "boom"}, "server_error"),
    ],
)
def test_without_a_status_the_words_decide(body: Any, kind: str) -> None:
    assert read_error(None, json.dumps(body)).kind == kind


@pytest.mark.parametrize("kind", get_args(ErrorKind))
@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
def test_a_kind_survives_the_wire_without_a_status(dialect: str, kind: Any) -> None:
    codec = codec_for(dialect)
    sent = codec.encode_error(WireError(kind=kind, message="something happened"))
    assert codec.decode_error(None, json.dumps(sent)).kind == kind


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 503])
def test_an_error_survives_the_wire_with_its_status(dialect: str, status: int) -> None:
    codec = codec_for(dialect)
    error = read_error(status, "something happened")
    assert codec.decode_error(status, json.dumps(codec.encode_error(error))) == error


@settings(max_examples=100, deadline=None)
@given(
    body=st.text(max_size=60)
    | st.recursive(
        st.none() | st.text(max_size=5) | st.integers(),
        lambda inner: st.dictionaries(
            st.sampled_from(["error", "message", "code", "type", "detail"]), inner
        ),
        max_leaves=5,
    ).map(json.dumps)
)
def test_any_body_gives_a_short_printable_message(body: str) -> None:
    error = read_error(418, body + "\x1b[31m" + "y" * 500)
    assert len(error.message) <= 300
    assert not any(unicodedata.category(one) in ("Cc", "Cs") for one in error.message)
    assert read_error(None, body).message


@pytest.mark.parametrize(
    ("body", "sizes"),
    [
        (OVERFLOWS[0], (5000, 4096)),
        ({"error": {"code": 400, "message": LLAMA_CPP}}, (351, 256)),
        (
            {
                "error": {
                    "type": "exceed_context_size_error",
                    "message": "the request exceeds the available context size",
                    "n_prompt_tokens": 12030,
                    "n_ctx": 8192,
                }
            },
            (12030, 8192),
        ),
        (OVERFLOWS[4], (9, 8)),
        (OVERFLOWS[6], (351, 256)),
        (OVERFLOWS[5], (None, None)),
        ({"error": "no such model: context-length-5000"}, (None, None)),
    ],
)
def test_an_overflow_names_its_sizes(body: Any, sizes: tuple[int | None, int | None]) -> None:
    error = read_error(400, json.dumps(body))
    assert (error.prompt_tokens, error.context_tokens) == sizes


def test_an_overflow_is_told_to_anthropic_clients_in_their_words() -> None:
    def said(**fields: Any) -> str:
        error = WireError(kind="context_overflow", message="context size exceeded", **fields)
        body = codec_for("anthropic").encode_error(error)
        assert body["error"]["type"] == "invalid_request_error"
        return str(body["error"]["message"])

    sizes = {"prompt_tokens": 9, "context_tokens": 8}
    assert said(**sizes) == "prompt is too long: 9 tokens > 8 maximum"
    # A prompt that fits, with what was to follow it, is not longer than the room.
    wrong = {"prompt_tokens": 7, "context_tokens": 8}
    assert said(**wrong) == "prompt is too long: context size exceeded"
    assert said() == "prompt is too long: context size exceeded"
