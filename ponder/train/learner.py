"""The learner of this machine: a trainer that knows its policy, so that it can save what a checkpoint holds.

Which backends train with it is in train/backend.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ponder.models import hub
from ponder.models.lora import save_adapter
from ponder.models.weights import save_model
from ponder.train.distributed import Trainer, pick_device, resolve_workers
from ponder.train.policy import Policy, open_policy
from ponder.train.recipe import RLConfig
from ponder.trained_on import Source, record_training


class LocalLearner(Trainer):
    """A trainer of a policy: it knows what a checkpoint of it holds beside the weights."""

    def __init__(self, policy: Policy, *, adapter_only: bool = False, **how: Any) -> None:
        """adapter_only: checkpoints hold the adapter alone. how: the keyword arguments of `Trainer`."""
        super().__init__(policy.model, adapter=policy.adapter, **how)
        self.policy, self._adapter_only = policy, adapter_only

    def reference(self, folder: Path) -> Trainer:
        """Computes in this process, without workers, in the dtype of the policy."""
        model, _ = hub.load(folder, dtype=self.model.dtype, device=pick_device())
        return Trainer(model, num_workers=0)

    def save(self, folder: Path) -> None:
        """The weights contain the adapter, where one is trained; it lies beside them too. With adapter_only the folder
        is an adapter's, for whoever has its base."""
        policy = self.policy
        if not self._adapter_only:
            save_model(self.model, folder)
            policy.tokenizer.save(str(folder))
        if self.adapter is not None:
            into = folder if self._adapter_only else folder / "adapter"
            save_adapter(
                self.adapter, into, base=hub.named_base(policy.base), merged_dtype=self.model.dtype, model=self.model,
                tokenizer=policy.tokenizer,
            )  # fmt: skip
        record_training(folder, policy.start, policy.sources, base_name=policy.base)


def open_learner(config: RLConfig, folder: Path, sources: Sequence[Source]) -> LocalLearner:
    """The trainer on this machine."""
    return local_learner(policy_of(config, folder, sources), config)


def policy_of(config: RLConfig, folder: Path, sources: Sequence[Source]) -> Policy:
    """The model of a recipe, opened, with a new adapter or that of the model it starts from; none without lora_rank."""
    return open_policy(
        config.model, folder, dtype=config.dtype, lora_rank=config.lora_rank, seed=config.seed, sources=sources,
        thinks=config.max_reasoning_tokens > 0,
    )  # fmt: skip


def local_learner(policy: Policy, config: RLConfig) -> LocalLearner:
    """The trainer of this machine over an opened policy; its workers start here."""
    num_workers = resolve_workers(config.num_workers)
    return LocalLearner(
        policy,
        adapter_only=config.adapter_only,
        num_workers=num_workers,
        recompute=config.recompute,
    )
