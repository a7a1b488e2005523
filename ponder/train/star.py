"""STaR and expert iteration: draw many samples, keep the verified ones, train on them, repeat.

    ponder star --model runs/sft --task gsm8k --samples 8 --out data/star.jsonl
    ponder sft recipes/sft_smollm2_cpu.toml data=data/star.jsonl out=runs/sft_2

This is rejection sampling, the inner step of STaR (arXiv:2203.14465) and of expert iteration. With `hint`, problems
that no sample solved are tried once more with the answer in the prompt (STaR's rationalisation); what is kept then is
the reasoning under the *original* problem, and only where it does not speak of the hint.

A model without reasoning marks works in its answer: that work becomes the reasoning of the row, and what the verifier
read in it becomes the answer. So such a model can be taught to think before it answers by nothing but its own work
(asked, where it needs it, with a `prompting` that is not in the rows; `shortest` and `brief` teach brevity at the same
time).

A system message that a problem's prompt shows stands in the row as `system`, so that training asks as drawing did. With
`drop_system` it stands there as `dropped_system` instead, which training never shows: what the message asked for is
then learned without it (deliberative alignment, arXiv:2412.16339; `policies.py` has the whole of it).

Nothing computed is lost: a problem's rows are appended when it is done, and OUT.progress.jsonl says which are. Asking
again goes on from there; asking for another model, task or way of sampling is refused.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

from ponder.config import ConfigError, check, setting
from ponder.files import append_jsonl, jsonl, lock_beside, write_atomic
from ponder.rewarding import refuse_chosen, refuse_monitor, training
from ponder.rollouts.grade import Tally, grade, refuse_failing
from ponder.rollouts.progress import damaged, resumed, whole_json
from ponder.rollouts.side_by_side import side_by_side
from ponder.strategies.deliberation_environment import PAUSE
from ponder.tasks.base import problems_hash
from ponder.tasks.prompting import question
from ponder.train.brevity import brief
from ponder.types import Completion, Engine, Message, Problem, SamplingParams, Task, Verdict, text_seed

HINT = "(Hint: the answer is {target}. Show how it comes about, and do not mention the hint.)"
_SPEAKS_OF_IT = re.compile(
    r"\bhints?\b|\bgiven answer\b|\bas given\b|\bthe answer is (?:said|known|told)", re.IGNORECASE
)

Progress = Callable[[int, int, float], None]  # problems done, problems, share of them with a kept row


@dataclass(frozen=True, kw_only=True)
class StarConfig:
    """How rows are drawn and how many of a problem are kept."""

    num_samples: int = setting(8, "of a problem", least=1, also="num_generations n group_size")
    keep: int = setting(4, "different right solutions of a problem, at most; drawn from all of them alike", least=1)
    shortest: bool = setting(False, "keep the shortest of them instead")
    brief: bool = setting(False, "leave out of the work what announces it and what says its result again")
    drop_system: bool = setting(False, "rows are trained on without the system message under which they were drawn")
    hint: bool = setting(False, "try unsolved problems again with the answer in the prompt")
    params: SamplingParams = field(default_factory=SamplingParams)
    seed: int = setting(0, "of the samples", least=0)
    in_flight: int = setting(256, "samples asked for at once", least=1)

    def __post_init__(self) -> None:
        check(self)
        if self.num_samples > 1 and self.params.temperature == 0:
            raise ValueError("temperature=0 draws the same sample every time; use a positive one, e.g. 0.8")


async def star(
    task: Task,
    engine: Engine,
    config: StarConfig,
    *,
    out: str | Path,
    model: str,
    name: str = "",
    limit: int | None = None,
    on_progress: Progress | None = None,
) -> dict[str, Any]:
    """Draw, verify, keep; returns counts. `model` and `name` say whose samples of what: a later run must match."""
    refuse_monitor(task, "task")
    refuse_chosen(task.origin)
    with training("the choice of rows by star"):
        return await _star(task, engine, config, Path(out), model, name, limit, on_progress)


async def _star(
    task: Task, engine: Engine, config: StarConfig, out: Path, model: str, name: str, limit: int | None,
    on_progress: Progress | None,
) -> dict[str, Any]:  # fmt: skip
    if task.split != "train":
        raise ConfigError(f"{name or task.name} is the {task.split} split; rows to train on come from the train split")
    problems = [task[i] for i in range(len(task))]
    facts = {"model": model, "task": name or task.name, "content of the task": problems_hash(problems)}
    with RowsFile(out, {**facts, **_settings(config)}, problems) as file:
        problems = problems if limit is None else problems[: max(0, limit)]
        todo = iter([problem for problem in problems if problem.id not in file.done])

        async def work() -> None:
            for problem in todo:  # shared by all workers: each takes the next
                kept, graded = await _attempt(problem, task, engine, config, hint=False)
                hinted = 0
                if not kept and config.hint:
                    kept, _ = await _attempt(problem, task, engine, config, hint=True)
                    hinted = len(kept)
                system = system_of(problem, "dropped_system" if config.drop_system else "system")
                plain = {**system, "problem": question(problem)}
                rows = [{**plain, "reasoning": text, "answer": said} for text, said in kept]
                file.add(problem.id, rows, graded, hinted=hinted)
                refuse_failing(file.tally)
                if on_progress:
                    on_progress(len(file.done), len(problems), file.share("kept"))

        await side_by_side(work, config.in_flight // config.num_samples)
        return file.summary(config.num_samples)


async def _attempt(
    problem: Problem, task: Task, engine: Engine, config: StarConfig, *, hint: bool
) -> tuple[list[tuple[str, str]], Tally]:
    """((reasoning, answer) of each to keep, how all samples were graded)."""
    prompt: tuple[Message, ...] = problem.prompt
    if hint:
        text = f"{problem.text}\n\n{HINT.format(target=problem.target)}"
        prompt = (*prompt[:-1], replace(prompt[-1], content=text))
    seed = text_seed(config.seed, "hint" if hint else "star", problem.id)
    completions = await engine.generate(prompt, replace(config.params, seed=seed), n=config.num_samples)
    verdicts, tally = await grade(task, problem, completions), Tally()
    for verdict in verdicts:
        tally.add(verdict)
    found: dict[str, tuple[str, str]] = {}
    for completion, verdict in zip(completions, verdicts, strict=True):
        if verdict.is_correct and not completion.was_cut and (text := worth_keeping(completion, problem, hint=hint)):
            said = _answer(completion, verdict, problem)
            if config.brief and not is_bare(shorter := brief(text, said), problem):
                text = shorter
            found[" ".join(text.split())] = text, said
    if config.shortest:
        return [found[text] for text in sorted(found, key=len)[: config.keep]], tally
    rows = list(found.values())
    return Random(seed).sample(rows, min(config.keep, len(rows))), tally


def system_of(problem: Problem, field: str) -> dict[str, str]:
    """The system message of a problem's prompt under the name of a row's field; nothing where it shows none."""
    text = "\n".join(message.content for message in problem.prompt if message.role == "system")
    return {field: text} if text else {}


def _answer(completion: Completion, verdict: Verdict, problem: Problem) -> str:
    """The target; where the work stands in the answer, what the verifier read there."""
    return problem.target if completion.reasoning.strip() else verdict.extracted or problem.target


def worth_keeping(completion: Completion, problem: Problem, *, hint: bool) -> str:
    """The reasoning, or "" where there is none to learn from; a model without reasoning marks thinks in its answer."""
    text = completion.reasoning.strip() or completion.answer.strip()
    if is_bare(text, problem) or (hint and _SPEAKS_OF_IT.search(text)):
        return ""
    return text + PAUSE if completion.reasoning.endswith(PAUSE) else text  # the end of a turn belongs to it


def is_bare(text: str, problem: Problem) -> bool:
    """It has no word beside the answer's."""
    return set(re.findall(r"\w+", text)) <= set(re.findall(r"\w+", problem.target))


