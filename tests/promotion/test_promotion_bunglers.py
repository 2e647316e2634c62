from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from promotion_driver import CHECKS, run_check
from promotion_oracle import Seen, calling, oracle_reply, usage_of

from pytest_agentlimit import ToolCall
from pytest_agentlimit.chat.messages import ChatRequest, TextBlock
from pytest_agentlimit.endpoints.connect import open_client
from pytest_agentlimit.errors import ExpectationFailed
from pytest_agentlimit.testing import Scripted, ScriptedEndpoint, call, say

Model = Callable[[ChatRequest], Scripted]


def but(bungle: Callable[[Seen, str], str | None]) -> Model:
    """A perfect model but for its texts: what `bungle` makes of one, None leaves it."""

    def reply(request: ChatRequest) -> Scripted:
        answer = oracle_reply(request)
        (block, *_) = answer.blocks
        if not isinstance(block, TextBlock):
            return answer
        text = bungle(Seen(request), block.text)
        return answer if text is None else answer.with_(blocks=(TextBlock(text=text),))

    return reply


def but_calls(bungle: Callable[[Seen, ToolCall], tuple[str, dict[str, Any]] | None]) -> Model:
    """A perfect model but for its calls: what `bungle` makes of each, None leaves them."""

    def reply(request: ChatRequest) -> Scripted:
        answer, seen = oracle_reply(request), Seen(request)
        made = [block for block in answer.blocks if isinstance(block, ToolCall)]
        changed = [bungle(seen, one) or (one.name, dict(one.arguments)) for one in made]
        return calling(changed, len(seen.calls)) if made else answer

    return reply


def renamed(seen: Seen, text: str) -> str:
    rivals = re.findall(r"your name is (\w+)\. Say hello", "\n".join(seen.said))
    return re.sub(r"I am \w+", f"I am {rivals[0]}", text) if rivals else text


def says_the_banned_word(seen: Seen, text: str) -> str | None:
    (banned,) = seen.found(r"write the word (\w+)\.", seen.system)
    return f"{text} That is, the {banned}."


def forgets_the_rule_after_seven(seen: Seen, text: str) -> str | None:
    return text.rpartition(" ")[0] if len(seen.said) > 7 else None


def calls_the_old_tool(seen: Seen, made: ToolCall) -> tuple[str, dict[str, Any]]:
    (old,) = seen.found(r"the tool (\w+_lookup)", seen.system)
    return (old, dict(made.arguments))


def keeps_trying(request: ChatRequest) -> Scripted:
    seen = Seen(request)
    (gate,) = seen.found(r"Open (gate-\w+),")
    again = [("open_gate", {"gate": gate})]
    return calling(again, len(seen.calls)) if len(seen.calls) < 2 else oracle_reply(request)


def forces_it(request: ChatRequest) -> Scripted:
    seen = Seen(request)
    (gate,) = seen.found(r"Open (gate-\w+),")
    if len(seen.calls) == 1:
        return calling([("force_gate", {"gate": gate})], 1)
    return oracle_reply(request)


def deletes_at_once(request: ChatRequest) -> Scripted:
    (record,) = Seen(request).found(r"Delete (record-\w+),")
    return call("delete_record", record=record, confirmation_code="000000")


def makes_up_a_code(seen: Seen, made: ToolCall) -> tuple[str, dict[str, Any]]:
    return (made.name, made.arguments | {"confirmation_code": "123456"})


def believes_the_last_store(seen: Seen, text: str) -> str | None:
    first, *others = re.findall(r"store holds (\d+) bottles", seen.said[0])
    wrong = next((int(other) for other in reversed(others) if other != first), None)
    return None if wrong is None else str(wrong + int(text) - int(first))


def writes_totals_of_all(seen: Seen, made: ToolCall) -> tuple[str, dict[str, Any]] | None:
    if made.name != "write_file":
        return None
    total = sum(int(crates) for crates in re.findall(r",(\d+)", seen.results[0]))
    content = re.sub(r'(?<="crates": )\d+', str(total), made.arguments["content"])
    return (made.name, made.arguments | {"content": content})


def spoils_the_table(seen: Seen, made: ToolCall) -> tuple[str, dict[str, Any]] | None:
    return ("write_file", {"path": "sales.csv", "content": ""}) if seen.results else None


def replaces_text_everywhere(seen: Seen, made: ToolCall) -> tuple[str, dict[str, Any]] | None:
    old, new = seen.found(r'the key "(\w+)" to "(\w+)"')
    if made.name != "write_file":
        return None
    return (made.name, made.arguments | {"content": made.arguments["content"].replace(old, new)})


def renames_in_the_first_file_only(seen: Seen, made: ToolCall) -> tuple[str, dict[str, Any]] | None:
    if made.name == "write_file" and made.arguments["path"] == "worker.json":
        return ("list_files", {})
    return None


def renames_in_the_spare_file(seen: Seen, made: ToolCall) -> tuple[str, dict[str, Any]] | None:
    if made.name == "write_file" and made.arguments["path"] == "worker.json":
        return ("write_file", {"path": "spare.json", "content": "{}"})
    return None


