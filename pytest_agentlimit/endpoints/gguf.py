"""The head of a GGUF file: enough to refuse a wrong file before a process is started for it.

Layout: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md (versions 2 and 3).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

_VERSIONS = (2, 3)
# The scalar value types by number, as struct spells them; 8 is a string, 9 an array.
_SCALARS = dict(zip((*range(8), 10, 11, 12), "BbHhIif?Qqd", strict=True))
_STRING, _ARRAY = 8, 9
_MAX_KEYS = 10_000
_MAX_KEY_BYTES = 65_535
_MAX_TEXT_BYTES = 65_535
_MAX_ITEMS = 4096
TOKENS = "tokenizer.ggml.tokens"
"""The key of the vocabulary, in `metadata` as the number of its tokens."""


class GGUFError(ValueError):
    """The file is no GGUF this package can serve; the message says what it is instead."""


def context_length(path: Path) -> int | None:
    """Return the tokens the model was trained on at once, None when the file does not say.

    Raises GGUFError for a wrong magic, an unknown version or a head that ends too early, OSError
    for a file that cannot be read.
    """
    with path.open("rb") as file:
        for key, kind in _entries(file):
            if key.endswith(".context_length") and kind in (4, 10):
                return int(_value(file, kind))
            if key.startswith("tokenizer."):
                return None  # the arrays of the vocabulary come last, and are long
    return None


def metadata(path: Path) -> dict[str, Any]:
    """Return what the head says of the model: numbers, truth values, texts, tuples of numbers.

    Texts and arrays that are long are left out; of the vocabulary (`TOKENS`) the size is told.
    Raises as `context_length` does.
    """
    found: dict[str, Any] = {}
    with path.open("rb") as file:
        for key, kind in _entries(file):
            if key == TOKENS and kind == _ARRAY:
                found[key] = struct.unpack("<IQ", _exactly(file, 12))[1]
                if any(name.endswith(".block_count") for name in found):
                    break  # what follows are the long arrays of the vocabulary
            elif (value := _value(file, kind)) is not None:
                found[key] = value
    return found


def _entries(file: BinaryIO) -> Iterator[tuple[str, int]]:
    """Yield each key and the type of its value, the file standing at the value."""
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
        start = file.tell()
        yield key, kind
        file.seek(start)
        _skip(file, kind)


def _value(file: BinaryIO, kind: int) -> Any:
    """Return the value the file stands at, None when it is long or of an unknown type."""
    if kind == _STRING:
        (size,) = struct.unpack("<Q", _exactly(file, 8))
        small = size <= _MAX_TEXT_BYTES
        return _exactly(file, size).decode("utf-8", "replace") if small else None
    if kind == _ARRAY:
        inner, count = struct.unpack("<IQ", _exactly(file, 12))
        return _numbers(file, inner, count) if inner in _SCALARS and count <= _MAX_ITEMS else None
    return _numbers(file, kind, 1)[0] if kind in _SCALARS else None


def _numbers(file: BinaryIO, kind: int, count: int) -> tuple[Any, ...]:
    layout = f"<{count}{_SCALARS[kind]}"
    return struct.unpack(layout, _exactly(file, struct.calcsize(layout)))


def _text(file: BinaryIO) -> str:
    (size,) = struct.unpack("<Q", _exactly(file, 8))
    if size > _MAX_KEY_BYTES:
        raise GGUFError("its head holds a key that is too long")
    return _exactly(file, size).decode("utf-8", "replace")


def _skip(file: BinaryIO, kind: int) -> None:
    if kind == _STRING:
        (size,) = struct.unpack("<Q", _exactly(file, 8))
        _forward(file, size)
    elif kind == _ARRAY:
        inner, count = struct.unpack("<IQ", _exactly(file, 12))
        if inner == _ARRAY:
            raise GGUFError("its head holds arrays in arrays")
        if inner in _SCALARS:
            _forward(file, count * struct.calcsize(f"<{_SCALARS[inner]}"))
        else:
            for _ in range(count):
                _skip(file, inner)
    elif kind in _SCALARS:
        _forward(file, struct.calcsize(f"<{_SCALARS[kind]}"))
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
