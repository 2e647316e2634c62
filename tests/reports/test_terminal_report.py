from __future__ import annotations

import pytest
from report_samples import SAMPLES, hostile, six_rounds
from rich.cells import cell_len

from pytest_agentlimit.reports.terminal import terminal_lines
from pytest_agentlimit.reports.view import build_view
from pytest_agentlimit.runs.summary import summarise

samples = pytest.mark.parametrize("maker", SAMPLES.values(), ids=SAMPLES)


def lines_of(maker, width=80, unicode=True, verbose=False):
    data = maker()
    return terminal_lines(build_view(summarise(data), data), width, unicode, verbose)


def text_of(maker, **options):
    return "\n".join(text for text, _ in lines_of(maker, **options)) + "\n"


@samples
@pytest.mark.parametrize("width", [80, 120])
def test_looks(maker, width, snapshot):
    assert text_of(maker, width=width) == snapshot


@pytest.mark.parametrize("name", ["one_round", "hostile"])
def test_looks_in_ascii(name, snapshot):
    assert text_of(SAMPLES[name], unicode=False) == snapshot


@samples
@pytest.mark.parametrize("unicode", [True, False])
def test_no_line_is_wider_than_the_terminal(maker, unicode):
    for width in (20, 40, 60, 79, 80, 100, 120, 200):
        for text, _ in lines_of(maker, width, unicode, verbose=True):
            assert cell_len(text) <= min(width, 120)


@samples
def test_without_unicode_every_line_is_ascii(maker):
    assert text_of(maker, unicode=False, verbose=True).isascii()


@samples
def test_markup_is_what_a_terminal_writer_knows(maker):
    known = {"bold", "red", "green", "yellow"}
    for _, markup in lines_of(maker):
        assert set(markup) <= known
        assert all(value is True for value in markup.values())


def test_failing_rows_stand_out():
    markup = {text.split("  ")[0]: markup for text, markup in lines_of(six_rounds)}
    assert markup["code generation"] == {"red": True}
    assert markup["basic response"] == {"green": True}


def test_passing_rules_are_listed_on_request_only():
    assert "collected trials reported" not in text_of(six_rounds)
    assert "all 66 collected trials reported" in text_of(six_rounds, verbose=True)


def test_files_are_headings_only_when_there_are_several():
    assert "test_edge_study.py" not in text_of(six_rounds)
    assert "example_suites/edge_study/test_edge_study.py\n" in text_of(hostile)


def test_no_model_is_called_better_than_another():
    text = text_of(SAMPLES["april"], verbose=True)
    assert not any(word in text for word in ("better", "worse", "slower", "winner"))
