"""GGUF files: every family and quantisation read comes out as the model that went in; all else is one clear error."""

from __future__ import annotations

import random
import struct
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf  # part of the test extra: without it this file fails, it does not skip
import numpy as np
import pytest
import torch
import transformers
from tokenizers import pre_tokenizers

from ponder.config import ConfigError
from ponder.models import hub
from ponder.models.gguf import QUANTISATIONS, convert, read_gguf, read_settings
from ponder.models.hf_tokenizer import HFTokenizer
from ponder.models.transformer import rope_frequencies
from ponder.models.weights import load_model, stored_tensors
from tests.models.test_hf_tokenizer import CHATML
from tests.models.test_parity import their_logits, their_model

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>"]
MERGES = ["Ġ t", "t h", "Ġt h", "th e", "Ġth e", "Ċ Ċ", "Ġ Ġ", "1 2", "12 3", "Ġ 1"]
TYPE = gguf.GGMLQuantizationType


def pieces() -> list[str]:
    return [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet()), *(merge.replace(" ", "") for merge in MERGES)]


ROWS = len(pieces()) + 6  # six rows of padding


def write(
    path: Path, weights: dict[str, Any], config: Any, *, arch: str = "llama", pre: str | None = "smollm",
    change: Callable[[gguf.GGUFWriter], None] = lambda writer: None,
) -> Path:  # fmt: skip
    """weights: llama.cpp's name -> float array, or (raw bytes of rows, quantisation). config: transformers'."""
    writer = gguf.GGUFWriter(path, arch)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    if getattr(config, "head_dim", None):
        writer.add_key_length(config.head_dim)
    names = [*pieces(), *(f"[PAD{i}]" for i in range(6))]
    writer.add_tokenizer_model("gpt2")
    if pre:
        writer.add_tokenizer_pre(pre)
    writer.add_token_list(names)
    writer.add_token_types([3, 3, 3, 4, *([1] * (len(names) - 10)), *([5] * 6)])
    writer.add_token_merges(MERGES)
    writer.add_eos_token_id(2)
    writer.add_bos_token_id(1)
    writer.add_chat_template(CHATML)
    change(writer)
    for name, value in weights.items():
        if isinstance(value, tuple):
            writer.add_tensor(name, value[0], raw_dtype=value[1])
        else:
            writer.add_tensor(name, np.ascontiguousarray(value))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


THEIR_NAMES = {
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm", "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down", "model.embed_tokens": "token_embd",
    "model.norm": "output_norm", "lm_head": "output",
}  # fmt: skip


