from __future__ import annotations

from typing import Any

import pytest
from harness_kit import ASKS_ONCE, SILENT, WORKS, Stage

from pytest_agentlimit.chat.messages import ChatRequest
from pytest_agentlimit.errors import (
    DeadlineExceeded,
    EndpointError,
    ExpectationFailed,
    HTTPFailure,
    StreamFailure,
)
from pytest_agentlimit.harness.result import HarnessRun
from pytest_agentlimit.testing import Scripted, call, calls, hang, http_error, say

MAKES_IT = [call("bash", cmd="echo hello > hello.txt"), say("I made it.")]
LEAK = '{"name": "bash", "arguments": {"cmd": "echo hello > hello.txt"}}'


def test_a_run_that_does_its_task_finishes(stage: Stage) -> None:
    run = stage.run(WORKS, MAKES_IT, check=True)
    assert (run.outcome, run.blame, run.problems) == ("finished", None, ())
    assert run.changes.made == ("hello.txt",)
    assert run.process.exit_code == 0
    assert run.process.final_text == "I made it."
    assert run.expect_finished() is run


def test_the_silent_pass_is_failed_and_the_engine_is_blamed(stage: Stage) -> None:
    body = WORKS + '\nprint(json.dumps({"result": "Done!", "is_error": False}))'
    output = {"form": "jsonl", "text": "result", "error": "is_error"}
    run = stage.run(body, [say(LEAK)], output=output)
    assert run.process.exit_code == 0
    assert (run.process.final_text, run.process.says_failed) == ("Done!", False)
    assert (run.outcome, run.blame) == ("failed", "engine")
    assert run.wire.leaked_calls == 1
    assert not run.wire.calls
    assert run.problems[0].startswith("exit code 0, it says all went well, and the call it ends ")
    assert "hello.txt" in run.problems[0]
    assert "it called no tool and changed no file" in run.problems
    assert run.transcript.stopped_because == "leaked_call"


def test_a_silent_pass_cannot_be_overlooked(stage: Stage) -> None:
    with pytest.raises(ExpectationFailed, match="was never run") as caught:
        stage.run(WORKS, [say(LEAK)], check=True)
    assert caught.value.blame == "engine"
    assert "turns: 1, tool calls: 0" in str(caught.value)


def test_a_program_that_asks_nothing_is_nobody_s_result(stage: Stage) -> None:
    run = stage.run('sys.exit("no such option: --print")', [say("never")])
    assert (run.outcome, run.blame) == ("infra", "config")
    assert "asked the model nothing (exit code 1" in run.problems[0]
    assert "It wrote last: no such option: --print" in run.problems[0]
    with pytest.raises(EndpointError, match="asked the model nothing") as caught:
        run.expect_finished()
    assert (caught.value.kind, caught.value.outcome) == ("harness_silent", "infra")


def test_exit_0_without_a_request_is_no_pass(stage: Stage) -> None:
    run = stage.run(SILENT, [say("never")])
    assert (run.process.exit_code, run.outcome) == (0, "infra")
    assert "all done" in run.problems[0]


def test_requests_that_are_none_are_told(stage: Stage) -> None:
    run = stage.run('ask([{"role": "nobody", "content": 3}])', [say("never")])
    assert (run.outcome, run.blame) == ("infra", "config")
    assert "of 1 request none could be passed on" in run.problems[0]
    assert not stage.exchanges


def test_a_wrong_key_reaches_nothing(stage: Stage) -> None:
    run = stage.run(ASKS_ONCE, [say("never")], env={"MODEL_URL": "{url}", "MODEL_KEY": "guessed"})
    assert run.outcome == "infra"
    assert not run.wire.requests


def test_an_endpoint_that_fails_is_not_the_model(stage: Stage) -> None:
    run = stage.run(WORKS, [http_error(500, "the disk is full")])
    assert (run.outcome, run.blame) == ("infra", "engine")
    assert "the disk is full" in run.problems[0]
    assert run.wire.failed == 1
    with pytest.raises(HTTPFailure) as caught:
        run.expect_finished()
    assert caught.value.status == 500


