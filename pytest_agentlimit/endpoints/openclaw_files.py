"""OpenClaw's config file: where it is, and what it holds once its includes are in (PROTOCOLS 1.1).

The file is another program's, so it is read and never written, and within its limits: an include
stays in the config's folder, and no file, chain or sum of files is without end.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_agentlimit.errors import UsageProblem
from pytest_agentlimit.text import one_line

CONFIG_NAMES = ("openclaw.json", "clawdbot.json", "moldbot.json", "moltbot.json")
_STATE_FOLDERS = (".openclaw", ".clawdbot", ".moldbot", ".moltbot")
_STATE_VARIABLES = ("OPENCLAW_STATE_DIR", "CLAWDBOT_STATE_DIR")
# The first two are OpenClaw's own limits; the sums bound includes that include each other twice.
_FILE_BYTES = 2 * 1024 * 1024
_INCLUDE_LEVELS = 10
_TOTAL_BYTES = 4 * _FILE_BYTES
_TOTAL_FILES = 100
_NESTING = 32
_PATH_LENGTH = 4096
_INDEX = re.compile(r"\[(\d+)\]")
_NEAR = re.compile(r"near (\d+)")


class Part(dict[str, Any]):
    """An object of a config; `files` says for each key which file it came from."""

    files: Mapping[str, str] = {}


def config_path(given: str | None, folder: Path, environ: Mapping[str, str]) -> Path | None:
    """Return the config file to read: `given`, or the one OpenClaw would read; None without any.

    `given` is a file or a folder that holds one, relative to `folder`; UsageProblem when it is
    neither.
    """
    if given is None:
        return _first(_usual_places(environ))
    path = folder / Path(given).expanduser()
    found = _first([path / name for name in CONFIG_NAMES]) if path.is_dir() else _first([path])
    if found is None:
        missing = f"none of {', '.join(CONFIG_NAMES)} in it" if path.is_dir() else "no such file"
        raise UsageProblem(
            f"the OpenClaw config {shown_path(path, folder, environ)} cannot be read: {missing}. "
            "Next: give --agent-config the path of your openclaw.json"
        )
    return found


def shown_path(path: Path, folder: Path, environ: Mapping[str, str]) -> str:
    """Return `path` for messages: relative to `folder`, else from ~, else whole."""
    if path.is_relative_to(folder):
        return one_line(str(path.relative_to(folder)))
    home = environ.get("HOME")
    if home and path.is_relative_to(home):
        return one_line(f"~/{path.relative_to(home)}")
    return one_line(str(path))


def read_config(path: Path, folder: Path, environ: Mapping[str, str]) -> dict[str, Any]:
    """Return what the config at `path` holds, includes merged in, `${VAR}` as it is written.

    UsageProblem names the file, with line and column for a syntax error, and quotes no value.
    """
    roots = [path.parent, *_include_roots(environ)]
    reader = _Reader(folder, environ, tuple(Path(os.path.realpath(root)) for root in roots))
    shown = shown_path(path, folder, environ)
    try:
        data = reader.load(path, ())
    except RecursionError:
        raise UsageProblem(f"{shown} is nested too deeply, includes counted") from None
    if not isinstance(data, dict):
        raise UsageProblem(f"{shown} must hold an object, {{…}}, at its top")
    return data


def state_folder(config: Path, environ: Mapping[str, str]) -> Path:
    """Return the folder of OpenClaw's own files: the one that is set, else that of the config."""
    given = _first_set(environ, *_STATE_VARIABLES)
    return _expanded(given, _home(environ)) if given else config.parent


def _usual_places(environ: Mapping[str, str]) -> list[Path]:
    """Return where OpenClaw and its earlier names look, in their order."""
    home = _home(environ)
    if given := _first_set(environ, "OPENCLAW_CONFIG_PATH", "CLAWDBOT_CONFIG_PATH"):
        return [_expanded(given, home)]
    folders = [home / name for name in _STATE_FOLDERS] if home else []
    if state := _first_set(environ, *_STATE_VARIABLES):
        folders.insert(0, _expanded(state, home))
    return [folder / name for folder in folders for name in CONFIG_NAMES]


def _home(environ: Mapping[str, str]) -> Path | None:
    real = Path(environ["HOME"]) if environ.get("HOME") else None
    given = environ.get("OPENCLAW_HOME", "").strip()
    return _expanded(given, real) if given else real


def _expanded(path: str, home: Path | None) -> Path:
    if home and (path == "~" or path.startswith("~/")):
        path = str(home / path[2:])
    return Path(path).absolute()


def _include_roots(environ: Mapping[str, str]) -> list[Path]:
    given = environ.get("OPENCLAW_INCLUDE_ROOTS", "").split(os.pathsep)
    home = _home(environ)
    return [_expanded(root, home) for root in given if root.startswith(("/", "~"))]


def _first_set(environ: Mapping[str, str], *names: str) -> str | None:
    return next((value for name in names if (value := environ.get(name, "").strip())), None)


def _first(paths: list[Path]) -> Path | None:
    # os.path.exists, since Path.exists raises for a folder that may not be read.
    return next((path for path in paths if os.path.exists(path)), None)


