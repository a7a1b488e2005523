"""Programming problems: what is shown and what decides, rewards, keys, varied inputs, and files of stdin and stdout."""

# ruff: noqa: E501 - programs as strings

from __future__ import annotations

import asyncio
import json
import random
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from ponder.config import ConfigError, find_recipe
from ponder.engine.base import ScriptedEngine
from ponder.evals.exams import run_exam
from ponder.rollouts.grade import grade
from ponder.sandbox import executions
from ponder.sandbox.base import Ran
from ponder.sandbox.fence import FenceError
from ponder.sandbox.programs import Programs
from ponder.sandbox.scripted import ScriptedSandbox
from ponder.tasks import load_task, published
from ponder.tasks.asserts import calls_of, docstring_examples, humaneval_tests, mbpp_tests
from ponder.tasks.code import CodeTask
from ponder.tasks.stdio import StdioTask
from ponder.tasks.variations import variations
from ponder.train.recipe import load_recipe
from ponder.types import Completion, SamplingParams
from tests.helpers import takes_at_most

HUMANEVAL = [
    {
        "id": "Made/0", "entry_point": "twice", "answer": "", "solution": "    return [2 * x for x in xs]\n",
        "problem": 'from typing import List\n\n\ndef twice(xs: List[int]) -> List[int]:\n    """Double each.\n    >>> twice([1])\n    [2]\n    """\n',
        "test": "\n\nMETADATA = {}\n\n\ndef check(candidate):\n    assert candidate([]) == []\n    for x in range(3):\n"
                "        assert candidate([x, 7]) == [2 * x, 14]\n    big = candidate([10**20])\n    assert big == [2 * 10**20]\n",
    },
    {
        "id": "Made/1", "entry_point": "root", "answer": "", "solution": "    return -b / a\n",
        "problem": 'def line(a, b, x):\n    return a * x + b\n\n\ndef root(a, b):\n    """Where line is zero."""\n',
        "test": "import random\n\ndef check(candidate):\n    rng = random.Random(1)\n    for _ in range(5):\n"
                "        a, b = rng.randint(1, 9), rng.randint(1, 9)\n        assert abs(line(a, b, candidate(a, b))) < 1e-6\n",
    },
]  # fmt: skip
MBPP = [
    {
        "id": "m-1", "problem": "Write a function to sort and drop repeats.", "answer": "", "split": "train",
        "solution": "def tidy(xs):\r\n    return sorted(set(xs))", "in_sanitized": True,
        "test_list": ["assert tidy([3, 1, 3]) == [1, 3]", "assert tidy([9, 5]) == [5, 9]", "assert tidy([4, 4]) == [4]"],
    },
    {
        "id": "m-2", "problem": "Write a function to add.", "answer": "", "split": "validation", "in_sanitized": False,
        "solution": "def sum(a, b):\n    return a + b", "test_list": ["assert sum(1, 2) == 3"] * 3,
    },
]  # fmt: skip
RIGHT = "def tidy(xs):\n    return sorted(set(xs))"


@pytest.fixture(scope="module")
def fenced() -> Iterator[Programs]:
    with Programs(num_workers=2) as sandbox:
        yield sandbox


@pytest.fixture(autouse=True)
def sandbox(fenced: Programs) -> Iterator[executions.Executions]:
    """The real one, with an empty memory."""
    before = dict(executions._shared)
    yield executions.use(fenced, num_workers=2)
    executions._shared.clear()
    executions._shared.update(before)


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write(tmp_path / "humaneval" / "test_dev.jsonl", HUMANEVAL)
    write(tmp_path / "mbpp" / "train.jsonl", MBPP)
    write(tmp_path / "mbpp" / "test_dev.jsonl", [{**MBPP[0], "id": "m-3", "split": "test"}])
    monkeypatch.setenv("PONDER_DATA", str(tmp_path))
    return tmp_path


def write(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(map(json.dumps, rows)))


def code(source: str) -> str:
    return f"```python\n{source}\n```"


