"""ponder as a contender: `rollout`, `train` and `rl` by config["kind"]. One process that starts its own workers.

rollout  job: prompts (token ids), n samples of each, new_tokens          reply: tokens
train    job: sequences (token ids), one micro-batch a worker             reply: tokens
rl       job: step; the pieces of ponder/train/rl.py in its order         reply: samples, tokens, reward, loss
grade    job: pairs of target and answer                                  reply: answers, verdicts

"parts" and "workers" set how many processes ponder uses; the default is one a core.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any

from link import Job, serve


def load(config: Job) -> Any:
    from ponder import processes

    if config["kind"] != "grade":
        processes.prepare()  # as the verbs of `ponder` do
    return {"rollout": rollout, "train": train, "rl": rl, "grade": grade}[config["kind"]](config)


def rollout(config: Job) -> Any:
    import torch
    from never_ends import NeverEnds

    from ponder.engine.local import LocalEngine
    from ponder.models import hub
    from ponder.types import SamplingParams

    device = "cuda" if torch.cuda.is_available() else "cpu"
    model, tokenizer = hub.load(config["model"], dtype=getattr(torch, config["dtype"]), device=device)
    tokenizer = NeverEnds(tokenizer)
    engine = LocalEngine(model, tokenizer, num_workers=config.get("workers"), num_slots=config.get("slots", 128),
                         int8=config.get("int8", False))  # fmt: skip

    async def ask(job: Job) -> int:
        params = SamplingParams(max_answer_tokens=job["new_tokens"], seed=job["seed"])
        groups = await asyncio.gather(*(engine.generate(prompt, params, n=job["n"]) for prompt in job["prompts"]))
        lengths = [len(completion.token_ids) for group in groups for completion in group]
        if set(lengths) != {job["new_tokens"]}:
            raise RuntimeError(f"completions of {min(lengths)} to {max(lengths)} tokens, not {job['new_tokens']}")
        return sum(lengths)

    return lambda job: {"tokens": asyncio.run(ask(job))}


def train(config: Job) -> Any:
    import torch

    from ponder.models import hub
    from ponder.processes import num_cores
    from ponder.train.batches import Example, micro_batches
    from ponder.train.distributed import Trainer
    from ponder.train.replica import SupervisedLoss

    device = "cuda" if torch.cuda.is_available() else "cpu"
    model, _ = hub.load(config["model"], dtype=getattr(torch, config["dtype"]), device=device)
    trainer = Trainer(model, num_workers=0 if device == "cuda" else config.get("workers", num_cores()))

    def answer(job: Job) -> Job:
        examples = [
            Example(prompt_ids=tuple(ids[:1]), token_ids=tuple(ids[1:]), trained=(True,) * (len(ids) - 1),
                    weight=1 / (len(ids) - 1))
            for ids in job["sequences"]
        ]  # fmt: skip
        most = max(map(len, job["sequences"])) * job["rows"] // 2  # two passes: what they write stays in the cache
        batches = micro_batches(examples, max_tokens=most)
        sums = trainer.backward(batches, SupervisedLoss())
        # a sequence of T + 1 ids is T positions of forward and backward
        return {"tokens": sum(len(ids) - 1 for ids in job["sequences"]), "loss": sums["loss"] / len(examples)}

    return answer


def rl(config: Job) -> Any:
    import torch
    from sums import problem, reward

    from ponder.engine.local import LocalEngine
    from ponder.models import hub
    from ponder.processes import num_cores
    from ponder.rollouts.collect import collect, single
    from ponder.tasks.base import BaseTask
    from ponder.train.advantages import advantages
    from ponder.train.distributed import Trainer
    from ponder.train.recipe import RLConfig
    from ponder.train.rl import examples, groups_to_train
    from ponder.train.rl import train as take_step
    from ponder.types import Message, Problem, Verdict

    @dataclass(frozen=True)
    class Sums(BaseTask):
        def __getitem__(self, i: int) -> Problem:
            text, target = problem(i)
            return Problem(id=f"sums/{i}", prompt=(Message(role="user", content=text),), target=target, task="sums")

        def verify(self, asked: Problem, answer: str) -> Verdict:
            value = reward(answer, asked.target)
            return Verdict(outcome="correct" if value == 1 else "wrong", reward=value)

    task: Any = Sums()
    workers = config.get("workers", num_cores())
    recipe = RLConfig(
        out="unused", problems_per_step=config["prompts"], group_size=config["n"],
        max_answer_tokens=config["new_tokens"], lr=config["lr"], warmup_steps=0, num_workers=workers,
        max_tokens_per_batch=config.get("batch_tokens", 1024),
    )  # fmt: skip
    model, tokenizer = hub.load(config["model"], dtype=getattr(torch, config["dtype"]))
    trainer = Trainer(model, num_workers=workers)
    engine = LocalEngine(model, tokenizer, num_workers=workers)

    def answer(job: Job) -> Job:
        step, begun = job["step"], time.perf_counter()
        problems = [task[step * config["prompts"] + i] for i in range(config["prompts"])]
        rollouts = asyncio.run(
            collect(
                single(engine), task, problems, recipe.params, group_size=config["n"], seed=config["seed"], step=step
            )
        )
        sampled = time.perf_counter()
        groups = groups_to_train(rollouts, rollouts, recipe)
        updates = examples(groups, advantages(recipe.advantage, groups), recipe)
        metrics = take_step(trainer, updates, recipe, step)
        engine.update_weights(model.state_dict(), version=step + 1)
        rewards = [rollout.reward for rollout in rollouts.rollouts]
        return {
            "samples": len(rewards), "tokens": sum(rollout.num_tokens for rollout in rollouts.rollouts),
            "reward": sum(rewards) / len(rewards), "loss": metrics.get("policy/loss", 0.0),
            "grad_norm": metrics.get("policy/grad_norm", 0.0), "entropy": metrics.get("policy/entropy", 0.0),
            "mixed": sum(group.is_mixed for group in rollouts.groups) / len(rollouts.groups),
            "sampling_seconds": sampled - begun,
        }  # fmt: skip

    return answer


def grade(config: Job) -> Any:
    from ponder.grading import grade as check

    def answer(job: Job) -> Job:
        verdicts = [check(target, text, "math").outcome for target, text in job["pairs"]]
        return {"answers": len(verdicts), "verdicts": verdicts}

    return answer


if __name__ == "__main__":
    serve(load)
