"""OpenEnv environments: as tasks (one answer), and in turns; over a small server that speaks the protocol."""

from __future__ import annotations

import asyncio
import http.server
import json
import math
import threading
import time
from types import SimpleNamespace

import pytest

from ponder.config import ConfigError
from ponder.engine.base import ScriptedEngine
from ponder.rollouts.collect import collect, environment
from ponder.rollouts.deliberate import DeliberationConfig, open_environment
from ponder.rollouts.openenv import OpenEnvTurns
from ponder.strategies.base import Work
from ponder.strategies.turns import run_episode
from ponder.tasks import load_task, openenv
from ponder.tasks.openenv import EnvironmentSession
from ponder.types import SamplingParams

pytest.importorskip("websockets")

from tests.helpers import until
from tests.tasks.openenv_server import SCHEMA, OpenEnvServer, target_of

PARAMS = SamplingParams(max_reasoning_tokens=400, max_answer_tokens=50)


@pytest.fixture()
def server():
    with OpenEnvServer() as running:
        yield running


def right(problem) -> int:
    return target_of(problem.meta["seed"])


# --- one answer ------------------------------------------------------------------------------------------------------


def test_a_problem_shows_what_the_reset_shows_and_how_to_act(server):
    task = load_task(f"openenv:{server.url}?size=5")
    assert len(task) == 5
    assert "guess a number from 0 to 9" in task[0].text and "guess alone" in task[0].text
    assert len({task[i].text for i in range(5)}) == 5 and task[3] == task[3]


def test_an_episode_is_the_same_again_and_splits_have_episodes_of_their_own(server):
    seeds = {
        split: [load_task(f"openenv:{server.url}", split=split)[i].meta["seed"] for i in range(3)]
        for split in ("train", "test")
    }
    again = load_task(f"openenv:{server.url}", split="train")
    assert seeds["train"] == [again[i].meta["seed"] for i in range(3)]
    assert not set(seeds["train"]) & set(seeds["test"])


def test_a_right_action_is_correct_however_it_is_written_and_a_wrong_one_is_wrong(server):
    task = load_task(f"openenv:{server.url}")
    number = right(task[0])
    for answer in (str(number), f' {{"guess": {number}}} ', f"[{(number + 1) % 10}, {number}]"):
        found = task.verify(task[0], answer)
        assert found.outcome == ("wrong" if "[" in answer else "correct"), answer  # 1 - 0.1 is a share of 1
        assert found.reward == pytest.approx(0.9 if "[" in answer else 1.0)
    missed = task.verify(task[0], str((number + 1) % 10))
    assert (missed.outcome, missed.reward) == ("wrong", 0.0)


def test_best_says_from_what_sum_on_an_answer_is_correct(server):
    task = load_task(f"openenv:{server.url}?best=0.9")
    number = right(task[0])
    assert task.verify(task[0], f"[{(number + 1) % 10}, {number}]").is_correct


def test_an_action_that_the_schema_refuses_ends_the_play_and_is_wrong(server):
    task = load_task(f"openenv:{server.url}")
    for answer in ("no number", '{"gues": 3}', '{"guess": "3"}'):
        assert task.verify(task[0], answer).outcome == "wrong"


@pytest.mark.parametrize("answer", ["nan", "-inf", '{"guess": NaN}', '{"guess": 1e999}', '{"guess": [Infinity]}'])
def test_an_action_that_is_no_json_is_refused_before_the_server_can_fail_on_it(answer, monkeypatch):
    monkeypatch.setattr(EnvironmentSession, "_asked", lambda *_: pytest.fail("it was sent"))
    address = openenv.Address(url="http://nowhere", fields={"guess": "number"}, plain="guess")
    with pytest.raises(openenv.ActionRefused, match="NaN"):
        EnvironmentSession(address).step(answer)


@pytest.mark.parametrize("broken", ["division by zero", "closes"])
def test_a_server_that_fails_leaves_an_answer_undecided_never_wrong(broken):
    with OpenEnvServer(broken=broken) as server:
        task = load_task(f"openenv:{server.url}")
        found = task.verify(task[0], "3")
    assert found.outcome == "undecided" and server.url in found.note


def test_a_server_that_is_gone_leaves_an_answer_undecided():
    with OpenEnvServer() as server:
        task = load_task(f"openenv:{server.url}")
        problem = task[0]
    assert task.verify(problem, "3").outcome == "undecided"


def test_a_server_without_a_free_session_is_waited_for(monkeypatch):
    with OpenEnvServer(most=0) as server:
        task = load_task(f"openenv:{server.url}")
        monkeypatch.setattr(openenv, "CAPACITY_SECONDS", 0.3)
        with pytest.raises(ConfigError, match="no free session"):
            task[0]
        server.most = 1
        assert task[1].text


