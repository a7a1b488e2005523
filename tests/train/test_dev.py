"""Evaluation while a run goes on: chosen on dev, never trained on; and what a run keeps on request."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from ponder.config import ConfigError
from ponder.files import append_jsonl, read_jsonl
from ponder.models import hub
from ponder.models.tokenizer import ByteTokenizer
from ponder.models.weights import save_model
from ponder.runs import find_checkpoints
from ponder.train.dev import BEST, EVALS, DevEvaluation, sentence
from ponder.train.policy import open_policy
from ponder.train.pool import Pool
from ponder.train.recipe import EvalConfig, RLConfig
from ponder.train.rl import rl
from ponder.types import Problem, Task
from tests.helpers import LowercaseTask, tiny_model, user

TOY, UNSEEN = "tests.helpers:LowercaseTask", "tests.train.test_dev:OtherProblems"


class OtherProblems(LowercaseTask):
    """Of the same kind, and none of those that are trained on."""

    name = "other"

    def __getitem__(self, index: int) -> Problem:
        return replace(super().__getitem__(index), id=f"other/{index}", prompt=user(f"q{index}"))


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("base")
    save_model(tiny_model(), folder)
    ByteTokenizer().save(str(folder))
    return str(folder)


def config(base: str, out: Path, **changes: object) -> RLConfig:
    values: dict[str, object] = {
        "out": str(out), "model": base, "task": TOY, "num_steps": 5, "pool_size": 16, "problems_per_step": 4,
        "group_size": 6, "max_reasoning_tokens": 3, "max_answer_tokens": 4, "lr": 3e-3, "save_every": 2,
        "warmup_steps": 1, "num_workers": 0, "num_slots": 64, "checkpoint_steps": (0,),
        "eval": EvalConfig(every=1, task=UNSEEN, num_problems=6, num_samples=3),
    }  # fmt: skip
    return RLConfig(**(values | changes))  # type: ignore[arg-type]


def steps_of(run: Path) -> list[int]:
    return [int(path.name.removeprefix("step_")) for path in find_checkpoints(run)]


def last_weights(run: Path) -> bytes:
    return (find_checkpoints(run)[-1] / "model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def evaluated(base, tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "evaluated"
    rl(config(base, run, log_rollouts=True))
    return run


def failing_at(step: int, method):
    """The method, which fails the first time that it is called for a step."""
    left = [step]

    def failing(self, now: int, *args, **more):
        if left == [now]:
            left.clear()
            raise RuntimeError("the judge is down")
        return method(self, now, *args, **more)

    return failing


@pytest.mark.parametrize("part", ["the evaluation after a step", "the sampling of the next"])
def test_a_step_that_was_taken_is_not_lost_with_what_fails_after_it(part, base, tmp_path, evaluated, monkeypatch):
    owner, name = (DevEvaluation, "at") if part.startswith("the evaluation") else (Pool, "choose")
    monkeypatch.setattr(owner, name, failing_at(3, getattr(owner, name)))
    run, seen = config(base, tmp_path / "run", save_every=5), []
    with pytest.raises(RuntimeError, match="the judge is down"):
        rl(run)
    rl(run, on_step=lambda done: seen.append(done.step))
    assert seen == [4, 5]  # the first three are there
    assert last_weights(tmp_path / "run") == last_weights(evaluated)
    assert [row["step"] for row in read_jsonl(tmp_path / "run" / "metrics.jsonl")] == [0, 1, 2, 3, 4]
    assert list(read_jsonl(tmp_path / "run" / EVALS)) == list(read_jsonl(evaluated / EVALS))
    assert (tmp_path / "run" / BEST).read_text() == (evaluated / BEST).read_text()


def test_the_best_step_is_the_earliest_of_the_highest_and_its_checkpoint_is_kept(evaluated):
    rows = list(read_jsonl(evaluated / EVALS))
    assert [row["step"] for row in rows] == [0, 1, 2, 3, 4, 5]
    best = json.loads((evaluated / BEST).read_text())
    highest = max(row["accuracy"] for row in rows)
    assert best["step"] == next(row["step"] for row in rows if row["accuracy"] == highest)
    assert best["num_problems"] == 6 and 0 <= best["accuracy"] <= 1
    assert set(steps_of(evaluated)) == {0, 5, best["step"]}  # earlier bests are gone
    assert hub.resolve(f"{evaluated}@best") == evaluated / "checkpoints" / f"step_{best['step']:05d}"
    assert f"step {best['step']}" in sentence(evaluated) and "chosen by that number" in sentence(evaluated)
    logged = {row["step"] + 1: row["eval/accuracy"] for row in read_jsonl(evaluated / "metrics.jsonl")}
    assert logged == {row["step"]: row["accuracy"] for row in rows if row["step"]}


def test_a_run_takes_the_same_steps_with_evaluations_as_without(base, evaluated, tmp_path):
    rl(config(base, tmp_path / "plain", eval=EvalConfig()))
    assert last_weights(tmp_path / "plain") == last_weights(evaluated)
    assert not (tmp_path / "plain" / EVALS).exists() and not (tmp_path / "plain" / "all_rollouts.jsonl").exists()
    assert sentence(tmp_path / "plain") == ""
    with pytest.raises(ValueError, match="no best step: eval.every=10"):
        hub.resolve(f"{tmp_path / 'plain'}@best")


def test_a_run_that_stopped_goes_on_to_the_same_evaluations_and_the_same_best(base, evaluated, tmp_path):
    run = tmp_path / "run"
    rl(config(base, run, num_steps=3))
    rl(config(base, run))
    assert list(read_jsonl(run / EVALS)) == list(read_jsonl(evaluated / EVALS))
    best = [json.loads((each / BEST).read_text())["step"] for each in (run, evaluated)]
    assert best[0] == best[1]


def test_every_rollout_is_kept_on_request(evaluated):
    rows = list(read_jsonl(evaluated / "all_rollouts.jsonl"))
    assert len(rows) == 5 * 4 * 6
    assert {row["step"] for row in rows} == set(range(5)) and {"answer", "reasoning", "reward"} <= rows[0].keys()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"eval": {"every": 2, "task": TOY}}, "of the 6 problems of eval.task=.* are trained on"),
        ({"task": "file:{mine}", "eval": {"every": 2}}, "needs problems that are not trained on: eval.task=file:"),
    ],
)
def test_problems_that_are_trained_on_choose_nothing(base, tmp_path, changes, message):
    mine = tmp_path / "mine.jsonl"
    mine.write_text("".join(json.dumps({"problem": f"{i}+1?", "answer": i + 1}) + "\n" for i in range(8)))
    own = EvalConfig(**{"num_problems": 6, "num_samples": 1, **changes["eval"]})
    task = changes.get("task", TOY).format(mine=mine)
    with pytest.raises(ConfigError, match=message):
        rl(config(base, tmp_path / "run", eval=own, task=task, pool_size=8))
    assert not (tmp_path / "run").exists()
    with pytest.raises(ConfigError, match="give eval.every too"):
        EvalConfig(task=TOY)


def test_a_checkpoint_of_the_adapter_alone_is_the_model_that_was_trained(base, tmp_path):
    small, whole = (
        config(base, tmp_path / name, lora_rank=2, adapter_only=name == "small", num_steps=2, eval=EvalConfig())
        for name in ("small", "whole")
    )
    folder, other = rl(small), rl(whole)
    assert not (folder / "model.safetensors").exists() and (folder / "training.json").exists()
    size = lambda place: sum(path.stat().st_size for path in place.rglob("*") if path.is_file())
    assert size(folder) < size(other) / 2
    merged, expected = (hub.load(tmp_path / name)[0].state_dict() for name in ("small", "whole"))
    assert all(torch.allclose(merged[name], tensor, atol=1e-6) for name, tensor in expected.items())
    assert hub.fingerprint(folder) == hub.fingerprint(hub.resolve(folder))
    policy = open_policy(str(tmp_path / "small"), tmp_path / "next", dtype="float32", lora_rank=2, seed=1, sources=[])
    assert policy.base == base and policy.adapter is not None
    with pytest.raises(ValueError, match="needs an adapter: give lora_rank"):
        config(base, tmp_path / "none", adapter_only=True)


class Checkpoints:
    """A run's folder, and the dev evaluation over it without a model: what `at` found is given."""

    def __init__(self, folder: Path) -> None:
        self.run = SimpleNamespace(folder=folder, checkpoint_folder=lambda step: folder / f"step_{step}")

    def dev(self, first: int, task: Task | None = None, **changes: object) -> DevEvaluation:
        changed, task = config("base", self.run.folder, **changes), task or OtherProblems()
        problems = [task[i] for i in range(changed.eval.num_problems)]
        return DevEvaluation(changed, self.run, None, None, problems, first)  # type: ignore[arg-type]

    def reached(self, dev: DevEvaluation, step: int, accuracy: float) -> None:
        dev.rows.append({"step": step, "accuracy": accuracy, **dev._facts()})
        append_jsonl(self.run.folder / EVALS, dev.rows[-1:])
        self.run.checkpoint_folder(step).mkdir()
        (self.run.checkpoint_folder(step) / "checkpoint.json").write_text("{}")
        dev.settle(step)

    def steps(self) -> set[int]:
        return {int(path.name.removeprefix("step_")) for path in self.run.folder.glob("step_*")}

    def best(self) -> int:
        return int(json.loads((self.run.folder / BEST).read_text())["step"])


