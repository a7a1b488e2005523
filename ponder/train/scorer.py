"""Training a scorer from the policy's own rollouts: draw, verify, split by problem, train, measure.

    ponder scorer recipes/scorer_nano_cpu.toml
    ponder scorer recipes/scorer_nano_cpu.toml model=runs/demo out=runs/scorer_demo

    OUT/rollouts.jsonl   the labelled rollouts (train/scorer_rollouts.py); a second sitting goes on from them
    OUT/scorer/          the best scorer so far: what `load_scorer(OUT)` and `ponder score BANK --scorer OUT` take
    OUT/result.json      how good it is on problems it was not trained on

The outcome scorer starts from the policy, all weights or an adapter of them, and stops where choosing among held-out
samples (rerank@k) is best, which is later or earlier than where its loss is. What is reported of it was measured on the
problems that chose the moment to stop: judge it by a bank of other problems.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from ponder.config import REQUIRED, ConfigError, check, dumps, load, setting
from ponder.models import hub, lora
from ponder.models.transformer import Transformer
from ponder.runs import GracefulStop, Run, file_hash, write_atomic
from ponder.scorers.calibration import fit_platt, log_loss, measure, rerank_at
from ponder.scorers.outcome import OutcomeScorer, expit, fresh_head
from ponder.scorers.process import ProcessScorer
from ponder.tasks import load_task
from ponder.train import inputs, scorer_fits
from ponder.train import scorer_rollouts as rollouts
from ponder.train.distributed import Trainer, pick_device, resolve_workers
from ponder.train.policy import Precision
from ponder.train.scorer_loss import Balance, Lesson, ScoreLoss, batches, outcome_lesson, process_lesson
from ponder.train.scorer_rollouts import Drawn, DrawPlan
from ponder.train.state import load_state, save_state, state_path
from ponder.types import SamplingParams, Task

Arrays = Sequence[NDArray[np.float64]]
Consensus = Callable[[Sequence[int], Sequence[int], int, int], float]  # counts, correct, k, blank -> cons@k


@dataclass(frozen=True, kw_only=True)
class ScorerConfig:
    out: str = setting(REQUIRED, "the run's folder", also="output_dir")
    kind: Literal["outcome", "process", "probe", "features"] = setting("outcome", "what reads the samples")
    model: str = setting("nano", "the policy; of a run an early, a middle and the last rung", also="model_name_or_path")
    task: str = setting("arithmetic", "what is drawn on", also="dataset dataset_name train_dataset")
    name: str = setting("", "what its scores are stored under; empty = its kind")
    # the rollouts
    num_problems: int = setting(1000, "of the train split", least=2, also="pool_size")
    num_samples: int = setting(
        32, "of a problem, over all checkpoints and temperatures", least=2, also="num_generations n group_size"
    )
    temperatures: tuple[float, ...] = setting(
        (0.7, 1.0, 1.3), "at which samples are drawn", least=1e-3, most=1e3, also="temperature"
    )
    max_reasoning_tokens: int = setting(256, "cap of the reasoning", least=0, also="max_completion_length")
    max_answer_tokens: int = setting(16, "cap of the answer", least=1, also="max_completion_length")
    continuations: int = setting(8, "process: of each step that is labelled", least=1)
    steps_per_sample: int = setting(4, "process: step ends that are labelled, at most", least=1)
    held_out: float = setting(0.15, "share of the problems that are not trained on", above=0, below=1)
    # how it learns
    num_epochs: int = setting(3, "passes over the problems, at most", least=1, also="num_train_epochs epochs")
    problems_per_step: int = setting(8, "problems of a step", least=1, also="batch_size per_device_train_batch_size")
    lr: float = setting(3e-4, "step size after the warm-up", above=0, most=1, also="learning_rate")
    warmup_steps: int = setting(20, "steps of linear warm-up", least=0, also="warmup_ratio lr_warmup_steps")
    max_norm: float = setting(1.0, "gradients are cut to this norm; 0 = never", least=0, also="max_grad_norm grad_clip")
    dropout: float = setting(0.2, "on what the head reads", least=0, below=1)
    pairwise: float = setting(0.5, "weight of the ranking term", least=0)
    logprobs: bool = setting(True, "outcome: it also reads how surprised the sampler was at each token")
    late: float = setting(1.0, "how much more later tokens weigh; 0 = all alike", least=0)
    checks_per_epoch: int = setting(4, "looks at the held-out problems", least=1, also="eval_steps")
    patience: int = setting(6, "looks without a better rerank@k before it stops", least=1)
    dtype: Precision = setting("float32", "of computing; what is trained is float32", also="bf16 fp16 torch_dtype")
    lora_rank: int = setting(0, "of an adapter; 0 = train every weight", least=0, also="lora_r r")
    recompute: bool = setting(False, "activations again in backward: less memory", also="gradient_checkpointing")
    max_tokens_per_batch: int = setting(
        2048, "packed tokens of one forward pass", least=1, also="gradient_accumulation_steps"
    )
    joined: str = setting("", "features: the run of an outcome scorer whose score is one of them")
    probe_width: int = setting(0, "probe: hidden units of its network; 0 = logistic regression", least=0)
    num_workers: int = setting(-1, "processes that sample and that train; -1 = one a core, 0 = none", least=-1)
    num_slots: int = setting(128, "completions that a process decodes at a time", least=1)
    seed: int = setting(0, "of everything that is drawn", least=0)

    def __post_init__(self) -> None:
        check(self)
        if not self.temperatures:
            raise ValueError("temperatures=[] must be one or more positive numbers")
        if self.joined and self.kind != "features":
            raise ValueError(f"joined={self.joined!r} is for kind='features'")

    @property
    def plan(self) -> DrawPlan:
        params = SamplingParams(
            max_reasoning_tokens=self.max_reasoning_tokens, max_answer_tokens=self.max_answer_tokens
        )
        is_process = self.kind == "process"
        return DrawPlan(
            num_problems=self.num_problems,
            num_samples=self.num_samples,
            temperatures=self.temperatures,
            params=params,
            seed=self.seed,
            continuations=self.continuations if is_process else 0,
            steps_per_sample=self.steps_per_sample if is_process else 0,
        )


@dataclass(frozen=True)
class Check:
    """What a watcher sees at each look at the held-out problems."""

    step: int
    num_steps: int
    rerank: float
    bce: float
    seconds: float
    is_best: bool

    def __str__(self) -> str:
        best = "  (the best so far)" if self.is_best else ""
        return (
            f"step {self.step}/{self.num_steps}  held-out rerank {self.rerank:.1%}  loss {self.bce:.4f}  "
            f"{self.seconds:.0f} s{best}"
        )


def train_scorer(
    config: ScorerConfig,
    *,
    on_draw: rollouts.Progress | None = None,
    on_check: Callable[[Check], None] | None = None,
    consensus: Consensus | None = None,
) -> Path:
    """Draw, train, measure; returns the scorer's folder. `consensus`: cons@k, to set beside rerank@k in the result."""
    models = rollouts.policies(config.model)
    read: dict[str, str] = {}
    for model in models:
        read |= inputs.of_model(model)
    task = None
    if config.joined:
        read[f"{config.joined}/rollouts.jsonl"] = file_hash(joined_rollouts(config))
    else:
        task = load_task(config.task, split="train", seed=config.seed, size=config.num_problems)
        problems = [task[i] for i in range(min(config.num_problems, len(task)))]
        read |= inputs.of_task(config.task, task, problems)
    with Run(config.out, kind="scorer", config_toml=dumps(config), seed=config.seed) as run:
        begun = (run.folder / "rollouts.jsonl").exists() or state_path(run.folder).exists()
        run.same_inputs(read, begun=begun)
        train, held = drawn_and_split(config, run, task, models, on_draw) if task else unseen_by(config)
        refuse_hopeless(train)
        policy = hub.fingerprint(models[-1])
        if config.kind in ("outcome", "process"):
            held_logits, facts = train_network(config, run, models[-1], policy, train, held, on_check)
        else:
            fit = scorer_fits.FITS[config.kind]
            held_logits, facts = fit(config, run.folder / "scorer", models[-1], policy, train, held)
        result = report(held, held_logits, consensus) | facts | {
            "kind": config.kind, "policy": policy, "train_problems": len(train),
            "train_samples": sum(len(item.correct) for item in train),
        }  # fmt: skip
        write_atomic(run.folder / "result.json", json.dumps(result, indent=1) + "\n")
        return run.folder / "scorer"


