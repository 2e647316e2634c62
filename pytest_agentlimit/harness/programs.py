"""Where an agent program is, and which version: it is skipped when it is missing, never failed."""

from __future__ import annotations

import functools
import os
import shutil
import tempfile
from pathlib import Path

from pytest_agentlimit.agents.processes import remove_folder
from pytest_agentlimit.errors import UsageProblem
from pytest_agentlimit.text import one_line

from .process import run_program
from .spec import HarnessSpec
from .templates import PLACEHOLDERS, launch

_VERSION_S = 10.0
_VERSION_LENGTH = 60


class HarnessMissing(UsageProblem):
    """An agent program is not installed; the message ends in how to install it."""


def missing(spec: HarnessSpec) -> HarnessMissing:
    """Return what is said of a program that is not on this machine."""
    step = spec.install or "install it, or correct `program`"
    return HarnessMissing(
        f"the agent program {one_line(spec.name)} is not installed: there is no "
        f"{one_line(spec.program)}. Next: {one_line(step, 300)}"
    )


def find_program(spec: HarnessSpec) -> Path | None:
    """Return the absolute path of the program, None when it is not installed."""
    if "/" in spec.program:
        path = Path(spec.program).expanduser().absolute()
        return path if path.is_file() and os.access(path, os.X_OK) else None
    found = shutil.which(spec.program)
    return Path(found).absolute() if found else None


def program_version(spec: HarnessSpec, path: Path) -> str | None:
    """Return what the program says of its version, at most 60 characters; None when it does not.

    The first line with a digit counts. It is asked once in this process, for at most 10 s.
    """
    return _version(spec.model_dump_json(), path) if spec.version else None


@functools.cache
def _version(described: str, path: Path) -> str | None:
    spec = HarnessSpec.model_validate_json(described)
    home = Path(tempfile.mkdtemp(prefix="agentlimit-home-")).resolve()
    try:
        (home / "tmp").mkdir()
        values = dict.fromkeys(PLACEHOLDERS, "0") | {"home": str(home), "workspace": str(home)}
        env = launch(spec, path, values).env
        ended = run_program(
            [str(path), *spec.version], cwd=home, env=env, timeout_s=_VERSION_S, home=home
        )
    except UsageProblem:
        return None
    finally:
        remove_folder(home)
    lines = (ended.stdout + "\n" + ended.stderr).splitlines()
    told = next((line for line in lines if any(sign.isdigit() for sign in line)), None)
    return None if told is None else one_line(told.strip(), _VERSION_LENGTH) or None