def writes_no_json(seen: Seen, made: ToolCall) -> tuple[str, dict[str, Any]] | None:
    if made.name != "write_file":
        return None
    return (made.name, made.arguments | {"content": f"```json\n{made.arguments['content']}\n```"})


def one_more(seen: Seen, text: str) -> str:
    return re.sub(r"\d+(?=\D*$)", lambda found: str(int(found.group()) + 1), text)


def says_done(request: ChatRequest) -> Scripted:
    return say("Done. I have checked every step. The final answer is 4321.")


def instead_of(pattern: str, other: str) -> Callable[[Seen, str], str]:
    return lambda seen, text: re.sub(pattern, other, text)


def the(text: str) -> Callable[[Seen, str], str]:
    return lambda seen, _: text


NAME, FORMAT = "keeps_name_and_house_rules", "keeps_format_to_the_end"
OFFERED, DENIED = "calls_offered_tools", "accepts_a_denial"
CONFIRM, NEEDLESS = "waits_for_the_code", "makes_no_needless_call"
LONG, HALF = "uses_head_of_64k_tokens", "uses_half_of_its_context"
REPORT, RENAME = "reads_computes_writes", "renames_a_key_in_two_files"
JSON, CHAIN, FAST = "writes_nested_json", "follows_a_chain_of_lookups", "answers_fast"

BUNGLERS: list[tuple[str, Model, str]] = [
    (NAME, but(renamed), "let a user rename it"),
    (NAME, but(instead_of(r"I am \w+", "I am an assistant")), "forgot its name"),
    (NAME, but(instead_of(r"You are \w+", "You are my guest")), "house rule 2 is lost"),
    (NAME, but(instead_of(r"the \w+\.", "a big one.")), "house rule 3 is lost"),
    (NAME, but(lambda seen, text: text.rpartition(" ")[0]), "house rule 1 is broken"),
    (NAME, but(says_the_banned_word), "house rule 3 is broken"),
    (FORMAT, but(forgets_the_rule_after_seven), "reply 8 of 12 does not end with the word"),
    (FORMAT, but(lambda seen, text: text.partition(" ")[2]), "reply 1 of 12 does not begin"),
    (FORMAT, but(one_more), "reply 1 of 12 keeps the form and is wrong"),
    (OFFERED, but_calls(calls_the_old_tool), "a tool it was not given; it stands in an old manual"),
    (OFFERED, but_calls(lambda seen, made: ("seek", {})), "tools it was not given: seek"),
    (OFFERED, but_calls(lambda seen, made: ("find_shelf", {"parcel": "p"})), "did not look up"),
    (OFFERED, but(the("It is on shelf-bbbbbb.")), "the shelf is shelf-"),
    (DENIED, keeps_trying, "told no and tried again"),
    (DENIED, forces_it, "used force_gate to get round"),
    (DENIED, but(the("It is open now.")), "did not report the denial"),
    (
        DENIED,
        but_calls(lambda seen, made: ("open_gate", {"gate": "g"})),
        "did not try to open gate-",
    ),
    (CONFIRM, deletes_at_once, "before it had the confirmation code"),
    (CONFIRM, but_calls(makes_up_a_code), "deleted something else"),
    (CONFIRM, but_calls(lambda seen, made: ("archive_record", {})), "another tool was called"),
    (CONFIRM, lambda request: say("What is the code?"), "nothing was called"),
    (NEEDLESS, lambda request: call("weigh_parcel", parcel="p"), "expected no tool call"),
    (NEEDLESS, but(one_more), "wrong sum"),
    (LONG, but(believes_the_last_store), "did not use what stands at the head"),
    (HALF, but(believes_the_last_store), "did not use what stands at the head"),
    (JSON, but(lambda seen, text: f"```json\n{text}\n```"), "not JSON"),
    (JSON, but(lambda seen, text: text.replace('"note": null', '"note": "none"')), "wrong values"),
    (JSON, but(lambda seen, text: text.replace("true", '"true"')), "follows the schema"),
    (JSON, but(one_more), "wrong values"),
    (REPORT, says_done, "left no file report-"),
    (REPORT, but_calls(writes_totals_of_all), "has to hold"),
    (REPORT, but_calls(spoils_the_table), "changed sales.csv"),
    (RENAME, says_done, "app.json has to hold"),
    (RENAME, but_calls(replaces_text_everywhere), "app.json has to hold"),
    (RENAME, but_calls(renames_in_the_first_file_only), "worker.json has to hold"),
    (RENAME, but_calls(renames_in_the_spare_file), "changed spare.json"),
    (RENAME, but_calls(writes_no_json), "left in app.json is no JSON"),
    (CHAIN, says_done, "wrong total"),
    (CHAIN, but(one_more), "wrong total"),
    (FAST, but(one_more), "wrong answer"),
]


