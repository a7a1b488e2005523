"""The compiled network: what it takes to have one, and widths that do not fill its vectors."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import warnings

import pytest
import torch

from ponder.engine import native
from ponder.engine.local import LocalEngine
from ponder.engine.network import TorchNetwork, WeightLayout
from ponder.engine.runner import run_all
from ponder.models import compiled
from ponder.models.tokenizer import ByteTokenizer
from ponder.models.transformer import Transformer
from ponder.types import SamplingParams
from tests.engine.test_decoder import dense_logprobs, every_way, make_runner, request, sharp_model
from tests.helpers import tiny_model, user

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def no_warning_was_given_before(monkeypatch):
    monkeypatch.delenv("PONDER_NATIVE", raising=False)
    if native.library(torch.float32) is None:
        pytest.skip("no compiled network here: it needs an x86 CPU with AVX2 and a C compiler")
    compiled._without.cache_clear()


@pytest.mark.parametrize(
    "widths",
    [
        {"intermediate_size": 52, "vocab_size": 261},  # neither fills its last panel
        {"intermediate_size": 6},  # less than one vector
        {"num_attention_heads": 5, "num_key_value_heads": 1},  # more queries than read a key together
        {"num_attention_heads": 8, "num_key_value_heads": 1, "head_dim": 80},
        {"hidden_size": 48, "head_dim": 112},
        {"num_attention_heads": 40, "num_key_value_heads": 1},  # more queries than are taken together
        {"intermediate_size": 50},  # a tile and a bit
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@every_way
def test_widths_that_do_not_fill_vectors_are_computed_too(widths, dtype, way):
    model = sharp_model(**widths)
    one = request(3, length=70, n=2, tokens=40)
    for sample in run_all(make_runner(model, way=way, dtype=dtype), [one])[0]:
        slow = dense_logprobs(model, one, sample)
        assert sample.logprobs == pytest.approx(slow, abs=5e-5 if dtype == torch.float32 else 0.5)


@torch.no_grad()
def test_gates_far_from_zero_neither_overflow_nor_wrap():
    model = sharp_model()
    for name, parameter in model.named_parameters():
        if name.endswith("gate_proj.weight"):
            parameter.mul_(1000)
    one = request(3, length=40, n=2, tokens=20)
    for sample in run_all(make_runner(model, way="C"), [one])[0]:
        slow = dense_logprobs(model, one, sample)
        assert sample.logprobs == pytest.approx(slow, rel=1e-3, abs=1e-3)


def test_prompts_longer_than_a_chunk_and_many_of_them_are_read_as_one_by_one():
    model = sharp_model(window=5000)
    requests = [request(i, length=length, tokens=3) for i, length in enumerate((1, 95, 96, 97, 4000, 200, 3))]
    together = run_all(make_runner(model, way="C"), requests)
    for one, samples in zip(requests, together, strict=True):
        assert samples[0].logprobs == run_all(make_runner(model, way="C"), [one])[0][0].logprobs


@pytest.mark.slow
def test_the_engine_computes_with_it_and_with_new_weights():
    async def ask(engine: LocalEngine) -> list[float]:
        params = SamplingParams(max_answer_tokens=5, max_reasoning_tokens=5, temperature=0)
        return list((await engine.generate(user("2+2"), params))[0].sampler_logprobs)

    old, new = tiny_model(0), tiny_model(1)
    with LocalEngine(new, ByteTokenizer(), num_workers=0) as engine:
        wanted = asyncio.run(ask(engine))
    with LocalEngine(old, ByteTokenizer(), num_workers=1) as engine:
        assert engine._layout.library
        assert asyncio.run(ask(engine)) != wanted
        engine.update_weights(new.state_dict(), version=1)
        assert asyncio.run(ask(engine)) == wanted


@pytest.mark.parametrize("changes", [{"head_dim": 8}, {"hidden_size": 40}])
def test_models_of_other_widths_are_left_to_pytorch(changes):
    model = tiny_model(**changes)
    layout = WeightLayout.of(model.config, torch.float32, CPU)
    assert layout.library is None
    network = layout.network(layout.in_memory(model.state_dict(), model.device).views(), num_slots=2, pad_id=0)
    assert isinstance(network, TorchNetwork)


def test_float16_is_left_to_pytorch():
    assert native.library(torch.float16) is None


def test_without_a_compiler_the_engine_goes_on_and_says_so_once(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    with pytest.warns(UserWarning, match="none of cc, gcc, clang is installed.*install gcc or clang"):
        assert native.library(torch.float32) is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert native.library(torch.float32) is None


def test_what_the_compiler_said_is_told(monkeypatch, tmp_path):
    monkeypatch.setenv("PONDER_CACHE", str(tmp_path / "cache"))
    compiler = tmp_path / "bad"
    compiler.write_text("#!/bin/sh\necho 'unknown option -mavx2' >&2\nexit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CC", str(compiler))
    with pytest.warns(UserWarning, match="unknown option -mavx2"):
        assert native.library(torch.float32) is None
    assert not list((tmp_path / "cache").rglob("*.so"))


def test_it_can_be_asked_to_stay_out(monkeypatch):
    monkeypatch.setenv("PONDER_NATIVE", "0")
    assert native.library(torch.float32) is None


@pytest.mark.slow
def test_it_is_compiled_once_even_by_two_at_the_same_time(monkeypatch, tmp_path):
    monkeypatch.setenv("PONDER_CACHE", str(tmp_path))
    command = "import torch; from ponder.engine import native; print(native.library(torch.float32))"
    both = [
        subprocess.Popen([sys.executable, "-c", command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    told = {process.communicate(timeout=120)[0].strip() for process in both}
    (path,) = told
    assert [str(found) for found in tmp_path.rglob("*.so")] == [path]
    first = (tmp_path / "native").stat().st_mtime_ns
    assert native.library(torch.float32) == path and (tmp_path / "native").stat().st_mtime_ns == first


def test_weights_are_arranged_so_that_nothing_is_lost():
    model = Transformer(tiny_model(intermediate_size=52, vocab_size=261).config)
    model.init_weights(0)
    layout = WeightLayout.of(model.config, torch.float32, CPU)
    assert layout.library
    arranged = layout.in_memory(model.state_dict(), CPU).views()
    numbers = {float(x) for tensor in arranged.values() for x in tensor.view(torch.float32).flatten()}
    wanted = {float(x) for tensor in model.state_dict().values() for x in tensor.flatten()}
    assert wanted <= numbers <= wanted | {0.0}


@pytest.mark.parametrize("fast", [True, False])
def test_pytorch_computes_in_float32_where_it_would_be_slower_in_bf16(fast, monkeypatch):
    monkeypatch.setenv("PONDER_NATIVE", "0")
    monkeypatch.setattr("ponder.models.cpu.multiplies_bfloat16", lambda: fast)
    layout = WeightLayout.of(tiny_model().config, torch.bfloat16, CPU)
    assert layout.dtype == (torch.bfloat16 if fast else torch.float32)
