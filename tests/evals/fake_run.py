"""A run folder without a model: checkpoints whose scripted engines get better and think longer with the step."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from random import Random

from ponder import files, runs
from ponder.engine.base import ScriptedEngine

STEPS = (0, 10, 20, 40, 80)


def make_run(folder: Path, steps: Sequence[int] = STEPS, *, evil: str = "") -> Path:
    """run.json, config, metrics and checkpoints with fake weights."""
    run = runs.Run(folder, kind="rl", config_toml=f'task = "counting"{evil}\nseed = 3', seed=3)
    for step in range(max(steps)):
        share = step / max(1, max(steps) - 1)
        run.log(
            step,
            {
                "reward/mean": 0.1 + 0.6 * share + 0.05 * math.sin(step),
                "rollout/reasoning_tokens": 20 + 60 * share,
                "group/frac_mixed": 0.4 + 0.3 * math.sin(3 * share),
                "rollout/truncated_frac": float("nan") if step == 3 else 0.2 * (1 - share),
            },
        )
    run.log_samples([{"step": 1, "problem": f"1+1? {evil}", "reasoning": evil, "answer": "2", "reward": 1.0}])
    for step in steps:
        checkpoint = run.checkpoint_folder(step)
        checkpoint.mkdir(parents=True)
        (checkpoint / "model.safetensors").write_bytes(f"weights of step {step}".encode())
        cost = {"step": step, "train_flops": 3e12 * step, "rollout_tokens": 5e4 * step,
                  "train_tokens": 5e4 * step, "seconds": 6.0 * step}  # fmt: skip
        files.write_atomic(checkpoint / "checkpoint.json", json.dumps(cost))
    return folder


def fingerprint(checkpoint: Path) -> str:
    return hashlib.sha256((checkpoint / "model.safetensors").read_bytes()).hexdigest()[:16]


def open_engine(checkpoint: Path, *, evil: str = "") -> ScriptedEngine:
    """Right with a chance that grows with the step and shrinks with the problem; short caps cost accuracy."""
    step = json.loads((checkpoint / "checkpoint.json").read_text())["step"]

    def respond(prompt: str, seed: int) -> tuple[str, str]:
        rng = Random(seed)
        skill = 1.2 * math.log10(1 + step) - 1.8 + 2.2 * math.sin(int(prompt) * 2.4)
        careful = rng.random() < 0.15 + 0.8 * (1 - math.exp(-step / 30))
        chance = 1 / (1 + math.exp(-(skill + (0.8 if careful else -0.8))))
        looks = 1 + rng.randrange(3) if careful else 0
        reasoning = f"{prompt} is {prompt}{evil}" + f"\ncheck: {prompt} again, yes" * looks
        right = rng.random() < chance
        wrong = str(int(prompt) + rng.choice([1, 1, 2, 3, 10]))
        return reasoning, prompt if right else rng.choice([wrong, wrong, wrong, f"none{evil}" if evil else "none"])

    return ScriptedEngine(respond)


def way_of(problem: object, reasoning: str) -> str:
    """`checked` where the reasoning looks back, `steps` where it does not."""
    return "checked" if "check" in reasoning else "steps"
