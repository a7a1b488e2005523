"""kind = "features": a logistic regression over statistics of sampling, and an outcome scorer's score (`joined`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ponder.config import ConfigError, load, setting
from ponder.files import file_hash
from ponder.runs import Run
from ponder.scorers.base import check_policy
from ponder.scorers.features import FEATURES, FeatureScorer, features
from ponder.scorers.files import load_scorer
from ponder.scorers.logistic import fit
from ponder.train import scorer_examples, scorer_rollouts
from ponder.train.scorer_examples import ScorerConfig, from_rollouts, refuse_hopeless
from ponder.train.scorer_recipe import CommonConfig, Cost, Data, Progress, ScorerJob, Trained
from ponder.train.scorer_rollouts import Drawn

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class FeaturesConfig(ScorerConfig):
    joined: str = setting("", "the run of an outcome scorer whose score is one of the features; empty = none")


def train(job: ScorerJob[FeaturesConfig, Drawn]) -> Trained:
    """Each problem weighs the same, however many samples it has left."""
    joined = job.config.joined
    outcome = load_scorer(joined) if joined else None
    if outcome is not None:
        check_policy(outcome, job.policy)
    rows = [_features(part, outcome) for part in (job.train, job.held)]
    x, y = np.concatenate(rows[0]), np.concatenate([item.correct for item in job.train])
    weight = np.concatenate([np.full(len(item.correct), 1 / len(item.correct)) for item in job.train])
    model = fit(x, y, l2=1.0, weight_N=weight * len(y) / weight.sum())
    folder = str(Path(joined).resolve()) if outcome else ""
    FeatureScorer(
        model, name=job.config.scorer_name, policy=job.policy, outcome=outcome, outcome_folder=folder
    ).save(job.folder)  # fmt: skip
    weights = dict(zip([*FEATURES, "outcome"], model.weights.tolist(), strict=False))
    return [model.logits(part) for part in rows[1]], {"weights": weights}


def _features(part: Sequence[Drawn], outcome: Any) -> list[Floats]:
    outcome_scores = outcome.score([item.group for item in part]) if outcome else [None] * len(part)
    return [features(item.group, p) for item, p in zip(part, outcome_scores, strict=True)]


def data(config: FeaturesConfig) -> Data[Drawn]:
    """Drawn, or of the joined run what its scorer was not trained on: nothing is drawn for it."""
    if not config.joined:
        return scorer_examples.drawn(config)

    def examples(run: Run, models: Sequence[Path], on_draw: Progress | None) -> tuple[list[Drawn], list[Drawn]]:
        train, held = unseen_by(config)
        refuse_hopeless(train)
        return train, held

    return Data({f"{config.joined}/rollouts.jsonl": file_hash(joined_rollouts(config))}, examples)


def unseen_by(config: FeaturesConfig) -> tuple[list[Drawn], list[Drawn]]:
    """(train, held out): the halves of what the joined scorer was not trained on. What it was trained on it knows too
    well: a regression over that would trust it too much."""
    path = joined_rollouts(config)
    split = ("out", "held_out", "seed")  # its other keys are those of its kind
    other = load(CommonConfig, path.parent / "config.toml", prepare=lambda data: {key: data[key] for key in split})
    _, unseen = scorer_rollouts.split(scorer_rollouts.load(path), other.held_out, other.seed)
    return scorer_rollouts.split(unseen, 0.5, config.seed)


def joined_rollouts(config: FeaturesConfig) -> Path:
    """The file with the rollouts of the joined run. ConfigError where there is none."""
    path = Path(config.joined) / "rollouts.jsonl"
    if not path.exists():
        raise ConfigError(f"joined={config.joined!r} is not the run of a `ponder scorer`, with its rollouts.jsonl")
    return path


def cost(config: FeaturesConfig) -> Cost:
    """Nothing is drawn where a run is joined: its rollouts are used, and read by its scorer."""
    whole = scorer_examples.cost(config)
    return replace(whole, drawn=0.0, num_slots=0) if config.joined else replace(whole, read=0.0)


RECIPE = from_rollouts(train, config=FeaturesConfig, data=data, cost=cost)
