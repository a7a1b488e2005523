"""Who trains and who samples: the pair that `rl` is handed.

    with local(config, run.folder, sources) as (learner, sampler):
        learner.backward(batches, loss); learner.step(lr=1e-4, max_norm=1.0)
        sampler.update_weights(learner.publish(version), version=version)

`local` is this machine: a single-thread process a core for each, or one device. `vllm` samples with vLLM. `sharded`
cuts weights and optimizer among `num_workers` ranks (train/sharded.py). `cluster` uses the nodes of a Ray cluster
(train/cluster.py). `tinker` trains and samples at a service (train/tinker_backend.py). Another pair is another function
of the same shape: `backend = "mymodule:attr"` in a recipe.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from ponder.engine.local import LocalEngine
from ponder.models.weights import save_model
from ponder.train.distributed import resolve_workers
from ponder.train.learner import open_learner, policy_of
from ponder.train.recipe import RLConfig
from ponder.trained_on import Source
from ponder.types import Learner, Sampler

# folder: of the run, for what a backend keeps on disk; sources: kept in checkpoints
Backend = Callable[[RLConfig, Path, Sequence[Source]], AbstractContextManager[tuple[Learner, Sampler]]]


@contextmanager
def local(config: RLConfig, folder: Path, sources: Sequence[Source]) -> Iterator[tuple[Learner, Sampler]]:
    """This machine. Both have the same number of processes; the sampler copies the weights that it is given."""
    with (
        open_learner(config, folder, sources) as learner,
        LocalEngine(
            learner.model, learner.policy.tokenizer, num_workers=resolve_workers(config.num_workers),
            num_slots=config.num_slots, closes_once=False, int8=config.sampling_dtype == "int8",
        ) as sampler,
    ):  # fmt: skip
        yield learner, sampler


@contextmanager
def vllm(config: RLConfig, folder: Path, sources: Sequence[Source]) -> Iterator[tuple[Learner, Sampler]]:
    """This machine trains, vLLM samples; new weights go through the run's folder (docs/vllm.md)."""
    from ponder.engine.vllm import open_vllm

    with open_learner(config, folder, sources) as learner:
        served = folder / "vllm"
        save_model(learner.model, served)
        with open_vllm(
            served, learner.policy.tokenizer, dtype=learner.model.dtype, num_slots=config.num_slots,
            closes_once=False, weights_folder=served,
        ) as sampler:  # fmt: skip
            yield learner, sampler


@contextmanager
def sharded(config: RLConfig, folder: Path, sources: Sequence[Source]) -> Iterator[tuple[Learner, Sampler]]:
    """Ranks on this machine that hold a share of the weights each; the local engine reads what they publish."""
    from ponder.train import publish
    from ponder.train.local_ranks import local_ranks
    from ponder.train.sharded import ShardedLearner

    policy, num_workers = policy_of(config, folder, sources), resolve_workers(config.num_workers)
    size = policy.model.num_parameters * policy.model.dtype.itemsize
    with (
        publish.WeightStore(publish.fast_folder(folder, size), window=1) as store,
        local_ranks(max(1, num_workers)) as ranks,
        LocalEngine(
            policy.model, policy.tokenizer, num_workers=num_workers, num_slots=config.num_slots, closes_once=False,
            int8=config.sampling_dtype == "int8",
        ) as sampler,
        ShardedLearner(policy, ranks, folder=folder / "start", store=store, recompute=config.recompute) as learner,
    ):  # fmt: skip
        del policy  # the learner has the rest of it, the sampler a copy of the weights
        yield learner, sampler


@contextmanager
def cluster(config: RLConfig, folder: Path, sources: Sequence[Source]) -> Iterator[tuple[Learner, Sampler]]:
    """Engines, and ranks where the recipe says so, on the nodes of a Ray cluster: docs/cluster.md."""
    from ponder.train.cluster import open_cluster  # with Ray, which only this backend needs

    with open_cluster(config, folder, sources) as pair:
        yield pair


@contextmanager
def tinker(config: RLConfig, folder: Path, sources: Sequence[Source]) -> Iterator[tuple[Learner, Sampler]]:
    """A service that speaks the Tinker API: docs/tinker.md."""
    from ponder.train.tinker_backend import open_tinker  # with the SDK, which only this backend needs

    with open_tinker(config, folder, sources) as pair:
        yield pair


BACKENDS: dict[str, Backend] = {"local": local, "vllm": vllm, "sharded": sharded, "cluster": cluster, "tinker": tinker}
