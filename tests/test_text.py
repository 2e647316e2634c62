from __future__ import annotations

import re
import time
import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from pytest_agentlimit.text import (
    escape_controls,
    escape_surrogates,
    markdown,
    markdown_code,
    one_line,
    printable,
)

HOSTILE = [
    "\x1b[31mred\x1b[0m",
    "\x1b]0;title\x07",
    "\x9b2J",
    "a\u202eb\u2066c",
    "\ud800",
    "hid\U000e0041den\u200b",
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "&lt;b&gt; &amp; &#60;",
    "[text](javascript:alert(1)) ![alt](http://evil.example/x.png)",
    "[text][1]\n\n[1]: http://evil.example",
    "<http://evil.example> <me@evil.example>",
    "see http://evil.example and www.evil.example or me@evil.example",
    "@octocat @org/team #1 GH-1 org/repo#1 :smile:",
    "# heading",
    "heading\n=======",
    "---",
    "===",
    "- item",
    "* item",
    "+ item",
    "1. item",
    "123456789) item",
    "> quote",
    "    code",
    "```\nfence\n```",
    "~~~",
    "`code` ``two`` ```",
    "a | b | c",
    ":-- | --:",
    "\\",
    "\\| \\` \\\\|",
    "**bold** _em_ ~~gone~~ $x^2$",
    "ends with a backslash \\",
    "`",
    "` `",
    "",
]

_MARKUP = (
    "<b> </td> ]( ![ ` `` ``` ~~~ \\ | --- &lt; <!-- --> <? <![CDATA[ $ * _ ~ = [x]: a "
    "@user #12 GH-7 http:// www.x.org x@y.org :smile:"
)
_BREAKS = ["\n", "\r\n", "\t", " ", "- ", "1. ", "# ", "> ", "\x1b[1m", "\u202e", "\ud800"]
_PIECES = st.sampled_from([*_MARKUP.split(), *_BREAKS])
hostile_text = st.one_of(
    st.lists(_PIECES, max_size=12).map("".join),
    st.text(st.characters(), max_size=60),
)
COMMONMARK = MarkdownIt("commonmark").enable(["table", "strikethrough"])
CONTEXTS = ["{}", "- {}", "1. {}", "# {}", "> {}", "words\n{}", "{}\nwords", "**bold {}**"]
ALLOWED = {
    "{}": {"paragraph"},
    "- {}": {"paragraph", "bullet_list", "list_item"},
    "1. {}": {"paragraph", "ordered_list", "list_item"},
    "# {}": {"heading"},
    "> {}": {"paragraph", "blockquote"},
    "words\n{}": {"paragraph"},
    "{}\nwords": {"paragraph"},
    "**bold {}**": {"paragraph"},
}


def block_types(source: str) -> set[str]:
    found = {re.sub("_(open|close)$", "", token.type) for token in COMMONMARK.parse(source)}
    return found - {"inline"}


def inline_tokens(source: str) -> list[tuple[str, str]]:
    return [
        (child.type, child.content)
        for token in COMMONMARK.parse(source)
        for child in token.children or ()
    ]


def rendered_text(source: str) -> str:
    return "".join(content for _, content in inline_tokens(source))


def is_clean(text: str) -> bool:
    return not any(
        unicodedata.category(char) in ("Cc", "Cs") and char not in "\n\t" for char in text
    ) and not re.search("[\u202a-\u202e\u2066-\u2069\u200e\u200f]", text)


def test_terminal_sequences_become_visible_text():
    assert printable("\x1b[31mred\x9b2J\x07") == r"\x1b[31mred\x9b2J\x07"


def test_bidirectional_overrides_and_invisible_characters_become_visible_text():
    assert printable("a\u202eb\u200bc\U000e0041") == r"a\u202eb\u200bc\U000e0041"


def test_lone_surrogates_become_visible_text():
    assert printable("a\ud83db") == r"a\ud83db"
    assert escape_surrogates("\x1b\udc00") == "\x1b" + r"\udc00"


def test_carriage_return_cannot_overwrite_a_line():
    assert printable("PASS\rFAIL") == r"PASS\x0dFAIL"