def test_a_cut_stream_is_not_the_model(stage: Stage) -> None:
    run = stage.run(WORKS, [say("a long story " * 20, cut_after=3, stream=True)])
    assert (run.outcome, run.blame) == ("infra", "engine")
    with pytest.raises(StreamFailure):
        run.expect_finished()


def test_an_endpoint_that_hangs_is_a_timeout_of_the_engine(stage: Stage) -> None:
    deadlines = {"first_byte_s": 0.2, "total_s": 1.0}
    run = stage.run(WORKS, [hang()], endpoint={"deadlines": deadlines})
    assert (run.outcome, run.blame) == ("timeout", "engine")
    with pytest.raises(DeadlineExceeded) as caught:
        run.expect_finished()
    assert caught.value.kind == "hung"


def test_out_of_time_while_the_endpoint_thinks(stage: Stage) -> None:
    run = stage.run(WORKS, [hang()], timeout_s=3.0)
    assert (run.outcome, run.blame) == ("timeout", "engine")
    assert run.process.timed_out
    assert run.process.exit_code is None
    assert "while a request was under way" in run.problems[0]
    with pytest.raises(DeadlineExceeded) as caught:
        run.expect_finished()
    assert caught.value.kind == "harness_timeout"
    (exchange,) = stage.exchanges
    assert isinstance(exchange.error, DeadlineExceeded)


def test_out_of_time_on_its_own(stage: Stage) -> None:
    run = stage.run(WORKS + "\ntime.sleep(600)", [say("Done.")], timeout_s=3.0)
    assert (run.outcome, run.blame) == ("timeout", "config")
    assert "while no request was under way" in run.problems[0]
    assert [exchange.error for exchange in stage.exchanges] == [None]


def test_a_model_that_goes_round_in_circles(stage: Stage) -> None:
    run = stage.run(WORKS, [call("bash", cmd="ls")], max_turns=3)
    assert (run.outcome, run.blame) == ("failed", "model")
    assert run.wire.turn_limit
    assert (run.wire.turns, run.wire.requests) == (3, 4)
    assert run.transcript.stopped_because == "max_steps"
    assert len(run.transcript.steps) == len(stage.exchanges) == 3


def test_a_program_that_asks_on_and_on_is_counted(stage: Stage) -> None:
    body = 'for _ in range(120):\n    ask([{"role": "user", "content": GOAL}])'
    run = stage.run(body, [call("bash", cmd="ls")], max_turns=2)
    assert (run.outcome, run.blame) == ("failed", "model")
    assert (run.wire.turns, run.wire.retries, run.wire.requests) == (1, 1, 120)


def test_refused_requests_beside_the_work_are_no_circle(stage: Stage) -> None:
    body = WORKS + '\nask([{"role": "user", "content": "A title, please"}], tools=())'
    run = stage.run(body, MAKES_IT, max_turns=2)
    assert run.outcome == "finished"
    assert run.wire.requests == 3


@pytest.mark.parametrize(
    ("last", "blame", "why", "stopped"),
    [
        (say("I was about to", stop_reason="max_tokens"), "config", "cut short", "truncated"),
        (say(""), "model", "the last reply was empty", "empty"),
    ],
)
def test_a_bad_last_reply(stage: Stage, last: Scripted, blame: str, why: str, stopped: str) -> None:
    run = stage.run(WORKS, [call("bash", cmd="ls"), last])
    assert (run.outcome, run.blame) == ("failed", blame)
    assert why in run.problems[0]
    assert run.transcript.stopped_because == stopped