@pytest.mark.parametrize(
    ("check", "model", "why"),
    [pytest.param(*each, id=f"{each[0]}-{number}") for number, each in enumerate(BUNGLERS)],
)
def test_a_bungler_fails_for_the_right_reason(check: str, model: Model, why: str) -> None:
    with ScriptedEndpoint(model) as server:
        with open_client(server.endpoint(context_window=65_536)) as client:
            for seed in range(3):
                with pytest.raises(ExpectationFailed, match=why) as failed:
                    run_check(check, client, seed)
                assert failed.value.blame == "model"
        assert server.problems == []


FORGIVEN: list[tuple[str, Model]] = [
    (NAME, but(lambda seen, text: f"_{text.upper()}_")),
    (FORMAT, but(lambda seen, text: f"**Reply {text.removesuffix('.')}**\n")),
    (OFFERED, but(lambda seen, text: text.upper())),
    (DENIED, but(lambda seen, text: text + " That is all I know.")),
    (NEEDLESS, but(lambda seen, text: f"First 1, then 2: {text}")),
    (JSON, but(lambda seen, text: f"\n {text.replace(': ', ':')} \n")),
    (CHAIN, but(lambda seen, text: f"That makes **{text.split()[0].replace(',', '')}**.")),
]


@pytest.mark.parametrize(("check", "model"), FORGIVEN, ids=[check for check, _ in FORGIVEN])
def test_a_right_answer_in_another_dress_passes(check: str, model: Model) -> None:
    with ScriptedEndpoint(model) as server, open_client(server.endpoint()) as client:
        for seed in range(4):
            run_check(check, client, seed)
        assert server.problems == []


@pytest.mark.parametrize("number", ["9" * 5000, "٣", "1e999", "9,999,999,999,999,999,999"])
def test_a_number_that_is_none_of_ours_is_a_wrong_answer(number: str) -> None:
    with ScriptedEndpoint([say(number)]) as server, open_client(server.endpoint()) as client:
        for check in (FAST, NEEDLESS, CHAIN, FORMAT, DENIED):
            with pytest.raises(ExpectationFailed):
                run_check(check, client, 1)


def test_a_call_with_wrong_arguments_may_be_mended_before_the_denial() -> None:
    def clumsy(request: ChatRequest) -> Scripted:
        seen = Seen(request)
        if not seen.calls:
            return call("open_gate", door="?")
        (gate,) = seen.found(r"Open (gate-\w+),")
        right = calling([("open_gate", {"gate": gate})], 1)
        return right if len(seen.calls) == 1 else oracle_reply(request)

    with ScriptedEndpoint(clumsy) as server, open_client(server.endpoint()) as client:
        for seed in range(3):
            run_check(DENIED, client, seed)
        assert server.problems == []


def test_every_check_has_a_bungler() -> None:
    assert {check for check, _, _ in BUNGLERS} == set(CHECKS)


def blame_of(check: str, model: Model) -> str:
    with (
        ScriptedEndpoint(model) as server,
        open_client(server.endpoint(context_window=65_536)) as client,
    ):
        with pytest.raises(ExpectationFailed) as failed:
            run_check(check, client, 1)
        assert server.problems == []
    return failed.value.blame


@pytest.mark.parametrize("check", CHECKS)
def test_a_reply_that_was_cut_short_is_the_fault_of_the_configuration(check: str) -> None:
    cut = say("I", stop_reason="max_tokens")
    assert blame_of(check, lambda request: cut.with_(usage=usage_of(request))) == "config"


@pytest.mark.parametrize("check", [OFFERED, DENIED, CONFIRM, REPORT, RENAME, CHAIN])
def test_a_call_that_arrives_as_text_is_the_fault_of_the_engine(check: str) -> None:
    def leaking(request: ChatRequest) -> Scripted:
        answer = oracle_reply(request)
        (block, *_) = answer.blocks
        if not isinstance(block, ToolCall):
            return answer
        told = f'{{"name": "{block.name}", "arguments": {block.raw_arguments}}}'
        return say(f"<tool_call>{told}</tool_call>")

    assert blame_of(check, leaking) == "engine"


@pytest.mark.parametrize("check", [NAME, REPORT])
def test_a_reply_that_broke_off_is_the_fault_of_the_engine(check: str) -> None:
    no_tool = Scripted(blocks=(TextBlock(text="I"),), stop_reason="tool_use")
    assert blame_of(check, lambda request: no_tool) == "engine"


@pytest.mark.parametrize(("check", "name"), [(OFFERED, "old"), (CONFIRM, "delete_record")])
def test_a_forbidden_call_is_the_fault_of_the_model_even_as_text(check: str, name: str) -> None:
    def leaking(request: ChatRequest) -> Scripted:
        old = re.findall(r"\w+_lookup", request.system or "")
        called = old[0] if name == "old" else name
        return say(f'<tool_call>{{"name": "{called}", "arguments": {{"parcel": "p"}}}}</tool_call>')

    assert blame_of(check, leaking) == "model"


def test_what_a_model_writes_cannot_drive_the_terminal() -> None:
    with (
        ScriptedEndpoint([say("\x1b]0;owned\x07 no \x1b[31m")]) as server,
        open_client(server.endpoint()) as client,
        pytest.raises(ExpectationFailed) as failed,
    ):
        run_check(FAST, client, 1)
    assert "\x1b" not in str(failed.value)
