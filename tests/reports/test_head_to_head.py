from __future__ import annotations

import pytest
from markdown_it import MarkdownIt
from report_samples import (
    FINGERPRINT,
    GEMMA,
    HOSTILE,
    OPEN_CLAW,
    april,
    run,
    six_rounds,
    study,
    trial,
)
from rich.cells import cell_len

from pytest_agentlimit.reports.markdown import to_markdown
from pytest_agentlimit.reports.terminal import terminal_lines
from pytest_agentlimit.reports.view import RunView, build_view
from pytest_agentlimit.runs.locking import lock_of
from pytest_agentlimit.runs.records import GateSettings, RunData
from pytest_agentlimit.runs.summary import summarise

SLOW = tuple(2 * ms for ms in OPEN_CLAW)


def view_of(data: RunData) -> RunView:
    return build_view(summarise(data), data)


def text_of(data: RunData, width: int = 80, unicode: bool = True) -> str:
    lines = terminal_lines(view_of(data), width, unicode)
    return "\n".join(text for text, _ in lines) + "\n"


def pair_facts(data: RunData, index: int = 0) -> dict[str, str]:
    (section,) = view_of(data).head_to_head
    return {fact.label: " · ".join(fact.parts) for fact in section.pairs[index].facts}


def three_models() -> RunData:
    records = study("gemma4", GEMMA, ("multi_step_planning",))
    records += study("open-claw", OPEN_CLAW, ("tool_call_emission",))
    return run(*records, *study("smollm2", SLOW, ("code_generation", "strict_json_output")))


def held(records: list, locked: RunData, **fingerprint: object) -> RunData:
    known = {**FINGERPRINT, **fingerprint}
    return run(*records, gate=GateSettings(baseline=lock_of(locked)), fingerprint=known)


def test_one_model_has_no_head_to_head():
    assert view_of(six_rounds()).head_to_head == ()


def test_two_models_stand_side_by_side_with_numbers_and_a_sign():
    (section,) = view_of(april()).head_to_head
    assert [column.header for column in section.table.columns] == [
        "check", "weight", "A", "B", "A−B", "A P50", "B P50",
    ]  # fmt: skip
    rows = {row.texts[0]: row.texts[1:] for row in section.table.rows}
    assert rows["tool call emission"] == ("3", "1/1", "0/1", "+", "7922 ms", "6735 ms")
    assert rows["multi step planning"] == ("2", "0/1", "1/1", "−", "36.2 s", "6860 ms")
    assert rows["latency burst"] == ("1", "1/1", "1/1", "=", "2417 ms", "2260 ms")


def test_every_number_has_its_n_and_its_interval():
    assert pair_facts(april()) == {
        "difference": "+5.3 points (−29.8 … +39.4), 95 % interval · p = 1.0 (label swap) · "
        "n = 10 checks × 1 trial each",
        "smallest gap": "57.8 points could have been seen, 4 times in 5",
        "speed": "open-claw is faster in 9 of 10 checks: 1.69 times (1.08–2.65) · "
        "p = .021 (sign), .0039 (sign flip)",
        "verdict": "cannot tell: gemma4 against open-claw, +5.3 points (−29.8 … +39.4), p = 1.0; "
        "needs about 33 more rounds to see a gap of 10 points",
    }


def test_the_faster_model_is_named_whichever_side_it_is_on():
    data = run(*study("quick", OPEN_CLAW), *study("slow", tuple(ms + 900 for ms in SLOW)))
    assert pair_facts(data)["speed"].startswith("quick is faster in 10 of 10 checks: 2.")


def test_no_speed_is_claimed_within_noise():
    jitter = tuple(ms * (1.1 if i % 2 else 0.9) for i, ms in enumerate(OPEN_CLAW))
    data = run(*study("a", OPEN_CLAW), *study("b", jitter))
    speed = pair_facts(data)["speed"]
    assert speed.startswith("no difference in speed shown: a takes 1.01 times as long (0.93–1.08)")
    assert "n = 10 checks · p = 1.0 (sign)" in speed


def test_one_check_is_not_enough_for_a_speed():
    data = run(trial("a", "x"), trial("a", "y", latency_ms=1.0))
    assert "not enough checks" in pair_facts(data)["speed"]


def test_timeouts_are_left_out_of_the_speed_and_said():
    records = [*study("a", OPEN_CLAW), *study("b", SLOW)]
    records[0] = trial("basic_response", "a", outcome="failed", latency_ms=None, timed_out=True)
    facts = pair_facts(run(*records))
    assert "faster in 9 of 9 checks" in facts["speed"]
    assert facts["speed"].endswith("1 check with a timeout left out")
    alone = run(trial("a", "x", outcome="failed", latency_ms=None, timed_out=True), trial("a", "y"))
    assert pair_facts(alone)["speed"] == "not measured: a trial of each of 1 check timed out"


