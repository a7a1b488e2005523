"""The sample bank: every completion drawn for an exam, stored once; every metric is then a pure function of a folder.

    DIR/bank.json        what was drawn from what: task, split, model, fingerprint, sampling, seed, grader
    DIR/problems.jsonl   one problem a line, with the token ids of its prompt
    DIR/bank.jsonl       one sample a line: token ids, logprobs, verdict, answer class, cost

    with Bank.open(folder, spec) as bank:       # made, or continued; other settings are an error that names them
        bank.num_samples(problem.id)            # ask the engine for `first=` this many
        bank.append(problem, rows, prompt_ids=ids)
    bank = Bank.read(folder)                    # no model, no task
    bank.samples(problem_id).outcomes           # arrays, whatever the file format

Append-only: `kill -9` costs at most the problem being written, and running again draws only what is missing. Samples
are drawn by (seed, problem id, sample index), so a bank grown in two sittings equals one drawn in one. Readers take the
arrays of `Samples` and the rows of `rows`, never the lines, so the files can become columnar. One writer at a time.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ponder import runs
from ponder.tasks.prompting import question
from ponder.types import Completion, Message, Problem, SamplingParams, Verdict

try:
    import fcntl
except ImportError:  # no file locks on this system: then nothing warns of two writers
    fcntl = None  # type: ignore[assignment]

FORMAT = 1
HEAVY = ("token_ids", "sampler_logprobs", "forced")  # left in the file until asked for: most of its bytes


class BankError(ValueError):
    """A folder that is no bank, or the bank of something else; the message says what differs."""


@dataclass(frozen=True, kw_only=True)
class BankSpec:
    """What all samples of a bank share. Two specs that differ cannot share a folder."""

    task: str
    split: str
    model: str  # the reference as the user wrote it
    fingerprint: str = ""  # of the weights; "" where the weights cannot be seen
    params: SamplingParams  # its seed is not used: `seed` below, with the problem's id, gives each request its own
    seed: int = 0
    grader: str = ""  # which code judged the answers
    prompting: str = "none"  # how the problems were asked, see ponder/tasks/prompting.py

    def facts(self) -> dict[str, Any]:
        facts = {"format": FORMAT, **dataclasses.asdict(self)}
        if self.prompting == "none":  # as banks were before there were others
            del facts["prompting"]
        del facts["params"]["seed"]
        if not self.params.pause:
            del facts["params"]["pause"]
        facts["params"]["stop"] = list(self.params.stop)
        return facts


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

    def __len__(self) -> int:
        return len(self.outcomes)

    @property
    def correct(self) -> NDArray[np.bool_]:
        return self.outcomes == "correct"

    @property
    def blank(self) -> int:
        """Samples without an answer."""
        return int((self.classes < 0).sum())

    def tally(self) -> tuple[list[int], list[int]]:
        """(samples, correct samples) of each answer class: what `stats.cons_at` takes."""
        counts = [int((self.classes == c).sum()) for c in range(len(self.keys))]
        correct = [int((self.correct & (self.classes == c)).sum()) for c in range(len(self.keys))]
        return counts, correct


def sample_row(
    problem: Problem, index: int, completion: Completion, verdict: Verdict, key: str | None, error: str = ""
) -> dict[str, Any]:
    """One line of bank.jsonl."""
    return {
        "problem": problem.id,
        "sample": index,
        "seed": completion.seed,
        "policy_version": completion.policy_version,
        "outcome": verdict.outcome,
        "class": key,  # None = no answer
        "extracted": verdict.extracted,
        "finish_reason": completion.finish_reason,
        "prompt_tokens": completion.num_prompt_tokens,
        "reasoning_tokens": completion.num_reasoning_tokens,
        "reasoning": completion.reasoning,
        "answer": completion.answer,
        **({"note": verdict.note} if verdict.note else {}),
        **({"error": error} if error else {}),
        "token_ids": list(completion.token_ids),
        # nine digits give a float32 back exactly
        "sampler_logprobs": [float(f"{logprob:.9g}") for logprob in completion.sampler_logprobs],
        "forced": [i for i, drawn in enumerate(completion.sampled) if not drawn],
        "tokens": completion.num_tokens,
        "was_cut": completion.was_cut,
    }


def withheld(problem: Problem) -> Problem:
    """A problem of a gated benchmark as a bank may hold it: a digest in place of its texts."""
    digest = hashlib.sha256(question(problem).encode()).hexdigest()
    return dataclasses.replace(
        problem, prompt=(Message(role="user", content=f"(withheld: {digest})"),), choices=(), meta={}
    )


def withheld_row(row: dict[str, Any]) -> dict[str, Any]:
    """A sample without what it says, since that quotes the problem: verdict, class and cost stay."""
    return row | {"reasoning": "", "answer": "", "token_ids": [], "sampler_logprobs": [], "forced": []}


def completion_of(row: Mapping[str, Any], prompt_ids: Sequence[int]) -> Completion:
    """The completion that a full row was made from, as a trainer or a scorer wants it."""
    forced = set(row["forced"])
    return Completion(
        prompt_ids=tuple(prompt_ids),
        token_ids=tuple(row["token_ids"]),
        sampler_logprobs=tuple(row["sampler_logprobs"]),
        sampled=tuple(i not in forced for i in range(len(row["token_ids"]))),
        finish_reason=row["finish_reason"],
        reasoning=row["reasoning"],
        answer=row["answer"],
        num_reasoning_tokens=row["reasoning_tokens"],
        policy_version=row["policy_version"],
        seed=row["seed"],
    )


class Bank:
    """The samples of a folder. Texts and verdicts are held in memory; token ids and logprobs stay on disk."""

    def __init__(self, folder: Path, facts: Mapping[str, Any]) -> None:
        self.folder, self.facts = folder, facts
        self._problems: dict[str, Problem] = {}
        self._rows: dict[str, list[dict[str, Any]]] = {}
        self._lock: Any = None
        for row in runs.read_jsonl(folder / "problems.jsonl"):
            problem = _problem_of(row, folder)
            self._problems[problem.id] = problem
        for row in runs.read_jsonl(folder / "bank.jsonl"):
            self._take(row)

    @classmethod
    def open(cls, folder: str | Path, spec: BankSpec) -> Bank:
        """Open for writing: a new folder is made, a bank of the same spec is continued, any other is an error."""
        folder = Path(folder)
        head, wanted = folder / "bank.json", spec.facts()
        if head.exists():
            _same(_read_facts(folder), wanted, folder)
        else:
            if (folder / "bank.jsonl").exists():
                raise BankError(f"{folder} has samples but no bank.json that says of what; choose another folder")
            runs.write_atomic(head, json.dumps(wanted, indent=1, ensure_ascii=False) + "\n")
        lock = _lock(head)
        bank = cls(folder, wanted)
        bank._lock = lock
        return bank

    @classmethod
    def read(cls, folder: str | Path) -> Bank:
        """Open for reading; neither model nor task is needed."""
        return cls(Path(folder), _read_facts(Path(folder)))

    def __enter__(self) -> Bank:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    @property
    def problems(self) -> list[Problem]:
        """Problems that have at least one sample, in the order they were finished."""
        return [problem for problem in self._problems.values() if self._rows.get(problem.id)]

    def num_samples(self, problem_id: str) -> int:
        return len(self._rows.get(problem_id, ()))

    def append(self, problem: Problem, rows: Sequence[dict[str, Any]], *, prompt_ids: Sequence[int]) -> None:
        """Add the next samples of a problem in one write."""
        known = self._problems.get(problem.id)
        if known is None:
            runs.append_jsonl(self.folder / "problems.jsonl", [_problem_row(problem, prompt_ids)])
            self._problems[problem.id] = problem
        else:
            self.check(problem)
        runs.append_jsonl(self.folder / "bank.jsonl", list(rows))
        for row in rows:
            self._take(row)

    def check(self, problem: Problem) -> None:
        """The problem of this id is the stored one: a task file edited between two runs must not mix two exams."""
        known = self._problems.get(problem.id)
        if known is not None and (known.prompt, known.target) != (problem.prompt, problem.target):
            raise BankError(
                f"{self.folder} holds another problem under the id {problem.id!r}: the task has changed since; "
                "choose another folder"
            )

    def samples(self, problem_id: str) -> Samples:
        rows = self._rows[problem_id]
        keys = tuple(dict.fromkeys(row["class"] for row in rows if row["class"] is not None))
        place = {key: i for i, key in enumerate(keys)}
        return Samples(
            problem=self._problems[problem_id],
            outcomes=np.array([row["outcome"] for row in rows]),
            classes=np.array([-1 if row["class"] is None else place[row["class"]] for row in rows], dtype=np.int64),
            keys=keys,
            prompt_tokens=int(rows[0]["prompt_tokens"]),
            tokens=np.array([row["tokens"] for row in rows], dtype=np.int64),
            reasoning_tokens=np.array([row["reasoning_tokens"] for row in rows], dtype=np.int64),
            was_cut=np.array([row["was_cut"] for row in rows], dtype=bool),
            finish_reasons=np.array([row["finish_reason"] for row in rows]),
            errors=sum("error" in row for row in rows),
        )

    def rows(self, problem_id: str) -> Sequence[Mapping[str, Any]]:
        """The samples of a problem for people: texts and verdicts, without token ids."""
        return self._rows[problem_id]

    def full_rows(self) -> Iterator[Mapping[str, Any]]:
        """Every sample as stored, token ids and logprobs included, one at a time from disk."""
        seen: dict[str, int] = {}
        for row in runs.read_jsonl(self.folder / "bank.jsonl"):
            if row["sample"] == seen.get(row["problem"], 0):
                seen[row["problem"]] = row["sample"] + 1
                yield row

    def prompt_ids(self) -> dict[str, list[int]]:
        """The prompt's token ids of every problem."""
        return {row["id"]: row["prompt_ids"] for row in runs.read_jsonl(self.folder / "problems.jsonl")}

    def _take(self, row: Mapping[str, Any]) -> None:
        try:
            rows = self._rows.setdefault(row["problem"], [])
            if row["sample"] == len(rows):  # a repeated index is the same sample drawn twice: kept once
                rows.append({name: value for name, value in row.items() if name not in HEAVY})
        except (KeyError, TypeError) as error:
            raise BankError(f"{self.folder}/bank.jsonl has a line that is no sample ({error}); delete it") from None


