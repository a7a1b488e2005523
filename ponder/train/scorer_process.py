"""kind = "process": the same network, trained at the ends of steps on the share of continuations that ended correct."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ponder.config import setting
from ponder.scorers.process import ProcessScorer
from ponder.train import scorer_outcome
from ponder.train.scorer_examples import ScorerConfig, from_rollouts
from ponder.train.scorer_loss import process_example
from ponder.train.scorer_network import learn_rollouts
from ponder.train.scorer_recipe import Cost, ScorerJob, Trained
from ponder.train.scorer_rollouts import Drawn, DrawPlan, step_ids


@dataclass(frozen=True, kw_only=True)
class ProcessConfig(ScorerConfig):
    continuations: int = setting(8, "of each step that is labelled", least=1)
    steps_per_sample: int = setting(4, "step ends that are labelled, at most", least=1)

    @property
    def plan(self) -> DrawPlan:
        return replace(super().plan, continuations=self.continuations, steps_per_sample=self.steps_per_sample)


def train(job: ScorerJob[ProcessConfig, Drawn]) -> Trained:
    """Without the sampler's logprobs: in a search the earlier steps are part of the prompt, which has none."""
    return learn_rollouts(
        job, process_example, ProcessScorer, options=lambda tokenizer: {"step_ids": step_ids(tokenizer)}
    )  # fmt: skip


def cost(config: ProcessConfig) -> Cost:
    """A labelled step is continued from its end, half a sample on average."""
    return replace(scorer_outcome.cost(config), drawn=1.0 + config.steps_per_sample * config.continuations / 2)


RECIPE = from_rollouts(train, config=ProcessConfig, cost=cost)
