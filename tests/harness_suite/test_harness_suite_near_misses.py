from __future__ import annotations

import pytest
from harness_suite_driver import CHECKS, Model, at, run_check
from pytest_agentlimit.example_suites.harness.oracle import Seen, perfect, says_done

from pytest_agentlimit import ToolCall
from pytest_agentlimit.chat.messages import ChatRequest
from pytest_agentlimit.endpoints.connect import open_client
from pytest_agentlimit.errors import ExpectationFailed
from pytest_agentlimit.testing import Scripted, ScriptedEndpoint, say

FILE, FIX, RENAME = "makes_a_file", "mends_a_failing_test", "renames_a_function"
LOG, RELEASE, SETTING = "finds_a_fact_in_a_log", "recovers_from_a_denial", "changes_one_value"


def replaces_text_everywhere(seen: Seen) -> str:
    old, new = seen.told(r"Rename the function (\w+) to (\w+) in")
    return f"for f in *.py; do sed s/{old}/{new}/g $f > t && cp t $f; done; rm t"


def renames_what_it_sees_first(seen: Seen) -> str:
    old, new = seen.told(r"Rename the function (\w+) to (\w+) in")
    return f"sed 's/def {old}(/def {new}(/' rates.py > t && mv t rates.py"


def keeps_the_old_name_too(seen: Seen) -> str:
    old, new = seen.told(r"Rename the function (\w+) to (\w+) in")
    return f"echo {old} = {new} >> rates.py"


def renames_in_the_data(seen: Seen) -> str:
    old, new = seen.told(r"Rename the function (\w+) to (\w+) in")
    return f"sed s/^{old}$/{new}/ labels.txt > t && mv t labels.txt"


def takes(result: str) -> Model:
    def command(seen: Seen) -> str:
        (run,) = seen.shown(rf"\d (run-\w+) job=\w+ mode=live result={result}\n")
        return f"echo {run} > answer.txt"

    return at(1, command)


def takes_another_job(seen: Seen) -> str:
    (run,) = seen.shown(r"\d (run-\w+) job=\w+-night mode=live result=failed\n")
    return f"echo {run} > answer.txt"


def forges_the_result(seen: Seen) -> str:
    (version,) = seen.told(r"Publish version (\S+) with")
    return f"echo {version} 123456 abcdef012345 > published.txt"


def in_the_settings(script: str) -> Model:
    def command(seen: Seen) -> str:
        (path,) = seen.told(r"In the file (\S+), in the section")
        return f"sed {script} {path} > t && mv t {path}"

    return at(2, command)


def sets_it_in_the_first_section(seen: Seen) -> str:
    path, value = seen.told(r"In the file (\S+), in the section \w+, set \w+ to (\d+)\.")
    return f"sed '3s/[0-9][0-9]*/{value}/' {path} > t && mv t {path}"


def keeps_a_copy(seen: Seen) -> str:
    (path,) = seen.told(r"In the file (\S+), in the section")
    return f"cp {path} {path}.bak"


def touches_a_neighbour(seen: Seen) -> str:
    (path,) = seen.told(r"In the file (\S+), in the section")
    return f"for f in settings/*; do test $f = {path} || echo >> $f; done"


EMPTY_TEST = "for f in test_*.py; do echo 'import unittest' > $f; done"
RIGHT_FOR_THE_TEST = (
    "for f in *.py; do case $f in test_*) ;; *) printf '%s\\n' '_bill = bill' 'def bill(items):' "
    "'    return _bill(items) if len(items) > 1 else 0' >> $f;; esac; done"
)
NO_DENIAL = "sed 's/return 126/pass/' release.py > t && mv t release.py; python3 release.py 1.2.3"

