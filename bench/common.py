"""What every bench shares: contenders in turn, ratios within a repetition, a table, one JSON line a case.

A repetition asks every contender once, each time in another order, with the machine's ceiling among them. Ratios and
fractions are taken within a repetition, so that what disturbs the machine for a while disturbs both sides of a ratio;
printed are their median, lowest and highest. A peer that is missing has no ratio, and the table says why.

    runs/bench/NAME.json      a list of cases: facts (machine, revision, versions, settings tried), rates, ratios
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from contenders import (
    LLAMA_CPP,
    OPENVINO,
    OURS,
    PEERS,
    ROOT,
    VLLM,
    Answer,
    Contender,
    Job,
    Missing,
    Pool,
    Running,
    start,
)

sys.path.insert(0, str(ROOT))  # this tree, whatever is installed

from ponder import files, runs
from ponder.config import ConfigError
from ponder.models import cpu, hub
from ponder.processes import num_cores

__all__ = [
    "FAST_DTYPE", "LLAMA_CPP", "OPENVINO", "OURS", "PEERS", "ROOT", "VLLM", "Answer", "Contender", "Job", "Missing",
    "Pool", "arguments", "best_settings", "ceiling", "chosen", "even", "facts", "measure", "model_folder",
    "num_devices", "publish", "ratios", "result", "rounded", "run", "spread", "start", "table", "text", "with_config",
]  # fmt: skip

LOAD = [round(value, 2) for value in os.getloadavg()]  # before we add to it
OURSELVES, CEILING = "ponder", "ceiling"
# what PyTorch multiplies fastest here: peers compute in it, and the ceiling is measured in it
FAST_DTYPE = "bfloat16" if torch.cuda.is_available() or cpu.multiplies_bfloat16() else "float32"
Shares = Callable[[Job, int], list[Job]]  # a job, how many processes -> the job of each


def arguments(about: str, **defaults: Any) -> argparse.ArgumentParser:
    """The flags that all benches have."""
    parser = argparse.ArgumentParser(description=about.splitlines()[0])
    parser.add_argument(
        "--model", default=defaults.get("model", "smollm2-135m"), help="what `ponder ask --model` takes"
    )
    parser.add_argument(
        "--repeats", type=_positive, default=defaults.get("repeats", 5), help="repetitions of every case"
    )
    parser.add_argument("--quick", action="store_true", help="tiny jobs, once: does it run, not how fast")
    parser.add_argument("--without", nargs="*", default=[], metavar="PEER", help="peers to leave out")
    parser.add_argument("--only", nargs="+", default=[], metavar="PEER", help="the peers to measure beside ponder")
    parser.add_argument("--no-tune", action="store_true", help="take each peer's first setting instead of its best")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "bench", help="folder of the JSON files")
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} measures nothing; use 1 or more")
    return int(text)


def model_folder(reference: str) -> str:
    """The folder that every contender reads."""
    return str(hub.resolve(reference).resolve())


def num_devices() -> int:
    """How many things compute at once: the cores, or one GPU."""
    return 1 if torch.cuda.is_available() else num_cores()


def ceiling() -> Contender:
    """The machine itself: one process a core, or the GPU."""
    return Contender(name=CEILING, side="ceiling.py", processes=num_devices(), config={"dtype": FAST_DTYPE})


def even(job: Job, processes: int, key: str = "prompts") -> list[Job]:
    """Deal a job's list over processes; a list of one is dealt by its `n` samples instead."""
    items = job[key]
    if len(items) == 1:
        return [job | {"n": job["n"] // processes + (i < job["n"] % processes)} for i in range(processes)]
    return [job | {key: items[i::processes]} for i in range(processes)]


def best_settings(
    settings: Sequence[Contender], job: Job, shares: Shares, unit: str
) -> tuple[Contender, dict[str, float]]:
    """The fastest of a peer's settings on a short job, and the rate of each; one that fails has rate 0.

    Each is started, warmed with the job, timed on it once more and closed. With a single setting nothing is run.
    """
    if len(settings) == 1:
        return settings[0], {}
    rates = {}
    for setting in settings:
        with start([setting]) as pool:
            running = pool.running.get(setting.name)
            rates[setting.setting] = 0.0
            if running:
                try:
                    running.ask(shares(job, setting.processes))
                    answer = running.ask(shares(job, setting.processes))
                    rates[setting.setting] = rounded(answer.total(unit) / answer.seconds)
                except Missing as reason:
                    print(f"{setting.name}, {setting.setting}: {reason}", file=sys.stderr)
    best = max(settings, key=lambda setting: rates[setting.setting])  # the first of equals: also when none could run
    return best, rates


def measure(pool: Pool, job: Callable[[int], Job], shares: Shares, repeats: int) -> dict[str, list[Answer]]:
    """Every contender `repeats` times, in alternation. job(repeat) is the same for all; job(-1) warms up."""
    answers: dict[str, list[Answer]] = {name: [] for name in pool.running}
    for repeat in range(-1, repeats):
        names = list(pool.running)
        turn = repeat % max(1, len(names))
        for name in names[turn:] + names[:turn]:
            running = pool.running[name]
            cut = _ceiling_jobs(running) if name == CEILING else shares(job(repeat), running.contender.processes)
            try:
                answer = running.ask(cut)
            except Missing as reason:
                pool.missing[name] = f"failed in repetition {repeat}: {reason}"
                pool.running.pop(name).close()
                continue
            if repeat >= 0:
                answers[name].append(answer)
    return {name: answers[name] for name in pool.running}


def _ceiling_jobs(running: Running) -> list[Job]:
    return [{"seconds": 2.0}] * running.contender.processes


def result(
    case: str,
    unit: str,
    pool: Pool,
    answers: dict[str, list[Answer]],
    *,
    flops_each: float = 0.0,
    bytes_each: float = 0.0,
) -> dict[str, Any]:
    """Rates in `unit` a second (a key of the replies), ponder's ratios to the others, fractions of the ceiling.

    flops_each, bytes_each: what one unit costs in matrix products and in memory traffic; 0 = no fraction.
    """
    rates = {
        name: [answer.total(unit) / answer.seconds for answer in each]
        for name, each in answers.items()
        if name != CEILING
    }
    gflops = [answer.total("gflops") for answer in answers.get(CEILING, [])]
    gbytes = [answer.total("copy_gbytes") for answer in answers.get(CEILING, [])]
    contestants = {}
    for name, values in rates.items():
        running = pool.running[name]
        contestants[name] = {
            "setting": running.contender.setting,
            "rate": spread(values) | {"all": [rounded(value) for value in values]},
            "peak_gib": rounded(max(answer.peak_gib for answer in answers[name])),
            "load_seconds": rounded(running.load_seconds),
            "versions": running.facts[0]["versions"],
        }
        if gflops and flops_each:
            parts = [value * flops_each / (limit * 1e9) for value, limit in zip(values, gflops, strict=True)]
            contestants[name]["of_matrix_ceiling"] = spread(parts)
        if gbytes and bytes_each:
            parts = [value * bytes_each / (limit * 1e9) for value, limit in zip(values, gbytes, strict=True)]
            contestants[name]["of_copy_ceiling"] = spread(parts)
        if name != OURSELVES and OURSELVES in rates:
            contestants[name]["ponder_over"] = spread(ratios(rates[OURSELVES], values))
    limits = {"gflops": spread(gflops), "copy_gbytes": spread(gbytes)} if gflops else {}
    return {"case": case, "unit": unit, "contestants": contestants, "missing": dict(pool.missing), "ceiling": limits}


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """One a repetition, both of the same repetition."""
    return [a / b if b else float("inf") for a, b in zip(ours, theirs, strict=True)]


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, lowest and highest: of three to seven values an interval would promise more than it knows."""
    return {
        "median": rounded(statistics.median(values)), "low": rounded(min(values)), "high": rounded(max(values)),
        "n": len(values),
    }  # fmt: skip


def rounded(value: float) -> float:
    return float(f"{value:.4g}")


def table(case: dict[str, Any]) -> str:
    """A case for people."""
    lines = [
        f"{case['case']}   [{case['unit']}/s, median (lowest - highest)]",
        f"  {'':16} {'rate':>24} {'ponder is x times':>22} {'of matrix':>9} {'of copy':>8} {'GiB':>6} {'load s':>7}"
        "  setting",
    ]
    for name, row in case["contestants"].items():
        rate = row["rate"]
        over = text(row["ponder_over"]) if "ponder_over" in row else ""
        fractions = [
            f"{row[key]['median']:.0%}" if key in row else "" for key in ("of_matrix_ceiling", "of_copy_ceiling")
        ]
        lines.append(
            f"  {name:16} {text(rate):>24} {over:>22} {fractions[0]:>9} {fractions[1]:>8} {row['peak_gib']:>6.2f} "
            f"{row['load_seconds']:>7.1f}  {row['setting']}"
        )
    lines += [f"  {name:16} missing: {reason}" for name, reason in case["missing"].items()]
    if case["ceiling"]:
        limits = case["ceiling"]
        lines.append(
            f"  ceiling: {limits['gflops']['median']:,.0f} GFLOP/s in {FAST_DTYPE} products, "
            f"{limits['copy_gbytes']['median']:,.0f} GB/s copied"
        )
    return "\n".join(lines)


def text(value: dict[str, float]) -> str:
    """A spread for people: median (lowest - highest)."""
    return f"{_short(value['median'])} ({_short(value['low'])} - {_short(value['high'])})"


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def facts(bench: str, **more: Any) -> dict[str, Any]:
    """What a reader needs beside the numbers."""
    return {
        "bench": bench, "command": " ".join(sys.argv), "revision": runs.revision(), "machine": runs.machine(),
        "load_at_start": LOAD,
    } | more  # fmt: skip


def publish(arguments: argparse.Namespace, cases: Sequence[dict[str, Any]], *, show: str = "") -> None:
    """The last case as one JSON line and a table, and all of them in the file: what was measured survives a kill."""
    case = cases[-1]
    print(json.dumps(case))
    print(f"\n{show or table(case)}\n", flush=True)
    name = case["bench"] + (".quick" if arguments.quick else "")
    files.write_atomic(arguments.out / f"{name}.json", json.dumps(cases, indent=1) + "\n")
    if LOAD[0] > 0.5:
        print(f"other work was running at the start (load {LOAD[0]}): not figures to quote\n", flush=True)


def run(main: Callable[[], None]) -> None:
    """The door of every bench: what a user can mend is one line, not a traceback."""
    try:
        main()
    except (ConfigError, OSError, Missing) as error:
        sys.exit(f"error: {error}")


def chosen(settings: dict[str, list[Contender]], arguments: argparse.Namespace) -> dict[str, list[Contender]]:
    """The peers that were not left out, with all their settings or the first."""
    if arguments.only and not set(arguments.only) & set(settings):
        raise ConfigError(
            f"--only {' '.join(arguments.only)} names no peer of this bench; it has {', '.join(settings)}"
        )
    wanted = set(arguments.only or settings) - set(arguments.without)
    kept = {name: each for name, each in settings.items() if name in wanted}
    return {name: each[:1] if arguments.no_tune else each for name, each in kept.items()}


def with_config(contender: Contender, **more: Any) -> Contender:
    return replace(contender, config=contender.config | more)
