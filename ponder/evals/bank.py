"""The sample bank: every completion drawn for an exam, stored once; every metric is then a pure function of a folder.

    DIR/bank.json        what was drawn from what: task, split, model, fingerprint, sampling, seed, grader
    DIR/problems.jsonl   one problem a line, with the token ids of its prompt
    DIR/samples/         one row a sample (Parquet): verdict, answer class, cost, confidence, texts, token ids, logprobs
    DIR/scores/          the scores that scorers gave to the samples, see scores.py

    with Bank.open(folder, spec) as bank:       # made, or continued; other settings are an error that names them
        bank.num_samples(problem.id)            # ask the engine for `first=` this many
        bank.append(problem, rows, prompt_ids=ids)
    bank = Bank.read(folder)                    # no model, no task
    bank.samples(problem_id).outcomes           # arrays; texts and token ids stay on disk
    bank.add_scores("outcome", facts, {problem_id: scores})

Append-only: `kill -9` costs at most the problem being written, and running again draws only what is missing. Samples
are drawn by (seed, problem id, sample index), so a bank that was drawn in two runs equals one drawn in one. One writer
at a time.
"""

from __future__ import annotations

import itertools
import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ponder import files
from ponder.evals import columns, scores
from ponder.evals.codec import encode
from ponder.evals.files import BankError, facts_of, lock, read_spec
from ponder.evals.identity import graded, is_same
from ponder.evals.results import BankSpec, ScorerFacts
from ponder.evals.rows import SampleArrays, SampleRow, completion_of, confidence, sample_row, withheld, withheld_row
from ponder.types import Message, Problem

__all__ = [
    "Bank", "BankError", "BankSpec", "SampleRow", "Samples", "completion_of", "confidence", "problem_row", "sample_row",
    "withheld", "withheld_row",
]  # fmt: skip
HEAVY = ("token_ids", "sampler_logprobs", "forced")  # most of the bytes


@dataclass(frozen=True)
class Samples:
    """The samples of one problem as arrays, in the order of their index."""

    problem: Problem
    outcomes: NDArray[np.str_]  # correct, wrong, undecided
    classes: NDArray[np.int64]  # 0, 1, ... by first appearance; -1 = no answer
    keys: tuple[str, ...]  # the key of each class
    prompt_tokens: int
    tokens: NDArray[np.int64]  # completion tokens, marks included
    reasoning_tokens: NDArray[np.int64]
    was_cut: NDArray[np.bool_]  # by a budget or the window
    finish_reasons: NDArray[np.str_]
    errors: int  # verifier crashes, each of them undecided
    mean_logprob: NDArray[np.float32]  # nats a token, over the tokens that were sampled; nan where they are not known
    worst_logprob: NDArray[np.float32]  # the lowest mean of 8 tokens in a row
    scores: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)  # scorer -> its scores, nan where missing

    def __len__(self) -> int:
        return len(self.outcomes)

    @property
    def correct(self) -> NDArray[np.bool_]:
        """(n,); an undecided or failed sample is not correct."""
        return self.outcomes == "correct"

    @property
    def blank(self) -> int:
        """Samples without an answer."""
        return int((self.classes < 0).sum())

    def tally(self) -> tuple[list[int], list[int]]:
        """(samples, correct samples) of each answer class: what `stats.cons_at` takes."""
        voting, num = self.classes >= 0, len(self.keys)
        counts = np.bincount(self.classes[voting], minlength=num)
        correct = np.bincount(self.classes[voting & self.correct], minlength=num)
        return counts.tolist(), correct.tolist()


