"""Baselines that a reward model must beat: the longer answer, the shorter one, and a bag of words with the length.

    longer(comparisons)                    [0.3, -1.2, ...]    log(length of a / length of b): above 0 where a is longer
    bag_of_words(comparisons, others)      a Bradley-Terry model over words and pairs of words, by folds of openings

"0.70 of the pairs" says nothing of a reward model where the longer answer is preferred in 0.70 of them. The bag of
words is fitted for each comparison on those whose dialogue opens otherwise: it is measured on openings it never saw.

Shapes: N answers, P comparisons, V words.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ponder.scorers.bradley_terry import Floats, Pairs, minimise, pair_losses
from ponder.tasks.preferences import fraction, opening
from ponder.types import Comparison

TARGET = {"a": 1.0, "b": 0.0, "tie": 0.5}
PENALTIES = (1.0, 3.0, 10.0, 30.0)
FEWEST = 2  # answers that a word must be in
NUM_FOLDS = 5
_WORD = re.compile(r"[^\W_]+|[^\w\s]")


def targets(comparisons: Sequence[Comparison]) -> Floats:
    """1 where a is preferred, 0 where b is, 1/2 for a tie, one number a comparison."""
    return np.array([TARGET[comparison.preferred] for comparison in comparisons])


def longer(comparisons: Sequence[Comparison]) -> Floats:
    """log(characters of a / characters of b) of each comparison; neither answer may be empty."""
    return np.array([math.log(len(c.a) / len(c.b)) for c in comparisons])


def folds(comparisons: Sequence[Comparison]) -> NDArray[np.int64]:
    """The fold of each, by its opening: the same in every run."""
    return np.array([int(fraction(opening(c), "fold") * NUM_FOLDS) for c in comparisons], np.int64)


class Words:
    """Sparse counts of answers (N V): log(1 + count) of words and pairs of words, and two columns of length."""

    def __init__(self, texts: Sequence[str]) -> None:
        counts = [_count(text) for text in texts]
        used = Counter(word for count in counts for word in count)
        columns = {word: i for i, word in enumerate(word for word, number in used.items() if number >= FEWEST)}
        rows = [[(columns[word], math.log1p(n)) for word, n in count.items() if word in columns] for count in counts]
        self._row = np.repeat(np.arange(len(texts)), [len(row) for row in rows])
        self._column = np.array([column for row in rows for column, _ in row], np.int64)
        self._value = np.array([value for row in rows for _, value in row])
        sizes = [(len(text), sum(count.values())) for text, count in zip(texts, counts, strict=True)]
        lengths = np.log1p(np.array(sizes, float))
        self._lengths = (lengths - lengths.mean(0)) / np.maximum(lengths.std(0), 1e-9)
        self.num_texts, self._num_words = len(texts), len(columns)
        self.size = len(columns) + lengths.shape[1]

    def product(self, weights: Floats) -> Floats:
        """(V,) weights -> (N,) rewards of the texts; V is `size`."""
        words = np.bincount(self._row, self._value * weights[self._column], self.num_texts)
        return words + self._lengths @ weights[self._num_words :]

    def transposed(self, by_text: Floats) -> Floats:
        """(N,) numbers by text -> (V,) sums by column: the transpose of `product`."""
        words = np.bincount(self._column, self._value * by_text[self._row], self._num_words)
        return np.concatenate([words, self._lengths.T @ by_text])


def _count(text: str) -> Counter[str]:
    words = _WORD.findall(text.lower())
    return Counter([*words, *(f"{a} {b}" for a, b in pairwise(words))])


def bag_of_words(comparisons: Sequence[Comparison], others: Sequence[Comparison] = ()) -> Floats:
    """r_a - r_b of each comparison, by a model of the other folds; `others` (of the same set) are fitted on too.

    The penalty is chosen inside the training folds, on one of them.
    """
    known = {comparison.id for comparison in comparisons}
    every = [*comparisons, *(other for other in others if other.id not in known)]
    words = Words([text for c in every for text in (c.a, c.b)])
    target, fold = targets(every), folds(every)
    first = 2 * np.arange(len(every))
    found = np.zeros(len(comparisons))

    def fitted(rows: NDArray[np.int64], l2: float) -> Floats:
        """r_a - r_b of all comparisons."""
        pairs = Pairs.of(first[rows], first[rows] + 1, target[rows])
        r = words.product(minimise(words.product, words.transposed, words.size, pairs, l2=l2))
        return r[first] - r[first + 1]

    for number in range(NUM_FOLDS):
        asked = np.flatnonzero(fold[: len(comparisons)] == number)
        train = np.flatnonzero(fold != number)
        if not len(asked) or not len(train):
            continue  # nothing to fit on: 0, which is half right
        inner = (number + 1) % NUM_FOLDS
        fit_on, choose_on = train[fold[train] != inner], train[fold[train] == inner]
        best = PENALTIES[-1]
        if len(fit_on) and len(choose_on):
            losses = [pair_losses(fitted(fit_on, l2)[choose_on], target[choose_on]).mean() for l2 in PENALTIES]
            best = PENALTIES[int(np.argmin(losses))]
        found[asked] = fitted(train, best)[asked]
    return found