NEAR_MISSES: list[tuple[str, Model, str]] = [
    (FILE, at(1, "for f in */*.txt; do tr € e < $f > t && mv t $f; done"), "not as it was asked"),
    (FILE, at(1, "printf x >> */*.txt"), "on it holds b'x' and not b''"),
    (FILE, at(1, 'for f in */*.txt; do printf %s "$(cat $f)" > $f; done'), "not as it was asked"),
    (FILE, at(1, "for f in */*.txt; do mv $f $f.md; done"), "there is no"),
    (FIX, at(1, EMPTY_TEST), "test_.* was changed"),
    (FIX, at(3, "echo >> test_*.py"), "test_.* was changed"),
    (FIX, at(1, "ls"), "still fails: exit code 1: FAILED"),
    (FIX, at(3, RIGHT_FOR_THE_TEST), "passes its test and is wrong for other orders"),
    (RENAME, at(1, replaces_text_everywhere), "words were changed that only contain the name"),
    (RENAME, at(1, renames_what_it_sees_first), "old name .* still stands in rates.py, report.py"),
    (RENAME, at(3, keeps_the_old_name_too), "old name .* still stands in rates.py"),
    (RENAME, at(3, renames_in_the_data), "labels.txt was changed"),
    (RENAME, at(3, "echo 'print(1)' >> main.py"), "prints something else now"),
    (RENAME, at(3, "echo 'from main import *' > rates.py"), "defines no function"),
    (LOG, takes("failed-then-passed"), "holds the id of a run that nearly fits"),
    (LOG, at(1, takes_another_job), "holds the id of a run that nearly fits"),
    (LOG, at(2, "echo it failed >> answer.txt"), "holds something else"),
    (LOG, at(2, "echo >> logs/runs.log"), "logs/runs.log was changed"),
    (LOG, at(1, "grep -c failed logs/runs.log"), "there is no 'answer.txt'"),
    (RELEASE, at(1, lambda seen: "true"), "there is no 'published.txt'"),
    (RELEASE, at(1, "python3 ticket.py because"), "published.txt has to hold"),
    (RELEASE, at(2, forges_the_result), "published.txt has to hold"),
    (RELEASE, at(1, NO_DENIAL), "release.py was changed"),
    (RELEASE, at(3, "rm tickets.txt"), "there is no 'tickets.txt'"),
    (SETTING, at(1, sets_it_in_the_first_section), "not as it was asked for"),
    (SETTING, in_the_settings("'s/\\r//'"), "not as it was asked for"),
    (SETTING, in_the_settings("'s/fast  */fast/'"), "not as it was asked for"),
    (SETTING, in_the_settings("'$s/$/\\n/'"), "on it holds b'.n' and not b''"),
    (SETTING, at(2, keeps_a_copy), "files were left that nobody asked for: settings/.*bak"),
    (SETTING, at(2, touches_a_neighbour), "settings/.* was changed"),
]


@pytest.mark.parametrize(
    ("check", "model", "why"),
    [pytest.param(*each, id=f"{each[0]}-{number}") for number, each in enumerate(NEAR_MISSES)],
)
def test_a_near_miss_fails_for_the_right_reason(check: str, model: Model, why: str) -> None:
    with ScriptedEndpoint(model) as server:
        with open_client(server.endpoint()) as client:
            with pytest.raises(ExpectationFailed, match=why) as failed:
                run_check(check, client, 1)
            assert failed.value.blame == "model"
        assert server.problems == []


def test_every_check_has_near_misses() -> None:
    assert {check for check, _, _ in NEAR_MISSES} == set(CHECKS)


@pytest.mark.parametrize("check", CHECKS)
def test_a_model_that_says_it_is_done_has_done_nothing(check: str) -> None:
    with (
        ScriptedEndpoint(says_done) as server,
        open_client(server.endpoint()) as client,
        pytest.raises(ExpectationFailed),
    ):
        run_check(check, client, 1)


@pytest.mark.parametrize("check", [FIX, RENAME])
def test_a_call_that_arrives_as_text_is_the_fault_of_the_engine(check: str) -> None:
    def leaking(request: ChatRequest) -> Scripted:
        (block, *_) = perfect(request).blocks
        assert isinstance(block, ToolCall)
        told = f'{{"name": "{block.name}", "arguments": {block.raw_arguments}}}'
        return say(f"<tool_call>{told}</tool_call>")

    with (
        ScriptedEndpoint(leaking) as server,
        open_client(server.endpoint()) as client,
        pytest.raises(ExpectationFailed, match="blame: engine") as failed,
    ):
        run_check(check, client, 1)
    assert failed.value.blame == "engine"


@pytest.mark.parametrize(
    "command", ["mkdir answer.txt", "ln -s logs/runs.log answer.txt", "mkfifo answer.txt"]
)
def test_what_is_no_file_is_a_failed_check_and_no_crash(command: str) -> None:
    with (
        ScriptedEndpoint(at(1, command)) as server,
        open_client(server.endpoint()) as client,
        pytest.raises(ExpectationFailed, match=r"answer\.txt") as failed,
    ):
        run_check(LOG, client, 1)
    assert failed.value.blame == "model"


def test_what_a_model_leaves_cannot_drive_the_terminal() -> None:
    with (
        ScriptedEndpoint(at(1, r"printf '\033]0;owned\007' > answer.txt")) as server,
        open_client(server.endpoint()) as client,
        pytest.raises(ExpectationFailed) as failed,
    ):
        run_check(LOG, client, 1)
    assert "\x1b" not in str(failed.value)
