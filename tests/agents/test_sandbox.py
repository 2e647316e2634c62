from __future__ import annotations

import os
import socket
import threading
import time
from pathlib import Path

import pytest

from pytest_agentlimit.agents.sandbox import (
    PROTECTIONS,
    Limits,
    protections,
    run_python,
    run_shell,
)


def needs(name: str) -> None:
    if not protections()[name]:
        pytest.skip(f"this machine has no {name} protection")


def left_running(marker: str) -> list[str]:
    # The kernel may take a moment to end what it has been told to end.
    deadline = time.monotonic() + 10
    while (found := running(marker)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return found


def running(marker: str) -> list[str]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if marker in (folder / "cmdline").read_text(errors="replace"):
                found.append(folder.name)
        except OSError:
            continue
    return found


def marker() -> str:
    # An odd number of seconds finds the process in the list, and names this test run alone.
    return f"{60 + os.getpid() % 1000}.{time.monotonic_ns() % 10**9}"


def test_output_and_exit_code_come_back() -> None:
    done = run_python("import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)")
    assert (done.stdout, done.stderr, done.exit_code) == ("out\n", "err\n", 3)
    assert not done.timed_out
    assert not done.ok


def test_stdin_reaches_the_program() -> None:
    done = run_python("print(input()[::-1])", stdin="añb\n")
    assert done.stdout == "bña\n"


def test_a_long_program_runs() -> None:
    assert run_python("x = 1\n" * 100_000 + "print(x)").stdout == "1\n"


def test_the_program_is_main_and_imports_the_standard_library_alone() -> None:
    done = run_python("import json, sys\nprint(__name__, 'site' in sys.modules)\nimport pydantic")
    assert done.stdout == "__main__ False\n"
    assert "ModuleNotFoundError" in done.stderr


def test_shell_pipes_and_signals_work_as_usual() -> None:
    done = run_shell("yes | head -n 2; kill -TERM $$")
    assert done.stdout == "y\ny\n"
    assert done.stderr == ""
    assert done.exit_code == 128 + 15


def test_the_program_starts_in_its_folder(tmp_path: Path) -> None:
    (tmp_path / "given.txt").write_text("7")
    done = run_shell("cat given.txt; echo 8 > made.txt; pwd", cwd=tmp_path)
    assert done.stdout == f"7{tmp_path.resolve()}\n"
    assert (tmp_path / "made.txt").read_text() == "8\n"


def test_a_file_the_program_made_can_be_changed_and_removed(tmp_path: Path) -> None:
    run_shell(
        "mkdir -p deep/er; echo a > deep/er/file; chmod 700 deep; chmod +x deep/er/file",
        cwd=tmp_path,
    )
    assert run_shell("mv deep/er/file . && rm -r deep && ls", cwd=tmp_path).stdout == "file\n"
    (tmp_path / "file").write_text("b")
    assert os.access(tmp_path / "file", os.X_OK)


def test_a_folder_of_its_own_is_gone_afterwards() -> None:
    done = run_python("import os; open('x', 'w').close(); print(os.getcwd())")
    assert done.ok
    assert not Path(done.stdout.strip()).parent.exists()


@pytest.mark.parametrize(
    "mess",
    [
        "for _ in range(1100): os.mkdir('d'); os.chdir('d')",
        "os.makedirs('a/b'); open('a/b/f', 'w'); os.chmod('a/b', 0); os.chmod('a', 0)",
    ],
)
def test_whatever_it_leaves_is_removed(mess: str) -> None:
    done = run_python(f"import os\nprint(os.getcwd())\n{mess}")
    assert done.ok
    assert not Path(done.stdout.strip()).parent.exists()


def test_an_endless_loop_ends_with_its_children() -> None:
    seconds = marker()
    code = (
        "import subprocess, os\n"
        f"subprocess.Popen(['sleep', '{seconds}'])\n"
        f"subprocess.Popen(['sleep', '{seconds}'], start_new_session=True)\n"
        "print('started', flush=True)\n"
        "while True: pass"
    )
    done = run_python(code, limits=Limits(time_s=0.6))
    assert done.timed_out
    assert done.exit_code is None
    assert done.stdout == "started\n"
    if protections()["processes"]:
        assert left_running(seconds) == []


def test_a_background_process_neither_delays_nor_outlives_the_program() -> None:
    seconds = marker()
    done = run_shell(f"sleep {seconds} & setsid sleep {seconds} & echo done")
    assert (done.stdout, done.exit_code, done.timed_out) == ("done\n", 0, False)
    if protections()["processes"]:
        assert left_running(seconds) == []


def test_a_program_that_closes_its_output_is_still_awaited() -> None:
    done = run_python(
        "import os, time, sys\nos.close(1); os.close(2); time.sleep(0.2); os._exit(5)"
    )
    assert done.exit_code == 5


def test_a_fork_bomb_is_bounded() -> None:
    needs("processes")
    bomb = (
        "import os\nn = 0\n"
        "for _ in range(300):\n"
        "    try:\n"
        "        if os.fork() == 0:\n"
        "            import time; time.sleep(60)\n"
        "    except OSError: break\n"
        "    n += 1\n"
        "print(n)"
    )
    done = run_python(bomb, limits=Limits(processes=20, time_s=5))
    assert done.ok
    assert 10 <= int(done.stdout) <= 24
    assert run_python("print('alive')").stdout == "alive\n"


def test_a_shell_fork_bomb_ends_in_time() -> None:
    needs("processes")
    done = run_shell("bomb() { bomb | bomb & }; bomb; wait; echo over", limits=Limits(time_s=1))
    assert done.duration_s < 10
    assert run_shell("echo alive").stdout == "alive\n"


def test_memory_is_limited() -> None:
    done = run_python("x = bytearray(300 << 20)", limits=Limits(memory_mb=200))
    assert "MemoryError" in done.stderr
    assert run_python("x = bytearray(100 << 20)", limits=Limits(memory_mb=200)).ok


def test_file_size_is_limited(tmp_path: Path) -> None:
    done = run_shell("head -c 3000000 /dev/zero > big", cwd=tmp_path, limits=Limits(file_mb=1))
    assert not done.ok
    assert (tmp_path / "big").stat().st_size == 1 << 20


def test_a_flood_of_output_is_cut_in_the_middle() -> None:
    code = (
        "import sys\nsys.stdout.write('first')\n"
        "for _ in range(3000): sys.stdout.write('x' * 10_000)\n"
        "sys.stdout.write('last')"
    )
    done = run_python(code)
    assert done.ok
    assert len(done.stdout) < 66_000
    assert done.stdout.startswith("first")
    assert done.stdout.endswith("last")
    assert "29934473 bytes cut" in done.stdout


def test_endless_output_ends_at_the_time_limit() -> None:
    done = run_shell("yes", limits=Limits(time_s=0.3))
    assert done.timed_out
    assert len(done.stdout) < 66_000


def test_bytes_that_are_no_text_are_shown() -> None:
    assert run_python("import os; os.write(1, b'a\\xff')").stdout == "a\N{REPLACEMENT CHARACTER}"


def test_the_environment_tells_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_API_KEY", "sk-very-secret")
    done = run_shell("env")
    names = {line.partition("=")[0] for line in done.stdout.splitlines()}
    assert names - {"PWD", "SHLVL", "_", "OLDPWD"} == {"PATH", "HOME", "TMPDIR", "LANG"}
    assert "sk-very-secret" not in done.stdout


def test_the_environment_of_the_caller_cannot_be_read() -> None:
    needs("environment")
    done = run_shell(f"cat /proc/{os.getpid()}/environ /proc/[0-9]*/environ /proc/$PPID/environ")
    assert done.stdout == ""


def test_there_is_no_network() -> None:
    needs("network")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        code = f"import socket; socket.create_connection(('127.0.0.1', {port}), 2)"
        done = run_python(code)
        server.settimeout(0)
        with pytest.raises(BlockingIOError):
            server.accept()
    assert not done.ok


@pytest.mark.parametrize(
    "command",
    [
        "cat {secret}",
        "echo x > {folder}/new",
        "echo x >> {secret}",
        "rm {secret}",
        "mv {secret} .",
        "ln {secret} linked && cat linked",
        "ln -s {secret} link && cat link",
        "chmod 777 {secret}",
        "touch -d 2001-01-01 {secret}",
        "truncate -s 0 {secret}",
        "mkdir {folder}/sub",
        "ls {folder}",
    ],
)
def test_nothing_outside_can_be_read_or_changed(tmp_path: Path, command: str) -> None:
    needs("filesystem")
    outside, inside = tmp_path / "outside", tmp_path / "inside"
    outside.mkdir()
    inside.mkdir()
    secret = outside / "secret"
    secret.write_text("hidden")
    before = (secret.stat().st_mode, secret.stat().st_mtime_ns, sorted(outside.iterdir()))
    done = run_shell(command.format(secret=secret, folder=outside), cwd=inside)
    assert not done.ok
    assert "hidden" not in done.stdout
    assert secret.read_text() == "hidden"
    assert (secret.stat().st_mode, secret.stat().st_mtime_ns, sorted(outside.iterdir())) == before


def test_nothing_outside_can_be_killed() -> None:
    needs("processes")
    done = run_shell(f"kill -9 {os.getpid()}")
    assert not done.ok


def test_each_result_says_what_held() -> None:
    done = run_python("pass")
    assert tuple(done.protections) == PROTECTIONS
    assert {name for name, held in protections().items() if held} <= {
        name for name, held in done.protections.items() if held
    }


def test_time_and_output_are_protected_everywhere() -> None:
    assert protections()["time"]
    assert set(protections()) == set(PROTECTIONS)


def test_the_caller_cannot_spoil_the_answer() -> None:
    protections()["time"] = False
    assert protections()["time"]


def test_runs_in_threads_do_not_disturb_each_other() -> None:
    answers: list[str] = []
    threads = [
        threading.Thread(target=lambda n=n: answers.append(run_python(f"print({n})").stdout))
        for n in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [f"{n}\n" for n in range(6)]


def test_no_descriptor_is_left_open() -> None:
    if not Path("/proc/self/fd").exists():
        pytest.skip("no list of open files on this machine")
    run_python("pass")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        run_python("pass")
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("name", ["time_s", "memory_mb", "processes", "file_mb"])
def test_a_limit_of_nothing_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        Limits.model_validate({name: 0})
