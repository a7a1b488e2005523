"""What every engine that samples token ids promises, asked of each: the local one, vLLM's over a double of its server,
and vLLM itself (`make vllm-test`).

The engines draw different tokens from the same seed, so what is held is what may be relied on: the rules of a
completion, log-probabilities, seeds, and weights by version.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import pytest
import torch

from ponder.engine.local import LocalEngine
from ponder.engine.tokens import TokenEngine
from ponder.engine.vllm import VllmEngine, open_vllm
from ponder.engine.vllm_server import PYTHON, URL, VllmServer
from ponder.files import read_jsonl
from ponder.models.tokenizer import ByteTokenizer, split_reasoning
from ponder.models.transformer import Transformer
from ponder.models.weights import save_model
from ponder.train.batches import Example, collate
from ponder.train.distributed import Trainer
from ponder.train.recipe import RLConfig
from ponder.train.rl import PolicyMismatch, rl
from ponder.types import Completion, SamplingParams, sample_seed
from tests.engine.vllm_double import double_of
from tests.helpers import tiny_model, user

TOKENIZER = ByteTokenizer()
OPEN, CLOSE, END = TOKENIZER.think_id, TOKENIZER.unthink_id, TOKENIZER.end_id
PARAMS = SamplingParams(max_reasoning_tokens=20, max_answer_tokens=6, seed=3)
WINDOW = 256
Open = Callable[..., AbstractContextManager[TokenEngine]]  # (model, closes_once=True) -> an engine over it


def small_model(seed: int = 0) -> Transformer:
    """As wide a head as vLLM's CPU build asks for; its marks are drawn often."""
    model = tiny_model(seed, window=WINDOW, head_dim=32)
    model.model.embed_tokens.weight.data[[OPEN, CLOSE]] *= 1.3  # tied
    return model


@contextmanager
def open_local(model: Transformer, *, closes_once: bool = True, tokenizer=TOKENIZER) -> Iterator[TokenEngine]:
    with LocalEngine(model, tokenizer, num_workers=0, num_slots=32, closes_once=closes_once) as engine:
        yield engine


@contextmanager
def open_double(model: Transformer, *, closes_once: bool = True, tokenizer=TOKENIZER) -> Iterator[TokenEngine]:
    with (
        double_of(model) as double,
        VllmEngine(VllmServer(double.url), tokenizer, model.config, closes_once=closes_once) as engine,
    ):
        yield engine


@pytest.fixture(scope="module")
def real(tmp_path_factory) -> Iterator[Open]:
    """One server for all tests: a start takes a minute."""
    folder = tmp_path_factory.mktemp("served")
    save_model(small_model(), folder)
    with open_vllm(folder, TOKENIZER, dtype=torch.float32, num_slots=32) as engine:

        @contextmanager
        def open_real(model: Transformer, *, closes_once: bool = True, tokenizer=TOKENIZER) -> Iterator[TokenEngine]:
            engine.update_weights(model.state_dict(), version=engine.policy_version + 1)
            engine.tokenizer, engine._closes_once = tokenizer, closes_once
            yield engine

        yield open_real


@pytest.fixture(params=["local", "double", "vllm"])
def opened(request) -> Open:
    if request.param == "vllm":
        if not (os.environ.get(PYTHON) or os.environ.get(URL)):
            pytest.skip("vLLM has an environment of its own: make vllm-test")
        return request.getfixturevalue("real")
    return {"local": open_local, "double": open_double}[request.param]


def ask(engine: TokenEngine, text: str = "What is 2+3?", *, n: int = 1, first: int = 0, **changes) -> list[Completion]:
    return asyncio.run(engine.generate(user(text), replace(PARAMS, **changes), n=n, first=first))


def agree(model: Transformer, completion: Completion, temperature: float = 1.0) -> bool:
    """Whether the sampler's log-probabilities are what a trainer says of the same tokens."""
    ids = completion.token_ids
    example = Example(prompt_ids=completion.prompt_ids, token_ids=ids, trained=(True,) * len(ids))
    told = Trainer(model, num_workers=0).logprobs([collate([example])], temperature)[0][0].tolist()
    pairs = zip(completion.sampler_logprobs, told, completion.sampled, strict=True)
    return all(abs(ours - theirs) < 5e-5 for ours, theirs, sampled in pairs if sampled)