def _read_facts(folder: Path) -> dict[str, Any]:
    try:
        facts = json.loads((folder / "bank.json").read_text())
        if not isinstance(facts, dict) or facts.get("format") != FORMAT:
            raise BankError(f"{folder}/bank.json is of another format than {FORMAT}; use the ponder that wrote it")
        return facts
    except FileNotFoundError:
        raise BankError(f"no sample bank in {folder}; `ponder eval --out {folder}` makes one") from None
    except ValueError as error:
        raise error if isinstance(error, BankError) else BankError(f"{folder}/bank.json is not JSON: {error}") from None


def _same(known: Mapping[str, Any], wanted: Mapping[str, Any], folder: Path) -> None:
    """Raise, naming every fact in which an existing bank differs from the one asked for."""
    flat_known, flat_wanted = _flat(known), _flat(wanted)
    differs = [
        f"{name} is {flat_known.get(name)!r}, not {flat_wanted.get(name)!r}"
        for name in dict.fromkeys([*flat_wanted, *flat_known])
        if flat_known.get(name) != flat_wanted.get(name)
    ]
    if differs:
        raise BankError(f"{folder} holds other samples: its {'; its '.join(differs)}; choose another folder for these")


def _flat(facts: Mapping[str, Any]) -> dict[str, Any]:
    plain = {name: value for name, value in facts.items() if name != "params"}
    return {"prompting": "none", **plain, **facts.get("params", {})}


