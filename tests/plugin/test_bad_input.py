from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from agent_run import AgentRun

from pytest_agentlimit.testing import (
    ScriptedEndpoint,
    endless,
    html,
    huge,
    raw,
    say,
)

Scripts = Callable[..., ScriptedEndpoint]
CHECK = "def test_hi(agent):\n    assert agent.ask('hi').text == 'yes'\n"


def usage_error(result: pytest.RunResult) -> str:
    """The one readable message of a run that never started."""
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    text = result.stderr.str()
    assert text.count("ERROR: ") == 1
    assert "Traceback" not in text
    return " ".join(text.split())


def test_an_unknown_name_says_what_was_looked_at(agent_run: AgentRun) -> None:
    agent_run.checks(CHECK)
    (agent_run.folder / "agentlimit.toml").write_text(
        '[models.open-claw]\nbase_url = "http://127.0.0.1:9/v1"\nmodel = "x"\n'
    )
    message = usage_error(agent_run("--agent-model=open-clow"))
    assert "open-clow" in message
    assert "open-claw" in message
    assert "agentlimit.toml" in message


@pytest.mark.parametrize("workers", ["-n0", "-n2"])
def test_an_unreachable_server(agent_run: AgentRun, workers: str) -> None:
    agent_run.checks(CHECK)
    message = usage_error(agent_run(workers, "--agent-model=openai+http://127.0.0.1:9/v1#x"))
    assert "127.0.0.1:9" in message
    assert "refused" in message


def test_a_server_that_answers_html(agent_run: AgentRun, scripted: Scripts) -> None:
    agent_run.checks(CHECK)
    server = scripted(routes={"/v1/models": html()})
    assert "answered with a web page" in usage_error(agent_run(f"--agent-model={server.spec}"))