@torch.no_grad()
def off(model: Transformer, completion: Completion, *, held: bool) -> torch.Tensor:
    """By how much the log-probability of each token differs. held: of what is neither the closing nor the end mark."""
    ids = torch.tensor([[*completion.prompt_ids, *completion.token_ids]])
    logits = model(ids)[0, len(completion.prompt_ids) - 1 : -1]
    if held:
        logits[:, [CLOSE, END]] = -torch.inf
    told = logits.log_softmax(-1).gather(-1, torch.tensor(completion.token_ids)[:, None])[:, 0]
    return (told - torch.tensor(completion.sampler_logprobs)).abs()


def test_the_rules_of_a_completion_are_kept_at_every_budget(opened):
    model = small_model()
    with opened(model) as engine:
        for cap, answer in ((20, 6), (3, 6), (0, 4), (20, 1)):
            for c in ask(engine, n=4, max_reasoning_tokens=cap, max_answer_tokens=answer):
                assert len(c.token_ids) == len(c.sampler_logprobs) == len(c.sampled) == c.num_tokens
                if CLOSE not in c.token_ids:  # it ended inside its reasoning, of its own accord
                    assert c.token_ids[-1] == END and c.answer == "" and c.num_reasoning_tokens < cap
                    continue
                close = c.token_ids.index(CLOSE)
                assert close == c.num_reasoning_tokens <= cap
                assert c.sampled == tuple(i != close or close < cap for i in range(len(c.token_ids)))
                said = c.token_ids[close + 1 :]
                assert 1 <= len(said) <= answer and OPEN not in said and CLOSE not in said
                assert (c.finish_reason == "stop") == (c.token_ids[-1] == END)
                assert c.finish_reason == "stop" or len(said) == answer
                reasoning, visible = split_reasoning(TOKENIZER, c.token_ids, opened=True)
                assert (c.reasoning, c.answer) == (TOKENIZER.decode(reasoning), TOKENIZER.decode(visible))


def test_reasoning_is_neither_closed_nor_ended_before_its_minimum(opened):
    with opened(small_model()) as engine:
        for c in ask(engine, n=4, min_reasoning_tokens=12):
            assert CLOSE not in c.token_ids[:12] and END not in c.token_ids[:12]


def test_a_hard_limit_cuts_wherever_it_falls(opened):
    with opened(small_model()) as engine:
        whole = ask(engine, n=3, min_reasoning_tokens=4)
        for limit in (1, 4, 9):
            for c, long in zip(ask(engine, n=3, min_reasoning_tokens=4, max_tokens=limit), whole, strict=True):
                assert len(c.token_ids) <= limit
                assert c.token_ids == long.token_ids[: len(c.token_ids)]
                assert c.finish_reason == ("length" if len(long.token_ids) > limit else long.finish_reason)


def test_a_full_window_ends_honestly_and_a_tight_one_keeps_room_for_the_answer(opened):
    with opened(small_model()) as engine:
        long, tight = "x" * WINDOW, "x" * (WINDOW - 18)
        assert [(c.token_ids, c.finish_reason) for c in ask(engine, long, n=2)] == [((), "window")] * 2
        for c in ask(engine, tight, n=3):
            assert len(c.prompt_ids) + len(c.token_ids) <= WINDOW
            assert CLOSE in c.token_ids or c.token_ids[-1] == END
        for c in ask(engine, "x" * (WINDOW - 6), n=3, max_answer_tokens=64):
            assert (c.finish_reason == "stop") == (c.token_ids[-1] == END)
            assert c.finish_reason in ("stop", "window")


def test_stop_strings_end_the_answer_and_are_not_returned(opened):
    with opened(small_model()) as engine:
        plain = ask(engine, n=8, max_answer_tokens=30)
        text = next(c.answer for c in plain if len(c.answer) > 6)
        stop = text[2:4]
        stopped = ask(engine, n=8, max_answer_tokens=30, stop=(stop,))
    assert all(stop not in c.answer for c in stopped)
    assert text.partition(stop)[0] in [c.answer for c in stopped if c.finish_reason == "stop"]


class StepsOfFive(ByteTokenizer):
    """In whose texts every fifth token ends a step."""

    def decode(self, ids):
        return "".join("|" if place % 5 == 4 else "x" for place in range(len(ids)))


