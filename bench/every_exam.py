"""Every exam of o1's announcement by a base, at its best prompting, and by what was made of it; then one table.

    PONDER_DATA=... python bench/every_exam.py --model qwen2.5-coder-0.5b --model qwen05-ponder --int8
    PONDER_DATA=... python bench/every_exam.py --only gsm8k --model qwen2.5-coder-0.5b --prompting direct few_shot_cot

The first model is asked in each of the ways of --prompting (its best one, zero_shot_cot, if nothing is said), the later
ones as they were trained to be asked, and for a letter where there are choices. GSM8K is its report part; of a long
exam --limit problems are taken at even steps, so that every subject is there. An exam that is not on this machine is
left out, and named. The table is that of `ponder compare`; after it stands how many of the problems the models were
trained on.

Samples are kept under --out, and the same command goes on where it stopped; more --samples add to what is there.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from paired import drawn, folder_of

from ponder.config import ConfigError
from ponder.evals.comparison import markdown
from ponder.evals.contamination import sentence
from ponder.evals.exam_table import exam_rows, exam_table
from ponder.runs import machine
from ponder.tasks import load_task
from ponder.tasks.base import SelectedTask, as_task
from ponder.tasks.parts import Part, with_part
from ponder.tasks.prompting import PROMPTINGS, Prompted
from ponder.types import SamplingParams, Task

EXAMS = (
    "gsm8k", "math500", "aime:year=2024", "amc", "svamp", "mmlu_stem", "arc_challenge", "gpqa_diamond"
)  # fmt: skip


def spread(task: Task, limit: int) -> Task:
    """At most `limit` of its problems, at even steps."""
    count = min(limit, len(task))
    return SelectedTask(task, [index * len(task) // count for index in range(count)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", required=True, help="as for ponder eval; the first is the base")
    parser.add_argument("--prompting", nargs="+", default=["zero_shot_cot"], choices=sorted(PROMPTINGS),
                        help="how the first model is asked")  # fmt: skip
    parser.add_argument("--only", nargs="+", choices=EXAMS, default=EXAMS, help="these exams")
    parser.add_argument("--samples", type=int, default=8, help="of every problem")
    parser.add_argument("--limit", type=int, default=60, help="problems of an exam")
    parser.add_argument("--temperature", type=float, default=0.7)
    parser.add_argument("--tokens", type=int, default=320, help="of reasoning and answer each, at most")
    parser.add_argument("--int8", action="store_true", help="sample with int8 products: faster, not quite as exact")
    parser.add_argument("--out", type=Path, default=Path("runs/exam_table"))
    options = parser.parse_args()
    folders, notes = [], []
    for name in options.only:
        try:
            problems = exam_of(name, options.limit)
        except (ConfigError, ImportError) as missing:
            notes.append(f"{name} is left out: {missing}")
            continue
        for folder, note in drawn_by_all(name, problems, options):
            folders.append(folder)
            notes.append(f"{folder.name}: {note}")
    if not folders:
        sys.exit("\n".join(notes))
    shown = [markdown(exam_table(exam_rows(folders))), *notes]
    print("\n\n".join(shown))
    facts = {"command": " ".join(sys.argv), "machine": machine(), "shown": shown}
    (options.out / "table.json").write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n")


def exam_of(name: str, limit: int) -> Task:
    """Raises ConfigError or ImportError where its problems are not here."""
    task = as_task(load_task(name, split="test"))
    return spread(Part(task, "report") if name == "gsm8k" else task, limit)


def drawn_by_all(name: str, problems: Task, options: argparse.Namespace) -> Iterator[tuple[Path, str]]:
    """(folder of an exam, what of it its model was trained on), for every model and prompting."""
    asked = [(options.model[0], way) for way in options.prompting] + [(model, "letter") for model in options.model[1:]]
    params = SamplingParams(
        temperature=options.temperature, max_reasoning_tokens=options.tokens, max_answer_tokens=options.tokens
    )
    for model, way in asked:
        folder = folder_of(options.out, name, model, way)
        _, result = drawn(
            Prompted(problems, way) if way != "none" else problems, model, folder, samples=options.samples,
            name=with_part(name, "report") if name == "gsm8k" else name, params=params, int8=options.int8,
        )  # fmt: skip
        yield folder, sentence(result.contamination) if result.contamination else "contamination: not checked"


if __name__ == "__main__":
    main()