class Bank:
    """The samples of a folder. Verdicts and costs are held in memory as arrays; texts and tokens stay on disk."""

    def __init__(self, folder: Path, spec: BankSpec) -> None:
        self.folder, self.spec = folder, spec
        self._parts = folder / "samples"
        self._problems: dict[str, Problem] = {}
        self._lock: Any = None
        self._scores: dict[str, scores.Scores] | None = None
        held = _load(self._parts)  # before the problems: whoever writes meanwhile writes those first
        for row in files.read_jsonl(folder / "problems.jsonl"):
            problem = _problem_of(row, folder)
            self._problems[problem.id] = problem
        self._held = {name: of for name, of in held.items() if name in self._problems}
        if lost := len(held) - len(self._held):
            warnings.warn(
                f"{folder}/problems.jsonl lacks {lost} problems that have samples: they are left out until the "
                "command that drew them is run again",
                stacklevel=2,
            )

    @classmethod
    def open(cls, folder: str | Path, spec: BankSpec) -> Bank:
        """Open for writing: a new folder is made, a bank of the same spec is continued, any other is an error."""
        columns.arrow()  # the samples that are about to be drawn could not be kept without it
        folder = Path(folder)
        head = folder / "bank.json"
        if head.exists():
            _same(read_spec(folder), spec, folder)
        else:
            if columns.live_parts(folder / "samples"):
                raise BankError(f"{folder} has samples but no bank.json that says of what; choose another folder")
            if (folder / "run.json").exists():  # `scale` and `report` would take the run for an exam from then on
                raise BankError(f"{folder} is the folder of a run; choose another, such as {folder / 'eval'}")
            files.write_atomic(head, json.dumps(facts_of(spec), indent=1, ensure_ascii=False) + "\n")
        held = lock(head)
        try:
            columns.clean(folder / "samples")
            bank = cls(folder, spec)
        except BaseException:
            held.close()  # an error that is looked at must not hold the folder
            raise
        bank._lock = held
        return bank

    @classmethod
    def read(cls, folder: str | Path) -> Bank:
        """Open for reading; neither model nor task is needed."""
        return cls(Path(folder), read_spec(Path(folder)))

    def __enter__(self) -> Bank:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lock is None:
            return
        try:
            if kind is None:  # whoever stops it wants it stopped, and the next writer merges too
                columns.compact(self._parts)
        except files.StorageError:
            pass  # a full disk: the parts stay as they are, and hold the same samples
        finally:
            self._lock.close()
            self._lock = None

    @property
    def problems(self) -> list[Problem]:
        """Problems that have at least one sample, in the order of their ids: they are finished in any order, and what
        is computed or drawn from them must not depend on it."""
        return [self._problems[id] for id in sorted(self._problems) if id in self._held]

    def num_samples(self, problem_id: str) -> int:
        """0 for a problem that the bank does not know."""
        held = self._held.get(problem_id)
        return 0 if held is None else len(held)

    def pass_rate(self, problem_id: str) -> float:
        """The share of correct samples of a problem that has samples."""
        return float((self._held[problem_id].outcome == "correct").mean())

    def append(self, problem: Problem, rows: Sequence[SampleRow], *, prompt_ids: Sequence[int]) -> None:
        """Add the next samples of a problem in one write; one that is there already is kept as it is."""
        problem, have = graded(problem), self.num_samples(problem.id)
        rows = [row for row in rows if row.sample >= have]
        if [row.sample for row in rows] != list(range(have, have + len(rows))):
            raise BankError(f"the next sample of {problem.id!r} is number {have}; its samples come in order")
        known = self._problems.get(problem.id)
        if known is not None:
            self.check(problem)
        if not rows:
            return
        if known is None:
            files.append_jsonl(self.folder / "problems.jsonl", [problem_row(problem, prompt_ids)])
            self._problems[problem.id] = problem
        columns.append(self._parts, [row.columns() for row in rows])
        new, old = SampleArrays.of(rows), self._held.get(problem.id)
        self._held[problem.id] = new if old is None else old + new
        self._scores = None

    def check(self, problem: Problem) -> None:
        """The problem of this id is the stored one: a task edited between two runs, or its tests, must not mix two
        exams."""
        known = self._problems.get(problem.id)
        if known is not None and not (known.prompt == problem.prompt and is_same(known, graded(problem))):
            raise BankError(
                f"{self.folder} holds another problem under the id {problem.id!r}: the task has changed "
                "since, or what its answers are graded by; choose another folder"
            )

    def tables(self) -> list[Samples]:
        """The samples of every problem, in the order of `problems`."""
        return [self.samples(problem.id) for problem in self.problems]

    def samples(self, problem_id: str) -> Samples:
        """The samples of one problem, with every score that the bank holds of them. KeyError where it has none."""
        held = self._held[problem_id]
        keys = tuple(dict.fromkeys(key for key in held.answer_class.tolist() if key is not None))
        index: dict[str | None, int] = {None: -1} | {key: i for i, key in enumerate(keys)}
        return Samples(
            problem=self._problems[problem_id],
            outcomes=held.outcome,
            classes=np.array([index[key] for key in held.answer_class.tolist()], dtype=np.int64),
            keys=keys,
            prompt_tokens=int(held.prompt_tokens[0]),
            tokens=held.tokens.astype(np.int64),
            reasoning_tokens=held.reasoning_tokens.astype(np.int64),
            was_cut=held.was_cut,
            finish_reasons=held.finish_reason,
            errors=int(held.error.sum()),
            mean_logprob=held.mean_logprob,
            worst_logprob=held.worst_logprob,
            scores={name: _fitted(of.get(problem_id), len(held)) for name, of in self._all_scores().items()},
        )

    def rows(self, problem_id: str) -> Sequence[SampleRow]:
        """The samples of a problem for people: texts and verdicts, without token ids. Read from disk."""
        light = [name for name in columns.SAMPLE_COLUMNS if name not in HEAVY]
        return sorted(self._scan(light, problem_id), key=lambda row: row.sample)

    def full_rows(self, names: Sequence[str] = tuple(columns.SAMPLE_COLUMNS)) -> Iterator[SampleRow]:
        """Every sample as stored, token ids and logprobs included, one at a time from disk, in no promised order.

        `names` are the columns wanted beside `problem` and `sample`: the fewer, the faster.
        """
        return self._scan(list(dict.fromkeys(["problem", "sample", *names])))

    def prompt_ids(self) -> dict[str, list[int]]:
        """The prompt's token ids of every problem."""
        rows = files.read_jsonl(self.folder / "problems.jsonl")
        return {str(row.get("id")): row.get("prompt_ids", []) for row in rows}

    @property
    def scorers(self) -> dict[str, ScorerFacts]:
        """The scorers that have scored samples of this bank, by the name that their scores are kept under."""
        return scores.read_facts(self.folder)

    def add_scores(self, facts: ScorerFacts, scored: Mapping[str, Sequence[float]]) -> None:
        """Keep the scores of a scorer: for each problem its samples from number 0 on, nan where there is none yet.

        Scores that are there already stay; `facts` say which scorer it is, see scores.py.
        """
        unknown = [problem for problem in scored if problem not in self._held]
        if unknown:
            raise BankError(f"{self.folder} has no samples of {unknown[0]!r} to score")
        for problem, values in scored.items():
            if len(values) > self.num_samples(problem):
                raise BankError(f"{len(values)} scores for {self.num_samples(problem)} samples of {problem!r}")
        scores.add(self.folder, facts, scored, policy=self.spec.fingerprint)
        self._scores = None

    def _all_scores(self) -> dict[str, scores.Scores]:
        if self._scores is None:
            self._scores = scores.read(self.folder, policy=self.spec.fingerprint)
        return self._scores

    def _scan(self, names: Sequence[str], problem_id: str | None = None) -> Iterator[SampleRow]:
        """Stored rows without those that repeat one, or that come after a missing one."""
        seen: dict[str, NDArray[np.bool_]] = {}
        while True:
            try:
                for row in map(SampleRow.of, columns.scan(self._parts, names, problem_id)):
                    if row.problem not in seen:
                        seen[row.problem] = np.zeros(self.num_samples(row.problem), dtype=bool)
                    if row.sample < len(seen[row.problem]) and not seen[row.problem][row.sample]:
                        seen[row.problem][row.sample] = True
                        yield row
                return
            except FileNotFoundError:
                pass  # another process has merged the part meanwhile: begin again with the parts that are there now


