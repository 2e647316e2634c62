from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from gguf_kit import (
    GEMMA_2_9B,
    GEMMA_3_27B,
    GIB,
    GPT_OSS_20B,
    KIB,
    LLAMA_31_8B,
    MIB,
    MISTRAL_7B_V03,
    QWEN3_30B_A3B,
    QWEN_25_3B,
    heads_of,
    shape,
    write_gguf,
)
from hypothesis import given
from hypothesis import strategies as st

from pytest_agentlimit.endpoints.fit import (
    Facts,
    Layer,
    Load,
    Need,
    cache_bytes,
    compute_bytes,
    facts_of,
    growth_bytes,
    largest_context,
    need,
    verdict,
)
from pytest_agentlimit.endpoints.gguf import GGUFError, context_length, metadata


def cache(model: dict[str, Any], context: int, parallel: int = 1, kv: str = "f16") -> int | None:
    return cache_bytes(facts_of(model, None), Load(context, parallel, kv))


# the KV cache of published models


@pytest.mark.parametrize(
    ("model", "per_token"),
    [
        (LLAMA_31_8B, 128 * KIB),
        (MISTRAL_7B_V03, 128 * KIB),
        (QWEN_25_3B, 36 * KIB),
        (QWEN3_30B_A3B, 96 * KIB),  # key length 128, though width / heads is 64
        (GEMMA_2_9B, 21 * 8 * KIB),  # every second layer sees the whole context
        (GEMMA_3_27B, 10 * 8 * KIB),  # every sixth
        (GPT_OSS_20B, 12 * 2 * KIB),
    ],
)
def test_a_further_token_costs_what_is_published(model: dict[str, Any], per_token: int) -> None:
    assert growth_bytes(facts_of(model, None), "f16") == per_token
    grown = cache(model, 65_536)
    assert grown is not None
    assert grown - (cache(model, 32_768) or 0) == 32_768 * per_token


def test_llama_31_8b_fills_16_gib_at_its_full_context() -> None:
    assert cache(LLAMA_31_8B, 131_072) == 16 * GIB


def test_llama_cpp_logs_the_same_for_qwen_25_3b() -> None:
    # "KV self size = 144.00 MiB", "CUDA0 compute buffer size = 300.75 MiB" and
    # "CUDA_Host compute buffer size = 12.01 MiB", logged at 4096 tokens.
    assert cache(QWEN_25_3B, 4096) == 144 * MIB
    estimate = compute_bytes(facts_of(QWEN_25_3B, None), Load(4096))
    assert estimate == pytest.approx((300.75 + 12.01) * MIB, rel=0.001)


@pytest.mark.parametrize(
    ("window", "context", "parallel", "mib"),
    [(128, 8192, 2, 23.5), (1024, 8192, 4, 62.0), (1024, 1000, 2, 12.0), (128, 300, 1, 3.0)],
)
def test_llama_cpp_logs_the_same_for_sliding_windows(
    window: int, context: int, parallel: int, mib: float
) -> None:
    # Logged by llama-server for a gemma3 of six layers, four KV heads of 64.
    model = shape("gemma3", 6, 8, 4, 512, attention_sliding_window=window, **heads_of(64))
    assert cache(model, context, parallel) == mib * MIB


def test_the_cache_of_the_embedded_model_follows_from_its_own_file(smollm2: Path) -> None:
    facts = facts_of(metadata(smollm2), smollm2.stat().st_size)
    assert (facts.trained, facts.vocabulary, facts.width) == (8192, 49_152, 576)
    assert facts.layers == (Layer(2 * 3 * 64, None),) * 30
    assert cache_bytes(facts, Load(8192)) == 180 * MIB
    assert context_length(smollm2) == 8192


def test_requests_side_by_side_each_have_a_cache() -> None:
    for model in (LLAMA_31_8B, GEMMA_3_27B):
        assert cache(model, 8192, 3) == 3 * (cache(model, 8192) or 0)


@pytest.mark.parametrize(("kv", "bits"), [("f16", 16), ("q8_0", 8.5), ("q4_0", 4.5)])
def test_a_quantised_cache_takes_its_bits(kv: str, bits: float) -> None:
    assert cache(LLAMA_31_8B, 8192, kv=kv) == GIB * bits / 16


def test_keys_and_values_may_differ_in_length() -> None:
    model = shape("x", 2, 8, 4, 512, attention_key_length=192, attention_value_length=128)
    assert cache(model, 256) == 2 * 4 * (192 + 128) * 256 * 2


# which layers


def test_the_file_says_which_layers_slide() -> None:
    told = {"attention_sliding_window": 256, **heads_of(64)}
    by_layer = shape("x", 4, 8, 2, 512, attention_sliding_window_pattern=(1, 0, 1, 1), **told)
    by_period = shape("x", 4, 8, 2, 512, attention_sliding_window_pattern=4, **told)
    for model in (by_layer, by_period):
        layers = facts_of(model, None).layers
        assert layers is not None
        assert sum(layer.window is None for layer in layers) == 1
        assert facts_of(model, None).notes == ()


def test_a_window_without_its_layers_is_an_upper_bound_and_says_so() -> None:
    model = shape("phi3", 32, 32, 32, 3072, attention_sliding_window=2047)
    facts = facts_of(model, None)
    assert facts.layers == (Layer(2 * 3072, None),) * 32
    assert "upper bound" in facts.notes[0]