@pytest.mark.parametrize(
    "spec, why",
    [
        ("openenv:localhost:8000", "openenv:http://HOST:PORT"),
        ("openenv:http://127.0.0.1:9", "no OpenEnv server answers"),
        ("openenv:URL?siez=3", "did you mean 'size'"),
        ("openenv:URL?size=0", "size must be 1 or more"),
        ("openenv:URL?best=none", "best a number"),
        ("openenv:URL?field=gues", "did you mean 'guess'"),
    ],
)
def test_what_names_no_environment_is_refused_with_its_form(server, spec, why):
    with pytest.raises(ConfigError, match=why):
        load_task(spec.replace("URL", server.url))


def test_actions_of_several_fields_are_json_objects():
    schema = {"action": {"properties": {"a": {"type": "string"}, "b": {"type": "integer"}}, "required": ["a", "b"]}}
    with OpenEnvServer(schema=SCHEMA | schema) as server:
        task = load_task(f"openenv:{server.url}")
        assert "a JSON object with a (string), b (integer)" in task[0].text
        assert task.verify(task[0], "hello").outcome == "wrong"


# --- turns -----------------------------------------------------------------------------------------------------------


def guesses(*numbers: int):
    """Guesses one after the other, with some thinking."""
    return "Let me see.\n" + "".join(f"Action: {number}\n" for number in numbers), "I give up"


class Searcher(ScriptedEngine):
    """Halves the range by what it was shown: it reads the observations that were put into its reasoning."""

    def __init__(self) -> None:
        super().__init__(self.act)
        self.seen: list[str] = []

    def act(self, prompt: str, seed: int):
        self.seen.append(prompt)
        low, high = 0, 9
        said = prompt.rpartition("is shown to you.")[2]
        guess = None
        for line in said.split("\n"):
            if line.startswith("Action: "):
                guess = int(line.removeprefix("Action: "))
            elif "higher" in line:
                low = guess + 1
            elif "lower" in line:
                high = guess - 1
        return f"Action: {(low + high) // 2}\n", "so"


def played(engine, task, index=0, turns=16):
    problem = task[index]

    async def run():
        work = Work(problem.prompt, engine, params=PARAMS, key=lambda a: a)
        return await run_episode(OpenEnvTurns(turns=turns), work)

    trajectory = asyncio.run(run())
    return trajectory, task.verify(problem, trajectory.answer)


def test_a_model_that_reads_what_it_is_shown_finds_the_number(server):
    task = load_task(f"openenv:{server.url}?best=0.5")
    trajectory, verdict = played(Searcher(), task)
    actions = json.loads(trajectory.answer)
    assert trajectory.ended == "answer" and int(actions[-1]) == right(task[0]) and verdict.is_correct
    assert trajectory.counts["actions"] == len(actions)
    assert "Observation: " in trajectory.completion.reasoning or len(actions) == 1


def test_what_is_inserted_is_never_trained_on_and_what_was_played_is_not_played_again(server):
    task = load_task(f"openenv:{server.url}?best=0.5")
    trajectory, verdict = played(Searcher(), task, index=1)
    steps = server.num_steps
    whole = trajectory.completion
    inserted = bytes(
        token for token, drawn in zip(whole.token_ids, whole.sampled, strict=True) if not drawn and token < 256
    ).decode()
    lines = [line for line in inserted.split("\n") if line]
    assert len(lines) == len(json.loads(trajectory.answer)) - 1
    assert all(line.startswith("Observation: ") for line in lines)
    assert steps == len(json.loads(trajectory.answer))  # none for the verdict
    openenv._played.clear()
    assert task.verify(task[1], trajectory.answer) == verdict and server.num_steps == 2 * steps


def test_turns_are_limited(server):
    task = load_task(f"openenv:{server.url}")
    wrong = (right(task[0]) + 1) % 10
    trajectory, verdict = played(ScriptedEngine(lambda p, s: (f"Action: {wrong}\n", "")), task, turns=3)
    assert trajectory.ended == "turns" and json.loads(trajectory.answer) == [str(wrong)] * 3
    assert (verdict.outcome, verdict.reward) == ("wrong", 0.0)


def test_refused_actions_are_told_and_counted_and_change_nothing(server):
    task = load_task(f"openenv:{server.url}")
    number = right(task[0])
    said = iter(["Action: what\n", f"Action: {number}\n"])
    trajectory, verdict = played(ScriptedEngine(lambda p, s: (next(said), "")), task)
    assert "refused: guess is a number" in trajectory.completion.reasoning
    assert trajectory.counts["refused"] == 1 and verdict.is_correct


def test_an_answer_after_the_reasoning_is_a_last_action(server):
    task = load_task(f"openenv:{server.url}")
    trajectory, verdict = played(ScriptedEngine(lambda p, s: ("I know it", str(right(task[0])))), task)
    assert verdict.is_correct and json.loads(trajectory.answer) == [str(right(task[0]))]


