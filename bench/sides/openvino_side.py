"""OpenVINO GenAI as a contender: its pipeline of continuous batching, token ids in and out.

The folder is what `optimum-cli export openvino` made of the model. All prompts are given at once; samples of one prompt
are its `num_return_sequences`, which read the prompt once and share its blocks of the cache. Temperature 1 from the
whole distribution, nothing ends a row but its length.

Left as OpenVINO chooses: the precision of products and of the cache.
"""

from __future__ import annotations

from typing import Any

from link import Job, serve


def load(config: Job) -> Any:
    import numpy
    import openvino
    import openvino_genai as genai

    scheduler = genai.SchedulerConfig()
    scheduler.max_num_seqs = -(-config["slots"] // config["processes"])
    scheduler.max_num_batched_tokens = config.get("batched_tokens", 1024)
    scheduler.dynamic_split_fuse = True
    scheduler.enable_prefix_caching = False  # no prompt comes twice
    pipeline = genai.ContinuousBatchingPipeline(
        config["model"], scheduler, "CPU",
        {"INFERENCE_NUM_THREADS": config["threads"], "ENABLE_CPU_PINNING": False},  # the harness pins
    )  # fmt: skip

    def wanted(job: Job, seed: int) -> Any:
        asked = genai.GenerationConfig()
        asked.max_new_tokens, asked.ignore_eos = job["new_tokens"], True
        if not job.get("greedy"):
            asked.do_sample, asked.temperature, asked.top_p = True, 1.0, 1.0
            asked.num_return_sequences, asked.rng_seed = job["n"], seed
        return asked

    def answer(job: Job) -> Job:
        first = (job["seed"] * config["processes"] + config["rank"]) * 1000
        prompts = [openvino.Tensor(numpy.array([ids], dtype=numpy.int64)) for ids in job["prompts"]]
        results = pipeline.generate(prompts, [wanted(job, first + i) for i in range(len(prompts))])
        made = [list(row) for result in results for row in result.m_generation_ids]
        assert {len(row) for row in made} <= {job["new_tokens"]}, sorted(map(len, made))
        reply = {"tokens": sum(map(len, made)), "different": len(set(map(tuple, made)))}
        return reply | ({"rows": made} if job.get("greedy") else {})

    return answer


if __name__ == "__main__":
    serve(load)