def test_ordinary_text_of_any_script_is_left_alone():
    text = "naïve Ελληνικά 日本語 👩‍💻 نص\n\tindented – “quoted”"
    assert printable(text) == escape_controls(text) == text


@settings(deadline=None)
@given(hostile_text)
def test_printable_text_encodes_and_holds_no_control(text: str):
    shown = printable(text)
    shown.encode("utf-8")
    assert is_clean(shown)


@settings(deadline=None)
@given(hostile_text, st.integers(0, 80))
def test_printable_text_keeps_its_limit(text: str, limit: int):
    assert len(printable(text, limit)) <= limit
    assert len(one_line(text, limit)) <= limit


def test_the_middle_is_cut_and_both_ends_are_kept():
    shown = printable("start" + "x" * 5000 + "end", 100)
    assert shown.startswith("startx")
    assert shown.endswith("xend")
    assert " … " in shown
    assert len(shown) == 100


def test_a_limit_too_small_for_both_ends_keeps_the_start():
    assert printable("abcdef", 2) == "ab"
    assert printable("abcdef", 0) == ""


def test_both_ends_of_a_huge_line_are_kept():
    shown = one_line("start " + "x" * 1_000_000 + " end", 60)
    assert shown.startswith("start x")
    assert shown.endswith("x end")


@settings(deadline=None)
@given(hostile_text)
def test_one_line_is_one_line(text: str):
    shown = one_line(text)
    assert len(shown.splitlines()) <= 1
    assert "\t" not in shown
    assert "  " not in shown.replace(" … ", "")


@pytest.mark.parametrize("function", [printable, one_line, markdown, markdown_code])
def test_a_megabyte_costs_next_to_nothing(function):
    for text in ("\x1b" * 1_000_000, "`" * 1_000_000, " a" * 500_000, "@" * 1_000_000):
        begin = time.process_time()
        shown = function(text)
        assert time.process_time() - begin < 1.0
        assert len(shown) < 20_000


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("render", [markdown, markdown_code])
@pytest.mark.parametrize("text", HOSTILE, ids=repr)
def test_hostile_text_makes_no_structure(text, render, context):
    check_is_literal(text, render, context)


@settings(deadline=None)
@given(hostile_text, st.sampled_from([markdown, markdown_code]), st.sampled_from(CONTEXTS))
@example("-", markdown, "words\n{}")
def test_no_text_makes_structure(text: str, render, context: str):
    check_is_literal(text, render, context)


def check_is_literal(text, render, context):
    source = context.format(render(text))
    assert block_types(source) <= ALLOWED[context]
    inline = {kind for kind, _ in inline_tokens(source)}
    harmless = {"text", "text_special", "code_inline", "softbreak"}
    assert inline <= harmless | ({"strong_open", "strong_close"} if "**" in context else set())


@settings(deadline=None)
@given(hostile_text)
def test_escaped_markdown_renders_to_the_very_text(text: str):
    assert rendered_text(markdown(text)).replace("\u2060", "") == one_line(text)


def test_a_node_id_can_be_copied_from_a_report():
    nodeid = "tests/test_a.py::TestTools::test_call[open-claw-t1]"
    assert rendered_text(markdown(nodeid)) == nodeid


@settings(deadline=None)
@given(hostile_text)
def test_markdown_code_renders_to_the_very_text(text: str):
    shown = one_line(text)
    tokens = inline_tokens(markdown_code(text))
    assert tokens == [("code_inline", shown or " ")]


@settings(deadline=None)
@given(hostile_text)
def test_a_table_cell_stays_one_cell(text: str):
    source = f"| a | b |\n|---|---|\n| {markdown(text)} | last |\n"
    tokens = COMMONMARK.parse(source)
    cells = [
        tokens[index + 1].children or []
        for index, token in enumerate(tokens)
        if token.type == "td_open"
    ]
    assert len(cells) == 2
    assert "".join(child.content for child in cells[0]).replace("\u2060", "") == one_line(text)
    assert cells[1][0].content == "last"


@settings(deadline=None)
@given(hostile_text)
def test_nothing_is_left_that_github_would_link_after_rendering(text: str):
    shown = rendered_text(markdown(text))
    assert not re.search(r"@\w|#\w|\w://|www\.|(?<!:):\w+:(?!:)|GH-\d", shown)
