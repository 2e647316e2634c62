from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest
from climb_kit import climbed, up_to
from ladder_samples import (
    LADDER_SAMPLES,
    climb_trial,
    hostile_ladder,
    limits,
    two_climbers,
)
from markdown_it import MarkdownIt
from report_samples import HOSTILE, april, run
from rich.cells import cell_len

from pytest_agentlimit.reports.github import step_summary, workflow_commands
from pytest_agentlimit.reports.junit import to_junit
from pytest_agentlimit.reports.ladders import BAR, MOST_LINES, LadderBlock
from pytest_agentlimit.reports.markdown import to_markdown
from pytest_agentlimit.reports.terminal import terminal_lines
from pytest_agentlimit.reports.view import RunView, build_view
from pytest_agentlimit.runs.records import RunData
from pytest_agentlimit.runs.summary import summarise

samples = pytest.mark.parametrize("maker", LADDER_SAMPLES.values(), ids=LADDER_SAMPLES)
COMMONMARK = MarkdownIt("commonmark").enable(["table", "strikethrough"])
HARMLESS = {"text", "text_special", "code_inline", "strong_open", "strong_close", "softbreak"}


def view_of(data: RunData) -> RunView:
    return build_view(summarise(data), data)


def lines_of(data: RunData, width: int = 80, **options: bool) -> list[str]:
    return [text for text, _ in terminal_lines(view_of(data), width, **options)]


def block_of(*climbs: object, **changes: object) -> LadderBlock:
    """The block of a run with one climb."""
    record = climb_trial("chain", climbed(*climbs, **changes))
    (ladders,) = view_of(run(record)).models[0].ladders
    (block,) = ladders.blocks
    return block


def fact(block: LadderBlock, label: str) -> str:
    return next(" · ".join(fact.parts) for fact in block.facts if fact.label == label)


def row(lines: list[str], name: str) -> str:
    """The row of the ladder, which stands below the row of the check."""
    return [line for line in lines if line.startswith(f"{name} ")][1]


@samples
def test_the_terminal_looks(maker, snapshot):
    assert "\n".join(lines_of(maker(), verbose=True)) + "\n" == snapshot


@samples
def test_the_markdown_looks(maker, snapshot):
    assert to_markdown(view_of(maker())) == snapshot


@samples
@pytest.mark.parametrize("unicode", [True, False])
def test_no_line_is_wider_than_the_terminal_or_drives_it(maker, unicode):
    data = maker()
    for width in (40, 60, 80, 120):
        for line in lines_of(data, width, unicode=unicode, verbose=True):
            assert cell_len(line) <= width
            assert line.isprintable()
            assert unicode or line.isascii()


def test_a_table_of_ladders_stands_below_that_of_the_checks():
    lines = lines_of(limits())
    assert "ladder         ceiling   90 %  shape    trials  steps  fails by" in lines
    assert lines.index("P passed · F failed · I infra") < next(
        i for i, line in enumerate(lines) if line.startswith("ladder  ")
    )
    assert not any(line.startswith("ladder  ") for line in lines_of(april()))


def test_a_check_that_climbs_has_no_latency_of_its_own():
    checks = view_of(limits()).models[0].rows
    assert {check.p50 for check in checks} == {"–"}


@pytest.mark.parametrize(
    ("name", "cells"),
    [
        ("chain", "6 4–6 cliff 29 210 wrong_final"),
        ("ledger", "not even 1 0–0 – 8 10 wrong_final"),
        ("toolbox", "64 (top) 64–64 – 27 632 –"),
        ("fanout", "≥ 4: yes 6–64 – 15 56 –"),
        ("schema", "≥ 4: no 0–2 – 5 20 wrong_final"),
        ("recovery", "1 so far 0–4 unclear 5 12 loop"),
        ("haystack", "not measured – – 0 0 –"),
    ],
)
def test_every_end_of_a_climb_has_its_words(name, cells):
    assert row(lines_of(limits()), name).split()[1:] == cells.split()


def test_levels_are_listed_on_request_only():
    said = "levels       chain: 1: 2/2 · 2: 2/2 · 3: 2/2 · 4: 5/5 · 6: 5/5 · 8: 0/2 · 12: 0/11"
    assert said in lines_of(limits(), verbose=True, width=120)
    assert not any(line.startswith("levels") for line in lines_of(limits(), width=120))


