"""Labelled rollouts for a scorer: drawn from the policy on the train split, verified, and kept in RUN/rollouts.jsonl.

    one line a problem and checkpoint:
    {"problem": id, "policy": 0, "prompt_ids": [...], "samples": [{"ids": [...], "correct": 1, ...}, ...]}

For a probe the samples of the last checkpoint also have "hidden": the states that the engine kept, float16 in base64.
Checkpoints and temperatures are mixed, as a scorer that saw one of each misjudges the others (arXiv:2312.09241). A
resumed run draws only what is missing. For a process scorer the rollouts also say what a step is worth: from its end
the policy continues `continuations` times, and the label is the share that ends correct (arXiv:2312.08935).
"""

from __future__ import annotations

import asyncio
import base64
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ponder.config import ConfigError
from ponder.engine.local import LocalEngine
from ponder.files import append_jsonl, read_jsonl
from ponder.models import hub
from ponder.models.tokenizer import Tokenizer
from ponder.rollouts.collect import collect, single
from ponder.rollouts.grade import Tally, grade, refuse_failing
from ponder.rollouts.side_by_side import side_by_side
from ponder.runs import find_checkpoints
from ponder.scorers.packing import CompletionGroup
from ponder.train.distributed import pick_device
from ponder.train.scorer_recipe import Progress
from ponder.types import Completion, Problem, Rollout, SamplingParams, Task, text_seed