def test_checks_scored_on_one_side_only_are_counted_and_shown_as_a_dash():
    data = run(
        trial("a", "x"),
        trial("b", "x", outcome="infra", latency_ms=None),
        trial("a", "y"),
        trial("b", "y"),
    )
    assert "1 check left out: scored on one side only" in pair_facts(data)["difference"]
    (section,) = view_of(data).head_to_head
    rows = {row.texts[0]: row.texts for row in section.table.rows}
    assert rows["b"][2:6] == ("–", "1/1", "–", "–")


def test_nothing_in_common_is_not_measured():
    data = run(trial("a", "x"), trial("b", "y"))
    facts = pair_facts(data)
    assert facts["difference"] == "not measured"
    assert facts["speed"].startswith("not measured")
    assert "smallest gap" not in facts


def test_three_models_share_a_table_where_it_fits_and_are_paired():
    wide, narrow = text_of(three_models(), 100), text_of(three_models(), 60)
    assert wide.count("A P50    B P50    C P50") == 1
    assert "A P50    B P50    C P50" not in narrow
    assert narrow.count("A P50    C P50") == 1
    for text in (wide, narrow):
        for title in ("A gemma4 against B open-claw", "B open-claw against C smollm2"):
            assert f"{title}\n" in text
        assert text.replace("\n             ", " ").count("3 pairs, each judged on its own") == 1


@pytest.mark.parametrize("width", [40, 60, 80, 120])
@pytest.mark.parametrize("unicode", [True, False])
def test_no_line_is_wider_than_the_terminal(width, unicode):
    hostile = run(trial("a", HOSTILE[:60]), trial("a", "名前" * 40))
    for data in (april(), three_models(), hostile):
        text = text_of(data, width, unicode)
        assert all(cell_len(line) <= width for line in text.splitlines())
        assert unicode or text.isascii()


def test_ascii_keeps_the_signs():
    text = text_of(april(), unicode=False)
    assert "+5.3 points (-29.8 ... +39.4), 95 % interval, p = 1.0 (label swap)" in text
    assert "check                        weight    A    B  A-B    A P50    B P50" in text


def test_markdown_has_one_table_of_all_models():
    text = to_markdown(view_of(three_models()))
    assert "| check | weight | A | B | C | A P50 | B P50 | C P50 |" in text
    assert text.count("\n#### ") == 3
    assert "- **keep in mind**: 3 pairs, each judged on its own" in text


def test_names_from_outside_cannot_become_markup():
    data = run(trial("a", HOSTILE), trial("a", "| x | y |"))
    tokens = MarkdownIt("commonmark").enable("table").parse(to_markdown(view_of(data)))
    kinds = [token.type for token in tokens]
    inline = {child.type for token in tokens for child in token.children or ()}
    assert kinds.count("heading_open") == 4
    assert kinds.count("table_open") == 3
    assert inline <= {"text", "text_special", "code_inline", "strong_open", "strong_close"}


def test_files_are_headings_when_there_are_several():
    data = run(
        *(trial(f"{file}::test_a", model) for file in ("a.py", "b.py") for model in ("x", "y"))
    )
    assert "\na.py\na " in text_of(data)
    assert "| b.py |  |  |  |  |  |  |" in to_markdown(view_of(data))


def facts_of(data: RunData) -> dict[str, str]:
    (model,) = view_of(data).models
    return {fact.label: " · ".join(fact.parts) for fact in model.facts}


def test_a_report_says_how_a_model_stands_against_its_baseline_and_what_changed():
    locked = run(*study("open-claw", OPEN_CLAW))
    data = held(study("open-claw", OPEN_CLAW, ("code_generation",)), locked, quantisation="Q8_0")
    assert facts_of(data)["baseline"] == (
        "−10.5 points (−43.3 … +21.1) against open-claw of run 20261121T114200-3f9a, "
        "n = 10 checks × 1 trial each · quantisation Q4_K_M → Q8_0"
    )


def test_a_report_says_that_nothing_changed_as_well():
    locked = run(*study("open-claw", OPEN_CLAW))
    data = held(study("open-claw", OPEN_CLAW), locked)
    assert facts_of(data)["baseline"].endswith("same fingerprint")
    assert "baseline" not in facts_of(locked)


def test_what_cannot_be_compared_has_no_number():
    locked = run(*study("open-claw", OPEN_CLAW), trial("another", "open-claw"))
    data = held(study("open-claw", OPEN_CLAW), locked)
    assert facts_of(data)["baseline"] == (
        "cannot be compared with open-claw of run 20261121T114200-3f9a: see the gate"
    )
    assert " baseline" in text_of(data)
    stranger = held(study("new", OPEN_CLAW), run(trial("a", "x"), trial("a", "y")))
    assert facts_of(stranger)["baseline"] == "none for this model: see the gate"


def test_the_baseline_rule_is_printed_with_its_reason():
    locked = run(*(r for n in range(1, 9) for r in study("m", OPEN_CLAW, (), n)))
    worse = [
        r
        for n in range(1, 9)
        for r in study("m", OPEN_CLAW, ("tool_call_emission", "code_generation"), n)
    ]
    text = " ".join(text_of(held(worse, locked)).split())
    assert "gate FAIL" in text
    assert "baseline fail: worse than the baseline (m of run 20261121T114200-3f9a) by 26.3" in text