def test_what_is_odd_about_a_ceiling_is_said():
    text = " ".join(" ".join(lines_of(limits())).split())
    assert "chain: 2 trials ended by infrastructure, not counted" in text
    assert "dag: not monotone at 4: it fails there, whatever it does above" in text
    assert "toolbox: the ladder ends at 64: the ceiling may lie higher" in text
    assert "recovery: cut short after 5 trials, known only so far" in text
    assert "haystack: cut short before any trial counted" in text


@pytest.mark.parametrize(
    ("highest", "changes", "title"),
    [
        (6, {}, "chain: ceiling 6 (90 %: 4–6)"),
        (0, {}, "chain: not even 1 (90 %: 0–0)"),
        (0, {"levels": (4, 8, 16)}, "chain: not even 4 (90 %: 0–0)"),
        (64, {"at_least": 4}, "chain: at least 4: yes (90 %: 6–64)"),
        (1, {"at_least": 4}, "chain: at least 4: no (90 %: 0–2)"),
        (64, {"at_least": 4, "most": 3}, "chain: at least 4: not shown (90 %: 1–64)"),
        (6, {"infra": range(9), "most": 8}, "chain: ceiling not measured"),
    ],
)
def test_a_ceiling_is_said_in_words(highest, changes, title):
    assert block_of(up_to(highest), **changes).title == title


def test_a_curve_has_a_bar_for_each_level_that_was_tried():
    head, *rows = block_of(up_to(8)).curve
    assert head == "level                        passed, 95 %      P50"
    assert rows[0] == "    1  ████████████████████  2/2 34–100     113 ms"
    assert rows[-1] == "   16  ····················  0/10 0–28     1622 ms"
    assert [int(row.split()[0]) for row in rows] == [1, 2, 3, 4, 6, 8, 12, 16]


def test_a_bar_is_full_or_empty_only_when_all_or_none_passed():
    odd = iter(range(1000))
    curve = block_of(lambda level: level < 4 or next(odd) % 9 != 0, levels=(1, 4)).curve
    bar = curve[2].split()[1]
    assert 0 < bar.count("█") < BAR == len(bar)
    assert not re.search(r" (\d+)/\1 ", curve[2])


def test_failures_are_those_of_the_first_level_above_with_an_example():
    block = block_of(up_to(6))
    assert fact(block, "fails by") == ("level 8: loop ×2 · blame on all levels: model ×13")
    assert block.failure == "expected 7 at level 8, got 8"
    assert block.example == ("call: hop {}", "result: 8", "model: it is 8", "end: answered")


def test_a_long_example_is_shortened_in_the_middle():
    lines = [f"line {number}" for number in range(100)]
    example = block_of(up_to(6), transcript="\n".join(lines)).example
    assert len(example) == MOST_LINES
    assert (example[0], example[6], example[-1]) == ("line 0", "… 89 lines left out …", "line 99")


def test_nothing_is_said_of_failures_when_there_are_none():
    block = block_of(up_to(64))
    assert (block.failure, block.example) == ("", ())
    assert "fails by" not in {fact.label for fact in block.facts}
    assert "shape: no fall seen" in fact(block, "climb")


def test_ladders_of_several_reliabilities_say_which():
    data = run(
        climb_trial("chain", climbed(up_to(6))),
        climb_trial("dag", climbed(up_to(6), reliability=0.5)),
    )
    text = "\n".join(lines_of(data))
    assert "highest level passed with its reliability, as all below" in text
    assert "dag: reliability 0.5" in text
    assert "80 % of the time" in "\n".join(lines_of(limits()))


def test_several_climbs_of_a_check_are_told_apart():
    first, second = (climb_trial("chain", climbed(up_to(n))) for n in (6, 12))
    plan = second.plan.model_copy(update={"trial": 2})
    data = run(first, second.model_copy(update={"plan": plan, "nodeid": "chain[open-claw-t2]"}))
    (ladders,) = view_of(data).models[0].ladders
    assert [one.texts[:2] for one in ladders.table.rows] == [
        ("chain, trial 1", "6"),
        ("chain, trial 2", "12"),
    ]


