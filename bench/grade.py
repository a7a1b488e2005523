"""Checking answers: ponder's `math` verifier and math-verify, answers a second and agreement with hand-made verdicts.

    python bench/grade.py          # two minutes

Two piles. "golden": the rows of tests/grading/golden_answers.jsonl for this verifier, hand-made to be hard; they are
ours and ponder is tested on them, so agreement there says what math-verify misses, not how good ponder is on unseen
text.
"plain": a short sentence that ends in the answer, right or off by one, as a small model writes it. Both read each row's
target and text anew. math-verify keeps its time limits: without them a tower of powers freezes it for good. It takes
part twice: with the texts as they are, and with dollar signs around them.
"""

from __future__ import annotations

import json
import random

import common
from common import PEERS, Contender, Job

GOLDEN = common.ROOT / "tests" / "grading" / "golden_answers.jsonl"


def golden() -> list[tuple[str, str, str]]:
    """(target, answer, verdict)"""
    rows = [json.loads(line) for line in GOLDEN.read_text(encoding="utf-8").splitlines() if line.strip()]
    return [(row["target"], row["answer"], row["verdict"]) for row in rows if row["verifier"] == "math"]


def plain(count: int) -> list[tuple[str, str, str]]:
    generator = random.Random("plain")
    rows = []
    for _ in range(count):
        target, off = generator.randrange(2, 5000), generator.random() < 0.5
        form = generator.choice(
            ("The answer is {}.", "So she has {} left.\n\nAnswer: {}", "\\boxed{{{}}}", "It costs ${}.")
        )
        text = form.replace("{}", str(target + off)) if "boxed" not in form else f"\\boxed{{{target + off}}}"
        rows.append((str(target), text, "wrong" if off else "correct"))
    return rows


def main() -> None:
    arguments = common.arguments(__doc__ or "").parse_args()
    repeats = 1 if arguments.quick else arguments.repeats
    piles = {"plain": plain(40 if arguments.quick else 500), "golden": golden()[:: 10 if arguments.quick else 1]}
    contenders = [
        Contender(name="ponder", side="ours.py", config={"kind": "grade"}),
        Contender(name="math-verify", side="mathverify.py", python=PEERS, config={"marked": False}),
        Contender(name="math-verify, $", side="mathverify.py", python=PEERS, config={"marked": True}),
    ]
    cases = []
    with common.start([c for c in contenders if c.name.partition(",")[0] not in arguments.without]) as pool:
        for name, rows in piles.items():
            job: Job = {"pairs": [row[:2] for row in rows]}
            answers = common.measure(pool, lambda _, job=job: job, lambda job, processes: [job] * processes, repeats)
            expected = [row[2] for row in rows]
            right = {
                who: sum(a == b for a, b in zip(each[-1].replies[0]["verdicts"], expected, strict=True))
                for who, each in answers.items()
            }
            case = common.result(f"{name}: {len(rows)} answers", "answers", pool, answers)
            cases.append(common.facts("grade", agrees=right, of=len(rows)) | case)
            said = ", ".join(f"{who} {count} of {len(rows)}" for who, count in right.items())
            common.publish(arguments, cases, show=f"{common.table(case)}\n  agrees with the verdict: {said}")


if __name__ == "__main__":
    common.run(main)
