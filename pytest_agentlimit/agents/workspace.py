"""A folder for one trial, with file and shell access that cannot leave it.

Paths are walked one name at a time from an open folder, and no link is followed, so that nothing
a program puts there between a check and a use can lead out.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pytest_agentlimit.chat.messages import Tool
from pytest_agentlimit.errors import ExpectationFailed, ToolProblem, WorkspaceViolation
from pytest_agentlimit.text import one_line

from .sandbox import Limits, SandboxResult, run_python, run_shell

READ_LIMIT = 200_000
WRITE_LIMIT = 1_000_000
PATH_LIMIT = 1000
GREP_LIMIT = 200
GREP_TIME_S = 5.0
SHELL_TIME_S = 60.0
_GREP = Path(__file__).with_name("_grep_child.py")
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Not to wait for the other end of a FIFO, and not to make a terminal ours.
_FILE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class FileMissing(ToolProblem, ExpectationFailed):
    """A file that is not there: told to a model that reads it, and a failed check in a check."""

    about_reply = False


class Workspace:
    """A confined folder: `read`, `write`, `edit`, `list`, `grep`, `shell`, and the same as tools.

    Paths are relative to the folder (an absolute path inside it is accepted). WorkspaceViolation
    for a path that leads out or through a link, FileMissing for one that is not there, ToolProblem
    for anything else that cannot be done.
    """

    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.path = root.resolve()

    @property
    def tools(self) -> tuple[Tool, ...]:
        """Tools for a model: read_file, write_file, edit_file, list_files, grep, shell."""
        from .workspace_tools import workspace_tools

        return workspace_tools(self)

    def read(self, path: str) -> str:
        """Return the text of a file of at most 200 KB; bytes that are not UTF-8 show as escapes."""
        return self.read_bytes(path).decode("utf-8", "backslashreplace")

    def read_bytes(self, path: str) -> bytes:
        """Return the content of a file of at most 200 KB."""
        with self._file(path, os.O_RDONLY) as opened:
            size = os.fstat(opened).st_size
            if size > READ_LIMIT:
                raise ToolProblem(
                    f"{_shown(path)} has {size} bytes, and at most {READ_LIMIT} can be read at "
                    "once; use grep, or the shell with head, tail or sed"
                )
            with open(opened, "rb", closefd=False) as file:
                return file.read(READ_LIMIT)

    def write(self, path: str, text: str) -> None:
        """Make a file, or replace its content, of at most 1 MB; missing folders are made."""
        content = text.encode("utf-8", "replace")
        if len(content) > WRITE_LIMIT:
            raise ToolProblem(f"{len(content)} bytes are too many; a file takes {WRITE_LIMIT}")
        with self._file(path, os.O_WRONLY | os.O_CREAT) as opened, _told(path):
            os.ftruncate(opened, 0)
            with open(opened, "wb", closefd=False) as file:
                file.write(content)

    def edit(self, path: str, old: str, new: str) -> None:
        """Replace `old`, which must occur exactly once in the file, by `new`."""
        try:
            text = self.read_bytes(path).decode("utf-8")
        except UnicodeDecodeError:
            raise ToolProblem(f"{_shown(path)} is not UTF-8 text") from None
        count = text.count(old) if old else 0
        if count != 1:
            found = "is not in" if count == 0 else f"occurs {count} times in"
            raise ToolProblem(
                f"the old text {found} {_shown(path)}; read the file and give a piece of it, "
                "exactly as it stands, that occurs once"
            )
        self.write(path, text.replace(old, new))

    def list(self, path: str = ".") -> tuple[str, ...]:
        """Return the names in a folder, sorted; those of folders end in `/`, of links in `@`."""
        with (
            self._folder(self._parts(path), path) as opened,
            _told(path),
            os.scandir(opened) as entries,
        ):
            return tuple(sorted(_entry(entry) for entry in entries))

    def grep(self, pattern: str, path: str = ".") -> tuple[str, ...]:
        """Return at most 200 lines `file:number: text` that match a Python regular expression."""
        parts = self._parts(path)
        with self._folder(parts[:-1], path) as opened, _told(path):
            if parts and stat.S_ISLNK(os.lstat(parts[-1], dir_fd=opened).st_mode):
                raise _is_link(path)
        job = {
            "pattern": pattern,
            "path": os.path.join(".", *parts),
            "limit": GREP_LIMIT,
            "max_bytes": WRITE_LIMIT,
        }
        limits = Limits(time_s=GREP_TIME_S, output_bytes=WRITE_LIMIT)
        done = run_python(_GREP.read_text(), stdin=json.dumps(job), cwd=self.path, limits=limits)
        if done.timed_out:
            raise ToolProblem(f"no end after {GREP_TIME_S:g} s; search less, or more simply")
        if not done.ok:
            raise ToolProblem(f"the search broke off: {one_line(done.stderr[-200:])}")
        answer = json.loads(done.stdout)
        if "problem" in answer:
            raise ToolProblem(f"not a regular expression: {answer['problem']}")
        return tuple(answer["matches"])

    def shell(self, command: str, timeout_s: float = 10.0) -> SandboxResult:
        """Return what a shell command did in the folder, within the sandbox, for at most 60 s."""
        limits = Limits(time_s=min(max(timeout_s, 0.1), SHELL_TIME_S))
        return run_shell(command, cwd=self.path, limits=limits)

    def _parts(self, path: str) -> tuple[str, ...]:
        """Return the names along `path` below the folder, or refuse it."""
        if len(path) > PATH_LIMIT:
            raise ToolProblem(f"{_shown(path)} is too long for a path")
        if "\0" in path:
            raise WorkspaceViolation("a path cannot hold a NUL character")
        inside = path
        if os.path.isabs(path):
            try:
                inside = str(Path(path).relative_to(self.path))
            except ValueError:
                raise WorkspaceViolation(
                    f"{_shown(path)} is outside of the workspace; give a path relative to it"
                ) from None
        parts = tuple(part for part in inside.split("/") if part not in ("", "."))
        if ".." in parts or parts[:1] == ("~",):
            raise WorkspaceViolation(
                f"{_shown(path)} may lead out of the workspace; use a path without .. and ~"
            )
        return parts

    @contextmanager
    def _folder(self, parts: tuple[str, ...], path: str, *, create: bool = False) -> Iterator[int]:
        """Open the folder at `parts`, going down through real folders only; errors name `path`."""
        with _told(path):
            opened = os.open(self.path, _FOLDER)
        try:
            for name in parts:
                with _told(path):
                    if create:
                        with suppress(FileExistsError):
                            os.mkdir(name, dir_fd=opened)
                    deeper = _open_folder(name, opened, path)
                os.close(opened)
                opened = deeper
            yield opened
        finally:
            os.close(opened)

    @contextmanager
    def _file(self, path: str, flags: int) -> Iterator[int]:
        """Open the regular file at `path`; a link, device or FIFO is refused."""
        parts = self._parts(path)
        if not parts:
            raise ToolProblem(f"{_shown(path)} is a folder, not a file")
        create = bool(flags & os.O_CREAT)
        with self._folder(parts[:-1], path, create=create) as folder:
            with _told(path):
                opened = os.open(parts[-1], flags | _FILE, 0o666, dir_fd=folder)
            try:
                if not stat.S_ISREG(os.fstat(opened).st_mode):
                    raise ToolProblem(f"{_shown(path)} is not a regular file")
                yield opened
            finally:
                os.close(opened)


def _open_folder(name: str, parent: int, path: str) -> int:
    try:
        return os.open(name, _FOLDER, dir_fd=parent)
    except NotADirectoryError:
        if stat.S_ISLNK(os.lstat(name, dir_fd=parent).st_mode):
            raise _is_link(path) from None
        raise


@contextmanager
def _told(path: str) -> Iterator[None]:
    """Turn an OSError into what a model or a reader can use: no traceback, no machine path."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise _is_link(path) from None
        if error.errno == errno.ENOENT:
            raise FileMissing(f"there is no {_shown(path)} in the workspace") from None
        if error.errno == errno.ENXIO:  # a FIFO nobody reads
            raise ToolProblem(f"{_shown(path)} is not a regular file") from None
        raise ToolProblem(f"{_shown(path)}: {error.strerror}") from None


def _is_link(path: str) -> WorkspaceViolation:
    return WorkspaceViolation(
        f"{_shown(path)} is or goes through a symbolic link, and links are not followed; "
        "use the real path"
    )


def _entry(entry: os.DirEntry[str]) -> str:
    name = os.fsencode(entry.name).decode("utf-8", "backslashreplace")
    if entry.is_symlink():
        return f"{name}@"
    return f"{name}/" if entry.is_dir(follow_symlinks=False) else name


def _shown(path: str) -> str:
    return repr(one_line(path, 120))
