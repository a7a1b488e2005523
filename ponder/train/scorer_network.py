"""Training the policy's own network with a head: steps, looks at what is held out, the best one kept, exact resume.

    train_network(job, Learning(...))      the loop; what is learned, from which batches, how it is measured, is given
    learn_rollouts(job, examples, ...)     of verified rollouts: stops where choosing among held-out samples is best

All weights are trained, or an adapter of them. The best moment is later or earlier than where the loss is lowest. A
kind whose examples are no rollouts, pairs of completions say, hands `train_network` a `Learning` of its own.
"""

from __future__ import annotations

import io
import math
import time
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ponder.files import write_atomic
from ponder.models import hub, lora
from ponder.models.tokenizer import Tokenizer
from ponder.models.transformer import Transformer
from ponder.scorers.base import TokenScorer
from ponder.scorers.calibration import fit_platt, log_loss, rerank_at
from ponder.scorers.logistic import expit
from ponder.scorers.outcome import new_head
from ponder.stopping import GracefulStop
from ponder.train.distributed import Trainer, pick_device, resolve_workers
from ponder.train.replica import HiddenLoss
from ponder.train.scorer_examples import ScorerConfig
from ponder.train.scorer_loss import Balance, ScoreLoss, ScorerExample, batches
from ponder.train.scorer_recipe import Arrays, Check, CommonConfig, ScorerJob, Trained
from ponder.train.scorer_rollouts import Drawn
from ponder.train.state import load_state, save_state

SCORES = "held_out.npz"  # in the run's folder


@dataclass(frozen=True, kw_only=True)
class Learning:
    """What the loop does not know: what is learned, and how it is measured."""

    count: int  # examples that are trained on
    loss: HiddenLoss
    batches: Callable[[Sequence[int], int], list[Any]]  # indices of examples, a seed -> micro-batches
    examine: Callable[[Trainer], Arrays]  # what the network says of every held-out example
    metric: str  # what chooses the best step
    measure: Callable[[Arrays], tuple[float, float]]  # that metric, a share, and the loss, which breaks ties
    save: Callable[[Transformer, Tokenizer, Mapping[str, Tensor], Arrays], TokenScorer]
    """The scorer of the moment; the loop saves it."""
    logprobs: bool = False  # the network also reads the sampler's logprobs


def train_network(job: ScorerJob[Any, Any], learning: Learning) -> Trained:
    """The policy's network with a head; (the best one's scores of the held-out examples, what was spent)."""
    config: CommonConfig = job.config
    run = job.run
    model, tokenizer = hub.load(job.start, dtype=getattr(torch, config.dtype), device=pick_device())
    adapter = lora.fresh(model, config.lora_rank, config.seed) if config.lora_rank else None
    per_epoch = math.ceil(learning.count / config.problems_per_step)
    num_steps, every = config.num_epochs * per_epoch, max(1, per_epoch // config.checks_per_epoch)
    with (
        Trainer(
            model, num_workers=resolve_workers(config.num_workers), adapter=adapter,
            head=new_head(model.config.hidden_size, logprobs=learning.logprobs),
            recompute=config.recompute, betas=(0.9, 0.98),
        ) as trainer,
        GracefulStop() as stop,
    ):  # fmt: skip
        begun: dict[str, Any] = {"step": 0, "seconds": 0.0, "tokens": 0, "best": [-1.0, 0.0], "best_step": 0}
        facts = load_state(run, trainer, begun)
        run.forget_after(facts["step"])
        started = time.monotonic() - facts["seconds"]
        for step in range(facts["step"], num_steps):
            if (step - facts["best_step"]) // every > config.patience:
                break
            parts = learning.batches(order(learning.count, step, config), config.seed + 1000 * step)
            sums = trainer.backward(parts, learning.loss)
            lr = schedule(step, num_steps, config)
            norm = trainer.step(lr=lr, max_norm=config.max_norm)
            facts["step"], facts["seconds"] = step + 1, time.monotonic() - started
            facts["tokens"] += sum(len(part.tokens_N) for part in parts)
            metrics = {**sums, "lr": lr, "grad_norm": norm}
            check: Check | None = None
            if (step + 1) % every == 0 or step + 1 == num_steps:
                scores = learning.examine(trainer)
                value, loss = learning.measure(scores)
                metrics |= {f"held/{learning.metric}": value, "held/bce": loss}
                rank = [0.0 if math.isnan(value) else value, -loss]  # nan: nothing to measure, and the loss decides
                is_best = rank > facts["best"]
                if is_best:
                    facts["best"], facts["best_step"] = rank, step + 1
                    head = {name: tensor.detach().clone() for name, tensor in trainer.head.items()}
                    learning.save(trainer.model, tokenizer, head, scores).save(job.folder)
                    write_scores(run.folder / SCORES, scores)
                check = Check(step + 1, num_steps, learning.metric, value, loss, facts["seconds"], is_best)
            # before the state: a step that it holds has its line
            run.log(step, metrics | {"seconds": facts["seconds"]})
            if check or stop.requested:
                save_state(run, trainer, facts)
            if check and job.on_check:
                job.on_check(check)
            if stop.requested:
                raise KeyboardInterrupt
    spent = {name: facts[name] for name in ("step", "best_step", "seconds", "tokens")}
    return read_scores(run.folder / SCORES, len(job.held)), {**spent, "steps_planned": num_steps}


def write_scores(path: Path, scores: Arrays) -> None:
    """What the best network says of every held-out example, whole or not at all."""
    content = io.BytesIO()
    np.savez(content, **{str(i): x for i, x in enumerate(scores)})  # type: ignore[arg-type]
    write_atomic(path, content.getvalue())


def read_scores(path: Path, count: int) -> Arrays:
    """What `write_scores` wrote of so many examples. ValueError where the file is damaged or of others."""
    try:
        with np.load(path) as known:
            return [known[str(i)] for i in range(count)]
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(
            f"{path} is damaged or of another run ({str(error)[:100]}); the scorer beside it is whole: restore that "
            "file, or train again with another `out`"
        ) from None


def order(count: int, step: int, config: CommonConfig) -> list[int]:
    """The examples of a step: each epoch in an order of its own."""
    per_epoch = math.ceil(count / config.problems_per_step)
    epoch, batch = divmod(step, per_epoch)
    indices = list(range(count))
    Random(f"{config.seed}/scorer/{epoch}").shuffle(indices)
    return indices[batch * config.problems_per_step : (batch + 1) * config.problems_per_step]


def schedule(step: int, num_steps: int, config: CommonConfig) -> float:
    """Linear warm-up, then a cosine to a tenth."""
    if step < config.warmup_steps:
        return config.lr * (step + 1) / config.warmup_steps
    share = (step - config.warmup_steps) / max(1, num_steps - config.warmup_steps)
    return config.lr * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * share)))