@dataclass(frozen=True, kw_only=True)
class DrawPlan:
    """What is drawn of each problem."""

    num_problems: int
    num_samples: int
    temperatures: tuple[float, ...]
    params: SamplingParams
    seed: int
    continuations: int = 0  # of each step that is labelled; 0 = steps are not labelled
    steps_per_sample: int = 0  # step ends that are labelled, at most; drawn from all of them alike
    int8: bool = False  # the sampler's products with weights
    keep_hidden: bool = False  # of the last checkpoint's samples: it is the policy whose states a probe reads

    def shares(self, num_policies: int) -> list[dict[float, int]]:
        """For each checkpoint, oldest first, how many samples at which temperature. The last one has half of all."""
        early = 0 if num_policies == 1 else self.num_samples // (2 * (num_policies - 1))
        counts = [early] * (num_policies - 1)
        counts.append(self.num_samples - sum(counts))
        kinds = len(self.temperatures)
        return [
            {t: n // kinds + (i < n % kinds) for i, t in enumerate(self.temperatures) if n // kinds + (i < n % kinds)}
            for n in counts
        ]


@dataclass(frozen=True)
class Drawn:
    """The samples of one problem, from all checkpoints and temperatures."""

    problem: str
    group: CompletionGroup
    correct: NDArray[np.float64]  # (B,) 0 or 1
    steps: tuple[tuple[int, int, float], ...]  # (sample, ids up to the step's end, share of continuations correct)
    hidden: Mapping[int, NDArray[np.float32]] = field(default_factory=dict)  # sample -> its states (F,), where kept

    @property
    def is_mixed(self) -> bool:
        """Whether there are right and wrong samples: only such a problem shows a scorer what to tell apart."""
        return 0 < self.correct.mean() < 1


def policies(reference: str) -> list[Path]:
    """The model folders to draw from: of a run its early, its middle and its last checkpoint; else the model alone."""
    run = Path(reference).expanduser()
    kept = find_checkpoints(run) if run.is_dir() else []
    if not kept:
        return [hub.resolve(reference)]
    middle = len(kept) // 2
    early = len(kept) // 4
    return [kept[i] for i in sorted({early, middle, len(kept) - 1})]


def draw(
    task: Task,
    models: Sequence[Path],
    plan: DrawPlan,
    out: Path,
    *,
    num_workers: int,
    num_slots: int,
    on_progress: Progress | None = None,
) -> None:
    """Draw what is missing in `out`."""
    if task.split != "train":
        raise ConfigError(f"{task.name} is the {task.split} split; a scorer is trained on the train split")
    problems = [task[i] for i in range(min(plan.num_problems, len(task)))]
    done, right, total = set(), 0, 0

    def count(row: dict[str, Any]) -> None:
        nonlocal right, total
        done.add((row["problem"], row["policy"]))
        right, total = right + sum(s["correct"] for s in row["samples"]), total + len(row["samples"])

    known = {problem.id for problem in problems}
    for number, row in enumerate(read_jsonl(out, "policy"), 1):
        if str(row.get("problem")) not in known or not 0 <= row["policy"] < len(models) or not _is_whole(row):
            raise ConfigError(f"{out}:{number} is damaged or of another run; delete that line, and it is drawn again")
        count(row)
    wanted = len(models) * len(problems)
    engine: LocalEngine | None = None
    try:
        for index, shares in enumerate(plan.shares(len(models))):
            todo = [problem for problem in problems if (problem.id, index) not in done]
            if not todo or not shares:
                continue
            model, tokenizer = hub.load(models[index], dtype=None, device=pick_device())
            if engine is None:
                engine = LocalEngine(
                    model, tokenizer, num_workers=num_workers, num_slots=num_slots, int8=plan.int8,
                    keep_hidden=plan.keep_hidden,
                )  # fmt: skip
            else:
                engine.update_weights(model.state_dict(), version=index)
            del model

            def arrived(row: dict[str, Any]) -> None:
                append_jsonl(out, [row])
                count(row)
                if on_progress:
                    on_progress(len(done), wanted, right / max(1, total))

            in_flight = max(1, 4 * num_slots * max(1, num_workers) // plan.num_samples)
            here = replace(plan, keep_hidden=plan.keep_hidden and index == len(models) - 1)
            asyncio.run(_draw_all(engine, tokenizer, task, todo, index, shares, here, in_flight, arrived))
    finally:
        if engine is not None:
            engine.close()


async def _draw_all(
    engine: LocalEngine,
    tokenizer: Tokenizer,
    task: Task,
    problems: Sequence[Problem],
    index: int,
    shares: dict[float, int],
    plan: DrawPlan,
    in_flight: int,
    arrived: Callable[[dict[str, Any]], None],
) -> None:
    todo = iter(problems)
    ends = step_ids(tokenizer) if plan.continuations else ()
    graded = Tally()

    async def work() -> None:
        nonlocal graded
        for problem in todo:  # shared by all workers: each takes the next
            groups = await asyncio.gather(
                *(
                    collect(
                        single(engine), task, [problem], replace(plan.params, temperature=temperature),
                        group_size=n, seed=plan.seed, step=1000 * index + place, keys=True,
                    )
                    for place, (temperature, n) in enumerate(shares.items())
                )
            )  # fmt: skip
            graded = sum((group.tally for group in groups), graded)
            refuse_failing(graded)
            completions = [rollout.completion for group in groups for rollout in group.rollouts]
            rows = [_sample_row(rollout, plan.keep_hidden) for group in groups for rollout in group.rollouts]
            if plan.continuations:
                labels = await _label_steps(engine, task, problem, completions, ends, plan)
                for row, steps in zip(rows, labels, strict=True):
                    row["steps"] = steps
            prompt_ids = list(completions[0].prompt_ids) if completions else []
            arrived({"problem": problem.id, "policy": index, "prompt_ids": prompt_ids, "samples": rows})

    await side_by_side(work, in_flight)


def _is_whole(row: dict[str, Any]) -> bool:
    """Whether a line of the file has all that `load` reads of it."""
    samples, needed = row.get("samples"), {"ids", "logprobs", "correct", "class", "cut"}
    return isinstance(row.get("prompt_ids"), list) and isinstance(samples, list) and all(
        isinstance(sample, dict) and needed <= sample.keys() and _hidden_is_whole(sample) for sample in samples
    )  # fmt: skip


def _hidden_is_whole(sample: dict[str, Any]) -> bool:
    try:
        return "hidden" not in sample or bool(np.isfinite(_hidden(sample["hidden"])).all())
    except (ValueError, TypeError):
        return False


def _sample_row(rollout: Rollout, keep_hidden: bool) -> dict[str, Any]:
    completion = rollout.completion
    row = {
        "ids": list(completion.token_ids),
        "logprobs": [round(x, 4) for x in completion.sampler_logprobs],
        "correct": int(rollout.verdict.is_correct),
        "class": rollout.verdict.key,
        "cut": completion.was_cut,
    }
    return row | {"hidden": _as_text(completion.hidden)} if keep_hidden and completion.hidden is not None else row


def _as_text(hidden_F: NDArray[np.float32]) -> str:
    most = float(np.finfo(np.float16).max)
    return base64.b64encode(np.clip(hidden_F, -most, most).astype("<f2").tobytes()).decode()


def _hidden(text: str) -> NDArray[np.float32]:
    return np.frombuffer(base64.b64decode(text, validate=True), "<f2").astype(np.float32)


def step_ids(tokenizer: Tokenizer) -> list[int]:
    """The tokens that end a step of reasoning: those whose text ends a line."""
    return [i for i in range(tokenizer.vocab_size) if tokenizer.decode([i]).endswith("\n")]


async def _label_steps(
    engine: LocalEngine,
    task: Task,
    problem: Problem,
    completions: Sequence[Completion],
    ends: Sequence[int],
    plan: DrawPlan,
) -> list[list[tuple[int, float]]]:
    """(ids up to a step's end, share of continuations that end correct) of some steps of every completion.

    Completions that begin alike share the label of what they share. Continuations whose verdict is undecided or failed
    are left out of the share, and a step without any other has no label.
    """
    known = set(ends)
    chosen: list[list[int]] = []
    for completion in completions:
        inside = completion.token_ids[: completion.num_reasoning_tokens]
        places = [i + 1 for i, token in enumerate(inside) if token in known]
        rng = np.random.default_rng(text_seed(plan.seed, "steps", problem.id, completion.seed))
        chosen.append(sorted(rng.permutation(places)[: plan.steps_per_sample].tolist()))
    prefixes = list(dict.fromkeys(c.token_ids[:place] for c, places in zip(completions, chosen, strict=True)
                                  for place in places))  # fmt: skip

    async def share(prefix: tuple[int, ...]) -> float | None:
        left = max(0, plan.params.max_reasoning_tokens - len(prefix))
        seed = text_seed(plan.seed, "continue", problem.id, *prefix)
        params = replace(plan.params, temperature=1.0, max_reasoning_tokens=left, min_reasoning_tokens=0, seed=seed)
        ways = await engine.generate([*completions[0].prompt_ids, *prefix], params, n=plan.continuations)
        decided = [v for v in await grade(task, problem, ways) if v.outcome in ("correct", "wrong")]
        return sum(verdict.is_correct for verdict in decided) / len(decided) if decided else None

    labels = dict(zip(prefixes, await asyncio.gather(*map(share, prefixes)), strict=True))
    return [
        [(place, label) for place in places if (label := labels[c.token_ids[:place]]) is not None]
        for c, places in zip(completions, chosen, strict=True)
    ]


def load(path: Path) -> list[Drawn]:
    """Everything in rollouts.jsonl by problem, in the order of the ids' first appearance; problems without a sample
    are left out."""
    prompts: dict[str, list[int]] = {}
    samples: dict[str, list[dict[str, Any]]] = {}
    for row in sorted(read_jsonl(path), key=lambda row: row["policy"]):  # the order of arrival is chance
        if row["samples"]:
            prompts.setdefault(row["problem"], row["prompt_ids"])
            samples.setdefault(row["problem"], []).extend(row["samples"])
    return [_drawn(problem, prompts[problem], samples[problem]) for problem in sorted(samples)]


def _drawn(problem: str, prompt_ids: list[int], rows: list[dict[str, Any]]) -> Drawn:
    keys = {key: i for i, key in enumerate(dict.fromkeys(r["class"] for r in rows if r["class"] is not None))}
    group = replace(
        CompletionGroup.of(prompt_ids, [row["ids"] for row in rows]),
        logprobs=np.fromiter(itertools.chain.from_iterable(row["logprobs"] for row in rows), np.float32),
        was_cut=np.array([row["cut"] for row in rows], dtype=bool),
        classes=np.array([-1 if row["class"] is None else keys[row["class"]] for row in rows], dtype=np.int64),
    )
    correct = np.array([row["correct"] for row in rows], dtype=np.float64)
    hidden = {sample: _hidden(row["hidden"]) for sample, row in enumerate(rows) if "hidden" in row}
    return Drawn(problem, group, correct, tuple(_steps(rows)), hidden)


def _steps(rows: list[dict[str, Any]]) -> Iterator[tuple[int, int, float]]:
    for sample, row in enumerate(rows):
        for place, share in row.get("steps", ()):
            yield sample, int(place), float(share)


def split(drawn: Sequence[Drawn], held_out: float, seed: int) -> tuple[list[Drawn], list[Drawn]]:
    """(train, held out): by problem, never by sample, and by the problem's name alone."""

    def place(item: Drawn) -> float:
        return text_seed(seed, "held out", item.problem) / 2**63

    ordered = sorted(drawn, key=place)
    count = min(len(ordered) - 1, max(1, round(held_out * len(ordered)))) if len(ordered) > 1 else 0
    if not count:
        raise ConfigError(f"{len(ordered)} problems cannot be split; draw at least 2 (num_problems)")
    return ordered[count:], ordered[:count]
