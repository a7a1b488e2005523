"""Sets of human preferences: load_comparisons("hh", split="train"), load_comparisons("file:votes.jsonl").

    found = load_comparisons("llmbar")
    found.comparisons[0]      # Comparison(id=..., prompt=(Message, ...), a=..., b=..., preferred="b")
    found.notes               # what is wrong with the set as found, in words

Texts come from $PONDER_DATA/preference/FILE, else from the hub at a fixed revision (`pip install "ponder[data]"`); a
file of yours has one object a line, see `comparison_rows.py`. Which side an answer is on is a hash of the comparison's
id: in some sets the first answer is always the better one. Rows that teach nothing are dropped and counted: an answer
that is no text, an empty one, two equal ones, an exact repetition.

Splits are by a hash of the dialogue's opening, its first user message, so that no conversation and no question is on
two sides: `report` (15 %, never trained on and never chosen by), `dev` (a share of the rest), `train`. Where a set has
a test split of its own, that is the report.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from ponder.config import ConfigError, nearest
from ponder.files import file_hash
from ponder.intervals import Z, wilson
from ponder.tasks.base import check_size
from ponder.tasks.comparison_rows import ComparedAnswers, Row, read_helpsteer3, read_row, read_ultrafeedback
from ponder.tasks.datahub import hub_files
from ponder.tasks.file import read_rows
from ponder.types import Comparison, Preferred

Split = Literal["all", "train", "dev", "report"]
REPORT = 0.15  # of the openings
FOLDER = "preference"  # under PONDER_DATA


@dataclass(frozen=True, kw_only=True)
class Published:
    """Where a set lies, and how a row of it is read."""

    file: str = ""  # in $PONDER_DATA/preference
    repo: str = ""
    revision: str = ""
    train: str = ""  # patterns of file names in the repository
    test: str = ""
    read: Callable[[Row, str], list[ComparedAnswers]] = read_row
    licence: str


SETS: dict[str, Published] = {
    "hh": Published(
        file="hh_rlhf_harmless_test.jsonl.gz", repo="Anthropic/hh-rlhf",
        revision="09be8c5bbc57cb3887f3a9732ad6aa7ec602a1fa",
        train="harmless-base/train.jsonl.gz", test="harmless-base/test.jsonl.gz", licence="MIT",
    ),
    "llmbar": Published(file="llmbar_dev.jsonl", licence="MIT"),
    "mtbench": Published(file="mtbench_human200.jsonl", licence="CC BY 4.0"),
    "pandalm": Published(file="pandalm_test.jsonl", licence="Apache-2.0"),
    "helpsteer3": Published(
        repo="nvidia/HelpSteer3", revision="f6d145777bcbde96137596340fab89793acd1031",
        train="preference/train.jsonl.gz", test="preference/validation.jsonl.gz", read=read_helpsteer3,
        licence="CC BY 4.0",
    ),
    # later than this revision's correction, some 2,000 rows had an overall score of 10 for 1
    "ultrafeedback": Published(
        repo="openbmb/UltraFeedback", revision="40b436560ca83a8dba36114c22ab3c66e43f6d5e", train="*.jsonl",
        read=read_ultrafeedback, licence="MIT",
    ),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ComparisonSet:
    """Comparisons that can be used, and what was found on the way."""

    name: str
    split: Split
    comparisons: tuple[Comparison, ...]
    origin: tuple[Mapping[str, Any], ...]  # {"file" or "hub": ..., "sha256" or "revision": ...}
    dropped: Mapping[str, int] = field(default_factory=dict)  # why -> how many, of all splits
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.comparisons)


def load_comparisons(
    spec: str, *, split: Split = "all", held_out: float = 0.15, size: int | None = None
) -> ComparisonSet:
    """A set by name, hub:NAME (not the file that lies here), or file:PATH. held_out: the share of what is not the
    report that is `dev`. size: the first comparisons."""
    if split not in get_args(Split):
        raise ConfigError(f"split={split!r} must be one of {', '.join(get_args(Split))}")
    name, parts, origin = _found(spec)
    known: set[str] = set()
    made: dict[Split, list[Comparison]] = {"train": [], "dev": [], "report": []}
    dropped: Counter[str] = Counter()
    all_found: list[ComparedAnswers] = []
    report_keys: set[str] = set()
    for is_test, found in parts:  # the test part comes first: it takes its openings out of training
        all_found += found
        for comparison in _usable(name, found, known, dropped):
            key, part = opening(comparison), "report"
            if not is_test:
                if key in report_keys:
                    dropped["its opening is in the test split"] += 1
                    continue
                part = split_of(key, held_out=held_out, has_test=len(parts) > 1)
            elif len(parts) > 1:
                report_keys.add(key)
            made[part].append(comparison)  # type: ignore[index]
    every = [comparison for part in made.values() for comparison in part]
    if not every:
        raise ConfigError(f"{spec} holds no comparison that can be used; {_dropped_note(dropped)}")
    kept = every if split == "all" else made[split]
    if not kept:
        raise ConfigError(f"{spec} has no comparison in its split {split}; {len(every)} in all")
    check_size(size, "comparison")
    return ComparisonSet(
        name=name, split=split, comparisons=tuple(kept[:size]), origin=tuple(origin), dropped=dict(dropped),
        notes=tuple(_notes(all_found, every, dropped)),
    )  # fmt: skip


def opening(comparison: Comparison) -> str:
    """16 hex digits of the first user message: what splits, folds and intervals are taken over."""
    text = next((m.content for m in comparison.prompt if m.role == "user"), comparison.prompt[0].content)
    return _digest("opening", " ".join(text.split()))


def split_of(key: str, *, held_out: float = 0.15, has_test: bool = False) -> Literal["train", "dev", "report"]:
    """By a hash of the opening alone, so that it never changes sides."""
    share = fraction(key, "split")
    if not has_test:
        if share < REPORT:
            return "report"
        share = (share - REPORT) / (1 - REPORT)
    return "dev" if share < held_out else "train"


def fraction(key: str, purpose: str) -> float:
    """A number in [0, 1) that belongs to a key: folds by it are the same in every run."""
    return int(_digest(purpose, key), 16) / 2**64


def _digest(*parts: str) -> str:
    return hashlib.blake2b("\0".join(parts).encode(errors="surrogatepass"), digest_size=8).hexdigest()


# ---- from rows to comparisons --------------------------------------------------------------------------------------


def _usable(
    name: str, found: Iterable[ComparedAnswers], known: set[str], dropped: Counter[str]
) -> Iterable[Comparison]:
    """Comparisons with their sides; what teaches nothing is counted in `dropped`. known: contents seen so far."""
    ids: Counter[str] = Counter()
    for row in found:
        answers = (row.first, row.second)
        prompt = [f"{m.role}: {m.content}" for m in row.prompt]
        if not all(isinstance(answer, str) for answer in answers):
            wrong = next(answer for answer in answers if not isinstance(answer, str))
            dropped[f"an answer is no text but {type(wrong).__name__}"] += 1
        elif not all(answer.strip() for answer in answers):
            dropped["an answer is empty"] += 1
        elif row.first == row.second:
            dropped["both answers are the same"] += 1
        elif row.prompt[-1].role != "user" or not any(message.content.strip() for message in row.prompt):
            dropped["the prompt does not end with a question"] += 1
        elif (content := _content(row, prompt)) in known:
            dropped["an exact repetition"] += 1
        else:
            known.add(content)
            # without an id of its own: of what it is about, and apart where people disagree on it
            id = "/".join(filter(None, (name, row.id or _digest(*prompt, *sorted(answers)), row.annotator)))
            if id in ids and row.id:
                raise ConfigError(f"the id {id!r} is that of another comparison; ids must be unique, or be left out")
            ids[id] += 1
            id += f"/again{ids[id]}" if ids[id] > 1 else ""
            yield _sided(id, row)


def _content(row: ComparedAnswers, prompt: Sequence[str]) -> str:
    """A hash of what was compared and who prefers what, whatever the order."""
    better = {"first": row.first, "second": row.second, "tie": ""}[row.choice]
    return _digest(*prompt, "\0answers", *sorted((row.first, row.second)), "\0better", better, row.annotator)


def _sided(id: str, row: ComparedAnswers) -> Comparison:
    swapped = fraction(id, "side") < 0.5
    a, b = (row.second, row.first) if swapped else (row.first, row.second)
    preferred: Preferred = "tie" if row.choice == "tie" else "b" if (row.choice == "first") == swapped else "a"
    return Comparison(
        id=id, prompt=row.prompt, a=a, b=b, preferred=preferred, strength=row.strength, annotator=row.annotator,
        domain=row.domain,
    )  # fmt: skip


def _notes(found: Sequence[ComparedAnswers], kept: Sequence[Comparison], dropped: Mapping[str, int]) -> Iterable[str]:
    """What a user should know of the set as it was found."""
    if dropped:
        yield _dropped_note(dropped)
    choices: Counter[str] = Counter(row.choice for row in found)
    for choice, letter in (("first", "A"), ("second", "B")):
        if choices[choice] == len(found) > 1:
            yield f"every row prefers answer {letter}: their order tells the label; sides are a hash of the id"
    decided = [c for c in kept if c.preferred != "tie" and len(c.a) != len(c.b)]
    if len(decided) > 1:
        wins = [(c.preferred == "a") == (len(c.a) > len(c.b)) for c in decided]
        share, low, high = clustered_share(wins, [opening(c) for c in decided])
        yield f"the longer answer is preferred in {share:.1%} ({low:.1%} to {high:.1%}) of {len(decided)}"
    ties = sum(c.preferred == "tie" for c in kept)
    if ties:
        yield f"{ties} of {len(kept)} are ties"
    stray = sum("Human:" in c.a + c.b for c in kept)
    if stray:
        yield f"{stray} hold an answer with a stray 'Human:' in it; they are kept"
    inside = sum(c.a.startswith(c.b) or c.b.startswith(c.a) for c in kept)
    if inside:
        yield f"{inside} compare an answer with its own beginning; they are kept"
    against = _contradictions(kept)
    if against:
        yield f"{against} pairs of answers are preferred both ways; all of it is kept, as people differ"


def _contradictions(kept: Sequence[Comparison]) -> int:
    better: dict[str, set[str]] = {}
    for c in kept:
        if c.preferred != "tie":
            pair = _digest(*(m.content for m in c.prompt), *sorted((c.a, c.b)))
            better.setdefault(pair, set()).add(c.a if c.preferred == "a" else c.b)
    return sum(len(answers) > 1 for answers in better.values())


def _dropped_note(dropped: Mapping[str, int]) -> str:
    counts = "; ".join(f"{reason}: {count}" for reason, count in sorted(dropped.items(), key=lambda item: -item[1]))
    return f"{sum(dropped.values())} dropped ({counts})" if dropped else "nothing was dropped"


def clustered_share(values: ArrayLike, clusters: Sequence[str], *, t: float = Z) -> tuple[float, float, float]:
    """A mean of values in [0, 1] with its 95 % interval (Wilson's), whose width counts clusters and not values.

    Votes on one question are not independent: taken one by one, nine votes a question cover the truth in 76 % of cases
    where they say 95 %.
    """
    x, (_, owner) = np.asarray(values, float), np.unique(clusters, return_inverse=True)
    num, groups = len(x), int(owner.max()) + 1
    mean = float(x.mean())
    if groups == 1:
        return mean, 0.0, 1.0  # one question says nothing about others
    sums = np.bincount(owner, x - mean)
    variance = float(sums @ sums) * groups / (groups - 1) / num**2
    size = min(float(num), mean * (1 - mean) / variance) if variance > 0 else float(groups)
    return mean, *wilson(mean, size, t=t)


# ---- where rows come from --------------------------------------------------------------------------------------------

Parts = list[tuple[bool, list[ComparedAnswers]]]  # (is it a published test split?, its rows); that one first


def _found(spec: str) -> tuple[str, Parts, list[dict[str, Any]]]:
    """The name of a set, its rows, and their origin."""
    if spec.startswith("file:") or spec.endswith((".jsonl", ".jsonl.gz")):
        path = Path(spec.removeprefix("file:")).expanduser()
        rows = [(path, read_row, False)]
        return path.name.removesuffix(".gz").removesuffix(".jsonl"), _read(rows), _origin([path])
    name = spec.removeprefix("hub:")
    if name not in SETS:
        raise ConfigError(
            f"unknown set of comparisons {spec!r}{nearest(name, SETS)}; known: {', '.join(SETS)}, or file:PATH"
        )
    entry, root = SETS[name], os.environ.get("PONDER_DATA", "")
    path = Path(root) / FOLDER / entry.file
    if entry.file and root and path.exists() and not spec.startswith("hub:"):
        return name, _read([(path, entry.read, False)]), _origin([path])
    place = f"PONDER_DATA={root} has no" if root else "PONDER_DATA is not set (a folder with"
    missing = f"no rows of {name}: {place} {FOLDER}/{entry.file}{'' if root else ' in it)'}" if entry.file else ""
    if not entry.repo:
        raise ConfigError(missing)
    patterns = [(pattern, is_test) for pattern, is_test in ((entry.test, True), (entry.train, False)) if pattern]
    try:
        files = [
            (path, entry.read, is_test)
            for pattern, is_test in patterns
            for path in hub_files(entry.repo, pattern, entry.revision)
        ]
    except ConfigError as error:
        raise ConfigError(f"{missing or f'no rows of {name}'}; from the hub ({entry.repo}): {error}") from None
    origin = [{"hub": f"{entry.repo}/{pattern}", "revision": entry.revision} for pattern, _ in patterns]
    return name, _read(files), origin


def _read(files: Sequence[tuple[Path, Callable[[Row, str], list[ComparedAnswers]], bool]]) -> Parts:
    parts: dict[bool, list[ComparedAnswers]] = {}
    for path, read, is_test in files:
        for where, row in read_rows(str(path)):
            parts.setdefault(is_test, []).extend(read(row, where))
    return sorted(parts.items(), reverse=True)


def _origin(paths: Sequence[Path]) -> list[dict[str, Any]]:
    return [{"file": str(path), "sha256": file_hash(path)} for path in paths]
