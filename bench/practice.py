"""How many distinct problems does RL need, and does choosing among them help? One recipe over pools of several sizes.

    PONDER_DATA=... python bench/practice.py rl_qwen05_cpu model=runs/sft_qwen05 --pools 100 500 2000 7000 --seeds 0 1 2

Every arm has the recipe's steps, problems a step and samples a problem, so all cost about the same; what differs is
how many problems there are, hence how often each comes again. The pools are practised in turn (selection=uniform), and
the largest also by what is expected to teach most (adaptive). KEY=VALUE changes the recipe for all arms.

Then the model they all began from and the last checkpoint of every arm sit the same exam, sampled as in training: one
table, with paired differences to the beginning and to the largest pool in turn. Seeds are averaged problem by problem,
so intervals (95 %) are over problems; what each seed has stands beside them. Nothing is chosen by the exam.

Runs and samples are kept under --out, and the same command goes on where it stopped; more pools or seeds add to it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

import numpy as np
from paired import drawn, folder_of, span
from safetensors import safe_open

from ponder.evals.stats import in_percent, interval, paired_difference
from ponder.files import read_jsonl
from ponder.runs import machine
from ponder.tasks import load_task
from ponder.tasks.parts import Part, with_part
from ponder.train.recipe import RLConfig, load_recipe
from ponder.train.rl import rl
from ponder.train.state import state_path


@dataclass(frozen=True)
class Arm:
    """How a pool was practised."""

    selection: str
    pool: int

    def run(self, out: Path, seed: int) -> Path:
        return folder_of(out, self.selection, str(self.pool), f"seed{seed}")


@dataclass(frozen=True)
class Practised:
    """What a run was made of."""

    distinct: int  # problems
    drawn: int  # problems, as often as they came
    mixed: float  # share of the groups whose rewards differ: only these teach
    tokens: int  # sampled

    @classmethod
    def of(cls, run: Path, problems_per_step: int) -> Practised:
        """Of a finished run: its log, and the counts of its pool, which its saved state holds."""
        steps = list(read_jsonl(run / "metrics.jsonl"))
        with safe_open(state_path(run), framework="np") as file:
            tried = json.loads(file.metadata()["facts"])["pool"]["tried"]
        return cls(
            distinct=sum(count > 0 for count in tried), drawn=len(steps) * problems_per_step,
            mixed=fmean(step["group/frac_mixed"] for step in steps), tokens=int(steps[-1]["tokens/rollout"]),
        )  # fmt: skip


def arms(pools: Iterable[int], *, adaptive: bool) -> list[Arm]:
    """The largest pool in turn comes first: the others are compared with it."""
    sizes = sorted(set(pools), reverse=True)
    return [Arm("uniform", size) for size in sizes] + ([Arm("adaptive", sizes[0])] if adaptive else [])


def practise(arm: Arm, config: RLConfig, out: Path, seed: int) -> Path:
    """The last checkpoint of a run, which is begun, continued, or finished already."""
    run = arm.run(out, seed)
    return rl(replace(config, out=str(run), selection=arm.selection, pool_size=arm.pool, seed=seed))


def table(
    start: Sequence[float], rates: dict[Arm, dict[int, list[float]]], practised: dict[Arm, list[Practised]]
) -> list[str]:
    """Markdown. rates: of an arm and a seed, the share of right samples of every problem, as `start` has them."""
    lines = [
        "| practised | distinct problems | each came | groups that teach (%) | sampled tokens | pass@1 (%) | by seed | "
        "less the beginning | less the largest pool in turn |",
        "|---" * 9 + "|",
        f"| nothing | | | | | {span(interval(start))} | | | |",
    ]
    means = {arm: np.mean(list(by_seed.values()), axis=0).tolist() for arm, by_seed in rates.items()}
    first = next(iter(means))
    for arm, mean in means.items():
        own = practised[arm]
        distinct = fmean(each.distinct for each in own)
        times = fmean(each.drawn for each in own) / distinct
        by_seed = ", ".join(in_percent(fmean(each)) for _, each in sorted(rates[arm].items()))
        lines.append(
            f"| {arm.selection}, pool of {arm.pool:,} | {distinct:,.0f} | {times:.1f}x | "
            f"{in_percent(fmean(each.mixed for each in own))} | {fmean(each.tokens for each in own):,.0f} | "
            f"{span(interval(mean))} | {by_seed} | {span(paired_difference(start, mean), '+')} | "
            f"{'' if arm == first else span(paired_difference(means[first], mean), '+')} |"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", help="of ponder rl")
    parser.add_argument("changes", nargs="*", metavar="KEY=VALUE", help="of the recipe, for all arms")
    parser.add_argument("--pools", nargs="+", type=int, default=[100, 500, 2000, 7000], help="problems that there are")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--no-adaptive", action="store_true", help="problems are practised in turn only")
    parser.add_argument("--exam", default="gsm8k", help="a task; its report part is drawn")
    parser.add_argument("--limit", type=int, help="only the first problems of the exam")
    parser.add_argument("--samples", type=int, default=4, help="of every problem of the exam")
    parser.add_argument("--int8", action="store_true", help="sample the exam with int8 products")
    parser.add_argument("--out", type=Path, default=Path("runs/practice"))
    options = parser.parse_intermixed_args()
    config = load_recipe(options.recipe, [f"out={options.out}", *options.changes])

    def sit(model: str, folder: Path) -> list[float]:
        problems = Part(load_task(options.exam, split="test"), "report")
        bank, _ = drawn(
            problems, model, folder, name=with_part(options.exam, "report"), samples=options.samples,
            params=config.params, limit=options.limit, int8=options.int8,
        )  # fmt: skip
        return [float(samples.correct.mean()) for samples in bank.tables()]

    chosen = arms(options.pools, adaptive=not options.no_adaptive)
    rates: dict[Arm, dict[int, list[float]]] = {arm: {} for arm in chosen}
    start = sit(config.model, options.out / "exam-beginning")
    for seed in options.seeds:
        for arm in chosen:
            checkpoint = practise(arm, config, options.out, seed)
            folder = options.out / f"exam-{arm.run(options.out, seed).name}"
            rates[arm][seed] = sit(str(checkpoint), folder)
    practised = {
        arm: [Practised.of(arm.run(options.out, seed), config.problems_per_step) for seed in options.seeds]
        for arm in chosen
    }
    lines = table(start, rates, practised)
    print("\n".join(lines))
    facts = {"command": " ".join(sys.argv), "machine": machine(), "table": lines}
    (options.out / "practice.json").write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
