"""Where the time goes: the costliest operators of ponder's sampling and training, on a CPU core or on the GPU. The
compiled network counts as two operators, "C: a pass" and "C: logits".

    python bench/where.py                       # the reference model, 64 samples of one prompt, then 8 x 256 trained
    python bench/where.py --sequences 512       # what a GPU is asked for

Everything runs in this process, on one thread (or the device), so that the profiler sees it: no workers, no peers.
Times under the profiler are longer than without; read the shares.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import Any

import common
import torch
from rollout import NEW, PROMPT, prompts
from train import LENGTH, ROWS, sequences

from ponder.engine import native
from ponder.engine.local import LocalEngine
from ponder.models import hub
from ponder.train.batches import Example, micro_batches
from ponder.train.distributed import Trainer
from ponder.train.replica import SupervisedLoss
from ponder.types import SamplingParams

TOP = 12


def seen_by_the_profiler(name: str, shown: str) -> None:
    """A method of the compiled network becomes an operator."""
    method = getattr(native.NativeNetwork, name)

    @functools.wraps(method)
    def recorded(*arguments: Any) -> Any:
        with torch.profiler.record_function(shown):
            return method(*arguments)

    setattr(native.NativeNetwork, name, recorded)


def shares(act: Callable[[], Any], device: str) -> list[tuple[str, float, int]]:
    """(operator, share of the time spent in operators themselves, calls), the costliest first. `act` is warmed once."""
    act()
    activities = [torch.profiler.ProfilerActivity.CPU]
    if device == "cuda":
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    every_thread = torch._C._profiler._ExperimentalConfig(profile_all_threads=True)  # the engine has one of its own
    with torch.profiler.profile(activities=activities, experimental_config=every_thread) as profile:
        act()
    own = "self_device_time_total" if device == "cuda" else "self_cpu_time_total"
    rows = [(event.key, float(getattr(event, own)), event.count) for event in profile.key_averages()]
    total = sum(row[1] for row in rows) or 1.0
    return sorted(((name, time / total, count) for name, time, count in rows), key=lambda row: -row[1])[:TOP]


def main() -> None:
    parser = common.arguments(__doc__ or "")
    parser.add_argument("--sequences", type=int, default=64)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    seen_by_the_profiler("_forward", "C: a pass")
    seen_by_the_profiler("_logits", "C: logits")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    new, length, count = (4, 16, 4) if arguments.quick else (NEW, LENGTH, arguments.sequences)
    model, tokenizer = hub.load(common.model_folder(arguments.model), dtype=torch.bfloat16, device=device)
    prompt = prompts(common.model_folder(arguments.model), 1, PROMPT, seed=0)[0]
    rows = sequences(model.config.vocab_size, ROWS, length, seed=0)
    examples = [Example(prompt_ids=(ids[0],), token_ids=tuple(ids[1:]), trained=(True,) * length) for ids in rows]
    batches = micro_batches(examples, max_tokens=ROWS * (length + 1))
    with (
        LocalEngine(model, tokenizer, num_workers=0, num_slots=count) as engine,
        Trainer(model, num_workers=0) as trainer,
    ):
        params = SamplingParams(max_answer_tokens=new)
        jobs = {
            f"sampling {count} x up to {new}": lambda: asyncio.run(engine.generate(prompt, params, n=count)),
            f"training {ROWS} x {length}": lambda: trainer.backward(batches, SupervisedLoss()),
        }
        cases = []
        for name, act in jobs.items():
            table = shares(act, device)
            cases.append(common.facts("where", case=name, device=device, model=arguments.model, operators=table))
            lines = [f"{name}, {device}: share of operators' own time", f"  {'share':>6} {'calls':>8}  operator"]
            lines += [f"  {share:>6.1%} {calls:>8}  {operator[:80]}" for operator, share, calls in table]
            common.publish(arguments, cases, show="\n".join(lines))


if __name__ == "__main__":
    common.run(main)