# ---- of verified rollouts ------------------------------------------------------------------------------------------


def learn_rollouts(
    job: ScorerJob[Any, Drawn],
    example: Callable[[Drawn], ScorerExample],
    scorer: Callable[..., TokenScorer],
    *,
    options: Callable[[Tokenizer], dict[str, Any]] = lambda tokenizer: {},
    logprobs: bool = False,
) -> Trained:
    """scorer: made of (model, head), with its name, policy, `scale` and `shift`, and `options` of the tokenizer."""
    config: ScorerConfig = job.config
    examples, held = ([example(item) for item in part] for part in (job.train, job.held))
    balance = Balance.of(examples)
    loss = ScoreLoss(config.dropout, config.pairwise)

    named = {"name": config.scorer_name, "policy": job.policy}

    def some(indices: Sequence[int], seed: int) -> list[Any]:
        return batches([examples[i] for i in indices], balance, max_tokens=config.max_tokens_per_batch, seed=seed)

    def measure(logits: Arrays) -> tuple[float, float]:
        correct = np.concatenate([item.correct for item in job.held])
        return choosing(job.held, logits), log_loss(correct, np.concatenate([expit(x) for x in logits]))

    def save(model: Transformer, tokenizer: Tokenizer, head: Mapping[str, Tensor], logits: Arrays) -> TokenScorer:
        scale, shift = fit_platt([item.correct for item in job.held], logits)  # calibrated on what is held out
        return scorer(model, head, scale=scale, shift=shift, **named, **options(tokenizer))

    return train_network(
        job,
        Learning(
            count=len(examples), loss=loss, batches=some, metric="rerank", measure=measure, save=save,
            examine=lambda trainer: examine(trainer, loss, held, balance, config.max_tokens_per_batch),
            logprobs=logprobs,
        ),
    )  # fmt: skip


def examine(
    trainer: Trainer, loss: ScoreLoss, held: Sequence[ScorerExample], balance: Balance, max_tokens: int
) -> list[NDArray[np.float64]]:
    """The head's output at the end of every held-out sample."""
    parts = batches(held, balance, max_tokens=max_tokens, seed=0)
    rows = torch.cat(trainer.values(parts, loss)).double().numpy()  # packs keep the order of the examples
    ends = np.cumsum([len(example.counts) for example in held])
    return [part[example.inverse] for part, example in zip(np.split(rows, ends[:-1]), held, strict=True)]


def choosing(held: Sequence[Drawn], scores: Arrays) -> float:
    """rerank@k averaged over k = 2, 4, 8, ... up to half of the samples: one k alone is noisy."""
    smallest = min(len(item.correct) for item in held)
    ks = [k for k in (2**i for i in range(1, 20)) if k <= max(2, smallest // 2) and k <= smallest]
    if not ks:
        return float(np.mean([item.correct.mean() for item in held]))
    return float(np.mean([rerank_at(x.correct, s, k) for x, s in zip(held, scores, strict=True) for k in ks]))