@dataclass
class _Reader:
    """Reads one config with its includes, and counts."""

    folder: Path
    environ: Mapping[str, str]
    roots: tuple[Path, ...]
    files: int = 0
    size: int = 0

    def load(self, path: Path, chain: tuple[Path, ...]) -> Any:
        """Return what `path` holds; `chain` are the files that led to it."""
        return self._resolved(_parsed(self._text(path), self._shown(path)), (*chain, path))

    def _resolved(self, value: Any, chain: tuple[Path, ...]) -> Any:
        if isinstance(value, list):
            return [self._resolved(item, chain) for item in value]
        if not isinstance(value, dict):
            return value
        own = Part()
        own |= {
            key: self._resolved(item, chain) for key, item in value.items() if key != "$include"
        }
        own.files = dict.fromkeys(own, self._shown(chain[-1]))
        if "$include" not in value:
            return own
        included = self._included(value["$include"], chain)
        if not own:
            return included
        if not isinstance(included, dict):
            raise self._problem(chain, "an $include with keys beside it must bring an object")
        return _merged(included, own)

    def _included(self, names: Any, chain: tuple[Path, ...]) -> Any:
        if isinstance(names, str):
            return self._include(names, chain)
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise self._problem(chain, "$include must be a path or a list of paths")
        whole: Any = {}
        for name in names:
            whole = _merged(whole, self._include(name, chain))
        return whole

    def _include(self, name: str, chain: tuple[Path, ...]) -> Any:
        shown = one_line(name, 120)
        if "\0" in name or len(name) >= _PATH_LENGTH:
            raise self._problem(chain, f"$include {shown!r} is no path")
        path = Path(os.path.normpath(chain[-1].parent / name))
        real = Path(os.path.realpath(path))
        if not any(real.is_relative_to(root) for root in self.roots):
            raise self._problem(
                chain,
                f"$include {shown!r} leaves the config's folder, which OpenClaw refuses too. "
                "Next: move that file, or allow its folder in OPENCLAW_INCLUDE_ROOTS",
            )
        if real in {Path(os.path.realpath(one)) for one in chain}:
            loop = " → ".join(one.name for one in (*chain, path))
            raise self._problem(chain, f"$include goes in a circle: {one_line(loop, 300)}")
        if len(chain) > _INCLUDE_LEVELS:
            raise self._problem(chain, f"$include goes deeper than {_INCLUDE_LEVELS} levels")
        return self.load(path, chain)

    def _text(self, path: Path) -> str:
        shown = self._shown(path)
        self.files += 1
        try:
            if path.exists() and not path.is_file():
                raise UsageProblem(f"{shown} is no ordinary file")
            with path.open("rb") as file:
                data = file.read(_FILE_BYTES + 1)
            self.size += len(data)
        except OSError as error:
            raise UsageProblem(f"cannot read {shown}: {error.strerror}") from None
        if len(data) > _FILE_BYTES:
            raise UsageProblem(
                f"{shown} is larger than 2 MB, OpenClaw's own limit: is it the config?"
            )
        if self.files > _TOTAL_FILES or self.size > _TOTAL_BYTES:
            raise UsageProblem(
                f"{shown}: the config includes more than {_TOTAL_FILES} files or 8 MB"
            )
        try:
            return data.decode("utf-8-sig")
        except UnicodeDecodeError:
            raise UsageProblem(f"{shown} is not UTF-8 text. Next: save it as UTF-8") from None

    def _shown(self, path: Path) -> str:
        return shown_path(path, self.folder, self.environ)

    def _problem(self, chain: tuple[Path, ...], what: str) -> UsageProblem:
        return UsageProblem(f"{self._shown(chain[-1])}: {what}")


def _merged(below: Any, above: Any) -> Any:
    """Return two values as one: objects key by key, lists joined, else the upper one."""
    if isinstance(below, list) and isinstance(above, list):
        return [*below, *above]
    if isinstance(below, dict) and isinstance(above, dict):
        merged = Part(below)
        merged |= {
            key: _merged(below[key], value) if key in below else value
            for key, value in above.items()
        }
        merged.files = {**_files(below), **_files(above)}
        return merged
    return above


def _files(part: Any) -> Mapping[str, str]:
    return part.files if isinstance(part, Part) else {}


def file_of(data: Any, place: str) -> str | None:
    """Return the file that holds the deepest known part of the path `place`, None for no part."""
    file = None
    while place:
        if isinstance(data, list) and (index := _INDEX.match(place)):
            number = int(index[1])
            data = data[number] if number < len(data) else None
            place = place[index.end() :].removeprefix(".")
            continue
        # The longest key, because ids may hold dots themselves.
        keys = [key for key in data if _begins(place, key)] if isinstance(data, dict) else []
        if not keys:
            break
        key = max(keys, key=len)
        file = _files(data).get(key, file)
        data, place = data[key], place[len(key) :].removeprefix(".")
    return file


def _begins(place: str, key: str) -> bool:
    return bool(key) and place.startswith(key) and place[len(key) : len(key) + 1] in ("", ".", "[")


def _parsed(text: str, shown: str) -> Any:
    import pyjson5

    try:
        return pyjson5.decode(text, maxdepth=_NESTING)
    except pyjson5.Json5NestingTooDeep:
        what = f"it is nested deeper than {_NESTING} levels"
    except pyjson5.Json5Exception as error:
        what = _complaint(error, text)
    # Outside the handler: the parser's error holds all values read so far, keys among them.
    raise UsageProblem(f"{shown} is not valid JSON5: {what}")


def _complaint(error: Exception, text: str) -> str:
    """Return what is wrong and where; the parser says where it was before it skipped spaces."""
    import pyjson5

    near = _NEAR.search(str(error.args[0]))
    position = int(near[1]) if near else 0
    if position == 0:
        return "there is no value in it"
    at = position - 1
    if isinstance(error, pyjson5.Json5ExtraData):
        at = len(text) - len(text[position:].lstrip())
    before = text[:at]
    place = f"line {before.count(chr(10)) + 1}, column {at - (before.rfind(chr(10)) + 1) + 1}"
    if isinstance(error, pyjson5.Json5EOF):
        return f"{place}: what starts here is not complete"
    return f"{place}: unexpected {one_line(text[at : at + 1])!r}"
