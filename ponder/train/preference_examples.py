"""Comparisons as a reward model learns from them: one example a prompt, with its different answers and all its pairs.

    judged(comparisons)
    -> [JudgedPrompt(prompt=..., answers=("4", "5", "four"), pairs=(Pair(0, 1, 1.0), Pair(2, 0, 0.5)), ...)]

Pairs of one prompt are one example, in one packed pass and one step of the optimizer, and weigh 1 together: shuffled
over an epoch, a prompt with many answers would be learnt by heart (arXiv:2203.02155, section 3.4).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ponder.config import ConfigError
from ponder.runs import Run
from ponder.scorers.bradley_terry import Pairs, smoothed
from ponder.scorers.packing import CompletionGroup
from ponder.scorers.reader import Reader
from ponder.tasks.preferences import ComparisonSet, load_comparisons, opening
from ponder.train.scorer_recipe import Data, Progress
from ponder.types import Comparison, Message


class Pair(NamedTuple):
    """Two answers of one prompt, by number."""

    first: int
    second: int
    target: float  # 1: the first is preferred, 0: the second, 0.5: a tie
    strength: float = 0.0  # 0 = not recorded


@dataclass(frozen=True, kw_only=True)
class JudgedPrompt:
    """A prompt, its different answers, and the preferences of people."""

    prompt: tuple[Message, ...]
    answers: tuple[str, ...]
    pairs: tuple[Pair, ...]
    opening: str  # what folds and resamples are taken over


TARGET = {"a": 1.0, "b": 0.0, "tie": 0.5}


def judged(comparisons: Iterable[Comparison]) -> list[JudgedPrompt]:
    """Comparisons by prompt, in the order in which prompts appear."""
    by_prompt: dict[tuple[Message, ...], list[Comparison]] = {}
    for comparison in comparisons:
        by_prompt.setdefault(comparison.prompt, []).append(comparison)
    found = []
    for prompt, rows in by_prompt.items():
        number = {text: i for i, text in enumerate(dict.fromkeys(text for row in rows for text in (row.a, row.b)))}
        pairs = [Pair(number[r.a], number[r.b], TARGET[r.preferred], r.strength or 0.0) for r in rows]
        found.append(JudgedPrompt(prompt=prompt, answers=tuple(number), pairs=tuple(pairs), opening=opening(rows[0])))
    return found


@dataclass(frozen=True)
class Judgements:
    """The pairs of many examples over one numbering of all their answers, end to end."""

    pairs: Pairs
    example: NDArray[np.int64]  # (P,) whose pair it is

    @classmethod
    def of(cls, examples: Sequence[JudgedPrompt], *, label_smoothing: float = 0.0, margin: float = 0.0) -> Judgements:
        """Every example weighs 1 in total. margin: of a strength of 1."""
        sizes = [len(example.answers) for example in examples]
        starts = np.cumsum([0, *sizes])
        rows = [(i, starts[i], pair) for i, example in enumerate(examples) for pair in example.pairs]
        target = np.array([pair.target for _, _, pair in rows])
        pairs = Pairs.of(
            [start + pair.first for _, start, pair in rows], [start + pair.second for _, start, pair in rows],
            smoothed(target, label_smoothing), [1 / len(examples[i].pairs) for i, _, _ in rows],
            [margin * pair.strength if pair.target != 0.5 else 0.0 for _, _, pair in rows],
        )  # fmt: skip
        return cls(pairs, np.array([i for i, _, _ in rows], np.int64))


@dataclass
class Grouped:
    """Examples as token ids, and how many did not fit."""

    examples: list[JudgedPrompt] = field(default_factory=list)
    groups: list[CompletionGroup] = field(default_factory=list)
    num_too_long: int = 0  # comparisons

    @classmethod
    def of(cls, examples: Sequence[JudgedPrompt], reader: Reader) -> Grouped:
        """A pair is left out, and counted, where one of its answers does not fit after the prompt: nothing is cut."""
        found = cls()
        for example in examples:
            group = reader.group(example.prompt, example.answers)
            fits = reader.fits(group)
            pairs = tuple(pair for pair in example.pairs if fits[pair.first] and fits[pair.second])
            found.num_too_long += len(example.pairs) - len(pairs)
            if not pairs:
                continue
            if not fits.all():
                kept = [i for i in range(len(fits)) if fits[i]]
                number = {old: new for new, old in enumerate(kept)}
                pairs = tuple(pair._replace(first=number[pair.first], second=number[pair.second]) for pair in pairs)
                answers = tuple(example.answers[i] for i in kept)
                example = JudgedPrompt(prompt=example.prompt, answers=answers, pairs=pairs, opening=example.opening)
                group = reader.group(example.prompt, answers)
            found.examples.append(
                example if pairs is example.pairs else JudgedPrompt(**{**vars(example), "pairs": pairs})
            )
            found.groups.append(group)
        if not found.groups:
            raise ConfigError(f"none of {found.num_too_long} comparisons fits into the window of the network")
        return found


def comparison_data(spec: str, *, held_out: float, size: int | None) -> Data[JudgedPrompt]:
    """(train, dev) of a set; its report split is never read."""
    train = load_comparisons(spec, split="train", held_out=held_out, size=size)
    dev = load_comparisons(spec, split="dev", held_out=held_out)
    if all(c.preferred == "tie" for c in train.comparisons):
        raise ConfigError(f"{spec}: every comparison that may be trained on is a tie; there is nothing to tell apart")

    def examples(
        run: Run, models: Sequence[Path], on_draw: Progress | None
    ) -> tuple[list[JudgedPrompt], list[JudgedPrompt]]:
        return judged(train.comparisons), judged(dev.comparisons)

    return Data({f"the comparisons of {spec}": contents_hash([train, dev])}, examples)


def contents_hash(sets: Sequence[ComparisonSet]) -> str:
    """Of everything in the sets that a reward model learns from, in their order."""
    digest = hashlib.sha256()
    for comparison in (row for found in sets for row in found.comparisons):
        prompt = [(message.role, message.content) for message in comparison.prompt]
        row = [comparison.id, prompt, comparison.a, comparison.b, comparison.preferred, comparison.strength]
        digest.update(json.dumps(row).encode() + b"\n")
    return digest.hexdigest()