def test_a_call_nobody_can_run_is_the_model_s(stage: Stage) -> None:
    run = stage.run(WORKS, [calls(("bash", '["no", "object"]'))])
    assert (run.outcome, run.blame) == ("failed", "model")
    assert "could not be passed on" in run.problems[0]
    (exchange,) = stage.exchanges
    assert exchange.error is None
    assert exchange.reply is not None
    assert exchange.reply.tool_calls[0].parse_error


@pytest.mark.parametrize("code", [3, 1])
def test_a_program_that_crashes_after_good_work(stage: Stage, code: int) -> None:
    run = stage.run(WORKS + f'\nprint("kaputt", file=sys.stderr)\nsys.exit({code})', MAKES_IT)
    assert (run.outcome, run.blame) == ("infra", "config")
    assert f"with an error (exit code {code}" in run.problems[0]
    assert "kaputt" in run.problems[0]
    with pytest.raises(EndpointError) as caught:
        run.expect_finished()
    assert caught.value.kind == "harness_crash"


def test_a_program_that_says_it_failed_did(stage: Stage) -> None:
    body = WORKS + '\nprint(json.dumps({"error": {"message": "cost limit"}}))'
    run = stage.run(body, MAKES_IT, output={"form": "jsonl", "error": "error.message"})
    assert (run.process.exit_code, run.process.says_failed) == (0, True)
    assert (run.outcome, run.blame) == ("infra", "config")
    assert "says that it failed" in run.problems[0]


def test_a_leak_is_the_engine_s_whatever_the_exit_code(stage: Stage) -> None:
    run = stage.run(WORKS + "\nsys.exit(1)", [say(LEAK)])
    assert (run.outcome, run.blame) == ("failed", "engine")


def test_retries_are_told_of_a_run_that_finishes(stage: Stage) -> None:
    body = f"{ASKS_ONCE}\n{ASKS_ONCE}\n{WORKS}"
    run = stage.run(body, [http_error(500), http_error(503), *MAKES_IT])
    assert run.outcome == "finished"
    assert (run.wire.requests, run.wire.turns, run.wire.retries, run.wire.failed) == (4, 2, 2, 2)
    assert "2 requests asked the same again, unseen in its result" in run.problems
    assert "2 of 4 requests failed" in run.problems
    assert len(run.transcript.steps) == 2


def test_requests_beside_the_work_are_told(stage: Stage) -> None:
    title = 'ask([{"role": "user", "content": "A title for: " + GOAL}], tools=())\n'
    run = stage.run(title + WORKS, [say("A title"), *MAKES_IT])
    assert run.outcome == "finished"
    assert (run.wire.turns, run.wire.background) == (2, 1)
    assert "1 request beside the work" in run.problems
    assert len(run.transcript.steps) == 2


def test_helpers_with_tools_and_instructions_of_their_own_are_beside_the_work(
    stage: Stage,
) -> None:
    body = """
messages = [{"role": "user", "content": GOAL}]
messages += [ask(messages, system="You are the agent.")]
remember = {"name": "remember", "description": "", "parameters": {"type": "object"}}
ask([{"role": "user", "content": "What was that?"}], tools=[remember], system="You remember.")
"""
    run = stage.run(body, [say("Done."), say("")])
    assert (run.outcome, run.wire.turns, run.wire.background) == ("finished", 1, 1)
    assert run.transcript.final_text == "Done."


def test_a_helper_that_comes_first_is_beside_the_work(stage: Stage) -> None:
    body = """
plan = {"name": "plan", "description": "", "parameters": {"type": "object"}}
ask([{"role": "user", "content": "Is the repository clean?"}], tools=[plan], system="A check.")
"""
    run = stage.run(body + WORKS, [call("plan"), *MAKES_IT])
    assert (run.outcome, run.wire.turns, run.wire.background) == ("finished", 2, 1)
    assert [made.name for made in run.transcript.calls] == ["shell"]
    assert [made.name for made in run.wire.calls] == ["plan", "shell"]