def mbpp(**dials: Any) -> CodeTask:
    task = load_task("mbpp", split="train", **dials)
    assert isinstance(task, CodeTask)
    return task


# ---- what is asked ---------------------------------------------------------------------------------------------------


def test_the_prompt_shows_one_assert_and_nothing_that_lies_about_has_the_others() -> None:
    problem = mbpp()[0]
    assert "assert tidy([3, 1, 3]) == [1, 3]" in problem.text and "```python" in problem.text
    everything = repr(problem)
    assert "[5, 9]" not in everything and "[4]" not in everything and "sorted(set" not in everything
    assert "[5, 9]" in mbpp(shown=3)[0].text
    assert "called tidy" in mbpp(shown=0)[0].text and "assert" not in mbpp(shown=0)[0].text


def test_splits_are_what_files_and_rows_say(data: Path) -> None:
    assert [p.id for p in load_task("mbpp", split="train")] == ["m-1"]  # type: ignore[attr-defined]
    assert [p.id for p in load_task("mbpp", split="dev")] == ["m-2"]  # type: ignore[attr-defined]
    assert [p.id for p in load_task("mbpp", split="test")] == ["m-3"]  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match="measuring, not for training"):
        load_task("humaneval", split="train")


def test_rows_of_the_hub_are_the_same_problems(monkeypatch: pytest.MonkeyPatch, data: Path) -> None:
    rows = {
        "openai/openai_humaneval": [{"task_id": "HumanEval/0", "prompt": HUMANEVAL[0]["problem"], "entry_point": "twice",
                                     "canonical_solution": HUMANEVAL[0]["solution"], "test": HUMANEVAL[0]["test"]}],
        "google-research-datasets/mbpp": [{"task_id": 7, "text": "Sort.", "code": MBPP[0]["solution"],
                                           "test_list": MBPP[0]["test_list"], "test_setup_code": "",
                                           "challenge_test_list": []}],
    }  # fmt: skip
    monkeypatch.setenv("PONDER_DATA", str(data / "humaneval"))  # nothing there
    monkeypatch.setattr(published, "hub_rows", lambda repo, *_, **__: (rows[repo], "revision"))
    first, second = load_task("humaneval"), load_task("mbpp")
    assert first[0].id == "HumanEval-0" and second[0].id == "mbpp-7"
    for task in (first, second):
        assert isinstance(task, CodeTask) and task.origin[0]["revision"] == "revision"
        assert task.verify(task[0], code(task.reference(task[0]))).is_correct


@pytest.mark.parametrize("dials", ["shown=4", "reward=most", "differential=-1", "size=0", "level=3"])
def test_a_dial_that_means_nothing_is_an_error_at_the_door(dials: str) -> None:
    with pytest.raises(ConfigError):
        load_task(f"mbpp:{dials}", split="train")


def test_rows_that_cannot_be_judged_are_an_error_that_names_them(data: Path) -> None:
    for broken in ({"test_list": ["assert tidy("]}, {"test_list": ["assert True"]}):
        write(data / "mbpp" / "train.jsonl", [{**MBPP[0], **broken, "solution": ""}])
        with pytest.raises(ConfigError, match=r"train.jsonl, line 1"):
            mbpp()
    write(data / "humaneval" / "test_dev.jsonl", [{**HUMANEVAL[0], "test": "assert True"}])
    with pytest.raises(ConfigError, match="no function check"):
        load_task("humaneval")


def test_a_row_without_its_tests_names_the_field_and_empty_extras_are_none() -> None:
    with pytest.raises(ConfigError, match="line 1: no test_list; a row needs test_list"):
        mbpp_tests({"problem": "Tidy."}, "line 1", shown=1)
    with pytest.raises(ConfigError, match="line 1: no entry_point and no test"):
        humaneval_tests({"problem": "def tidy(xs):"}, "line 1")
    row = {**MBPP[0], "challenge_test_list": None, "test_imports": None, "test_setup_code": None}
    assert "None" not in mbpp_tests(row, "line 1", shown=1).setup


