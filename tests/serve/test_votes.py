"""The server votes as the exam does: by the verifier's key, and off the event loop."""

from __future__ import annotations

import asyncio
import threading
from itertools import permutations

import httpx
import pytest

from ponder.config import ConfigError
from ponder.engine.base import ScriptedEngine
from ponder.evals.bank import Bank
from ponder.evals.exams import run_exam, vote_rate_at
from ponder.grading import VERIFIERS
from ponder.strategies.keys import answer_key
from ponder.tasks.file import FileTask
from ponder.types import Message, Problem, SamplingParams, sample_seed
from tests.serve.serving import KEY, Served

AUTH = {"Authorization": f"Bearer {KEY}"}
HALF = r"\frac{1}{2}"
# target, and the samples of the problem
MATH = [
    ("1/2", (HALF, "0.5", "50%", "3")),
    ("1/2", ("3", "3", HALF, "0.5", "50%")),
    ("7", ("1/2", "3/2", "5/2", "7", "7")),
    ("5/2", ("3/2", "5/2", "5/2", "7/2")),
    ("12", ("(1,2)", "12", "(1,2)", "12", "12")),
    ("(1,2)", ("(1,2)", "12", "(1, 2)", "12")),
    ("10 m", ("10 cm", "10 m", "10 m", "10 km")),
    (r"5\sqrt{3}", (r"2\sqrt{3}", r"5\sqrt{3}", r"\sqrt{75}", r"2\sqrt{3}")),
    (r"\frac12", ("Answer: 0.5", r"\boxed{3}", r"So it is $\frac{1}{2}$.", "3.0")),
    ("1000", ("1,000", "1e3", "100", "10^2", "")),
]
CHOICE = [("A", ("A) 5", "B) 5", "B) 5", "A")), ("B", ("A) 5", "(B)", "b", "A) 7"))]


def problems_of(rows):
    return [
        Problem(id=str(i), prompt=(Message(role="user", content=f"problem {i}"),), target=target, task="t")
        for i, (target, _) in enumerate(rows)
    ]


@pytest.mark.parametrize(("verifier", "rows"), [("math", MATH), ("choice", CHOICE)])
def test_a_served_consensus_of_stored_samples_is_the_banks(tmp_path, verifier, rows):
    """Every ordered draw of 3 of a problem's samples is served once: their share of right votes is exactly cons@3."""
    problems = problems_of(rows)
    task = FileTask("t", problems, VERIFIERS[verifier])
    order = {}  # which sample a draw of the request is

    def respond(text, seed):
        return "thought", rows[int(text.split()[-1])][1][order[seed]]

    expected = []
    for problem, (_, samples) in zip(problems, rows, strict=True):
        engine = ScriptedEngine([("thought", answer) for answer in samples])
        one = FileTask("t", [problem], VERIFIERS[verifier])
        result = asyncio.run(
            run_exam(
                one, engine, model="m", num_samples=len(samples), params=SamplingParams(), out=tmp_path / problem.id
            )
        )
        assert result.verifier == verifier
        expected.append(vote_rate_at(Bank.read(tmp_path / problem.id).samples(problem.id), 3))
    assert 0.2 * len(rows) < sum(expected) < 0.9 * len(rows)  # not all right, and not all wrong

    served_shares = []
    with Served(ScriptedEngine(respond), key=answer_key(verifier)) as served:  # noqa: SIM117
        with httpx.Client(base_url=f"{served.url}/v1", headers=AUTH, timeout=30) as client:
            for problem, (_, samples) in zip(problems, rows, strict=True):
                right = []
                for draw in permutations(range(len(samples)), 3):
                    order.clear()
                    order.update({sample_seed(1, place): sample for place, sample in enumerate(draw)})
                    body = {"model": "scripted", "messages": [{"role": "user", "content": problem.text}], "seed": 1,
                            "compute": {"mode": "consensus", "n": 3}}  # fmt: skip
                    answer = client.post("/chat/completions", json=body).json()
                    assert answer["usage"]["completion_tokens_details"]["samples"] == 3
                    right.append(task.verify(problem, answer["choices"][0]["message"]["content"]).is_correct)
                served_shares.append(sum(right) / len(right))
    assert served_shares == pytest.approx(expected)


def test_the_key_of_a_vote_is_the_key_of_a_verifier():
    math = answer_key()
    assert math("3/2") != math("5/2") and math(HALF) == math("0.5") == math("50%") and math("(1,2)") != math("12")
    assert math("10 cm") != math("10 m") and math("A) 5") != math("B) 5") and math(" ") is None
    problem = problems_of([("", ())])[0]
    for name, verifier in VERIFIERS.items():
        for text in (HALF, "3/2", "A) 5", "10 cm", "words", "It is 42."):
            assert answer_key(name)(text) == verifier.key(problem, text)
    with pytest.raises(ConfigError, match="did you mean 'math'"):
        answer_key("maths")
    with pytest.raises(ConfigError, match="has no key"):
        answer_key("ponder.grading:grade")


def test_a_key_that_takes_its_time_holds_up_nobody_else():
    """A verifier may ask a killable child for seconds: another client is answered meanwhile."""
    begun, go_on, loops = threading.Event(), threading.Event(), set()

    def key(answer):
        loops.add(threading.current_thread().name)
        begun.set()
        assert go_on.wait(30)
        return answer

    engine = ScriptedEngine(lambda text, seed: ("thought", "42"))
    with Served(engine, key=key) as served, httpx.Client(base_url=served.url, headers=AUTH, timeout=30) as client:
        body = {"input": "x", "background": True, "reasoning": {"mode": "consensus"}, "compute": {"n": 4}}
        name = client.post("/v1/responses", json=body).json()["id"]
        assert begun.wait(20)
        assert client.get("/health/live").status_code == 200  # the loop is free while the key is found
        assert client.post("/v1/responses", json={"input": "x"}).json()["status"] == "completed"
        assert client.get(f"/v1/responses/{name}").json()["status"] == "in_progress"
        go_on.set()
        for _ in range(600):
            told = client.get(f"/v1/responses/{name}").json()
            if told["status"] != "in_progress":
                break
            threading.Event().wait(0.05)
        assert told["status"] == "completed" and all(name.startswith("key") for name in loops)
