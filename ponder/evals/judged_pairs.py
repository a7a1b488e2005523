"""Comparisons that a language model makes: pairs of answers, each shown in both orders.

    found = await judge_pairs(pairs_of(comparisons), engine, params=params)      # JudgedPair(...), ...
    report = summarise("j", leanings(comparisons, found), comparison_set)        # its exam, see evals/preference.py
    append_jsonl(path, rows_of(found, name="j"))                                 # for `ponder scorer`

Pairs come from a set of comparisons, whose people's word is never shown, or from a bank: answers of the policy that is
to be rewarded. What holds in both orders is the preference; where the two contradict each other the order decided, and
the pair is a tie (arXiv:2306.05685); a reply that is no choice leaves the pair undecided, which is counted and in no
file. The question and the quotation are the arena's (arena_judge.py).
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np

from ponder.config import ConfigError
from ponder.evals.arena_judge import both_orders
from ponder.evals.bank import Bank
from ponder.scorers.bradley_terry import Floats
from ponder.tasks.preferences import clustered_share, opening
from ponder.types import Comparison, Engine, Message, Preferred, SamplingParams

_SIDE_BY_SIDE = 16  # pairs that are judged at a time
_MEANS: Mapping[str, Preferred] = {"A": "a", "B": "b", "C": "tie"}
_LEANS = {"a": 1.0, "b": -1.0, "tie": 0.0, None: math.nan}


@dataclass(frozen=True, kw_only=True)
class AnswerPair:
    """Two answers to one prompt that nobody has compared, or whose comparison is not looked at."""

    id: str
    prompt: tuple[Message, ...]
    a: str
    b: str


@dataclass(frozen=True, kw_only=True)
class JudgedPair:
    """A judge's word on a pair, in both orders: its liking for a place shows as a difference between them."""

    pair: AnswerPair
    in_order: Preferred | None  # with a shown first; None = the reply is no choice
    swapped: Preferred | None  # with b shown first

    @property
    def is_read(self) -> bool:
        """Whether the replies in both orders were choices."""
        return self.in_order is not None and self.swapped is not None

    @property
    def preferred(self) -> Preferred | None:
        """The preference in both orders; a tie where they differ; None where one of them cannot be read."""
        if not self.is_read:
            return None
        return self.in_order if self.in_order == self.swapped else "tie"


def pairs_of(comparisons: Iterable[Comparison]) -> list[AnswerPair]:
    """Without the preferences of people."""
    return [AnswerPair(id=c.id, prompt=c.prompt, a=c.a, b=c.b) for c in comparisons]


def pairs_of_bank(bank: Bank, *, size: int, seed: int = 0) -> list[AnswerPair]:
    """`size` pairs of different answers to one problem, no pair twice; fewer where there are no more. An empty answer
    is in none."""
    rng = Random(f"{seed}/pairs")
    drawn = []
    for problem in bank.problems:
        answers = list(dict.fromkeys(row.answer for row in bank.rows(problem.id) if row.answer.strip()))
        rng.shuffle(answers)
        drawn += [
            AnswerPair(id=f"{problem.id}/{i}-{j}", prompt=problem.prompt, a=answers[i], b=answers[j])
            for i in range(len(answers)) for j in range(i)
        ]  # fmt: skip
    if not drawn:
        raise ConfigError(f"{bank.folder} has no problem with two different answers; draw more samples")
    rng.shuffle(drawn)
    return drawn[:size]


async def judge_pairs(
    pairs: Sequence[AnswerPair], engine: Engine, *, params: SamplingParams, seed: int = 0,
    keep: Callable[[Sequence[JudgedPair]], None] = lambda found: None,
) -> list[JudgedPair]:  # fmt: skip
    """Every pair, in both orders. keep: gets them as they come."""

    async def one(pair: AnswerPair) -> JudgedPair:
        request = "\n\n".join(message.content for message in pair.prompt)
        first, second = await both_orders(engine, params, seed, request, pair.a, pair.b)
        return JudgedPair(pair=pair, in_order=_MEANS.get(first), swapped=_MEANS.get(second))

    found: list[JudgedPair] = []
    for start in range(0, len(pairs), _SIDE_BY_SIDE):
        some = await asyncio.gather(*(one(pair) for pair in pairs[start : start + _SIDE_BY_SIDE]))
        keep(some)
        found += some
    return found


def leanings(comparisons: Sequence[Comparison], found: Sequence[JudgedPair]) -> Floats:
    """As r_a - r_b of each comparison: 1 where the judge prefers a, -1 where b, 0 for a tie, nan for the unread."""
    preferred = {judged.pair.id: judged.preferred for judged in found}
    return np.array([_LEANS[preferred.get(comparison.id)] for comparison in comparisons])


def rows_of(found: Iterable[JudgedPair], *, name: str) -> list[dict[str, Any]]:
    """Lines that `load_comparisons` reads, without the undecided."""
    return [
        {
            "id": judged.pair.id, "prompt": [vars(message) for message in judged.pair.prompt], "a": judged.pair.a,
            "b": judged.pair.b, "preferred": judged.preferred, "annotator": f"judge {name}",
            "in_order": judged.in_order, "swapped": judged.swapped,
        }
        for judged in found if judged.is_read
    ]  # fmt: skip


def judged_of(row: Mapping[str, Any]) -> JudgedPair:
    """A line that `rows_of` made."""
    prompt = tuple(Message(role=message["role"], content=message["content"]) for message in row["prompt"])
    pair = AnswerPair(id=row["id"], prompt=prompt, a=row["a"], b=row["b"])
    return JudgedPair(pair=pair, in_order=row["in_order"], swapped=row["swapped"])


def order_lines(found: Sequence[JudgedPair]) -> list[str]:
    """What the place of an answer did, in words; intervals are over openings."""
    read = [judged for judged in found if judged.is_read]
    lines = [f"{len(found) - len(read)} of {len(found)} pairs are undecided: a reply is not A, B or C"]
    lines = lines if len(read) < len(found) else []
    if not read:
        return [*lines, "no reply can be read; take another model as the judge, or allow it longer answers"]
    clusters = [opening(Comparison(id="", prompt=j.pair.prompt, a="", b="", preferred="tie")) for j in read]
    share, low, high = clustered_share([float(j.in_order != j.swapped) for j in read], clusters)
    lines.append(
        f"the order of the answers decided {share:.1%} ({low:.1%} to {high:.1%}) of {len(read)} pairs; each is a tie"
    )
    first = [(j.in_order == "a") + (j.swapped == "b") for j in read]  # of its two replies, those for the first shown
    asked = sum((j.in_order != "tie") + (j.swapped != "tie") for j in read)
    if asked:
        lines.append(f"the answer shown first was preferred in {sum(first) / asked:.1%} of {asked} replies that choose")
    return lines
