"""What training asks of a kind of scorer: `kind` in a recipe file names one of these, or `module:attr` your own.

    RECIPES["features"] = from_rollouts(train, config=FeaturesConfig, cost=cost)     # one file, one line of a dict

    config     the class of its recipe files: a subclass of `CommonConfig` whose fields are the keys it takes
    data       where its examples come from: (train, held out)
    train      makes the scorer, saves it into `ScorerJob.folder`, and says what it thinks of the held-out examples
    report     from that, what result.json says of it; `headline` in one line
    cost       how much it reads, for `--dry-run`

An example is whatever `data` yields and `train` reads. Four kinds learn from verified rollouts, an example a problem
with its samples (`scorer_examples.from_rollouts` fills in all but `train`). `preference` has other ones: its `data`
reads comparisons, an example a prompt with its answers and what people said of them, its config has that set in place
of a task, and it draws nothing; `scorer_network.train_network` trains it too, given batches of pairs and a loss over
them.
How a scorer is opened is its class's own matter (`TokenScorer.save` and `load`); `kind` in its scorer.json names it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from ponder.config import REQUIRED, check, setting
from ponder.runs import Run
from ponder.train.policy import ONLY_RL, Precision

Arrays = Sequence[NDArray[np.float64]]  # what a scorer says of every held-out example, one array an example
Consensus = Callable[[Sequence[int], Sequence[int], int, int], float]  # counts, correct, k, blank -> cons@k
Progress = Callable[[int, int, float], None]  # problems done, problems, share of correct samples


@dataclass(frozen=True, kw_only=True)
class CommonConfig:
    """The keys that every kind takes."""

    NOT_HERE = ONLY_RL

    out: str = setting(REQUIRED, "the run's folder", also="output_dir")
    kind: str = setting("outcome", "what reads the samples: a kind of the tables below, or your own, module:attr")
    model: str = setting("nano", "the policy; of a run an early, a middle and the last one", also="model_name_or_path")
    name: str = setting("", "what its scores are stored under; empty = its kind")
    held_out: float = setting(0.15, "share of the problems that are not trained on", above=0, below=1)
    # how it learns
    num_epochs: int = setting(3, "passes over the problems, at most", least=1, also="num_train_epochs epochs")
    problems_per_step: int = setting(8, "problems of a step", least=1, also="batch_size per_device_train_batch_size")
    lr: float = setting(3e-4, "step size after the warm-up", above=0, most=1, also="learning_rate")
    warmup_steps: int = setting(20, "steps of linear warm-up", least=0, also="warmup_ratio lr_warmup_steps")
    max_norm: float = setting(1.0, "gradients are cut to this norm; 0 = never", least=0, also="max_grad_norm grad_clip")
    checks_per_epoch: int = setting(4, "looks at the held-out problems", least=1, also="eval_steps")
    patience: int = setting(6, "looks without a better rerank@k before it stops", least=1)
    dtype: Precision = setting("float32", "of computing; what is trained is float32", also="bf16 fp16 torch_dtype")
    lora_rank: int = setting(0, "of an adapter; 0 = train every weight", least=0, also="lora_r r")
    recompute: bool = setting(False, "activations again in backward: less memory", also="gradient_checkpointing")
    max_tokens_per_batch: int = setting(
        2048, "packed tokens of one forward pass", least=1, also="gradient_accumulation_steps"
    )
    num_workers: int = setting(-1, "processes that sample and that train; -1 = one a core, 0 = none", least=-1)
    seed: int = setting(0, "of everything that is drawn", least=0)

    def __post_init__(self) -> None:
        check(self)

    @property
    def scorer_name(self) -> str:
        """Its `name`, or the kind: of `package.module:attr` the module."""
        return self.name or self.kind.partition(":")[0].rpartition(".")[2]


C = TypeVar("C", bound=CommonConfig)
E = TypeVar("E")


@dataclass(frozen=True)
class Check:
    """What a watcher sees at each look at the held-out examples."""

    step: int
    num_steps: int
    metric: str  # what chooses the best step
    value: float  # of it, a share: more is better
    loss: float
    seconds: float
    is_best: bool

    def __str__(self) -> str:
        best = "  (the best so far)" if self.is_best else ""
        return (
            f"step {self.step}/{self.num_steps}  held-out {self.metric} {self.value:.1%}  loss {self.loss:.4f}  "
            f"{self.seconds:.0f} s{best}"
        )


@dataclass(frozen=True)
class Data(Generic[E]):
    """Where the examples of a run come from."""

    read: dict[str, str]  # what they are made of, name -> hash: a run does not go on with anything else
    examples: Callable[[Run, Sequence[Path], Progress | None], tuple[list[E], list[E]]]
    """(train, held out), after drawing what is missing from the policy's checkpoints, oldest first, into the run."""


@dataclass(frozen=True, kw_only=True)
class ScorerJob(Generic[C, E]):
    """What a kind is given to train with."""

    config: C
    run: Run
    start: Path  # the policy's folder
    policy: str  # its fingerprint
    train: Sequence[E]
    held: Sequence[E]
    on_check: Callable[[Check], None] | None = None

    @property
    def folder(self) -> Path:
        """Where the scorer is saved."""
        return self.run.folder / "scorer"


Trained = tuple[Arrays, dict[str, Any]]  # a logit a sample of every held-out example, and facts for result.json


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What is read, for an estimate: each token so many times."""

    prompts: int
    completions: int
    length: int  # tokens of a completion
    drawn: float = 0.0  # times each is sampled
    read: float = 0.0  # forward passes without a gradient
    trained: float = 0.0  # passes with one
    window: int = 0  # tokens of a completion, at most
    num_slots: int = 0  # completions that an engine holds at a time; 0 = none is drawn


@dataclass(frozen=True, kw_only=True)
class ScorerRecipe(Generic[C, E]):
    """See the head of this file."""

    config: type[C]
    data: Callable[[C], Data[E]]
    train: Callable[[ScorerJob[C, E]], Trained]
    report: Callable[[ScorerJob[C, E], Arrays, Consensus | None], dict[str, Any]]
    headline: Callable[[dict[str, Any]], str]  # of result.json
    cost: Callable[[C], Cost]