# ---- what decides ----------------------------------------------------------------------------------------------------

PROGRAMS = {  # name -> program, then its reward by all, fraction and weighted
    "right": (RIGHT, 1, 1, 1),
    "right another way": ("def tidy(xs):\n    out = []\n    for x in sorted(xs):\n        if x not in out: out.append(x)\n    return out", 1, 1, 1),
    "what was shown": ("def tidy(xs):\n    return [1, 3]", 0, 1 / 3, 0),
    "no set": ("def tidy(xs):\n    return sorted(xs)", 0, 1 / 3, 1 / 2),
    "no sort": ("def tidy(xs):\n    return list(dict.fromkeys(xs))", 0, 1 / 3, 1 / 2),
    "wrong": ("def tidy(xs):\n    return xs", 0, 0, 0),
    "does not compile": ("def tidy(xs:\n", 0, 0, 0),
    "another name": ("def tidied(xs):\n    return sorted(set(xs))", 0, 0, 0),
    "ends itself": ("import os\nos._exit(0)", 0, 0, 0),
    "loops": ("def tidy(xs):\n    while True: pass", 0, 0, 0),
    "equal to all": ("class A(list):\n    def __eq__(s, o): return True\ndef tidy(xs): return A()", 0, 0, 0),
}  # fmt: skip


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_three_rewards_of_hand_made_programs(name: str) -> None:
    source, *wanted = PROGRAMS[name]
    for reward, expected in zip(("all", "fraction", "weighted"), wanted, strict=True):
        verdict = (task := mbpp(reward=reward, cpu=0.4)).verify(task[0], code(source))  # type: ignore[arg-type]
        assert verdict.reward == pytest.approx(expected), reward
        assert verdict.outcome == ("correct" if wanted[0] else "wrong") and verdict.extracted
        assert verdict.parts["fraction"] == pytest.approx(wanted[1]) and {"public", "hidden", "cpu"} <= set(
            verdict.parts
        )


def test_no_program_is_wrong_and_has_no_key() -> None:
    task = mbpp()
    for answer in ("", "I cannot.", "```python\n```", "\x00", "```" * 50_000):
        assert task.verify(task[0], answer).outcome == "wrong" and task.key(task[0], answer) is None


def test_a_function_may_be_answered_whole_or_by_its_body_and_keeps_its_head() -> None:
    task = load_task("humaneval")
    for answer in (code("def twice(xs: List[int]):\n    return [x + x for x in xs]"), "    return [x + x for x in xs]",
                   code("return [x + x for x in xs]")):  # fmt: skip
        assert task.verify(task[0], answer).is_correct, answer


def test_a_program_cannot_define_away_the_helper_that_it_is_compared_with() -> None:
    task = load_task("humaneval")
    assert task.verify(task[1], code("def root(a, b):\n    return -b / a")).is_correct
    assert task.verify(task[1], code("def root(a, b):\n    return -line(a, b, 0) / a")).is_correct, "it may use it"
    cheat = "def line(a, b, x):\n    return 0\ndef root(a, b):\n    return 0"
    assert not task.verify(task[1], code(cheat)).is_correct


def test_docstring_examples_are_shown_and_never_decide() -> None:
    task = load_task("humaneval")
    assert isinstance(task, CodeTask)
    wrong_there = code("def twice(xs):\n    return [3] if xs == [1] else [2 * x for x in xs]")
    verdict = task.verify(task[0], wrong_there)
    assert verdict.is_correct and verdict.parts["public"] == 0
    assert task.public(task[0], wrong_there).outcome == "wrong"
    assert task.public(task[0], code(task.reference(task[0]))).is_correct
    assert task.public(task[1], code("x = 1")).outcome == "undecided", "nothing is shown"


def test_each_assert_counts_also_in_loops_and_after_other_statements() -> None:
    task = load_task("humaneval:reward=fraction")
    small = code("def twice(xs):\n    return [2 * x for x in xs] if sum(xs) < 10**9 else []")
    assert task.verify(task[0], small).reward == pytest.approx(2 / 3)


