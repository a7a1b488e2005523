"""Training a scorer: its examples (for most kinds the policy's own rollouts, verified), train, measure on others.

    ponder scorer recipes/scorer_nano_cpu.toml
    ponder scorer recipes/scorer_nano_cpu.toml model=runs/demo out=runs/scorer_demo

    OUT/rollouts.jsonl   the labelled rollouts (train/scorer_rollouts.py); a resumed run goes on from them
    OUT/scorer/          the best scorer so far: what `load_scorer(OUT)` and `ponder score BANK --scorer OUT` take
    OUT/result.json      how good it is on problems it was not trained on

What a kind of scorer is, is one object (train/scorer_recipe.py); `RECIPES` at the foot of this file names them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ponder.config import ConfigError, completed, dumps, from_dict, load, lookup
from ponder.files import nan_as_null, write_atomic
from ponder.models import hub
from ponder.rewarding import training
from ponder.runs import Run
from ponder.train import inputs, scorer_features, scorer_outcome, scorer_preference, scorer_probe, scorer_process
from ponder.train.scorer_recipe import Check, CommonConfig, Consensus, Progress, ScorerJob, ScorerRecipe
from ponder.train.scorer_rollouts import policies
from ponder.train.state import state_path


def train_scorer(
    config: CommonConfig,
    *,
    on_draw: Progress | None = None,
    on_check: Callable[[Check], None] | None = None,
    consensus: Consensus | None = None,
) -> Path:
    """Draw, train, measure; returns the scorer's folder. `consensus`: cons@k, to set beside rerank@k in the result."""
    recipe = recipe_of(config.kind)
    if not isinstance(config, recipe.config):
        raise ConfigError(
            f"kind={config.kind!r} takes a {recipe.config.__name__}, not a {type(config).__name__}; "
            "`configure` and `load_recipe` make the one of its kind"
        )
    with training("the training of a scorer"):
        return _train(config, recipe, on_draw, on_check, consensus)


def _train(
    config: CommonConfig, recipe: ScorerRecipe[Any, Any], on_draw: Progress | None,
    on_check: Callable[[Check], None] | None, consensus: Consensus | None,
) -> Path:  # fmt: skip
    models = policies(config.model)
    read: dict[str, str] = {}
    for model in models:
        read |= inputs.of_model(model)
    data = recipe.data(config)
    read |= data.read
    with Run(
        config.out, kind="scorer", config_toml=dumps(config), seed=config.seed,
        completed=partial(completed, type(config)),
    ) as run:  # fmt: skip
        begun = (run.folder / "rollouts.jsonl").exists() or state_path(run.folder).exists()
        run.same_inputs(read, begun=begun, later=inputs.SMALL_FILES)
        train, held = data.examples(run, models, on_draw)
        policy = hub.fingerprint(models[-1])
        job = ScorerJob(
            config=config, run=run, start=models[-1], policy=policy, train=train, held=held, on_check=on_check
        )  # fmt: skip
        scores, facts = recipe.train(job)
        result = recipe.report(job, scores, consensus) | facts | {"kind": config.kind, "policy": policy}
        write_atomic(run.folder / "result.json", json.dumps(nan_as_null(result), indent=1, allow_nan=False) + "\n")
        return job.folder


def recipe_of(kind: str) -> ScorerRecipe[Any, Any]:
    """What a kind of scorer is: by its name, or your own as module:attr."""
    recipe = lookup(RECIPES, kind, what="kind of scorer")
    if not isinstance(recipe, ScorerRecipe):
        raise ConfigError(
            f"kind of scorer {kind!r} is a {type(recipe).__name__}; it must be a ScorerRecipe, such as "
            "from_rollouts(train) of ponder.train.scorer_examples"
        )
    return recipe


@dataclass(frozen=True)
class _Kind:
    kind: str = CommonConfig.kind


def configure(values: Mapping[str, Any]) -> CommonConfig:
    """The config of a kind from plain values; `kind` is among them, or the default."""
    kind = from_dict(_Kind, {key: value for key, value in values.items() if key == "kind"})
    return from_dict(recipe_of(kind.kind).config, values)


def load_recipe(path: str | Path | None, overrides: Sequence[str] = ()) -> CommonConfig:
    """A recipe file with `key=value` overrides; its keys are those of its kind."""
    kind = load(_Kind, path, overrides, prepare=lambda data: {key: data[key] for key in data if key == "kind"})
    return load(recipe_of(kind.kind).config, path, overrides)


RECIPES: dict[str, ScorerRecipe[Any, Any]] = {
    "outcome": scorer_outcome.RECIPE,
    "process": scorer_process.RECIPE,
    "probe": scorer_probe.RECIPE,
    "features": scorer_features.RECIPE,
    "preference": scorer_preference.RECIPE,
}
