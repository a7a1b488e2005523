"""What an exact resume needs, in one file that is replaced atomically: RUN/state/state.safetensors.

What is trained, in float32 (weights, or the pairs of an adapter), and Adam's moments as tensors, or where the ranks of
a sharded learner left theirs; everything else (step,
counters, the state of the problem pool) as JSON in the file's header. Random numbers are derived from seeds, so there
is no generator to save. A run killed at any moment goes on from the last saved state and repeats the same steps bit for
bit.
"""

from __future__ import annotations

import json
import warnings
import zlib
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ponder.files import read_jsonl, write_atomic
from ponder.runs import Run
from ponder.types import Learner


class Resumable(Protocol):
    """A learner, or a trainer of something else than a policy."""

    def tensors(self) -> dict[str, Tensor]:
        """What an exact resume needs, by name."""
        ...

    def restore(self, tensor: Callable[[str], Tensor], names: Collection[str]) -> None:
        """Take it back, in place. tensor: reads one of `names`."""
        ...


@runtime_checkable
class SavesShards(Protocol):
    """A learner whose ranks keep their state themselves, beside a file that only names it (train/sharded.py)."""

    def save_state(self, path: Path, metadata: dict[str, str]) -> None:
        """path: of the file that names the state, written last. metadata: what else that file has to hold."""
        ...

    def load_state(self, path: Path) -> None:
        """Take back, in place, the state that the file at `path` names."""
        ...


def state_path(run_folder: Path) -> Path:
    return run_folder / "state" / "state.safetensors"


def save_state(run: Run, learner: Resumable, facts: dict[str, Any]) -> None:
    """Save weights, optimizer and `facts` (JSON) together."""
    path, metadata = state_path(run.folder), {"facts": json.dumps(facts), "run": run.identity}
    if isinstance(learner, SavesShards):
        learner.save_state(path, metadata)
    else:
        tensors = learner.tensors()
        write_atomic(path, save(tensors, metadata=metadata | {"checksum": _checksum(tensors, tensors.__getitem__)}))


def _checksum(names: Iterable[str], read: Callable[[str], Tensor]) -> str:
    """CRC-32 of tensors by name: a disk that gives other bytes than it was given is no reason to go on from them."""
    found = 0
    for name in sorted(names):
        content = read(name).detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        found = zlib.crc32(content.data, zlib.crc32(name.encode(), found))
    return f"{found:08x}"


def refuse_shorter(done: int, wanted: int) -> None:
    """A run cannot be taken back: its weights are those of the last step."""
    if done > wanted:
        raise ValueError(
            f"this run has taken {done} steps, more than num_steps={wanted}; use its checkpoint (RUN@{wanted}) where "
            "it has one, or choose another `out`"
        )


def load_state(run: Run, learner: Resumable, begun: Mapping[str, Any]) -> dict[str, Any]:
    """Restore a learner in place and return the facts; those of `begun`, which every state has, where none was saved
    yet."""
    path = state_path(run.folder)
    if not path.exists():
        if logged := sum(1 for _ in read_jsonl(run.folder / "metrics.jsonl")):
            warnings.warn(f"{run.folder} has no saved state: it begins again, and its {logged} logged steps are taken "
                          "again", stacklevel=2)  # fmt: skip
        return dict(begun)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("run", run.identity) != run.identity:  # its weights may well fit
                raise ValueError(f"it is of another run: {metadata['run']}, not {run.identity}")
            facts = json.loads(metadata["facts"])
            if lacks := sorted(name for name, value in begun.items() if type(facts[name]) is not type(value)):
                raise ValueError(f"its {lacks[0]} is {facts[lacks[0]]!r}")
            if not isinstance(learner, SavesShards):
                names = set(file.keys())
                if "checksum" in metadata and metadata["checksum"] != _checksum(names, file.get_tensor):
                    raise ValueError("its numbers are not those that were saved")
                learner.restore(file.get_tensor, names)
    except (SafetensorError, RuntimeError, LookupError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} is damaged or does not fit this run ({error}); restore it, or go on from its checkpoints in "
            f"a new run: model={run.folder} and another `out`"
        ) from error
    if isinstance(learner, SavesShards):
        learner.load_state(path)
    return facts


def save_checkpoint(run: Run, learner: Learner, *, step: int, facts: dict[str, Any]) -> Path:
    """Keep a checkpoint: a model folder, complete once its checkpoint.json is there."""
    folder = run.checkpoint_folder(step)
    folder.mkdir(parents=True, exist_ok=True)
    learner.save(folder)
    cost = {
        "step": step,
        "train_flops": facts.get("flops", 0.0),
        "rollout_tokens": facts.get("rollout_tokens", 0),
        "train_tokens": facts.get("tokens", 0),
        "seconds": facts.get("seconds", 0.0),
    }
    write_atomic(folder / "checkpoint.json", json.dumps(cost) + "\n")
    return folder