def _lock(head: Path) -> Any:
    """Hold the folder for one writer; the lock goes with the process, also by kill -9."""
    file = open(head)  # noqa: SIM115 - held open on purpose
    if fcntl is not None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise BankError(f"another process writes to {head.parent}; wait for it or choose another folder") from None
        except OSError:
            return file  # a file system without locks
    return file


def _problem_row(problem: Problem, prompt_ids: Sequence[int]) -> dict[str, Any]:
    row = {name: value for name, value in vars(problem).items() if value not in (None, (), {})}
    row["prompt"] = [vars(message) for message in problem.prompt]
    # meta is for the verifier; what JSON cannot hold is kept as text, to be read by people
    meta = json.loads(json.dumps(dict(problem.meta), default=repr))
    return {**row, "meta": meta, "prompt_ids": list(prompt_ids)}


def _problem_of(row: Mapping[str, Any], folder: Path) -> Problem:
    try:
        fields = {name: value for name, value in row.items() if name != "prompt_ids"}
        fields["prompt"] = tuple(Message(**message) for message in row["prompt"])
        fields["choices"] = tuple(row.get("choices", ()))
        return Problem(**fields)
    except (KeyError, TypeError) as error:
        raise BankError(f"{folder}/problems.jsonl has a line that is no problem ({error}); delete it") from None
