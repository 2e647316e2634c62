from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from harness_kit import CLIENT, WORKS, Stage

from pytest_agentlimit.endpoints.literals import null_spec
from pytest_agentlimit.errors import UsageProblem
from pytest_agentlimit.harness.harness import Harness
from pytest_agentlimit.harness.presets import harness_spec
from pytest_agentlimit.harness.programs import (
    HarnessMissing,
    find_program,
    missing,
    program_version,
)
from pytest_agentlimit.testing import ScriptedEndpoint, call, say

MAKES_IT = [call("bash", cmd="echo hello | tee hello.txt"), say("I made it.")]
SECRET = "not-for-programs-0123456789"


def test_a_missing_program_is_told_with_the_way_to_install_it(stage: Stage) -> None:
    spec = stage.spec(WORKS, program="no-such-agent", install="npm install -g no-such-agent")
    assert find_program(spec) is None
    assert isinstance(missing(spec), HarnessMissing)
    harness = Harness(spec, null_spec("echo"))
    assert harness.version is None
    with pytest.raises(HarnessMissing, match="there is no no-such-agent. Next: npm install -g no"):
        harness.run("anything", stage.workspace)


def test_programs_are_found_on_the_path_and_by_path(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = stage.folder / "bin" / "tiny-agent"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    assert find_program(stage.spec(WORKS, program=str(program))) is None  # it cannot be run
    program.chmod(0o755)
    assert find_program(stage.spec(WORKS, program=str(program))) == program
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    assert find_program(stage.spec(WORKS, program="tiny-agent")) == program


@pytest.mark.parametrize(
    ("says", "version"),
    [
        (
            "echo 'Warning: old'; echo 'tiny-agent 1.2.3 (linux)'; echo 4",
            "tiny-agent 1.2.3 (linux)",
        ),
        ("echo 'v7' >&2; exit 3", "v7"),
        ("echo none", None),
        ("printf '\\033[1m2.0\\033[0m'", "\\x1b[1m2.0\\x1b[0m"),
        ("echo 1$(printf 'x%.0s' $(seq 500))", f"1{'x' * 28} … {'x' * 28}"),
        ("echo ${SECRET:-unset} 1", "unset 1"),
    ],
)
def test_versions_are_bounded_and_printable(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, says: str, version: str | None
) -> None:
    monkeypatch.setenv("SECRET", SECRET)
    spec = stage.spec(WORKS, program="/bin/sh", version=("-c", says))
    assert program_version(spec, Path("/bin/sh")) == version


def test_a_program_that_does_not_tell_its_version_is_not_awaited(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pytest_agentlimit.harness.programs._VERSION_S", 0.2)
    spec = stage.spec(WORKS, program="/bin/sh", version=("-c", "sleep 600"))
    assert program_version(spec, Path("/bin/sh")) is None
    assert program_version(stage.spec(WORKS), Path("/bin/sh")) is None


def test_the_version_is_in_the_result(stage: Stage) -> None:
    run = stage.run(WORKS, MAKES_IT, version=("-c", "print('tiny 3.1')"))
    assert (run.harness, run.version) == ("tiny", "tiny 3.1")


def test_a_program_of_the_responses_api_is_refused(stage: Stage) -> None:
    spec = stage.spec(WORKS, dialect="openai-responses")
    with pytest.raises(UsageProblem, match="tiny speaks the Responses API .+ does not serve"):
        Harness(spec, null_spec("echo"))


def test_a_program_of_one_s_own_through_the_generic_preset(stage: Stage) -> None:
    script = stage.folder / "own-agent"
    renamed = CLIENT.replace("MODEL_URL", "OPENAI_BASE_URL").replace("MODEL_KEY", "OPENAI_API_KEY")
    script.write_text(f"#!{sys.executable} -S\n{renamed}{WORKS}\n")
    script.chmod(0o755)
    (stage.folder / "pyproject.toml").write_text(
        f'[tool.agentlimit.harness.own]\npreset = "generic"\nprogram = "{script}"\nversion = []\n'
    )
    with ScriptedEndpoint(MAKES_IT) as server:
        harness = Harness(harness_spec("own", root=stage.folder), server.endpoint())
        run = harness.run("Make hello.txt", stage.workspace)
    assert run.changes.made == ("hello.txt",)
