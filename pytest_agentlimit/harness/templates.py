"""A harness's templates filled in: its arguments, its environment, its files."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from pytest_agentlimit.agents.workspace import Workspace
from pytest_agentlimit.errors import UsageProblem, WorkspaceViolation
from pytest_agentlimit.text import one_line

from .spec import HOME, WORKSPACE, HarnessSpec

PLACEHOLDERS = (
    *("prompt", "model", "url", "home", "workspace", "key"),
    *("max_turns", "context", "max_tokens"),
)
_PLACEHOLDER = re.compile(r"\{(" + "|".join(PLACEHOLDERS) + r")\}")
_QUOTING = (".json", ".jsonc", ".json5", ".toml", ".yaml", ".yml")


class Launch(NamedTuple):
    """What a program is started with."""

    argv: list[str]
    env: dict[str, str]


def filled(template: str, values: Mapping[str, str]) -> str:
    """Return `template` with its placeholders replaced once: what they bring is left as it is."""
    return _PLACEHOLDER.sub(lambda match: values[match[1]], template)


def quoted(value: str) -> str:
    """Return `value` as it stands between the double quotes of JSON, TOML and YAML alike."""
    return json.dumps(value, ensure_ascii=False)[1:-1].replace("\x7f", "\\u007f")


def file_content(path: str, template: str, values: Mapping[str, str]) -> str:
    """Return the content of a file; in one with quoted strings the values are escaped."""
    if Path(path).suffix.lower() in _QUOTING:
        values = {name: quoted(value) for name, value in values.items()}
    return filled(template, values)


def launch(spec: HarnessSpec, program: Path, values: Mapping[str, str]) -> Launch:
    """Return how `program` is started: nothing of the user's environment but PATH passes."""
    env = {
        "PATH": os.environ.get("PATH", os.defpath),
        "LANG": "C.UTF-8",
        "HOME": values["home"],
        "TMPDIR": str(Path(values["home"], "tmp")),
        "NO_COLOR": "1",
    }
    env |= {name: filled(template, values) for name, template in spec.env.items()}
    return Launch([str(program), *(filled(one, values) for one in spec.argv)], env)


class ConfigFiles:
    """The files of a harness, as a context manager: there while the program runs.

    A file in the workspace is no work of the program, so it goes again, and so do the folders that
    were made for it. UsageProblem when it would replace one that is there.
    """

    def __init__(
        self, spec: HarnessSpec, workspace: Workspace, home: Path, values: Mapping[str, str]
    ) -> None:
        self._spec = spec
        self._places = {HOME: Workspace(home), WORKSPACE: workspace}
        self._workspace = workspace.path
        self._values = values
        self._made: list[Path] = []

    def __enter__(self) -> ConfigFiles:
        try:
            for path, template in self._spec.files.items():
                self._write(path, file_content(path, template, self._values))
        except BaseException:
            self._clear()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._clear()

    def _write(self, path: str, content: str) -> None:
        top, _, rest = path.partition("/")
        place = self._places[top]
        rest = filled(rest, self._values)
        target = place.path / rest
        if top == WORKSPACE:
            if os.path.lexists(target):
                raise UsageProblem(
                    f"the workspace has a {one_line(rest)}, and {one_line(self._spec.name)} needs "
                    "a file of its own there. Next: remove it, or give the program another folder"
                )
            above = [folder for folder in target.parents if self._workspace in folder.parents]
            self._made += [folder for folder in reversed(above) if not folder.exists()]
            self._made.append(target)
        try:
            place.write(rest, content)
        except WorkspaceViolation as error:
            raise UsageProblem(f"harness {one_line(self._spec.name)}: files: {error}") from None

    def _clear(self) -> None:
        for path in reversed(self._made):
            with suppress(OSError):  # the program removed it, or put something of its own there
                path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
        self._made.clear()
