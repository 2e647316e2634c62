from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import pytest
from claw_scenarios import (
    SCENARIOS,
    SUMMARY,
    Played,
    goal,
    play,
    play_alone,
    scripted_model,
)
from fake_claw import Failure, Stream

from pytest_agentlimit.chat.messages import Dialect
from pytest_agentlimit.errors import ExpectationFailed, HTTPFailure, StreamFailure
from pytest_agentlimit.testing import anthropic_grammar, call, http_error, say

DIALECTS = get_args(Dialect)
READ = call("read_file", path="fixture.txt")


# the twelve


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("name", SCENARIOS)
def test_a_scenario_ends_as_it_should(name: str, dialect: Dialect, tmp_path: Path) -> None:
    scenario = SCENARIOS[name]
    played = play(
        tmp_path,
        scripted_model,
        goal(name),
        dialect=dialect,
        mode=scenario.mode,
        answer=scenario.answer,
    )
    run = played.run
    assert (run.outcome, run.blame) == ("finished", None), run.problems
    check_wire(played, scenario.requests)
    made = [(one.name, dict(one.arguments)) for one in run.wire.calls]
    assert made == list(scenario.calls)
    files = {name: (played.folder / name).read_text() for name in run.changes.made}
    assert files == dict(scenario.made)
    assert (run.changes.changed, run.changes.removed) == ((), ())
    result = played.result
    assert run.process.exit_code == 0
    assert run.process.final_text == result["message"] == scenario.last_words
    assert result["iterations"] == scenario.requests
    assert [one["is_error"] for one in result["tool_results"]] == list(scenario.errors)
    assert len(result["tool_uses"]) == len(scenario.calls)
    told = [result for step in run.transcript.steps for result in step.results]
    assert [result.is_error for result in told] == list(scenario.errors)
    assert " | ".join(result.content for result in told) == scenario.told


def check_wire(played: Played, requests: int) -> None:
    wire = played.run.wire
    assert (wire.requests, wire.turns) == (requests, requests)
    assert (wire.background, wire.retries, wire.failed, wire.leaked_calls) == (0, 0, 0, 0)
    assert len(played.server.chat_requests) == len(played.replies) == requests
    assert all(request.stream for request in played.server.chat_requests)
    preflights = [one["status"] for one in played.exchanges if one not in played.replies]
    assert preflights == [200] * requests
    for reply in played.replies:
        assert anthropic_grammar(reply["got"].encode()) == []


def test_the_twelve_are_twenty_one_requests() -> None:
    assert len(SCENARIOS) == 12
    assert sum(scenario.requests for scenario in SCENARIOS.values()) == 21


@pytest.mark.parametrize("dialect", DIALECTS)
def test_tokens_and_cost_are_those_the_server_counted(dialect: Dialect, tmp_path: Path) -> None:
    name = "token_cost_reporting"
    played = play(tmp_path, scripted_model, goal(name), dialect=dialect)
    usage = played.result["usage"]
    cached = 0 if dialect == "ollama" else 400  # which does not say what came from its cache
    assert usage == {
        "input_tokens": 1_000 - cached,
        "output_tokens": 500,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": cached,
    }
    events = [{"cache_read_input_tokens": cached}] if cached else []
    assert played.result["prompt_cache_events"] == events
    assert played.result["estimated_cost"] == ("$0.0094" if cached else "$0.0105")
    assert (played.run.wire.input_tokens, played.run.wire.output_tokens) == (1_000, 500)


def test_a_long_talk_is_compacted(tmp_path: Path) -> None:
    played = play(tmp_path, scripted_model, goal("auto_compact_triggered"))
    assert played.result["auto_compaction"]["removed_messages"] == 1


def test_a_request_for_a_summary_is_no_turn_of_the_work(tmp_path: Path) -> None:
    name = "read_file_roundtrip"
    played = play(tmp_path, scripted_model, goal(name), compact_above=9, compact_by="model")
    run = played.run
    assert run.outcome == "finished"
    assert (run.wire.requests, run.wire.turns, run.wire.background) == (4, 2, 2)
    assert played.result["auto_compaction"]["summary"] == SUMMARY
    assert run.process.final_text == SCENARIOS[name].last_words


