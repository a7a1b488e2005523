"""Sharded training against one process: how far apart they are, what state and weights cost, how a lost rank is told.

    python bench/sharded.py          # 1, 2 and 3 ranks over gloo on this machine; a minute of one core's time
    python bench/sharded.py --width 512

A random model of four layers and made-up rollouts. Differences are the largest of any number, against the trainer of
one machine (`ponder/train/distributed.py`) without workers; a step is forward, backward, clip and AdamW over six packs.
Ranks share the cores: seconds here say what a call costs beside another, not how training scales.
"""

from __future__ import annotations

import argparse
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ponder.models.tokenizer import ByteTokenizer
from ponder.models.transformer import ModelConfig, Transformer
from ponder.train.batches import Batch, Example, micro_batches
from ponder.train.distributed import Trainer
from ponder.train.local_ranks import local_ranks
from ponder.train.losses import LossConfig, token_weights
from ponder.train.policy import Policy
from ponder.train.publish import WeightStore
from ponder.train.replica import PolicyLoss
from ponder.train.sharded import RankError, ShardedLearner

LOSS = LossConfig(average="token")
TIMEOUT = 10.0  # seconds that a rank waits for one that hangs


def new_model(width: int) -> Transformer:
    model = Transformer(
        ModelConfig(
            vocab_size=512, hidden_size=width, intermediate_size=3 * width, num_hidden_layers=4,
            num_attention_heads=4, num_key_value_heads=2, head_dim=width // 4, max_position_embeddings=256,
        )
    )  # fmt: skip
    model.init_weights(0)
    return model


def rollouts(step: int) -> list[Batch]:
    generator = torch.Generator().manual_seed(step)
    made = []
    for _ in range(6):
        prompt = tuple(torch.randint(512, (11,), generator=generator).tolist())
        for _ in range(4):
            n = int(torch.randint(5, 40, (1,), generator=generator))
            ids = tuple(torch.randint(512, (n,), generator=generator).tolist())
            logprobs = tuple((-6.2 + 0.1 * torch.randn(n, generator=generator)).tolist())
            made.append(
                Example(
                    prompt_ids=prompt, token_ids=ids, trained=(True,) * n, sampler_logprobs=logprobs,
                    advantage=float(torch.randn((), generator=generator)),
                )
            )  # fmt: skip
    weights = token_weights([example.num_trained for example in made], LOSS, max_tokens=64)
    return micro_batches([replace(e, weight=w) for e, w in zip(made, weights, strict=True)], max_tokens=120)


def steps(trainer: Any, first: int, last: int, *, max_norm: float = 0.5) -> None:
    for step in range(first, last):
        trainer.backward(rollouts(step), PolicyLoss(LOSS, 1.0))
        trainer.step(lr=1e-3, max_norm=max_norm)


def apart(left: dict[str, Tensor], right: dict[str, Tensor], kind: str) -> float:
    return max((left[n].double() - right[n].double()).abs().max().item() for n in left if n.startswith(kind))


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    begun = time.monotonic()
    found = work()
    return time.monotonic() - begun, found


def against_one_process(width: int, world: int, folder: Path) -> str:
    """A row of the first table. The state after three steps lies in `folder` afterwards."""
    one, six = Trainer(new_model(width), num_workers=0), Trainer(new_model(width), num_workers=0)
    steps(one, 0, 1, max_norm=0.0)
    steps(six, 0, 6)
    state = folder / f"state{world}" / "state.safetensors"
    with opened(new_model(width), world, folder / f"first{world}") as learner:
        steps(learner, 0, 1, max_norm=0.0)
        gradient = 10 * apart(learner.tensors(), one.tensors(), "exp_avg/")
        size = 10 * max(x.abs().max().item() for n, x in one.tensors().items() if n.startswith("exp_avg/"))
    with opened(new_model(width), world, folder / f"second{world}") as learner:
        seconds, _ = timed(lambda: steps(learner, 0, 3))
        saving, _ = timed(lambda: learner.save_state(state, {"facts": "{}"}))
        steps(learner, 3, 6)
        final = learner.tensors()
    resumed = []
    for number, other in enumerate((world, world % 3 + 1)):
        with opened(new_model(width), other, folder / f"again{world}{number}") as learner:
            learner.load_state(state)
            steps(learner, 3, 6)
            resumed.append(apart(learner.tensors(), final, "weights/"))
    told = [f"{gradient:.1e} of {size:.1e}", *(f"{x:.1e}" for x in (apart(final, six.tensors(), "weights/"), *resumed))]
    return f"| {world} | {' | '.join(told)} (in {world % 3 + 1}) | {seconds / 3:.2f} | {saving:.3f} |"


@contextmanager
def opened(
    model: Transformer, world: int, folder: Path, *, full_every: int = 1, timeout: float = 300.0
) -> Iterator[ShardedLearner]:
    policy = Policy(model, ByteTokenizer(), None, "", None, ())
    store = WeightStore(folder / "weights", full_every=full_every)
    with (
        local_ranks(world) as ranks,
        ShardedLearner(policy, ranks, folder=folder / "start", store=store, timeout=timeout) as learner,
    ):
        yield learner


def publishing(width: int, folder: Path) -> None:
    """Whole versions and deltas: bytes in the folder, seconds to write and to read with verification."""
    print("\n| version | lr | bytes | published in s | read in s |\n|---|---|---|---|---|")
    with opened(new_model(width).bfloat16(), 2, folder / "publish", full_every=4) as learner:
        for version, lr in enumerate((0.0, 1e-4, 1e-6), start=1):
            learner.backward(rollouts(version), PolicyLoss(LOSS, 1.0))
            learner.step(lr=lr, max_norm=0.5)
            writing, weights = timed(lambda version=version: learner.publish(version))
            reading, _ = timed(lambda weights=weights: len(weights))
            size = sum(file.stat().st_size for file in learner.store.place(version).iterdir())
            kind = "whole" if version == 1 else "delta"
            print(f"| {version}, {kind} | {lr:g} | {size:,} | {writing:.3f} | {reading:.3f} |", flush=True)


def lost(width: int, folder: Path, sign: signal.Signals) -> str:
    with opened(new_model(width), 2, folder / sign.name, timeout=TIMEOUT) as learner:
        steps(learner, 0, 1)
        process = learner.ranks[1].process  # type: ignore[attr-defined]
        os.kill(process.pid, sign)
        begun = time.monotonic()
        try:
            steps(learner, 1, 2)
        except RankError as error:
            return f"{sign.name}: {time.monotonic() - begun:.2f} s: {error}"
    return f"{sign.name}: nothing was noticed"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, default=128, help="of the model; 128 = 0.9 million weights")
    width = parser.parse_args().width
    torch.set_num_threads(1)
    print(f"{new_model(width).num_parameters / 1e6:.2f} million weights, {len(rollouts(0))} packs a step\n")
    print("| ranks | gradient | weights after 6 steps | resumed | in another world | s a step | s to save |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for world in (1, 2, 3):
            print(against_one_process(width, world, folder), flush=True)
        publishing(width, folder)
        print()
        for sign in (signal.SIGKILL, signal.SIGSTOP):
            print(lost(width, folder, sign), flush=True)


if __name__ == "__main__":
    main()
