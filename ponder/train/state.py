"""What an exact resume needs, in one file that is replaced atomically: RUN/state/state.safetensors.

What is trained, in float32 (weights, or the pairs of an adapter), and Adam's moments as tensors; everything else (step,
counters, the state of the problem pool) as JSON in the file's header. Random numbers are derived from seeds, so there
is no generator to save. A run killed at any moment goes on from the last saved state and repeats the same steps bit for
bit.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from ponder.models.lora import save_adapter
from ponder.models.weights import save_model
from ponder.runs import Run, record_training, write_atomic
from ponder.train.distributed import Trainer
from ponder.train.policy import Policy


def state_path(run_folder: Path) -> Path:
    return run_folder / "state" / "state.safetensors"


def save_state(run: Run, trainer: Trainer, facts: dict[str, Any]) -> None:
    """Save weights, optimizer and `facts` (JSON) together."""
    tensors: dict[str, torch.Tensor] = {}
    for name, parameter in trainer.parameters.items():
        tensors[f"weights/{name}"] = parameter.detach()
        moments = trainer.optimizer.state.get(parameter)
        if moments:
            tensors[f"exp_avg/{name}"] = moments["exp_avg"]
            tensors[f"exp_avg_sq/{name}"] = moments["exp_avg_sq"]
            tensors[f"step/{name}"] = moments["step"]
    tensors = {name: tensor.cpu().clone() for name, tensor in tensors.items()}
    write_atomic(state_path(run.folder), save(tensors, metadata={"facts": json.dumps(facts)}))


def refuse_shorter(done: int, wanted: int) -> None:
    """A run cannot be taken back: its weights are those of the last step."""
    if done > wanted:
        raise ValueError(
            f"this run has taken {done} steps, more than num_steps={wanted}; use its rung (RUN@{wanted}) where it has "
            "one, or choose another `out`"
        )


def load_state(run: Run, trainer: Trainer) -> dict[str, Any] | None:
    """Restore a trainer in place and return the facts; None where nothing was saved yet."""
    path = state_path(run.folder)
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file, torch.no_grad():
            names = set(file.keys())
            for name, parameter in trainer.parameters.items():
                parameter.copy_(file.get_tensor(f"weights/{name}"))
                if f"step/{name}" in names:
                    trainer.optimizer.state[parameter] = {
                        "step": file.get_tensor(f"step/{name}"),
                        "exp_avg": file.get_tensor(f"exp_avg/{name}").to(parameter.device),
                        "exp_avg_sq": file.get_tensor(f"exp_avg_sq/{name}").to(parameter.device),
                    }
            trainer.refresh()
            return json.loads(file.metadata()["facts"])
    except (SafetensorError, RuntimeError, KeyError) as error:
        raise ValueError(f"{path} does not fit this run ({error}); delete {run.folder} to start over") from error


def save_rung(run: Run, trainer: Trainer, policy: Policy, *, step: int, facts: dict[str, Any]) -> Path:
    """A rung of the checkpoint ladder: a model folder, complete once its ladder.json is there.

    The weights contain the adapter, where one is trained; it lies beside them too.
    """
    folder = run.checkpoint_folder(step)
    folder.mkdir(parents=True, exist_ok=True)
    save_model(trainer.model, folder)
    policy.tokenizer.save(str(folder))
    if trainer.adapter is not None:
        save_adapter(
            trainer.adapter, folder / "adapter", base=policy.base, merged_dtype=trainer.model.dtype,
            model=trainer.model, tokenizer=policy.tokenizer,
        )  # fmt: skip
    record_training(folder, policy.start, policy.sources, base_name=policy.base)
    ladder = {
        "step": step,
        "train_flops": facts.get("flops", 0.0),
        "rollout_tokens": facts.get("rollout_tokens", 0),
        "train_tokens": facts.get("tokens", 0),
        "seconds": facts.get("seconds", 0.0),
    }
    write_atomic(folder / "ladder.json", json.dumps(ladder) + "\n")
    return folder
