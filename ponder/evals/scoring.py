"""Score every sample of a bank that a scorer has not scored yet, and keep the scores beside the samples.

    with Bank.read(folder) as bank:
        score_bank(bank, "runs/scorer_nano")        # -> bank.samples(problem_id).scores["outcome"]

The stored token ids are read, nothing is tokenised again; features take the sampler's own logprobs. Scores are kept
every few seconds: a second run goes on from there.

    with ScoringAsDrawn("runs/probe") as scored:                       # an engine with keep_hidden
        await run_exam(task, engine, ..., on_drawn=scored)             # a probe costs nothing here
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ponder.config import ConfigError
from ponder.evals import scores
from ponder.evals.bank import Bank
from ponder.evals.results import ReadingCost, ScorerFacts
from ponder.evals.rows import SampleRow
from ponder.scorers import TokenScorer, check_policy, load_scorer
from ponder.scorers.files import fingerprint
from ponder.scorers.packing import CompletionGroup
from ponder.scorers.pool import score_chunks
from ponder.types import Completion, Problem

CHUNK = 4000  # samples that a worker takes at a time
READ = 8192  # tokens that it then reads at most, but for one problem: a network of 0.5 B reads a few hundred a second
KEEP_EVERY = 20.0  # seconds

Progress = Callable[[int, int, float], None]  # samples scored, samples, mean of the scores of this run


@dataclass(frozen=True, kw_only=True)
class ScoringResult(ScorerFacts):
    """What `ponder score` did."""

    samples: int
    scored_now: int
    seconds: float


def score_bank(
    bank: Bank, scorer_folder: str | Path, *, name: str = "", num_workers: int = 0, on_progress: Progress | None = None
) -> ScoringResult:
    """Returns what was done. `name`: what the scores are stored under, default the scorer's own name."""
    scorer = load_scorer(scorer_folder)
    check_policy(scorer, bank.spec.fingerprint)
    facts = _facts(scorer, scorer_folder, name)
    todo = [problem.id for problem in bank.problems if not _is_done(bank, problem.id, facts.name)]
    total = sum(bank.num_samples(problem.id) for problem in bank.problems)
    done = total - sum(map(bank.num_samples, todo))
    begun, first, sums = time.monotonic(), done, 0.0
    families = read_answers(bank, todo, scorer) or read_families(bank, todo)
    chunks = _chunks(todo, families, is_read=scorer.needs_forward_pass)
    kept: dict[str, NDArray[np.float64]] = {}
    saved = time.monotonic()
    with ExitStack() as stack:
        if todo:
            stack.enter_context(scores.held(bank.folder, facts.name))
        groups = [[families[problem] for problem in chunk] for chunk in chunks]
        scored = stack.enter_context(closing(score_chunks(scorer_folder, groups, num_workers=num_workers)))
        try:
            for index, found in scored:
                kept |= dict(zip(chunks[index], found, strict=True))
                done, sums = done + sum(map(len, found)), sums + sum(float(x.sum()) for x in found)
                if time.monotonic() - saved > KEEP_EVERY:
                    bank.add_scores(facts, {problem: values.tolist() for problem, values in kept.items()})
                    kept, saved = {}, time.monotonic()
                if on_progress:
                    on_progress(done, total, sums / (done - first))
        finally:
            if kept:
                bank.add_scores(facts, {problem: values.tolist() for problem, values in kept.items()})
    seconds = time.monotonic() - begun
    return ScoringResult(**vars(facts), samples=total, scored_now=done - first, seconds=seconds)


class ScoringAsDrawn:
    """For `run_exam(on_drawn=...)`: scores the samples whose hidden states the engine has just kept, for a scorer that
    reads them. All others are left to `score_bank`: their scorers read tokens, or what else was drawn."""

    def __init__(self, scorer_folder: str | Path, *, policy: str = "", name: str = "") -> None:
        """policy: the fingerprint of the model that draws. A scorer of another one is a warning, and reads the samples
        afterwards by the network that it is of."""
        self._scorer = load_scorer(scorer_folder)
        self.keeps_hidden = check_policy(self._scorer, policy) and "hidden" in self._scorer.needs  # of the engine
        self._facts = _facts(self._scorer, scorer_folder, name)
        self._kept: dict[str, list[float]] = {}
        self._bank: Bank | None = None
        self._held = ExitStack()
        self._saved = time.monotonic()

    def check(self, folder: Path) -> None:
        """BankError, before anything is drawn, where a bank has scores of another scorer under this name."""
        scores.check(folder, self._facts)

    async def __call__(self, bank: Bank, problem: Problem, first: int, completions: Sequence[Completion]) -> None:
        if not self.keeps_hidden or any(completion.hidden is None for completion in completions):
            return
        if self._bank is None:
            self._held.enter_context(scores.held(bank.folder, self._facts.name))
            self._bank = bank
        values = await self._scorer(problem.prompt, completions)
        before = self._kept.get(problem.id, [])
        self._kept[problem.id] = [*before, *[math.nan] * (first - len(before)), *values]
        if time.monotonic() - self._saved > KEEP_EVERY:
            self._keep()

    def _keep(self) -> None:
        if self._bank is not None and self._kept:
            self._bank.add_scores(self._facts, self._kept)
        self._kept, self._saved = {}, time.monotonic()

    def __enter__(self) -> ScoringAsDrawn:
        return self

    def __exit__(self, *error: object) -> None:
        with self._held:
            self._keep()


