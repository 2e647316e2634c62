"""GGUF heads as converters write them, and the published shapes of real models."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

GIB, MIB, KIB = 1 << 30, 1 << 20, 1 << 10


def shape(arch: str, layers: int, heads: int, kv_heads: int, width: int, **more: Any) -> dict:
    """Metadata of a model; `more` are further keys, an underscore for a dot in `attention_…`."""
    return {
        "general.architecture": arch,
        f"{arch}.block_count": layers,
        f"{arch}.embedding_length": width,
        f"{arch}.attention.head_count": heads,
        f"{arch}.attention.head_count_kv": kv_heads,
        **{f"{arch}.{key.replace('attention_', 'attention.')}": more[key] for key in more},
    }


def heads_of(size: int) -> dict[str, int]:
    return {"attention_key_length": size, "attention_value_length": size}


# From the config.json that each model was published with.
LLAMA_31_8B = shape("llama", 32, 32, 8, 4096, vocab_size=128_256, context_length=131_072)
MISTRAL_7B_V03 = shape("llama", 32, 32, 8, 4096, vocab_size=32_768, context_length=32_768)
QWEN_25_3B = shape("qwen2", 36, 16, 2, 2048, vocab_size=151_936, context_length=32_768)
QWEN3_30B_A3B = shape(
    "qwen3moe", 48, 32, 4, 2048, vocab_size=151_936, context_length=40_960, **heads_of(128)
)
GEMMA_2_9B = shape("gemma2", 42, 16, 8, 3584, attention_sliding_window=4096, **heads_of(256))
GEMMA_3_27B = shape("gemma3", 62, 32, 16, 5376, attention_sliding_window=1024, **heads_of(128))
GPT_OSS_20B = shape("gpt-oss", 24, 64, 8, 2880, attention_sliding_window=128, **heads_of(64))


def write_gguf(path: Path, metadata: dict[str, Any], tokens: Sequence[str] = ()) -> Path:
    """Write a head of version 3 with `metadata` and a vocabulary, and no tensors."""
    entries = [_entry(key, value) for key, value in metadata.items()]
    if tokens:
        entries.append(_entry("tokenizer.ggml.tokens", list(tokens)))
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, len(entries)) + b"".join(entries))
    return path


def _entry(key: str, value: Any) -> bytes:
    kind, data = _value(value)
    return _text(key) + struct.pack("<I", kind) + data


def _value(value: Any) -> tuple[int, bytes]:
    match value:
        case bool():
            return 7, struct.pack("<?", value)
        case int():
            return 4, struct.pack("<I", value)
        case float():
            return 6, struct.pack("<f", value)
        case str():
            return 8, _text(value)
    parts = [_value(each) for each in value]
    return 9, struct.pack("<IQ", parts[0][0], len(parts)) + b"".join(data for _, data in parts)


def _text(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()
