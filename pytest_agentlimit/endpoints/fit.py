"""What a model needs in memory at a context: weights, KV cache, compute buffer, and a verdict.

The KV cache of a layer holds, for every token, one key and one value per KV head, so that

    bytes = sum over layers of KV heads × (key length + value length) × cells × bytes per element

where cells are the tokens of context, or of a layer with a sliding window those of its window and
of one batch. It is how llama.cpp allocates it (src/llama-kv-cache.cpp, llama-kv-cache-iswa.cpp).
Everything here is arithmetic on what a model says of itself; what it does not say stays None.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from pytest_agentlimit.endpoints.gguf import TOKENS

KV_BYTES = {"f16": 2.0, "q8_0": 34 / 32, "q4_0": 18 / 32}
"""Bytes per element of the cache by type: a q8_0 block holds 32 elements in 34 bytes, a q4_0 one
in 18."""
BATCH = 512
"""Tokens computed at a time: llama.cpp's default physical batch."""
_CELLS = 256
"""Caches are made in steps of this many tokens."""
_UNBOUNDED = 1 << 30
_MAX_LAYERS = 10_000

Verdict = Literal["fits", "weights fit, cache does not", "does not fit", "not known"]

# Sliding-window models whose files may leave out which layers slide: every n-th layer sees all.
_PERIODS = {
    "gemma2": 2,
    "gpt-oss": 2,
    "cohere2": 4,
    "exaone4": 4,
    "olmo2": 4,
    "gemma3n": 5,
    "gemma3": 6,
}
# Keys (after the architecture's name) of models whose memory is no plain KV cache.
_NOT_COVERED = {
    "ssm.": "recurrent layers (state space)",
    "wkv.": "recurrent layers (RWKV)",
    "kda.": "recurrent layers (linear attention)",
    "shortconv.": "recurrent layers (convolution)",
    "full_attention_interval": "recurrent layers (linear attention)",
    "attention.recurrent_layers": "recurrent layers",
    "attention.kv_lora_rank": "multi-head latent attention",
    "attention.indexer.": "sparse attention with an index",
    "attention.compress_ratios": "a compressed cache",
}


class Layer(NamedTuple):
    """One layer with a cache of its own."""

    elements: int
    """Elements of keys and values together, per token."""
    window: int | None
    """Tokens it looks back; None for all of them."""


@dataclass(frozen=True)
class Facts:
    """What a model says of itself; None and nothing else where it does not say."""

    weights: int | None = None
    """Bytes."""
    layers: tuple[Layer, ...] | None = None
    vocabulary: int | None = None
    width: int | None = None
    """Elements of one token between two layers."""
    trained: int | None = None
    """Tokens of context the model was trained on."""
    notes: tuple[str, ...] = ()
    """What a reader has to know of these facts."""


class Load(NamedTuple):
    """How a model is to be served: `parallel` requests, each with all of `context` tokens."""

    context: int
    parallel: int = 1
    kv: str = "f16"


class Need(NamedTuple):
    """Bytes that a load needs; None where it is not known."""

    weights: int | None
    cache: int | None
    compute: int | None
    """An estimate."""

    @property
    def known(self) -> int:
        """Bytes needed at least: the sum of what is known."""
        return sum(part for part in self if part is not None)

    @property
    def total(self) -> int | None:
        """Bytes needed, None unless all is known."""
        return None if None in self else self.known


def facts_of(metadata: Mapping[str, Any], weights: int | None) -> Facts:
    """Return what GGUF metadata says, from a file's head or Ollama's `model_info`.

    The vocabulary may be given by its size. A cache that is not covered is None, with a note why.
    """
    arch = metadata.get("general.architecture")
    model = {
        key.removeprefix(f"{arch}."): value
        for key, value in metadata.items()
        if isinstance(arch, str) and key.startswith(f"{arch}.") and value is not None
    }
    notes: list[str] = []
    return Facts(
        weights=weights,
        layers=_layers(str(arch), model, notes),
        vocabulary=_count(model.get("vocab_size")) or _count(metadata.get(TOKENS)),
        width=_count(model.get("embedding_length")),
        trained=_count(model.get("context_length")),
        notes=tuple(notes),
    )


def need(facts: Facts, load: Load) -> Need:
    """Return what serving a model under `load` needs."""
    return Need(facts.weights, cache_bytes(facts, load), compute_bytes(facts, load))


def cache_bytes(facts: Facts, load: Load) -> int | None:
    """Return the bytes of the KV cache, None when the model's layers are not known."""
    if facts.layers is None:
        return None
    elements = sum(layer.elements * _cells(layer, load.context) for layer in facts.layers)
    return int(load.parallel * elements * KV_BYTES[load.kv])


def growth_bytes(facts: Facts, kv: str) -> int | None:
    """Return the bytes of cache that one more token takes once all windows are full."""
    if facts.layers is None:
        return None
    elements = sum(layer.elements for layer in facts.layers if layer.window is None)
    return int(elements * KV_BYTES[kv])