def test_a_wrong_key(
    agent_run: AgentRun, scripted: Scripts, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent_run.checks(CHECK)
    server = scripted(api_key="right")
    monkeypatch.setenv("LAB_KEY", "wrong-secret-value")
    (agent_run.folder / "agentlimit.toml").write_text(
        f'[models.lab]\nbase_url = "{server.url}"\nmodel = "scripted"\napi_key_env = "LAB_KEY"\n'
    )
    message = usage_error(agent_run("--agent-model=lab"))
    assert "LAB_KEY" in message
    assert "wrong-secret-value" not in message


def test_a_missing_key_variable(agent_run: AgentRun, scripted: Scripts) -> None:
    agent_run.checks(CHECK)
    (agent_run.folder / "agentlimit.toml").write_text(
        f'[models.lab]\nbase_url = "{scripted().url}"\nmodel = "scripted"\n'
        'api_key_env = "NO_SUCH_VARIABLE"\n'
    )
    assert "NO_SUCH_VARIABLE" in usage_error(agent_run("--agent-model=lab"))


def test_a_base_url_without_v1(agent_run: AgentRun, scripted: Scripts) -> None:
    agent_run.checks(CHECK)
    message = usage_error(
        agent_run(f"--agent-model=openai+http://127.0.0.1:{scripted().port}#scripted")
    )
    assert "/v1" in message


@pytest.mark.parametrize(
    "content", [b"", b"GGUF", b"not a model" * 100, b"GGUF\x03\0\0\0" + b"\xff" * 64]
)
def test_a_broken_gguf_file(agent_run: AgentRun, content: bytes) -> None:
    agent_run.checks(CHECK)
    path = agent_run.folder / "broken.gguf"
    path.write_bytes(content)
    assert "broken.gguf" in usage_error(agent_run(f"--agent-model=gguf:{path}"))


def test_a_truncated_gguf_file(agent_run: AgentRun, smollm2: Path) -> None:
    agent_run.checks(CHECK)
    path = agent_run.folder / "cut.gguf"
    with smollm2.open("rb") as whole:
        path.write_bytes(whole.read(3_000_000))
    message = usage_error(agent_run(f"--agent-model=gguf:{path}"))
    assert "download it again" in message.lower()


def test_a_killed_embedded_server_is_infra_and_said(agent_run: AgentRun, smollm2: Path) -> None:
    agent_run.checks(
        """
        import os, signal, psutil

        @pytest.mark.trials(3)
        def test_hi(agent, agentlimit_trial):
            if agentlimit_trial.number == 2:
                for child in psutil.Process().children():
                    child.send_signal(signal.SIGKILL)
                    while child.status() != psutil.STATUS_ZOMBIE:
                        pass
            agent.ask("Say hi", max_tokens=8)
        """
    )
    result = agent_run("--agent-model=smollm2")
    assert agent_run.outcomes == ["infra", "infra", "passed"]
    shown = " ".join(result.stdout.str().split())
    assert "the embedded server of smollm2 died during the run: SIGKILL" in shown
    assert result.ret == 1


def test_an_embedded_server_is_gone_after_the_run(agent_run: AgentRun, smollm2: Path) -> None:
    agent_run.checks(
        """
        def test_hi(agent):
            agent.ask("Say hi", max_tokens=8)
        """
    )
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    result = agent_run("--agent-model=smollm2", "-n2")
    assert result.ret == 0
    left = {child.pid for child in psutil.Process().children(recursive=True)} - before
    assert not left


@pytest.mark.parametrize(
    ("reply", "kind"),
    [(endless(0.01), "slow"), (huge(50_000_000), "too_large")],
    ids=["streams-forever", "50-MB"],
)
def test_a_reply_without_end(
    agent_run: AgentRun, scripted: Scripts, reply: object, kind: str
) -> None:
    agent_run.checks(CHECK)
    server = scripted([reply, say("yes")])  # type: ignore[list-item]
    timeout = "300ms" if kind == "slow" else "60s"
    result = agent_run(
        f"--agent-model={server.spec}", "--agent-trials=2", f"--agent-timeout={timeout}"
    )
    result.assert_outcomes(passed=1, failed=1)
    first = next(line["record"] for line in agent_run.journal if "record" in line)
    assert first["calls"][0]["error_kind"] == kind
    assert first["blame"] == "engine"


@pytest.mark.parametrize(
    "body",
    [
        b'{"choices":[{"message":{"content":"\\ud800 lone"},"finish_reason":"stop"}]}',
        b'{"choices":[{"message":{"content":"\xff\xfe"},"finish_reason":"stop"}]}',
        b'{"choices":[{"message":{"content":"\\u001b]0;x\\u0007"},"finish_reason":"stop"}]}',
    ],
    ids=["lone-surrogate", "invalid-utf8", "terminal-escape"],
)
@pytest.mark.parametrize("workers", ["-n0", "-n2"])
def test_unprintable_replies_are_reported(
    agent_run: AgentRun, scripted: Scripts, body: bytes, workers: str
) -> None:
    agent_run.checks(
        """
        def test_hi(agent):
            text = agent.ask("hi").text
            print(text)
            assert text == "yes", text
        """
    )
    server = scripted([raw(body, "application/json")])
    result = agent_run(workers, f"--agent-model={server.spec}")
    assert agent_run.outcomes == ["failed"]
    assert "INTERNALERROR" not in result.stdout.str()
    assert "\x1b]0" not in result.stdout.str()
    (agent_run.folder / "out.json").read_text(encoding="utf-8")


def test_no_key_is_in_any_file(
    agent_run: AgentRun, scripted: Scripts, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "sk-very-secret-value"
    monkeypatch.setenv("LAB_KEY", secret)
    server = scripted([raw(f'{{"error":{{"message":"bad {secret}"}}}}'.encode(), status=500)])
    (agent_run.folder / "agentlimit.toml").write_text(
        f'[models.lab]\nbase_url = "{server.url}"\nmodel = "scripted"\napi_key_env = "LAB_KEY"\n'
    )
    agent_run.checks(CHECK)
    result = agent_run("--agent-model=lab", "--agent-report=markdown:out.md", "-l", "-vv")
    assert agent_run.outcomes == ["infra"]
    assert secret not in result.stdout.str() + result.stderr.str()
    for path in agent_run.folder.rglob("*"):
        if path.is_file():
            assert secret.encode() not in path.read_bytes(), path
