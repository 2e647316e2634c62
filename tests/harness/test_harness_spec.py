from __future__ import annotations

import json
import os
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from pytest_agentlimit.errors import UsageProblem
from pytest_agentlimit.harness.output import TEXT_LIMIT, read_output
from pytest_agentlimit.harness.presets import harness_spec, preset_names
from pytest_agentlimit.harness.spec import HarnessSpec, Output, served
from pytest_agentlimit.harness.templates import PLACEHOLDERS, file_content, filled, launch

VALUES = {name: f"<{name}>" for name in PLACEHOLDERS} | {"home": "/h", "workspace": "/w"}


def spec(**fields: Any) -> HarnessSpec:
    usual = {"name": "tiny", "program": "tiny", "argv": ["-p", "{prompt}"], "dialect": "openai"}
    return HarnessSpec.model_validate(usual | fields)


def tables(root: Path, text: str, file: str = "pyproject.toml") -> Path:
    (root / file).write_text(text)
    return root


# what a spec may say


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"argv": ["--go"]}, "it would get no task"),
        ({"files": {"/etc/passwd": ""}}, "does not lie in"),
        ({"files": {"{home}/../x": ""}}, "does not lie in"),
        ({"files": {"{home}": ""}}, "does not lie in"),
        ({"files": {"{workspace}/a/../../x": ""}}, "does not lie in"),
        ({"files": {"home/x": ""}}, "does not lie in"),
        ({"env": {"A=B": "x"}}, "environment variable"),
        ({"env": {"A": "\0"}}, "environment variable"),
        ({"program": ""}, "at least 1 character"),
        ({"timeout_s": 0}, "greater than 0"),
        ({"extra_requests": -1}, "greater than or equal to 0"),
        ({"dialect": "ollama"}, "anthropic"),
        ({"output": {"form": "xml"}}, "jsonl"),
        ({"retries": 3}, "Extra inputs"),
    ],
)
def test_a_spec_that_cannot_work_is_refused(fields: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        spec(**fields)


def test_the_task_may_come_in_a_file_or_a_variable() -> None:
    assert spec(argv=["--file", "task.md"], files={"{workspace}/task.md": "{prompt}"}).files
    assert spec(argv=[], env={"TASK": "{prompt}"}).env


# templates


def test_templates_are_filled_in_once() -> None:
    values = VALUES | {"prompt": "say {key} and {home}"}
    assert filled("{prompt} {model}", values) == "say {key} and {home} <model>"


@pytest.mark.parametrize("text", ['{"a": {"b": 1}}', "{unknown} {} {{prompt", "${HOME} {Prompt}"])
def test_other_braces_stay(text: str) -> None:
    assert filled(text, VALUES) == text


def test_the_command_line_and_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/somewhere/bin")
    monkeypatch.setenv("SECRET", "x")
    program = spec(argv=["-p", "{prompt}", "--url={url}/v1"], env={"KEY": "{key}", "LANG": "de"})
    argv, env = launch(program, Path("/bin/tiny"), VALUES)
    assert argv == ["/bin/tiny", "-p", "<prompt>", "--url=<url>/v1"]
    assert env == {
        "PATH": "/somewhere/bin",
        "LANG": "de",
        "HOME": "/h",
        "TMPDIR": "/h/tmp",
        "NO_COLOR": "1",
        "KEY": "<key>",
    }


def test_without_a_path_programs_are_looked_for_in_the_usual_places(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("PATH")
    assert launch(spec(), Path("/bin/tiny"), VALUES).env["PATH"] == os.defpath


@given(prompt=st.text())
@settings(max_examples=60, deadline=None)
def test_values_survive_in_every_quoted_string(prompt: str) -> None:
    values = VALUES | {"prompt": prompt}
    assert json.loads(file_content("a.json", '{"p": "{prompt}"}', values)) == {"p": prompt}
    assert tomllib.loads(file_content("a.TOML", 'p = "{prompt}"', values)) == {"p": prompt}
    assert file_content("a.md", "{prompt}", values) == prompt


# presets and tables


def test_the_presets_are_known() -> None:
    assert {"generic", "codex"} <= set(preset_names())
    assert list(preset_names()) == sorted(preset_names())


def test_codex_is_known_and_refused(tmp_path: Path) -> None:
    codex = harness_spec("codex", root=tmp_path)
    assert (codex.name, codex.dialect) == ("codex", "openai-responses")
    with pytest.raises(UsageProblem, match="codex speaks the Responses API .+ does not serve"):
        served(codex)
    assert served(spec()) == spec()


def test_generic_is_for_programs_of_one_s_own(tmp_path: Path) -> None:
    with pytest.raises(UsageProblem, match='preset = "generic" and program = '):
        harness_spec("generic", root=tmp_path)
    own = tables(tmp_path, '[tool.agentlimit.harness.mine]\npreset = "generic"\nprogram = "my"\n')
    mine = harness_spec("mine", root=own)
    assert (mine.name, mine.program, mine.argv) == ("mine", "my", ("{prompt}",))
    assert mine.env["OPENAI_BASE_URL"] == "{url}/v1"
    assert mine.env["ANTHROPIC_BASE_URL"] == "{url}"


def test_keys_of_one_s_own_win_and_tables_merge(tmp_path: Path) -> None:
    text = """
[tool.agentlimit.harness.mine]
preset = "generic"
program = "my"
argv = ["run", "{prompt}"]
timeout_s = 30
[tool.agentlimit.harness.mine.env]
OPENAI_MODEL = "always-this"
MY_MODE = "fast"
[tool.agentlimit.harness.mine.output]
form = "json"
text = "result"
[tool.agentlimit.harness.mine.tools.shell]
name = "bash"
"""
    mine = harness_spec("mine", root=tables(tmp_path, text))
    assert mine.argv == ("run", "{prompt}")
    assert mine.timeout_s == 30.0
    assert mine.env["OPENAI_MODEL"] == "always-this"
    assert mine.env["MY_MODE"] == "fast"
    assert mine.env["OPENAI_BASE_URL"] == "{url}/v1"
    assert mine.output == Output(form="json", text="result")
    assert mine.tools["shell"].name == "bash"


def test_a_table_may_stand_for_itself_and_hide_a_preset(tmp_path: Path) -> None:
    text = '[harness.codex]\nprogram = "my"\nargv = ["{prompt}"]\ndialect = "anthropic"\n'
    codex = harness_spec("codex", root=tables(tmp_path, text, "agentlimit.toml"))
    assert (codex.program, codex.dialect) == ("my", "anthropic")


@pytest.mark.parametrize(
    ("table", "why"),
    [
        ('preset = "generic"', "the key 'program' is missing"),
        ('preset = "generc"\nprogram = "my"', "there is no preset 'generc'"),
        ('preset = ["generic"]\nprogram = "my"', "there is no preset"),
        ('preset = "generic"\nprogram = "my"\nargs = []', "unknown key 'args'; did you mean argv?"),
        ('preset = "generic"\nprogram = "my"\nzzz = 1', "unknown key 'zzz'; known: program, argv"),
        ('preset = "generic"\nprogram = "my"\nname = "x"', "leave out `name`"),
        ('preset = "generic"\nprogram = "my"\nargv = ["x"]\nenv = 3', "env: "),
        ('program = "my"\nargv = ["x"]\ndialect = "openai"', "it would get no task"),
    ],
)
def test_a_table_that_cannot_work_is_one_line_with_its_place(
    tmp_path: Path, table: str, why: str
) -> None:
    root = tables(tmp_path, f"[tool.agentlimit.harness.mine]\n{table}\n")
    with pytest.raises(UsageProblem) as caught:
        harness_spec("mine", root=root)
    assert str(caught.value).startswith("pyproject.toml, harness 'mine': ")
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_table_that_is_none(tmp_path: Path) -> None:
    root = tables(tmp_path, "[tool.agentlimit.harness]\nmine = 3\n")
    with pytest.raises(UsageProblem, match="harness 'mine': this must be a table"):
        harness_spec("mine", root=root)


def test_one_name_in_two_files(tmp_path: Path) -> None:
    table = 'program = "my"\nargv = ["{prompt}"]\ndialect = "openai"\n'
    tables(tmp_path, f"[tool.agentlimit.harness.mine]\n{table}")
    tables(tmp_path, f"[harness.mine]\n{table}", "agentlimit.toml")
    with pytest.raises(UsageProblem, match="'mine' is in pyproject.toml and in agentlimit.toml"):
        harness_spec("mine", root=tmp_path)


def test_an_unknown_name_lists_the_nearest_first(tmp_path: Path) -> None:
    text = '[tool.agentlimit.harness.zebra]\nprogram = "z"\nargv = ["{prompt}"]\ndialect = "openai"'
    with pytest.raises(UsageProblem) as caught:
        harness_spec("codexx", root=tables(tmp_path, text))
    message = str(caught.value)
    assert "no agent program is called 'codexx'. There are: codex, " in message
    assert ", zebra" in message
    assert "[tool.agentlimit.harness.NAME]" in message


# what a program says


@pytest.mark.parametrize(
    ("output", "stdout", "said"),
    [
        (Output(), "\n All done. \n", ("All done.", None)),
        (Output(form="json", text="result"), '{"result": "Done"}', ("Done", None)),
        (
            Output(form="json", text="result", error="is_error"),
            'npm warn\n[notice] x\n{"result": "Done",\n "is_error": true}\n',
            ("Done", True),
        ),
        (
            Output(form="json", text="payloads.0.text"),
            '{"payloads": [{"text": "Hi"}]}',
            ("Hi", None),
        ),
        (
            Output(form="json", where={"type": "result"}, text="result", error="is_error"),
            '[{"type": "text"}, {"type": "result", "result": "A", "is_error": false}, {"type": 1}]',
            ("A", False),
        ),
        (
            Output(form="jsonl", where={"message.role": "assistant"}, text="message.content"),
            '{"message": {"role": "assistant", "content": "one"}}\nnoise\n'
            '{"message": {"role": "assistant", "content": [{"type": "text", "text": "t"},'
            ' {"type": "image"}, {"text": "wo"}]}}\n{"message": {"role": "user"}}\n',
            ("two", None),
        ),
        (Output(form="jsonl", text="-1.text"), '[{"text": "a"}, {"text": "b"}]\n', ("b", None)),
        (Output(form="jsonl", text="7"), '["a"]', ("", None)),
        (Output(form="json", text="a.b"), '{"a": "text"}', ("", None)),
        (Output(form="json", error="error"), '{"fine": 1}', ("", False)),
        (Output(form="json", error="error.message"), '{"error": {"message": "no"}}', ("", True)),
        (Output(form="json", text="x", error="e"), "no JSON at all", ("", None)),
        (Output(form="jsonl", text="x", error="e"), "", ("", None)),
        (Output(form="json", text="x"), "[" * 100_000, ("", None)),
        (Output(form="jsonl", text="x"), '{"x": ' * 5000 + "1" + "}" * 5000, ("", None)),
        (Output(form="json", text="n"), '{"n": ' + "9" * 5000 + "}", ("", None)),
        (Output(form="json", text="x"), '{"x": "\\ud800 \\u001b[2J"}', ("\ufffd \\x1b[2J", None)),
    ],
)
def test_what_a_program_says(output: Output, stdout: str, said: tuple[str, bool | None]) -> None:
    assert read_output(stdout, output) == said


def test_what_a_program_says_is_bounded() -> None:
    said = read_output(json.dumps({"x": "y" * 100_000}), Output(form="json", text="x"))
    assert len(said.text) == TEXT_LIMIT


@given(st.text(), st.sampled_from(["json", "jsonl", "text"]))
@settings(max_examples=60, deadline=None)
def test_no_output_makes_trouble(stdout: str, form: Any) -> None:
    said = read_output(stdout, Output(form=form, where={"a.0": 1}, text="a.-1", error="b"))
    said.text.encode()