def test_layers_may_have_heads_of_their_own_number_and_size() -> None:
    model = shape(
        "gemma4",
        3,
        8,
        0,
        512,
        attention_sliding_window=256,
        attention_sliding_window_pattern=(True, True, False),
        attention_key_length_swa=64,
        attention_value_length_swa=64,
        **heads_of(128),
    )
    model["gemma4.attention.head_count_kv"] = (8, 8, 2)
    sliding, dense = Layer(8 * 128, 256), Layer(2 * 256, None)
    assert facts_of(model, None).layers == (sliding, sliding, dense)


@pytest.mark.parametrize("key", ["attention_shared_kv_layers", "nextn_predict_layers"])
def test_the_last_layers_may_have_no_cache_of_their_own(key: str) -> None:
    model = shape("x", 30, 8, 2, 512, **{key: 10})
    assert len(facts_of(model, None).layers or ()) == 20


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("ssm.conv_kernel", "recurrent"),
        ("wkv.head_size", "recurrent"),
        ("shortconv.l_cache", "recurrent"),
        ("full_attention_interval", "recurrent"),
        ("attention.kv_lora_rank", "latent attention"),
        ("attention.indexer.top_k", "sparse attention"),
    ],
)
def test_what_is_not_covered_is_named_and_not_counted(key: str, reason: str) -> None:
    facts = facts_of({**LLAMA_31_8B, f"llama.{key}": 4}, 5 * GIB)
    assert facts.layers is None
    assert reason in facts.notes[0]
    assert need(facts, Load(8192)).total is None


@pytest.mark.parametrize(
    "missing", ["block_count", "attention.head_count", "attention.head_count_kv"]
)
@pytest.mark.parametrize("junk", [None, 0, -1, True, "8", [], [8], 1 << 70, {}, [8, -1] * 32])
def test_junk_is_not_known(missing: str, junk: Any) -> None:
    model = {**LLAMA_31_8B, f"llama.{missing}": junk}
    if missing == "attention.head_count":
        model |= {"llama.attention.head_count_kv": None}
    if (missing, junk) == ("attention.head_count_kv", None):
        del model["llama.attention.head_count"]
    facts = facts_of(model, None)
    assert facts.layers is None
    assert "not all told" in facts.notes[0]


def test_nothing_told_is_nothing_known() -> None:
    assert replace(facts_of({}, None), notes=()) == Facts()
    assert need(Facts(), Load(8192)) == Need(None, None, None)


# verdict


@pytest.mark.parametrize(
    ("parts", "memory", "said"),
    [
        ((10, 20, 5), 35, "fits"),
        ((10, 20, 5), 34, "weights fit, cache does not"),
        ((10, 20, 5), 9, "does not fit"),
        ((10, 20, 5), None, "not known"),
        ((10, None, 5), 99, "not known"),
        ((10, 20, None), 99, "not known"),
        ((10, 20, None), 29, "weights fit, cache does not"),
        ((10, None, None), 9, "does not fit"),
        ((None, 20, None), 19, "does not fit"),
        ((None, None, None), 99, "not known"),
    ],
)
def test_a_verdict_is_said_when_what_is_known_decides(
    parts: tuple[int | None, ...], memory: int | None, said: str
) -> None:
    assert verdict(Need(*parts), memory) == said


@given(
    memory=st.integers(5 * GIB, 40 * GIB),
    parallel=st.integers(1, 8),
    kv=st.sampled_from(["f16", "q8_0", "q4_0"]),
    model=st.sampled_from([LLAMA_31_8B, QWEN3_30B_A3B, MISTRAL_7B_V03]),
)
def test_the_largest_context_fits_and_a_larger_one_does_not(
    memory: int, parallel: int, kv: str, model: dict[str, Any]
) -> None:
    facts = facts_of(model, 4 * GIB)
    load = Load(8192, parallel, kv)
    largest = largest_context(facts, load, memory)
    assert largest is not None
    assert facts.trained is not None
    assert largest <= facts.trained

    def fits(context: int) -> bool:
        return verdict(need(facts, load._replace(context=context)), memory) == "fits"

    assert largest == 0 or fits(largest)
    assert largest == facts.trained or not fits(largest + 256)


def test_no_context_fits_where_the_weights_do_not() -> None:
    facts = facts_of(LLAMA_31_8B, 16 * GIB)
    assert largest_context(facts, Load(8192), 8 * GIB) == 0
    assert largest_context(replace(facts, weights=None), Load(8192), 8 * GIB) is None


# reading the head of a file


def test_the_head_of_a_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    written = {
        **QWEN3_30B_A3B,
        "general.name": "Qwen3 30B A3B",
        "qwen3moe.rope.freq_base": 1e6,
        "qwen3moe.expert_used": True,
        "qwen3moe.pattern": (True, False),
        "qwen3moe.many": (1,) * 5000,
        "general.languages": ("en", "no"),
    }
    found = metadata(write_gguf(tmp_path / "m.gguf", written, ["a", "b", "c"]))
    left_out = {"qwen3moe.many", "general.languages"}
    kept = {key: value for key, value in written.items() if key not in left_out}
    assert found == {**kept, "tokenizer.ggml.tokens": 3}


def test_a_vocabulary_that_comes_first_hides_nothing(tmp_path: Path) -> None:
    first = {"tokenizer.ggml.tokens": ["a", "b"], **MISTRAL_7B_V03}
    found = metadata(write_gguf(tmp_path / "m.gguf", first))
    assert found == {**MISTRAL_7B_V03, "tokenizer.ggml.tokens": 2}


def test_a_cut_head_is_refused(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", LLAMA_31_8B)
    whole = path.read_bytes()
    for size in range(0, len(whole), 7):
        path.write_bytes(whole[:size])
        with pytest.raises(GGUFError):
            metadata(path)
