"""vLLM's CPU build as a contender, inside one process (no engine process of its own), token ids in and out.

Loading takes about two minutes and compiles; config["eager"] skips the compiling. Log-probabilities are not asked for
and text is not decoded, both of which ponder does.
"""

from __future__ import annotations

from typing import Any

from link import Job, serve


def load(config: Job) -> Any:
    import os

    import torch

    os.environ.setdefault("MASTER_PORT", str(29600 + config["rank"]))  # two of them on one machine
    torch.set_num_threads(config["threads"])
    from vllm import LLM, SamplingParams

    engine = LLM(
        model=config["model"], dtype=config["dtype"], skip_tokenizer_init=True, max_model_len=config["window"],
        max_num_seqs=config["slots"], enforce_eager=config.get("eager", False), enable_prefix_caching=True, seed=0,
    )  # fmt: skip

    def answer(job: Job) -> Job:
        params = SamplingParams(
            n=job["n"], temperature=1.0, max_tokens=job["new_tokens"], ignore_eos=True, detokenize=False,
            seed=None,
        )  # fmt: skip
        outputs = engine.generate([{"prompt_token_ids": ids} for ids in job["prompts"]], params, use_tqdm=False)
        lengths = [len(sample.token_ids) for output in outputs for sample in output.outputs]
        assert set(lengths) <= {job["new_tokens"]}, lengths
        return {"tokens": sum(lengths)}

    return answer


if __name__ == "__main__":
    serve(load)