def test_a_completion_taken_step_by_step_is_the_completion_taken_at_once(opened):
    params = replace(PARAMS, temperature=0.0, max_reasoning_tokens=32)
    prompt = TOKENIZER.render(user("What is 2+3?"))
    with opened(small_model(), tokenizer=StepsOfFive()) as engine:

        async def by_steps() -> tuple[list[int], int]:
            ids: list[int] = []
            for pauses in range(20):
                left = params.max_reasoning_tokens - len(ids)
                [part] = await engine.generate(
                    [*prompt, *ids], replace(params, pause=("|",), max_reasoning_tokens=left)
                )
                ids += part.token_ids
                if part.finish_reason != "pause":
                    return ids, pauses
                assert len(part.token_ids) == 5 and part.answer == ""
            raise AssertionError

        [whole] = asyncio.run(engine.generate(prompt, params))
        ids, pauses = asyncio.run(by_steps())
    assert tuple(ids) == whole.token_ids and pauses > 0


def test_a_completion_depends_on_its_seed_alone_not_on_its_batch(opened):
    async def together(engine: TokenEngine) -> list[list[Completion]]:
        asked = (engine.generate(user(f"p{i}"), replace(PARAMS, seed=i), n=3) for i in range(5))
        return await asyncio.gather(*asked)

    with opened(small_model()) as engine:
        batch = asyncio.run(together(engine))
        for i, group in enumerate(batch):
            alone = ask(engine, f"p{i}", seed=i, n=1) + ask(engine, f"p{i}", seed=i, n=2, first=1)
            assert alone == group  # token ids, log-probabilities to the bit, texts, seeds
            assert [c.seed for c in group] == [sample_seed(i, j) for j in range(3)]
        assert len({c.token_ids for group in batch for c in group}) > 12


@pytest.mark.parametrize("closes_once", [True, False])
def test_log_probabilities_are_the_trainers_of_the_whole_vocabulary(opened, closes_once):
    model = small_model()
    with opened(model, closes_once=closes_once) as engine:
        for temperature in (1.0, 0.7):
            drawn = ask(engine, n=12, temperature=temperature, max_answer_tokens=20)
            assert all(agree(model, c, temperature) for c in drawn)
            assert all(OPEN not in c.token_ids[c.num_reasoning_tokens + 1 :] for c in drawn)


@torch.no_grad()
def test_greedy_tokens_are_the_likeliest_but_for_marks_in_answers(opened):
    model = small_model()
    with opened(model) as engine:
        for text in ("What is 2+3?", "hello", "another"):
            one, other = ask(engine, text, n=2, temperature=0.0)
            assert one.token_ids == other.token_ids
            ids = list(one.prompt_ids)
            for token, sampled in zip(one.token_ids, one.sampled, strict=True):
                logits = model(torch.tensor([ids]))[0, -1]
                if CLOSE in ids:
                    logits[[OPEN, CLOSE]] = -torch.inf
                assert not sampled or logits[token] > logits.max() - 1e-4
                ids.append(token)


@torch.no_grad()
def test_marks_that_a_policy_would_rather_say_are_in_no_answer(opened):
    model = small_model()
    model.model.embed_tokens.weight.data[[OPEN, CLOSE]] *= 4  # a mark is often the likeliest token
    with opened(model) as engine:
        [greedy] = ask(engine, temperature=0.0, max_answer_tokens=30)
        drawn = ask(engine, n=12, max_answer_tokens=30)
    begun = len(greedy.prompt_ids) + greedy.num_reasoning_tokens + 1
    ids = [*greedy.prompt_ids, *greedy.token_ids]
    wanted = 0
    for place, row in enumerate(model(torch.tensor([ids]))[0, begun - 1 : -1], begun):
        wanted += int(row.argmax()) in (OPEN, CLOSE)
        row[[OPEN, CLOSE]] = -torch.inf
        assert row[ids[place]] > row.max() - 1e-4
    assert wanted > 0
    for c in (greedy, *drawn):
        answer = c.token_ids[c.num_reasoning_tokens + 1 :]
        assert OPEN not in answer and CLOSE not in answer
        assert len(answer) == 30 or c.finish_reason == "stop"


