"""kind = "outcome": the policy's own network with a head; every token of a sample learns how it ends."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

from ponder.config import setting
from ponder.scorers.outcome import OutcomeScorer
from ponder.train import scorer_examples
from ponder.train.scorer_examples import ScorerConfig, from_rollouts
from ponder.train.scorer_loss import outcome_example
from ponder.train.scorer_network import learn_rollouts
from ponder.train.scorer_recipe import Cost, ScorerJob, Trained
from ponder.train.scorer_rollouts import Drawn


@dataclass(frozen=True, kw_only=True)
class OutcomeConfig(ScorerConfig):
    logprobs: bool = setting(True, "the network also gets the sampler's logprob of each token")


def train(job: ScorerJob[OutcomeConfig, Drawn]) -> Trained:
    example = partial(outcome_example, late=job.config.late)
    return learn_rollouts(job, example, OutcomeScorer, logprobs=job.config.logprobs)


def cost(config: ScorerConfig) -> Cost:
    """Every sample is drawn, and trained on in each epoch."""
    return replace(scorer_examples.cost(config), read=0.0, trained=float(config.num_epochs))


RECIPE = from_rollouts(train, config=OutcomeConfig, cost=cost)