def drawn_and_split(
    config: ScorerConfig, run: Run, task: Task, models: Sequence[Path], on_draw: rollouts.Progress | None
) -> tuple[list[Drawn], list[Drawn]]:
    """(train, held out), after drawing what is missing."""
    path = run.folder / "rollouts.jsonl"
    rollouts.draw(
        task, models, config.plan, path,
        num_workers=resolve_workers(config.num_workers), num_slots=config.num_slots, on_progress=on_draw,
    )  # fmt: skip
    return rollouts.split(rollouts.load(path), config.held_out, config.seed)


def unseen_by(config: ScorerConfig) -> tuple[list[Drawn], list[Drawn]]:
    """(train, held out): the halves of what the joined scorer was not trained on. What it was trained on it knows too
    well: a regression over that would trust it too much."""
    path = joined_rollouts(config)
    other = load(ScorerConfig, path.parent / "config.toml")
    _, unseen = rollouts.split(rollouts.load(path), other.held_out, other.seed)
    return rollouts.split(unseen, 0.5, config.seed)


def joined_rollouts(config: ScorerConfig) -> Path:
    path = Path(config.joined) / "rollouts.jsonl"
    if not path.exists():
        raise ConfigError(f"joined={config.joined!r} is not the run of a `ponder scorer`, with its rollouts.jsonl")
    return path


