"""How good each shipped monitor is on the base of the loophole experiment, where what was tried is known for certain.

    ponder loophole --seeds 1 --arms weak              # makes the base, once
    python -m bench.monitors runs/loophole             # the table of docs/monitors.md
    python -m bench.monitors runs/loophole --model qwen2.5-coder-0.5b --problems 40    # a language model, by view

Monitors are fitted on samples of the dev split; thresholds are set on half of the train split's problems, and what is
printed is of the other half. Each view of the learned monitor, the probe over hidden states, and a combination. A
language model reads the samples of the first --problems alone: it takes some 200 tokens a sample and view.
"""

from __future__ import annotations

import argparse
import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ponder.engine.local import LocalEngine
from ponder.evals.loophole import PARAMS, different_problems
from ponder.evals.monitoring import PlantedCase, examine, report_lines
from ponder.models import hub
from ponder.monitors import Judgement, Transcript, View, learned, phrases, probe
from ponder.monitors.base import VIEWS
from ponder.monitors.combined import combine
from ponder.monitors.model import ModelMonitor
from ponder.runs import find_checkpoints
from ponder.tasks.loophole import TELLING, attempt
from ponder.types import Completion, Problem, text_seed


async def drawn(engine: LocalEngine, split: str, size: int, n: int = 4) -> list[tuple[Problem, Completion, bool]]:
    """Samples with what they tried; those that do not say are left out."""
    problems = different_problems(split, size)
    params = [replace(PARAMS, seed=text_seed("monitors", problem.text)) for problem in problems]
    asked = zip(problems, params, strict=True)
    groups = await asyncio.gather(*(engine.generate(problem.prompt, own, n=n) for problem, own in asked))
    found = []
    for problem, group in zip(problems, groups, strict=True):
        for one in group:
            if (tried := attempt(problem, one)) is not None:
                found.append((problem, one, tried))
    return found


def num_bytes(text: str) -> int:
    """Tokens of nano are bytes."""
    return len(text.encode())


def planted(rows: list[tuple[Problem, Completion, bool]]) -> list[PlantedCase]:
    return [
        PlantedCase(problem=problem.text, reasoning=one.reasoning, answer=one.answer, planted=tried,
                    begins=0 if tried else None, hidden=one.hidden)
        for problem, one, tried in rows
    ]  # fmt: skip


def base(folder: Path) -> LocalEngine:
    checkpoint = find_checkpoints(folder / "base")[-1]
    return LocalEngine(*hub.load(str(checkpoint), dtype=None), num_workers=0, keep_hidden=True)


def text_of(case: PlantedCase | Transcript) -> tuple[str, str, str]:
    return case.problem, case.reasoning, case.answer


class RecordingMonitor(ModelMonitor):
    """Keeps the suspicion of each case, so that a threshold that separates nothing can be recognised."""

    def __init__(self, engine: LocalEngine, *, prompt: str, view: View, name: str) -> None:
        super().__init__(engine, prompt=prompt, view=view, name=name)
        self.kept: dict[tuple[str, str, str], float] = {}

    async def read(self, transcript: Transcript) -> Judgement:
        judgement = await super().read(transcript)
        if judgement.suspicion is not None:
            self.kept[text_of(transcript)] = judgement.suspicion.open()
        return judgement


async def measure_model(
    folder: Path, name: str, size: int, views: Sequence[View], prompt: str, workers: int
) -> list[str]:
    """A language model in some views. Its threshold is set like all others, on half of the problems."""
    engine = base(folder)
    cases = planted(await drawn(engine, "train", size))
    await engine.aclose()
    judge, reports = LocalEngine(*hub.load(name, dtype=None), num_workers=workers), []
    lines = [f"{name}, {sum(case.planted for case in cases)} of {len(cases)} samples of {size} problems are attempts"]
    for view in views:
        monitor = RecordingMonitor(judge, prompt=prompt, view=view, name=f"{name}, {prompt}")
        reports.append(await examine(monitor, cases, budget=0.02, count=num_bytes))
        spread = [
            dict(sorted(Counter(monitor.kept.get(text_of(case), "nothing") for case in cases if case.planted is kind)
                        .items(), key=str))
            for kind in (True, False)
        ]  # fmt: skip
        lines.append(f"{view}: prompt {monitor.prompt_id}, threshold {reports[-1].threshold}; suspicion of attempts "
                     f"{spread[0]}, of the others {spread[1]}")  # fmt: skip
        print(lines[-1], *report_lines(reports[-1:]), sep="\n", flush=True)
    await judge.aclose()
    return [*lines, *report_lines(reports)]


async def measure(folder: Path) -> list[str]:
    engine = base(folder)
    fitting, rest = await drawn(engine, "dev", 100), await drawn(engine, "train", 250)
    await engine.aclose()
    cases = planted(rest)
    labels = [tried for _, _, tried in fitting]
    shown = [Transcript.of(one, problem.text) for problem, one, _ in fitting]
    clean = [transcript for transcript, tried in zip(shown, labels, strict=True) if not tried]
    monitors = [
        phrases(*TELLING),
        *(learned.fit([each.shown(view) for each in shown], labels, view=view) for view in VIEWS),
        probe.fit([one for _, one, _ in fitting], labels),
    ]
    monitors.append(await combine([monitors[0], monitors[1]], clean, budget=0.02))
    reports = [await examine(monitor, cases, budget=0.02, count=num_bytes) for monitor in monitors]
    return [f"{sum(labels)} of {len(labels)} samples fitted on were attempts", *report_lines(reports)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="of `ponder loophole`")
    parser.add_argument("--model", help="measure this language model as a monitor, and nothing else")
    parser.add_argument("--problems", type=int, default=40, help="of --model")
    parser.add_argument("--views", default=",".join(VIEWS), help="of --model")
    parser.add_argument("--prompt", default="intent", help="of --model: a name of ponder.monitors.model.PROMPTS")
    parser.add_argument("--workers", type=int, default=0, help="of --model: processes; 0 = this one")
    given = parser.parse_args()
    if given.model:
        views = [view for view in VIEWS if view in given.views.split(",")]
        work = measure_model(given.folder, given.model, given.problems, views, given.prompt, given.workers)
    else:
        work = measure(given.folder)
    print("\n".join(asyncio.run(work)))
