"""The shipped fake keeps the promises of a real engine."""

import asyncio
import subprocess
import sys

import pytest

from ponder.engine.base import CLOSE, END, ScriptedEngine
from ponder.types import Completion, Engine, Message, SamplingParams, sample_seed

PROMPT = (Message(role="system", content="be brief"), Message(role="user", content="2+2?"))


def generate(engine: ScriptedEngine, n: int = 1, first: int = 0, **params: object) -> list[Completion]:
    return asyncio.run(engine.generate(PROMPT, SamplingParams(**params), n=n, first=first))  # type: ignore[arg-type]


def test_it_is_an_engine() -> None:
    assert isinstance(ScriptedEngine(["4"]), Engine)


def test_token_ids_spell_reasoning_mark_answer_mark() -> None:
    [c] = generate(ScriptedEngine(lambda prompt, seed: ("ab", f"<{prompt}>")))
    assert c.token_ids == (*b"ab", CLOSE, *b"<2+2?>", END)
    assert (c.reasoning, c.answer, c.num_reasoning_tokens, c.finish_reason) == ("ab", "<2+2?>", 2, "stop")
    assert len(c.sampler_logprobs) == len(c.sampled) == len(c.token_ids)
    assert all(logprob <= 0 for logprob in c.sampler_logprobs) and not c.was_cut


def test_seeds_follow_the_request_and_asking_for_more_repeats_nothing() -> None:
    engine = ScriptedEngine(lambda prompt, seed: str(seed))
    together = generate(engine, n=5, seed=3)
    assert together[:2] + generate(engine, n=3, first=2, seed=3) == together
    assert [c.answer for c in together] == [str(sample_seed(3, j)) for j in range(5)]
    assert len({c.answer for c in together}) == 5


def test_greedy_samples_are_all_the_same() -> None:
    assert len({c.answer for c in generate(ScriptedEngine(lambda p, seed: str(seed)), n=4, temperature=0.0)}) == 1


def test_a_list_is_read_by_sample_index() -> None:
    assert [c.answer for c in generate(ScriptedEngine(["a", ("r", "b")]), n=4, first=1)] == ["b", "a", "b", "a"]


def test_reasoning_over_its_budget_is_closed_by_a_forced_mark_and_an_answer_still_comes() -> None:
    [c] = generate(ScriptedEngine([("0123456789", "4")]), max_reasoning_tokens=4)
    assert (c.reasoning, c.answer, c.num_reasoning_tokens) == ("0123", "4", 4)
    assert [c.token_ids[i] for i, drawn in enumerate(c.sampled) if not drawn] == [CLOSE]
    assert c.was_cut and c.finish_reason == "stop"


def test_reasoning_is_never_shorter_than_its_minimum() -> None:
    [c] = generate(ScriptedEngine([("ab", "4")]), min_reasoning_tokens=5)
    assert c.num_reasoning_tokens == 5 and c.reasoning.startswith("ab")


def test_an_answer_over_its_budget_is_cut_and_says_so() -> None:
    [c] = generate(ScriptedEngine([("r", "abcdef")]), max_answer_tokens=3)
    assert (c.answer, c.finish_reason) == ("abc", "length") and END not in c.token_ids
    [exact] = generate(ScriptedEngine([("r", "ab")]), max_answer_tokens=3)
    assert (exact.answer, exact.finish_reason) == ("ab", "stop")


def test_stop_strings_end_the_answer_and_are_not_returned() -> None:
    [c] = generate(ScriptedEngine([("a\nb", "4\nand more;")]), stop=(";", "\n"))
    assert (c.reasoning, c.answer) == ("a\nb", "4")


@pytest.mark.parametrize("window, answer", [(4, ""), (40, "")])
def test_a_full_window_gives_an_empty_answer_not_a_crash(window: int, answer: str) -> None:
    [c] = generate(ScriptedEngine([("x" * 99, "4")], window=window))
    assert (c.answer, c.finish_reason) == (answer, "window")
    assert len(c.prompt_ids) + len(c.token_ids) <= max(window, len(c.prompt_ids))


def test_a_prompt_of_token_ids_is_answered_too() -> None:
    engine = ScriptedEngine(lambda prompt, seed: prompt[::-1])
    [c] = asyncio.run(engine.generate(list(b"abc"), SamplingParams()))
    assert c.answer == "cba" and c.prompt_ids == tuple(b"abc")


def test_cancelled_requests_and_the_most_in_flight_are_counted() -> None:
    engine = ScriptedEngine(["4"], delay=30)

    async def main() -> None:
        tasks = [asyncio.create_task(engine.generate(PROMPT, SamplingParams())) for _ in range(3)]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(main())
    assert (engine.most_in_flight, engine.num_in_flight, engine.num_cancelled) == (3, 0, 3)


def test_new_weights_change_the_version_of_later_completions() -> None:
    engine = ScriptedEngine(["4"])
    engine.update_weights(None, version=7)
    assert generate(engine)[0].policy_version == 7


def test_importing_the_fake_does_not_import_torch() -> None:
    code = "import sys, ponder.engine.base; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
