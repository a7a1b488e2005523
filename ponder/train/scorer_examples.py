"""Examples that are verified rollouts: drawn on a task, split by problem, and how well a scorer chooses among others.

    recipe = from_rollouts(train)     # train(job): job.train and job.held are lists of `Drawn`, one a problem

What is reported was measured on the problems that chose the moment to stop: measure a scorer on a bank of others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from ponder.config import ConfigError, setting
from ponder.runs import Run
from ponder.scorers.calibration import fit_platt, measure, rerank_at
from ponder.scorers.logistic import expit
from ponder.tasks import load_task
from ponder.train import inputs, scorer_rollouts
from ponder.train.distributed import resolve_workers
from ponder.train.scorer_recipe import (
    Arrays,
    CommonConfig,
    Consensus,
    Cost,
    Data,
    Progress,
    ScorerJob,
    ScorerRecipe,
    Trained,
)
from ponder.train.scorer_rollouts import Drawn, DrawPlan
from ponder.types import SamplingParams


@dataclass(frozen=True, kw_only=True)
class ScorerConfig(CommonConfig):
    """The keys of the kinds that learn from rollouts."""

    task: str = setting("arithmetic", "what is drawn on", also="dataset dataset_name train_dataset")
    num_problems: int = setting(1000, "of the train split", least=2, also="pool_size")
    num_samples: int = setting(
        32, "of a problem, over all checkpoints and temperatures", least=2, also="num_generations n group_size"
    )
    temperatures: tuple[float, ...] = setting(
        (0.7, 1.0, 1.3), "at which samples are drawn", least=1e-3, most=1e3, also="temperature"
    )
    max_reasoning_tokens: int = setting(256, "cap of the reasoning", least=0, also="max_completion_length")
    max_answer_tokens: int = setting(16, "cap of the answer", least=1, also="max_completion_length")
    num_slots: int = setting(128, "completions that a process decodes at a time", least=1)
    sampling_dtype: Literal["", "int8"] = setting(
        "", "of the sampler's products with weights; empty = the model's; int8 = faster, most with VNNI"
    )
    # how a network learns from them
    dropout: float = setting(0.2, "on what the head reads", least=0, below=1)
    pairwise: float = setting(0.5, "weight of the ranking term", least=0)
    late: float = setting(1.0, "how much more later tokens weigh; 0 = all alike", least=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.temperatures:
            raise ValueError("temperatures=[] must be one or more positive numbers")

    @property
    def plan(self) -> DrawPlan:
        """What is drawn of each problem."""
        params = SamplingParams(
            max_reasoning_tokens=self.max_reasoning_tokens, max_answer_tokens=self.max_answer_tokens
        )
        return DrawPlan(
            num_problems=self.num_problems,
            num_samples=self.num_samples,
            temperatures=self.temperatures,
            params=params,
            seed=self.seed,
            int8=self.sampling_dtype == "int8",
        )


C = TypeVar("C", bound=ScorerConfig)


def drawn(config: ScorerConfig) -> Data[Drawn]:
    """The policy's own samples of a task's train split, kept in RUN/rollouts.jsonl."""
    task = load_task(config.task, split="train", seed=config.seed, size=config.num_problems)
    problems = [task[i] for i in range(min(config.num_problems, len(task)))]

    def examples(run: Run, models: Sequence[Path], on_draw: Progress | None) -> tuple[list[Drawn], list[Drawn]]:
        path = run.folder / "rollouts.jsonl"
        scorer_rollouts.draw(
            task, models, config.plan, path,
            num_workers=resolve_workers(config.num_workers), num_slots=config.num_slots, on_progress=on_draw,
        )  # fmt: skip
        train, held = scorer_rollouts.split(scorer_rollouts.load(path), config.held_out, config.seed)
        refuse_hopeless(train)
        return train, held

    return Data(inputs.of_task(config.task, task, problems), examples)


def refuse_hopeless(train: Sequence[Drawn]) -> None:
    """Without right and wrong samples of one problem there is nothing to tell apart."""
    if any(item.is_mixed for item in train):
        return
    share = float(np.mean(np.concatenate([item.correct for item in train]))) if train else float("nan")
    raise ConfigError(
        f"no problem has both right and wrong samples ({share:.0%} of all are right), so there is nothing to tell "
        "apart; take another level of the task, more samples a problem, or another temperature"
    )


def report(job: ScorerJob[C, Drawn], logits: Arrays, consensus: Consensus | None) -> dict[str, Any]:
    """Figures on the held-out problems, and how many were trained on."""
    samples = sum(len(item.correct) for item in job.train)
    return figures(job.held, logits, consensus) | {"train_problems": len(job.train), "train_samples": samples}


def figures(held: Sequence[Drawn], logits: Arrays, consensus: Consensus | None) -> dict[str, Any]:
    """Probabilities are calibrated on one half of the held-out problems and measured on the other, twice."""
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
    classes = item.group.classes
    assert classes is not None
    labels = range(int(classes.max(initial=-1)) + 1)
    return [int((classes == c).sum()) for c in labels], [int(item.correct[classes == c].sum()) for c in labels]


def blank(item: Drawn) -> int:
    """How many samples have no answer."""
    assert item.group.classes is not None
    return int((item.group.classes < 0).sum())


def headline(result: dict[str, Any]) -> str:
    """A report in one line, for people; choosing is reported at the largest k of its curve."""
    held, last = result["held_out"], result["curve"][-1]
    cons = f"cons@{last['k']} {last['cons']:.1%}, " if "cons" in last else ""
    return (
        f"on {held['problems']} unseen problems: pass@1 {held['pass@1']:.1%}, {cons}rerank@{last['k']} "
        f"{last['rerank']:.1%}; AUC within problems {held['auc_within']:.3f}, ECE {held['ece']:.3f}"
    )


def cost(config: ScorerConfig) -> Cost:
    """Of a scorer that is fitted: every sample is drawn, and read once. Completions are taken at half their cap."""
    return Cost(
        prompts=config.num_problems,
        completions=config.num_problems * config.num_samples,
        length=config.max_reasoning_tokens // 2 + config.max_answer_tokens // 2,
        drawn=1.0,
        read=1.0,
        window=config.max_reasoning_tokens + config.max_answer_tokens,
        num_slots=config.num_slots,
    )


def from_rollouts(
    train: Callable[[ScorerJob[C, Drawn]], Trained],
    *,
    config: type[C] = ScorerConfig,  # type: ignore[assignment]
    data: Callable[[C], Data[Drawn]] = drawn,
    cost: Callable[[C], Cost] = cost,
) -> ScorerRecipe[C, Drawn]:
    """A kind that learns from verified rollouts; `train` is all that it must have of its own."""
    return ScorerRecipe(config=config, data=data, train=train, report=report, headline=headline, cost=cost)