def test_tools_loaded_on_the_way_stay_the_same_work(stage: Stage) -> None:
    body = """
messages = [{"role": "user", "content": GOAL}]
messages += [ask(messages, system="You are the agent."), {"role": "user", "content": "go on"}]
more = {"name": "more", "description": "", "parameters": {"type": "object"}}
ask(messages, tools=[SHELL, more], system="You are the agent.")
"""
    run = stage.run(body, [say("One."), say("Two.")])
    assert (run.wire.turns, run.wire.background) == (2, 0)
    assert run.transcript.final_text == "Two."


def test_a_program_without_tools_works_all_the_same(stage: Stage) -> None:
    body = """
reply = ask([{"role": "user", "content": GOAL}], tools=())
open("hello.txt", "w").write(reply["content"])
"""
    run = stage.run(body, [say("hello")])
    assert (run.outcome, run.problems) == ("finished", ())
    assert (run.wire.turns, run.wire.background) == (1, 0)


LEAVES = """
connection = http.client.HTTPConnection(PLACE.hostname, PLACE.port)
headers = {"authorization": "Bearer " + os.environ["MODEL_KEY"]}
asked = {"model": "m", "messages": [{"role": "user", "content": GOAL}],
    "tools": [{"type": "function", "function": SHELL}]}
connection.request("POST", "/v1/chat/completions", json.dumps(asked), headers)
connection.sock.settimeout(0.5)
try:
    connection.getresponse()
except TimeoutError:
    print("request timed out", file=sys.stderr)
connection.close()
"""


@pytest.mark.parametrize("code", [0, 1])
def test_a_program_without_patience_has_not_finished(stage: Stage, code: int) -> None:
    run = stage.run(f"{LEAVES}\nsys.exit({code})", [hang()])
    assert (run.outcome, run.blame) == ("infra", "config")
    assert "it did not wait for its last reply" in run.problems[0]
    assert "It wrote last: request timed out" in run.problems[0]
    assert "1 request given up by the program before the reply was whole" in run.problems


def test_what_is_given_up_after_the_end_does_not_spoil_it(stage: Stage) -> None:
    def replies(request: ChatRequest) -> Scripted:
        asked = len(stage.server.chat_requests) if stage.server else 0
        return [*MAKES_IT, hang()][asked - 1]

    run = stage.run(WORKS + LEAVES, replies)
    assert (run.outcome, run.wire.turns) == ("finished", 3)
    assert run.transcript.final_text == "I made it."
    assert run.problems == ("1 request given up by the program before the reply was whole",)


def test_words_without_deeds_are_told(stage: Stage) -> None:
    run = stage.run(WORKS, [say("I have created the file.")])
    assert run.outcome == "finished"  # a check's own expectations judge what came of it
    assert run.problems == ("exit code 0, yet it called no tool and changed no file",)


def test_a_prompt_beyond_the_declared_context_is_told(stage: Stage) -> None:
    usage = {"usage": {"input_tokens": 9000, "output_tokens": 5}}
    run = stage.run(WORKS, [MAKES_IT[0], say("Done.", **usage)], endpoint={"context_window": 8192})
    assert run.wire.largest_prompt == 9000
    assert run.problems == ("a prompt of 9000 tokens passed the 8192 declared",)


@pytest.mark.parametrize("outcome", ["infra", "timeout", "failed"])
def test_a_stored_run_raises_the_same(stage: Stage, outcome: str) -> None:
    replies: dict[str, Any] = {"infra": http_error(500), "timeout": hang(), "failed": say("")}
    deadlines = {"first_byte_s": 0.2, "total_s": 1.0}
    run = stage.run(WORKS, [replies[outcome]], endpoint={"deadlines": deadlines})
    stored = HarnessRun.model_validate_json(run.model_dump_json())
    kinds = {"infra": EndpointError, "timeout": DeadlineExceeded, "failed": ExpectationFailed}
    with pytest.raises(kinds[outcome]) as caught:
        stored.expect_finished()
    assert caught.value.blame == run.blame  # type: ignore[attr-defined]
