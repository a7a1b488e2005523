"""What is kept of every step of reinforcement learning: counters, the log, samples, checkpoints, states to resume from.

Usage:

    with RunLedger(run, config, learner, pool, on_step) as ledger:
        for step in range(ledger.first_step, config.num_steps):
            ledger.sampled(step, rollouts)
            ledger.trained(step, rollouts, updates, read)
            ledger.record(step, rollouts, metrics)     # raises KeyboardInterrupt after a Ctrl-C
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

from ponder.models.transformer import ModelConfig
from ponder.rollouts.collect import Collected
from ponder.runs import Run, find_checkpoints, step_of
from ponder.stopping import GracefulStop
from ponder.train.batches import Example
from ponder.train.critic import Critic
from ponder.train.metrics import extremes, lag_metrics, rollout_metrics, sample_row, sampled_cost, trained_flops
from ponder.train.pool import Pool
from ponder.train.recipe import RLConfig
from ponder.train.sharded import RankError
from ponder.train.state import load_state, refuse_shorter, save_checkpoint, save_state
from ponder.types import Group, Learner, Rollout

Read = tuple[ModelConfig, Sequence[Group]]  # a model, and the groups that it computed once


@dataclass(frozen=True)
class Step:
    """What a watcher sees after each step."""

    step: int  # steps done
    metrics: dict[str, float]
    best: Rollout | None
    worst: Rollout | None


class RunLedger:
    """The bookkeeping of one run. Opening it restores learner and pool to the last saved state."""

    def __init__(
        self, run: Run, config: RLConfig, learner: Learner, pool: Pool, on_step: Callable[[Step], None] | None
    ) -> None:
        self.run = run
        self._config, self._learner, self._pool, self._on_step = config, learner, pool, on_step
        self.critic = Critic(learner.config.hidden_size) if config.has_critic else None
        self._stop = GracefulStop()
        begun = {"step": 0, "tokens": 0, "rollout_tokens": 0, "flops": 0.0, "seconds": 0.0}
        self._facts: dict[str, Any] = load_state(run, learner, begun)
        refuse_shorter(self.first_step, config.num_steps)
        if "pool" in self._facts:
            pool.restore(self._facts["pool"])
        if self.critic and (known := self._facts.pop("critic", None)):
            self.critic.restore(known)
        run.forget_after(self.first_step)
        self.saved_step = self.first_step  # what a resume would go on from
        if self.first_step == 0:  # anew: before the first state the model may have been exchanged
            save_checkpoint(run, learner, step=0, facts=self._facts)
        elif self.first_step in config.all_checkpoint_steps:
            self.keep(self.first_step)
        kept = {step_of(folder) for folder in find_checkpoints(run.folder)}
        if passed := [step for step in sorted(config.checkpoint_steps) if step < self.first_step and step not in kept]:
            warnings.warn(f"checkpoint_steps names {passed[0]}: this run has passed it and kept no checkpoint there",
                          stacklevel=2)  # fmt: skip
        self._begun = self._sampled = time.monotonic()
        self._times: dict[str, float] = {}
        self._is_whole = True  # learner, pool and facts are of one step

    @property
    def first_step(self) -> int:
        """The step to go on with: so many are done."""
        return int(self._facts["step"])

    def __enter__(self) -> Self:
        self._stop.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._stop.__exit__()
        if kind is None or not issubclass(kind, Exception) or issubclass(kind, RankError) or not self._is_whole:
            return  # a Ctrl-C has saved what it wanted kept; with its ranks the learner is gone
        if self.first_step > self.saved_step:
            try:
                self._save_state()
            except Exception as error:  # what ended the run is said, not this
                warnings.warn(f"step {self.first_step} could not be saved: {error}", stacklevel=2)

    def _save_state(self) -> None:
        """Learner, pool, critic and counters, as they are now."""
        known = {"pool": self._pool.state()} | ({"critic": self.critic.state()} if self.critic else {})
        save_state(self.run, self._learner, self._facts | known)

    def keep(self, step: int) -> None:
        """A checkpoint of the weights as they are, those after `step` steps, unless it is there."""
        if not (self.run.checkpoint_folder(step) / "checkpoint.json").exists():
            save_checkpoint(self.run, self._learner, step=step, facts=self._facts)

    def sampled(self, step: int, rollouts: Collected) -> None:
        """The rollouts of a step are there: the pool counts what they showed."""
        self._sampled, self._is_whole = time.monotonic(), False
        self._pool.learn(step, rollouts.groups)

    def end(self, step: int, rollouts: Collected, metrics: dict[str, float], reason: str) -> None:
        """A run stops before the update of this step: what was seen is logged, what was reached is kept."""
        facts = self._facts
        self.run.log(
            step,
            metrics
            | rollout_metrics(rollouts, terms=self._config.reward_terms)
            | {"tokens/rollout": facts["rollout_tokens"]},
        )
        self.keep(step)
        self._save_state()
        warnings.warn(
            f"the run stopped after {step} of {self._config.num_steps} steps: {reason}. Its checkpoint is "
            f"{self.run.checkpoint_folder(step)}",
            stacklevel=2,
        )

    def trained(
        self, step: int, rollouts: Collected, updates: Sequence[Sequence[Example]], read: Sequence[Read]
    ) -> None:
        """The learner has taken the step: whatever fails from here on, it is not lost.

        read: what a reference or a critic read of it, each a forward pass.
        """
        facts, model, now = self._facts, self._learner.config, time.monotonic()
        tokens, flops = sampled_cost(model, rollouts.groups)
        facts["step"] = step + 1
        facts["rollout_tokens"] += tokens
        facts["tokens"] += sum(len(example) for part in updates for example in part)
        facts["flops"] += flops + trained_flops(model, updates, passes=self._learner.passes)
        facts["flops"] += sum(sampled_cost(of, groups)[1] for of, groups in read)  # as drawing it once more
        facts["seconds"] += now - self._begun
        # of the rollouts: of waiting for them, where sampling is ahead
        self._times = {"time/rollout": self._sampled - self._begun, "time/train": now - self._sampled}
        self._is_whole = True

    def record(
        self, step: int, rollouts: Collected, metrics: dict[str, float], *, verified: Collected | None = None,
        keep: bool = False,
    ) -> None:  # fmt: skip
        """A step is done, the sampler has its weights: log it, and keep what is to be kept.

        verified: the rollouts before a KL was paid. keep: a checkpoint of this step, whatever the recipe says.
        """
        facts, config, done = self._facts, self._config, step + 1
        self._is_whole = False  # until it is in the log
        metrics |= rollout_metrics(rollouts, verified=verified, terms=config.reward_terms) | self._pool.by_level(step)
        metrics |= self._times | {
            "tokens/rollout": facts["rollout_tokens"], "train_flops": facts["flops"], "seconds": facts["seconds"]
        }  # fmt: skip
        if config.max_lag:
            metrics |= lag_metrics(step, rollouts)
        best, worst = extremes(rollouts.rollouts)
        self.run.log(step, metrics)
        self.run.log_samples([sample_row(step, name, r) for name, r in (("best", best), ("worst", worst)) if r])
        if config.log_rollouts:
            self.run.log_rollouts([sample_row(step, str(i), r) for i, r in enumerate(rollouts.rollouts)])
        lost: OSError | None = None
        try:
            if self._on_step:
                self._on_step(Step(done, metrics, best, worst))
        except OSError as error:  # whoever read what is printed is gone; the step is kept first
            lost = error
        if keep or done in config.all_checkpoint_steps:
            save_checkpoint(self.run, self._learner, step=done, facts=facts)
        if done % config.save_every == 0 or done == config.num_steps or self._stop.requested or lost:
            self._save_state()
            self.saved_step = done
        if self._stop.requested:
            raise KeyboardInterrupt
        if lost is not None:
            raise lost
        self._is_whole = True
        self._begun = time.monotonic()
