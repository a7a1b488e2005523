"""Grading: one policy for verifiers that raise, hang, wait, cannot tell, or are handed a cut answer."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from ponder.engine.base import ScriptedEngine
from ponder.evals.exams import run_exam
from ponder.grading import VERIFIERS
from ponder.rollouts import threads
from ponder.rollouts.collect import collect, single
from ponder.rollouts.grade import Tally, grade, refuse_failing
from ponder.rollouts.threads import call_each
from ponder.tasks.base import Mixture
from ponder.train.star import StarConfig, star
from ponder.types import Completion, Message, Problem, SamplingParams, Verdict

RIGHT, WRONG = Verdict(outcome="correct", reward=1.0), Verdict(outcome="wrong", reward=0.0)
UNDECIDED = Verdict(outcome="undecided", reward=0.0, note="cannot tell")


def completion(answer: str, finish_reason: str = "stop") -> Completion:
    return Completion(
        prompt_ids=(1,), token_ids=(2,), sampler_logprobs=(0.0,), sampled=(True,), finish_reason=finish_reason,
        reasoning="", answer=answer, num_reasoning_tokens=0,
    )  # fmt: skip


class Asked:
    """A task of `size` problems with the verifier that is handed in."""

    name, split, patience = "asked", "train", 0.0
    origin = ()

    def __init__(self, verify: Callable[..., Any], size: int = 1, target: str = "12") -> None:
        self.verify, self.size, self.target = verify, size, target

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Problem:
        prompt = (Message(role="user", content=f"question {index}"),)
        return Problem(id=f"asked/{index}", prompt=prompt, target=self.target, task="asked")

    def key(self, problem: Problem, answer: str) -> str | None:
        return answer.strip() or None


def graded(verify: Callable[..., Any], answers: Sequence[str], **options: Any) -> list[Verdict]:
    task = Asked(verify)
    return asyncio.run(grade(task, task[0], [completion(answer) for answer in answers], **options))


def picky(problem: Problem, answer: str) -> Verdict:
    """One answer of each kind."""
    if answer == "raise":
        raise KeyError("lost")
    if answer == "hang":
        time.sleep(30)
    if answer == "not a verdict":
        return True  # type: ignore[return-value]
    return {"right": RIGHT, "unsure": UNDECIDED}.get(answer, WRONG)


def test_every_verdict_is_one_of_four_in_the_order_of_the_completions():
    answers = ["right", "raise", "unsure", "hang", "no", " ", "not a verdict", "right"]
    found = graded(picky, answers, timeout=0.5)
    assert [verdict.outcome for verdict in found] == [
        "correct", "failed", "undecided", "failed", "wrong", "wrong", "failed", "correct",
    ]  # fmt: skip
    assert "KeyError" in found[1].note and "longer than 0.5 s" in found[3].note and "no Verdict" in found[6].note
    assert "asked/0" in found[1].note


async def asynchronous(problem: Problem, answer: str) -> Verdict:
    await asyncio.sleep(0)
    return picky(problem, answer)


def test_a_verifier_may_be_a_coroutine_function():
    assert [v.outcome for v in graded(asynchronous, ["right", "raise", "unsure"])] == ["correct", "failed", "undecided"]
    assert graded(lambda problem, answer: asynchronous(problem, answer), ["right"])[0].is_correct  # behind a wrapper


def test_keys_are_found_where_they_are_asked_for():
    assert [verdict.key for verdict in graded(picky, ["right", " x "], keys=True)] == ["right", "x"]
    assert graded(picky, ["right"])[0].key is None


def test_verifiers_that_wait_wait_together():
    """16 of 24 groups at once: a barrier that one call after the other would never pass."""
    barrier = threading.Barrier(16)

    def waits(problem: Problem, answer: str) -> Verdict:
        barrier.wait(timeout=30)
        return RIGHT

    assert all(verdict.is_correct for verdict in graded(waits, ["a"] * 16))


def test_a_task_that_runs_programs_says_how_long_it_may_take():
    def slow(problem: Problem, answer: str) -> Verdict:
        time.sleep(0.5)
        return RIGHT

    task = Asked(slow)
    asked = [completion("a")]
    assert asyncio.run(grade(task, task[0], asked, timeout=0.1))[0].outcome == "failed"
    task.patience = 30.0
    assert asyncio.run(grade(task, task[0], asked, timeout=0.1))[0].outcome == "correct"
    mixed = Mixture([Asked(slow), task])
    assert mixed.patience == 30.0


def test_other_groups_are_sampled_while_one_is_graded():
    task = Asked(lambda problem, answer: RIGHT, size=2)
    sampled_last = threading.Event()

    def slow_first(problem: Problem, answer: str) -> Verdict:
        if problem.id == "asked/0":
            assert sampled_last.wait(timeout=30)  # passes only if the other group is sampled meanwhile
        return RIGHT

    class Slow(ScriptedEngine):
        async def generate(self, prompt: Any, params: SamplingParams, **options: Any) -> list[Completion]:
            if prompt[0].content == "question 1":
                await asyncio.sleep(0.05)
                sampled_last.set()
            return await super().generate(prompt, params, **options)

    task.verify = slow_first
    play = single(Slow(lambda prompt, seed: ("", "a")))
    found = asyncio.run(collect(play, task, [task[0], task[1]], SamplingParams(), group_size=2, seed=0, step=0))
    assert [len(group.rollouts) for group in found.groups] == [2, 2] and found.tally.counts == {"correct": 4}


def test_the_same_verifier_is_counted_the_same_in_training_exams_and_rejection_sampling(tmp_path):
    answers = ["right"] * 12 + ["no", "raise", "unsure", "unsure"]
    turn: dict[str, int] = {}

    def script(prompt: str, seed: int) -> tuple[str, str]:
        turn[prompt] = turn.get(prompt, -1) + 1
        return "because of this", answers[turn[prompt] % len(answers)]

    task, params = Asked(picky, target="right"), SamplingParams(max_answer_tokens=64)
    rl = asyncio.run(collect(single(ScriptedEngine(script)), task, [task[0]], params, group_size=16, seed=0, step=0))
    turn.clear()
    exam = asyncio.run(
        run_exam(task, ScriptedEngine(script), model="m", num_samples=16, params=params, out=tmp_path / "exam")
    )
    turn.clear()
    config = StarConfig(num_samples=16, params=params)
    rows = asyncio.run(star(task, ScriptedEngine(script), config, out=tmp_path / "rows.jsonl", model="m"))
    assert rl.tally.counts == {"correct": 12, "wrong": 1, "failed": 1, "undecided": 2}
    assert (exam.failed_rate * 16, exam.undecided_rate * 16, exam.verifier_errors) == (1, 2, 1)
    assert (rows["failed"], rows["undecided"], rows["pass_rate"]) == (1, 2, 12 / 13)
    assert "KeyError" in exam.verifier_error and "KeyError" in rl.tally.last_failure


def test_a_verifier_that_keeps_failing_stops_the_job_and_is_named():
    tally = Tally()
    for answer in ["raise"] * 3 + ["right"] * 17:
        tally.add(graded(picky, [answer])[0])
    with pytest.raises(RuntimeError, match=r"failed on 3 of 20 completions.*KeyError"):
        refuse_failing(tally)
    refuse_failing(tally, most=0.15)
    refuse_failing(Tally())


@pytest.mark.parametrize("finish_reason", ["length", "window"])
@pytest.mark.parametrize("answer", ["12", "The answer is 12", r"so \frac{24}{2} = 12"])
def test_an_answer_that_a_budget_cut_is_not_right(answer, finish_reason):
    task = Asked(VERIFIERS["math"])
    cut, whole = completion(answer, finish_reason), completion(answer)
    found = asyncio.run(grade(task, task[0], [cut, whole], keys=True))
    assert [verdict.outcome for verdict in found] == ["wrong", "correct"]
    assert found[0].reward == 0 and found[0].key is None  # it does not vote either
    assert "budget" in found[0].note and found[1].key


@pytest.mark.parametrize(
    "answer", [r"\boxed{12} is what", r"\boxed{12}", "The answer is 12. That is all there", "<answer>12</answer>"]
)
def test_an_answer_that_was_whole_before_the_cut_counts(answer):
    task = Asked(VERIFIERS["math"])
    assert asyncio.run(grade(task, task[0], [completion(answer, "length")]))[0].is_correct


@pytest.mark.slow
def test_a_process_ends_although_a_verifier_hangs():
    """The abandoned thread is a daemon: nothing waits for it at exit."""
    code = (
        "import asyncio, time\n"
        "from tests.rollouts.test_grade import Asked, completion\n"
        "from ponder.rollouts.grade import grade\n"
        "task = Asked(lambda problem, answer: time.sleep(600))\n"
        "print(asyncio.run(grade(task, task[0], [completion('a')], timeout=0.2))[0].outcome)\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert ran.stdout.strip() == "failed"


@pytest.mark.parametrize("hops", range(6))
def test_a_cancellation_is_never_swallowed_whenever_it_comes(hops):
    """Just as the last call is done, too: a Ctrl-C was lost then, and the exam went on."""

    async def go() -> tuple[bool, bool]:
        release, asked = threading.Event(), []
        task = asyncio.create_task(call_each(lambda _: release.wait(), [0], timeout=60))
        await asyncio.sleep(0.001)
        release.set()
        time.sleep(0.02)  # the thread is done before the event loop sees it

        def cancel_after(n: int) -> None:
            if n:
                asyncio.get_running_loop().call_soon(cancel_after, n - 1)
            else:
                asked.append(task.cancel())

        cancel_after(hops)
        await asyncio.wait([task])
        return asked == [True], task.cancelled()

    was_in_time, was_cancelled = asyncio.run(go())
    assert was_cancelled == was_in_time


def test_where_no_more_threads_may_start_those_that_there_are_do_the_rest(monkeypatch):
    started, real, refused = [], threads._run, threading.Event()

    def few(work: Callable[[], None]) -> None:
        started.append(work)
        if len(started) > 1:
            refused.set()
            raise RuntimeError("can't start new thread")
        real(work)

    monkeypatch.setattr(threads, "_run", few)
    free = threads._further._value
    assert asyncio.run(call_each(lambda item: refused.wait(60) and item, [1, 2, 3], timeout=60)) == [1, 2, 3]
    assert threads._further._value == free