def refuse_hopeless(train: Sequence[Drawn]) -> None:
    """Without right and wrong samples of one problem there is nothing to tell apart."""
    if any(item.is_mixed for item in train):
        return
    share = float(np.mean(np.concatenate([item.correct for item in train]))) if train else float("nan")
    raise ConfigError(
        f"no problem has both right and wrong samples ({share:.0%} of all are right), so there is nothing to tell "
        "apart; take another level of the task, more samples a problem, or another temperature"
    )


def train_network(
    config: ScorerConfig,
    run: Run,
    start: Path,
    policy: str,
    train: Sequence[Drawn],
    held: Sequence[Drawn],
    on_check: Callable[[Check], None] | None,
) -> tuple[Arrays, dict[str, Any]]:
    """The policy's network with a head; (logits of the held-out samples by the best one, what was spent)."""
    model, tokenizer = hub.load(start, dtype=getattr(torch, config.dtype), device=pick_device())
    adapter = lora.fresh(model, config.lora_rank, config.seed) if config.lora_rank else None
    lessons, exam = ([to_lesson(config, item) for item in part] for part in (train, held))
    balance = Balance.of(lessons)
    job = ScoreLoss(config.dropout, config.pairwise)
    reads = config.logprobs and config.kind == "outcome"  # in a search the earlier steps are prompt, without logprobs
    per_epoch = math.ceil(len(lessons) / config.problems_per_step)
    num_steps, every = config.num_epochs * per_epoch, max(1, per_epoch // config.checks_per_epoch)
    kind: dict[str, Any] = {"name": config.name or config.kind, "policy": policy}
    if config.kind == "process":
        kind["step_ids"] = rollouts.step_ids(tokenizer)
    num_workers = resolve_workers(config.num_workers)
    with (
        Trainer(
            model, num_workers=num_workers, adapter=adapter, head=fresh_head(model.config.hidden_size, logprobs=reads),
            recompute=config.recompute, betas=(0.9, 0.98),
        ) as trainer,
        GracefulStop() as stop,
    ):  # fmt: skip
        begun: dict[str, Any] = {"step": 0, "seconds": 0.0, "tokens": 0, "best": [-1.0, 0.0], "best_step": 0}
        facts = load_state(run, trainer) or begun
        run.forget_after(facts["step"])
        started = time.monotonic() - facts["seconds"]
        for step in range(facts["step"], num_steps):
            if (step - facts["best_step"]) // every > config.patience:
                break
            chosen = [lessons[i] for i in order(len(lessons), step, config)]
            parts = batches(chosen, balance, max_tokens=config.max_tokens_per_batch, seed=config.seed + 1000 * step)
            sums = trainer.backward(parts, job)
            lr = schedule(step, num_steps, config)
            norm = trainer.step(lr=lr, max_norm=config.max_norm)
            facts["step"], facts["seconds"] = step + 1, time.monotonic() - started
            facts["tokens"] += sum(len(part.tokens_N) for part in parts)
            metrics = {"loss": sums["loss"], "bce": sums["bce"], "pairs": sums["pairs"], "lr": lr, "grad_norm": norm}
            if (step + 1) % every == 0 or step + 1 == num_steps:
                logits = examine(trainer, job, exam, balance, config)
                found = [choosing(held, logits), -log_loss(*pooled(held, [expit(x) for x in logits]))]
                metrics |= {"held/rerank": found[0], "held/bce": -found[1]}
                is_best = found > facts["best"]
                if is_best:
                    facts["best"], facts["best_step"] = found, step + 1
                    save_scorer(config, trainer, run.folder, held, logits, kind)
                if on_check:
                    on_check(Check(step + 1, num_steps, found[0], -found[1], facts["seconds"], is_best))
                save_state(run, trainer, facts)
            run.log(step, metrics | {"seconds": facts["seconds"]})
            if stop.requested:
                save_state(run, trainer, facts)
                raise KeyboardInterrupt
    best = np.load(run.folder / "held_out.npz")
    spent = {name: facts[name] for name in ("step", "best_step", "seconds", "tokens")}
    return [best[str(i)] for i in range(len(held))], {**spent, "steps_planned": num_steps}


def to_lesson(config: ScorerConfig, item: Drawn) -> Lesson:
    return process_lesson(item) if config.kind == "process" else outcome_lesson(item, late=config.late)


def order(count: int, step: int, config: ScorerConfig) -> list[int]:
    """The problems of a step: each epoch in an order of its own."""
    per_epoch = math.ceil(count / config.problems_per_step)
    epoch, place = divmod(step, per_epoch)
    places = list(range(count))
    Random(f"{config.seed}/scorer/{epoch}").shuffle(places)
    return places[place * config.problems_per_step : (place + 1) * config.problems_per_step]


def schedule(step: int, num_steps: int, config: ScorerConfig) -> float:
    """Linear warm-up, then a cosine to a tenth."""
    if step < config.warmup_steps:
        return config.lr * (step + 1) / config.warmup_steps
    share = (step - config.warmup_steps) / max(1, num_steps - config.warmup_steps)
    return config.lr * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * share)))


