from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from harness_kit import WORKS, Stage, alive

from pytest_agentlimit.errors import UsageProblem
from pytest_agentlimit.harness import process
from pytest_agentlimit.harness.process import OUTPUT_BYTES, Ended, run_program
from pytest_agentlimit.testing import call, hang, say

# Deaf to SIGTERM, with a child that is too; both write down who they are.
DEAF = """
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-S", "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True);"
    "time.sleep(600)"], stdout=subprocess.PIPE)
child.stdout.read(1)
with open("pids.json.part", "w") as file:
    json.dump([os.getpid(), child.pid], file)
os.rename("pids.json.part", "pids.json")
"""
# A helper in a session of its own that keeps the pipes open, as servers of real programs do.
DAEMON = """
helper = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"],
    start_new_session=True)
with open("pids.json", "w") as file:
    json.dump([helper.pid], file)
"""


def pids(folder: Path) -> list[int]:
    found: list[int] = json.loads((folder / "pids.json").read_text())
    return found


def run(code: str, tmp_path: Path, *, timeout_s: float = 30.0) -> Ended:
    home = tmp_path / "home"
    home.mkdir(exist_ok=True)
    env = {"HOME": str(home), "PATH": os.environ["PATH"]}
    argv = [sys.executable, "-S", "-c", f"import json, os, subprocess, sys, time\n{code}"]
    return run_program(argv, cwd=tmp_path, env=env, timeout_s=timeout_s, home=home)


def test_a_deaf_program_and_its_child_are_gone_after_the_time_limit(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "GRACE_S", 0.2)
    done = stage.run(DEAF + WORKS, [hang()], timeout_s=4.0)
    assert done.process.timed_out
    assert done.outcome == "timeout"
    assert not [pid for pid in pids(stage.workspace) if alive(pid)]


def test_children_that_stay_behind_are_gone_after_a_normal_end(stage: Stage) -> None:
    done = stage.run(DEAF + WORKS, [say("Done.")])
    assert (done.process.exit_code, done.outcome) == (0, "finished")
    assert not [pid for pid in pids(stage.workspace) if alive(pid)]


@pytest.mark.skipif(not os.path.isdir("/proc"), reason="its environment is found in /proc only")
def test_a_helper_in_a_session_of_its_own_holds_nothing_up_and_is_gone(stage: Stage) -> None:
    done = stage.run(DAEMON + WORKS, [say("Done.")], timeout_s=60.0)
    assert done.outcome == "finished"
    assert done.process.final_text == "Done."
    assert not [pid for pid in pids(stage.workspace) if alive(pid)]


