"""The head of a GGUF file: enough to refuse a wrong file before a process is started for it.

Layout: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md (versions 2 and 3).
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

_VERSIONS = (2, 3)
# Sizes in bytes of the scalar value types by number; 8 is a string, 9 an array.
_SCALARS = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_STRING, _ARRAY = 8, 9
_UNSIGNED = {4: "<I", 10: "<Q"}
_MAX_KEYS = 10_000
_MAX_KEY_BYTES = 65_535


class GGUFError(ValueError):
    """The file is no GGUF this package can serve; the message says what it is instead."""


def context_length(path: Path) -> int | None:
    """Return the tokens the model was trained on at once, None when the file does not say.

    Raises GGUFError for a wrong magic, an unknown version or a head that ends too early, OSError
    for a file that cannot be read.
    """
    with path.open("rb") as file:
        magic = file.read(4)
        if magic != b"GGUF":
            raise GGUFError(f"it begins with {magic!r}, not with the magic GGUF")
        version, _tensors, keys = struct.unpack("<IQQ", _exactly(file, 20))
        if version not in _VERSIONS:
            raise GGUFError(f"its GGUF version is {version}, and only versions 2 and 3 are known")
        if keys > _MAX_KEYS:
            raise GGUFError(f"its head claims {keys} keys")
        for _ in range(keys):
            key = _text(file)
            (kind,) = struct.unpack("<I", _exactly(file, 4))
            if key.endswith(b".context_length") and kind in _UNSIGNED:
                layout = _UNSIGNED[kind]
                return int(struct.unpack(layout, _exactly(file, struct.calcsize(layout)))[0])
            if key.startswith(b"tokenizer."):
                return None  # the arrays of the vocabulary come last, and are long
            _skip(file, kind)
    return None


def _text(file: BinaryIO) -> bytes:
    (size,) = struct.unpack("<Q", _exactly(file, 8))
    if size > _MAX_KEY_BYTES:
        raise GGUFError("its head holds a key that is too long")
    return _exactly(file, size)


def _skip(file: BinaryIO, kind: int) -> None:
    if kind == _STRING:
        (size,) = struct.unpack("<Q", _exactly(file, 8))
        _forward(file, size)
    elif kind == _ARRAY:
        inner, count = struct.unpack("<IQ", _exactly(file, 12))
        if inner == _ARRAY:
            raise GGUFError("its head holds arrays in arrays")
        if inner in _SCALARS:
            _forward(file, count * _SCALARS[inner])
        else:
            for _ in range(count):
                _skip(file, inner)
    elif kind in _SCALARS:
        _forward(file, _SCALARS[kind])
    else:
        raise GGUFError(f"its head holds a value of unknown type {kind}")


def _forward(file: BinaryIO, size: int) -> None:
    if size >= 1 << 40:
        raise GGUFError("its head holds a value that is too long")
    file.seek(size, 1)


def _exactly(file: BinaryIO, size: int) -> bytes:
    data = file.read(size)
    if len(data) != size:
        raise GGUFError("it ends in the middle of its head: the file is cut")
    return data
