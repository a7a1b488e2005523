"""kind = "preference": a reward model from comparisons of two answers, over a frozen network or a trained one.

    ponder scorer preference_smollm2_cpu                                  # HH-RLHF (harmless), frozen: minutes
    ponder scorer preference_smollm2_cpu trunk=trained lora_rank=16 lr=1e-4 comparisons=file:votes.jsonl out=runs/rm

frozen: hidden states of every answer are computed once (RUN/features/, a stopped run goes on), heads are fitted on them
by Newton's method in seconds, the penalty is the one with the least loss on the dev split; `members` of them, each on
openings drawn again with replacement, are an ensemble. trained: all weights or an adapter, by the loss of
train/preference_loss.py; stops where the dev split's accuracy is best.

Shift and scale come from the dev split's answers, which nothing was trained on. The report split is not read at all:
`ponder prefer RUN` measures on it. RUN/scorer/trained_on.txt has the hashes of the openings that were trained on or
chosen by, so that a measurement on them can be refused.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ponder.config import setting
from ponder.files import write_atomic
from ponder.models import hub
from ponder.models.tokenizer import Tokenizer
from ponder.models.transformer import Transformer
from ponder.scorers.base import TokenScorer
from ponder.scorers.bradley_terry import LinearReward, fit, pair_losses
from ponder.scorers.outcome import BIAS, WEIGHT
from ponder.scorers.preference import PreferenceScorer, new_preference_head
from ponder.scorers.preference_ensemble import PreferenceEnsemble
from ponder.scorers.reader import Pool, Reader
from ponder.scorers.reward import TRAINED_ON
from ponder.stopping import GracefulStop
from ponder.tasks.preferences import clustered_share, load_comparisons
from ponder.train.distributed import Trainer
from ponder.train.preference_examples import Grouped, JudgedPrompt, Judgements, comparison_data
from ponder.train.preference_loss import PreferenceLoss, pair_batches
from ponder.train.scorer_network import Learning, train_network
from ponder.train.scorer_recipe import Arrays, CommonConfig, Consensus, Cost, Data, ScorerJob, ScorerRecipe, Trained

PENALTIES = (10.0, 100.0, 1000.0, 10000.0)
CHUNK = 64  # prompts whose features are computed between two looks at the disk


@dataclass(frozen=True, kw_only=True)
class PreferenceConfig(CommonConfig):
    """A run of `ponder scorer` of kind preference: every key, with its bounds."""

    comparisons: str = setting("hh", "a set by name, hub:NAME or file:PATH", also="dataset dataset_name train_dataset")
    size: int = setting(1_000_000, "comparisons that are trained on, at most", least=1, also="max_samples")
    trunk: Literal["frozen", "trained"] = setting("frozen", "the network below the head")
    layers: tuple[int, ...] = setting(
        (), "of a frozen network: whose outputs are read, from 1; empty = the last", least=1
    )
    pool: Pool = setting("mean", "the mean over the answer's tokens, or the last one's state")
    label_smoothing: float = setting(0.0, "share of the labels that are taken to be wrong", least=0, below=0.5)
    margin: float = setting(0.0, "of a recorded strength of 1", least=0)
    centre: float = setting(0.01, "weight of (r_a + r_b)^2", least=0, also="center_rewards_coefficient")
    members: int = setting(1, "of an ensemble of heads over a frozen network", least=1, most=64)
    reduce: Literal["min", "mean"] = setting("min", "what an ensemble says of its members")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.trunk == "trained" and (self.layers or self.members > 1):
            raise ValueError(
                "layers and members are of a frozen network: a trained one reads its last layer, and an ensemble of "
                "trained ones is made of their folders (ponder.scorers.preference_ensemble.save_ensemble)"
            )


def data(config: PreferenceConfig) -> Data[JudgedPrompt]:
    return comparison_data(config.comparisons, held_out=config.held_out, size=config.size)


Job = ScorerJob[PreferenceConfig, JudgedPrompt]


def train(job: Job) -> Trained:
    """Also writes TRAINED_ON, the openings of all prompts that it saw, dev split included, so that an exam can
    leave them out."""
    openings = sorted({example.opening for example in (*job.train, *job.held)})
    # before the first scorer: of a run that is stopped, the best one so far is there to be measured
    write_atomic(job.folder / TRAINED_ON, "\n".join(openings) + "\n")
    return (_frozen if job.config.trunk == "frozen" else _trained)(job)


# ---- heads over a frozen network -----------------------------------------------------------------------------------


def _frozen(job: Job) -> Trained:
    config = job.config
    model, tokenizer = hub.load(job.start, dtype=getattr(torch, config.dtype))
    reader = Reader(
        model, tokenizer, layers=config.layers, pool=config.pool, max_tokens=config.max_tokens_per_batch
    )  # fmt: skip
    train, held = Grouped.of(job.train, reader), Grouped.of(job.held, reader)
    kept = job.run.folder / "features"
    x, other = (features(reader, part, kept, job.policy) for part in (train, held))
    options = {"label_smoothing": config.label_smoothing, "margin": config.margin}
    truth = Judgements.of(held.examples)
    members, losses = [], {}
    for number in range(config.members):
        counts = resampled(train.examples, Random(f"{config.seed}/member/{number}")) if config.members > 1 else None
        head, losses[number] = best_head(
            x, Judgements.of(train.examples, **options), other, truth, config.centre, counts
        )
        raw = head.rewards(other)
        members.append(
            PreferenceScorer(
                reader, head_tensors(head), name=config.scorer_name, model=str(job.start.resolve()),
                shift=float(raw.mean()), scale=float(raw.std()) or 1.0,
            )
        )  # fmt: skip
    scorer = (
        members[0] if len(members) == 1 else PreferenceEnsemble(members, name=config.scorer_name, reduce=config.reduce)
    )
    scorer.save(job.folder)
    standard = [member.standard(member.raw_features(other)) for member in members]
    stacked = np.stack(standard)
    scores = stacked.min(0) if config.reduce == "min" else stacked.mean(0)
    if len(members) == 1:
        scores = members[0].raw_features(other)
    facts = {"too_long": train.num_too_long + held.num_too_long, "penalty": losses}
    return _by_example(job.held, held, scores), facts


def features(reader: Reader, grouped: Grouped, folder: Path, network: str) -> NDArray[np.float32]:
    """(N F) of all answers, end to end, by the network of this hash. Chunks that lie in the folder are not computed
    again."""
    folder = folder / _identity(reader, grouped, network)
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    with GracefulStop() as stop:
        for number, start in enumerate(range(0, len(grouped.groups), CHUNK)):
            path, groups = folder / f"{number:05}.npy", grouped.groups[start : start + CHUNK]
            chunk = _known(path, rows=sum(map(len, groups)))
            if chunk is not None:
                found.append(chunk)
                continue
            found.append(np.concatenate(reader.features(groups)))
            content = io.BytesIO()
            np.save(content, found[-1])
            write_atomic(path, content.getvalue())
            if stop.requested:
                raise KeyboardInterrupt
    return np.concatenate(found)


def _known(path: Path, *, rows: int) -> NDArray[np.float32] | None:
    """A chunk that was computed before; None where there is none, or it is damaged: then it is computed again."""
    try:
        chunk: NDArray[np.float32] = np.load(path)
    except (OSError, ValueError, EOFError):
        return None
    return chunk if chunk.dtype == np.float32 and chunk.ndim == 2 and len(chunk) == rows else None


def _identity(reader: Reader, grouped: Grouped, network: str) -> str:
    """What features depend on: another network, layer or answer has another folder."""
    config = (reader.layers, reader.pool, reader.model.dtype, network)
    digest = hashlib.sha256(repr(config).encode())
    for group in grouped.groups:
        for array in (group.prompt_ids, group.token_ids, group.lengths):
            digest.update(array.tobytes())
    return digest.hexdigest()[:12]


def best_head(
    x_NF: NDArray[np.float32],
    judged: Judgements,
    other_NF: NDArray[np.float32],
    truth: Judgements,
    centre: float,
    counts: NDArray[np.int64] | None = None,
) -> tuple[LinearReward, dict[str, float]]:
    """The head whose penalty has the least loss on the other answers, and every penalty's loss. counts: how often each
    example of `judged` was drawn."""
    pairs = judged.pairs
    weight = pairs.weight if counts is None else pairs.weight * counts[judged.example]
    heads = {
        l2: fit(x_NF, pairs.first, pairs.second, pairs.target, l2=l2, weight=weight, margin=pairs.margin, centre=centre)
        for l2 in PENALTIES
    }
    losses = {l2: mean_loss(head.rewards(other_NF), truth) for l2, head in heads.items()}
    best = min(losses, key=lambda l2: losses[l2])
    return heads[best], {f"{l2:g}": loss for l2, loss in losses.items()}


def mean_loss(rewards_N: NDArray[np.float64], judged: Judgements) -> float:
    """Log loss of the pairs, every prompt counting the same."""
    pairs = judged.pairs
    losses = pair_losses(rewards_N[pairs.first] - rewards_N[pairs.second], pairs.target)
    return float(np.average(losses, weights=pairs.weight))


def resampled(examples: Sequence[JudgedPrompt], random: Random) -> NDArray[np.int64]:
    """How often each example is in a resample of openings with replacement."""
    openings = sorted({example.opening for example in examples})
    drawn = dict.fromkeys(openings, 0)
    for opening in random.choices(openings, k=len(openings)):
        drawn[opening] += 1
    return np.array([drawn[example.opening] for example in examples], np.int64)


def head_tensors(head: LinearReward) -> dict[str, Tensor]:
    """A fitted head as the float32 tensors of a `PreferenceScorer`, with a bias of 0."""
    named = {"mean": head.mean, "scale": head.scale, "weight": head.weights, "bias": np.zeros(1)}
    return {name: torch.from_numpy(np.asarray(value)).float() for name, value in named.items()}


# ---- a network that is trained -------------------------------------------------------------------------------------


def _trained(job: Job) -> Trained:
    config = job.config
    train, held = _as_ids(job)
    loss = PreferenceLoss(config.pool, config.centre)
    truth, limit = Judgements.of(held.examples), config.max_tokens_per_batch

    def some(indices: Sequence[int], seed: int) -> list[Any]:
        examples, groups = [train.examples[i] for i in indices], [train.groups[i] for i in indices]
        return pair_batches(
            examples, groups, max_tokens=limit, label_smoothing=config.label_smoothing, margin=config.margin
        )

    def examine(trainer: Trainer) -> Arrays:
        parts = pair_batches(held.examples, held.groups, max_tokens=limit)
        scores = torch.cat(trainer.values(parts, loss)).double().numpy()
        return _by_example(job.held, held, scores)

    def measure(scores: Arrays) -> tuple[float, float]:
        rewards = np.concatenate(scores)
        rewards = rewards[~np.isnan(rewards)]  # of the answers that were read, which `truth` numbers
        return accuracy(rewards, truth)[0], mean_loss(rewards, truth)

    def save(model: Transformer, tokenizer: Tokenizer, head: Mapping[str, Tensor], scores: Arrays) -> TokenScorer:
        raw = np.concatenate(scores)
        raw = raw[np.isfinite(raw)]
        own = new_preference_head(model.config.hidden_size) | {"weight": head[WEIGHT], "bias": head[BIAS]}
        return PreferenceScorer(
            Reader(model, tokenizer, pool=config.pool), own, name=config.scorer_name,
            shift=float(raw.mean()), scale=float(raw.std()) or 1.0,
        )  # fmt: skip

    learning = Learning(
        count=len(train.examples), loss=loss, batches=some, examine=examine, metric="accuracy", measure=measure,
        save=save,
    )  # fmt: skip
    scores, facts = train_network(job, learning)
    return scores, facts | {"too_long": train.num_too_long + held.num_too_long}


def _as_ids(job: Job) -> tuple[Grouped, Grouped]:
    """The examples as the network spells them; it is let go before training loads its own."""
    reader = Reader(*hub.load(job.start, dtype=None), pool=job.config.pool)
    return Grouped.of(job.train, reader), Grouped.of(job.held, reader)


# ---- what is said of it --------------------------------------------------------------------------------------------


def _by_example(
    held: Sequence[JudgedPrompt], read: Grouped, scores_N: NDArray[np.float64]
) -> list[NDArray[np.float64]]:
    """The scores of each held-out example's answers; nan for those that were too long."""
    ends = np.cumsum([len(example.answers) for example in read.examples])[:-1]
    of_prompt = {
        example.prompt: dict(zip(example.answers, part.tolist(), strict=True))
        for example, part in zip(read.examples, np.split(scores_N, ends), strict=True)
    }
    return [np.array([of_prompt.get(e.prompt, {}).get(text, np.nan) for text in e.answers]) for e in held]