def _settings(config: StarConfig) -> dict[str, Any]:
    """What must be the same for rows to lie in one file."""
    settings = asdict(config.params) | asdict(config)  # the seed is the config's: each problem has params of its own
    kept = {name: value for name, value in settings.items() if name not in ("params", "in_flight")}
    for later in ("drop_system", "brief"):
        if not kept[later]:
            del kept[later]  # rows begun before there was a choice go on
    as_read: dict[str, Any] = json.loads(json.dumps(kept))  # as the file says it: a tuple is a list there
    return as_read


class RowsFile:
    """The rows, and beside them which problems are finished: one line each, the settings first."""

    def __init__(self, out: Path, settings: dict[str, Any], problems: Iterable[Problem] = ()) -> None:
        """problems: all that rows may be of."""
        self.out, self.progress = out, out.with_name(out.name + ".progress.jsonl")
        self.facts: list[dict[str, Any]] = []
        self.done: set[str] = set()
        self.tally = Tally()  # of what this process graded
        self._lock = lock_beside(out)
        try:
            self._read(settings, {problem.id: question(problem) for problem in problems})
        except BaseException:
            self._lock.close()
            raise

    def _read(self, settings: dict[str, Any], texts: Mapping[str, str]) -> None:
        """Take over what is finished. Rows of a problem whose line of progress is missing are drawn again."""
        out = self.out
        if out.exists() and not self.progress.exists():
            raise ConfigError(f"{out} is already there and was not made by this command; give another --out")
        facts = resumed(self.progress, settings, out, added={"content of the task": "hash of the task"})
        missing: Counter[str] = Counter()
        for number, fact in enumerate(facts, 2):
            counts = [fact.get(key) for key in ("right", "kept", "hinted")]
            if fact.get("id") not in texts or any(type(count) is not int for count in counts):
                raise damaged(self.progress, number)
            missing[texts[fact["id"]]] += fact["kept"]
        kept: list[Any] = []
        known, last, foreign = set(texts.values()), 0, 0
        for number, row in enumerate(whole_json(out), 1):
            text = row.get("problem") if isinstance(row, dict) else None
            if not isinstance(text, str):
                raise damaged(out, number)
            if missing[text] > 0:
                missing[text] -= 1
                kept.append(row)
                last = number
            elif text not in known:
                foreign = foreign or number
        if lacks := [fact["id"] for fact in facts if missing[texts[fact["id"]]] > 0]:
            raise ConfigError(
                f"{out} lacks rows of {len(lacks)} problems that {self.progress} counts ({lacks[0]}, ...); delete "
                "their lines there to have them drawn again, or delete both files to begin again"
            )
        if 0 < foreign < last:
            raise ConfigError(f"{out}:{foreign} is of no problem of this task: delete that line, or give another --out")
        self.facts, self.done = facts, {fact["id"] for fact in facts}
        write_atomic(out, jsonl(kept))

    def __enter__(self) -> RowsFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.close()

    def add(self, problem_id: str, rows: list[dict[str, str]], graded: Tally, *, hinted: int) -> None:
        """Note a finished problem: first its rows, then its line of progress, so that a kill between the two has it
        drawn again. graded: of its samples without the hint. hinted: how many of the rows the hint gave."""
        append_jsonl(self.out, rows)
        counts = {"right": graded.counts["correct"]} | {name: graded.counts[name] for name in ("undecided", "failed")}
        fact = {"id": problem_id, **counts, "kept": len(rows), "hinted": hinted}
        self.tally += graded
        append_jsonl(self.progress, [fact])
        self.facts.append(fact)
        self.done.add(problem_id)

    def share(self, key: str) -> float:
        """Of the finished problems, how many have any."""
        return sum(fact[key] > 0 for fact in self.facts) / max(1, len(self.facts))

    def summary(self, num_samples: int) -> dict[str, Any]:
        """Counts over all finished problems, those of earlier processes included. num_samples: drawn of each problem.
        pass_rate: of the samples whose verdict is correct or wrong."""
        problems = len(self.facts)
        left_out = {name: sum(fact.get(name, 0) for fact in self.facts) for name in ("undecided", "failed")}
        decided = max(1, problems * num_samples - sum(left_out.values()))
        return {
            "rows": sum(fact["kept"] for fact in self.facts),
            "problems": problems,
            "solved": sum(fact["right"] > 0 for fact in self.facts),
            "solved_with_hint": sum(fact["hinted"] > 0 for fact in self.facts),
            "pass_rate": sum(fact["right"] for fact in self.facts) / decided,
            **left_out,
        }
