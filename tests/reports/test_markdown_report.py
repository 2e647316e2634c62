from __future__ import annotations

import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from report_samples import HOSTILE, SAMPLES, hostile, run, trial

from pytest_agentlimit.reports.markdown import MOST_FAILURES, to_markdown
from pytest_agentlimit.reports.view import build_view
from pytest_agentlimit.runs.summary import summarise

COMMONMARK = MarkdownIt("commonmark").enable(["table", "strikethrough"])
HARMLESS = {"text", "text_special", "code_inline", "strong_open", "strong_close", "softbreak"}
BLOCKS = {"heading", "paragraph", "inline", "bullet_list", "list_item"} | {
    "table", "thead", "tbody", "tr", "th", "td",
}  # fmt: skip


def report(data):
    return to_markdown(build_view(summarise(data), data))


def structure(text):
    """The block tokens and the inline kinds of a report."""
    tokens = COMMONMARK.parse(text)
    inline = {child.type for token in tokens for child in token.children or ()}
    return [token.type for token in tokens], inline


def check_structure(text):
    blocks, inline = structure(text)
    assert {re.sub("_(open|close)$", "", kind) for kind in blocks} <= BLOCKS
    assert inline <= HARMLESS
    assert blocks.count("td_open") % 7 == 0
    assert blocks.count("td_open") == 7 * (blocks.count("tr_open") - blocks.count("thead_open"))


@pytest.mark.parametrize("maker", SAMPLES.values(), ids=SAMPLES)
def test_looks(maker, snapshot):
    assert report(maker()) == snapshot


@pytest.mark.parametrize("maker", SAMPLES.values(), ids=SAMPLES)
def test_a_report_holds_tables_lists_and_nothing_active(maker):
    data = maker()
    check_structure(report(data))
    blocks, _ = structure(report(data))
    summary = summarise(data)
    sections = len(summary.models) + bool(summary.comparisons)
    assert blocks.count("heading_open") == 1 + sections


def test_a_hostile_message_is_shown_as_it_was_and_does_nothing():
    tokens = COMMONMARK.parse(report(hostile()))
    code = [c.content for t in tokens for c in t.children or () if c.type == "code_inline"]
    assert any("<img src=x onerror=alert(1)> | [click](http://evil.example)" in c for c in code)


MARKUP = [HOSTILE, "<b>", "`", "``", "|", "\n\n# x\n", "@a", "![x](y)", "\\", "- ", "1. "]
pieces = st.one_of(st.text(st.characters(), max_size=30), st.sampled_from(MARKUP))
texts = st.lists(pieces, max_size=4).map("".join)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(message=texts, engine=texts, check=texts, note=texts, code=texts, model=texts)
def test_no_text_from_outside_becomes_structure(message, engine, check, note, code, model):
    plain = run(trial("a", outcome="failed", message="m", findings=("f",)), notes=("n",))
    data = run(
        trial(f"t.py::test_{check}", model, outcome="failed", message=message, findings=(code,)),
        fingerprint={"engine": engine, "model": engine},
        notes=(note,),
    )
    text = report(data)
    check_structure(text)
    blocks, _ = structure(text)
    expected, _ = structure(report(plain))
    for kind in ("heading_open", "table_open", "tr_open"):
        assert blocks.count(kind) == expected.count(kind)


def test_the_list_of_failures_is_bounded():
    data = run(*[trial(f"t.py::test_{n}", outcome="failed", message="x" * 9000) for n in range(60)])
    text = report(data)
    assert "and 40 more checks with a failure" in text
    assert text.count("blame model") == MOST_FAILURES
    assert len(text) < 20_000
