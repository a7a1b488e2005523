"""The fast decoder: equal to the readable model, and bit for bit independent of who shares its batch."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from ponder.engine import native
from ponder.engine.attention import PromptAttention
from ponder.engine.cache import bucket_length
from ponder.engine.network import TorchNetwork, WeightLayout
from ponder.engine.runner import Runner, run_all
from ponder.engine.scheduler import Request, Sample
from ponder.types import SamplingParams
from tests.helpers import C_WAYS, tiny_model

VOCAB, END, CLOSE = 264, 259, 260
FAMILIES = {
    "llama": {},
    "wide heads": {"head_dim": 48},
    "llama, biases": {"attention_bias": True, "attention_out_bias": True, "mlp_bias": True},
    "qwen2": {"attention_bias": True},
    "qwen3": {"qk_norm": True, "tie_word_embeddings": False, "head_dim": 16},
    "mistral": {"sliding_window": 9, "tie_word_embeddings": False},
    "sliding in part": {"sliding_window": 9, "full_attention_layers": (1,)},
    "no grouped queries": {"num_key_value_heads": 4},
    "one key head": {"num_key_value_heads": 1},
}


WAYS = {"PyTorch": lambda source, dtype: None, **C_WAYS}
every_way = pytest.mark.parametrize("way", WAYS)
# as wide as a real small model: kernels that sum in another order do so only for long sums
WIDE = {
    "hidden_size": 576, "intermediate_size": 1536, "num_attention_heads": 9, "num_key_value_heads": 3, "head_dim": 64,
}  # fmt: skip


def sharp_model(*, window: int = 512, **changes: object):
    """A tiny model with every tensor random: biases and norms too."""
    model = tiny_model(window=window, **({"head_dim": 16} | changes))
    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        if parameter.dim() == 1:
            mean = 1.0 if name.endswith("norm.weight") else 0.0
            parameter.data.normal_(mean, 0.3, generator=generator)
    return model


def make_runner(model, *, way: str = "PyTorch", num_slots: int = 64, dtype: torch.dtype = torch.float32) -> Runner:
    layout = WeightLayout(model.config, dtype, WAYS[way](native.SOURCE, dtype))
    return Runner(
        layout, layout.in_memory(model.state_dict(), model.device).views(),
        end_id=END, unthink_id=CLOSE, pad_id=0, decode=str,
        num_slots=num_slots,
    )  # fmt: skip


def request(id: int, *, length: int, n: int = 1, first: int = 0, tokens: int = 12, **params: object) -> Request:
    ids = tuple((7 * id + 3 * j * j) % 250 for j in range(length))
    sampling = SamplingParams(max_reasoning_tokens=0, max_answer_tokens=tokens, seed=id, **params)  # type: ignore[arg-type]
    return Request(id=id, prompt_ids=ids, params=sampling, n=n, first=first, opened=False)


def exactly(samples: list[Sample]) -> list[tuple[list[int], list[float]]]:
    return [(sample.token_ids, sample.logprobs) for sample in samples]


@torch.no_grad()
def dense_logprobs(model, one: Request, sample: Sample) -> list[float]:
    """Of the tokens of a sample, by the readable pass."""
    ids = torch.tensor([[*one.prompt_ids, *sample.token_ids]])
    logprobs = model(ids)[0, len(one.prompt_ids) - 1 : -1].log_softmax(-1)
    return logprobs.gather(-1, ids[0, len(one.prompt_ids) :, None])[:, 0].tolist()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@every_way
def test_fast_equals_slow_in_every_family(family, dtype, way):
    model = sharp_model(**FAMILIES[family])
    requests = [request(i, length=5 + 11 * i, n=n) for i, n in enumerate([1, 6, 1, 3, 2])]
    for one, samples in zip(requests, run_all(make_runner(model, way=way, dtype=dtype), requests), strict=True):
        for sample in samples:
            slow = dense_logprobs(model, one, sample)
            assert sample.logprobs == pytest.approx(slow, abs=5e-5 if dtype == torch.float32 else 0.5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@every_way
def test_a_completion_has_the_same_bits_in_any_company(dtype, way):
    model = sharp_model(**WIDE)
    # one bucket and several, groups and singles, own parts past one block, refilled slots; blocks are float32's
    longest = 150 if dtype == torch.float32 else 40
    requests = [
        request(i, length=length, n=n, tokens=tokens, temperature=0.8 + 0.1 * (i % 3))
        for i, (length, n, tokens) in enumerate(
            [(40, 6, 12), (60, 1, longest), (61, 1, 9), (120, 4, 12), (200, 2, 8), (44, 3, 16), (230, 1, 10)]
        )
    ]
    together = run_all(make_runner(model, way=way, num_slots=12, dtype=dtype), requests)
    for one, samples in zip(requests, together, strict=True):
        alone = run_all(make_runner(model, way=way, num_slots=1, dtype=dtype), [one])[0]
        assert exactly(samples) == exactly(alone)
    backwards = run_all(make_runner(model, way=way, dtype=dtype), requests[::-1])[::-1]
    assert [exactly(samples) for samples in backwards] == [exactly(samples) for samples in together]


def num_held(runner: Runner) -> int:
    """Sequences of which the network still keeps something."""
    network = runner.network
    return len(network.cache.prompt_of if isinstance(network, TorchNetwork) else network._strips)


@every_way
def test_a_group_in_pieces_has_the_bits_of_the_whole(way):
    model = sharp_model(**WIDE)
    whole = run_all(make_runner(model, way=way), [request(0, length=33, n=9)])[0]
    pieces = [run_all(make_runner(model, way=way), [request(0, length=33, n=3, first=first)])[0] for first in (0, 3, 6)]
    assert exactly(whole) == [sample for piece in pieces for sample in exactly(piece)]


@every_way
def test_requests_with_one_prompt_share_it_and_the_last_takes_it_out(way):
    runner = make_runner(sharp_model(), way=way)
    same = [replace(request(0, length=20, n=2), id=i, first=2 * i) for i in range(3)]
    whole = run_all(make_runner(sharp_model(), way=way), [request(0, length=20, n=6)])[0]
    for one in same:
        runner.add(one)
    runner.step()
    assert len(runner.network.prompts) == 1
    results = {}
    while runner.has_work:
        results |= {done.id: samples for done, samples in runner.step()}
    assert [pair for i in range(3) for pair in exactly(results[i])] == exactly(whole)
    assert not runner.network.prompts and not num_held(runner)


@every_way
def test_the_cache_is_empty_after_requests_end_or_are_cancelled(way):
    runner = make_runner(sharp_model(), way=way, num_slots=4)
    for i in range(5):
        runner.add(request(i, length=10 + 30 * i, n=3, tokens=5))
    for _ in range(3):
        runner.step()
    for i in range(0, 5, 2):
        runner.cancel(i)
    while runner.has_work:
        runner.step()
    assert not runner.network.prompts and not num_held(runner) and not runner._prompts


@pytest.mark.parametrize("length", [1, 31, 32, 33, 48, 49, 64, 65, 96, 97, 128, 129, 1000])
def test_buckets_are_half_an_octave_apart(length):
    assert length <= bucket_length(length) <= max(32, 1.5 * length)


@pytest.mark.parametrize("window", [None, 5, 40])
@pytest.mark.parametrize("key_heads", [1, 3, 9])
def test_the_kernel_that_a_gpu_takes_reads_prompts_as_plain_products_do(window, key_heads):
    B, T, E = 3, 16, 8
    network = make_runner(sharp_model()).network
    assert isinstance(network, TorchNetwork)
    attention = PromptAttention(network.decoder, B, T)
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(B, heads, T, E, generator=generator) for heads in (9, key_heads, key_heads))
    torch.testing.assert_close(attention.by_kernel(q, k, v, window), attention.by_products(q, k, v, window))
