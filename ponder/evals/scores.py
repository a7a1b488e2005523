"""What scorers said about the samples of a bank, beside it: the samples themselves are never touched.

    DIR/scores/NAME.json       which scorer: its facts
    DIR/scores/NAME.parquet    problem, sample, score; a sample that is not there has not been scored

    add(folder, "outcome", {"fingerprint": "...", "policy": "...", "cost": {...}}, {"p1": [0.9, 0.2]}, policy="...")
    read(folder, policy="...")    -> {"outcome": {"p1": array([0.9, 0.2])}}

Facts may be anything JSON holds. Read here: `policy`, the fingerprint of the model whose samples the scorer was trained
on ("" = any): another one than the bank's is a warning, as a score is only as good as its likeness to that model's
samples. Read by replay.py: `cost` = {"prompt": 1, "sample": 1, "flops_per_token": 2.7e8 or null}: how often the scorer
reads the tokens of the prompt (once a problem) and of each sample, and what one of them costs (null: as much as the
policy's). Zeros for a scorer that reads nothing anew, such as a head on the sampler's own hidden states; without
`cost`, a scorer is taken to read everything at the policy's price.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ponder import runs
from ponder.evals import columns
from ponder.evals.files import BankError

Scores = dict[str, NDArray[np.float64]]  # problem -> a score a sample from number 0 on, nan where there is none


def add(
    folder: Path, name: str, facts: Mapping[str, Any], scored: Mapping[str, Sequence[float]], *, policy: str
) -> None:
    """Add scores to those of the scorer; new ones replace old ones of the same sample."""
    if not re.fullmatch(r"[\w@+=-][\w.@+=-]*", name):
        raise BankError(f"{name!r} cannot be the name of a scorer: use letters, digits and _ . @ + = -")
    head, path = folder / "scores" / f"{name}.json", folder / "scores" / f"{name}.parquet"
    facts = json.loads(json.dumps({"name": name, **facts}))
    if path.exists():
        known = _facts(head)
        if differs := [key for key in {**known, **facts} if known.get(key) != facts.get(key)]:
            key = sorted(differs)[0]
            raise BankError(
                f"{path} holds scores of another scorer: its {key} is {known.get(key)!r}, not {facts.get(key)!r}; "
                "choose another name, or delete both files"
            )
    _warn(name, facts, policy)
    merged = _read(path)
    for problem, values in scored.items():
        new, old = np.asarray(values, dtype=np.float64), merged.get(problem, np.empty(0))
        whole = np.full(max(len(new), len(old)), np.nan)
        whole[: len(old)] = old
        whole[: len(new)] = np.where(np.isnan(new), whole[: len(new)], new)
        merged[problem] = whole
    runs.write_atomic(head, json.dumps(facts, indent=1, ensure_ascii=False) + "\n")
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
        _warn(name, facts, policy)
        found[name] = _read(folder / "scores" / f"{name}.parquet")
    return found


def read_facts(folder: Path) -> dict[str, dict[str, Any]]:
    """The facts of every scorer whose scores are there."""
    paths = sorted((folder / "scores").glob("*.parquet"))
    return {path.stem: _facts(path.with_suffix(".json")) for path in paths if not path.name.startswith(".")}


def _facts(head: Path) -> dict[str, Any]:
    try:
        facts = json.loads(head.read_text())
    except (OSError, ValueError) as error:
        raise BankError(f"{head} does not say which scorer it is ({error}); delete it and its .parquet file") from None
    if not isinstance(facts, dict):
        raise BankError(f"{head} does not say which scorer it is; delete it and its .parquet file")
    return facts


def _read(path: Path) -> Scores:
    if not path.exists():
        return {}
    try:
        found = columns.read([path], list(columns.SCORE_COLUMNS))
    except columns.PartError as error:
        raise BankError(str(error)) from None
    ids, names = found["problem"]
    samples, values = found["sample"], found["score"]
    order = np.argsort(ids, kind="stable")
    cuts = np.searchsorted(ids[order], np.arange(len(names) + 1))
    result = {}
    for i, name in enumerate(names):
        rows = order[cuts[i] : cuts[i + 1]]
        result[name] = np.full(int(samples[rows].max()) + 1, np.nan)
        result[name][samples[rows]] = values[rows]
    return result


def _warn(name: str, facts: Mapping[str, Any], policy: str) -> None:
    wanted = facts.get("policy")
    if wanted and policy and wanted != policy:
        warnings.warn(
            f"the scorer {name} was trained on samples of the model {wanted}, and these are of {policy}: its scores "
            "may mislead; train one for this model (`ponder scorer`)",
            stacklevel=4,
        )