def as_llama_cpp(model: Any, *, reorder: bool = True) -> dict[str, Any]:
    """The weights of a model of transformers under llama.cpp's names, for Llama in its order of q and k rows."""
    found: dict[str, Any] = {}
    heads = {
        "self_attn.q_proj": model.config.num_attention_heads, "self_attn.k_proj": model.config.num_key_value_heads,
    }  # fmt: skip
    for name, weight in model.state_dict().items():
        if name == "lm_head.weight" and model.config.tie_word_embeddings:
            continue
        body, _, kind = name.rpartition(".")
        layer = ""
        if body.startswith("model.layers."):
            _, _, number, body = body.split(".", 3)
            layer = f"blk.{number}."
        array = weight.float().numpy()
        if body in heads and reorder:
            halves = array.reshape(heads[body], 2, array.shape[0] // heads[body] // 2, *array.shape[1:])
            array = halves.swapaxes(1, 2).reshape(array.shape)
        found[f"{layer}{THEIR_NAMES[body]}.{kind}"] = array
    return found


@pytest.fixture(scope="module")
def small() -> Any:
    """A one-layer Llama whose rows fill the largest block."""
    return their_model("SmolLM2", vocab_size=ROWS, hidden_size=256, intermediate_size=256, num_hidden_layers=1,
                       num_attention_heads=4, num_key_value_heads=2)  # fmt: skip


# ----------------------------------------------------------------------------------------------------- what is read


@pytest.mark.parametrize(
    ("name", "arch"),
    [
        ("llama", "llama"), ("SmolLM2", "llama"), ("llama with every bias", "llama"),
        ("llama with wide heads", "llama"), ("llama linear scaling", "llama"), ("Mistral without window", "llama"),
        ("Mistral, window shorter than the text", "llama"),
        ("Qwen2", "qwen2"), ("Qwen2.5 small, tied", "qwen2"), ("Qwen3", "qwen3"),
    ],
)  # fmt: skip
def test_every_family_gives_the_logits_that_transformers_gives(name: str, arch: str, tmp_path: Path) -> None:
    theirs = their_model(name, vocab_size=ROWS)

    def change(writer: gguf.GGUFWriter) -> None:
        if "window shorter" in name:
            writer.add_sliding_window(theirs.config.sliding_window)
        if "linear" in name:
            writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
            writer.add_rope_scaling_factor(theirs.config.rope_parameters["factor"])

    weights = as_llama_cpp(theirs, reorder=arch == "llama")
    folder = convert(write(tmp_path / "a.gguf", weights, theirs.config, arch=arch, change=change), tmp_path / "ours")
    tokens = torch.randint(ROWS, (2, 40), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(load_model(folder)(tokens), their_logits(theirs, tokens), atol=1e-4, rtol=0)
    again = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    torch.testing.assert_close(their_logits(again, tokens), their_logits(theirs, tokens), atol=1e-4, rtol=0)


def test_the_scaling_of_llama_3_is_read_from_its_factors(tmp_path: Path) -> None:
    scaling = {"rope_type": "llama3", "rope_theta": 500_000.0, "factor": 32.0, "low_freq_factor": 1.0,
               "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}  # fmt: skip
    theirs = their_model("llama with wide heads", vocab_size=ROWS, rope_parameters=scaling, head_dim=64)
    factors = 500_000.0 ** -(torch.arange(0, 64, 2) / 64) / theirs.model.rotary_emb.inv_freq
    weights = as_llama_cpp(theirs) | {"rope_freqs.weight": factors.numpy()}
    config = load_model(convert(write(tmp_path / "a.gguf", weights, theirs.config), tmp_path / "ours")).config
    torch.testing.assert_close(rope_frequencies(config), theirs.model.rotary_emb.inv_freq, rtol=1e-6, atol=0)
    weights["rope_freqs.weight"] = factors.numpy() ** 2
    with pytest.raises(ConfigError, match="not Llama 3's scaling"):
        convert(write(tmp_path / "b.gguf", weights, theirs.config), tmp_path / "other")


def halves(data: bytes, at: int, count: int) -> tuple[float, ...]:
    return struct.unpack_from(f"<{count}e", data, at)


def scales(packed: bytes) -> list[tuple[int, int]]:
    """The eight six-bit (scale, minimum) pairs of Q4_K and Q5_K, in twelve bytes."""
    low = [(packed[j] & 63, packed[j + 4] & 63) for j in range(4)]
    high = [
        (packed[j + 8] & 15 | packed[j] >> 6 << 4, packed[j + 8] >> 4 | packed[j + 4] >> 6 << 4) for j in range(4)
    ]  # fmt: skip
    return low + high


def by_hand(kind: str, block: bytes) -> list[float]:
    """One block, weight by weight, as the format's description has it."""
    if kind == "Q8_0":
        return [halves(block, 0, 1)[0] * q for q in struct.unpack_from("<32b", block, 2)]
    if kind in ("Q4_0", "Q4_1", "Q5_0", "Q5_1"):
        has_minimum, five = kind.endswith("1"), kind.startswith("Q5")
        d, m = halves(block, 0, 2) if has_minimum else (*halves(block, 0, 1), 0.0)
        at = 4 if has_minimum else 2
        fifth = int.from_bytes(block[at : at + 4], "little") if five else 0
        nibbles = block[at + (4 if five else 0) :]
        whole = [n & 15 for n in nibbles] + [n >> 4 for n in nibbles]
        whole = [q | (fifth >> j & 1) << 4 for j, q in enumerate(whole)]
        zero = 0 if has_minimum else (16 if five else 8)
        return [d * (q - zero) + m for q in whole]
    out = [0.0] * 256
    if kind in ("Q4_K", "Q5_K"):
        (d, dmin), pairs = halves(block, 0, 2), scales(block[4:16])
        high, nibbles = (block[16:48], block[48:]) if kind == "Q5_K" else (bytes(32), block[16:])
        for j in range(256):
            group, place = divmod(j, 32)
            nibble = nibbles[group // 2 * 32 + place] >> (4 * (group % 2)) & 15
            q = nibble | (high[place] >> group & 1) << 4
            out[j] = d * pairs[group][0] * q - dmin * pairs[group][1]
        return out
    low, high, d = block[:128], block[128:192], halves(block, 208, 1)[0]  # Q6_K
    small = struct.unpack_from("<16b", block, 192)
    for j in range(256):
        half, rest = divmod(j, 128)
        quarter, place = divmod(rest, 32)
        nibble = low[half * 64 + quarter % 2 * 32 + place] >> (4 * (quarter // 2)) & 15
        q = (nibble | (high[half * 32 + place] >> 2 * quarter & 3) << 4) - 32
        out[j] = d * small[j // 16] * q
    return out


PLACES = {"Q8_0": [0], "Q4_0": [0], "Q5_0": [0], "Q4_1": [0, 2], "Q5_1": [0, 2], "Q4_K": [0, 2], "Q5_K": [0, 2],
          "Q6_K": [208]}  # fmt: skip


@pytest.mark.parametrize("kind", PLACES)
def test_blocks_unpack_as_the_format_says(kind: str, small: Any, tmp_path: Path) -> None:
    _, size, num_bytes = next(entry for entry in QUANTISATIONS.values() if entry[0] == kind)
    draw = random.Random(kind)
    blocks = []
    for _ in range(256 * 256 // size):
        block = bytearray(draw.randbytes(num_bytes))
        for place in PLACES[kind]:
            struct.pack_into("<e", block, place, draw.uniform(-1, 1))  # random bytes may spell a NaN
        blocks.append(bytes(block))
    raw = np.frombuffer(b"".join(blocks), dtype=np.uint8).reshape(256, -1)
    weights = as_llama_cpp(small) | {"blk.0.ffn_down.weight": (raw, TYPE[kind])}
    folder = convert(write(tmp_path / "a.gguf", weights, small.config), tmp_path / "ours", dtype=torch.float32)
    expected = torch.tensor([value for block in blocks for value in by_hand(kind, block)]).view(256, 256)
    torch.testing.assert_close(load_model(folder).model.layers[0].mlp.down_proj.weight, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"])
def test_what_llama_cpp_quantises_comes_back_near_and_in_a_fitting_dtype(kind: str, small: Any, tmp_path: Path) -> None:
    plain = as_llama_cpp(small)
    packed = {
        name: (gguf.quants.quantize(value, TYPE[kind]), TYPE[kind]) if value.ndim == 2 else value
        for name, value in plain.items()
    }
    folder = convert(write(tmp_path / "a.gguf", packed, small.config), tmp_path / "ours")
    stored = {tensor.dtype for tensor in stored_tensors(folder).values()}
    assert stored == {kind if kind in ("F32", "F16") else "BF16"}
    ours = load_model(folder).state_dict()
    bits = {"F32": 24, "F16": 11, "BF16": 8, "Q8_0": 7, "Q5_0": 4, "Q5_1": 4, "Q4_0": 3, "Q4_1": 3}[kind]
    for name, weight in small.state_dict().items():
        if name in ours:
            assert (ours[name] - weight).abs().max() <= weight.abs().max() * (2**-bits + 2**-8), name


def test_a_head_that_is_the_embedding_quantised_again_is_tied_and_the_more_precise_kept(
    small: Any, tmp_path: Path
) -> None:
    weights = as_llama_cpp(small)
    embedding = weights["token_embd.weight"]
    for first, second in (("Q4_0", "Q8_0"), ("Q8_0", "Q4_0")):
        packed = {kind: gguf.quants.quantize(embedding, TYPE[kind]) for kind in (first, second)}
        both = {"token_embd.weight": (packed[first], TYPE[first]), "output.weight": (packed[second], TYPE[second])}
        folder = convert(write(tmp_path / "a.gguf", weights | both, small.config), tmp_path / "tied")
        model = load_model(folder, dtype=torch.float32)
        assert model.config.tie_word_embeddings
        exact = torch.from_numpy(gguf.quants.dequantize(packed["Q8_0"], TYPE["Q8_0"]).copy())
        assert torch.equal(model.head_weight.detach(), exact)
    apart = np.random.default_rng(0).permutation(embedding)
    folder = convert(write(tmp_path / "b.gguf", weights | {"output.weight": apart}, small.config), tmp_path / "apart")
    assert not load_model(folder, dtype=torch.float32).config.tie_word_embeddings


def test_the_tokenizer_cuts_text_as_its_name_says(small: Any, tmp_path: Path) -> None:
    def cut(pre: str, text: str) -> list[str]:
        folder = tmp_path / pre
        if not folder.exists():
            convert(write(tmp_path / f"{pre}.gguf", as_llama_cpp(small), small.config, pre=pre), folder)
        ours = HFTokenizer(folder)
        theirs = transformers.AutoTokenizer.from_pretrained(folder)
        ids = ours.encode(text)
        assert theirs(text, add_special_tokens=False)["input_ids"] == ids and ours.decode(ids) == text
        return [ours._start.id_to_token(token) for token in ids]

    assert cut("smollm", "the\n\n123") == ["the", "ĊĊ", "1", "2", "3"]  # every digit alone, before all else
    assert cut("smollm", " the  1") == ["Ġthe", "ĠĠ", "1"]
    assert cut("gpt-2", "the\n\n123") == ["the", "Ċ", "Ċ", "123"]
    assert cut("gpt-2", " the  1") == ["Ġthe", "Ġ", "Ġ1"]
    assert cut("qwen2", "the\n\n123") == ["the", "ĊĊ", "1", "2", "3"]
    assert cut("llama-bpe", "the\n\n1231") == ["the", "ĊĊ", "123", "1"]
    for pre in ("smollm", "gpt-2", "qwen2", "llama-bpe"):
        for text in ("it's a 1st test", "  \t x\r\n\r\n y", "漢字 ٣٤ 🙂", " " * 9):
            cut(pre, text)


def test_qwen2_ids_are_those_of_its_class_in_transformers(small: Any, tmp_path: Path) -> None:
    ours = HFTokenizer(convert(write(tmp_path / "a.gguf", as_llama_cpp(small), small.config, pre="qwen2"),
                               tmp_path / "ours"))  # fmt: skip
    vocab = {piece: place for place, piece in enumerate(pieces())}
    theirs = transformers.Qwen2Tokenizer(vocab=vocab, merges=[tuple(merge.split()) for merge in MERGES])
    draw = random.Random(0)
    for _ in range(300):
        text = "".join(
            draw.choice(["the", " ", "\n", "12", "'s", "é", "e\u0301", "?", "\t", "x", "漢"]) for _ in range(9)
        )
        assert ours.encode(text) == theirs(text, add_special_tokens=False)["input_ids"], text


def test_special_tokens_and_the_chat_template_come_along_and_padding_does_not(small: Any, tmp_path: Path) -> None:
    folder = convert(write(tmp_path / "a.gguf", as_llama_cpp(small), small.config), tmp_path / "ours")
    model, tokenizer = hub.load(folder)
    assert tokenizer.end_id == 2 and tokenizer.think_id is None  # one mark alone is no pair
    assert tokenizer.vocab_size == len(pieces()) == model.config.vocab_size - 6
    assert (folder / "chat_template.jinja").read_text() == CHATML
    assert not {0, 1, 2, 3} & set(tokenizer.encode("<|im_end|> <think>"))


def test_a_conversion_replaces_what_was_there_and_leaves_nothing_beside_it(small: Any, tmp_path: Path) -> None:
    file = write(tmp_path / "a.gguf", as_llama_cpp(small), small.config)
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours" / "old").write_text("")
    convert(file, tmp_path / "ours")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.gguf", "ours"]
    assert not (tmp_path / "ours" / "old").exists()


# -------------------------------------------------------------------------------------------------- what is refused


def refused(file: Path) -> str:
    folder = file.parent / "out"
    with pytest.raises(ConfigError) as caught:
        convert(file, folder)
    assert sorted(path.name for path in file.parent.iterdir()) == [file.name]  # nothing half-made
    assert "\n" not in str(caught.value)
    return str(caught.value)


def code_at(data: bytes, name: str) -> int:
    """Where the quantisation of a tensor stands in a file."""
    return data.index(name.encode()) + len(name) + 4 + 2 * 8


def test_an_unknown_quantisation_is_named_before_anything_is_written(small: Any, tmp_path: Path) -> None:
    data = write(tmp_path / "a.gguf", as_llama_cpp(small), small.config).read_bytes()
    for code, name in ((16, "IQ2_XXS"), (10, "Q2_K"), (77, "type 77")):
        changed = bytearray(data)
        struct.pack_into("<I", changed, code_at(data, "blk.0.ffn_up.weight"), code)
        (tmp_path / "a.gguf").write_bytes(changed)
        message = refused(tmp_path / "a.gguf")
        assert f"blk.0.ffn_up.weight is quantised as {name}" in message and "Q4_K" in message


def test_other_architectures_vocabularies_and_parts_are_refused(small: Any, tmp_path: Path) -> None:
    weights, config = as_llama_cpp(small), small.config
    cases: list[tuple[dict[str, Any], str]] = [
        ({"arch": "gemma3"}, "architecture 'gemma3' is not supported; known: llama, mistral, qwen2, qwen3"),
        ({"pre": "tekken"}, "called 'tekken', which is not known here (known: gpt-2, smollm"),
        ({"pre": None}, "called None"),
        ({"change": lambda writer: writer.add_expert_count(8)}, "a mixture of 8 experts"),
        (
            {"pre": None, "change": lambda writer: writer.add_array("tokenizer.ggml.pre", ["smollm"])},
            "called ['smollm'], which is not known here",
        ),
        ({"change": lambda writer: writer.add_uint16("split.count", 3)}, "one of 3 parts"),
        ({"change": lambda writer: writer.add_rope_dimension_count(4)}, "only a part of each head rotates"),
        ({"change": lambda writer: writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)}, "'yarn' is not supported"),
    ]
    for options, words in cases:
        assert words in refused(write(tmp_path / "a.gguf", weights, config, **options))
    path = write(tmp_path / "a.gguf", weights, config)
    file = read_gguf(path)
    with pytest.raises(ConfigError, match=r"architecture \['llama'\] is not supported"):
        read_settings(replace(file, settings=file.settings | {"general.architecture": ["llama"]}))
    with pytest.raises(ConfigError, match="num_hidden_layers = 10000000 is more than any model has"):
        read_settings(replace(file, settings=file.settings | {"llama.block_count": 10**7}))
    lacking = {name: value for name, value in weights.items() if name != "blk.0.attn_k.weight"}
    assert "no tensor for model.layers.0.self_attn.k_proj.weight" in refused(
        write(tmp_path / "a.gguf", lacking, config)
    )
    more = weights | {"blk.0.attn_k.bias": np.zeros(128, np.float32)}
    assert "holds blk.0.attn_k.bias" in refused(write(tmp_path / "a.gguf", more, config))
    wrong = weights | {"blk.0.attn_k.weight": np.zeros((64, 256), np.float32)}
    assert "has shape (64, 256), its settings ask for (128, 256)" in refused(write(tmp_path / "a.gguf", wrong, config))
    wrong = weights | {"blk.0.ffn_up.weight": np.full((256, 256), np.nan, np.float32)}
    assert "not finite" in refused(write(tmp_path / "a.gguf", wrong, config))


def test_a_file_cut_off_anywhere_or_changed_anywhere_gives_one_error_and_never_hangs(
    small: Any, tmp_path: Path
) -> None:
    data = write(tmp_path / "a.gguf", as_llama_cpp(small), small.config).read_bytes()
    table = data.index(b"token_embd.weight") + 2000  # the tables end about here; data follows
    draw = random.Random(0)
    for cut in (0, 3, 4, 8, 23, 24, 100, *(draw.randrange(table) for _ in range(60)), len(data) - 1):
        (tmp_path / "a.gguf").write_bytes(data[:cut])
        refused(tmp_path / "a.gguf")
    for _ in range(200):
        changed = bytearray(data)
        for _ in range(draw.randint(1, 3)):
            changed[draw.randrange(table)] = draw.choice([0, 1, 127, 255, draw.randrange(256)])
        (tmp_path / "a.gguf").write_bytes(changed)
        try:
            convert(tmp_path / "a.gguf", tmp_path / "out")
        except ConfigError as error:
            assert str(tmp_path) in str(error)
    with pytest.raises(ConfigError, match="cannot be read"):
        convert(tmp_path / "none.gguf", tmp_path / "other")


def test_lengths_that_no_file_has_are_refused_at_once(tmp_path: Path) -> None:
    head = b"GGUF" + struct.pack("<IQQ", 3, 0, 1)
    key = struct.pack("<Q", 1) + b"k"
    for kind in (4, 8, 9, 0):
        array = struct.pack("<IIQ", 9, kind, 2**62)
        (tmp_path / "a.gguf").write_bytes(head + key + array + bytes(100))
        assert "damaged" in refused(tmp_path / "a.gguf")
    (tmp_path / "a.gguf").write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 2**62, 0) + bytes(100))
    assert "damaged" in refused(tmp_path / "a.gguf")
    (tmp_path / "a.gguf").write_bytes(b"GGUF" + struct.pack(">IQQ", 3, 0, 0))
    assert "big-endian" in refused(tmp_path / "a.gguf")


def test_without_the_package_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(ConfigError, match=r'pip install "ponder\[gguf\]"'):
        convert(tmp_path / "a.gguf", tmp_path / "out")
