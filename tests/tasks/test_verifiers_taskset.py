"""Tasksets of the verifiers package as tasks, and ponder's tasks as tasksets: with the package where it is installed,
over a small double of it elsewhere.

The package pins versions that the usual environment does not have; docs/environments.md says how this file is run with
the real one, and with which version that was done.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import re
import sys
from pathlib import Path

import pytest

from ponder.config import ConfigError
from ponder.engine.base import ScriptedEngine
from ponder.grading import killable
from ponder.rollouts.deliberate import DeliberationConfig, open_environment
from ponder.rollouts.grade import grade
from ponder.strategies.base import Work
from ponder.strategies.turns import run_episode
from ponder.tasks import load_task
from ponder.types import SamplingParams

HERE = Path(__file__).parent
IS_REAL = importlib.util.find_spec("verifiers") is not None
FOLDERS = [HERE / "verifiers_tasksets"] + ([] if IS_REAL else [HERE / "verifiers_double"])
PATHS = [str(folder) for folder in FOLDERS]
OURS = tuple(f"ponder.tasks.verifiers_{part}" for part in ("loading", "tasks", "games", "taskset"))
MODULES = {path.name.removesuffix(".py") for folder in FOLDERS for path in folder.iterdir()}


@pytest.fixture(scope="module", autouse=True)
def package():
    """The tasksets are importable, and the double where it is needed, here and in the child that grades."""
    sys.path[:0] = PATHS
    before = killable._shared.pop(os.getpid(), None)
    yield
    for path in PATHS:
        sys.path.remove(path)
    if own := killable._shared.pop(os.getpid(), None):
        own.close()
    if before is not None:
        killable._shared[os.getpid()] = before
    for name in list(sys.modules):
        if name.partition(".")[0] in MODULES or name in OURS:
            del sys.modules[name]


@pytest.fixture(scope="module")
def capitals(package):
    return load_task("verifiers:someone/capitals:size=12", split="train")


def test_a_taskset_is_a_task_whose_splits_are_disjoint_and_whole(capitals):
    splits = {split: load_task("verifiers:capitals", split=split) for split in ("train", "dev", "test")}
    ids = {split: {task[i].id for i in range(len(task))} for split, task in splits.items()}
    assert sum(map(len, ids.values())) == len(set().union(*ids.values())) == 40
    assert len(capitals) == 12 and capitals[3] == capitals[3] and capitals[0].target in capitals[0].meta["data"]


def test_dials_go_to_the_config_of_the_taskset():
    task = load_task("verifiers:capitals:size_of_world=15,polite=True", split="train")
    assert [message.role for message in task[0].prompt] == ["system", "user"] and len(task) <= 15
    with pytest.raises(ConfigError, match="did you mean 'polite'"):
        load_task("verifiers:capitals:polit=True")


def test_the_sum_of_the_weighted_rewards_is_the_verdict(capitals):
    problem = capitals[0]
    found = [capitals.verify(problem, text) for text in (problem.target, f"It is {problem.target}, I think", "no idea")]
    assert [(verdict.outcome, verdict.reward) for verdict in found] == [
        ("correct", 1.0), ("wrong", 0.75), ("wrong", 0.25),
    ]  # fmt: skip


@pytest.mark.parametrize("answer, why", [
    ("crash", "I cannot read this"), ("huge", "add up to"), ("nan", "add up to nan"),
    pytest.param("exit", "crashed", marks=pytest.mark.slow),
])  # fmt: skip
def test_a_reward_that_misbehaves_leaves_the_answer_undecided_never_wrong(capitals, answer, why):
    found = capitals.verify(capitals[1], answer)
    assert found.outcome == "undecided" and why in found.note
    assert capitals.verify(capitals[1], capitals[1].target).is_correct  # and the next answer is graded


@pytest.mark.slow
def test_a_reward_that_hangs_is_killed(capitals, monkeypatch):
    monkeypatch.setattr(sys.modules["ponder.tasks.verifiers_tasks"], "SCORE_SECONDS", 0.5)
    assert capitals.verify(capitals[1], "hang").outcome == "undecided"


def test_groups_are_graded_with_every_failure_counted(capitals):
    answers = [capitals[2].target, "crash", "no idea"]
    engine = ScriptedEngine(answers)

    async def run():
        drawn = await engine.generate(capitals[2].prompt, SamplingParams(), n=3)
        return await grade(capitals, capitals[2], drawn, keys=True)

    assert [verdict.outcome for verdict in asyncio.run(run())] == ["correct", "undecided", "wrong"]


@pytest.mark.parametrize("name, why", [
    ("odd_ones", "its reward passes needs a runtime"), ("own_play", "its environment has 2 agents"),
    ("nothing_such", "no taskset 'nothing_such' is installed"), ("json", "is no taskset"),
])  # fmt: skip
def test_what_one_answer_cannot_decide_is_refused_with_the_reason(name, why):
    with pytest.raises(ConfigError, match=why):
        load_task(f"verifiers:{name}")


def test_a_task_of_ponders_is_a_taskset_and_comes_back_as_the_same_task():
    import verifiers.v1 as vf

    taskset = vf.load_taskset(vf.taskset_config_type("ponder_words")(id="ponder_words"))
    tasks = list(taskset)
    own = load_task("arithmetic:level=1-3", split="train")
    assert [task.data.prompt for task in tasks] == [own[i].text for i in range(20)]
    back = load_task("verifiers:ponder_words", split="train")
    assert [back[i].text for i in range(len(back))] == [own[i].text for i in range(20)]
    assert back.verify(back[0], back[0].target).is_correct
    assert back.verify(back[0], "12345").outcome == "wrong"


def test_another_task_can_be_chosen_in_the_config_of_the_exported_one():
    import verifiers.v1 as vf

    kind = vf.taskset_config_type("ponder_words")
    assert (kind().spec, kind().limit) == ("arithmetic:level=1-3", 20)
    (task,) = vf.load_taskset(kind(id="ponder_words", spec="cipher", limit=1, split="test"))
    assert task.data.answer == load_task("cipher")[0].target


def test_an_undecided_answer_has_no_reward_in_the_other_package():
    import verifiers.v1 as vf

    from ponder.tasks import verifiers_tasks, verifiers_taskset
    from ponder.types import Verdict

    taskset = vf.load_taskset(vf.taskset_config_type("ponder_words")(id="ponder_words"))
    task = next(iter(taskset))
    own = verifiers_taskset._ponder_task(task.data.spec, task.data.split, task.data.seed)
    trace = verifiers_tasks._trace(task, type(task), "7")
    own.verify = lambda problem, answer: Verdict(outcome="undecided", reward=0.0, note="cannot tell")
    try:
        with pytest.raises(vf.TaskError, match="Undecided: cannot tell"):
            asyncio.run(task.score(trace))
    finally:
        del own.verify
    assert trace.rewards == {"correct": None}


# --- environments of several turns -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def numbers(package):
    return load_task("verifiers:hot_cold:size=12", split="train")


def secret(problem):
    return json.loads(problem.meta["data"])["secret"]


def test_a_game_is_a_task_whose_problems_are_what_its_agent_is_asked_first(numbers):
    assert len(numbers) == 12 and numbers[0].text.startswith("Game ")
    other = load_task("verifiers:hot_cold:opens_itself=True", split="train")
    assert [message.role for message in other[0].prompt] == ["system", "user"]
    assert other[0].text.endswith("which number?")


def test_the_messages_of_an_answer_are_played_and_both_kinds_of_rewards_add_up(numbers):
    problem = numbers[0]
    right = str(secret(problem))
    slow = json.dumps(["0", "99", "1", right])
    found = [numbers.verify(problem, text) for text in (right, json.dumps(["0", right]), slow, "100", "[]")]
    assert [(verdict.outcome, verdict.reward) for verdict in found] == [
        ("correct", 1.0), ("correct", 1.0), ("wrong", 0.75), ("wrong", 0.25), ("wrong", 0.25),
    ]  # fmt: skip


@pytest.mark.parametrize("said, why", [
    ("crash", "the game broke"), ("crash the reward", "I cannot read this"),
    pytest.param("hang", "timeout|took more", marks=pytest.mark.slow),
])  # fmt: skip
def test_a_game_that_fails_leaves_the_answer_undecided(numbers, monkeypatch, said, why):
    with monkeypatch.context() as patched:
        if said == "hang":
            patched.setattr(sys.modules["ponder.tasks.verifiers_games"], "SCORE_SECONDS", 1.0)
        found = numbers.verify(numbers[1], json.dumps(["5", said]))
    assert found.outcome == "undecided" and re.search(why, found.note)
    assert numbers.verify(numbers[1], str(secret(numbers[1]))).is_correct  # and the next is played


def played(task, problem, *script):
    """One episode in which the model says these lines, one a draw, and its verdict."""
    said = iter(script)
    engine = ScriptedEngine(lambda text, seed: next(said))
    work = Work(problem.prompt, engine, params=LONG, key=lambda answer: answer)
    trajectory = asyncio.run(run_episode(open_environment("verifiers", DeliberationConfig()), work))
    return trajectory, task.verify(problem, trajectory.answer)


LONG = SamplingParams(max_reasoning_tokens=2_000, max_answer_tokens=400)


def test_the_model_acts_in_turns_and_sees_what_the_environment_says(numbers):
    problem = numbers[2]
    right = str(secret(problem))
    trajectory, found = played(
        numbers, problem, ("Let me try.\n", ""), ("Action: 0\n", ""), (f"Action: {right}\n", ""),
    )  # fmt: skip
    assert json.loads(trajectory.answer) == ["0", right] and trajectory.ended == "answer"
    assert "Observation: higher" in trajectory.completion.reasoning and found.is_correct


def test_what_is_inserted_is_not_trained_on(numbers):
    trajectory, _ = played(numbers, numbers[2], ("Action: 0\n", ""), (f"Action: {secret(numbers[2])}\n", ""))
    completion = trajectory.completion
    inserted = "Observation: higher\n"
    assert completion.sampled.count(False) >= len(inserted) and not all(completion.sampled)


def test_an_environment_that_throws_dice_decides_nothing(numbers):
    right = str(secret(numbers[3]))
    _, found = played(numbers, numbers[3], ("Action: dice\n", ""), (f"Action: {right}\n", ""))
    assert found.outcome == "undecided" and "something else" in found.note


def test_a_game_that_breaks_while_it_is_played_is_undecided_too(numbers):
    _, found = played(numbers, numbers[4], ("Action: crash\n", ""))
    assert found.outcome == "undecided" and "the game broke" in found.note


def test_the_turns_of_another_task_are_refused(numbers):
    other = load_task("arithmetic")
    with pytest.raises(ConfigError, match="have an environment of their own"):
        played(other, other[0], ("Action: 1\n", ""))
