"""Whole deliberations are learned from: bounded rewards, honest credit, exact log-probabilities, exact resuming."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ponder.config import ConfigError
from ponder.engine.base import ScriptedEngine
from ponder.engine.local import LocalEngine
from ponder.files import read_jsonl
from ponder.models.tokenizer import ByteTokenizer
from ponder.models.weights import save_model
from ponder.rollouts.collect import collect, environment
from ponder.rollouts.deliberate import DeliberationConfig, deliberation_terms, preference_term
from ponder.rollouts.rewards import add_terms
from ponder.strategies.base import Work
from ponder.strategies.deliberation_environment import listing, render_step
from ponder.strategies.turns import Episode, Trajectory, run_episode
from ponder.train.batches import from_groups, micro_batches
from ponder.train.distributed import Trainer
from ponder.train.metrics import rollout_metrics, sampled_cost
from ponder.train.recipe import RLConfig
from ponder.train.rl import rl
from ponder.train.sft import SFTConfig, sft
from ponder.types import Completion, Ending, Group, Message, Rollout, SamplingParams, Verdict
from tests.helpers import LowercaseTask, tiny_model
from tests.train.killing import whole_and_broken
from tests.train.test_rl import weights as weights_at

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent.parent
TOY = "tests.helpers:LowercaseTask"
RIGHT, WRONG = Verdict(outcome="correct", reward=1.0), Verdict(outcome="wrong", reward=0.0)


def ended(how: Ending, *, turns: int, answer: str) -> Trajectory:
    whole = Completion(
        prompt_ids=(1,), token_ids=(2,), sampler_logprobs=(0.0,), sampled=(True,), finish_reason="stop", reasoning="",
        answer=answer, num_reasoning_tokens=0,
    )  # fmt: skip
    return Trajectory(turns=(), completion=whole, ended=how, num_turns=turns)


class Says:
    """A preference scorer that says one number."""

    name, policy = "rule: constant", ""

    def __init__(self, value: float) -> None:
        self.value = value

    async def __call__(self, prompt: Sequence[Message], completions: Sequence[Completion]) -> list[float]:
        return [self.value] * len(completions)

    def cost(self, completions: Sequence[Completion]) -> int:
        return 0


def reward(verdict: Verdict, trajectory: Trajectory, config: DeliberationConfig, liked: float = 0.0) -> Verdict:
    """The verdict with the terms added, where the preference scorer says `liked`."""
    terms = deliberation_terms(replace(config, preference_weight=0.0))
    terms["preference"] = preference_term(Says(liked), config.preference_weight)
    [found] = asyncio.run(add_terms(terms, LowercaseTask()[0], [trajectory], [verdict]))
    return found


@st.composite
def weights(draw: st.DrawFn) -> DeliberationConfig:
    step, liking = draw(st.floats(0, 0.99)), draw(st.floats(0, 0.99))
    if step + liking >= 0.99:
        step, liking = step / 2.1, liking / 2.1
    penalty = draw(st.one_of(st.just(0.0), st.floats(step, 1)))
    return DeliberationConfig(
        turns=draw(st.integers(1, 20)), step_cost=step, preference_weight=liking, window_penalty=penalty,
        preference="tests.train.test_deliberate:LikesShort",
    )  # fmt: skip


@given(weights(), st.sampled_from(get_args(Ending)), st.sampled_from(get_args(Ending)), st.data())
def test_no_wrong_answer_ever_beats_a_right_one_and_no_missing_one_a_wrong_one(config, one, other, data):
    def terms(verdict: Verdict, how: Ending, answer: str) -> float:
        trajectory = ended(how, turns=data.draw(st.integers(0, 40)), answer=answer)
        return reward(verdict, trajectory, config, data.draw(st.floats(0, 1))).reward

    right, wrong, missing = terms(RIGHT, one, "9"), terms(WRONG, other, "8"), terms(WRONG, other, " ")
    assert -1 <= missing <= wrong < right <= 1 + config.preference_weight


@given(st.sampled_from(get_args(Ending)), st.sampled_from(["9", ""]), st.sampled_from([RIGHT, WRONG]))
def test_with_every_weight_0_the_reward_is_the_verifiers(how, answer, verdict):
    off = DeliberationConfig(window_penalty=0, step_cost=0)
    assert reward(verdict, ended(how, turns=5, answer=answer), off).reward == verdict.reward


def test_each_term_stands_in_the_parts():
    config = DeliberationConfig(turns=10, step_cost=0.2, preference_weight=0.5, preference="x:y", window_penalty=0.9)
    right = reward(RIGHT, ended("answer", turns=5, answer="9"), config, 0.4)
    assert right.parts == {"window": 0.0, "steps": -0.1, "preference": 0.2} and right.reward == pytest.approx(1.1)
    assert reward(WRONG, ended("answer", turns=5, answer="8"), config).reward == 0  # steps cost right answers only
    assert reward(WRONG, ended("window", turns=5, answer=""), config, 1.0).parts["window"] == -0.9


@pytest.mark.parametrize("bad", [
    {"m": 0}, {"m": 10}, {"turns": 0}, {"step_cost": 1.0}, {"step_cost": -0.1}, {"window_penalty": 1.5},
    {"window_penalty": 0.05, "step_cost": 0.1}, {"step_cost": 0.5, "preference_weight": 0.5, "preference": "a:b"},
    {"preference_weight": 0.1}, {"contrast": 1.0}, {"step_cost": float("nan")},
])  # fmt: skip
def test_weights_that_would_break_the_bounds_are_refused(bad):
    with pytest.raises((ValueError, ConfigError)):
        DeliberationConfig(**bad)


@pytest.mark.parametrize("said", [-0.1, 1.1])
def test_a_preference_that_is_not_bounded_stops(said):
    config = DeliberationConfig(preference_weight=0.2, preference="x:y")
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\]"):
        reward(RIGHT, ended("answer", turns=1, answer="9"), config, said)


def test_terms_of_single_completions_are_refused_beside_deliberation():
    with pytest.raises(ValueError, match="window_penalty"):
        RLConfig(out="x", environment="deliberate", truncation_penalty=0.1)


class LikesShort:
    """A rule-based stand-in for a preference scorer: short answers please."""

    name, policy = "rule: short", ""

    async def __call__(self, prompt: Sequence[Message], completions: Sequence[Completion]) -> list[float]:
        return [1 / (1 + len(completion.answer)) for completion in completions]

    def cost(self, completions: Sequence[Completion]) -> int:
        return 0


class LikesWork(LikesShort):
    """A rule-based stand-in for a preference scorer: the more of the work is shown, up to five steps, the better."""

    name = "rule: shown work"

    async def __call__(self, prompt: Sequence[Message], completions: Sequence[Completion]) -> list[float]:
        return [min(completion.reasoning.count("A:"), 5) / 5 for completion in completions]


# ---- rollouts ------------------------------------------------------------------------------------------------------


def script(text: str, seed: int) -> tuple[str, str]:
    """One step of two kinds, then an answer, right or wrong; the last candidate is chosen."""
    if text.endswith("Best: "):
        return f"{text.count('. Q:') or 1}\n", ""
    return (render_step(f"{seed % 2}", "x") + "Q: never", "no") if "A:" not in text else ("", "aA"[seed // 2 % 2])


def played(config: DeliberationConfig, *, size: int = 8):
    task = LowercaseTask(size=2)
    engine = ScriptedEngine(script)
    tokens = SimpleNamespace(encode=lambda text: list(text.encode()))
    return asyncio.run(
        collect(
            environment(engine, config.environment(tokens), task), task, [task[0], task[1]],
            SamplingParams(max_answer_tokens=4), group_size=size, seed=0, step=0, terms=deliberation_terms(config),
        )
    )  # fmt: skip


def test_rollouts_hold_all_that_was_drawn_and_the_same_seed_plays_the_same():
    config = DeliberationConfig(m=4, turns=3)
    found = played(config)
    assert played(config).groups == found.groups
    assert [len(group.rollouts) for group in found.groups] == [8, 8]
    metrics = rollout_metrics(found)
    assert metrics["ended/answer"] == 1 and metrics["deliberation/turns"] == 2
    assert metrics["deliberation/choices"] > 0 and metrics["deliberation/choice_unparsed"] == 0
    assert metrics["rollout/correct"] == 1 - metrics["rollout/correct"] or 0 < metrics["rollout/correct"] < 1


def test_choices_of_rollouts_that_left_their_group_are_in_both_parts_of_the_share():
    found = played(DeliberationConfig(m=4, turns=3))
    found.counts["choice_unparsed"] = found.counts["choices"]  # every one of them
    fewer = replace(found, groups=[replace(found.groups[0], rollouts=found.groups[0].rollouts[:1])])
    assert rollout_metrics(fewer)["deliberation/choice_unparsed"] == 1


def test_credit_goes_to_the_path_and_the_choices_and_with_contrast_against_the_rejected():
    found = played(DeliberationConfig(m=4, turns=3))
    advantages = [[1.0] * len(group.rollouts) for group in found.groups]
    plain, contrasted = from_groups(found.groups, advantages), from_groups(found.groups, advantages, contrast=0.25)
    paths = {(r.whole.prompt_ids, r.whole.token_ids) for r in found.rollouts}
    choices = [t for r in found.rollouts for t in r.turns if t.kind == "choice"]
    assert len(plain) == len(found.rollouts) + len(choices)
    assert sum((e.prompt_ids, e.token_ids) in paths for e in plain) == len(found.rollouts)
    assert {e.advantage for e in plain} == {1.0} and {e.advantage for e in contrasted} == {1.0, -0.25}
    for rollout in found.rollouts:  # a candidate equal to the chosen one is no contrast to it
        chosen = {t.completion.token_ids for t in rollout.turns if t.chosen}
        for example in from_groups([Group(problem=rollout.problem, rollouts=(rollout,))], [[1.0]], contrast=0.25):
            assert example.advantage > 0 or example.token_ids not in chosen


def test_cost_counts_every_candidate_and_every_state_that_was_read_again():
    found = played(DeliberationConfig(m=4, turns=3))
    tokens, flops = sampled_cost(tiny_model().config, found.groups)
    assert tokens == sum(turn.completion.num_tokens for r in found.rollouts for turn in r.turns)
    fewer, less = sampled_cost(tiny_model().config, played(DeliberationConfig(m=1, turns=3)).groups)
    assert 0 < fewer < tokens and 0 < less < flops


async def pieces(episode: Episode) -> Ending:
    """An environment of its own: candidates, a list that is only shown, words that nobody sampled, an answer."""
    for _ in range(3):
        drawn = await episode.draw(3, max_tokens=6, max_reasoning_tokens=6)
        episode.keep(Random(episode.index).choice(drawn))
        listed = list(b"1. a\n2. b\nBest: ")
        await episode.draw(1, kind="choice", suffix_ids=listed, max_tokens=3, max_reasoning_tokens=3)
        episode.append(" tool\n", list(b" tool\n"))
    await episode.finish(max_reasoning_tokens=0)
    return "turns"


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_trainer_and_engine_agree_on_every_token_of_several_turns(temperature):
    task, model = LowercaseTask(size=2), tiny_model(window=256)
    params = SamplingParams(max_reasoning_tokens=100, max_answer_tokens=6, temperature=temperature)

    async def both() -> list[Trajectory]:
        works = [Work(task[i % 2].prompt, engine, params=params, key=lambda a: a) for i in range(4)]
        return list(await asyncio.gather(*(run_episode(pieces, work, index=i) for i, work in enumerate(works))))

    with LocalEngine(model, ByteTokenizer(), num_workers=0) as engine:
        found = asyncio.run(both())
    rollouts = [
        Rollout(problem=task[0], turns=t.turns, verdict=RIGHT, reward=1.0, ended=t.ended, whole=t.completion)
        for t in found
    ]
    examples = from_groups([Group(problem=task[0], rollouts=tuple(rollouts))], [[1.0] * 4], contrast=0.5)
    kept = [e for e in examples if e.num_trained]
    assert len(kept) > 4 * 4  # path, choices and what was rejected
    forced = [rollout.whole.token_ids for rollout in rollouts]
    assert all(not all(rollout.whole.sampled) for rollout in rollouts) and all(forced)
    batches = micro_batches(kept, max_tokens=700)
    with Trainer(model, num_workers=0) as trainer:
        for batch, logprobs in zip(batches, trainer.logprobs(batches, temperature), strict=True):
            apart = (logprobs - batch.sampler_logprobs_BT)[batch.mask_BT].abs().max()
            assert apart < 1e-4


# ---- the loop ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> str:
    """A tiny model that was shown the format: one or two steps, a choice, an answer in either case."""
    folder = tmp_path_factory.mktemp("base")
    save_model(tiny_model(), folder / "fresh")
    ByteTokenizer().save(str(folder / "fresh"))
    rng, rows = Random(0), []
    for i in range(400):
        steps = "".join(render_step(rng.choice("xyz"), rng.choice("12")) for _ in range(rng.randint(0, 2)))
        row = {"problem": f"p{i % 16}", "reasoning": steps, "answer": rng.choice("abAB")}
        lines = [f"Q: {rng.choice('xyz')} A: 1", "Answer: a"]
        rows += [row, {"problem": f"p{i % 16}", "given": steps + listing(lines), "reasoning": f"{rng.choice('12')}\n"}]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = sft(SFTConfig(
        out=str(folder / "sft"), model=str(folder / "fresh"), data=str(folder / "rows.jsonl"), num_steps=120,
        batch_size=32, lr=1e-2, warmup_steps=5, num_workers=0,
    ))  # fmt: skip
    return str(out)


def config(base: str, out: Path, **changes: object) -> RLConfig:
    values: dict[str, object] = {
        "out": str(out), "model": base, "task": TOY, "environment": "deliberate", "num_steps": 4, "pool_size": 16,
        "problems_per_step": 4, "group_size": 6, "max_reasoning_tokens": 64, "max_answer_tokens": 4, "lr": 3e-3,
        "save_every": 2, "warmup_steps": 1, "num_workers": 0, "num_slots": 64,
        "deliberation": DeliberationConfig(m=3, turns=4, turn_tokens=20, contrast=0.1),
    }  # fmt: skip
    return RLConfig(**(values | changes))  # type: ignore[arg-type]


def test_a_toy_is_learned_by_deliberation_and_its_samples_say_how(base, tmp_path):
    rl(config(base, tmp_path / "run", num_steps=16, lr=5e-3))
    rows = list(read_jsonl(tmp_path / "run" / "metrics.jsonl"))
    late, early = (sum(row["rollout/correct"] for row in part) / 4 for part in (rows[-4:], rows[:4]))
    assert late > early + 0.15
    assert all(row["policy/mismatch_max"] < 1e-3 for row in rows if "policy/mismatch_max" in row)
    shares = [sum(row[f"ended/{name}"] for name in get_args(Ending)) for row in rows]
    assert shares == pytest.approx([1.0] * len(rows))
    assert any(row["deliberation/choices"] > 0 for row in rows)
    sample = next(read_jsonl(tmp_path / "run" / "samples.jsonl"))
    assert sample["trajectory"]["turns"] and {"window", "steps", "preference"} <= sample["parts"].keys()


def test_a_killed_run_of_deliberation_resumes_to_the_same_bits(base, tmp_path):
    run = config(base, tmp_path, num_steps=6, num_workers=2, updates_per_step=2)
    whole, broken = whole_and_broken(run, tmp_path, kills=(1, 3))
    for step in (0, 6):
        assert weights_at(whole, step) == weights_at(broken, step)
