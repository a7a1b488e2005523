"""One step of GRPO: ponder's loop and TRL's GRPOTrainer, 8 problems x 8 samples of up to 128 tokens, all weights.

    python bench/rl_step.py                                           # speed; 25 minutes, nearly all of them TRL's
    python bench/rl_step.py --repeats 20 --trl-weights autocast --trl-processes 1     # and curves of 20 steps; an hour
    python bench/rl_step.py --quick                                   # a minute or two: does it run

A step is: sample, check, advantages, loss, backward, optimizer, and for ponder the new weights in the engine. Both see
the same problems in the same order (bench/sides/sums.py) with the same loss and step size; the samples differ, as the
random numbers do. What every step reported is in the JSON under "curve", and a table of its quarters ends the output;
step 0 warms up and is in neither. On the first update of a batch the loss of GRPO is zero but for what sampler and
trainer disagree on, whatever is learned: compare reward, the gradient's norm and entropy (ponder's is over the groups
that were trained on, TRL's over all).

TRL's setting (processes, rows in a backward pass, weights) is the fastest of those below, each tried for two short
steps ("tried" in the JSON). Weights purely in bfloat16 hardly move at such a step size: compare curves with
`--trl-weights autocast` (float32 weights, bfloat16 products; two such processes beside ponder's take more than 24 GiB).
Groups whose rewards are all equal have no gradient: ponder leaves them out of the forward pass, TRL does not. "mixed"
is the share of the others and should be near 1.
"""

from __future__ import annotations

import socket
import statistics
from itertools import pairwise
from typing import Any

import common
from common import PEERS, Answer, Contender, Job

from ponder.processes import num_cores

PROMPTS, SAMPLES, NEW, LR = 8, 8, 128, 1e-5
SERIES = ("loss", "reward", "entropy", "grad_norm", "mixed", "tokens")


def trl(shared: Job, weights: list[str]) -> list[Contender]:
    def one(dtype: str, rows: int, attention: str = "sdpa", **how: Any) -> Contender:
        config = shared | {"dtype": dtype, "rows": rows, "attention": attention, "port": _free_port()}
        return Contender(
            name="TRL",
            side="trl_grpo.py",
            python=PEERS,
            config=config,
            note=f"{dtype}, {rows} rows, {attention}",
            **how,
        )

    ranks = max(count for count in (1, 2, 4, 8) if count <= num_cores())  # each gets as many of the samples
    many = PROMPTS * SAMPLES // ranks
    return [
        setting
        for dtype in weights
        for setting in (
            one(dtype, 8, processes=ranks), one(dtype, 8, "eager", processes=ranks), one(dtype, 8, threads=num_cores()),
            one(dtype, many, processes=ranks),
        )
    ]  # fmt: skip


def _free_port() -> int:
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        return int(door.getsockname()[1])


def main() -> None:
    parser = common.arguments(__doc__ or "")
    parser.add_argument("--dtype", default=common.FAST_DTYPE, help="of ponder's weights")
    parser.add_argument("--lr", type=float, default=LR)
    parser.add_argument("--new-tokens", type=int, default=NEW)
    parser.add_argument(
        "--trl-weights", nargs="*", choices=["bfloat16", "autocast", "float32"],
        default=["bfloat16", "autocast"] if common.FAST_DTYPE == "bfloat16" else ["float32"],
        help="autocast = float32 weights, bfloat16 products",
    )  # fmt: skip
    parser.add_argument("--trl-processes", type=int, help="only settings of so many")
    arguments = parser.parse_args()
    new, repeats = (8, 2) if arguments.quick else (arguments.new_tokens, arguments.repeats)
    shared = {
        "kind": "rl", "model": common.model_folder(arguments.model), "prompts": PROMPTS, "n": SAMPLES,
        "new_tokens": new, "lr": arguments.lr, "seed": 0, "steps": repeats + 1,
    }  # fmt: skip

    def shares(job: Job, processes: int) -> list[Job]:
        return [job] * processes  # ranks of one step

    peers, tried = [], {}
    settings = [one for one in trl(shared, arguments.trl_weights) if arguments.trl_processes in (None, one.processes)]
    if not settings:
        parser.error(f"--trl-processes {arguments.trl_processes}: there are settings of 1 and of {num_cores()}")
    for name, each in common.chosen({"TRL": settings}, arguments).items():
        short = [common.with_config(setting, new_tokens=min(new, 32), steps=2) for setting in each]
        best, tried[name] = common.best_settings(short, {"step": 0}, shares, "samples")
        peers.append(common.with_config(best, new_tokens=new, steps=repeats + 1))
    ours = Contender(
        name="ponder", side="ours.py", config=shared | {"dtype": arguments.dtype},
        note=f"{num_cores()} workers to sample and {num_cores()} to train",
    )  # fmt: skip
    with common.start([ours, *peers]) as pool:
        answers = common.measure(pool, lambda repeat: {"step": repeat + 1}, shares, repeats)
        curve = {
            name: {key: [value_of(answer, key) for answer in each] for key in SERIES} for name, each in answers.items()
        }
        about = {"model": arguments.model, "new_tokens": new, "lr": arguments.lr, "tried": tried, "curve": curve}
        case = f"GRPO step, {PROMPTS} problems x {SAMPLES} samples, up to {new} tokens"
        common.publish(arguments, [common.facts("rl_step", **about) | common.result(case, "samples", pool, answers)])
    print(curves(curve))


def value_of(answer: Answer, key: str) -> float:
    """Tokens are those of all processes; the rest every rank of a step knows alike."""
    return answer.total(key) if key == "tokens" else answer.replies[0][key]


def curves(curve: dict[str, dict[str, list[float]]]) -> str:
    """What each step reported, as means of four stretches of the run."""
    lines = [f"{'':8} {'':9} " + " ".join(f"{f'quarter {i + 1}':>10}" for i in range(4))]
    for name, series in curve.items():
        for key in SERIES:
            values = series[key]
            cuts = [round(i * len(values) / 4) for i in range(5)]
            parts = [statistics.fmean(values[a:b]) if b > a else float("nan") for a, b in pairwise(cuts)]
            lines.append(f"{name:8} {key:9} " + " ".join(f"{part:>10.4g}" for part in parts))
    return "\n".join(lines)


if __name__ == "__main__":
    common.run(main)
