"""Evaluation while a run goes on, and its best checkpoint.

    eval.every = 10                       # steps
    eval.task = "file:my_dev.jsonl"       # without it, the dev split of what is practised

    RUN/evals.jsonl   {"step": 10, "accuracy": 0.61, "stderr": 0.04, "num_problems": 64, ...} an evaluation
    RUN/best.json     the step that was best, and its evaluation: RUN@best is its checkpoint

The problems are the same at every evaluation, and so are the seeds of their samples, so that two steps differ by what
was learned and by little else. Where a run goes on with others (`eval` may be changed, and so may a file), earlier
evaluations stay there and choose nothing any more. Nothing that is trained on may be among them: a run whose pool holds
one is refused. The best of several noisy numbers is too high, so the figure of the chosen step is no result: measure
RUN@best on other problems (`ponder eval --part report`, or another file).

An evaluation draws no random number of the training: a run with it takes the same steps, bit for bit, as without.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from ponder.config import ConfigError
from ponder.files import append_jsonl, read_jsonl, read_object, write_atomic
from ponder.rollouts.collect import Play, collect
from ponder.runs import Run
from ponder.tasks import load_task
from ponder.tasks.base import problems_hash
from ponder.train.pool import Pool
from ponder.train.recipe import RLConfig
from ponder.types import Problem, Task

EVALS, BEST = "evals.jsonl", "best.json"
_STEP = -1  # of the seeds: no step of the training is called so


def dev_problems(config: RLConfig, pool: Pool) -> tuple[Task, list[Problem]] | None:
    """The task and the problems that a run is evaluated on; None where it is not."""
    if not config.eval.every:
        return None
    spec = config.eval.task or config.task
    if not config.eval.task and spec.startswith(("file:", "hub:")):
        raise ConfigError(
            f"eval.every={config.eval.every} needs problems that are not trained on: eval.task=file:my_dev.jsonl"
        )
    task = load_task(spec, split="dev", seed=config.seed)
    problems = [task[index] for index in range(min(config.eval.num_problems, len(task)))]
    trained = {problem.text for problem in pool.problems}
    if seen := sum(problem.text in trained for problem in problems):
        raise ConfigError(
            f"{seen} of the {len(problems)} problems of eval.task={spec} are trained on in this run; give others"
        )
    return task, problems


class DevEvaluation:
    """The evaluations of one run, and which step was best so far."""

    def __init__(
        self, config: RLConfig, run: Run, play: Play, task: Task, problems: list[Problem], first_step: int
    ) -> None:
        self._config, self._run, self._play, self._task, self._problems = config, run, play, task, problems
        known = read_jsonl(run.folder / EVALS, "step", "accuracy")
        self.rows = [row for row in known if row["step"] <= first_step]
        write_atomic(run.folder / EVALS, "".join(json.dumps(row) + "\n" for row in self.rows))
        self.settle(first_step)

    @property
    def best(self) -> dict[str, Any] | None:
        """The evaluation of the best step, of equals the earliest."""
        return max(filter(self._is_alike, self.rows), key=lambda row: row["accuracy"], default=None)

    def _facts(self) -> dict[str, Any]:
        """What two evaluations must have in common to be compared."""
        known = {"problems": problems_hash(self._problems)[:12], "num_problems": len(self._problems)}
        return {**known, "num_samples": self._config.eval.num_samples}

    def _is_alike(self, row: dict[str, Any]) -> bool:
        """Whether it was made as this run's are now; one of before rows had `problems` is taken to be of the same."""
        return all(row.get(name, value) == value for name, value in self._facts().items())

    def is_due(self, step: int) -> bool:
        """At step 0, at every multiple of `eval.every`, and after the last step."""
        return step % self._config.eval.every == 0 or step == self._config.num_steps

    async def at(self, step: int) -> dict[str, float]:
        """Evaluate the weights that the sampler has, those after `step` steps, if it is time; what to log of it."""
        if not self.is_due(step) or any(row["step"] == step for row in filter(self._is_alike, self.rows)):
            return {}
        config, num_samples = self._config, self._config.eval.num_samples
        found = await collect(
            self._play, self._task, self._problems, config.params, group_size=num_samples, seed=config.seed, step=_STEP
        )
        # an undecided or failed verdict is not correct
        shares = [sum(r.verdict.is_correct for r in group.rollouts) / num_samples for group in found.groups]
        completions = [rollout.completion for rollout in found.rollouts]
        accuracy, reasoning_tokens = fmean(shares), 0.0
        if completions:
            reasoning_tokens = fmean(c.num_reasoning_tokens for c in completions)
        row = {
            "step": step,
            **self._facts(),
            "accuracy": accuracy,
            "stderr": stdev(shares) / len(shares) ** 0.5 if len(shares) > 1 else None,  # over problems
            "reasoning_tokens": reasoning_tokens,
        }
        self.rows.append(row)
        append_jsonl(self._run.folder / EVALS, [row])
        return {"eval/accuracy": accuracy, "eval/reasoning_tokens": reasoning_tokens}

    def is_best(self, step: int) -> bool:
        """Whether this step has the best evaluation so far; False while there is none."""
        return self.best is not None and self.best["step"] == step

    def settle(self, saved_step: int) -> None:
        """Name the best step once its checkpoint is there. Checkpoints that were kept only for having been the best go,
        as soon as no resume (from `saved_step`) can need them again."""
        best, folder = self.best, self._run.folder
        if best is None or not (self._run.checkpoint_folder(best["step"]) / "checkpoint.json").exists():
            return
        named, extra = _named(folder)
        kept_anyway = {0} | self._config.all_checkpoint_steps  # every run has its first: @base, and what a KL is from
        if best["step"] != named:  # a shorter run may have kept its last one anyway
            extra |= {best["step"]} - kept_anyway
        if best["step"] <= saved_step:
            for step in extra - {best["step"]} - kept_anyway:
                _remove(self._run.checkpoint_folder(step))
            extra &= {best["step"]}
        write_atomic(folder / BEST, json.dumps(best | {"kept_for_it": sorted(extra)}) + "\n")


def _named(folder: Path) -> tuple[int | None, set[int]]:
    """The step that BEST names, and the steps whose checkpoints are there for having been the best, nothing else."""
    if not (folder / BEST).exists():
        return None, set()
    try:
        known = read_object(folder / BEST, "step", "kept_for_it")
        return known["step"], set(known["kept_for_it"])
    except (ValueError, TypeError):
        raise ConfigError(f"{folder / BEST} is damaged; delete it, and it is written anew") from None


def _remove(checkpoint: Path) -> None:
    (checkpoint / "checkpoint.json").unlink(missing_ok=True)  # first: what is half there is none
    shutil.rmtree(checkpoint, ignore_errors=True)


def open_dev(
    config: RLConfig, run: Run, pool: Pool, first_step: int, open_play: Callable[[Task], Play]
) -> DevEvaluation | None:
    """The evaluation of a run, if its recipe asks for one. open_play: how a problem of a task is played."""
    found = dev_problems(config, pool)
    return DevEvaluation(config, run, open_play(found[0]), *found, first_step) if found else None


def sentence(folder: Path) -> str:
    """Which step was best and what that number is not, for people; "" of a run without evaluations."""
    if not (folder / BEST).exists():
        return ""
    best = read_object(folder / BEST, "step", "accuracy", "num_problems", "num_samples")
    return (
        f"best on dev: step {best['step']}, {best['accuracy']:.1%} of {best['num_problems']} problems x "
        f"{best['num_samples']}; it was chosen by that number, so measure {folder}@best on other problems"
    )
