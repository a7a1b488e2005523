"""Choosing which of many programs to submit: filters, clusters, scores, one submission after another. Pure; no torch.

    pool = Candidates.of(
        programs=["a", "b", "c", None],                          # samples of one problem; None: there is no program
        examples=[[True], [True], [True], [False]],              # which of the public examples each passes
        outputs=[["5", "7"], ["5", "8"], ["5", "8"], [None, None]],      # on inputs made up for the purpose
    )
    chooser = submissions(prepare(pool, Choosing(), [Goal(points=100.0)]))
    next(chooser)                 -> 1      (of the largest cluster of those that pass the examples)
    chooser.send([0.0])           -> 0      (told that sample 1 got no points, it turns to the other behaviour)

This is the procedure that o1-ioi used with 50 submissions at IOI 2024 (arXiv:2502.06807, section 3.2), with AlphaCode's
public-example filter and clusters (arXiv:2203.07814): each subtask (`Goal`) has its own clusters of samples that print
the same on all generated inputs; a cluster is worth the mean score of its members, less a penalty for every submission
already spent on it; submissions go round the unsolved subtasks, hardest first; and what disagrees with a program that
solved a smaller subtask is put last in every subtask that includes that one. Each part is a switch of `Choosing`.

What a chooser learns of hidden tests is what is sent to it: the points of its own submissions. `Candidates` has no
field for anything else. Running programs is not done here (evals/executions.py), nor is counting submissions
(evals/submissions.py). Left out: a tournament of clusters by a judge (arXiv:2510.14232).
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

FAILED = -1  # an output: there was none, as the program crashed or came to a limit
# what puts a candidate behind others, whatever its score: each outweighs all that come before it
FAILS_EXAMPLE, HAS_NO_BEHAVIOUR, DISAGREES, IS_NO_PROGRAM, EMPTY = 1, 1_000, 10_000, 100_000, 1_000_000

Codes = NDArray[np.int64]
Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Goal:
    """A subtask as a contestant knows it; a problem of all or nothing has one."""

    points: float = 1.0  # for solving it in full
    inputs: tuple[int, ...] | None = None  # the generated inputs that its constraints allow; None = all
    examples: tuple[int, ...] | None = None  # the public examples that its constraints allow; None = all
    includes: tuple[int, ...] = ()  # subtasks whose tests are all among its own: solving it solves them


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """The samples of one problem, as far as whoever submits them may know them."""

    programs: Codes  # (n,) equal numbers = the same text; -1 = no program was found in the sample
    examples: Mask  # (n, examples) whether it gives what a public example says
    outputs: Codes  # (n, inputs) equal numbers of a column = the same output; FAILED = none
    is_stable: Mask  # (n,) False: two runs gave different outputs
    scores: Floats  # (n,) of a scorer, log odds or the like: sums and means make sense; nan = none
    goals: Codes  # (n,) the subtask that its prompt asked for; -1 = the whole problem

    def __post_init__(self) -> None:
        lengths = {name: len(values) for name, values in vars(self).items()}
        if len(set(lengths.values())) > 1 or self.examples.ndim != 2 or self.outputs.ndim != 2:
            raise ValueError(f"candidates need a row a sample in every array, and have {lengths}")

    @classmethod
    def of(
        cls,
        *,
        programs: Sequence[Any],
        examples: Sequence[Sequence[bool]] | Mask | None = None,
        outputs: Sequence[Sequence[Any]] | None = None,
        is_stable: Sequence[bool] | Mask | None = None,
        scores: Sequence[float] | Floats | None = None,
        goals: Sequence[int] | Codes | None = None,
    ) -> Self:
        """From texts of programs and outputs, None where there is none; what is left out says nothing of any sample."""
        n = len(programs)
        columns = list(zip(*outputs, strict=True)) if outputs is not None else []
        return cls(
            programs=coded(programs),
            examples=np.ones((n, 0), bool) if examples is None else np.asarray(examples, bool).reshape(n, -1),
            outputs=np.stack([coded(column) for column in columns], axis=1) if columns else np.zeros((n, 0), np.int64),
            is_stable=np.ones(n, bool) if is_stable is None else np.asarray(is_stable, bool),
            scores=np.full(n, np.nan) if scores is None else np.asarray(scores, float),
            goals=np.full(n, -1) if goals is None else np.asarray(goals, np.int64),
        )

    def __len__(self) -> int:
        return len(self.programs)

    def take(self, samples: Codes) -> Self:
        """Some of the samples, in this order."""
        return type(self)(**{name: values[samples] for name, values in vars(self).items()})


def joined(pools: Sequence[Candidates]) -> Candidates:
    """The samples of several pools of one problem, one after the other."""
    return Candidates(**{name: np.concatenate([vars(pool)[name] for pool in pools]) for name in vars(pools[0])})


@dataclass(frozen=True, kw_only=True)
class Weights:
    """What counts how much for a cluster. `evals/ladder.py` fits them on problems held out for it."""

    size: float = 1.0  # of the logarithm of its number of samples: with a score of log odds, a vote weighted by it
    agreement: float = 4.0  # of how many samples have the same output, as a mean over inputs
    error: float = 2.0  # off, for the share of inputs on which it gives no output
    score: float = 1.0  # of the scorer's
    tried: float = 3.0  # off, for every submission spent on the cluster


@dataclass(frozen=True, kw_only=True)
class Choosing:
    """The parts of the procedure, each a switch. All off: the samples in their order."""

    valid: bool = True  # samples without a program come last
    public: bool = True  # those that fail public examples come after those that pass them
    clusters: bool = True  # samples of one behaviour stand together, and one of them speaks for all
    tests: bool = True  # agreement with the others on generated inputs, and errors on them, count
    scorer: bool = True  # a scorer's scores count, where there are any
    superset: bool = True  # what disagrees with the solution of an included subtask comes last
    weights: Weights = field(default_factory=Weights)


NOTHING = Choosing(valid=False, public=False, clusters=False, tests=False, scorer=False, superset=False)


@dataclass(frozen=True, kw_only=True)
class ClusterRanking:
    """The clusters of one goal in order. A sample that was drawn for another subtask is in none."""

    cluster: Codes  # (n,) cluster of each sample; -1 = in none
    own: Floats  # (n,) what speaks for a sample within its cluster
    tier: Codes  # (clusters,) lower comes first, whatever the value
    value: Floats  # (clusters,) higher comes first


@dataclass(frozen=True)
class Prepared:
    """What follows from the candidates alone, worked out once: a chooser may then start in any order of the samples."""

    pool: Candidates
    choosing: Choosing
    goals: tuple[Goal, ...]
    rankings: tuple[ClusterRanking, ...]


def prepare(pool: Candidates, choosing: Choosing, goals: Sequence[Goal] = (Goal(),)) -> Prepared:
    """Clusters and scores of every goal, before anything is submitted."""
    if not len(pool) or not goals:
        raise ValueError(f"{len(pool)} samples and {len(goals)} goals leave nothing to choose; give at least one each")
    return Prepared(
        pool, choosing, tuple(goals), tuple(_cluster_ranking(pool, choosing, goals, g, {}) for g in range(len(goals)))
    )


def submissions(prepared: Prepared, order: Codes | None = None) -> Generator[int, Sequence[float], None]:
    """The sample to submit first; send it the points that it got in each goal, and it says the next one.

    It ends when all goals are solved or no program is left. order: of the samples, by which ties are broken; default
    that of the pool.
    """
    pool, goals = prepared.pool, prepared.goals
    rank = np.arange(len(pool)) if order is None else np.argsort(order)
    state = [_RankedClusters(ranked, rank, prepared.choosing) for ranked in prepared.rankings]
    solved: dict[int, int] = {}  # goal -> the sample that solved it
    gone: set[int] = set()  # samples that were submitted
    texts: set[int] = set()  # and, where clusters are formed, their programs: the same text is not tried twice
    while len(solved) < len(goals):
        before = len(gone)
        for g in _hardest_first(goals):
            if g in solved:
                continue
            sample = state[g].pick(gone, texts, pool.programs)
            if sample is None:
                continue
            points = yield sample
            if len(points) != len(goals):
                raise ValueError(f"{len(goals)} goals have as many points, not {list(points)}")
            gone.add(sample)
            if prepared.choosing.clusters and pool.programs[sample] >= 0:
                texts.add(int(pool.programs[sample]))
            new = [h for h in range(len(goals)) if h not in solved and points[h] >= goals[h].points - 1e-9]
            solved |= dict.fromkeys(new, sample)
            for standing in state:
                standing.spend(sample)
            for h in range(len(goals)) if new and prepared.choosing.superset else ():
                if set(new) & set(goals[h].includes):
                    ranked = _cluster_ranking(pool, prepared.choosing, goals, h, solved)
                    state[h] = _RankedClusters(ranked, rank, prepared.choosing, tried=gone)
        if len(gone) == before:
            return


def agreement(outputs: Codes, voting: Mask) -> Floats:
    """How many of the voting samples have the same output as each sample, itself included, as a mean over the inputs.

    The expected output of a generated input is not known: the others' outputs stand for it (arXiv:2204.11454).
    """
    shares = np.zeros(len(outputs))
    if not outputs.shape[1] or not voting.any():
        return shares
    for column in outputs.T:
        _, codes = np.unique(column, return_inverse=True)
        votes = np.bincount(codes[voting & (column != FAILED)], minlength=int(codes.max()) + 1)
        shares += np.where(column == FAILED, 0.0, votes[codes]) / voting.sum()
    return shares / outputs.shape[1]


def log_odds(scores: Floats) -> Floats:
    """Probabilities as log odds, which add up; other scores as they are."""
    known = scores[np.isfinite(scores)]
    if not len(known) or known.min() < 0 or known.max() > 1:
        return np.asarray(scores, float)
    kept = np.clip(scores, 1e-4, 1 - 1e-4)
    return np.log(kept / (1 - kept))


def coded(values: Sequence[Any]) -> Codes:
    """Values as numbers by first appearance, equal ones alike; None is -1."""
    numbers: dict[Any, int] = {}
    return np.array([-1 if value is None else numbers.setdefault(value, len(numbers)) for value in values], np.int64)


def _hardest_first(goals: Sequence[Goal]) -> list[int]:
    """Goals that include others come before them, then those of more points, then later ones."""
    return sorted(range(len(goals)), key=lambda g: (-len(goals[g].includes), -goals[g].points, -g))


def _cluster_ranking(
    pool: Candidates, choosing: Choosing, goals: Sequence[Goal], number: int, solved: dict[int, int]
) -> ClusterRanking:
    """The clusters of a goal. solved: goals that are solved, and by which sample: what is known of included ones."""
    goal, weights = goals[number], choosing.weights
    outputs, examples = _columns(pool.outputs, goal.inputs), _columns(pool.examples, goal.examples)
    stands = (pool.goals < 0) | (pool.goals == number)
    for other, each in enumerate(goals):
        stands |= (pool.goals == other) & (number in each.includes)
    if not stands.any():  # nobody was asked for it: whatever there is may solve it
        stands = np.ones(len(pool), bool)
    failed = np.minimum((~examples).sum(axis=1), HAS_NO_BEHAVIOUR - 1)
    mute = ~pool.is_stable | ((outputs == FAILED).all(axis=1) if outputs.shape[1] else False)
    tier = np.zeros(len(pool), np.int64)
    tier += choosing.public * FAILS_EXAMPLE * failed
    tier += (choosing.clusters or choosing.tests) * HAS_NO_BEHAVIOUR * mute
    tier += choosing.valid * IS_NO_PROGRAM * (pool.programs < 0)
    differs = np.zeros(len(pool), bool)
    for other in set(solved) & set(goal.includes):
        known = _columns(pool.outputs, goals[other].inputs)
        differs |= (known != known[solved[other]]).any(axis=1)
    tier += choosing.superset * DISAGREES * differs
    own = np.zeros(len(pool))
    if choosing.tests and outputs.shape[1]:
        voting = stands & (tier == tier[stands].min())
        own += weights.agreement * agreement(outputs, voting) - weights.error * (outputs == FAILED).mean(axis=1)
    if choosing.scorer and np.isfinite(pool.scores[stands]).any():
        lowest = pool.scores[np.isfinite(pool.scores)].min()
        own += weights.score * np.where(np.isfinite(pool.scores), pool.scores, lowest)
    if choosing.clusters:
        cluster = _clusters(tier, outputs, stands, mute)
    else:
        cluster = np.where(stands, np.cumsum(stands) - 1, -1)
    inside = cluster[stands]
    _, first, sizes = np.unique(inside, return_index=True, return_counts=True)
    value = np.bincount(inside, own[stands]) / sizes + choosing.clusters * weights.size * np.log(sizes)
    return ClusterRanking(cluster=cluster, own=own, tier=tier[stands][first], value=np.round(value, 9))


def _columns(table: NDArray[Any], wanted: Sequence[int] | None) -> NDArray[Any]:
    return table if wanted is None else table[:, list(wanted)]


def _clusters(tier: Codes, outputs: Codes, stands: Mask, mute: Mask) -> Codes:
    """Samples of one tier with the same outputs; one that has no behaviour to speak of stands alone."""
    rows = np.column_stack([tier, np.where(mute, np.arange(len(tier)), -1), outputs])[stands]
    _, first, codes = np.unique(_as_bytes(rows), return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first, kind="stable")] = np.arange(len(first))  # numbered by first appearance
    cluster = np.full(len(tier), -1)
    cluster[stands] = rank[codes.reshape(-1)]
    return cluster


def _as_bytes(rows: Codes) -> NDArray[Any]:
    """Rows as single values that can be compared: many times faster than np.unique over an axis."""
    rows = np.ascontiguousarray(rows)
    return rows.view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[1]))).reshape(-1)


class _RankedClusters:
    """The clusters of a goal, and what is left of them while submissions are made."""

    def __init__(self, ranked: ClusterRanking, rank: Codes, choosing: Choosing, tried: Collection[int] = ()) -> None:
        inside = np.flatnonzero(ranked.cluster >= 0)
        starts = np.searchsorted(np.sort(ranked.cluster[inside]), np.arange(len(ranked.tier) + 1))
        members = inside[np.argsort(ranked.cluster[inside], kind="stable")]
        # clusters in the order in which they are seen: of equal ones the first is taken
        seen = np.argsort(np.minimum.reduceat(rank[members], starts[:-1]))
        number = np.empty(len(seen), np.int64)
        number[seen] = np.arange(len(seen))
        self.cluster = np.where(ranked.cluster >= 0, number[ranked.cluster], -1)
        self.tier, self.value = ranked.tier[seen], ranked.value[seen]
        self.members = inside[np.lexsort((rank[inside], -ranked.own[inside], self.cluster[inside]))]
        self.next = np.concatenate([[0], np.cumsum(np.diff(starts)[seen])])
        self.ends = self.next[1:].copy()
        self.penalty = choosing.weights.tried
        for sample in tried:
            self.spend(sample)

    def pick(self, gone: Collection[int], texts: Collection[int], programs: Codes) -> int | None:
        """The best sample left in the best cluster; None where none is left."""
        while True:
            best = int(np.argmax(np.where(self.tier == self.tier.min(), self.value, -np.inf)))
            if self.tier[best] == EMPTY:
                return None
            while self.next[best] < self.ends[best]:
                sample = int(self.members[self.next[best]])
                if sample not in gone and int(programs[sample]) not in texts:
                    return sample
                self.next[best] += 1
            self.tier[best] = EMPTY

    def spend(self, sample: int) -> None:
        """A submission was made of this sample: its cluster is worth less."""
        if self.cluster[sample] >= 0:
            self.value[self.cluster[sample]] -= self.penalty
