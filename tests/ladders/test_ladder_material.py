from __future__ import annotations

import re
from random import Random

import pytest
from ladder_kit import guess_rate

from pytest_agentlimit.chat.messages import Tool, ToolCall
from pytest_agentlimit.ladders import material


def test_a_heading_starts_with_a_nonce_and_tells_the_ladder_and_the_level() -> None:
    first, second = (material.heading(Random(seed), "chain", 12) for seed in (1, 2))
    assert re.fullmatch(r"Task [a-z]{6}-chain-12\.", first)
    assert first.split("-")[0] != second.split("-")[0]


def test_words_are_different_and_none_is_known() -> None:
    words = material.words(Random(1), 300)
    assert len(set(words)) == 300
    assert all(re.fullmatch(r"[a-z]{6}", word) for word in words)


@pytest.mark.parametrize("digits", [4, 5, 6])
def test_a_code_has_its_digits_and_no_leading_zero(digits: int) -> None:
    rng = Random(digits)
    codes = [material.code(rng, digits) for _ in range(500)]
    assert all(re.fullmatch(rf"[1-9]\d{{{digits - 1}}}", code) for code in codes)
    assert guess_rate(codes) < 1e-3


def test_opaque_tokens_differ_and_tell_nothing_between_seeds() -> None:
    tokens = material.opaque_tokens(Random(1), 64)
    assert len(set(tokens)) == 64
    assert not set(tokens) & set(material.opaque_tokens(Random(2), 64))
    assert tokens == material.opaque_tokens(Random(1), 64)


def test_a_keyed_number_is_the_same_under_one_key_only() -> None:
    assert material.keyed_number(b"k", "a=1") == material.keyed_number(b"k", "a=1")
    numbers = {material.keyed_number(key, text) for key in (b"k", b"l") for text in "abcdef"}
    assert len(numbers) == 12
    assert all(10_000 <= number <= 99_999 for number in numbers)


@pytest.mark.parametrize(
    "text",
    [
        "482913",
        "482,913",
        "482\u202f913.",
        "The final code is **482913**!",
        "`482913`",
        "_482913_",
        "\\boxed{482913}",
        "After 4 hops, token 12345 gave: 482913 (it took 4 calls).",
        "first 123456, then 482913",
        "code=482913\n",
        "das ist 482913。",
    ],
)
def test_a_code_is_found_in_any_dress(text: str) -> None:
    assert material.last_code(text, 6) == "482913"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "none",
        "4829131",
        "x482913",
        "482913x",
        "0.482913",
        "482913.5",
        "48 29 13",
        "482913, 111111",
    ],
)
def test_what_is_not_the_code_is_not_taken_for_it(text: str) -> None:
    assert material.last_code(text, 6) != "482913"


def test_readers_take_a_flood() -> None:
    flood = "9" * 1_000_000
    assert material.last_code(flood + "x", 6) is None


TOOLS = (Tool("hop", "", material.object_schema(token={"type": "string"})),)


@pytest.mark.parametrize(
    ("name", "raw", "mode"),
    [
        ("jump", '{"token": "a"}', "wrong_tool"),
        ("hop", '{"token": ', "malformed_call"),
        ("hop", "[1]", "malformed_call"),
        ("hop", "{}", "malformed_call"),
        ("hop", '{"token": 1}', "malformed_call"),
        ("hop", '{"token": "a", "x": 1}', "malformed_call"),
    ],
)
def test_a_call_that_cannot_be_run_has_a_mode_and_a_reason(name: str, raw: str, mode: str) -> None:
    found = material.misuse(ToolCall(id="1", name=name, raw_arguments=raw), TOOLS)
    assert found is not None
    assert found[0] == mode
    assert name in found[1]


def test_arguments_that_are_no_object_are_malformed_also_where_none_are_needed() -> None:
    call = ToolCall(id="1", name="now", raw_arguments="[1]")
    assert material.misuse(call, (Tool("now"),)) is not None


def test_a_call_that_can_be_run_is_no_misuse() -> None:
    assert (
        material.misuse(ToolCall(id="1", name="hop", raw_arguments='{"token": "a"}'), TOOLS) is None
    )
