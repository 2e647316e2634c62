from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from harness_kit import WORKS, Stage

from pytest_agentlimit.agents.workspace import Workspace
from pytest_agentlimit.chat.messages import ChatRequest, Dialect
from pytest_agentlimit.endpoints.inflight import Turnstile
from pytest_agentlimit.endpoints.literals import null_spec
from pytest_agentlimit.endpoints.nulls import NULL_MODELS
from pytest_agentlimit.errors import UsageProblem
from pytest_agentlimit.harness.harness import Harness
from pytest_agentlimit.testing import Scripted, ScriptedEndpoint, call, calls, hang, http_error, say

MAKES_IT = [call("bash", cmd="echo hello | tee hello.txt"), say("I made it.")]
SECRET = "not-for-programs-0123456789"


# what the program gets


def test_nothing_of_the_user_s_environment_passes(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_API_KEY", SECRET)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    body = 'open("env.json", "w").write(json.dumps(dict(os.environ)))\n' + WORKS
    endpoint = {"api_key_env": "MY_API_KEY"}
    run = stage.run(body, MAKES_IT, endpoint=endpoint)
    assert run.outcome == "finished"
    seen = json.loads((stage.workspace / "env.json").read_text())
    seen.pop("LC_CTYPE", None)  # Python sets it for itself
    assert seen.keys() == {
        *("PATH", "LANG", "HOME", "TMPDIR", "NO_COLOR", "MODEL_URL", "MODEL_KEY")
    }
    assert SECRET not in (stage.workspace / "env.json").read_text()
    assert seen["LANG"] == "C.UTF-8"
    assert seen["TMPDIR"] == f"{seen['HOME']}/tmp"
    assert not Path(seen["HOME"]).exists()
    # The endpoint gets the user's key, and the program only the bridge's.
    assert stage.server is not None
    assert stage.server.requests[0].headers["authorization"] == f"Bearer {SECRET}"


def test_it_works_in_the_workspace_with_a_home_to_write_to(stage: Stage) -> None:
    body = """
import tempfile
open(os.path.expanduser("~/state"), "w").close()
tempfile.NamedTemporaryFile().close()
print(os.getcwd(), os.listdir(os.environ["HOME"]), tempfile.gettempdir(), sep="|")
"""
    run = stage.run(body + WORKS, MAKES_IT)
    folder, home, temporary = run.process.stdout.splitlines()[0].split("|")
    assert folder == str(stage.workspace.resolve())
    assert sorted(json.loads(home.replace("'", '"'))) == ["state", "tmp"]
    assert temporary.endswith("/tmp")


def test_every_run_has_a_key_of_its_own_that_is_not_kept(stage: Stage) -> None:
    body = 'print(os.environ["MODEL_KEY"], end="", file=open("key", "w"))\n'
    body += 'print(os.environ["MODEL_KEY"])\nprint(os.environ["MODEL_KEY"], file=sys.stderr)\n'
    keys = []
    for _ in range(2):
        run = stage.run(body + WORKS, [say("Done.")])
        keys.append((stage.workspace / "key").read_text())
        assert len(keys[-1]) >= 24
        assert keys[-1] not in run.model_dump_json()
    assert keys[0] != keys[1]


def test_what_it_is_told_of_the_model(stage: Stage) -> None:
    env = {
        "MODEL_URL": "{url}",
        "MODEL_KEY": "{key}",
        "TOLD": "{model}|{context}|{max_tokens}|{max_turns}|{workspace}",
    }
    body = 'print(os.environ["TOLD"])\n' + WORKS
    endpoint = {"context_window": 8192, "max_tokens": 700, "model": "org/model:8b"}
    run = stage.run(body, MAKES_IT, env=env, endpoint=endpoint, max_turns=7)
    workspace = stage.workspace.resolve()
    assert run.process.stdout.splitlines()[0] == f"org/model:8b|8192|700|7|{workspace}"


def test_requests_beside_the_work_do_not_cost_it_a_turn(stage: Stage) -> None:
    title = 'ask([{"role": "user", "content": "A title"}], tools=())\n'
    replies = [say("A title"), *MAKES_IT]
    assert stage.run(title + WORKS, replies, max_turns=2, extra_requests=1).outcome == "finished"
    assert stage.run(title + WORKS, replies, max_turns=2).wire.turn_limit


def test_config_files_are_there_during_the_run_only(stage: Stage) -> None:
    files = {
        "{home}/.tiny/config.json": '{"key": "{key}", "other": {"braces": "stay"}}',
        "{workspace}/.tiny/rules.md": "Do this: {prompt}",
    }
    body = """
config = json.load(open(os.path.expanduser("~/.tiny/config.json")))
assert config["key"] == os.environ["MODEL_KEY"], config
assert open(".tiny/rules.md").read() == "Do this: " + GOAL
"""
    run = stage.run(body + WORKS, MAKES_IT, files=files, goal='say "hi" \\ there')
    assert (run.outcome, run.changes.made) == ("finished", ("hello.txt",))
    assert not (stage.workspace / ".tiny").exists()


def test_a_config_file_never_replaces_one_of_the_workspace(stage: Stage) -> None:
    (stage.workspace / "opencode.json").write_text("mine")
    with pytest.raises(UsageProblem, match="the workspace has a opencode.json, and tiny needs"):
        stage.run(WORKS, MAKES_IT, files={"{workspace}/opencode.json": "{}"})
    assert (stage.workspace / "opencode.json").read_text() == "mine"


def test_a_config_file_goes_through_no_link(stage: Stage, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (stage.workspace / "conf").symlink_to(outside)
    with pytest.raises(UsageProblem, match="links are not followed"):
        stage.run(WORKS, MAKES_IT, files={"{workspace}/conf/a.json": "{}"})
    assert not list(outside.iterdir())
    assert (stage.workspace / "conf").is_symlink()


# what it asked


@pytest.mark.parametrize("upstream", ["openai", "anthropic", "ollama"])
def test_the_transcript_is_in_our_words(stage: Stage, upstream: Dialect) -> None:
    run = stage.run(WORKS, MAKES_IT, upstream=upstream)
    first, last = run.transcript.steps
    (made,) = first.reply.tool_calls
    assert (made.name, made.arguments) == ("shell", {"command": "echo hello | tee hello.txt"})
    assert [(one.name, one.content) for one in first.results] == [("shell", "hello\n")]
    assert first.results[0].call_id == made.id
    assert (last.reply.text, last.results) == ("I made it.", ())
    assert run.transcript.stopped_because == "answered"
    assert run.transcript.expect_call("shell").arguments["command"].startswith("echo hello")
    assert run.wire.calls == (made,)
    assert "curl" in run.transcript.curl


def test_emulated_calls_are_calls_and_none_that_leaked(stage: Stage) -> None:
    made = {"tool_calls": [{"name": "bash", "arguments": {"cmd": "echo hello > hello.txt"}}]}
    replies = [say(json.dumps(made)), say(json.dumps({"answer": "I made it."}))]
    run = stage.run(WORKS, replies, endpoint={"tools": "emulate"})
    assert (run.outcome, run.problems) == ("finished", ())
    assert run.wire.leaked_calls == 0
    assert [one.name for one in run.transcript.calls] == ["shell"]
    assert run.transcript.final_text == "I made it."
    first, _ = stage.exchanges
    assert not first.request.tools  # as it was sent


def test_tools_that_are_not_mapped_keep_their_words(stage: Stage) -> None:
    run = stage.run(WORKS, MAKES_IT, tools={"grep": {"name": "rg"}})
    (made,) = run.transcript.calls
    assert (made.name, made.arguments) == ("bash", {"cmd": "echo hello | tee hello.txt"})


def test_of_two_that_are_one_tool_the_first_names_it(stage: Stage) -> None:
    run = stage.run(
        WORKS, MAKES_IT, tools={"write_file": {"name": "bash"}, "shell": {"name": "bash"}}
    )
    assert [made.name for made in run.transcript.calls] == ["write_file"]


def test_results_go_by_place_whatever_the_program_makes_of_ids(stage: Stage) -> None:
    # As OpenClaw does: ids of its own, and a user message behind the results.
    body = """
messages = [{"role": "user", "content": GOAL}]
reply = ask(messages)
made = [{**one, "id": one["id"].replace("_", "")} for one in reply["tool_calls"]]
messages.append({"role": "assistant", "tool_calls": made, "content": None})
for one in made:
    messages.append({"role": "tool", "tool_call_id": one["id"], "content": run(one)})
ask([*messages, {"role": "user", "content": "(the time is now)"}])
"""
    two = calls(("bash", {"cmd": "echo one"}), ("bash", {"cmd": "echo two"}))
    run = stage.run(body, [two, say("Done.")])
    first = run.transcript.steps[0]
    assert [one.content for one in first.results] == ["one\n", "two\n"]
    assert [one.call_id for one in first.results] == [one.id for one in first.reply.tool_calls]


def test_calls_sent_back_one_turn_each_keep_their_results(stage: Stage) -> None:
    body = """
messages = [{"role": "user", "content": GOAL}]
for one in ask(messages)["tool_calls"]:
    messages.append({"role": "assistant", "tool_calls": [one], "content": None})
    messages.append({"role": "tool", "tool_call_id": one["id"], "content": run(one)})
ask(messages)
"""
    two = calls(("bash", {"cmd": "echo one"}), ("bash", {"cmd": "echo two"}))
    run = stage.run(body, [two, say("Done.")])
    assert [one.content for one in run.transcript.steps[0].results] == ["one\n", "two\n"]


def test_a_call_that_ends_the_work_has_no_result(stage: Stage) -> None:
    run = stage.run('ask([{"role": "user", "content": GOAL}])', [call("bash", cmd="finish")])
    assert (run.outcome, run.transcript.stopped_because) == ("finished", "answered")
    assert run.transcript.steps[0].results == ()


def test_every_request_that_reached_the_endpoint_is_an_exchange(stage: Stage) -> None:
    body = 'ask([{"role": "user", "content": GOAL}])\n' + WORKS
    run = stage.run(body, [http_error(500), *MAKES_IT], max_turns=2)
    assert run.wire.requests == 3
    first, second = stage.exchanges
    assert first.error is not None
    assert (first.reply, first.error.kind) == (None, "server_error")
    assert second.error is None
    assert second.reply is not None
    assert second.reply.tool_calls[0].name == "bash"  # as it was said
    assert second.request.messages[0].text == "Make hello.txt"
    assert first.started < first.ended <= second.started < second.ended
    assert second.timing.total_s == pytest.approx(second.ended - second.started)
    assert second.reply.timing == second.timing
    assert second.timing.first_byte_s is not None


def test_streams_have_a_time_to_the_first_token(stage: Stage) -> None:
    body = """
body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": GOAL}]}
connection = http.client.HTTPConnection(PLACE.hostname, PLACE.port)
headers = {"x-api-key": os.environ["MODEL_KEY"]}
connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
connection.getresponse().read()
"""
    run = stage.run(body, [say("Well, well.", piece_chars=2, chunk_delay_s=0.01)])
    (exchange,) = stage.exchanges
    assert exchange.timing.ttft_s is not None
    assert 0 < exchange.timing.ttft_s < exchange.timing.total_s - 0.03
    assert run.wire.ttft_s == exchange.timing.ttft_s


def test_a_request_that_the_program_gave_up_is_no_failure_of_the_endpoint(stage: Stage) -> None:
    body = """
connection = http.client.HTTPConnection(PLACE.hostname, PLACE.port)
headers = {"authorization": "Bearer " + os.environ["MODEL_KEY"]}
asked = {"model": "m", "messages": [{"role": "user", "content": "a title"}]}
connection.request("POST", "/v1/chat/completions", json.dumps(asked), headers)
connection.sock.close()
"""

    def replies(request: ChatRequest) -> Scripted:
        return hang() if not request.tools else say("Done.")

    run = stage.run(WORKS + body, replies)
    assert run.outcome == "finished"
    assert all(exchange.error is None for exchange in stage.exchanges)
    assert stage.exchanges[0].reply is not None
    assert stage.exchanges[0].reply.text == "Done."


def test_sizes_and_counts_of_the_wire(stage: Stage) -> None:
    goal = "Make hello.txt " + "x" * 5000
    run = stage.run(WORKS, MAKES_IT, goal=goal)
    assert 5000 < run.wire.largest_request < 8000
    assert (run.wire.input_tokens, run.wire.output_tokens) == (20, 10)
    assert run.wire.largest_prompt == 10


def test_the_seed_is_sent_where_the_dialect_takes_it(stage: Stage) -> None:
    stage.run(WORKS, MAKES_IT, harness={"seed": 77})
    assert stage.server is not None
    assert [request.seed for request in stage.server.chat_requests] == [77, 77]


def test_one_place_is_held_for_the_whole_run(stage: Stage, tmp_path: Path) -> None:
    turnstile = Turnstile("somewhere", 1, tmp_path / "locks")
    code = f"""
import sys
from pathlib import Path
from pytest_agentlimit.endpoints.inflight import Turnstile
with Turnstile("somewhere", 1, Path({str(tmp_path / "locks")!r})).turn():
    print("held", flush=True)
    sys.stdin.readline()
"""
    other = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        letting_go = threading.Timer(0.3, lambda: other.communicate("\n"))
        letting_go.start()
        run = stage.run(WORKS, MAKES_IT, harness={"turnstile": turnstile})
        letting_go.join()
    assert run.outcome == "finished"
    first, second = stage.exchanges
    assert first.waited_s > 0
    assert second.waited_s == 0
    assert {one.inflight_start for one in stage.exchanges} == {1}
    assert {one.inflight_end for one in stage.exchanges} == {1}


def test_two_programs_at_once_do_not_meet(tmp_path: Path) -> None:
    stages = [
        Stage(folder) for folder in (tmp_path / "one", tmp_path / "two") if not folder.mkdir()
    ]
    found = {}

    def play(stage: Stage, word: str) -> None:
        replies = [call("bash", cmd=f"echo {word} > {word}.txt"), say(word)]
        found[word] = stage.run(WORKS, replies, goal=word)

    threads = [
        threading.Thread(target=play, args=pair)
        for pair in zip(stages, ("left", "right"), strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for stage, word in zip(stages, ("left", "right"), strict=True):
        run = found[word]
        assert (run.outcome, run.process.final_text) == ("finished", word)
        assert run.changes.made == (f"{word}.txt",)
        assert {exchange.request.messages[0].text for exchange in stage.exchanges} == {word}


@pytest.mark.parametrize("name", NULL_MODELS)
def test_null_models_can_be_asked_through_a_program(stage: Stage, name: str) -> None:
    harness = Harness(stage.spec(WORKS), null_spec(name), on_exchange=stage.exchanges.append)
    run = harness.run("Make hello.txt", stage.workspace, max_turns=2, check=False)
    assert run.outcome in ("finished", "failed")
    assert stage.exchanges
    assert all(exchange.error is None for exchange in stage.exchanges)


def test_a_workspace_is_taken_in_every_form(stage: Stage, tmp_path: Path) -> None:
    with ScriptedEndpoint([say("Done.")]) as server:
        harness = Harness(stage.spec(WORKS), server.endpoint())
        for place in (Workspace(tmp_path / "a"), tmp_path / "b", str(tmp_path / "c")):
            harness.run("Do nothing", place)
    assert (tmp_path / "b").is_dir()
    assert (tmp_path / "c").is_dir()


def test_a_run_has_at_least_one_turn(stage: Stage) -> None:
    with pytest.raises(ValueError, match="max_turns is 0"):
        stage.run(WORKS, MAKES_IT, max_turns=0)