def test_two_models_on_a_ladder_are_compared_by_their_chances():
    (section,) = view_of(two_climbers()).head_to_head
    said = [fact.parts for fact in section.pairs[0].facts if fact.label == "ladder"]
    assert said == [
        (
            "chain: P(A above B) 99 %, tied 1 %",
            "A 12 (90 %: 8–12, n = 32)",
            "B 6 (90 %: 4–6, n = 29)",
        ),
        (
            "ledger: P(A above B) 1 %, tied 99 %",
            "A not even 1 (90 %: 0–0, n = 8)",
            "B not even 1 (90 %: 0–0, n = 8)",
        ),
        ("dag: not compared, other levels or reliability",),
    ]


def test_junit_has_the_ceilings_as_properties():
    data = limits()
    root = ET.fromstring(to_junit(summarise(data), data))
    found = {
        case.attrib["name"]: {p.attrib["name"]: p.attrib["value"] for p in case.iter("property")}
        for case in root.iter("testcase")
    }
    chain, fanout, nothing = (found[f"test_{name}"] for name in ("chain", "fanout", "haystack"))
    assert [chain[f"ceiling{key}"] for key in ("", "_low", "_high", "_interval", "_trials")] == [
        *("6", "4", "6", "0.9", "29")
    ]
    assert (fanout["ceiling_at_least"], fanout["ceiling_verdict"]) == ("4", "pass")
    assert nothing["ceiling_trials"] == "0"
    assert not {"ceiling", "ceiling_low", "ceiling_interval"} & nothing.keys()


def test_junit_tells_several_climbs_of_a_check_apart():
    first, second = (climb_trial("chain", climbed(up_to(n))) for n in (6, 12))
    plan = second.plan.model_copy(update={"trial": 2})
    data = run(first, second.model_copy(update={"plan": plan}))
    text = to_junit(summarise(data), data)
    assert 'name="ceiling_t1" value="6"' in text
    assert 'name="ceiling_t2" value="12"' in text


# nothing a model wrote becomes more than text


def test_hostile_texts_stay_text_in_markdown():
    tokens = COMMONMARK.parse(to_markdown(view_of(hostile_ladder())))
    inline = {child.type for token in tokens for child in token.children or ()}
    assert inline <= HARMLESS
    kinds = {re.sub("_(open|close)$", "", token.type) for token in tokens}
    assert kinds <= {
        *("heading", "paragraph", "inline", "bullet_list", "list_item", "fence"),
        *("table", "thead", "tbody", "tr", "th", "td"),
    }
    plain = COMMONMARK.parse(to_markdown(view_of(run(climb_trial("chain", climbed(up_to(6)))))))
    for kind in ("heading_open", "table_open", "tr_open", "fence"):
        counts = [sum(token.type == kind for token in some) for some in (tokens, plain)]
        assert counts[0] == counts[1]
    code = [c.content for t in tokens for c in t.children or () if c.type == "code_inline"]
    assert any("<img src=x onerror=alert(1)> | [click](http://evil.example)" in c for c in code)


def test_the_fence_of_a_curve_holds_our_own_numbers_only():
    tokens = COMMONMARK.parse(to_markdown(view_of(hostile_ladder())))
    (fence,) = (token for token in tokens if token.type == "fence")
    assert fence.info == "text"
    assert re.fullmatch(r"[\d\s█·/–%,]+", re.sub("level|passed|P50|ms", "", fence.content))


def test_hostile_texts_start_no_command_of_a_runner():
    data = hostile_ladder()
    view = view_of(data)
    assert not re.search(r"^\s*::", step_summary(view), re.MULTILINE)
    for command in workflow_commands(view, summarise(data), data):
        assert "\n" not in command
        assert "\x1b" not in command


def test_a_hostile_message_reaches_no_report_raw():
    data = hostile_ladder()
    summary, view = summarise(data), view_of(data)
    everything = [to_markdown(view), to_junit(summary, data), *lines_of(data, verbose=True)]
    for text in (*everything, summary.models[0].ladders[0].example or ""):
        assert not re.search("[\x1b\x07\ud800\u202e]", text)
    assert "\x1b" in HOSTILE
