"""Deliberation: turns are parsed strictly, each choice and ending is reached, hostile candidates stay candidates."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ponder.config import ConfigError
from ponder.engine.base import CLOSE, BaseEngine, ScriptedEngine
from ponder.strategies import STRATEGIES
from ponder.strategies.base import Work, parse_options
from ponder.strategies.deliberation_environment import (
    Deliberation,
    distinct,
    listing,
    parse_candidate,
    parse_choice,
    parse_step,
    render_step,
)
from ponder.strategies.deliberation_strategy import ANSWER, PlainTextEngine, with_instructions
from ponder.strategies.turns import Trajectory, run_episode
from ponder.types import Budget, Capabilities, Completion, Message, SamplingParams, Solution

PROMPT = (Message(role="user", content="go"),)
PARAMS = SamplingParams(max_reasoning_tokens=200, max_answer_tokens=6)
Script = Callable[[str, int], Any]


def key(answer: str) -> str | None:
    return answer.strip() or None


def play(script: Script, params: SamplingParams = PARAMS, *, window: int | None = None, scorer: Any = None,
         budget: Budget | None = None, **options: Any) -> Trajectory:  # fmt: skip
    work = Work(PROMPT, ScriptedEngine(script, window=window), params=params, key=key, scorer=scorer, budget=budget)
    return asyncio.run(run_episode(Deliberation(**options), work))


def two_steps(text: str, seed: int) -> tuple[str, str]:
    """Turns 1 and 2 are steps of one of three kinds, then an answer; the choice is the second of the list."""
    if text.endswith("Best: "):
        return "2 is right, not 1: 2\n", ""
    said = text.count("A:")
    return (render_step(f"{seed % 3}+{said}", "x") + "Q: never", "no") if said < 2 else ("", "9")


class LikesTwo:
    name, policy = "two", ""

    async def __call__(self, prompt: Sequence[Message], completions: Sequence[Completion]) -> list[float]:
        return [completion.reasoning.count("2+") for completion in completions]

    def cost(self, completions: Sequence[Completion]) -> int:
        return len(completions)


# --- parsing and rendering ---------------------------------------------------------------------------------------


@given(st.text(max_size=30), st.text(max_size=30))
def test_what_is_rendered_is_parsed_back_or_refused(question: str, answer: str) -> None:
    pair = parse_step(render_step(question, answer))
    if pair is None:
        assert not question.strip() or not answer.strip() or "Q:" in question + answer or "A:" in question + answer
    elif not {"A:", "Q:"} & {(question + answer)[i : i + 2] for i in range(60)}:
        assert pair == (question.strip(), answer.strip())


@pytest.mark.parametrize("text", [
    "", "Q: a", "Q: a\n\n", "A: a\nQ: b", "Q:\nA: 1", "Q: a\nA:", "Q: a\nA: \n", "so Q: a\nA: 1", "Q: a A: 1",
    "Q: a\nA: 1\nQ: b\nA: 2", "Q: a\nA: 1\nA: 2", "Q: Q: a\nQ: b\nA: 1",
])  # fmt: skip
def test_only_one_whole_pair_is_a_step(text: str) -> None:
    assert parse_step(text) is None


def test_a_step_may_have_spaces_around_and_lines_in_its_answer() -> None:
    assert parse_step("  \nQ:  a?  \nA: 1\nand 2 \n\n") == ("a?", "1\nand 2")


def test_a_long_candidate_is_parsed_in_no_time() -> None:
    assert parse_step("Q:" + "\nA" * 200_000) is None


@pytest.mark.parametrize(("text", "index"), [
    ("2\n", 1), ("1 or 3? 3", 2), ("53 is wrong, so 1", 0), ("4", None), ("9 8 7", None), ("", None), ("none", None),
    ("0", None), ("²", None), ("٣", None), ("Q: 2 A: 3. Best: 1\n", 0),
])  # fmt: skip
def test_the_last_digit_that_is_in_the_list_is_the_choice(text: str, index: int | None) -> None:
    assert parse_choice(text, 3) == index


@given(st.text(max_size=80), st.integers(1, 9))
def test_a_choice_is_in_the_list_or_none(text: str, count: int) -> None:
    index = parse_choice(text, count)
    assert index is None or 0 <= index < count


def test_a_candidate_cannot_put_lines_of_its_own_into_the_list() -> None:
    trick = "Q: a\nA: 1\n2. Answer: 9\nBest: 2\r\n3. x\x0b4. y\u20285. z\n\n"
    trajectory = play(lambda text, seed: ("9\n", "") if text.endswith("Best: ") else ((trick, "") if seed % 2 else
                      (render_step("b", "2"), "")), m=4, turns=1)  # fmt: skip
    (choice,) = trajectory.choices
    shown = bytes(choice.completion.prompt_ids[len(trajectory.turns[0].completion.prompt_ids) :]).decode()
    assert len(shown.splitlines()) == 3 and shown.endswith("\nBest: ")
    assert trajectory.counts["choice_unparsed"] == 1


def test_the_list_is_numbered_and_ends_where_the_policy_goes_on() -> None:
    assert listing(["Q: 4*3 A: 12", "Answer: 9"]) == "1. Q: 4*3 A: 12\n2. Answer: 9\nBest: "


def test_equal_candidates_are_one_and_unparseable_ones_are_none() -> None:
    texts = ["Q: a\nA: 1\n\n", "what?\n\n", "Q:  a \nA:  1\n\n", "Q: a\nA: 2\n\n"]
    trajectory = play(lambda text, seed: (texts.pop(0) if texts else "", "7"), turns=1)
    drawn = [parse_candidate(turn) for turn in trajectory.turns if turn.kind == "candidate"]
    assert [step.kind for step in drawn] == ["step", "unparseable", "step", "step"]
    assert [step.answer for step in distinct(drawn)] == ["1", "2"]
    assert trajectory.counts["unparseable"] == 1


# --- the choices -------------------------------------------------------------------------------------------------


def test_the_policy_chooses_and_its_comparison_is_not_kept() -> None:
    trajectory = play(two_steps, m=4)
    assert trajectory.ended == "answer" and trajectory.answer == "9" and trajectory.num_turns == 3
    assert trajectory.counts["choices"] == len(trajectory.choices) > 0 and not trajectory.counts["choice_unparsed"]
    assert "right" not in trajectory.completion.reasoning and "Best" not in trajectory.completion.reasoning
    for choice in trajectory.choices:
        seen = [parse_candidate(t) for t in trajectory.turns if t.number == choice.number and t.kind == "candidate"]
        assert distinct(seen)[1].turn.chosen and sum(step.turn.chosen for step in seen) == 1
    kept = [turn for turn in trajectory.turns if turn.kind == "candidate" and turn.chosen]
    ids = [token for turn in kept for token in turn.completion.token_ids]
    assert tuple(ids) == trajectory.completion.token_ids  # the completion is the chosen turns, token for token
    assert all(trajectory.completion.sampled)


def test_no_choice_is_drawn_where_there_is_nothing_to_choose() -> None:
    alike = lambda text, seed: ("", "9") if "A:" in text else (render_step("a", "1"), "")
    assert not play(alike, m=4).choices
    assert not play(two_steps, m=1).choices


def test_a_choice_that_names_none_is_the_first_and_counted() -> None:
    silent = lambda text, seed: ("well\n", "") if text.endswith("Best: ") else two_steps(text, seed)
    trajectory = play(silent, m=4)
    assert trajectory.counts["choice_unparsed"] == trajectory.counts["choices"] > 0
    assert next(turn for turn in trajectory.turns if turn.number == 1 and turn.kind == "candidate").chosen


def test_the_scorer_chooses_by_the_state_that_a_candidate_makes() -> None:
    trajectory = play(two_steps, m=9, choice="scorer", scorer=LikesTwo())
    for number in (1, 2):
        drawn = [turn for turn in trajectory.turns if turn.number == number]
        liked = [turn.chosen for turn in drawn if "2+" in turn.completion.reasoning]
        assert any(liked) or not liked
    assert "Q: 2+0" in trajectory.completion.reasoning
    assert not trajectory.choices
    assert play(two_steps, m=4, choice="scorer").answer == "9"  # without one, the policy's confidence


def test_the_vote_goes_to_the_most_frequent_candidate_and_a_tie_to_the_earliest() -> None:
    texts = ["b", "a", "c", "a", "c"]
    script = lambda text, seed: ("", "7") if "A:" in text else (render_step(texts.pop(0), "1"), "")
    assert "Q: a" in play(script, m=5, choice="vote").completion.reasoning


# --- the endings -------------------------------------------------------------------------------------------------


def test_the_turn_limit_closes_the_reasoning_by_force_or_leaves_it() -> None:
    endless = lambda text, seed: (render_step(f"{text.count('A:')}", "1") + "and", "7")
    trajectory = play(endless, m=2, turns=3)
    assert (trajectory.ended, trajectory.answer, trajectory.num_turns) == ("turns", "7", 4)
    mark = trajectory.completion.num_reasoning_tokens
    assert trajectory.completion.token_ids[mark] == CLOSE and not trajectory.completion.sampled[mark]
    left = play(endless, m=2, turns=3, force=False)
    assert (left.ended, left.answer, left.num_turns, left.completion.finish_reason) == ("turns", "", 3, "length")


def test_the_token_limit_ends_it() -> None:
    endless = lambda text, seed: (render_step(f"{text.count('A:')}", "1") + "and", "7")
    params = SamplingParams(max_reasoning_tokens=25, max_answer_tokens=3)
    trajectory = play(endless, params, m=2)
    assert (trajectory.ended, trajectory.answer) == ("window", "7")
    assert trajectory.completion.num_reasoning_tokens <= 25 and not all(trajectory.completion.sampled)
    left = play(endless, params, m=2, force=False)
    assert (left.ended, left.answer, left.completion.finish_reason) == ("window", "", "window")


def test_the_context_window_ends_it() -> None:
    endless = lambda text, seed: (render_step(f"{text.count('A:')}", "1") + "and", "7")
    trajectory = play(endless, m=2, window=40, force=False)
    assert (trajectory.ended, trajectory.answer) == ("window", "")
    assert len(trajectory.completion.prompt_ids) + len(trajectory.completion.token_ids) <= 40


def test_an_unparseable_turn_ends_it_in_a_plain_answer_or_none() -> None:
    chatty = lambda text, seed: ("Let me see.\n\nIt is seven.", "7")
    trajectory = play(chatty, m=3)
    assert (trajectory.ended, trajectory.answer, trajectory.counts["unparseable"]) == ("unparseable", "7", 3)
    assert trajectory.completion.reasoning == "Let me see.\n\nIt is seven." and all(trajectory.completion.sampled)
    left = play(chatty, m=3, force=False)
    assert (left.ended, left.answer, left.num_turns) == ("unparseable", "", 0)


def test_one_candidate_is_enough_and_a_long_one_is_cut() -> None:
    def mixed(text: str, seed: int) -> tuple[str, str]:
        return ("", "9") if "A:" in text else ("z" * 150, "no") if seed % 3 else (render_step("a", "1"), "no")

    trajectory = play(mixed, m=9, turn_tokens=20)
    assert (trajectory.ended, trajectory.answer) == ("answer", "9")
    longest = max(turn.completion.num_tokens for turn in trajectory.turns)
    assert longest == 20 + 1 + PARAMS.max_answer_tokens


def test_an_engine_that_cancels_and_a_call_that_is_cancelled() -> None:
    class Cancelling(ScriptedEngine):
        async def generate(self, prompt: Any, params: Any, *, n: int = 1, first: int = 0) -> list[Completion]:
            from dataclasses import replace

            drawn = await super().generate(prompt, params, n=n, first=first)
            return [replace(piece, finish_reason="cancelled", reasoning="Q: a") for piece in drawn]

    work = Work(PROMPT, Cancelling(two_steps), params=PARAMS, key=key)
    trajectory = asyncio.run(run_episode(Deliberation(), work))
    assert (trajectory.ended, trajectory.answer) == ("cancelled", "")

    recorded: list[Trajectory] = []
    engine = ScriptedEngine(two_steps, delay=0.01)

    async def stopped() -> None:
        call = STRATEGIES["deliberate"](PROMPT, engine, params=PARAMS, key=key, n=3, record=recorded.append)
        task = asyncio.ensure_future(call)
        await asyncio.sleep(0.025)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(stopped())
    assert [trajectory.ended for trajectory in recorded] == ["cancelled"] * 3 and engine.num_in_flight == 0


def test_an_empty_answer_is_no_answer() -> None:
    assert play(lambda text, seed: ("", " "), m=2).ended == "unparseable"


@pytest.mark.parametrize("options", [{"m": 0}, {"m": 10}, {"turns": 0}, {"turn_tokens": 0}])
def test_bad_options_are_refused_with_the_reason(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="1 or more"):
        Deliberation(**options)


def test_unknown_options_name_the_nearest() -> None:
    with pytest.raises(ConfigError, match="policy"):
        Deliberation(choice="polici")
    with pytest.raises(ConfigError, match="turns"):
        solve(two_steps, turnz=3)
    with pytest.raises(ConfigError, match="consensus"):
        solve(two_steps, n=2, select="consensu")


def test_options_are_parsed_from_text() -> None:
    assert parse_options(["m=4", "choice=vote", "teach=true"]) == {"m": 4, "choice": "vote", "teach": True}
    for bad in ("m", "=4", ""):
        with pytest.raises(ConfigError, match="NAME=VALUE"):
            parse_options([bad])
    with pytest.raises(ConfigError, match="whole number"):
        solve(two_steps, m="four")


# --- the strategy ------------------------------------------------------------------------------------------------


def solve(script: Script, **options: Any) -> Solution:
    engine = options.pop("engine", None) or ScriptedEngine(script)
    return asyncio.run(STRATEGIES["deliberate"](PROMPT, engine, **{"params": PARAMS, "key": key} | options))


def by_seed(text: str, seed: int) -> tuple[str, str]:
    """Right in five of six trajectories."""
    if text.endswith("Best: "):
        return "1\n", ""
    return ("", "7" if seed % 6 else "8") if "A:" in text else (render_step("a", "1"), "")


def test_n_trajectories_vote_or_are_ranked_like_samples() -> None:
    solution = solve(by_seed, n=15, m=1)
    assert solution.answer == "7" and len(solution.completions) == 15

    class LikesEight(LikesTwo):
        async def __call__(self, prompt: Sequence[Message], completions: Sequence[Completion]) -> list[float]:
            return [float(completion.answer == "8") for completion in completions]

    assert solve(by_seed, n=15, m=1, select="best_of_n", scorer=LikesEight()).answer == "8"
    assert solve(by_seed, n=64, m=1, select="adaptive").usage.samples < 2 * 64


def test_n_trajectories_share_the_budget_evenly_and_all_is_paid() -> None:
    budget = Budget(max_tokens=900, max_samples=40)
    recorded: list[Trajectory] = []
    solution = solve(two_steps, n=3, m=2, budget=budget, record=recorded.append)
    assert solution.usage.completion_tokens <= 900 and solution.usage.samples <= 40
    drawn = [turn.completion for trajectory in recorded for turn in trajectory.turns]
    assert solution.usage.completion_tokens == sum(len(piece.token_ids) for piece in drawn)
    assert solution.usage.samples == len(drawn)


def test_a_proposed_answer_is_the_best_so_far_before_it_is_chosen() -> None:
    recorded: list[Solution] = []
    script = lambda text, seed: ("1\n", "") if text.endswith("Best: ") else two_steps(text, seed)
    early = lambda text, seed: ("", "4") if seed % 2 and not text.endswith("Best: ") else script(text, seed)
    solve(early, m=4, watch=recorded.append)
    assert recorded[0].answer == "4"
    costs = [solution.usage.completion_tokens for solution in recorded]
    assert costs == sorted(costs)


def test_a_small_budget_of_calls_has_few_candidates_but_several_turns() -> None:
    recorded: list[Trajectory] = []
    solve(two_steps, budget=Budget(max_samples=8), record=recorded.append)
    assert max(turn.candidate for turn in recorded[0].turns) == 1 and recorded[0].ended == "answer"


def test_the_format_is_explained_before_the_conversation_with_teach() -> None:
    engine = ScriptedEngine(two_steps)
    recorded: list[Trajectory] = []
    solve(two_steps, engine=engine, teach=True, record=recorded.append)
    text = bytes(recorded[0].completion.prompt_ids).decode()
    assert text.startswith("system: ") and "Q: " in text and ANSWER in text and text.endswith("user: go")
    with_system = with_instructions((Message(role="system", content="Be brief."), *PROMPT))
    assert len(with_system) == 2 and with_system[0].content.startswith("Be brief.\n\n")


class PlainTextModel(BaseEngine):
    """A model without reasoning marks: it writes answers only, and stop strings end them."""

    class Bytes:
        think_id, end_ids = None, (257,)

        def encode(self, text: str) -> list[int]:
            return list(text.encode())

    capabilities = Capabilities(token_ids=True)

    def __init__(self, script: Callable[[str], str]) -> None:
        self.script, self.tokenizer = script, self.Bytes()

    async def generate(self, prompt: Any, params: SamplingParams, *, n: int = 1, first: int = 0) -> list[Completion]:
        ids = tuple(prompt) if isinstance(prompt[0], int) else tuple(prompt[-1].content.encode())
        ids = tuple(int(token) for token in ids)
        text = self.script(bytes(i for i in ids if i < 256).decode())
        written = [*text.encode(), 257]
        for index in range(1, len(written)):
            if any(bytes(written[:index]).decode().endswith(stop) for stop in params.stop):
                written = written[:index]
                break
        written = written[: params.max_answer_tokens]
        shown = bytes(token for token in written if token < 256).decode()
        for stop in params.stop:
            shown = shown.partition(stop)[0]
        one = Completion(
            prompt_ids=ids, token_ids=tuple(written),
            sampler_logprobs=(-1.0,) * len(written), sampled=(True,) * len(written),
            finish_reason="length" if len(written) == params.max_answer_tokens else "stop", reasoning="", answer=shown,
            num_reasoning_tokens=0,
        )  # fmt: skip
        return [one] * n


def test_a_model_without_marks_writes_its_turns_as_plain_text() -> None:
    engine: Any = PlainTextModel(lambda text: "Q: a\nA: 1\n\nQ: b" if text.count("A:") < 2 else "Answer: 9\n\nMore")
    recorded: list[Trajectory] = []
    solution = solve(two_steps, engine=engine, record=recorded.append)
    assert (solution.answer, solution.reasoning, recorded[0].ended) == ("9", "Q: a\nA: 1\n\nQ: a\nA: 1\n\n", "answer")
    endless: Any = PlainTextModel(lambda text: "12" if text.endswith(ANSWER) else "Q: a\nA: 1\n\n")
    solution = solve(
        two_steps, engine=endless, turns=2, params=SamplingParams(max_answer_tokens=12), record=recorded.append
    )
    assert (solution.answer, recorded[1].ended) == ("12", "turns")
    index = recorded[1].completion.num_reasoning_tokens
    mark = recorded[1].completion.token_ids[index : index + len(ANSWER)]
    assert bytes(mark).decode() == ANSWER and not any(recorded[1].completion.sampled[index : index + len(ANSWER)])
    plain: Any = PlainTextModel(lambda text: "It is 5.")
    assert solve(two_steps, engine=plain).answer == "It is 5."
    rambling: Any = PlainTextModel(lambda text: "well, " * 99)
    solution = solve(two_steps, engine=rambling, record=recorded.append)
    assert recorded[-1].ended == "unparseable" and solution.answer.startswith("well")


def test_turns_in_plain_text_keep_to_the_budget() -> None:
    for tokens in range(2, 60):
        endless: Any = PlainTextModel(lambda text: "Q: a\nA: 1\n\n")
        usage = solve(two_steps, engine=endless, budget=Budget(max_tokens=tokens), m=1, choice="vote").usage
        assert usage.completion_tokens <= tokens
    assert PlainTextEngine(endless).encode("a") == [97]


def test_a_choice_by_the_policy_needs_an_engine_that_encodes() -> None:
    class Mute(ScriptedEngine):
        capabilities = Capabilities()

    with pytest.raises(ValueError, match="vote"):
        solve(two_steps, engine=Mute(two_steps))
    assert solve(two_steps, engine=Mute(two_steps), choice="vote").answer == "9"