def test_a_lost_run_is_undecided_and_asked_again_next_time() -> None:
    executions.use(ScriptedSandbox(lambda *_: Ran(status="lost", note="its server died")))
    task = mbpp()
    verdict = task.verify(task[0], code(RIGHT))
    assert (verdict.outcome, verdict.reward) == ("undecided", 0.0) and "lost" in verdict.note
    before = executions.shared().num_made
    task.verify(task[0], code(RIGHT))
    assert executions.shared().num_made == before + 1


def test_tests_whose_reference_run_was_lost_are_made_with_the_next_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    executions.use(ScriptedSandbox(lambda *_: ""))
    task = mbpp(differential=5)
    monkeypatch.setattr(executions.shared().calls, "behave", lambda *_, **__: None)
    assert task.extra_tests(task[0]) == () and task.key(task[0], code(RIGHT)) is not None
    replies = [b'{"v":[1]}'] * 100
    monkeypatch.setattr(executions.shared().calls, "behave", lambda _, calls, **__: tuple(replies[: len(calls)]))
    assert len(task.extra_tests(task[0])) == 5
    first = task.key(task[0], code(RIGHT))
    assert first == task.key(task[0], code(RIGHT + "\n# the same")), "known by what they do, once the machine let them"


def test_a_program_that_the_machine_starves_is_waited_for_longer_than_its_own_limit_takes() -> None:
    """A loop on a busy machine ends by its processor time, not by who else was there; and `grade` waits for that."""
    for cpu in (1, 3, 10):
        task = mbpp(cpu=cpu)
        assert task.limits.wall_seconds > cpu / 0.04  # with a twenty-fifth of a processor
        assert task.patience > 2 * task.limits.wall_seconds  # one that is lost is repeated once