def accuracy(rewards_N: NDArray[np.float64], judged: Judgements) -> tuple[float, NDArray[np.float64]]:
    """(the share of decided pairs that are ordered as people did, each of them); equal rewards are half right."""
    pairs = judged.pairs
    decided = pairs.target != 0.5
    difference = (rewards_N[pairs.first] - rewards_N[pairs.second])[decided]
    right = 0.5 + 0.5 * np.sign(difference) * np.sign(pairs.target[decided] - 0.5)
    return (float(right.mean()) if len(right) else float("nan")), right


def report(job: Job, scores: Arrays, consensus: Consensus | None) -> dict[str, Any]:
    """Of the dev split, which chose the penalty or the moment to stop: `ponder prefer` measures on the report split."""
    judged, rewards = Judgements.of(job.held), np.concatenate(scores)
    share, right = accuracy(rewards, judged)
    decided = judged.pairs.target != 0.5
    known = np.isfinite(right)
    clusters = [job.held[i].opening for i in judged.example[decided][known]]
    _, low, high = clustered_share(right[known], clusters) if known.any() else (share, share, share)
    return {
        "dev": {
            "accuracy": float(right[known].mean()) if known.any() else float("nan"), "low": low, "high": high,
            "comparisons": int(known.sum()), "ties": int((~decided).sum()), "unread": int((~known).sum()),
        },
        "train_prompts": len(job.train),
        "train_comparisons": sum(len(example.pairs) for example in job.train),
        "notes": list(load_comparisons(job.config.comparisons).notes),
    }  # fmt: skip


def headline(result: dict[str, Any]) -> str:
    dev = result["dev"]
    return (
        f"on {dev['comparisons']} comparisons of the dev split, which chose it: {dev['accuracy']:.1%} "
        f"({dev['low']:.1%} to {dev['high']:.1%}) as people did; `ponder prefer` measures on others"
    )


def cost(config: PreferenceConfig) -> Cost:
    """Every answer is read once, or trained on in each epoch; answers are taken at 64 tokens, prompts at 64."""
    found = load_comparisons(config.comparisons, split="train", held_out=config.held_out, size=config.size)
    prompts = len({comparison.prompt for comparison in found.comparisons})
    frozen = config.trunk == "frozen"
    return Cost(
        prompts=prompts, completions=2 * len(found), length=64, read=1.0 if frozen else 0.0,
        trained=0.0 if frozen else float(config.num_epochs),
    )  # fmt: skip


RECIPE = ScorerRecipe(config=PreferenceConfig, data=data, train=train, report=report, headline=headline, cost=cost)