def _facts(scorer: TokenScorer, folder: str | Path, name: str) -> ScorerFacts:
    return ScorerFacts(
        name=name or scorer.name,
        kind=scorer.kind,
        scorer=scorer.name,
        fingerprint=fingerprint(folder),
        policy=scorer.policy,
        cost=cost(scorer),
        joint="peers" in scorer.needs,  # the share of an answer class is of all that was drawn
    )


def _is_done(bank: Bank, problem_id: str, name: str) -> bool:
    scores = bank.samples(problem_id).scores.get(name)
    return scores is not None and not np.isnan(scores).any()


def cost(scorer: TokenScorer) -> ReadingCost:
    """How often a token is read and what that costs; zeros for a scorer that needs no forward pass."""
    if not scorer.needs_forward_pass:
        return ReadingCost(prompt=0.0, sample=0.0, flops_per_token=0.0)
    return ReadingCost(flops_per_token=scorer.flops_per_token)


def read_families(bank: Bank, problem_ids: Sequence[str]) -> dict[str, CompletionGroup]:
    """Every problem's samples as arrays, in the order of their numbers."""
    prompts = bank.prompt_ids()
    ids: dict[str, dict[int, NDArray[np.int32]]] = {problem: {} for problem in problem_ids}
    logprobs: dict[str, dict[int, NDArray[np.float32]]] = {problem: {} for problem in problem_ids}
    if problem_ids:
        for row in bank.full_rows(["token_ids", "sampler_logprobs"]):
            if row.problem in ids:
                ids[row.problem][row.sample] = np.array(row.token_ids, np.int32)
                logprobs[row.problem][row.sample] = np.array(row.sampler_logprobs, np.float32)
    return {problem: _family(bank, problem, prompts, ids[problem], logprobs[problem]) for problem in problem_ids}


def read_answers(bank: Bank, problem_ids: Sequence[str], scorer: TokenScorer) -> dict[str, CompletionGroup]:
    """The same for a scorer that reads visible answers, in its own ids; nothing for one that reads the sampler's."""
    prompts = {problem.id: problem.prompt for problem in bank.problems if problem.id in set(problem_ids)}
    if not prompts or scorer.group_of_answers(next(iter(prompts.values())), [], []) is None:
        return {}
    rows: dict[str, dict[int, SampleRow]] = {problem: {} for problem in problem_ids}
    for row in bank.full_rows(["answer", "finish_reason"]):
        if row.problem in rows:
            rows[row.problem][row.sample] = row
    found = {}
    for problem, prompt in prompts.items():
        if prompt[0].content.startswith("(withheld: "):
            raise ConfigError(f"{bank.folder} does not hold the texts of {problem}: a scorer that reads them cannot")
        own = [rows[problem][i] for i in range(len(rows[problem]))]
        group = scorer.group_of_answers(prompt, [r.answer for r in own], [r.finish_reason == "stop" for r in own])
        assert group is not None
        found[problem] = group
    return found


def _family(
    bank: Bank,
    problem_id: str,
    prompts: dict[str, list[int]],
    ids: dict[int, NDArray[np.int32]],
    logprobs: dict[int, NDArray[np.float32]],
) -> CompletionGroup:
    samples = bank.samples(problem_id)
    rows = [ids[i] for i in range(len(samples))]
    if not prompts.get(problem_id) or ((samples.tokens > 0).any() and not any(map(len, rows))):
        raise ConfigError(
            f"the samples of {problem_id} in {bank.folder} have no token ids: they are of a remote engine, or of a "
            "benchmark whose texts may not be kept; a scorer that reads tokens cannot score them"
        )
    known = np.concatenate([logprobs[i] for i in range(len(samples))])
    flat = np.concatenate(rows)
    lengths = np.array([len(row) for row in rows], np.int64)
    family = CompletionGroup(np.array(prompts[problem_id], np.int32), flat, lengths)
    return replace(
        family, logprobs=known if len(known) == len(flat) else None, was_cut=samples.was_cut, classes=samples.classes
    )


def _chunks(problem_ids: Sequence[str], families: dict[str, CompletionGroup], *, is_read: bool) -> list[list[str]]:
    """Whole problems, as a prompt is read once: at most about CHUNK samples together, and READ tokens where a network
    reads them. What a worker has not finished is lost with Ctrl-C, and shows no progress."""
    chunks: list[list[str]] = []
    size, tokens = CHUNK, 0
    for problem in problem_ids:
        family = families[problem]
        own = len(family.prompt_ids) + len(family.token_ids) if is_read else 0
        if size >= CHUNK or tokens + own > READ:
            chunks.append([])
            size = tokens = 0
        chunks[-1].append(problem)
        size, tokens = size + len(family), tokens + own
    return chunks
