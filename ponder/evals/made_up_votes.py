"""A synthetic voter of known taste, for finding out whether a table of ratings says what is so.

    taste = Taste(strengths={"a": 1100, "b": 1000}, answer_sd=1.0)
    rows = made_up_battles(taste, num=200, seed=0)          # battles with made-up texts
    votes = synthetic_votes(rows, taste, voters=3, seed=0)  # each of three voters on each battle

A vote is drawn from the strengths and from the luck of the two answers, which all voters on a battle share: in log-odds
a normal number of deviation `answer_sd`. That is what makes votes on one question belong together. `ties` is the chance
of a tie, whoever is better; `left` what being shown left is worth, in points.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from ponder.config import ConfigError
from ponder.evals.bradley_terry import POINTS
from ponder.types import Battle, BattleSide, Choice, Message, Vote, text_seed


@dataclass(frozen=True, kw_only=True)
class Taste:
    """How synthetic voters decide. ties: the chance of a tie; left: what being shown left is worth."""

    strengths: Mapping[str, float]  # in points
    answer_sd: float = 0.0  # in log-odds
    ties: float = 0.0
    left: float = 0.0  # in points

    def __post_init__(self) -> None:
        if len(self.strengths) < 2:
            raise ConfigError("a taste needs the strengths of two models or more: --strength a=1100 --strength b=1000")
        if not 0 <= self.ties < 1 or not self.answer_sd >= 0:
            raise ConfigError(f"ties={self.ties} must lie in [0, 1), answer_sd={self.answer_sd} be 0 or more")
        if not all(map(math.isfinite, (*self.strengths.values(), self.answer_sd, self.left))):
            raise ConfigError("strengths, answer_sd and left must be finite numbers")


def made_up_battles(
    taste: Taste, *, num: int, seed: int = 0, domains: Sequence[str] = ("mathematics", "writing")
) -> list[Battle]:
    """Battles of pairs and sides drawn evenly. Texts say what they are."""
    pairs = list(itertools.combinations(sorted(taste.strengths), 2))
    found = []
    for i in range(num):
        draw = Random(f"battle/{seed}/{i}")
        pair = list(draw.choice(pairs))
        draw.shuffle(pair)
        left, right = (
            BattleSide(model=model, answer=f"Made-up answer {draw.randrange(10**9)}. " * draw.randint(1, 5))
            for model in pair
        )
        found.append(
            Battle(
                id=f"battle_{text_seed('made up', seed, i):016x}", domain=domains[i % len(domains)], left=left,
                prompt=(Message(role="user", content=f"Made-up question {i} of seed {seed}"),), right=right,
                asked_by="synthetic", probability=1 / len(pairs), seed=seed,
            )
        )  # fmt: skip
    return found


def synthetic_votes(
    battles: Iterable[Battle], taste: Taste, *, voters: int = 1, seed: int = 0, done: Iterable[tuple[str, str]] = ()
) -> list[Vote]:
    """Each voter on each battle between models whose strengths are known. done: (battle, voter) that are cast."""
    cast = set(done)
    found = []
    for battle in battles:
        if battle.left.model not in taste.strengths or battle.right.model not in taste.strengths:
            continue
        luck = Random(f"luck/{seed}/{battle.id}").gauss(0, 1) * taste.answer_sd
        gap = (taste.strengths[battle.left.model] - taste.strengths[battle.right.model] + taste.left) / POINTS + luck
        for number in range(1, voters + 1):
            voter = f"synthetic {number}"
            if (battle.id, voter) not in cast:
                draw = Random(f"vote/{seed}/{battle.id}/{voter}")
                found.append(
                    Vote(
                        id=f"vote_{text_seed('synthetic', seed, battle.id, voter):016x}", battle=battle.id,
                        voter=voter, kind="synthetic", choice=_choice(draw, gap, taste.ties),
                    )
                )  # fmt: skip
    return found


def _choice(draw: Random, gap: float, ties: float) -> Choice:
    if draw.random() < ties:
        return "tie"
    return "left" if draw.random() < 0.5 + 0.5 * math.tanh(gap / 2) else "right"  # the logistic, without overflow
