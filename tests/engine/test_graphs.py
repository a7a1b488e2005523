"""Decoding in one shape, as a GPU records it: on a CPU the same step, held to the readable model and its fellow."""

from __future__ import annotations

import pytest
import torch

from ponder.engine import graphs
from ponder.engine.arranging import write
from ponder.engine.graphs import GraphNetwork
from ponder.engine.network import WeightLayout
from ponder.engine.runner import Runner, run_all
from ponder.engine.scheduler import Request
from ponder.models.transformer import Transformer
from ponder.types import SamplingParams
from tests.helpers import tiny_model

FAMILIES = {
    "llama": {}, "qwen3": {"qk_norm": True, "tie_word_embeddings": False}, "mistral": {"sliding_window": 9},
    "sliding in part": {"sliding_window": 9, "full_attention_layers": (1,)}, "one key head": {"num_key_value_heads": 1},
}  # fmt: skip
END, CLOSE = 259, 260


def runner(
    model: Transformer, *, is_graph: bool = True, num_slots: int = 64, dtype: torch.dtype = torch.float32
) -> Runner:
    layout = WeightLayout(model.config, dtype, None, is_graph)
    weights = layout.in_memory(model.state_dict(), model.device).views()
    return Runner(layout, weights, end_id=END, unthink_id=CLOSE, pad_id=0, decode=str, num_slots=num_slots)


def request(id: int, *, length: int, n: int = 1, tokens: int = 12, temperature: float = 1.0) -> Request:
    ids = tuple((7 * id + 3 * j * j) % 250 for j in range(length))
    params = SamplingParams(max_reasoning_tokens=0, max_answer_tokens=tokens, seed=id, temperature=temperature)
    return Request(id=id, prompt_ids=ids, params=params, n=n, opened=False)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("num_slots", [3, 64])
def test_recorded_decoding_draws_what_the_readable_model_says(family, num_slots):
    """Few slots: they are refilled, moved and cut off while others run on."""
    model = tiny_model(window=512, **FAMILIES[family])
    requests = [request(i, length=5 + 11 * i, n=n) for i, n in enumerate([1, 6, 1, 3, 2])]
    for one, samples in zip(requests, run_all(runner(model, num_slots=num_slots), requests), strict=True):
        for sample in samples:
            ids = torch.tensor([[*one.prompt_ids, *sample.token_ids]])
            with torch.no_grad():
                logprobs = model(ids)[0, len(one.prompt_ids) - 1 : -1].log_softmax(-1)
            slow = logprobs.gather(-1, ids[0, len(one.prompt_ids) :, None])[:, 0].tolist()
            assert sample.logprobs == pytest.approx(slow, abs=5e-5)


def test_both_networks_draw_the_same_tokens():
    model = tiny_model(window=1024)
    # one passes the first capacity while others run: the cache grows, and what it held is still there
    requests = [
        request(i, length=length, n=2, tokens=tokens) for i, (length, tokens) in enumerate([(30, 300), (230, 60)])
    ]
    ours, theirs = (run_all(runner(model, is_graph=is_graph), requests) for is_graph in (True, False))
    for left, right in zip(ours, theirs, strict=True):
        assert [sample.token_ids for sample in left] == [sample.token_ids for sample in right]


def test_new_weights_are_taken_up_and_the_cache_is_empty_in_the_end():
    model, other = tiny_model(), tiny_model(seed=1)
    one = runner(model)
    weights = dict(one.network.decoder._fused)
    first = run_all(one, [request(0, length=9, temperature=0)])[0][0].token_ids
    write(WeightLayout(model.config, torch.float32, None).arranged(other.state_dict()), weights)
    one.reload(version=1)
    second = run_all(one, [request(0, length=9, temperature=0)])[0][0].token_ids
    assert second == run_all(runner(other), [request(0, length=9, temperature=0)])[0][0].token_ids != first
    assert not one.network.prompts and not one.network._prompt_of


def test_a_step_asks_the_device_nothing_and_its_shapes_are_powers_of_two(monkeypatch):
    """A graph cannot hold a question: what `_step` computes may not depend on numbers."""
    one = runner(tiny_model())
    for i in range(5):
        one.add(request(i, length=10))
    one.step()
    network, shapes = one.network, set()
    assert isinstance(network, GraphNetwork)
    step = network._step

    def watched(rows: int):
        shapes.add(rows)
        for name in ("item", "__bool__", "tolist", "cpu", "nonzero"):
            monkeypatch.setattr(torch.Tensor, name, asked)
        try:
            return step(rows)
        finally:
            monkeypatch.undo()

    def asked(*_: object):
        raise AssertionError("the device was asked")

    network._step = watched
    one.step()
    assert shapes == {16}  # a CPU's smallest; a GPU's would be 8


def test_the_switch_is_off_by_default_means_gpus_only_and_a_wrong_value_is_told(monkeypatch):
    monkeypatch.delenv(graphs.SWITCH, raising=False)
    assert not graphs.are_wanted(torch.device("cuda"))
    monkeypatch.setenv(graphs.SWITCH, "1")
    assert graphs.are_wanted(torch.device("cuda")) and not graphs.are_wanted(torch.device("cpu"))
    monkeypatch.setenv(graphs.SWITCH, "yes")
    with pytest.raises(ValueError, match="PONDER_CUDA_GRAPHS='yes' must be 0 or 1"):
        graphs.are_wanted(torch.device("cuda"))
