"""Forward and backward: ponder's Trainer and transformers, 8 sequences of 256 tokens a worker.

    python bench/train.py                         # the reference model; 10 minutes
    python bench/train.py --quick --model nano    # seconds: does it run

Cross-entropy of every token, no optimizer step. With two workers a job is 16 x 256 tokens; ponder adds the gradients of
its workers up, the two processes of transformers do not (that is not charged to them). Attention, rows in one pass and
processes of transformers are chosen on a shorter job first ("tried" in the JSON). The fraction of the ceiling counts
three times the forward FLOPs (no credit for computing anything twice).
"""

from __future__ import annotations

import random
from typing import Any

import common
from common import PEERS, Contender, Job

from ponder.models.transformer import flops_per_token
from ponder.models.weights import read_config

ROWS, LENGTH = 8, 256


def settings(model: str) -> list[Contender]:
    def hf(attention: str, rows: int = ROWS, **how: Any) -> Contender:
        config = {"kind": "train", "model": model, "dtype": common.FAST_DTYPE, "attention": attention, "rows": rows}
        note = f"{common.FAST_DTYPE}, {attention} attention, {rows} rows a pass"
        return Contender(name="HF", side="hf.py", python=PEERS, config=config, note=note, **how)

    cores = common.num_devices()
    single = [hf("eager", threads=cores), hf("sdpa", threads=cores)]
    if cores == 1:  # a GPU
        return single
    pinned = hf("eager", processes=cores, pinned=True)
    fewer = hf("eager", ROWS // 2, processes=cores, pinned=True)  # as ponder takes them
    return [hf("eager", processes=cores), hf("sdpa", processes=cores), pinned, fewer, *single]


def sequences(vocabulary: int, count: int, length: int, seed: int) -> list[list[int]]:
    """Random ids: the cost does not depend on them. One more than `length`, since the last is only predicted."""
    generator = random.Random(f"train/{seed}")
    return [[generator.randrange(vocabulary) for _ in range(length + 1)] for _ in range(count)]


def main() -> None:
    parser = common.arguments(__doc__ or "")
    parser.add_argument("--dtype", default=common.FAST_DTYPE, help="of ponder's weights")
    parser.add_argument("--length", type=int, default=LENGTH, help="tokens of a sequence")
    parser.add_argument("--hf-processes", type=int, help="only settings of so many: one takes half the memory of two")
    arguments = parser.parse_args()
    length, repeats = (16, 1) if arguments.quick else (arguments.length, arguments.repeats)
    model = common.model_folder(arguments.model)
    config = read_config(model)

    def job(count: int, repeat: int) -> Job:
        return {"sequences": sequences(config.vocab_size, count, length, repeat), "rows": ROWS}

    def shares(whole: Job, processes: int) -> list[Job]:
        return common.even(whole, processes, "sequences")

    fitting = [one for one in settings(model) if arguments.hf_processes in (None, one.processes)]
    if not fitting:
        parser.error(f"--hf-processes {arguments.hf_processes}: there are settings of 1 and of {common.num_devices()}")
    peers, tried = [], {}
    for name, each in common.chosen({"HF": fitting}, arguments).items():
        best, tried[name] = common.best_settings(each, job(ROWS, 0), shares, "tokens")
        peers.append(best)
    ours = Contender(
        name="ponder", side="ours.py", note=f"{arguments.dtype}, starts one worker a core",
        config={"kind": "train", "model": model, "dtype": arguments.dtype},
    )  # fmt: skip
    with common.start([ours, *peers, common.ceiling()]) as pool:
        answers = common.measure(pool, lambda repeat: job(ROWS * common.num_devices(), repeat), shares, repeats)
        losses = {
            name: sum(reply["loss"] for reply in each[-1].replies) / len(each[-1].replies)
            for name, each in answers.items()
            if "loss" in each[-1].replies[0]
        }
        case = common.facts("train", model=arguments.model, tried=tried, rows=ROWS, length=length, losses=losses)
        common.publish(arguments, [
            case | common.result(
                f"forward and backward, {ROWS} x {length} tokens a core", "tokens", pool, answers,
                flops_each=3 * flops_per_token(config, length / 2),
            )
        ])  # fmt: skip
    print("mean loss a token, last repetition (must agree): " + ", ".join(f"{n} {v:.4f}" for n, v in losses.items()))


if __name__ == "__main__":
    common.run(main)