def _load(parts: Path) -> dict[str, SampleArrays]:
    """What is held in memory of each problem, in the order of the samples."""
    names = ("problem", "sample", *SampleArrays.column_names())
    while True:
        try:
            found = columns.read(columns.live_parts(parts).values(), names)
            break
        except FileNotFoundError:
            pass  # merged by another process between the listing and the reading
    if not found:
        return {}
    (ids, problems), samples = found.pop("problem"), found.pop("sample")
    kept = columns.first_of_equals(ids, samples)
    ids = ids[kept]
    starts = np.flatnonzero(np.diff(ids, prepend=-1))
    index = np.arange(len(ids)) - np.repeat(starts, np.diff(np.append(starts, len(ids))))
    whole = samples[kept] == index  # what comes after a missing sample waits until that is drawn again
    kept, ids = kept[whole], ids[whole]
    held = SampleArrays.of_columns(found, kept)
    cuts = [*np.flatnonzero(np.diff(ids, prepend=-1)), len(ids)]
    return {problems[ids[a]]: held[a:b] for a, b in itertools.pairwise(cuts)}


def _fitted(values: NDArray[np.float64] | None, size: int) -> NDArray[np.float64]:
    """Scores of the first samples as an array of all of them."""
    result = np.full(size, np.nan)
    if values is not None:
        result[: len(values)] = values[:size]
    return result


def _same(known: BankSpec, wanted: BankSpec, folder: Path) -> None:
    """Raise, naming every fact in which an existing bank differs from the one asked for."""
    have, want = ({**encode(spec.params), **encode(spec)} for spec in (known, wanted))
    unsaid = {"params"} if known.verifier else {"params", "verifier"}
    names = [n for n in dict.fromkeys([*want, *have]) if n not in unsaid and have.get(n) != want.get(n)]
    if names:
        differs = "; its ".join(f"{name} is {have.get(name)!r}, not {want.get(name)!r}" for name in names)
        anew = f"`ponder regrade {folder}` writes a bank with its samples judged anew, which goes on; or "
        fix = anew if {"grader", "verifier"}.issuperset(names) else ""
        raise BankError(f"{folder} holds other samples: its {differs}; {fix}choose another folder for these")


def problem_row(problem: Problem, prompt_ids: Sequence[int]) -> dict[str, Any]:
    """A line of problems.jsonl."""
    row = {name: value for name, value in vars(problem).items() if value not in (None, (), {})}
    row["prompt"] = [vars(message) for message in problem.prompt]
    # meta is for the verifier; what JSON cannot hold is kept as text, to be read by people
    meta = json.loads(json.dumps(dict(problem.meta), default=repr))
    return {**row, "meta": meta, "prompt_ids": list(prompt_ids)}


def _problem_of(row: Mapping[str, Any], folder: Path) -> Problem:
    try:
        fields = {name: value for name, value in row.items() if name != "prompt_ids"}
        prompt = tuple(Message(**message) for message in fields.pop("prompt"))
        return Problem(**{**fields, "prompt": prompt, "choices": tuple(row.get("choices", ()))})
    except (KeyError, TypeError) as error:
        raise BankError(f"{folder}/problems.jsonl has a line that is no problem ({error}); delete it") from None