def examine(
    trainer: Trainer, job: ScoreLoss, exam: Sequence[Lesson], balance: Balance, config: ScorerConfig
) -> list[NDArray[np.float64]]:
    """The head's output at the end of every held-out sample."""
    parts = batches(exam, balance, max_tokens=config.max_tokens_per_batch, seed=0)
    rows = torch.cat(trainer.values(parts, job)).double().numpy()  # packs keep the order of the lessons
    ends = np.cumsum([len(lesson.counts) for lesson in exam])
    return [part[lesson.which] for part, lesson in zip(np.split(rows, ends[:-1]), exam, strict=True)]


def choosing(held: Sequence[Drawn], scores: Arrays) -> float:
    """rerank@k averaged over k = 2, 4, 8, ... up to half of the samples: one k alone is noisy."""
    smallest = min(len(item.correct) for item in held)
    ks = [k for k in (2**i for i in range(1, 20)) if k <= max(2, smallest // 2) and k <= smallest]
    if not ks:
        return float(np.mean([item.correct.mean() for item in held]))
    return float(np.mean([rerank_at(x.correct, s, k) for x, s in zip(held, scores, strict=True) for k in ks]))


def pooled(held: Sequence[Drawn], values: Arrays) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return np.concatenate([item.correct for item in held]), np.concatenate(list(values))


def save_scorer(
    config: ScorerConfig,
    trainer: Trainer,
    run_folder: Path,
    held: Sequence[Drawn],
    logits: Arrays,
    kind: dict[str, Any],
) -> None:
    """The scorer of the moment, calibrated on the held-out samples, and what it said of them."""
    folder = run_folder / "scorer"
    scale, shift = fit_platt([item.correct for item in held], logits)
    weights = {name: tensor.detach().clone() for name, tensor in trainer.head.items()}
    cls = ProcessScorer if config.kind == "process" else OutcomeScorer
    model: Transformer = trainer.model
    cls(model, weights, scale=scale, shift=shift, **kind).save(folder)
    np.savez(run_folder / "held_out.npz", **{str(i): x for i, x in enumerate(logits)})  # type: ignore[arg-type]


def report(held: Sequence[Drawn], logits: Arrays, consensus: Consensus | None) -> dict[str, Any]:
    """Held-out figures. Probabilities are calibrated on one half of the problems and measured on the other, twice."""
    correct = [item.correct for item in held]
    probabilities: list[NDArray[np.float64]] = [np.zeros(0)] * len(held)
    for half in (0, 1):
        others = [i for i in range(len(held)) if i % 2 != half]
        scale, shift = fit_platt([correct[i] for i in others], [logits[i] for i in others]) if others else (1.0, 0.0)
        for i in range(half, len(held), 2):
            probabilities[i] = expit(scale * logits[i] + shift)
    smallest = min(map(len, correct))
    ks = [k for k in (2**i for i in range(20)) if k <= smallest]
    if smallest not in ks:
        ks.append(smallest)
    curve = []
    for k in ks:
        row = {"k": k, "rerank": float(np.mean([rerank_at(y, x, k) for y, x in zip(correct, logits, strict=True)]))}
        row["pass"] = float(np.mean([1 - _all_wrong(len(y), int(y.sum()), k) for y in correct]))
        if consensus is not None:
            row["cons"] = float(np.mean([consensus(*tally(item), k, blank(item)) for item in held]))
        curve.append(row)
    return {"held_out": measure(correct, probabilities), "curve": curve}


def _all_wrong(n: int, right: int, k: int) -> float:
    return math.comb(n - right, k) / math.comb(n, k)


def tally(item: Drawn) -> tuple[list[int], list[int]]:
    """(samples, right ones) of each answer class."""
    classes = item.family.classes
    assert classes is not None
    labels = range(int(classes.max(initial=-1)) + 1)
    return [int((classes == c).sum()) for c in labels], [int(item.correct[classes == c].sum()) for c in labels]


def blank(item: Drawn) -> int:
    assert item.family.classes is not None
    return int((item.family.classes < 0).sum())