def test_without_a_fence_nothing_runs_and_unfenced_is_written_into_results(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "unfenced" not in mbpp().grader_version
    open_fake = ScriptedSandbox(lambda *_: "")
    open_fake.fence = "unfenced"
    executions.use(open_fake)
    assert mbpp().grader_version.endswith(", unfenced")
    executions._shared.clear()

    def no_fence(**_: Any) -> Programs:
        raise FenceError("no fence can be set here; run on Linux")

    monkeypatch.setattr(executions, "Programs", no_fence)
    with pytest.raises(ConfigError, match="run on Linux"):
        mbpp()


# ---- keys and memory -------------------------------------------------------------------------------------------------


def test_the_key_is_what_is_returned_for_what_is_shown_and_never_for_what_is_hidden() -> None:
    task = mbpp()
    problem = task[0]
    same = [RIGHT, PROGRAMS["right another way"][0], PROGRAMS["what was shown"][0]]
    assert len({task.key(problem, code(source)) for source in same}) == 1
    assert task.key(problem, code("def tidy(xs): return [1, 3, 3]")) != task.key(problem, code(RIGHT))
    assert task.key(problem, code("def tidy(xs): return 1 / 0")) != task.key(
        problem, code("def tidy(xs): return {}['k']")
    )


def test_the_key_does_not_change_with_hidden_tests_or_with_what_was_verified_before(data: Path) -> None:
    sources = [RIGHT, PROGRAMS["no set"][0], PROGRAMS["loops"][0], PROGRAMS["ends itself"][0]]
    before = [mbpp(cpu=0.4).key(mbpp(cpu=0.4)[0], code(source)) for source in sources]
    other = {**MBPP[0], "test_list": [MBPP[0]["test_list"][0], "assert tidy([0]) == [7]", "assert tidy([1]) == []"]}  # type: ignore[index]
    write(data / "mbpp" / "train.jsonl", [other])
    executions.use(executions.shared().sandbox.sandbox, num_workers=2)
    task = mbpp(cpu=0.4)
    for source in sources:
        task.verify(task[0], code(source))
    assert [task.key(task[0], code(source)) for source in sources] == before


def test_a_key_after_its_verdict_runs_nothing(sandbox: executions.Executions) -> None:
    task = mbpp()
    task.verify(task[0], code(RIGHT))
    made = sandbox.num_made
    assert task.key(task[0], code(RIGHT)) and sandbox.num_made == made


def test_a_group_runs_each_program_once_from_any_number_of_threads(sandbox: executions.Executions) -> None:
    task = mbpp()
    names = ["right", "no set", "wrong", "right another way"] * 4
    completions = [completion(code(str(PROGRAMS[name][0]))) for name in names]
    verdicts = asyncio.run(grade(task, task[0], completions, keys=True, timeout=600))
    expected = ["correct" if name.startswith("right") else "wrong" for name in names]
    failures = "\n".join({verdict.note for verdict in verdicts if verdict.outcome in ("failed", "undecided")})
    assert [verdict.outcome for verdict in verdicts] == expected, failures
    assert sandbox.num_made == 4 and len({verdict.key for verdict in verdicts}) == 3


def test_who_asks_for_what_another_finds_out_waits_for_it_and_failures_are_not_kept(
    sandbox: executions.Executions,
) -> None:
    begun, go, calls = threading.Event(), threading.Event(), []

    def slow() -> int:
        calls.append(1)
        begun.set()
        go.wait(5)
        return 3

    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.append(sandbox.once("k", slow))) for _ in range(4)]
    for thread in threads:
        thread.start()
    begun.wait(5)
    go.set()
    for thread in threads:
        thread.join(5)
    assert found == [3] * 4 and len(calls) == 1
    with pytest.raises(ZeroDivisionError):
        sandbox.once("f", lambda: 1 // 0)
    assert sandbox.once("f", lambda: 4) == 4


def test_waiting_for_a_place_is_no_part_of_a_verdicts_time(sandbox: executions.Executions) -> None:
    task = mbpp(cpu=0.3)
    loops = [completion(code(f"def tidy(xs):\n    while True: pass  # {index}")) for index in range(8)]
    waited = asyncio.run(grade(task, task[0], loops, timeout=6.0))  # together they take longer, one by one less
    assert {verdict.outcome for verdict in waited} == {"wrong"}, [verdict.note for verdict in waited]


def completion(answer: str) -> Completion:
    return Completion(prompt_ids=(1,), token_ids=(2,), sampler_logprobs=(0.0,), sampled=(True,), finish_reason="stop",
                      reasoning="", answer=answer, num_reasoning_tokens=0)  # fmt: skip


def test_a_mixture_and_an_exam_judge_by_the_same_task(tmp_path: Path) -> None:
    mixed = load_task("humaneval+arithmetic:size=2")
    assert mixed.verify(mixed[0], "    return [2 * x for x in xs]").is_correct
    engine = ScriptedEngine([("", code("def twice(xs):\n    return [2 * x for x in xs]\ndef root(a, b):\n    return -b / a")),
                             ("", "no idea")])  # fmt: skip
    params = SamplingParams(max_answer_tokens=400)
    result = asyncio.run(
        run_exam(load_task("humaneval"), engine, model="scripted", num_samples=4, params=params, out=tmp_path / "exam")
    )
    assert result.metrics.pass_at[1].value == 0.5 and result.metrics.pass_at[4].value == 1
    assert result.failed_rate == 0 and result.undecided_rate == 0


# ---- differential inputs ---------------------------------------------------------------------------------------------


def test_varied_inputs_find_a_program_that_the_asserts_let_through() -> None:
    lenient, strict = mbpp(), mbpp(differential=30)
    lucky = code("def tidy(xs):\n    return sorted(set(xs)) if len(xs) < 3 or xs[0] == 3 else xs")
    for task in (lenient, strict):
        assert task.verify(task[0], code(RIGHT)).is_correct
    assert lenient.verify(lenient[0], lucky).is_correct and not strict.verify(strict[0], lucky).is_correct
    assert 10 < len(strict.extra_tests(strict[0])) <= 30
    assert strict.key(strict[0], lucky) == lenient.key(lenient[0], lucky)


def test_what_the_reference_raises_on_or_changes_is_no_test(data: Path) -> None:
    row = {**MBPP[0], "solution": "def tidy(xs):\n    if len(xs) < 3: raise ValueError\n    xs.append(1)\n    return 5"}
    write(data / "mbpp" / "train.jsonl", [row])
    task = mbpp(differential=20)
    assert task.extra_tests(task[0]) == ()
    write(data / "mbpp" / "train.jsonl", [{**MBPP[0], "solution": ""}])
    assert mbpp(differential=20).extra_tests(mbpp(differential=20)[0]) == (), "no reference"


def test_variations_keep_types_signs_lengths_and_order() -> None:
    seeds = [[[1, 2, 5, 9], 4, "abc", (1.5, -2), {"a": 1}, True]]
    found = variations(seeds, count=200, seed="s")
    assert len(found) > 100 and found == variations(seeds, count=200, seed="s") and seeds[0] not in found
    for xs, n, text, pair, table, flag in found:
        assert xs == sorted(xs) and len(xs) == 4 == n and all(x > 0 for x in xs)
        assert set(text) <= set("abc") and len(text) == 3 and type(pair) is tuple and pair[1] < 0
        assert list(table) == ["a"] and type(flag) is bool and type(xs[0]) is int
    assert variations([], count=5, seed="s") == [] and variations([[]], count=5, seed="s") == []
    rng = random.Random(0)
    for _ in range(200):  # anything
        value = rng.choice([[[1, "a", None]], [["x", [2]]], [""], [[]], [None], [{}], [set()], [{1, 2}], [[[1], [2]]]])
        variations([value], count=3, seed=str(rng.random()))


# ---- reading tests ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "doc, found",
    [
        (">>> f(1)\n2\n>>> f(2)\n3", ["assert f(1) == 2", "assert f(2) == 3"]),
        ("f(1) == 2", ["assert f(1) == 2"]),
        ("f([1]) ==> [2]\nf(3)=>true", ["assert f([1]) == [2]", "assert f(3) == True"]),
        ("* f(1) -> 'a'", ["assert f(1) == 'a'"]),
        ("f(1) returns 5.", ["assert f(1) == 5"]),
        (">>> f(1) == 2", ["assert f(1) == 2"]),
        ("f(x) = y", []), ("g(1) == 2", []), ("f(abc) => False", []), ("", []), (">>> f(1)\nTraceback", []),
        (">>> f(1)", []), ("f(1) == __import__('os')", []), ("f(" * 5_000, []),
    ],
)  # fmt: skip
def test_examples_of_docstrings_are_read_where_they_are_plain(doc: str, found: list[str]) -> None:
    assert list(docstring_examples(doc, "f")) == found


