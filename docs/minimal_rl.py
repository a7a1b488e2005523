"""GRPO in a hundred plain lines: the first steps of `ponder rl` without what makes it fast, safe and resumable.

    python docs/minimal_rl.py            # 3 steps of the shipped model on arithmetic

The parts that are ponder's: the task with its verifier, the engine that samples, the readable network. Everything
between is written out: which problems, advantages, loss, optimizer, new weights. `tests/train/test_minimal.py` holds
that `ponder rl` with the same numbers takes the same first step. Left out: packing, several processes, clipping (with
one update a batch the ratio is 1 and no clip acts), refills, adaptive choice of problems, saving, resuming, metrics.
"""

import asyncio
from random import Random

import torch
from torch.nn.utils import clip_grad_norm_

from ponder.engine.local import LocalEngine
from ponder.models import hub
from ponder.tasks import load_task
from ponder.types import SamplingParams, text_seed

SEED, POOL, PROBLEMS, GROUP, LR, WARMUP, MAX_NORM, TEMPERATURE = 0, 256, 8, 8, 1e-4, 5, 1.0, 1.0
PARAMS = SamplingParams(temperature=TEMPERATURE, max_reasoning_tokens=64, max_answer_tokens=16)


def choose(task, step):
    """The problems of a step: passes over the pool, each in an order of its own (here: the first pass)."""
    order = list(range(len(task)))
    Random(f"{SEED}/pool/0").shuffle(order)
    return [task[i] for i in order[step * PROBLEMS : (step + 1) * PROBLEMS]]


async def sample(engine, problems, step):
    """A group of completions of each problem. Seeds belong to run, step and problem, so a run repeats itself."""
    seeds = [text_seed(SEED, "rollout", step, problem.id) for problem in problems]
    params = [SamplingParams(**vars(PARAMS) | {"seed": seed}) for seed in seeds]
    return await asyncio.gather(
        *(engine.generate(problem.prompt, own, n=GROUP) for problem, own in zip(problems, params, strict=True))
    )


def advantages(rewards):
    """GRPO (arXiv:2402.03300): the reward against those of the group."""
    rewards = torch.tensor(rewards, dtype=torch.float64)
    return (rewards - rewards.mean()) / (rewards.std() + 1e-4)


def logprobs(model, completion):
    """Of every token of a completion, under the present weights, at the temperature it was sampled with."""
    ids = torch.tensor([completion.prompt_ids + completion.token_ids])
    start = len(completion.prompt_ids)
    logits = model(ids)[0, start - 1 : -1] / TEMPERATURE
    return logits.log_softmax(-1).gather(-1, ids[0, start:, None])[:, 0]


def loss_of(model, completion, advantage):
    """Minus the objective of one completion: a mean over the tokens that the model sampled itself."""
    now = logprobs(model, completion)
    ratio = (now - now.detach()).exp()  # 1; its gradient is that of the log-probability
    # sampler and trainer round differently: weighted by how much more probable a token is here, at most twice
    mismatch = (now.detach() - torch.tensor(completion.sampler_logprobs)).exp().clamp(max=2.0)
    sampled = torch.tensor(completion.sampled)  # not those that a budget forced
    return -(ratio * mismatch * float(advantage))[sampled].mean()


def main(num_steps=3, model_name="nano", task_name="arithmetic"):
    """Returns the model after `num_steps` steps and the mean reward of each."""
    task = load_task(task_name, split="train", seed=SEED, size=POOL)
    model, tokenizer = hub.load(model_name, dtype=torch.float32)
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.99), weight_decay=0.0)
    history = []
    with LocalEngine(model, tokenizer, num_workers=0, closes_once=False) as engine:
        for step in range(num_steps):
            problems = choose(task, step)
            groups = asyncio.run(sample(engine, problems, step))
            asked = zip(problems, groups, strict=True)
            rewards = [[task.verify(problem, c.answer).reward for c in group] for problem, group in asked]
            for group, earned in zip(groups, rewards, strict=True):
                if len(set(earned)) > 1:  # all the same: nothing to learn
                    for completion, advantage in zip(group, advantages(earned), strict=True):
                        (loss_of(model, completion, advantage) / (PROBLEMS * GROUP)).backward()
            clip_grad_norm_(model.parameters(), MAX_NORM)
            optimizer.param_groups[0]["lr"] = LR * min(1.0, (step + 1) / WARMUP)
            optimizer.step()
            optimizer.zero_grad()
            engine.update_weights(model.state_dict(), version=step + 1)
            history.append(sum(map(sum, rewards)) / (PROBLEMS * GROUP))
            print(f"step {step + 1}: mean reward {history[-1]:.3f}")
    return model, history


if __name__ == "__main__":
    main()
