"""TRL's GRPOTrainer as a contender: one optimizer step a job, on the task of sums.py.

TRL owns its loop, so it runs in a thread that waits at the start of each step for the job and answers when it logs the
step. Several processes are ranks of one data-parallel group (gloo). Everything that changes what is learned is set as
in ponder's default recipe: GRPO's loss and scaling, one update a batch, no KL term, Adam (0.9, 0.99), the same problems
in the same order. What changes the speed is config's to choose: rows in one backward pass, the attention, weights in
bfloat16 or in float32 under bfloat16 autocast.
"""

from __future__ import annotations

import os
import queue
import tempfile
import threading
from typing import Any

from link import Job, serve


def load(config: Job) -> Any:
    world, rank = config["processes"], config["rank"]
    if world > 1:
        os.environ |= {
            "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world), "LOCAL_WORLD_SIZE": str(world),
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(config["port"]), "ACCELERATE_USE_CPU": "true",
        }  # fmt: skip
    import torch
    from datasets import Dataset
    from sums import problem, reward
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    torch.set_num_threads(config["threads"])
    jobs: queue.Queue[Job] = queue.Queue()
    replies: queue.Queue[Job] = queue.Queue()
    samples = config["prompts"] * config["n"]

    class Gate(TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            jobs.get()

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if logs and "loss" in logs:
                told = {key: float(logs[key]) for key in ("reward", "loss", "grad_norm", "entropy")}
                told["mixed"] = 1 - float(logs["frac_reward_zero_std"])
                length = float(logs["completions/mean_length"])
                replies.put(told | {"samples": samples // world, "tokens": round(length * samples / world)})

    def right(completions: Any, target: Any, **_: Any) -> list[float]:
        return [reward(c[0]["content"], t) for c, t in zip(completions, target, strict=True)]

    rows = [problem(i) for i in range(config["prompts"] * config["steps"])]
    data = Dataset.from_list([{"prompt": [{"role": "user", "content": text}], "target": t} for text, t in rows])
    arguments = GRPOConfig(
        output_dir=tempfile.mkdtemp(), use_cpu=True, report_to=[], save_strategy="no", logging_steps=1,
        disable_tqdm=True, max_steps=config["steps"], per_device_train_batch_size=config["rows"],
        gradient_accumulation_steps=samples // (config["rows"] * world), gradient_checkpointing=False,
        bf16=config["dtype"] == "autocast", num_generations=config["n"], max_completion_length=config["new_tokens"],
        temperature=1.0, top_p=1.0, top_k=0, beta=0.0, loss_type="grpo", scale_rewards="group", shuffle_dataset=False,
        learning_rate=config["lr"], lr_scheduler_type="constant", warmup_steps=0, max_grad_norm=1.0, weight_decay=0.0,
        adam_beta1=0.9, adam_beta2=0.99, seed=config["seed"], ddp_backend="gloo" if world > 1 else None,
        ddp_find_unused_parameters=False if world > 1 else None,
    )  # fmt: skip
    dtype = torch.float32 if config["dtype"] == "autocast" else getattr(torch, config["dtype"])
    trainer = GRPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(
            config["model"], dtype=dtype, attn_implementation=config.get("attention", "sdpa")
        ),
        reward_funcs=right, args=arguments, train_dataset=data,
        processing_class=AutoTokenizer.from_pretrained(config["model"]), callbacks=[Gate()],
    )  # fmt: skip

    def train() -> None:
        try:
            trainer.train()
        except Exception as error:
            replies.put({"missing": f"TRL failed: {type(error).__name__}: {error!s:.300}"})
            raise

    threading.Thread(target=train, daemon=True).start()

    def answer(job: Job) -> Job:
        jobs.put(job)
        return replies.get()

    return answer


if __name__ == "__main__":
    serve(load)