def test_names_of_tests_are_the_programs_the_modules_or_built_ins() -> None:
    row = {"test_list": ["assert math.isclose(f(Pair(1)), len([2]))"], "test_setup_code": "p = Pair(2)",
           "solution": "class Pair: pass\ndef f(p): pass"}  # fmt: skip
    tests = mbpp_tests(row, "here", shown=1)
    assert (tests.entry, set(tests.names)) == ("f", {"f", "Pair"}) and "import math" in tests.setup
    shadow = mbpp_tests(
        {"test_list": ["assert sum(1, 2) == 3"], "solution": "def sum(a, b): return a + b"}, "", shown=1
    )
    assert shadow.entry == "sum"
    assert calls_of(["assert f([1], k=2) == f(3)", "assert f(g(1))"], "f") == [[3]]


# ---- stdin and stdout ------------------------------------------------------------------------------------------------

STDIO = [
    {
        "id": "s-1", "problem": "Halve each number.\n\nExample: 1 2\n", "answer": "", "float_tolerance": 1e-6, "tests": [
            {"input": "5 3\n", "output": "2.5 1.5\n", "group": "small", "points": 3},
            {"input": "1 2\n", "output": "0.5 1\n", "group": "sample"},
            {"input": "7\n", "output": "3.5\n", "group": "small", "points": 3},
            {"input": "-1\n", "output": "-0.5\n", "group": "large", "points": 9},
        ],
    },
    {"id": "s-2", "problem": "Print any valid permutation.", "tests": [{"input": "1", "output": "1"}]},
    {"id": "s-3", "problem": "By calls.", "tests": [{"input": [[1]], "output": 1}]},
    {
        "id": "s-4", "problem": "Cases.\n\nSample Input\n\n```\n1\n4\n```\n\nSample Output\n\n```\nCase #1: 5\n```\n",
        "tests": [{"input": "2\n1\n2\n", "output": "Case #1: 2\nCase #2: 3\n"}],
    },
]  # fmt: skip
HALVES = "print(*[int(x) / 2 for x in input().split()])"
POSITIVE = "print(*[abs(int(x)) / 2 for x in input().split()])"