def test_ctrl_c_in_the_waiting_thread_ends_everything(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(running: subprocess.Popen[bytes], *args: object, **kwargs: object) -> bool:
        assert running.stdout is not None
        assert running.stdout.read(5) == b"ready"
        raise KeyboardInterrupt

    monkeypatch.setattr(process, "drain", interrupted)
    body = DEAF + 'open("home.txt", "w").write(os.environ["HOME"])\nprint("ready", flush=True)\n'
    with pytest.raises(KeyboardInterrupt):
        stage.run(body + WORKS, [hang()])
    assert not [pid for pid in pids(stage.workspace) if alive(pid)]
    assert not Path((stage.workspace / "home.txt").read_text()).exists()
    assert not [one for one in threading.enumerate() if one.name == "agentlimit-bridge"]


def test_a_flood_is_bounded_and_its_ends_are_kept(tmp_path: Path) -> None:
    code = """
print("first")
for _ in range(1600):
    sys.stdout.write("x" * 65535 + "\\n")
print("last")
"""
    ended = run(code, tmp_path)
    assert ended.exit_code == 0
    assert ended.stdout.startswith("first\n")
    assert ended.stdout.endswith("\nlast\n")
    assert "bytes cut" in ended.stdout
    assert len(ended.stdout) < OUTPUT_BYTES + 100


def test_what_it_says_at_the_end_survives_a_flood(stage: Stage) -> None:
    flood = 'sys.stdout.write(("y" * 9999 + "\\n") * 2000)\n'
    body = f'{flood}said = work([{{"role": "user", "content": GOAL}}])\nprint(json.dumps([said]))'
    done = stage.run(body, [say("The end.")], output={"form": "jsonl", "text": "0"})
    assert done.process.final_text == "The end."
    assert len(done.process.stdout) <= 20_000


def test_terminal_tricks_are_shown_and_not_played(stage: Stage) -> None:
    body = 'print("\\x1b[2J\\x07 gone", file=sys.stderr)\nos.write(1, b"\\xff\\xfe")\nsys.exit(9)'
    done = stage.run(body, [say("never")])
    shown = (done.process.stdout, done.process.stderr, *done.problems)
    assert not [text for text in shown if "\x1b" in text or "\x07" in text]
    assert "\\x1b[2J" in done.problems[0]


def test_a_program_that_closes_its_output_is_awaited(tmp_path: Path) -> None:
    code = """
sys.stdout.close(); sys.stderr.close(); os.closerange(1, 3)
time.sleep(0.3)
open("written", "w").close()
os._exit(4)
"""
    ended = run(code, tmp_path)
    assert (ended.exit_code, ended.timed_out) == (4, False)
    assert (tmp_path / "written").exists()


def test_the_time_limit_holds_without_output_too(tmp_path: Path) -> None:
    ended = run("os.closerange(1, 3)\ntime.sleep(600)", tmp_path, timeout_s=0.6)
    assert (ended.exit_code, ended.timed_out) == (None, True)


def test_a_polite_program_gets_to_say_goodbye(tmp_path: Path) -> None:
    code = """
import signal
signal.signal(signal.SIGTERM, lambda *_: (print("goodbye", flush=True), os._exit(0)))
print("hello", flush=True)
time.sleep(600)
"""
    ended = run(code, tmp_path, timeout_s=1.0)
    assert ended.timed_out
    assert ended.exit_code is None
    assert ended.stdout == "hello\ngoodbye\n"


def test_a_signal_is_an_exit_code_as_shells_have_it(tmp_path: Path) -> None:
    assert run("os.abort()", tmp_path).exit_code == 134


def test_a_program_has_no_terminal_and_nothing_to_read(tmp_path: Path) -> None:
    ended = run("print(repr(sys.stdin.read()), os.getsid(0) == os.getpid())", tmp_path)
    assert ended.stdout == "'' True\n"


@pytest.mark.parametrize("argv", [["/no/such/program"], [sys.executable, "a\0b"], ["/etc/hosts"]])
def test_what_cannot_be_started_is_one_line(tmp_path: Path, argv: list[str]) -> None:
    with pytest.raises(UsageProblem, match="cannot be started: .+ Next: ") as caught:
        run_program(argv, cwd=tmp_path, env={}, timeout_s=1.0, home=tmp_path)
    assert "\n" not in str(caught.value)


def test_a_goal_too_long_for_an_argument_is_said(stage: Stage) -> None:
    with pytest.raises(UsageProblem, match="cannot be started: Argument list too long"):
        stage.run(WORKS, [say("never")], goal="word " * 100_000)


def test_the_home_goes_whatever_was_made_in_it(stage: Stage) -> None:
    body = (
        """
home = os.environ["HOME"]
os.makedirs(home + "/closed/inner")
open(home + "/closed/inner/file", "w").close()
os.chmod(home + "/closed/inner", 0)
os.chmod(home + "/closed", 0o500)
print(home)
"""
        + WORKS
    )
    done = stage.run(
        body, [call("bash", cmd="cd; mkdir -p $(printf 'd/%.0s' $(seq 300))"), say("")]
    )
    home = Path(done.process.stdout.splitlines()[0])
    assert home.name.startswith("agentlimit-home-")
    assert not home.exists()