def test_without_an_action_there_is_no_answer(server):
    task = load_task(f"openenv:{server.url}")
    trajectory, _ = played(ScriptedEngine(lambda p, s: ("hm", "")), task)
    assert trajectory.answer == "" and trajectory.ended == "unparseable"


def test_a_server_that_fails_on_the_way_drops_the_rollout_instead_of_rewarding_it():
    with OpenEnvServer(broken="division by zero") as server:
        task = load_task(f"openenv:{server.url}?size=2")
        play = environment(Searcher(), open_environment("openenv", DeliberationConfig()), task)
        found = asyncio.run(collect(play, task, [task[0], task[1]], PARAMS, group_size=3, seed=0, step=0))
    assert found.tally.counts == {"undecided": 6} and found.counts["failures"] == 6
    assert [group.num_dropped for group in found.groups] == [3, 3] and not found.rollouts


def test_groups_are_played_side_by_side_and_rewarded(server):
    task = load_task(f"openenv:{server.url}?size=2&best=0.5")
    play = environment(Searcher(), open_environment("openenv", DeliberationConfig()), task)
    found = asyncio.run(collect(play, task, [task[0], task[1]], PARAMS, group_size=4, seed=0, step=0))
    assert found.tally.counts == {"correct": 8} and all(rollout.reward == 1 for rollout in found.rollouts)
    assert server.num_open == 0


def test_a_rollout_cancelled_while_it_connects_keeps_no_place(server, monkeypatch):
    task = load_task(f"openenv:{server.url}")
    problem, began, connect = task[0], threading.Event(), openenv.EnvironmentSession.try_reset

    def slowly(session, seed):
        began.set()
        time.sleep(0.1)
        return connect(session, seed)

    monkeypatch.setattr(openenv.EnvironmentSession, "try_reset", slowly)

    async def cancelled():
        work = Work(problem.prompt, Searcher(), params=PARAMS, key=lambda a: a)
        playing = asyncio.ensure_future(run_episode(OpenEnvTurns(), work))
        await asyncio.to_thread(began.wait)
        playing.cancel()
        await asyncio.wait([playing])

    asyncio.run(cancelled())
    until(lambda: server.num_resets == 2)  # one showed the problem
    until(lambda: server.num_open == 0)


@pytest.mark.slow
def test_more_episodes_than_the_server_has_sessions_wait_for_a_place():
    with OpenEnvServer(most=1) as server:
        task = load_task(f"openenv:{server.url}?size=1&best=0.5")
        play = environment(Searcher(), open_environment("openenv", DeliberationConfig()), task)
        found = asyncio.run(collect(play, task, [task[0]], PARAMS, group_size=12, seed=0, step=0))
    assert found.tally.counts == {"correct": 12}


def test_a_prompt_of_another_task_is_refused(server):
    problem = load_task("arithmetic")[0]

    async def run():
        work = Work(problem.prompt, Searcher(), params=PARAMS, key=lambda a: a)
        await run_episode(OpenEnvTurns(), work)

    with pytest.raises(ConfigError, match="problems of openenv: tasks"):
        asyncio.run(run())


@pytest.mark.parametrize(
    "body", [b"[" * 100_000, b"{}", b"[]", b"\xff", None], ids=["deep", "empty", "list", "bytes", "cut"]
)
def test_a_schema_that_is_none_is_one_error_that_names_the_server(body):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-length", str(1000 if body is None else len(body)))
            self.end_headers()
            self.wfile.write(b"{" if body is None else body)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        with pytest.raises(ConfigError, match=f"no OpenEnv server answers at http://127.0.0.1:{server.server_port}"):
            load_task(f"openenv:http://127.0.0.1:{server.server_port}")
        server.shutdown()


def test_a_server_that_is_full_in_the_middle_of_an_episode_has_failed():
    session = object.__new__(EnvironmentSession)
    said = '{"type": "error", "data": {"code": "CAPACITY_REACHED", "message": "full"}}'
    session._address = SimpleNamespace(url="http://x", action=lambda text: {"text": text})
    session._socket = SimpleNamespace(send=lambda text: None, recv=lambda timeout: said)
    with pytest.raises(openenv.ServerFailed, match="CAPACITY_REACHED full"):
        session.step("x")


@pytest.mark.parametrize("reward", ["1" + "0" * 400, "1e999", "NaN", "true", '"x"', "null"])
def test_a_reward_that_is_no_number_here_is_none(reward):
    session = object.__new__(EnvironmentSession)
    said = f'{{"type": "observation", "data": {{"observation": "x", "reward": {reward}, "done": true}}}}'
    session._address = SimpleNamespace(url="http://x")
    session._socket = SimpleNamespace(send=lambda text: None, recv=lambda timeout: said)
    assert not math.isfinite(session._asked("step", {}).reward) or reward in ("true", "null")
