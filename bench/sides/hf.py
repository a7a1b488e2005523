"""transformers as a contender: `generate` (kind "rollout") and forward + backward (kind "train").

rollout  sampling at temperature 1 from the whole distribution, no end of sequence, batches of config["batch"] rows
train    loss of the model itself (labels = inputs); gradients stay in this process: what a second process would have
         to exchange is not charged
"""

from __future__ import annotations

from typing import Any

from link import Job, serve


def load(config: Job) -> Any:
    import torch
    import transformers

    torch.set_num_threads(config["threads"])
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(
        config["model"], dtype=getattr(torch, config["dtype"]), attn_implementation=config.get("attention", "sdpa")
    ).to(device)
    model.generation_config.eos_token_id = None
    return {"rollout": rollout, "train": train}[config["kind"]](model, config, torch, device)


def rollout(model: Any, config: Job, torch: Any, device: str) -> Any:
    model.eval()

    @torch.inference_mode()
    def generate(prompts: list[list[int]], samples: int, new_tokens: int) -> int:
        ids = torch.tensor(prompts, device=device)
        rows = model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), num_return_sequences=samples, do_sample=True,
            temperature=1.0, top_p=1.0, top_k=0, max_new_tokens=new_tokens, eos_token_id=None, pad_token_id=0,
        )  # fmt: skip
        assert rows.shape[1] == ids.shape[1] + new_tokens, rows.shape
        return rows.shape[0] * new_tokens

    def answer(job: Job) -> Job:
        torch.manual_seed(job["seed"])
        prompts, n, tokens = job["prompts"], job["n"], 0
        if len(prompts) == 1:  # samples of one prompt, a batch at a time
            for start in range(0, n, config["batch"]):
                tokens += generate(prompts, min(config["batch"], n - start), job["new_tokens"])
        else:
            rows = max(1, config["batch"] // n)
            for start in range(0, len(prompts), rows):
                tokens += generate(prompts[start : start + rows], n, job["new_tokens"])
        return {"tokens": tokens}

    return answer


def train(model: Any, config: Job, torch: Any, device: str) -> Any:
    model.train()
    if config.get("checkpointing"):
        model.gradient_checkpointing_enable()

    def answer(job: Job) -> Job:
        model.zero_grad(set_to_none=True)
        loss, sequences = 0.0, job["sequences"]
        rows = config.get("rows", job["rows"])
        for start in range(0, len(sequences), rows):
            ids = torch.tensor(sequences[start : start + rows], device=device)
            inputs, targets = ids[:, :-1].contiguous(), ids[:, 1:].contiguous()
            part = model(input_ids=inputs, labels=targets, shift_labels=targets, use_cache=False).loss
            (part * len(ids)).backward()
            loss += part.item() * len(ids)
        return {"tokens": sum(len(ids) - 1 for ids in sequences), "loss": loss / max(1, len(sequences))}

    return answer


if __name__ == "__main__":
    serve(load)