def test_a_plugin_answers_in_json_and_the_model_reads_text(tmp_path: Path) -> None:
    played = play(tmp_path, scripted_model, goal("plugin_tool_roundtrip"))
    sent = played.replies[1]["sent"]["messages"][-1]["content"][0]["content"]
    assert sent == [{"type": "json", "value": {"message": "hello from the plugin"}}]
    got = played.server.requests[-1].body["messages"][-1]["content"]
    assert json.loads(got) == {"message": "hello from the plugin"}


# what goes wrong


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_cut_reply_is_not_the_models_fault(dialect: Dialect, tmp_path: Path) -> None:
    cut = say("The file is about").with_(piece_chars=4, cut_after=1)
    played = play(tmp_path, [READ, cut], dialect=dialect)
    run = played.run
    assert run.outcome == "infra"
    assert run.blame not in (None, "model")
    assert run.process.exit_code == 1
    assert run.process.stderr.startswith("error: ")
    last = played.replies[-1]["got"]
    assert last.count("event: error") == 1
    assert anthropic_grammar(last.encode()) == []
    with pytest.raises(StreamFailure):
        run.expect_finished()


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_call_written_as_text_is_no_success(dialect: Dialect, tmp_path: Path) -> None:
    written = {"name": "write_file", "arguments": {"path": "output.txt", "content": "x"}}
    played = play(tmp_path, [say(json.dumps(written))], dialect=dialect)
    run = played.run
    assert run.process.exit_code == 0
    assert json.loads(played.result["message"]) == written
    assert (run.outcome, run.blame) == ("failed", "engine")
    assert run.wire.leaked_calls == 1
    assert run.changes.made == ()
    with pytest.raises(ExpectationFailed):
        run.expect_finished()


def test_a_loop_without_end_ends_at_the_turn_limit(tmp_path: Path) -> None:
    played = play(tmp_path, [READ], max_turns=5)
    run = played.run
    assert len(played.server.chat_requests) == 5
    assert (run.wire.turns, run.wire.turn_limit) == (5, True)
    assert (run.outcome, run.blame) == ("failed", "model")
    assert run.process.exit_code == 1


def test_a_model_that_is_denied_three_times_may_give_up(tmp_path: Path) -> None:
    write = call("write_file", path="output.txt", content="x")
    played = play(tmp_path, [write, write, write, say("I may not.")], mode="read-only")
    run = played.run
    assert (run.outcome, run.wire.turns) == ("finished", 4)
    assert [one["is_error"] for one in played.result["tool_results"]] == [True] * 3
    assert run.changes.made == ()
    assert run.process.final_text == "I may not."
    told = [result for step in run.transcript.steps for result in step.results]
    assert len(told) == 3
    assert all("permission denied" in result.content for result in told)


def test_eight_retries_of_a_broken_server_are_seen(tmp_path: Path) -> None:
    played = play(tmp_path, [http_error(500, "out of order")])
    run = played.run
    assert (run.wire.failed, run.wire.retries) == (9, 8)
    assert run.outcome == "infra"
    assert run.blame not in (None, "model")
    with pytest.raises(HTTPFailure, match="out of order"):
        run.expect_finished()


# what surrounds it


def test_nothing_of_the_users_reaches_the_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OLLAMA_HOST", "ANTHROPIC_AUTH_TOKEN", "CLAW_OUTPUT_FORMAT", "SECRET_OF_MINE"):
        monkeypatch.setenv(name, "text")
    played = play(tmp_path, [say("Hello.")])
    env = played.started["env"]
    anthropic = {"ANTHROPIC_BASE_URL", "ANTHROPIC_API_KEY", "CLAW_CONFIG_HOME"}
    own = {"FAKE_CLAW_TRACE", "FAKE_CLAW_BACKOFF_S"}
    assert set(env) == {"PATH", "LANG", "HOME", "TMPDIR", "NO_COLOR"} | anthropic | own
    assert env["CLAW_CONFIG_HOME"].startswith(env["HOME"])
    assert played.started["cwd"] == str(played.folder)
    assert not Path(env["HOME"]).exists()
    assert env["ANTHROPIC_API_KEY"] not in str(played.server.requests)


def test_a_model_whose_name_means_a_cloud_to_claw_is_asked_all_the_same(tmp_path: Path) -> None:
    played = play(tmp_path, [say("Hello.")], model="qwen3:8b")
    assert played.run.outcome == "finished"
    assert played.server.requests[-1].body["model"] == "qwen3:8b"


def test_the_preset_needs_nobody_to_type_an_answer(tmp_path: Path) -> None:
    played = play(tmp_path, scripted_model, goal("bash_permission_prompt_denied"))
    assert played.run.changes.made == ("denied.txt",)