@pytest.mark.parametrize(("line", "lacks"), [({}, "step"), ({"step": 2}, "accuracy"), ({"step": "2"}, "step")])
def test_a_line_of_an_evaluation_without_its_numbers_is_one_error_that_names_it(line, lacks, tmp_path):
    one = Checkpoints(tmp_path)
    one.reached(one.dev(0), 1, 0.5)
    append_jsonl(tmp_path / EVALS, [line])
    with pytest.raises(ValueError, match=rf"evals\.jsonl:2 is damaged: its '{lacks}' is no number; delete that line"):
        one.dev(3)


def test_evaluations_on_other_problems_are_not_compared_when_a_run_goes_on(tmp_path):
    one = Checkpoints(tmp_path)
    one.reached(one.dev(0), 1, 0.9)
    dev = one.dev(1, LowercaseTask())
    assert dev.best is None and one.dev(1).best is not None
    one.reached(dev, 2, 0.4)
    assert one.best() == 2 and one.steps() == {2}
    one.reached(one.dev(2, LowercaseTask(), eval=EvalConfig(every=1, num_problems=6, num_samples=9)), 3, 0.1)
    assert one.best() == 3 and len(list(read_jsonl(tmp_path / EVALS))) == 3


def test_the_last_checkpoint_of_a_run_that_is_made_longer_stays_when_it_is_no_longer_the_best(tmp_path):
    one = Checkpoints(tmp_path)
    one.reached(one.dev(0, num_steps=3), 3, 0.5)
    dev = one.dev(3)
    one.reached(dev, 4, 0.6)
    one.reached(dev, 5, 0.7)
    assert one.best() == 5 and one.steps() == {3, 5}


def test_the_first_checkpoint_stays_when_it_is_no_longer_the_best_whatever_steps_a_recipe_names(tmp_path):
    one = Checkpoints(tmp_path)
    dev = one.dev(0, checkpoint_steps=(5,))
    one.reached(dev, 0, 0.5)
    one.reached(dev, 1, 0.6)
    one.reached(dev, 2, 0.7)
    assert one.best() == 2 and one.steps() == {0, 2}
