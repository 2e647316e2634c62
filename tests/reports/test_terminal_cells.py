from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from pytest_agentlimit.reports.cells import ascii_only, cell_width, cut, pad, wrap

words = st.text(st.sampled_from("ab 名é·–×"), max_size=40)


@pytest.mark.parametrize("text", ["", "plain", "naïve", "日本語", "cafe\u0301", "한국", "–≥×…"])
def test_width_counts_cells_as_a_terminal_does(text):
    assert cell_width(text) == cell_len(text)


@settings(deadline=None)
@given(words, st.integers(0, 30))
def test_cut_text_fits_and_a_short_text_is_whole(text, width):
    shown = cut(text, width)
    assert cell_len(shown) <= width
    assert shown == text if cell_len(text) <= width else shown == "" or shown.endswith("…")


@settings(deadline=None)
@given(words, st.integers(1, 30), st.booleans())
def test_padded_text_fills_its_column_exactly(text, width, right):
    assert cell_len(pad(text, width, right=right)) == width


@settings(deadline=None)
@given(st.lists(words, max_size=6), st.integers(4, 30))
def test_wrapped_parts_fit_and_lose_nothing(parts, width):
    lines = wrap(parts, width)
    assert all(cell_len(line) <= width for line in lines)
    assert "".join(lines).replace(" ", "").replace("·", "") == "".join(parts).replace(
        " ", ""
    ).replace("·", "")


def test_a_line_breaks_between_parts_before_it_breaks_inside_one():
    assert wrap(["one two", "three four"], 12) == ["one two", "three four"]
    assert wrap(["one", "two"], 12) == ["one · two"]


def test_ascii_keeps_the_meaning_and_escapes_the_rest():
    assert ascii_only("a · ≥ 80 % 1–2 ×3 名") == r"a, >= 80 % 1-2 x3 \u540d"
