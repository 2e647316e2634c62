"""The process that serves one GGUF file: started by `embedded.py`, gone when its parent is.

It is told what to serve by one line of JSON on standard input and answers with one line on standard
output: `{"url": …}` or `{"error": …}`. Standard input stays open for as long as the parent lives;
its end is the order to go. Standard error takes the engine's log.
"""

from __future__ import annotations

import json
import os
import select
import threading
from typing import Any


def main() -> None:
    """Serve until the parent closes standard input or dies."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever native code prints belongs in the log, not among the answers
    order: dict[str, Any] = json.loads(_read_line())
    watcher = threading.Thread(target=_leave_with_parent, args=(os.getppid(),), daemon=True)
    watcher.start()
    try:
        server = _serve(order)
    except (RuntimeError, ImportError, AttributeError, TypeError, ValueError) as error:
        _answer(answers, {"error": f"{type(error).__name__}: {error}"})
        os._exit(1)
    _answer(answers, {"url": server.listening_address})
    watcher.join()


def _serve(order: dict[str, Any]) -> Any:
    """Return the running llama.cpp server, loaded and listening on a free loopback port."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = order["path"]
    params.model_alias = {order["alias"]}
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.n_ctx = order["context"]
    # One at a time: requests that share the CPU would measure one another.
    params.n_parallel = 1
    params.cpuparams.n_threads = order["threads"]
    params.use_jinja = True
    params.ui = False
    # A prompt seen minutes ago must not come back as a free one, nor fill the memory.
    params.cache_ram_mib = 0
    if order["template"]:
        params.chat_template = order["template"]
    return xllamacpp.Server(params)


def _leave_with_parent(parent: int) -> None:
    """End the process on the end of standard input, or when the parent process has changed.

    The second covers a parent that forked: the fork holds a copy of the pipe's other end.
    """
    while os.getppid() == parent:
        readable, _, _ = select.select([0], [], [], 1.0)
        if readable and not os.read(0, 4096):
            break
    os._exit(0)


def _read_line() -> bytes:
    """Read one line from standard input without buffering past it."""
    line = b""
    while not line.endswith(b"\n"):
        chunk = os.read(0, 65_536)
        if not chunk:
            os._exit(0)
        line += chunk
    return line


def _answer(stream: Any, answer: dict[str, str]) -> None:
    stream.write(json.dumps(answer) + "\n")
    stream.flush()


if __name__ == "__main__":
    main()
