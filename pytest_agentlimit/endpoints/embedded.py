"""A model served in-house: llama.cpp in a process of its own, on a free loopback port.

The process outlives nothing: it ends with `stop()`, and by itself when this process ends in any
other way, `kill -9` included. It stands in its own session, so that Ctrl-C on a terminal reaches
the tests first and their finished trials are recorded.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any

from pytest_agentlimit.chat.messages import Frozen
from pytest_agentlimit.endpoints import catalog
from pytest_agentlimit.endpoints.gguf import GGUFError, context_length
from pytest_agentlimit.endpoints.spec import EndpointSpec
from pytest_agentlimit.errors import EndpointUnusable
from pytest_agentlimit.text import one_line, printable

CONTEXT_CAP = 8192
"""Tokens of context when the user asks for none: more costs memory that nobody asked to spend."""
START_DEADLINE_S = 60.0
_CHILD = Path(__file__).with_name("_serve_gguf.py")
_STOP_GRACE_S = 2.0
_MAX_THREADS = 8
_TAIL_LINES = 6


class _Weights(Frozen):
    """What to serve: the file, the tokens of context, and a template in place of the file's own."""

    path: Path
    context: int
    template: str


class EmbeddedServer:
    """A running embedded model. `spec` has its address filled in; `stop()` may be called again."""

    def __init__(self, spec: EndpointSpec, process: subprocess.Popen[bytes], log: IO[bytes]):
        self.spec = spec
        self.process = process
        self._log = log

    @property
    def base_url(self) -> str:
        """The address of the OpenAI-dialect API, /v1 included."""
        return self.spec.base_url

    @property
    def identity(self) -> dict[str, str]:
        """What its own API cannot tell for the fingerprint: the wheel's version, known weights."""
        model = catalog.MODELS.get(self.spec.gguf or "")
        known = {} if model is None else {"digest": f"sha256:{model.sha256}"}
        return {"engine_version": f"xllamacpp {version('xllamacpp')}", **known}

    def death(self) -> str | None:
        """Return how the process ended and its last words, None while it runs or after `stop()`."""
        if self._log.closed or self.process.poll() is None:
            return None
        return f"{_death(self.process, {})}; its last words:\n{self.log_tail()}"

    def log_tail(self) -> str:
        """Return the end of the engine's log, printable; empty once stopped."""
        return "" if self._log.closed else _tail(self._log)

    def stop(self) -> None:
        """End the server and wait until it is gone."""
        _end(self.process)
        self._log.close()

    def __enter__(self) -> EmbeddedServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def start_embedded(spec: EndpointSpec, deadline_s: float = START_DEADLINE_S) -> EmbeddedServer:
    """Return a server that has loaded the weights of `spec.gguf` and answers on loopback.

    `spec.gguf` is the short name of an embedded model or the path of a GGUF file. Raises
    EndpointUnusable for a missing engine, missing or broken weights, a failed or too slow start.
    """
    weights = _weights(spec)
    if importlib.util.find_spec("xllamacpp") is None:
        raise EndpointUnusable(
            f"{spec.name} is served by llama.cpp, which is not installed. "
            'Run: pip install "pytest-agentlimit[embedded]"'
        )
    # The log has no name in the file system: nothing to clear away, however this process ends.
    log = tempfile.TemporaryFile()  # noqa: SIM115 (EmbeddedServer closes it)
    process = subprocess.Popen(
        [sys.executable, "-P", str(_CHILD)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        start_new_session=True,
        # The engine shares its cores with the tests. Threads that spin for long while they wait
        # take the core from the very thread they wait for: measured on two cores, two busy
        # processes made each call six times slower.
        env={"GOMP_SPINCOUNT": "1000", **os.environ},
    )
    try:
        _order(process, weights, spec.model)
        address = _address(process, log, spec.name, deadline_s)
    except BaseException:
        _end(process)
        log.close()
        raise
    return EmbeddedServer(spec.model_copy(update={"base_url": f"{address}/v1"}), process, log)


def _weights(spec: EndpointSpec) -> _Weights:
    if spec.gguf is None:
        raise EndpointUnusable(f"{spec.name} names no weights to serve: give it gguf = PATH")
    model = catalog.MODELS.get(spec.gguf)
    if model is not None:
        found = catalog.find(model.name)
        if found is None:
            raise EndpointUnusable(
                f"the weights of {model.name} are not on this machine. "
                f"Run: agentlimit pull {model.name}"
            )
        context = spec.context_window or min(model.context, CONTEXT_CAP)
        return _Weights(path=found, context=context, template=model.template_text)
    path = Path(spec.gguf)
    shown = one_line(spec.gguf)
    try:
        trained = context_length(path)
    except FileNotFoundError as error:
        raise EndpointUnusable(f"there is no file {shown}: check the path after gguf:") from error
    except OSError as error:
        raise EndpointUnusable(f"cannot read {shown}: {error.strerror}") from error
    except GGUFError as error:
        raise EndpointUnusable(
            f"{shown} is not a usable GGUF file: {one_line(str(error))}. Download it again"
        ) from error
    context = spec.context_window or min(trained or CONTEXT_CAP, CONTEXT_CAP)
    return _Weights(path=path.resolve(), context=context, template="")


def _order(process: subprocess.Popen[bytes], weights: _Weights, alias: str) -> None:
    order = {
        "path": str(weights.path),
        "alias": alias,
        "context": weights.context,
        "template": weights.template,
        "threads": max(1, min(_usable_cores() - 1, _MAX_THREADS)),
    }
    assert process.stdin is not None
    # A child that died at once is told by its missing answer, with its log.
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(json.dumps(order).encode() + b"\n")
        process.stdin.flush()


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _address(process: subprocess.Popen[bytes], log: IO[bytes], name: str, deadline_s: float) -> str:
    """Return the address the child tells, or raise EndpointUnusable with the end of its log."""
    answer = _answer(process, deadline_s)
    if "url" in answer:
        return str(answer["url"])
    if answer.get("late"):
        what = f"was not ready after {deadline_s:g} s"
        step = "Use a smaller model, or serve it yourself and name its address"
    else:
        what = f"could not be loaded ({_death(process, answer)})"
        step = "The file may be cut or made for a newer llama.cpp: download it again"
    raise EndpointUnusable(f"{name} {what}. {step}. The engine's last words:\n{_tail(log)}")


def _answer(process: subprocess.Popen[bytes], deadline_s: float) -> dict[str, Any]:
    """Return the child's one line; {} when it died without one, {"late": True} when none came."""
    assert process.stdout is not None
    until = time.monotonic() + deadline_s
    line = b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while not line.endswith(b"\n"):
            if not selector.select(max(0.0, until - time.monotonic())):
                return {"late": True}
            chunk = os.read(process.stdout.fileno(), 65_536)
            if not chunk:
                return {}
            line += chunk
    answer: dict[str, Any] = json.loads(line)
    return answer


def _death(process: subprocess.Popen[bytes], answer: dict[str, Any]) -> str:
    if "error" in answer:
        return one_line(str(answer["error"]))
    code = process.wait()
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _tail(log: IO[bytes]) -> str:
    """Return the last lines of the log; read beside the child's own writing position."""
    size = os.fstat(log.fileno()).st_size
    end = os.pread(log.fileno(), 8192, max(0, size - 8192)).decode("utf-8", "replace")
    return printable("\n".join(end.splitlines()[-_TAIL_LINES:]), 1500)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask the process to go by closing its input, then make it."""
    if process.stdin is not None:
        with contextlib.suppress(OSError):
            process.stdin.close()
    try:
        process.wait(_STOP_GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()
