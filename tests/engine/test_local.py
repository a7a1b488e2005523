"""The local engine: fast equals slow, and every rule of a completion is kept while decoding."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest
import torch

from ponder.engine.arranging import write
from ponder.engine.local import EngineError, LocalEngine
from ponder.engine.network import WeightLayout
from ponder.engine.runner import Runner, run_all
from ponder.engine.scheduler import Request, Sample
from ponder.models.tokenizer import ByteTokenizer
from ponder.train.batches import Example, collate
from ponder.train.distributed import Trainer
from ponder.types import SamplingParams, sample_seed
from tests.helpers import tiny_model, until, user

TOKENIZER = ByteTokenizer()
PARAMS = SamplingParams(max_reasoning_tokens=20, max_answer_tokens=6, seed=3)


def make_runner(model=None, *, num_slots: int = 16) -> Runner:
    model = model or tiny_model()
    layout = WeightLayout.of(model.config, torch.float32, torch.device("cpu"))
    return Runner(
        layout, layout.in_memory(model.state_dict(), model.device).views(),
        end_id=TOKENIZER.end_id, unthink_id=TOKENIZER.unthink_id, pad_id=TOKENIZER.pad_id,
        decode=TOKENIZER.decode, num_slots=num_slots,
    )  # fmt: skip


def request(text: str = "What is 2+3?", *, id: int = 0, n: int = 1, first: int = 0, params=PARAMS) -> Request:
    return Request(id=id, prompt_ids=tuple(TOKENIZER.render(user(text))), params=params, n=n, first=first)


@torch.no_grad()
def naive_greedy(model, prompt: tuple[int, ...], params: SamplingParams) -> list[int]:
    """The loop anyone would write: the whole sequence through the model for every token, no cache."""
    tokens, thinking, reasoning, answer = [], True, 0, 0
    while True:
        if thinking and reasoning == params.max_reasoning_tokens:
            token = TOKENIZER.unthink_id
        else:
            token = int(model(torch.tensor([[*prompt, *tokens]]))[0, -1].argmax())
        tokens.append(token)
        if token == TOKENIZER.end_id:
            return tokens
        if not thinking:
            answer += 1
            if answer == params.max_answer_tokens:
                return tokens
        elif token == TOKENIZER.unthink_id:
            thinking = False
        else:
            reasoning += 1


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"sliding_window": 7},
        {"sliding_window": 7, "full_attention_layers": (1,)},
        {"qk_norm": True, "tie_word_embeddings": False},
    ],
)
def test_the_engine_gives_the_tokens_of_a_naive_loop(changes):
    model = tiny_model(**changes)
    params = replace(PARAMS, temperature=0.0)
    prompts = ["What is 2+3?", "hello", "", "a longer prompt, to be padded against"]
    requests = [request(text, id=i, params=params) for i, text in enumerate(prompts)]
    results = run_all(make_runner(model), requests)
    for one, samples in zip(requests, results, strict=True):
        assert samples[0].token_ids == naive_greedy(model, one.prompt_ids, params)


def test_a_completion_does_not_depend_on_its_batch():
    model = tiny_model()
    requests = [request(f"problem {i}", id=i, n=3, params=replace(PARAMS, seed=i)) for i in range(9)]
    together = run_all(make_runner(model, num_slots=27), requests)
    for one, samples in zip(requests, together, strict=True):
        alone = run_all(make_runner(model, num_slots=1), [one])[0]
        assert [s.token_ids for s in samples] == [s.token_ids for s in alone]
        for a, b in zip(samples, alone, strict=True):
            assert a.logprobs == pytest.approx(b.logprobs, abs=1e-5)


def test_a_shared_prefix_gives_the_same_tokens_as_none():
    model = tiny_model()
    shared = run_all(make_runner(model), [request(n=8)])[0]
    apart = [run_all(make_runner(model), [request(n=1, first=j)])[0][0] for j in range(8)]
    assert [s.token_ids for s in shared] == [s.token_ids for s in apart]


def test_samples_of_one_prompt_differ():
    samples = run_all(make_runner(), [request(n=8)])[0]
    assert len({tuple(s.token_ids) for s in samples}) > 4


def test_trainer_and_sampler_agree_on_log_probabilities():
    model, params = tiny_model(), replace(PARAMS, temperature=0.7)
    for sample in run_all(make_runner(model), [request(n=6, params=params)])[0]:
        n = len(sample.token_ids)
        example = Example(prompt_ids=request().prompt_ids, token_ids=tuple(sample.token_ids), trained=(True,) * n)
        expected = Trainer(model, num_workers=0).logprobs([collate([example])], 0.7)[0]
        assert sample.logprobs == pytest.approx(expected[0].tolist(), abs=2e-5)


def test_at_its_cap_the_reasoning_is_closed_and_an_answer_still_comes():
    params = replace(PARAMS, max_reasoning_tokens=5)
    for sample in run_all(make_runner(), [request(n=16, params=params)])[0]:
        if TOKENIZER.unthink_id not in sample.token_ids:  # it ended inside its reasoning, of its own accord
            assert sample.token_ids[-1] == TOKENIZER.end_id
            continue
        close = sample.token_ids.index(TOKENIZER.unthink_id)
        assert close <= 5
        assert len(sample.token_ids) > close + 1
        assert sample.sampled == [i != close or close < 5 for i in range(len(sample.token_ids))]


def test_a_cap_of_zero_answers_at_once():
    params = replace(PARAMS, max_reasoning_tokens=0)
    for sample in run_all(make_runner(), [request(n=4, params=params)])[0]:
        assert sample.token_ids[0] == TOKENIZER.unthink_id
        assert not sample.sampled[0]


def test_reasoning_is_not_closed_before_its_minimum():
    params = replace(PARAMS, min_reasoning_tokens=12)
    for sample in run_all(make_runner(), [request(n=16, params=params)])[0]:
        assert TOKENIZER.unthink_id not in sample.token_ids[:12]
        assert TOKENIZER.end_id not in sample.token_ids[:12]


def test_the_answer_is_cut_at_its_own_limit():
    for sample in run_all(make_runner(), [request(n=16)])[0]:
        if TOKENIZER.unthink_id in sample.token_ids:
            close = sample.token_ids.index(TOKENIZER.unthink_id)
            assert len(sample.token_ids) - close - 1 <= PARAMS.max_answer_tokens
            assert (sample.finish_reason == "stop") == (sample.token_ids[-1] == TOKENIZER.end_id)


def test_a_prompt_as_long_as_the_window_ends_honestly_and_a_shorter_one_keeps_room_for_its_answer():
    model = tiny_model(window=32)
    full, tight = run_all(make_runner(model), [request("x" * 60, n=2), request("x" * 16, id=1, n=8)])
    assert [(s.token_ids, s.finish_reason) for s in full] == [([], "window")] * 2
    for sample in tight:
        assert len(request("x" * 16).prompt_ids) + len(sample.token_ids) <= 32
        assert TOKENIZER.unthink_id in sample.token_ids or sample.token_ids[-1] == TOKENIZER.end_id


def test_more_samples_than_slots_all_come_back_in_order():
    samples = run_all(make_runner(num_slots=3), [request(n=11), request("other", id=1, n=5)])
    assert [[s.index for s in group] for group in samples] == [list(range(11)), list(range(5))]


def test_cancelling_a_request_frees_its_slots_and_leaves_the_others_as_they_were():
    model = tiny_model()
    alone = run_all(make_runner(model), [request("kept", id=1, n=4)])[0]
    runner = make_runner(model, num_slots=12)
    for one in (request("dropped", id=0, n=4), request("kept", id=1, n=4), request("dropped too", id=2, n=9)):
        runner.add(one)
    results: dict[int, list[Sample]] = {}
    for step in range(200):
        results |= {done.id: samples for done, samples in runner.step()}
        if step == 2:
            runner.cancel(0)
            runner.cancel(2)
        if not runner.has_work:
            break
    assert list(results) == [1]
    assert [s.token_ids for s in results[1]] == [s.token_ids for s in alone]


def test_top_p_draws_only_from_the_nucleus():
    model = tiny_model()
    params = replace(PARAMS, top_p=0.3)
    for sample in run_all(make_runner(model), [request(n=8, params=params)])[0]:
        ids = [*request().prompt_ids, *sample.token_ids]
        with torch.no_grad():
            probs = model(torch.tensor([ids]))[0].softmax(-1)
        for place, (token, sampled) in enumerate(zip(sample.token_ids, sample.sampled, strict=True)):
            row = probs[len(request().prompt_ids) - 1 + place]
            before = row[row > row[token]].sum()
            assert not sampled or before < 0.3 + 1e-4


async def ask(engine: LocalEngine, texts: list[str], n: int = 3, first: int = 0):
    return await asyncio.gather(
        *(engine.generate(user(text), replace(PARAMS, seed=i), n=n, first=first) for i, text in enumerate(texts))
    )


@pytest.mark.slow
def test_worker_processes_give_what_one_thread_gives_and_the_same_bits_twice():
    model, texts = tiny_model(), [f"problem {i}" for i in range(6)]
    with LocalEngine(model, TOKENIZER, num_workers=0) as engine:
        one = asyncio.run(ask(engine, texts))
    with LocalEngine(model, TOKENIZER, num_workers=2) as engine:
        two, again = asyncio.run(ask(engine, texts)), asyncio.run(ask(engine, texts))
        assert two == again
        assert [[c.token_ids for c in group] for group in two] == [[c.token_ids for c in group] for group in one]

        other = tiny_model(seed=1)
        engine.update_weights(other.state_dict(), version=7)
        new = asyncio.run(ask(engine, texts))
        assert {c.policy_version for group in new for c in group} == {7}
    with LocalEngine(other, TOKENIZER, num_workers=0) as engine:
        fresh = asyncio.run(ask(engine, texts))
    assert [[c.token_ids for c in group] for group in new] == [[c.token_ids for c in group] for group in fresh]


async def replace_weights_on_the_way(engine: LocalEngine, weights: dict, params: SamplingParams):
    """Four samples that have begun when the weights are replaced, and two asked for after it."""
    streams = [engine.stream(user("p"), params, first=index) for index in range(4)]
    for stream in streams:
        async for _ in stream:
            break  # it has begun
    engine.update_weights(weights, version=1)
    later = await engine.generate(user("p"), params, n=2)
    for stream in streams:
        async for _ in stream:
            pass
    return [stream.completion for stream in streams], later


@pytest.mark.parametrize("num_workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_weights_may_be_replaced_while_requests_run_and_every_token_says_who_drew_it(num_workers):
    params = SamplingParams(max_reasoning_tokens=1500, min_reasoning_tokens=1500, max_answer_tokens=4)
    old, new = tiny_model(window=2000), tiny_model(seed=1, window=2000)
    with LocalEngine(old, TOKENIZER, num_workers=0) as engine:
        before = asyncio.run(engine.generate(user("p"), params, n=4))
    with LocalEngine(new, TOKENIZER, num_workers=0) as engine:
        after = asyncio.run(engine.generate(user("p"), params, n=2))
    with LocalEngine(old, TOKENIZER, num_workers=num_workers) as engine:
        replaced, later = asyncio.run(replace_weights_on_the_way(engine, new.state_dict(), params))
        assert engine.policy_version == 1
    for completion, alone in zip(replaced, before, strict=True):
        (first, start, change), (second, again, end) = completion.versions
        assert (first, second, start, again, end) == (0, 1, 0, change, len(completion.token_ids))
        assert completion.policy_version == 0 and completion.token_versions.count(0) == change > 0
        assert completion.token_ids[:change] == alone.token_ids[:change]
        assert completion.sampler_logprobs[:change] == alone.sampler_logprobs[:change]
        assert completion.sampler_logprobs[change + 1] != alone.sampler_logprobs[change + 1]
    # the prompt that the old weights read is not used again
    assert [c.token_ids for c in later] == [c.token_ids for c in after]
    assert {c.token_versions for c in later} == {(1,) * len(c.token_ids) for c in later}


def test_weights_that_do_not_fit_are_an_error_and_what_runs_goes_on():
    async def go(engine: LocalEngine):
        stream = engine.stream(user("p"), replace(PARAMS, max_reasoning_tokens=90, min_reasoning_tokens=90))
        async for _ in stream:
            break
        with pytest.raises(ValueError, match=r"lack model\.embed_tokens\.weight"):
            engine.update_weights({}, version=1)
        async for _ in stream:
            pass
        return stream.completion

    with LocalEngine(tiny_model(), TOKENIZER, num_workers=0) as engine:
        assert asyncio.run(go(engine)).policy_version == 0 == engine.policy_version


def test_a_sample_that_begins_after_an_update_owes_its_first_token_to_who_read_the_prompt():
    model = tiny_model()
    layout = WeightLayout.of(model.config, torch.float32, torch.device("cpu"))
    weights = layout.in_memory(model.state_dict(), model.device).views()
    runner = Runner(
        layout, weights, end_id=TOKENIZER.end_id, unthink_id=TOKENIZER.unthink_id, pad_id=TOKENIZER.pad_id,
        decode=TOKENIZER.decode, num_slots=2,
    )  # fmt: skip
    runner.add(request(n=3, params=replace(PARAMS, min_reasoning_tokens=20)))  # the third waits for a slot
    for _ in range(5):
        assert not runner.step()
    write(layout.arranged(tiny_model(seed=1).state_dict()), weights)
    runner.reload(1)
    finished = []
    while not finished:
        finished = runner.step()
    [(_, [first, second, third])] = finished
    # five were drawn, and the logits of the sixth were there
    assert first.versions == [(0, 0, 6), (1, 6, len(first.token_ids))]
    assert second.versions == [(0, 0, 6), (1, 6, len(second.token_ids))]
    assert third.versions == [(0, 0, 1), (1, 1, len(third.token_ids))]


@pytest.mark.slow
def test_an_engine_in_bf16_converts_float32_weights_when_it_starts_and_when_it_gets_new_ones():
    one, other = tiny_model(), tiny_model(seed=1)
    with LocalEngine(tiny_model().bfloat16(), TOKENIZER, num_workers=0) as engine:
        expected = asyncio.run(ask(engine, ["p", "q"]))
    with LocalEngine(other, TOKENIZER, num_workers=1, dtype=torch.bfloat16) as engine:
        before = asyncio.run(ask(engine, ["p", "q"]))
        engine.update_weights(one.state_dict(), version=0)
        assert asyncio.run(ask(engine, ["p", "q"])) == expected != before


def test_asking_for_more_later_continues_the_same_samples():
    with LocalEngine(tiny_model(), TOKENIZER, num_workers=0) as engine:
        [all_six] = asyncio.run(ask(engine, ["p"], n=6))
        [first], [rest] = asyncio.run(ask(engine, ["p"], n=2)), asyncio.run(ask(engine, ["p"], n=4, first=2))
    assert [c.token_ids for c in all_six] == [c.token_ids for c in [*first, *rest]]


def test_marks_typed_by_a_user_are_text_and_cannot_close_the_reasoning():
    ids = TOKENIZER.render(user("</think> [/think] <|end|> \x00\uffff"))
    marks = [i for i in ids if i >= 256]
    assert marks == [
        TOKENIZER.bos_id, TOKENIZER.user_id, TOKENIZER.end_id, TOKENIZER.assistant_id, TOKENIZER.think_id,
    ]  # fmt: skip


def test_reasoning_and_answer_are_split_on_the_mark_alone():
    with LocalEngine(tiny_model(), TOKENIZER, num_workers=0) as engine:
        [samples] = asyncio.run(ask(engine, ["p"], n=8))
    for c in samples:
        body = [t for t in c.token_ids if t not in (TOKENIZER.unthink_id, TOKENIZER.end_id)]
        assert c.num_reasoning_tokens <= len(body)
        if TOKENIZER.unthink_id not in c.token_ids:
            assert c.answer == ""


def test_a_stop_string_ends_the_answer_and_is_not_returned():
    with LocalEngine(tiny_model(), TOKENIZER, num_workers=0) as engine:
        params = replace(PARAMS, max_answer_tokens=40)
        plain = asyncio.run(engine.generate(user("p"), params, n=8))
        text = next(c.answer for c in plain if len(c.answer) > 6)
        stop = text[2:4]
        stopped = asyncio.run(engine.generate(user("p"), replace(params, stop=(stop,)), n=8))
    assert all(stop not in c.answer for c in stopped)
    assert text.partition(stop)[0] in [c.answer for c in stopped]


def test_an_answer_that_meets_its_stop_string_with_the_last_token_of_its_budget_was_not_cut():
    [drawn] = run_all(make_runner(), [request(n=64)])
    closed = [s for s in drawn if TOKENIZER.unthink_id in s.token_ids]
    answers = {s.index: s.token_ids[s.token_ids.index(TOKENIZER.unthink_id) + 1 :] for s in closed}
    index = next(i for i, ids in answers.items() if len(ids) > 3 and all(token < 128 for token in ids[:3]))
    params = replace(PARAMS, max_answer_tokens=3, stop=(TOKENIZER.decode(answers[index][:3]),))
    [[sample]] = run_all(make_runner(), [request(first=index, params=params)])
    assert sample.token_ids[-3:] == answers[index][:3] and sample.finish_reason == "stop"
    [[cut]] = run_all(make_runner(), [request(first=index, params=replace(params, stop=("never",)))])
    assert cut.finish_reason == "length"


@pytest.mark.parametrize(
    "extreme",
    [
        {"temperature": 1e-40}, {"temperature": 1e-200}, {"temperature": 1e300}, {"top_p": 1e-46},
        {"max_answer_tokens": 2**70}, {"max_reasoning_tokens": 2**70},
    ],
)  # fmt: skip
def test_numbers_that_the_table_of_slots_cannot_hold_end_no_worker(extreme):
    [[sample]] = run_all(make_runner(), [request(params=replace(PARAMS, **extreme))])
    assert sample.token_ids
    if extreme.get("temperature", 1.0) < 1 or "top_p" in extreme:
        [[greedy]] = run_all(make_runner(), [request(params=replace(PARAMS, temperature=0.0))])
        assert sample.token_ids == greedy.token_ids


def test_a_call_whose_event_loop_ended_before_it_left_holds_up_no_later_one():
    with LocalEngine(tiny_model(), TOKENIZER, num_workers=0) as engine:
        loop = asyncio.new_event_loop()
        lost = loop.create_task(engine.generate(user("p"), PARAMS))
        loop.call_soon(loop.stop)
        loop.run_forever()  # one turn: the call is in the outbox
        loop.close()
        assert len(asyncio.run(asyncio.wait_for(engine.generate(user("q"), PARAMS, n=2), 60))) == 2
        assert not lost.done()


def test_threads_write_to_a_worker_one_after_the_other():
    class Pipe:
        inside = most = 0

        def send(self, message: object) -> None:
            self.inside += 1
            self.most = max(self.most, self.inside)
            time.sleep(0.01)
            self.inside -= 1

    pipe = Pipe()
    with LocalEngine(tiny_model(), TOKENIZER, num_workers=0) as engine:
        threads = [threading.Thread(target=engine._send, args=(pipe, None)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert pipe.most == 1


def test_a_cancelled_call_leaves_the_engine_usable():
    async def go(engine: LocalEngine):
        long = asyncio.ensure_future(engine.generate(user("p"), replace(PARAMS, max_reasoning_tokens=90), n=5000))
        await asyncio.sleep(0.05)  # a busy machine may make that half a second: the call must take longer
        long.cancel()
        with pytest.raises(asyncio.CancelledError):
            await long
        return await engine.generate(user("q"), PARAMS, n=2)

    with LocalEngine(tiny_model(), TOKENIZER, num_workers=0) as engine:
        assert len(asyncio.run(go(engine))) == 2
        engine.update_weights(tiny_model().state_dict(), version=1)  # nothing is left running


def test_a_call_cancelled_before_it_left_is_never_started():
    async def go(engine: LocalEngine):
        task = asyncio.ensure_future(engine.generate(user("p"), replace(PARAMS, max_reasoning_tokens=90), n=64))
        await asyncio.sleep(0)  # the call is in the outbox, not yet sent
        task.cancel()
        await asyncio.sleep(0)
        return await engine.generate(user("q"), PARAMS, n=2)

    with LocalEngine(tiny_model(), TOKENIZER, num_workers=0) as engine:
        assert len(asyncio.run(go(engine))) == 2
        assert engine._load == [0]


@pytest.mark.slow
def test_one_call_keeps_every_worker_busy_and_a_later_one_goes_where_there_is_less_to_do():
    async def go(engine: LocalEngine):
        long = asyncio.ensure_future(engine.generate(user("p"), replace(PARAMS, max_reasoning_tokens=90), n=9))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        each = engine._cost(next(iter(engine._pending.values())).request)
        dealt = [load // each for load in engine._load]
        await engine.generate(user("q"), PARAMS, n=1)
        return dealt, [c.seed for c in await long]

    with LocalEngine(tiny_model(), TOKENIZER, num_workers=2) as engine:
        dealt, seeds = asyncio.run(go(engine))
        assert dealt == [5, 4]
        assert seeds == [sample_seed(PARAMS.seed, j) for j in range(9)]
        assert engine._load == [0, 0]


@pytest.mark.slow
def test_a_killed_worker_fails_its_requests_with_a_reason_instead_of_hanging():
    async def go(engine: LocalEngine):
        waiting = asyncio.ensure_future(engine.generate(user("p"), replace(PARAMS, max_reasoning_tokens=90), n=400))
        await asyncio.sleep(0.2)
        engine.worker_processes[0].kill()
        await waiting

    with LocalEngine(tiny_model(), TOKENIZER, num_workers=1, num_slots=4) as engine:
        asyncio.run(ask(engine, ["warm up"]))
        begun = time.monotonic()
        with pytest.raises(EngineError, match="worker died"):
            asyncio.run(go(engine))
        assert time.monotonic() - begun < 30


@pytest.mark.parametrize("prompt", [[], [-1], [264], [10**9]])
def test_prompt_ids_outside_the_vocabulary_are_refused(prompt):
    with LocalEngine(tiny_model(), TOKENIZER, num_workers=0) as engine, pytest.raises(ValueError, match="prompt ids"):
        asyncio.run(engine.generate(prompt, PARAMS))


def test_an_engine_that_cannot_be_made_leaves_no_worker_behind(monkeypatch):
    def fails(*_: object) -> None:
        raise MemoryError("no memory for the weights")

    monkeypatch.setattr("ponder.engine.network.WeightLayout.arranged", fails)
    with pytest.raises(MemoryError, match="no memory for the weights"):
        LocalEngine(tiny_model(), ByteTokenizer(), num_workers=2)
    until(lambda: not [child for child in multiprocessing.active_children() if child.name == "ponder-engine"])


@pytest.mark.slow
def test_a_program_that_ends_without_closing_its_engine_is_told_of_no_dead_worker(tmp_path):
    script = tmp_path / "forgets.py"
    script.write_text(
        "import asyncio\n"
        "from ponder.engine.local import LocalEngine\n"
        "from ponder.models.tokenizer import ByteTokenizer\n"
        "from ponder.types import SamplingParams\n"
        "from tests.helpers import tiny_model\n"
        "if __name__ == '__main__':\n"
        "    engine = LocalEngine(tiny_model(), ByteTokenizer(), num_workers=1)\n"
        "    asyncio.run(engine.generate([1, 2], SamplingParams(max_reasoning_tokens=2, max_answer_tokens=2)))\n"
    )
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path))
    ran = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120, env=environment)
    assert (ran.returncode, ran.stderr) == (0, "")
