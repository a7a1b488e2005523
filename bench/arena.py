"""Do the arena's intervals cover what they claim? Synthetic players of known strength, many repetitions.

    python bench/arena.py [--repeats 1000] [--quick]
    python bench/arena.py --pandalm $PONDER_DATA/preference/pandalm_test.jsonl     the table of real votes of people

Five players 50 points apart. An answer has luck of its own, shared by all votes on it: that makes votes on one question
belong together. The truth is what the same fit finds in infinitely many votes (luck draws chances towards one half).
Printed: how often 95 % intervals hold the truth, over the four differences between neighbours and the five ratings,
with votes taken as separate and clustered by question and voter. Then how well found strengths correlate, and how wide
the gap between best and worst is by the number of votes.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))  # this tree, whatever is installed

from ponder.evals.arena import analyse
from ponder.evals.arena_text import lines_of
from ponder.evals.bradley_terry import POINTS, BradleyTerry, Games, fit
from ponder.evals.style import style_of
from ponder.evals.votes import Ballot

STRENGTHS = np.array([1100.0, 1050.0, 1000.0, 950.0, 900.0])
NAMES = tuple("abcde")
PAIRS = np.array(list(itertools.combinations(range(len(NAMES)), 2)))


@dataclass(frozen=True)
class Design:
    name: str
    questions: int
    votes: int  # a question and pair
    answer_sd: float  # of an answer's luck, in log-odds
    pairs: int = 1  # of answers to one question that are compared
    voters: int = 60  # in all; 0 = each vote is another's
    ties: float = 0.1


DESIGNS = (
    Design("200 questions x 1 vote", 200, 1, 1.0),
    Design("200 questions x 3 votes", 200, 3, 1.0),
    Design("200 x 3, voters unknown", 200, 3, 1.0, voters=0),
    Design("66 questions x 9 votes", 66, 9, 1.0),
    Design("60 questions x 10 pairs x 3", 60, 3, 1.0, pairs=10),
)


def draw(design: Design, rng: np.random.Generator) -> Games:
    """Votes of one repetition."""
    num = design.questions * design.pairs
    which = np.concatenate([rng.permutation(len(PAIRS))[: design.pairs] for _ in range(design.questions)])
    questions = np.repeat(np.arange(design.questions), design.pairs)
    first, second = PAIRS[which].T
    swap = rng.random(num) < 0.5
    first, second = np.where(swap, second, first), np.where(swap, first, second)
    luck = rng.normal(0, design.answer_sd, (design.questions, len(NAMES)))  # of each answer
    gap = (STRENGTHS[first] - STRENGTHS[second]) / POINTS + luck[questions, first] - luck[questions, second]
    first, second, questions, gap = (np.repeat(each, design.votes) for each in (first, second, questions, gap))
    won = rng.random(len(gap)) < 1 / (1 + np.exp(-gap))
    score = np.where(rng.random(len(gap)) < design.ties, 0.5, won.astype(float))
    voters = rng.integers(0, design.voters, len(gap)) if design.voters else np.arange(len(gap))
    return Games(names=NAMES, first=first, second=second, score=score, questions=questions, voters=voters)


def truth(design: Design) -> np.ndarray:
    """Ratings that the fit finds where every pair met infinitely often."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    gaps = (STRENGTHS[PAIRS[:, 0]] - STRENGTHS[PAIRS[:, 1]]) / POINTS
    luck = math.sqrt(2) * design.answer_sd * nodes  # of both answers
    won = (weights / weights.sum()) @ (1 / (1 + np.exp(-(gaps[None, :] + luck[:, None]))))
    some = np.arange(len(PAIRS))
    games = Games(names=NAMES, first=PAIRS[:, 0], second=PAIRS[:, 1], questions=some, voters=some,
                  score=design.ties / 2 + (1 - design.ties) * won)  # fmt: skip
    return POINTS * fit(games).strengths


def holds(found: BradleyTerry, ratings: np.ndarray) -> list[bool]:
    """Of each interval whether the truth is in it: differences between neighbours, then ratings."""
    differences = [(found.difference(i, i + 1), ratings[i] - ratings[i + 1]) for i in range(len(NAMES) - 1)]
    own = [(found.rating(i), 1000 + ratings[i] - ratings.mean()) for i in range(len(NAMES))]
    return [estimate.low <= value <= estimate.high for estimate, value in (*differences, *own)]


def separate(games: Games) -> Games:
    """The same votes as if none had to do with another."""
    alone = np.arange(len(games))
    return replace(games, questions=alone, voters=alone)


def coverage(design: Design, repeats: int, *, seed: int = 0) -> tuple[float, float, float]:
    """Shares of intervals that hold the truth: per vote, clustered; and the standard error of the second."""
    rng, ratings = np.random.default_rng(seed), truth(design)
    per_vote, clustered = [], []
    for _ in range(repeats):
        games = draw(design, rng)
        per_vote.append(np.mean(holds(fit(separate(games)), ratings)))
        clustered.append(np.mean(holds(fit(games), ratings)))
    return float(np.mean(per_vote)), float(np.mean(clustered)), float(np.std(clustered) / math.sqrt(repeats))


def pandalm(path: Path) -> Iterator[Ballot]:
    """Three votes of people a row, who are not known; the models stand in the ids, in the order of the answers."""
    for line in path.read_text().splitlines():
        row = json.loads(line)
        names = re.fullmatch(r"pandalm-\d+-(.+)_(.+)", row["id"])
        assert names is not None, row["id"]
        styles = [style_of(str(row[name])) for name in ("response_a", "response_b")]  # six answers are `true`
        for vote in row["votes"]:
            yield Ballot(
                left=names[1], right=names[2], choice=("tie", "left", "right")[vote], question=row["problem"],
                left_style=styles[0], right_style=styles[1], battle=row["id"],
            )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=1000)
    parser.add_argument("--quick", action="store_true", help="few repetitions: does it run")
    parser.add_argument("--pandalm", type=Path, help="rate the models of this file instead")
    given = parser.parse_args()
    if given.pandalm:
        print("\n".join(lines_of(analyse(list(pandalm(given.pandalm))))))
        return
    repeats = 20 if given.quick else given.repeats
    print(f"coverage of 95 % intervals, {repeats} repetitions each, seed 0")
    print(f"{'design':<30} {'per vote':>9} {'clustered':>10} {'95 %':>14}")
    for design in DESIGNS:
        per_vote, clustered, error = coverage(design, repeats)
        low, high = clustered - 1.96 * error, clustered + 1.96 * error
        print(f"{design.name:<30} {per_vote:>8.1%} {clustered:>9.1%} {f'{low:.1%} to {high:.1%}':>16}")
    print("\nbest minus worst by votes, one a question: half of the 95 % interval, and the correlation with the truth")
    for num in (60, 200, 1000, 3000):
        design = Design("", num, 1, 0.0)
        rng, ratings = np.random.default_rng(1), truth(design)
        halves, alike = [], []
        for _ in range(max(10, repeats // 10)):
            found = fit(draw(design, rng))
            gap = found.difference(0, 4)
            halves.append((gap.high - gap.low) / 2)
            alike.append(np.corrcoef(found.strengths, ratings)[0, 1])
        print(f"{num:>6} votes  {np.median(halves):>6.0f} points  {np.mean(alike):.3f}")


if __name__ == "__main__":
    main()