@torch.no_grad()
def test_top_p_draws_only_from_the_nucleus(opened):
    model = small_model()
    with opened(model) as engine:
        for c in ask(engine, n=6, top_p=0.3):
            probs = model(torch.tensor([[*c.prompt_ids, *c.token_ids]]))[0].softmax(-1)
            for place, (token, sampled) in enumerate(zip(c.token_ids, c.sampled, strict=True)):
                row = probs[len(c.prompt_ids) - 1 + place]
                if CLOSE in c.token_ids[:place]:
                    continue  # a mark may have been drawn there first
                assert not sampled or row[row > row[token]].sum() < 0.3 + 1e-4


def test_new_weights_draw_what_is_asked_from_then_on(opened):
    old, new = small_model(), small_model(1)
    with opened(old) as engine:
        version = engine.policy_version
        before = ask(engine, n=4)
        engine.update_weights(new.state_dict(), version=version + 7)  # type: ignore[attr-defined]
        after = ask(engine, n=4)  # the same prompt: nothing that the old weights made of it is used
        assert all(agree(old, c) for c in before) and all(agree(new, c) for c in after)
        assert {c.policy_version for c in before} == {version} and {c.policy_version for c in after} == {version + 7}
        engine.update_weights(old.state_dict(), version=version + 8)  # type: ignore[attr-defined]
        assert [c.token_ids for c in ask(engine, n=4)] == [c.token_ids for c in before]


def test_weights_replaced_on_the_way_draw_the_rest_and_every_token_says_who_drew_it(opened):
    old, new = small_model(), small_model(1)
    params = SamplingParams(max_reasoning_tokens=200, min_reasoning_tokens=200, max_answer_tokens=4, seed=1)

    async def go(engine: TokenEngine, version: int) -> list[Completion]:
        streams = [engine.stream(user("p"), params, first=index) for index in range(3)]
        for stream in streams:
            async for _ in stream:
                break  # it has begun
        engine.update_weights(new.state_dict(), version=version)  # type: ignore[attr-defined]
        for stream in streams:
            async for _ in stream:
                pass
        return [stream.completion for stream in streams if stream.completion]

    with opened(old) as engine:
        version = engine.policy_version
        [one, two, three] = asyncio.run(go(engine, version + 1))
    for c in (one, two, three):
        (first, start, change), (second, again, end) = c.version_spans
        assert (first, second, start, again, end) == (version, version + 1, 0, change, len(c.token_ids))
        assert 0 < change < 200 and c.policy_version == version
        is_vllm = isinstance(engine, VllmEngine)  # its numbers are of what may be drawn before the minimum
        assert off(old, c, held=is_vllm)[:change].max() < 5e-5
        if is_vllm:  # the local engine goes on over the keys and values of the old weights
            assert off(new, c, held=True)[change + 1 : 200].max() < 5e-5


def test_weights_that_do_not_fit_are_refused_and_the_old_ones_stay(opened):
    model = small_model()
    with opened(model) as engine:
        version = engine.policy_version
        with pytest.raises(ValueError, match=r"lack model\.embed_tokens\.weight"):
            engine.update_weights({}, version=version + 1)  # type: ignore[attr-defined]
        [c] = ask(engine)
        assert c.policy_version == version and agree(model, c)


def test_a_stream_tells_what_generate_returns(opened):
    async def go(engine: TokenEngine) -> None:
        for first in range(4):
            [whole] = await engine.generate(user("p"), PARAMS, first=first)
            stream = engine.stream(user("p"), PARAMS, first=first)
            pieces = [piece async for piece in stream]
            assert stream.completion == whole
            assert "".join(piece.reasoning for piece in pieces) == whole.reasoning
            assert "".join(piece.answer for piece in pieces) == whole.answer

    with opened(small_model()) as engine:
        asyncio.run(go(engine))


def test_answer_now_closes_the_reasoning_of_a_stream(opened):
    params = replace(PARAMS, max_reasoning_tokens=180, min_reasoning_tokens=180)

    async def go(engine: TokenEngine) -> Completion | None:
        stream = engine.stream(user("p"), params)
        async for _ in stream:
            stream.answer_now()
        return stream.completion

    with opened(small_model()) as engine:
        completion = asyncio.run(go(engine))
    assert completion is not None and 0 < completion.num_reasoning_tokens < 180
    close = completion.token_ids.index(CLOSE)
    assert not completion.sampled[close] and len(completion.token_ids) > close + 1


