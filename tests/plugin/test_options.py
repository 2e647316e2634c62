from __future__ import annotations

import pytest

CHECK = "def test_check(agent):\n    assert agent.ask('hi').text == '42'\n"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--agent-trials=0"], "--agent-trials takes a whole number from 1, not '0'"),
        (["--agent-trials=many"], "--agent-trials takes a whole number from 1, not 'many'"),
        (["--agent-min-score=130"], "--agent-min-score takes a percentage"),
        (["--agent-min-score=0.8"], "write it in per cent, such as 80"),
        (["--agent-p95=8"], "has no unit"),
        (["--agent-timeout=soon"], "--agent-timeout: "),
        (["--agent-model=null:parrot"], "names null:parrot twice"),
        (["--agent-report=jsn:x.json"], "json"),
        (["--agent-model=no-such-model"], "no-such-model"),
    ],
)
def test_a_wrong_option_is_one_usage_error(
    pytester: pytest.Pytester, args: list[str], message: str
) -> None:
    pytester.makepyfile(CHECK)
    result = pytester.runpytest("--agent-model=null:parrot", *args)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    errors = [line for line in result.stderr.lines if line.startswith("ERROR: ")]
    assert len(errors) == 1
    assert message in result.stderr.str()
    assert "Traceback" not in result.stderr.str()


def test_a_gate_without_a_model_is_never_green(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(CHECK)
    result = pytester.runpytest("--agent-min-score=80")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --agent-min-score asks for a gate, and no model is*"])


def test_a_standing_gate_in_the_ini_file_waits_for_a_model(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(CHECK)
    pytester.makeini("[pytest]\nagentlimit_min_score = 80\n")
    result = pytester.runpytest()
    result.assert_outcomes(skipped=1)
    assert result.ret == 0


def test_command_line_wins_over_environment_over_ini(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makepyfile(CHECK)
    pytester.makeini("[pytest]\nagentlimit_model = null:mute\n")

    def collected(*args: str) -> str:
        return pytester.runpytest("--collect-only", "-q", *args).stdout.str()

    assert "test_check[null-mute-t1]" in collected()
    monkeypatch.setenv("AGENTLIMIT_MODEL", "null:echo")
    assert "test_check[null-echo-t1]" in collected()
    assert "test_check[null-parrot-t1]" in collected("--agent-model=null:parrot")
    monkeypatch.setenv("AGENTLIMIT_MODEL", "")
    assert "test_check[null-mute-t1]" in collected()


def test_models_by_comma_and_by_repetition(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(CHECK)
    result = pytester.runpytest(
        "--collect-only", "-q", "--agent-model=null:mute,null:echo", "--agent-model=null:parrot"
    )
    for name in ("mute", "echo", "parrot"):
        result.stdout.fnmatch_lines([f"*test_check?null-{name}-t1?*"])


def test_collect_only_leaves_nothing_behind(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(CHECK)
    pytester.runpytest("--collect-only", "--agent-model=null:parrot")
    assert not (pytester.path / ".agentlimit").exists()


@pytest.mark.parametrize("flag", ["--fixtures", "--fixtures-per-test"])
def test_listing_fixtures_needs_no_endpoint(pytester: pytest.Pytester, flag: str) -> None:
    pytester.makepyfile(CHECK)
    result = pytester.runpytest(flag, "--agent-model=openai+http://127.0.0.1:9/v1#nobody")
    assert result.ret == 0
    assert not (pytester.path / ".agentlimit").exists()


def test_a_session_without_checks_leaves_no_run(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_plain():\n    pass\n")
    result = pytester.runpytest("--agent-model=null:parrot")
    assert result.ret == 0
    assert "agentlimit ===" not in result.stdout.str()
    assert not (pytester.path / ".agentlimit").exists()


def test_help_lists_every_option(pytester: pytest.Pytester) -> None:
    from pytest_agentlimit.plugin.options import OPTIONS

    text = pytester.runpytest("--help").stdout.str()
    for option in OPTIONS:
        assert option.flag in text
        assert option.dest in text