# the stand-in by itself


def test_the_stand_in_puts_fragments_together_and_does_without_a_count(tmp_path: Path) -> None:
    name = "grep_chunk_assembly"
    only = ("--allowedTools", "grep_search")
    alone = play_alone(tmp_path, scripted_model, *only, "prompt", goal(name))
    assert (alone.exit_code, alone.stdout) == (0, SCENARIOS[name].last_words + "\n")
    assert [one["status"] for one in alone.exchanges] == [404, 200] * 2
    assert alone.exchanges[1]["got"].count("input_json_delta") == 3
    assert [tool["name"] for tool in alone.exchanges[1]["sent"]["tools"]] == ["grep_search"]


def test_the_stand_in_asks_for_no_permission_when_told_not_to(tmp_path: Path) -> None:
    task = goal("bash_permission_prompt_denied")
    alone = play_alone(tmp_path, scripted_model, "--dangerously-skip-permissions", "prompt", task)
    assert (alone.stdout, alone.stderr) == ("The tools say: denied.\n", "")


@pytest.mark.parametrize(
    ("arguments", "piped"),
    [(("-p", "hi"), ""), (("hi",), ""), ((), "hi"), (("prompt", "hi"), "")],
    ids=["flag", "bare", "stdin", "command"],
)
def test_the_stand_in_takes_its_prompt(
    arguments: tuple[str, ...], piped: str, tmp_path: Path
) -> None:
    alone = play_alone(tmp_path, [say("Hello.")], *arguments, stdin=piped)
    assert alone.stdout == "Hello.\n"
    assert alone.exchanges[-1]["sent"]["messages"] == [{"role": "user", "content": "hi"}]


COUNTS = {"input_tokens": 3, "output_tokens": 1}
TEXT = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
GOOD: tuple[dict[str, Any], ...] = (
    {"type": "message_start", "message": {"usage": COUNTS}},
    TEXT,
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": COUNTS},
    {"type": "message_stop"},
)
BAD: dict[str, tuple[int, dict[str, Any] | None]] = {
    "no start": (0, None),
    "two starts": (1, GOOD[0]),
    "usage without input": (0, {"type": "message_start", "message": {"usage": {}}}),
    "half a token": (
        0,
        {"type": "message_start", "message": {"usage": COUNTS | {"output_tokens": 0.5}}},
    ),
    "less than no token": (4, GOOD[4] | {"usage": {"output_tokens": -1}}),
    "more than 32 bits": (4, GOOD[4] | {"usage": {"output_tokens": 2**32}}),
    "block 1 first": (1, TEXT | {"index": 1}),
    "two blocks open": (3, TEXT | {"index": 1}),
    "arguments of a text": (
        2,
        GOOD[2] | {"delta": {"type": "input_json_delta", "partial_json": "{}"}},
    ),
    "a delta nobody knows": (2, GOOD[2] | {"delta": {"type": "citations_delta"}}),
    "an event nobody knows": (3, {"type": "content_block_note", "index": 0}),
    "an error": (3, {"type": "error", "error": {"type": "api_error", "message": "broken"}}),
    "no message_delta": (4, None),
    "no end": (5, None),
    "more after the end": (6, GOOD[3]),
}


def read(events: Sequence[dict[str, Any]]) -> Stream:
    stream = Stream()
    for event in events:
        stream.take(event["type"], json.dumps(event))
    stream.end()
    return stream


def test_the_stand_in_reads_a_good_stream() -> None:
    ping = {"type": "ping"}
    stream = read([ping, *GOOD[:3], ping, *GOOD[3:]])
    stream.take("", "[DONE]")
    assert stream.blocks == [{"type": "text", "text": "Hi"}]
    assert (stream.usage["input_tokens"], stream.usage["output_tokens"]) == (3, 1)


@pytest.mark.parametrize("case", BAD)
def test_the_stand_in_takes_no_broken_stream(case: str) -> None:
    place, event = BAD[case]
    with pytest.raises(Failure):
        read([*GOOD[:place], *([event] if event else []), *GOOD[place + 1 :]])


def test_the_stand_in_fails_with_what_the_server_said(tmp_path: Path) -> None:
    alone = play_alone(tmp_path, [http_error(400, "no such thing")], "hi")
    assert (alone.exit_code, alone.stdout) == (1, "")
    assert alone.stderr.startswith("error: api returned 400: ")
    assert "no such thing" in alone.stderr