def test_a_cancelled_call_leaves_the_engine_usable(opened):
    async def go(engine: TokenEngine) -> list[Completion]:
        params = replace(PARAMS, max_reasoning_tokens=200, min_reasoning_tokens=200)
        long = asyncio.ensure_future(engine.generate(user("p"), params, n=40))
        await asyncio.sleep(0.05)
        assert engine.outstanding_tokens > 0
        long.cancel()
        with pytest.raises(asyncio.CancelledError):
            await long
        return await engine.generate(user("q"), PARAMS, n=2)

    with opened(small_model()) as engine:
        assert len(asyncio.run(go(engine))) == 2
        assert engine.outstanding_tokens == 0


@pytest.mark.parametrize("prompt", [[], [-1], [264], [10**9]])
def test_ids_outside_the_vocabulary_are_refused(opened, prompt):
    with opened(small_model()) as engine, pytest.raises(ValueError, match="prompt ids"):
        asyncio.run(engine.generate(prompt, PARAMS))


def test_no_samples_are_no_request(opened):
    with opened(small_model()) as engine, pytest.raises(ValueError, match="use at least 1"):
        ask(engine, n=0)


def test_a_prompt_of_plain_ids_is_continued_as_the_model_would(opened):
    model = small_model()
    with opened(model) as engine:
        prompt = TOKENIZER.encode("abc")
        drawn = asyncio.run(engine.generate(prompt, replace(PARAMS, max_answer_tokens=40), n=12))
        assert all(agree(model, c) for c in drawn)
        assert all(c.token_ids[-1] == END or len(c.token_ids) == 40 for c in drawn)


def test_closing_twice_does_nothing_more_and_a_closed_engine_says_so(tmp_path: Path):
    with double_of(small_model()) as double:
        engine = VllmEngine(VllmServer(double.url), TOKENIZER, small_model().config)
        asyncio.run(engine.aclose())
        asyncio.run(engine.aclose())
        with pytest.raises(RuntimeError, match="closed"):
            ask(engine)


# ---- training over it


def recipe(folder: Path, **changes: object) -> RLConfig:
    save_model(small_model(), folder / "base")
    TOKENIZER.save(str(folder / "base"))
    values: dict[str, object] = {
        "out": str(folder / "run"), "model": str(folder / "base"), "task": "tests.helpers:LowercaseTask",
        "num_steps": 16, "pool_size": 16, "problems_per_step": 8, "group_size": 16, "max_reasoning_tokens": 3,
        "max_answer_tokens": 3, "lr": 5e-3, "num_workers": 0, "save_every": 100, "max_mismatch": 1e-4,
    }  # fmt: skip
    return RLConfig(**(values | changes))  # type: ignore[arg-type]


@pytest.fixture
def backend(opened, request, monkeypatch) -> str:
    """The name of the backend whose sampler the opened engine is; the double is too slow to train over."""
    if opened in (open_local, open_double):
        return "local"
    with opened(small_model()) as engine:
        monkeypatch.setenv(URL, engine._server.url)
    return "vllm"


@pytest.mark.slow
@pytest.mark.parametrize("opened", ["local", "vllm"], indirect=True)
def test_training_over_it_learns_and_trainer_and_sampler_agree_at_every_step(opened, backend, tmp_path):
    rl(recipe(tmp_path, backend=backend))
    rows = list(read_jsonl(tmp_path / "run" / "metrics.jsonl"))
    rewards = [row["reward/mean"] for row in rows]
    print(backend, "rewards", [round(reward, 2) for reward in rewards])
    print(backend, "mismatch", [f"{row['policy/mismatch_max']:.1e}" for row in rows])
    assert fmean(rewards[-4:]) > fmean(rewards[:3]) + 0.15
    assert max(row["policy/mismatch_max"] for row in rows) < 1e-4


@pytest.mark.parametrize("opened", ["vllm"], indirect=True)
def test_the_gate_catches_a_head_that_vllm_left_as_it_was(opened, backend, tmp_path, monkeypatch):
    def without_repair(engine: VllmEngine, folder: Path) -> None:
        print(engine._server.rpc("ponder_load", str(folder.resolve()), False))

    monkeypatch.setattr(VllmEngine, "_load_folder", without_repair)
    with pytest.raises(PolicyMismatch, match="more than max_mismatch=0.0001") as told:
        rl(recipe(tmp_path, backend=backend))
    print(told.value)