def compute_bytes(facts: Facts, load: Load) -> int | None:
    """Return an estimate of the working memory, None when vocabulary or width are not known.

    One batch of logits, of inputs and of activations in 32 bits, and of the mask over the context:
    what llama.cpp logs with flash attention as the sum of its compute buffers.
    """
    if facts.vocabulary is None or facts.width is None:
        return None
    return 4 * BATCH * (facts.vocabulary + 2 * facts.width + load.context)


def verdict(need: Need, memory: int | None) -> Verdict:
    """Return whether `need` goes into `memory` bytes; "not known" while a missing part decides."""
    if memory is None:
        return "not known"
    if need.known > memory:
        alone = need.weights is not None and need.weights <= memory
        return "weights fit, cache does not" if alone and need.cache else "does not fit"
    return "not known" if need.total is None else "fits"


def largest_context(facts: Facts, load: Load, memory: int) -> int | None:
    """Return the most tokens of context that fit, 0 for none, None when the need is not known.

    Never more than the model was trained on; in steps of 256 below that.
    """

    def fits(context: int) -> bool:
        return (need(facts, load._replace(context=context)).total or 0) <= memory

    if need(facts, load).total is None:
        return None
    top = facts.trained or _UNBOUNDED
    if fits(top):
        return top
    low, high = 0, top // _CELLS + 1  # in steps: `low` fits or is nothing, `high` does not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle * _CELLS) else (low, middle)
    return low * _CELLS


def _cells(layer: Layer, context: int) -> int:
    whole = _padded(context)
    return whole if layer.window is None else _padded(min(whole, layer.window + BATCH))


def _padded(tokens: int) -> int:
    return -(-tokens // _CELLS) * _CELLS


def _layers(arch: str, model: Mapping[str, Any], notes: list[str]) -> tuple[Layer, ...] | None:
    """Return the layers that have a cache of their own; None, with a note, when they are not told.

    The last layers of a model may share the cache of earlier ones, or predict further tokens.
    """
    for key, reason in _NOT_COVERED.items():
        if any(name.startswith(key) for name in model):
            notes.append(f"the cache is not known: {reason}, which this command does not cover")
            return None
    count = _count(model.get("block_count"))
    count = None if count is None or count > _MAX_LAYERS else count
    heads = _each(model.get("attention.head_count_kv", model.get("attention.head_count")), count)
    keys = _length("key", model)
    values = _length("value", model)
    if count is None or heads is None or keys is None or values is None:
        notes.append("the cache is not known: layers, KV heads and their sizes are not all told")
        return None
    windows = _windows(arch, model, count, notes)
    apart = (model.get("attention.key_length_swa"), model.get("attention.value_length_swa"))
    sliding = (_count(apart[0]) or keys) + (_count(apart[1]) or values)
    own = count - sum(
        _count(model.get(key)) or 0
        for key in ("attention.shared_kv_layers", "nextn_predict_layers")
    )
    return tuple(
        Layer(head * (keys + values if window is None else sliding), window)
        for head, window in list(zip(heads, windows, strict=True))[: max(0, own)]
    )


def _windows(
    arch: str, model: Mapping[str, Any], count: int, notes: list[str]
) -> tuple[int | None, ...]:
    """Return the window of each layer; where it is not told which layers slide, none does."""
    window = _count(model.get("attention.sliding_window"))
    told = model.get("attention.sliding_window_pattern", _PERIODS.get(arch))
    if window is None:
        return (None,) * count
    if isinstance(told, list | tuple) and len(told) >= count:
        return tuple(window if slides else None for slides in told[:count])
    period = _count(told)
    if period is None:
        notes.append(
            f"some layers may look back only {window} tokens, and which is not told: all are "
            "counted at the whole context, so the cache is an upper bound"
        )
        return (None,) * count
    return tuple(None if number % period == period - 1 else window for number in range(count))


def _length(part: str, model: Mapping[str, Any]) -> int | None:
    """Return the elements of one key or value: as told, else the width shared by the heads."""
    told = _count(model.get(f"attention.{part}_length"))
    width = _count(model.get("embedding_length"))
    heads = _each(model.get("attention.head_count"), 1)
    if told is not None or width is None or not heads or not heads[0]:
        return told
    return width // heads[0]


def _each(value: Any, count: int | None) -> tuple[int, ...] | None:
    """Return `count` numbers, from one for all or from one for each; None for anything else."""
    if count is None:
        return None
    one = _count(value)
    if one is not None:
        return (one,) * count
    if not isinstance(value, list | tuple) or len(value) < count:
        return None
    wanted = value[:count]
    plain = all(
        isinstance(each, int) and not isinstance(each, bool) and each >= 0 for each in wanted
    )
    return tuple(wanted) if plain else None


def _count(value: Any) -> int | None:
    """Return a whole number above zero, None for anything else a stranger may write."""
    plain = isinstance(value, int) and not isinstance(value, bool)
    return value if plain and 0 < value < 1 << 62 else None