@pytest.fixture
def stdio(data: Path) -> StdioTask:
    write(data / "mine" / "test.jsonl", STDIO)
    with pytest.warns(UserWarning, match="problems left out"):
        task = load_task("stdio:mine")
    assert isinstance(task, StdioTask)
    return task


def test_problems_with_several_right_answers_and_tests_that_are_no_texts_are_left_out(stdio: StdioTask) -> None:
    assert [problem.id for problem in (stdio[i] for i in range(len(stdio)))] == ["s-1", "s-4"]
    assert "-0.5" not in repr(stdio[0]), "no test lies about"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"tests": "1 2"}, "needs id, problem and tests"),
        ({"tests": {"input": "1"}}, "needs id, problem and tests"),
        ({"tests": [{"input": "1", "output": "1", "points": "many"}]}, "points of a test are 'many'"),
        ({"tests": [{"input": "1", "output": "1", "points": float("nan")}]}, "points of a test are 'nan'"),
        ({"tests": [{"input": "1", "output": "1", "points": -3}]}, "points of a test are '-3'"),
        ({"tests": [{"input": "\ud800", "output": "1"}]}, "half a surrogate pair"),
    ],
)
def test_a_stdio_row_of_wrong_kinds_is_an_error_with_its_line(data: Path, changes: dict[str, Any], says: str) -> None:
    row = {"id": "s", "problem": "Add.", "tests": [{"input": "1", "output": "1"}], **changes}
    (data / "x.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(ConfigError, match=rf"x\.jsonl, line 1: .*{says}"):
        load_task(f"stdio:{data / 'x.jsonl'}")


@pytest.mark.parametrize(
    ("dials", "says"),
    [("colour=1", "no dial 'colour'"), ("sise=1", "did you mean 'size'"), ("size=few", "size=few must be a whole number"),
     ("cpu=fast", "cpu=fast must be a number"), ("cpu=nan", "cpu=nan must be a number")],
)  # fmt: skip
def test_a_dial_that_stdio_does_not_know_or_that_is_no_number_is_one_clear_error(
    data: Path, dials: str, says: str
) -> None:
    write(data / "mine" / "test.jsonl", STDIO[:1])
    assert len(load_task("stdio:mine:size=1,cpu=0.5")) == 1
    with pytest.raises(ConfigError, match=says):
        load_task(f"stdio:mine:{dials}")


def test_two_programs_whose_runs_the_machine_lost_do_not_vote_for_one_answer(data: Path) -> None:
    write(data / "mine" / "test.jsonl", STDIO[:1])
    executions.use(ScriptedSandbox(lambda *_: Ran(status="lost", note="no memory")))
    task = load_task("stdio:mine")
    assert task.key(task[0], code(HALVES)) == task.key(task[0], code(HALVES)) != task.key(task[0], code(POSITIVE))


def test_a_statement_of_unfinished_samples_is_read_in_no_time(data: Path) -> None:
    row = {"id": "s", "problem": "Sample Input\n```\n" * 100_000, "tests": [{"input": "1", "output": "1"}]}
    (data / "x.jsonl").write_text(json.dumps(row) + "\n")
    with takes_at_most(1):
        assert len(load_task(f"stdio:{data / 'x.jsonl'}")) == 1


def test_programs_are_judged_by_what_they_print(stdio: StdioTask, sandbox: executions.Executions) -> None:
    verdict = stdio.verify(stdio[0], code(HALVES))
    assert verdict.is_correct and verdict.parts["points"] == 12 and verdict.parts["public"] == 1
    runs = sandbox.sandbox.num_runs - sandbox.sandbox.num_hits
    assert stdio.key(stdio[0], code(HALVES)) == stdio.key(stdio[0], code(POSITIVE)), "alike on what is shown"
    assert sandbox.sandbox.num_runs - sandbox.sandbox.num_hits == runs + 1, "the first was run before"
    assert not stdio.verify(stdio[0], code(POSITIVE)).is_correct and stdio.public(stdio[0], code(POSITIVE)).is_correct
    cases = "for i in range(int(input())): print(f'Case #{i + 1}: {int(input()) + 1}')"
    assert stdio.verify(stdio[1], code(cases)).is_correct
    assert not stdio.verify(stdio[1], code(cases.replace("i + 1}:", "i}:"))).is_correct
    assert stdio.verify(stdio[1], code(cases)).parts["public"] == 1, "the text's own sample is shown"


@pytest.mark.parametrize("reward, half, one", [("all", 0, 0), ("fraction", 3 / 4, 1 / 4), ("weighted", 3 / 12, 0)])
def test_rewards_of_programs_that_print(data: Path, reward: str, half: float, one: float) -> None:
    write(data / "mine" / "test.jsonl", STDIO[:1])
    task = load_task(f"stdio:mine:reward={reward},cpu=0.3")
    assert task.verify(task[0], code(POSITIVE)).reward == pytest.approx(half)
    assert task.verify(task[0], code("print('0.5 1')")).reward == pytest.approx(one)
    for bad in (
        "while True: pass",
        "1 / 0",
        "import os\nos._exit(0)",
        "print('2.5 1.5 0')",
        "print('nan ' * 2)",
        "print('x' * 10**6)",
    ):
        assert task.verify(task[0], code(bad)).reward == 0


def test_a_file_to_train_on_says_so_in_its_name(data: Path) -> None:
    write(data / "mine" / "hard.jsonl", STDIO[:1])
    with pytest.raises(ConfigError, match="train in its name"):
        load_task(f"stdio:{data / 'mine' / 'hard.jsonl'}", split="train")
    write(data / "mine" / "train.jsonl", STDIO[:1])
    assert len(load_task(f"stdio:{data / 'mine' / 'train.jsonl'}", split="train")) == 1
    assert len(load_task("stdio:mine", split="train")) == 1
    for spec in ("stdio:nowhere", "stdio:mine:reward=x", "stdio:mine:language=cobol", "stdio:mine:size=0"):
        with pytest.raises(ConfigError):
            load_task(spec, split="train")


# ---- together --------------------------------------------------------------------------------------------------------


def test_the_recipe_loads_and_its_task_is_there() -> None:
    config = load_recipe(find_recipe("rl_code_qwen05_cpu"))
    assert (config.lora_rank, config.group_size, config.problems_per_step, config.max_answer_tokens) == (16, 8, 8, 200)
    task = load_task(config.task, split="train", seed=config.seed, size=config.pool_size)
    assert isinstance(task, CodeTask) and task.differential == 20


def test_ponder_eval_puts_humaneval_to_an_engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from ponder.cli import measure
    from ponder.cli.app import app

    def engine(*_: Any, **__: Any) -> ScriptedEngine:
        return ScriptedEngine([("", code("def twice(xs):\n    return [2 * x for x in xs]\n")), ("", code("x = 1"))])

    monkeypatch.setattr(measure, "open_engine", engine)
    words = ["eval", "--task", "humaneval", "--samples", "2", "--out", str(tmp_path / "out"), "--json",
             "--max-answer-tokens", "400"]  # fmt: skip
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert result["num_problems"] == 2 and result["metrics"]["pass@1"]["value"] == 0.25
