"""A limit on tokens is a hard cut, shared so that thinking keeps most of it: it never switches thinking off."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ponder.efforts import LEVELS, Efforts, Point
from ponder.engine.base import ScriptedEngine
from ponder.engine.local import LocalEngine
from ponder.engine.remote import RemoteEngine
from ponder.evals.exams import run_exam
from ponder.models import hub
from ponder.serve.errors import ApiError
from ponder.serve.modes import compute_plan, offered_modes
from ponder.serve.schema import Compute
from ponder.strategies import STRATEGIES
from ponder.tasks import load_task
from ponder.types import SamplingParams, sample_seed
from tests.serve.serving import KEY, Served, script

AUTH = {"Authorization": f"Bearer {KEY}"}
OFFERED = offered_modes(STRATEGIES, object())
LIMITS = (60, 100, 300, 600, 1024, 2000)


def votes_of(n, *, cap=256, answer_tokens=None):
    """Levels of which the default is a vote of n."""
    level = Point(max_reasoning_tokens=cap, n=n, tokens=1, accuracy=0.5, low=0.4, high=0.6, answer_tokens=answer_tokens)
    return Efforts(task="t", num_problems=9, policy="", levels=dict.fromkeys(LEVELS, level))


def planned(limit, **more):
    asked = {"effort": None, "mode": None, "compute": None, "num_prompt_tokens": 40, "window": 8192,
             "offered": OFFERED, "efforts": votes_of(8)}  # fmt: skip
    return compute_plan(limit=limit, **{**asked, **more})


@pytest.mark.parametrize(
    "mode, compute, is_taken",
    [
        (None, Compute(mode="consensus", selector="vote"), True), ("pro", Compute(mode="consensus"), True),
        (None, Compute(mode="consensus", selector="scorer"), False), ("best_of_n", Compute(mode="pro"), False),
        ("standard", Compute(selector="vote"), False),
    ],
)  # fmt: skip
def test_two_modes_that_differ_are_refused_and_none_is_dropped(mode, compute, is_taken):
    if is_taken:
        assert planned(None, mode=mode, compute=compute).mode == "consensus"
        return
    with pytest.raises(ApiError, match="say different things"):
        planned(None, mode=mode, compute=compute)


@settings(max_examples=400, deadline=None)
@given(
    limit=st.integers(2, 30_000), mode=st.sampled_from([None, *sorted(OFFERED)]), n=st.none() | st.integers(1, 64),
    effort=st.sampled_from(["minimal", "medium", "max"]), measured=st.sampled_from([None, 2, 8, 64]),
    window=st.none() | st.integers(400, 10_000), answer=st.none() | st.integers(1, 300),
)  # fmt: skip
def test_whatever_the_mode_a_sample_keeps_most_of_its_part_for_thinking(
    limit, mode, n, effort, measured, window, answer
):
    efforts = votes_of(measured, answer_tokens=4.0) if measured else None
    compute = Compute(n=n if mode else None)
    spent = planned(limit, mode=mode, effort=effort, compute=compute, efforts=efforts, window=window)
    free = planned(None, mode=mode, effort=effort, compute=compute, efforts=efforts, window=window)
    params = spent.params
    assert params.max_tokens is not None and params.max_tokens <= limit
    assert params.max_reasoning_tokens >= min(free.params.max_reasoning_tokens, params.max_tokens // 2)
    assert 1 <= spent.n <= free.n and spent.params.max_reasoning_tokens <= free.params.max_reasoning_tokens
    if spent.n > 1 and spent.mode in ("standard", "consensus", "best_of_n"):
        # no vote is paid for with less thinking: all samples think as long as without a limit, and all fit
        assert params.max_reasoning_tokens == free.params.max_reasoning_tokens
        assert spent.n * params.max_tokens <= limit
    if mode is None:
        assert spent.mode == "standard" or spent.n >= min(3, measured or 1)


def test_a_limit_first_costs_samples_then_the_vote_and_only_then_thinking():
    seen = [planned(limit) for limit in (10_000, 2800, 1500, 900, 300, 60)]
    assert [(s.mode, s.n) for s in seen] == [
        ("consensus", 8), ("consensus", 8), ("consensus", 4), ("standard", 1), ("standard", 1), ("standard", 1)
    ]  # fmt: skip
    assert [s.params.max_reasoning_tokens for s in seen] == [256, 256, 256, 256, 256, 60]
    short = planned(2200, efforts=votes_of(8, answer_tokens=4.0))  # answers known to be short leave room for more
    assert (short.mode, short.n, short.params.max_reasoning_tokens) == ("consensus", 8, 256)


def test_the_numbers_that_are_echoed_are_the_numbers_that_were_used():
    long = ScriptedEngine(lambda text, seed: ("t" * (40 + seed % 300), "42"), window=8192)
    with Served(long, efforts=votes_of(8)) as served:  # noqa: SIM117
        with httpx.Client(base_url=f"{served.url}/v1", headers=AUTH, timeout=30) as client:
            for limit in (*LIMITS, 5000):
                for mode in (None, "consensus", "best_of_n", "judge"):
                    body = {"input": "x", "max_output_tokens": limit, "reasoning": {"mode": mode} if mode else {}}
                    answer = client.post("/responses", json=body).json()
                    if mode == "judge":
                        assert answer["error"]["code"] == "unsupported_value"
                        continue
                    told, details = answer["compute"], answer["usage"]["output_tokens_details"]
                    assert told["n"] == details["samples"] and answer["usage"]["output_tokens"] <= limit
                    assert 0 < details["reasoning_tokens"] <= told["n"] * told["max_reasoning_tokens"]
                    assert told["max_reasoning_tokens"] <= limit
                    assert (told["mode"] == "standard") == (told["n"] == 1) or mode


def test_a_vote_that_a_limit_makes_one_sample_is_streamed():
    with Served(ScriptedEngine(script, portions=(3,), window=8192), efforts=votes_of(8)) as served:
        body = {"input": "x", "stream": True, "max_output_tokens": 300}
        lines = httpx.post(f"{served.url}/v1/responses", headers=AUTH, json=body, timeout=30).text
    assert lines.count("response.output_text.delta") > 4


@pytest.fixture(scope="module")
def nano():
    with LocalEngine(*hub.load("nano", dtype=None), num_workers=0, num_slots=64) as engine:
        yield engine


class AsServed:
    """The local engine with the seeds that a served request has, and a limit instead of two."""

    def __init__(self, engine):
        self.engine = engine

    async def generate(self, prompt, params, *, n=1, first=0):
        limit = params.max_reasoning_tokens + params.max_answer_tokens
        params = replace(
            params, seed=sample_seed(params.seed, first) >> 32, max_tokens=limit, max_reasoning_tokens=min(256, limit),
            max_answer_tokens=1024,
        )  # fmt: skip
        drawn = await asyncio.gather(*(self.engine.generate(prompt, params, first=1000 * j) for j in range(n)))
        return [completion for (completion,) in drawn]


def exam(engine, limit, out, *, samples):
    params = SamplingParams(max_reasoning_tokens=limit - 16, max_answer_tokens=16)
    return asyncio.run(
        run_exam(
            load_task("arithmetic:level=3-4"),
            engine,
            model="nano",
            num_samples=samples,
            params=params,
            out=out,
            limit=16,
        )
    )


@pytest.mark.parametrize("limit", [*LIMITS, 8000])
def test_an_exam_over_the_server_is_the_local_exam_whatever_the_limit(nano, tmp_path, limit):
    """The default of this server is a vote of 8. Choices of one request are single samples: token for token those of
    the local engine under the same cut. A request of one choice is a vote where the limit has room for one."""
    with Served(nano, model="nano", efforts=votes_of(8, answer_tokens=4.0)) as served:
        remote = RemoteEngine(f"{served.url}/v1", "nano", KEY)
        found = exam(remote, limit, tmp_path / "remote", samples=4)
        one = exam(remote, limit, tmp_path / "one", samples=1)
    here = exam(AsServed(nano), limit, tmp_path / "local", samples=4)
    assert found.metrics.pass_at[1] == here.metrics.pass_at[1]
    assert found.tokens.reasoning == here.tokens.reasoning > 0
    assert found.finish_reasons == here.finish_reasons
    assert one.tokens.reasoning > 0
    assert one.metrics.pass_at[1].value >= here.metrics.pass_at[1].low - 0.05


def test_an_answer_that_may_fill_the_window_leaves_the_thinking_half_of_it(nano):
    prompt = load_task("arithmetic:level=4")[0].prompt
    params = SamplingParams(max_reasoning_tokens=200, min_reasoning_tokens=20, max_answer_tokens=50_000)
    drawn = asyncio.run(nano.generate(prompt, params, n=4))
    assert all(completion.num_reasoning_tokens >= 20 for completion in drawn)
