"""Algorithms by the name of their paper: data that fills in a recipe, never code.

    preset = "dapo"         a recipe's own keys and key=value overrides still win

grpo          arXiv:2402.03300  group mean and std, mean over each completion, symmetric clip, (KL off by default)
dr_grpo       arXiv:2503.20783  no std, no division by the completion's own length
dapo          arXiv:2503.14476  clip-higher, all-same groups refilled, token-level mean, overlong shaping
rloo          arXiv:2402.14740  leave-one-out baseline
reinforce_pp  arXiv:2501.03262  group baseline, whitened over the batch
gspo          arXiv:2507.18071  one ratio a completion, tight clip
ppo           arXiv:1707.06347  a critic and GAE instead of a group's mean (train/critic.py), KL in the reward
cispo         arXiv:2506.13585  clipped weights instead of clipped updates, token-level mean
"""

from __future__ import annotations

from typing import Any

from ponder.config import ConfigError, nearest

PRESETS: dict[str, dict[str, Any]] = {
    "grpo": {"advantage": "grpo", "loss": {"average": "sequence"}},
    "dr_grpo": {"advantage": "dr_grpo", "loss": {"average": "constant"}},
    "dapo": {
        "advantage": "grpo",
        "max_refills": 3,
        "overlong_tokens": 32,
        "loss": {"average": "token", "clip_low": 0.2, "clip_high": 0.28},
    },
    "rloo": {"advantage": "rloo", "loss": {"average": "token"}},
    "reinforce_pp": {"advantage": "reinforce_pp", "loss": {"average": "token"}},
    "gspo": {
        "advantage": "grpo",
        "loss": {"ratio": "sequence", "average": "sequence", "clip_low": 3e-4, "clip_high": 4e-4},
    },
    "ppo": {
        "advantage": "gae",
        "updates_per_step": 4,
        "loss": {"average": "token", "kl_in": "reward"},
    },
    "cispo": {"advantage": "grpo", "loss": {"clip": "cispo", "average": "token", "clip_high": 4.0}},
}


def apply_preset(data: dict[str, Any]) -> dict[str, Any]:
    """A recipe's values over those of its preset, nested tables merged."""
    name = data.get("preset", "grpo")
    if not isinstance(data.get("loss", {}), dict):
        raise ConfigError("loss is a table; write [loss] and its keys below, or loss.clip_high=0.28")
    if not isinstance(name, str) or name not in PRESETS:
        raise ConfigError(f"unknown preset {name!r}{nearest(str(name), PRESETS)}")
    preset = PRESETS[name]
    merged = {**preset, **data}
    merged["loss"] = {**preset["loss"], **data.get("loss", {})}
    return merged
