"""Who trains and who samples: the pair that `rl` is handed.

    with local(config, run.folder, sources) as (learner, sampler):
        learner.backward(batches, loss); learner.step(lr=1e-4, max_norm=1.0)
        sampler.update_weights(learner.publish(version), version=version)

`local` is this machine: a single-thread process a core for each, or one device. Another pair, over a cluster or an
inference server, is another function of the same shape in a file of its own: `backend = "mymodule:attr"` in a recipe.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from ponder.engine.local import LocalEngine
from ponder.models import hub
from ponder.models.lora import save_adapter
from ponder.models.weights import save_model
from ponder.runs import record_training
from ponder.train.critic import new_value_head
from ponder.train.distributed import Trainer, pick_device, resolve_workers
from ponder.train.policy import Policy, open_policy
from ponder.train.recipe import RLConfig
from ponder.types import Learner, Sampler

Source = Mapping[str, Any]  # what is trained on, see `runs.record_training`
# folder: of the run, for what a backend keeps on disk; sources: kept in checkpoints
Backend = Callable[[RLConfig, Path, Sequence[Source]], AbstractContextManager[tuple[Learner, Sampler]]]


class LocalLearner(Trainer):
    """A trainer of a policy: it knows what a checkpoint of it holds beside the weights."""

    def __init__(self, policy: Policy, **how: Any) -> None:
        """how: the keyword arguments of `Trainer`."""
        super().__init__(policy.model, adapter=policy.adapter, **how)
        self.policy = policy

    def reference(self, folder: Path) -> Trainer:
        model, _ = hub.load(folder, dtype=self.model.dtype, device=pick_device())
        return Trainer(model, num_workers=0)

    def save(self, folder: Path) -> None:
        """The weights contain the adapter, where one is trained; it lies beside them too."""
        policy = self.policy
        save_model(self.model, folder)
        policy.tokenizer.save(str(folder))
        if self.adapter is not None:
            save_adapter(
                self.adapter, folder / "adapter", base=policy.base, merged_dtype=self.model.dtype,
                model=self.model, tokenizer=policy.tokenizer,
            )  # fmt: skip
        record_training(folder, policy.start, policy.sources, base_name=policy.base)


def local_learner(config: RLConfig, folder: Path, sources: Sequence[Source]) -> LocalLearner:
    """Trains in `num_workers` processes of this machine."""
    policy = open_policy(
        config.model, folder, dtype=config.dtype, lora_rank=config.lora_rank, seed=config.seed, sources=sources
    )
    critic: dict[str, Any] = {}
    if config.has_critic:
        critic = {"head": new_value_head(policy.model.config.hidden_size), "head_speed": config.critic.lr / config.lr}
    num_workers = resolve_workers(config.num_workers)
    return LocalLearner(policy, num_workers=num_workers, recompute=config.recompute, **critic)


@contextmanager
def local(config: RLConfig, folder: Path, sources: Sequence[Source]) -> Iterator[tuple[Learner, Sampler]]:
    """This machine. Both have the same number of processes; the sampler copies the weights that it is given."""
    with (
        local_learner(config, folder, sources) as learner,
        LocalEngine(
            learner.model, learner.policy.tokenizer, num_workers=resolve_workers(config.num_workers),
            num_slots=config.num_slots, closes_once=False,
        ) as sampler,
    ):  # fmt: skip
        yield learner, sampler


@contextmanager
def cluster(config: RLConfig, folder: Path, sources: Sequence[Source]) -> Iterator[tuple[Learner, Sampler]]:
    """Engines on the nodes of a Ray cluster, see docs/cluster.md."""
    from ponder.train.cluster import open_cluster  # with Ray, which only this backend needs

    with open_cluster(config, folder, sources) as pair:
        yield pair


BACKENDS: dict[str, Backend] = {"local": local, "cluster": cluster}
