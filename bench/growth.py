"""How ponder's cost grows: time and memory of sampling and training against batch, length, samples a prompt and width.

    python bench/growth.py           # the reference model and three random ones; 15 minutes
    python bench/growth.py --quick

One thing changes at a time from the base case (64 prompts of 100 tokens, one sample each, 128 new tokens; training 16 x
256). "x base" is seconds over the base case's in the same repetition; the last column is the growth of the matrix work,
a prompt counted once for all its samples: time should grow no faster. Peers are not asked: bench/rollout.py does that.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import common
from common import Answer, Contender, Job
from rollout import NEW, PROMPT, prompts
from train import LENGTH, ROWS, sequences

from ponder.models.transformer import flops_per_token
from ponder.models.weights import read_config
from ponder.train.sft import ArchitectureConfig

WIDTHS = (128, 256, 512)


@dataclass(frozen=True, kw_only=True)
class Point:
    """One row of a table: what changed, the job, and how many times the base's matrix work it is."""

    name: str
    job: Job
    work: float


def sampling(model: str, quick: bool) -> Iterator[Point]:
    """The base case first."""
    config = read_config(model)
    new, many = (8, 8) if quick else (NEW, 64)

    def point(name: str, *, count: int = many, n: int = 1, length: int = PROMPT, tokens: int = new) -> Point:
        samples = count * n
        head = 2 * config.vocab_size * config.hidden_size  # a prompt's last token alone goes through it
        work = count * length * (flops_per_token(config, length / 2) - head)
        work += samples * tokens * flops_per_token(config, length + tokens / 2)
        asked = prompts(model, count, length, seed=1)
        return Point(name=name, job={"prompts": asked, "n": n, "new_tokens": tokens, "seed": 1}, work=work)

    yield point(f"{many} prompts, 1 sample each")
    yield point(f"1 prompt, {many} samples", count=1, n=many)
    yield point(f"{many // 8} prompts, 8 samples each", count=many // 8, n=8)
    for count in (many // 16 or 1, many // 4, many * 2):
        yield point(f"{count} prompts", count=count)
    for tokens in (new // 4, new // 2, new * 2):
        yield point(f"{tokens} new tokens", tokens=tokens)
    for length in (PROMPT // 4, PROMPT * 2, PROMPT * 4):
        yield point(f"prompts of {length} tokens", length=length)
        yield point(f"1 prompt of {length}, {many} samples", count=1, n=many, length=length)


def training(model: str, quick: bool) -> Iterator[Point]:
    config = read_config(model)
    base = 16 if quick else LENGTH
    rows = ROWS * common.num_devices()

    def point(name: str, count: int, length: int) -> Point:
        job = {"sequences": sequences(config.vocab_size, count, length, 1), "rows": max(1, ROWS * base // length)}
        return Point(name=name, job=job, work=3 * count * length * flops_per_token(config, length / 2))

    yield point(f"{rows} x {base} tokens", rows, base)
    for count in (rows // 4, rows // 2, rows * 2):
        yield point(f"{count} sequences", count, base)
    for length in (base // 4, base // 2, base * 2):
        yield point(f"length {length}", rows, length)


def random_models(folder: Path) -> Iterator[tuple[str, str]]:
    """Byte-level Llamas of three widths: (name, folder)."""
    from ponder.models.tokenizer import ByteTokenizer
    from ponder.models.weights import save_model

    for width in WIDTHS:
        shape = ArchitectureConfig(width=width, depth=8, heads=width // 32, kv_heads=width // 64, inner=3 * width)
        place = folder / f"width{width}"
        save_model(shape.build(seed=0), place)
        ByteTokenizer().save(str(place))
        yield f"random, width {width}", str(place)


def grow(kind: str, name: str, model: str, points: list[Point], repeats: int) -> dict[str, Any]:
    """Every point in turn, each repetition in another order."""
    config = {"kind": kind, "model": model, "dtype": "bfloat16" if kind == "rollout" else common.FAST_DTYPE}
    contender = Contender(name="ponder", side="ours.py", config=config)
    answers: dict[str, list[Answer]] = {point.name: [] for point in points}
    with common.start([contender]) as pool:
        if pool.missing:
            raise common.Missing(pool.missing["ponder"])
        running = pool.running["ponder"]
        for repeat in range(-1, repeats):
            turn = repeat % len(points)
            for point in points[turn:] + points[:turn] if repeat >= 0 else points[:1]:
                answer = running.ask([point.job])
                if repeat >= 0:
                    answers[point.name].append(answer)
    base = [answer.seconds for answer in answers[points[0].name]]
    rows = {
        point.name: {
            "seconds": common.spread([answer.seconds for answer in answers[point.name]]),
            "times_base": common.spread(common.ratios([answer.seconds for answer in answers[point.name]], base)),
            "work_times_base": common.rounded(point.work / points[0].work),
            "peak_gib": common.rounded(max(answer.peak_gib for answer in answers[point.name])),
        }
        for point in points
    }
    return {"case": f"{kind}, {name}", "rows": rows}


def show(case: dict[str, Any]) -> str:
    lines = [f"{case['case']:34} {'seconds':>22} {'x base':>22} {'GiB':>6} {'matrix work x base':>18}"]
    for name, row in case["rows"].items():
        lines.append(
            f"{name:34} {common.text(row['seconds']):>22} {common.text(row['times_base']):>22} {row['peak_gib']:>6.2f} "
            f"{row['work_times_base']:>18.2f}"
        )
    return "\n".join(lines)


def main() -> None:
    arguments = common.arguments(__doc__ or "", repeats=3).parse_args()
    repeats = 1 if arguments.quick else arguments.repeats
    cases: list[dict[str, Any]] = []

    def add(case: dict[str, Any]) -> None:
        cases.append(common.facts("growth", model=arguments.model) | case)
        common.publish(arguments, cases, show=show(case))

    with tempfile.TemporaryDirectory() as folder:
        model = common.model_folder(arguments.model)
        add(grow("rollout", Path(model).name, model, list(sampling(model, arguments.quick)), repeats))
        add(grow("train", Path(model).name, model, list(training(model, arguments.quick)), repeats))
        for name, place in random_models(Path(folder)):
            add(grow("rollout", name, place, list(sampling(place, arguments.quick))[:2], repeats))
            add(grow("train", name, place, list(training(place, arguments.quick))[:1], repeats))
    print(widths(cases))


def widths(cases: list[dict[str, Any]]) -> str:
    """Seconds of the base case of each random model."""
    lines = ["size of the model: seconds of the first row of each table"]
    for case in cases[2:]:
        first = next(iter(case["rows"].values()))
        lines.append(f"  {case['case']:32} {common.text(first['seconds']):>22} {first['peak_gib']:>6.2f} GiB")
    return "\n".join(lines)


if __name__ == "__main__":
    common.run(main)
