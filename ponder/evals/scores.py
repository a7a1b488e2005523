"""The scores that scorers gave to the samples of a bank, beside it: the samples themselves are never touched.

    DIR/scores/NAME.json       which scorer: its facts
    DIR/scores/NAME.parquet    problem, sample, score; a sample that is not there has not been scored

    add(folder, ScorerFacts(name="outcome", fingerprint="..."), {"p1": [0.9, 0.2]}, policy="...")
    read(folder, policy="...")    -> {"outcome": {"p1": array([0.9, 0.2])}}

Another `policy` than the bank's, the fingerprint of the model whose samples the scorer was trained on, is a warning, as
a score is only as good as its likeness to that model's samples. `cost` and `joint` are read where strategies are
compared (accuracy_at_compute.py): without `cost`, a scorer is taken to read everything at the policy's price.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from ponder.evals import columns
from ponder.evals.codec import ResultError
from ponder.evals.files import BankError
from ponder.evals.results import ScorerFacts
from ponder.files import lock
from ponder.scorers.base import same_weights

Scores = dict[str, NDArray[np.float64]]  # problem -> a score a sample from number 0 on, nan where there is none


def held(folder: Path, name: str) -> IO[str]:
    """For the one process that writes the scores of this name: two would each write what they know."""
    _check_name(name)
    return lock(folder / "scores" / f".{name}.lock", folder / "scores" / f"{name}.parquet")


def _check_name(name: str) -> None:
    if not re.fullmatch(r"[\w@+=-][\w.@+=-]*", name):
        raise BankError(f"{name!r} cannot be the name of a scorer: use letters, digits and _ . @ + = -")


def check(folder: Path, facts: ScorerFacts) -> None:
    """BankError where the bank has scores of another scorer under this name."""
    _check_name(facts.name)
    head, path = folder / "scores" / f"{facts.name}.json", folder / "scores" / f"{facts.name}.parquet"
    if path.exists():
        known = _facts(head)
        for name in sorted(field.name for field in fields(ScorerFacts)):
            old, new = getattr(known, name), getattr(facts, name)
            if old != new:
                raise BankError(
                    f"{path} holds scores of another scorer: its {name} is {old!r}, not {new!r}; "
                    "choose another name, or delete both files"
                )


def add(folder: Path, facts: ScorerFacts, scored: Mapping[str, Sequence[float]], *, policy: str) -> None:
    """Add scores to those of the scorer; new ones replace old ones of the same sample."""
    check(folder, facts)
    head, path = folder / "scores" / f"{facts.name}.json", folder / "scores" / f"{facts.name}.parquet"
    _warn(facts, policy)
    merged = _read(path)
    for problem, values in scored.items():
        new, old = np.asarray(values, dtype=np.float64), merged.get(problem, np.empty(0))
        whole = np.full(max(len(new), len(old)), np.nan)
        whole[: len(old)] = old
        whole[: len(new)] = np.where(np.isnan(new), whole[: len(new)], new)
        merged[problem] = whole
    facts.write(head)
    there = {problem: np.flatnonzero(~np.isnan(values)) for problem, values in merged.items()}
    table = {
        "problem": [problem for problem, samples in there.items() for _ in samples],
        "sample": np.concatenate([*there.values(), np.empty(0, dtype=np.int64)]),
        "score": np.concatenate([*(merged[problem][samples] for problem, samples in there.items()), np.empty(0)]),
    }
    columns.write(path, table, columns.SCORE_COLUMNS)


def read(folder: Path, *, policy: str) -> dict[str, Scores]:
    """All scores of a bank, by scorer; warns of a scorer for another policy."""
    found = {}
    for name, facts in read_facts(folder).items():
        _warn(facts, policy)
        found[name] = _read(folder / "scores" / f"{name}.parquet")
    return found


def read_facts(folder: Path) -> dict[str, ScorerFacts]:
    """The facts of every scorer whose scores are there."""
    paths = sorted((folder / "scores").glob("*.parquet"))
    return {path.stem: _facts(path.with_suffix(".json")) for path in paths if not path.name.startswith(".")}


def _facts(head: Path) -> ScorerFacts:
    try:
        return ScorerFacts.read(head)
    except (OSError, ResultError) as error:
        raise BankError(f"which scorer it was is not known: {error}") from None


def _read(path: Path) -> Scores:
    if not path.exists():
        return {}
    (ids, names), samples, values = columns.read([path], list(columns.SCORE_COLUMNS)).values()
    order = np.argsort(ids, kind="stable")
    cuts = np.searchsorted(ids[order], np.arange(len(names) + 1))
    result = {}
    for i, name in enumerate(names):
        rows = order[cuts[i] : cuts[i + 1]]
        result[name] = np.full(int(samples[rows].max()) + 1, np.nan)
        result[name][samples[rows]] = values[rows]
    return result


def _warn(facts: ScorerFacts, policy: str) -> None:
    if not same_weights(facts.policy, policy):
        warnings.warn(
            f"the scorer {facts.name} was trained on samples of the model {facts.policy}, and these are of {policy}: "
            "its scores may mislead; train one for this model (`ponder scorer`)",
            stacklevel=4,
        )
