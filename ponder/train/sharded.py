"""Training over several processes that hold a share of the weights each.

    with local_ranks(2) as ranks:                      # train/local_ranks.py; elsewhere whatever is a RankHandle
        with ShardedLearner(policy, ranks, folder=run.folder / "start", store=WeightStore(folder)) as learner:
            sums = learner.backward(batches, PolicyLoss(...))       # a `Learner`, as the trainer of one machine
            learner.step(lr=1e-4, max_norm=1.0)

The learner holds no weight: it deals the micro-batches and tells all ranks the same calls in the same order. What a
rank does is in train/rank.py; how the two meet is `RankHandle`, here. Weights travel by folder: ranks read and write
their rows of one safetensors file (train/publish.py).

Ranks live and die together: after an error the learner ends them all, and the run goes on from its last saved state.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, Self

import torch
from safetensors import safe_open
from safetensors.torch import load as load_bytes
from safetensors.torch import save as save_bytes
from torch import Tensor, nn

from ponder.files import write_atomic
from ponder.models import hub, lora
from ponder.models.lora import Adapter
from ponder.models.transformer import ModelConfig, blank
from ponder.models.weights import CONFIG, WEIGHTS, config_json, save_model
from ponder.train.distributed import deal
from ponder.train.policy import Policy
from ponder.train.publish import PublishedWeights, WeightStore, create
from ponder.train.replica import Logprobs, Sums, Values, refuse_gradient, refuse_loss, refuse_step, total_of
from ponder.trained_on import record_training


class RankHandle(Protocol):
    """One rank of a group, wherever it runs: here a process (`LocalRank`), on a cluster an actor that owns a `Rank`.

    `call("backward", ...)` runs `Rank.backward(...)` (train/rank.py) there and gives back what it returns. Arguments
    and results are bytes, numbers, texts, numpy arrays and dataclasses that can be pickled. The learner calls all ranks
    at once, and each again only after all have answered, from an event loop in a thread of its own.

    An actor is no more than
        class RankActor:
            def __init__(self): self.rank = Rank()
            def call(self, method, *arguments): return getattr(self.rank, method)(*arguments)
    and its handle names the host on which it runs, raises RankLost when the actor is gone, and lets every other
    exception through.
    """

    host: str  # where others reach it, e.g. "127.0.0.1"; rank 0's is where all meet

    async def call(self, method: str, *arguments: Any) -> Any:
        """Raises RankLost where the process is gone, or what the method raised."""
        ...

    def close(self) -> None:
        """End the process, at once if it does not listen. Closing twice does nothing more."""
        ...


class RankLost(RuntimeError):
    """The process of a rank is gone."""


class RankError(RuntimeError):
    """A group of ranks came to its end; says which rank and why."""


@dataclass(frozen=True, kw_only=True)
class RankSpec:
    """What every rank is opened with; small: weights are read by the ranks, each its own rows."""

    folder: str  # of the model at first, in Hugging Face layout, on a file system that all ranks see
    dtype: torch.dtype  # of computing
    adapter: Adapter | None  # its frame, see `Adapter.frame`
    tensors: bytes  # safetensors: an adapter's pairs
    recompute: bool
    betas: tuple[float, float]
    weight_decay: float


class ShardedLearner:
    """A `Learner` over ranks. It holds no weight and ends the ranks when one of them fails."""

    def __init__(
        self, policy: Policy, ranks: Sequence[RankHandle], *, folder: Path, store: WeightStore,
        recompute: bool = False, betas: tuple[float, float] = (0.9, 0.99), weight_decay: float = 0.0,
        timeout: float = 300.0, patience: float = 7200.0,
    ) -> None:  # fmt: skip
        """folder: on a file system that all ranks see, for the weights to begin with. store: where versions go.

        timeout: seconds that ranks wait for one another. patience: that one call of all may take.
        """
        config, dtype = policy.model.config, policy.model.dtype
        save_model(policy.model, folder)
        self._shapes = {name: tuple(x.shape) for name, x in policy.model.state_dict().items()}
        self.policy, self.ranks, self.store = replace(policy, model=blank(config).to(dtype)), list(ranks), store
        self._timeout, self._patience = timeout, patience
        self._failure, self._slot, self._num_references = "", "", 0
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True, name="ponder-ranks").start()
        adapter = policy.adapter
        spec = RankSpec(
            folder=str(folder), dtype=dtype, adapter=adapter.frame() if adapter else None,
            tensors=save_bytes(adapter.tensors() if adapter else {}), recompute=recompute, betas=betas,
            weight_decay=weight_decay,
        )  # fmt: skip
        world = len(self.ranks)
        try:
            (address,) = self._ask("address", [(self.ranks[0].host,)])
            self._ask("open", [(rank, world, address, timeout, spec) for rank in range(world)])
        except BaseException:
            self.close()
            raise

    @property
    def config(self) -> ModelConfig:
        return self.policy.model.config

    @property
    def num_shares(self) -> int:
        return len(self.ranks)

    @property
    def passes(self) -> int:
        """What forward and backward cost together, in forward passes (see `Trainer.passes`)."""
        return 3 if self.policy.adapter is None else 2

    def backward(self, batches: Sequence[Any], loss_function: Any) -> Sums:
        """Set the gradient to the sum over all batches; the summed loss and metrics. Raises NonFiniteLoss."""
        _, passes = self._deal(batches)
        sums = total_of(self._ask("backward", [(own, loss_function) for own in passes]))
        refuse_loss(sums["loss"])
        return sums

    def step(self, *, lr: float, max_norm: float) -> float:
        """Clip the gradient and step; the norm before clipping. Raises NonFiniteLoss, or a ValueError, without one."""
        refuse_step(lr, max_norm)
        norm = self._all("step", lr, max_norm)[0]
        refuse_gradient(norm)
        return float(norm)

    def logprobs(self, batches: Sequence[Any], temperature: float) -> list[Tensor]:
        return self.evaluate(batches, Logprobs(temperature), "")

    def values(self, batches: Sequence[Any], loss_function: Any) -> list[Tensor]:
        return self.evaluate(batches, Values(loss_function), "")

    def evaluate(self, batches: Sequence[Any], job: Logprobs | Values, key: str) -> list[Tensor]:
        """A tensor for each batch, of the policy ("") or of a reference."""
        if not batches:
            return []
        shares, passes = self._deal(batches)
        found: dict[int, Tensor] = {}
        for share, arrays in zip(shares, self._ask("evaluate", [(own, job, key) for own in passes]), strict=True):
            found |= {i: torch.from_numpy(values) for i, values in zip(share, arrays, strict=True)}
        return [found[i] for i in range(len(batches))]

    def reference(self, folder: Path) -> _Reference:
        """The ranks hold it beside the policy, each its rows, until they end."""
        self._num_references += 1
        key = f"reference {self._num_references}"
        self._all("open_reference", key, str(folder))
        return _Reference(self, key)

    def publish(self, version: int) -> PublishedWeights:
        """A handle to the files of the version, which all ranks write at once. Versions must grow."""
        store, dtype = self.store, self.policy.model.dtype
        base = store.begin(version, self._shapes, dtype)
        parts = self._all("publish", str(store.place(version)), version, base, store.deltas)
        return store.commit(version, base, parts)

    def save(self, folder: Path) -> None:
        """A checkpoint in Hugging Face layout, its weights written by all ranks at once."""
        policy, dtype = self.policy, self.policy.model.dtype
        part = folder / f".{WEIGHTS}.part"
        create(part, self._shapes, dtype)
        self._all("write", str(part))
        os.replace(part, folder / WEIGHTS)
        write_atomic(folder / CONFIG, json.dumps(config_json(self.config, dtype), indent=2) + "\n")
        policy.tokenizer.save(str(folder))
        if policy.adapter is not None:
            tensors = {name.partition("/")[2]: x for name, x in self._whole("weights/").items()}
            tables = blank(self.config)
            with safe_open(folder / WEIGHTS, framework="pt") as file:  # the rows of marks are written with an adapter
                for name in lora.tables(tables):
                    table: Any = tables.get_submodule(name)
                    table.weight = nn.Parameter(file.get_tensor(f"{name}.weight"))
            lora.save_adapter(
                policy.adapter.over(tensors), folder / "adapter", base=hub.named_base(policy.base), merged_dtype=dtype,
                model=tables, tokenizer=policy.tokenizer,
            )  # fmt: skip
        record_training(folder, policy.start, policy.sources, base_name=policy.base)

    def save_state(self, path: Path, metadata: dict[str, str]) -> None:
        """Save what an exact resume needs beside `path`, which names it once all of it is there; ranks go on meanwhile.
        A kill leaves the last state or this one."""
        if not self._slot and path.exists():
            self._slot = _slot(path)
        self._slot = "b" if self._slot == "a" else "a"
        self._all("save_state", str(path.parent / self._slot), str(path), {**metadata, "shards": self._slot})

    def load_state(self, path: Path) -> None:
        """A state that any number of ranks saved."""
        self._slot = _slot(path)
        self._all("load_state", str(path.parent / self._slot))

    def tensors(self) -> dict[str, Tensor]:
        """The state in one piece, here; `save_state` leaves it in the ranks' hands."""
        return self._whole("")

    def restore(self, tensor: Callable[[str], Tensor], names: Collection[str]) -> None:
        self._all("restore", save_bytes({name: tensor(name).contiguous() for name in names}))

    def close(self) -> None:
        """What is being saved is saved; then the ranks end."""
        try:
            if not self._failure:
                self._all("close")
        finally:
            self._failure = self._failure or "this learner is closed"
            for rank in self.ranks:
                rank.close()
            self._loop.call_soon_threadsafe(self._loop.stop)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _whole(self, kind: str) -> dict[str, Tensor]:
        return load_bytes(self._all("tensors", kind)[0])

    def _deal(self, batches: Sequence[Any]) -> tuple[list[list[int]], list[list[tuple[Any, bool]]]]:
        """Which batches go to each rank, and its passes: as many as the others', the last ones for nothing."""
        shares = deal(batches, len(self.ranks))
        most, least = max(map(len, shares)), min(batches, key=lambda batch: len(batch.tokens_N))
        return shares, [[(batches[i], True) for i in own] + [(least, False)] * (most - len(own)) for own in shares]

    def _all(self, method: str, *arguments: Any) -> list[Any]:
        return self._ask(method, [arguments] * len(self.ranks))

    def _ask(self, method: str, arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Call the first ranks, one for each of the arguments. After an error there is no group any more."""
        if self._failure:
            raise RankError(self._failure)
        work = _together(
            self.ranks[: len(arguments)], method, arguments, timeout=self._timeout, patience=self._patience
        )
        try:
            return asyncio.run_coroutine_threadsafe(work, self._loop).result()
        except RankError as error:
            self._failure = str(error)
            for rank in self.ranks:
                rank.close()
            raise


class _Reference:
    """A model that is not trained, sharded as the policy is."""

    def __init__(self, learner: ShardedLearner, key: str) -> None:
        self._learner, self._key = learner, key

    def logprobs(self, batches: Sequence[Any], temperature: float) -> list[Tensor]:
        return self._learner.evaluate(batches, Logprobs(temperature), self._key)


async def _together(
    ranks: Sequence[RankHandle], method: str, arguments: Sequence[tuple[Any, ...]], *, timeout: float, patience: float
) -> list[Any]:
    """All answers, or a RankError at the first failure: without one of them the others wait, each for the timeout."""
    tasks = [asyncio.ensure_future(r.call(method, *own)) for r, own in zip(ranks, arguments, strict=True)]
    done, pending = await asyncio.wait(tasks, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
    if pending and done and not any(task.exception() for task in done):  # they work in step, also where none waits
        done, pending = await asyncio.wait(tasks, timeout=timeout, return_when=asyncio.FIRST_EXCEPTION)
    if not pending and not any(task.exception() for task in done):
        return [task.result() for task in tasks]
    errors = [error for task in done if (error := task.exception())]
    if errors and not any(isinstance(error, RankLost) for error in errors):
        await asyncio.wait(tasks, timeout=_GRACE)  # the peers of a lost rank may fail before it is known to be lost
    failures = {i: task.exception() for i, task in enumerate(tasks) if task.done() and task.exception()}
    silent = [i for i, task in enumerate(tasks) if not task.done()]
    for task in tasks:
        task.cancel()
    lost = {i: error for i, error in failures.items() if isinstance(error, RankLost)}
    reason = "; ".join(f"rank {i}: {_short(error)}" for i, error in (lost or failures).items())
    if silent and not lost:
        names = ", ".join(map(str, silent))
        reason = f"rank {names} did not answer: it hangs, or cannot be reached" + (f" ({reason})" if reason else "")
    raise RankError(f"{method} over {len(ranks)} ranks failed: {reason}. Start the run again: its last state is kept")


def _short(error: BaseException | None) -> str:
    text = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
    return text if isinstance(error, RuntimeError) else f"{type(error).__name__}: {text}"


_GRACE = 1.0  # seconds


def _slot(path: Path) -> str:
    with safe_open(path, framework="pt") as file:
        slot = (file.metadata() or {}).get("shards")
    if slot is None:
        raise ValueError(f"{path} was not saved by a sharded learner: go on with the backend that the run began with")
    return str(slot)
