"""One rank of sharded training (FSDP2, arXiv:2304.11277, over gloo or NCCL): the one file that knows torch.distributed.

A rank holds its rows of every weight and of both moments, in float32 (frozen weights in the dtype of computing), and
gathers a block's weights while it computes that block. The learner (train/sharded.py) tells all ranks the same calls in
the same order.

The loss is a sum with weights of the whole batch, so gradients are added, not averaged, once a step. Every rank makes
as many passes as the others, else they would wait for each other for ever; a pass too many counts 0. An adapter is
merged row by row: a rank's rows of B times the whole of A. Left out: tensor, pipeline and context parallelism.
"""

from __future__ import annotations

import concurrent.futures
import math
import os
import shutil
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from safetensors import safe_open
from safetensors.torch import load as load_bytes
from safetensors.torch import save as save_bytes
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor

from ponder.files import write_atomic
from ponder.models import lora
from ponder.models.lora import Adapter
from ponder.models.transformer import Transformer, blank, rope_tables
from ponder.models.weights import read_config, stored_tensors
from ponder.train.distributed import state_of
from ponder.train.publish import PartWriter, Rows, write_rows
from ponder.train.replica import ForwardPass, Logprobs, Sums, Values, sums_of, to_device, total_of
from ponder.train.sharded import RankSpec

_MEETING = timedelta(minutes=10)  # until all are there


class _Root(nn.Module, ForwardPass):
    """What FSDP shards. Everything that reads a weight happens inside its call, where hooks have gathered them."""

    names: list[str]  # of the model's weights, those that an adapter changes among them

    def __init__(self, model: Transformer, *, recompute: bool) -> None:
        super().__init__()
        self.model, self.recompute, self.adapter, self.head = model, recompute, None, {}
        self.deltas = nn.ParameterList()  # of an adapter's token rows, in the order of `adapter.rows`

    def adapt(self, frame: Adapter, tensors: Mapping[str, Tensor]) -> None:
        """Replace the layers that an adapter changes by ones whose pairs are parameters, without numbers yet."""
        made = frame.over({name: torch.empty_like(x, device="meta") for name, x in tensors.items()})
        pairs: Any = {name: nn.ParameterList(pair) for name, pair in made.pairs.items()}
        self.deltas.extend(rows.delta for rows in made.rows.values())
        self.adapter = Adapter(pairs, made.alpha, made.rows)
        lora.attach(self.model, self.adapter)

    def forward(self, batch: Any, job: Any) -> Any:
        batch = to_device(batch, self.model.device)
        if self.adapter is not None:
            for (name, rows), delta in zip(self.adapter.rows.items(), self.deltas, strict=True):
                self.adapter.rows[name] = replace(rows, delta=delta)
                table: Any = self.model.get_submodule(name)
                table.rows = self.adapter.rows[name]  # read by an AdaptedEmbedding; a head's by `lora.head_rows`
        if isinstance(job, Logprobs):
            return self.token_logprobs(batch, job.temperature)[0]
        return self.read_values(batch, job.of) if isinstance(job, Values) else self.loss(batch, job)


class Rank:
    """One of the processes that train together. Its public methods are what a `RankHandle` calls, all ranks at once."""

    def address(self, host: str) -> str:
        """Rank 0 only: where the others meet it."""
        self._store = dist.TCPStore(host, 0, None, is_master=True, wait_for_workers=False)
        return f"{host}:{self._store.port}"

    def open(self, rank: int, world: int, address: str, timeout: float, spec: RankSpec) -> None:
        """Join the group and read this rank's rows. timeout: seconds that a rank waits for another."""
        self.rank, self.world, self.spec = rank, world, spec
        host, _, port = address.rpartition(":")
        if dist.is_initialized():  # a group that came to a bad end
            dist.destroy_process_group()
        if host == "127.0.0.1" and sys.platform in ("linux", "darwin"):
            os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo" if sys.platform == "linux" else "lo0")
        gpu, limit = torch.cuda.is_available(), timedelta(seconds=timeout)
        self.device = torch.device("cuda", rank % torch.cuda.device_count()) if gpu else torch.device("cpu")
        if gpu:
            torch.cuda.set_device(self.device)
        store = self._store if rank == 0 else dist.TCPStore(host, int(port), None, is_master=False, timeout=_MEETING)
        store.set(f"here/{rank}", "")
        store.wait([f"here/{i}" for i in range(world)], _MEETING)  # processes start when they can: no peer's fault
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if gpu else "gloo", store=store, rank=rank, world_size=world, timeout=limit
        )
        self._savers = dist.new_group(backend="gloo", timeout=limit)  # saves talk from a thread of their own
        self._mesh = init_device_mesh(self.device.type, (world,))
        self._writer = PartWriter(rank)
        self._saving: concurrent.futures.Future[None] | None = None
        self._roots = {"": self._open_root(spec)}
        self._begin(spec)

    def _open_root(self, spec: RankSpec, *, frozen: bool = False) -> _Root:
        """A model of which this rank holds its rows: float32 where they are trained, else in the dtype of computing."""
        trained = dict(sorted(load_bytes(spec.tensors).items()))  # the same order on every rank; `load` gives any
        adapter = None if frozen else spec.adapter
        model = blank(read_config(spec.folder)).to(spec.dtype if frozen or adapter else torch.float32)
        model.requires_grad_(not frozen and adapter is None)
        names = list(dict(model.named_parameters()))
        root = _Root(model, recompute=spec.recompute)
        if adapter is not None:
            rows = {n: replace(known, start=known.start.to(self.device)) for n, known in adapter.rows.items()}
            root.adapt(replace(adapter, rows=rows), trained)
        policy = MixedPrecisionPolicy(cast_forward_inputs=False)
        if spec.dtype != torch.float32:
            policy = replace(policy, param_dtype=spec.dtype, reduce_dtype=torch.float32)
        for module in (*model.model.layers, root):
            fully_shard(module, mesh=self._mesh, mp_policy=policy)
            module.set_gradient_divide_factor(1.0)  # type: ignore[operator]
            module.set_force_sum_reduction_for_comms(True)  # type: ignore[operator] # else PREMUL_SUM, not in gloo
        root.to_empty(device=self.device)
        model.rope_cos, model.rope_sin = (table.to(self.device) for table in rope_tables(model.config))
        stored, parameters = stored_tensors(spec.folder), dict(model.named_parameters())
        for name in names:
            with safe_open(stored[name].file, framework="pt") as file:
                _fill(parameters[name], file.get_slice(name))
        for name, parameter in self._adapted(root).items():
            _fill(parameter, trained[name])
        root.names = names
        return root

    @staticmethod
    def _adapted(root: _Root) -> dict[str, Any]:
        """The parameters of an adapter by the names of its tensors."""
        if root.adapter is None:
            return {}
        rows = {n: replace(r, delta=d) for (n, r), d in zip(root.adapter.rows.items(), root.deltas, strict=True)}
        return replace(root.adapter, rows=rows).tensors()

    def _begin(self, spec: RankSpec) -> None:
        """The optimizer of the trainer of one machine, over this rank's rows."""
        root = self._roots[""]
        self._weights = {name: p for name, p in root.model.named_parameters() if name in set(root.names)}
        trained = self._adapted(root) or self._weights
        self.parameters: dict[str, Any] = dict(trained)
        adapted = root.adapter.pairs if root.adapter is not None else {}
        self._base = {name: _local(self._weights[f"{name}.weight"]).clone() for name in adapted}
        groups = [
            {"params": [p for p in trained.values() if p.dim() > 1], "weight_decay": spec.weight_decay},
            {"params": [p for p in trained.values() if p.dim() <= 1], "weight_decay": 0.0},
        ]
        groups = [group for group in groups if group["params"]]
        self.optimizer = torch.optim.AdamW(groups, lr=0.0, betas=spec.betas, eps=1e-8, foreach=False)
        self._refresh()

    @torch.no_grad()
    def _refresh(self) -> None:
        """Merge an adapter into this rank's rows of the weights: its rows of B times the whole of A."""
        root = self._roots[""]
        if root.adapter is None:
            return
        pairs = {name: (_full(a), _local(b)) for name, (a, b) in root.adapter.pairs.items()}
        into = {name: _local(self._weights[f"{name}.weight"]) for name in pairs}
        lora.merge(self._base, Adapter(pairs, root.adapter.alpha), into)
        for (name, rows), delta in zip(root.adapter.rows.items(), root.deltas, strict=True):
            table, values = self._weights[f"{name}.weight"], replace(rows, delta=_full(delta)).values()
            own, first = _local(table), _start(table)
            for token, value in zip(rows.ids, values, strict=True):
                if first <= token < first + len(own):
                    own[token - first] = value

    def backward(self, passes: Sequence[tuple[Any, bool]], loss_function: Any) -> Sums:
        """Set the gradient to the sum over all ranks' micro-batches; the sums of this rank's. (batch, whether it
        counts): as many on every rank."""
        root, parts = self._roots[""], []
        for parameter in self.parameters.values():
            parameter.grad = None
        for i, (batch, counts) in enumerate(passes):
            root.set_requires_gradient_sync(i == len(passes) - 1)  # type: ignore[operator] # one reduction a step
            loss, sums = root(batch, loss_function)
            (loss if counts else loss * 0.0).backward()
            if counts:
                parts.append(sums_of(loss, sums))
        for parameter in self.parameters.values():
            if parameter.grad is None:  # of what this loss leaves alone; the optimizer counts its step all the same
                parameter.grad = torch.zeros_like(parameter)
        return total_of(parts)

    def step(self, lr: float, max_norm: float) -> float:
        """The norm over all ranks before clipping; nan, and no step, where it is not finite."""
        every = list(self.parameters.values())
        norm = float(_full(nn.utils.clip_grad_norm_(every, max_norm or math.inf, foreach=False)))
        if not math.isfinite(norm):
            return math.nan
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.step()
        self._refresh()
        return norm

    @torch.no_grad()
    def evaluate(self, passes: Sequence[tuple[Any, bool]], job: Logprobs | Values, key: str) -> list[Any]:
        """An array for each micro-batch that counts. key: which model, see `open_reference`; "" = the policy."""
        root = self._roots[key]
        results = [(root(batch, job).cpu().numpy(), counts) for batch, counts in passes]
        for module in root.modules():
            if isinstance(module, FSDPModule):
                module.reshard()  # without a backward pass the root keeps gathered weights, which a step makes stale
        return [values for values, counts in results if counts]

    def open_reference(self, key: str, folder: str) -> None:
        """Open the frozen model of a checkpoint folder, which `evaluate` then knows by `key`."""
        self._roots[key] = self._open_root(replace(self.spec, folder=folder), frozen=True)

    def write(self, path: str) -> None:
        """This rank's rows of the weights that are computed with, into a file of `publish.create`."""
        write_rows(Path(path), self._rows())

    def publish(self, folder: str, version: int, base: int | None, keep: bool) -> dict[str, Any]:
        """Write this rank's rows of a version (`PartWriter.write`); the result is its part of `WeightStore.commit`."""
        return self._writer.write(Path(folder), version, base, keep, self._rows())

    def _rows(self) -> dict[str, Rows]:
        return {n: Rows(_local(p).detach().to(self.spec.dtype), _start(p)) for n, p in self._weights.items()}

    def _state(self) -> dict[str, Any]:
        """What an exact resume needs, by the names that the trainer of one machine gives it."""
        return dict(state_of(self.parameters, self.optimizer))

    def _state_for(self, names: Collection[str]) -> dict[str, Any]:
        """The same, with moments where there are to be some, for numbers to be read into."""
        for parameter in self.parameters.values():
            self.optimizer.state.pop(parameter, None)
        for name, parameter in self.parameters.items():
            if f"step/{name}" in names:
                moments = {kind: torch.zeros_like(parameter.detach()) for kind in ("exp_avg", "exp_avg_sq")}
                self.optimizer.state[parameter] = {"step": torch.tensor(0.0), **moments}
        state = self._state()
        if missing := state.keys() - set(names):
            raise KeyError(f"{min(missing)} is missing")
        return state

    def save_state(self, folder: str, mark: str, metadata: dict[str, str]) -> None:
        """Save in the background, as of now; rank 0 writes the mark, a safetensors file of metadata alone, at last."""
        self.finish_saving()
        if self.rank == 0:  # the others wait for its plan before they write
            shutil.rmtree(folder, ignore_errors=True)
        saved: Any = dcp.async_save(self._state(), checkpoint_id=folder, process_group=self._savers)

        def end() -> None:
            saved.result()
            if self.rank == 0:
                write_atomic(Path(mark), save_bytes({}, metadata=metadata))

        self._saving = concurrent.futures.ThreadPoolExecutor(1).submit(end)

    def finish_saving(self) -> None:
        """Raises what went wrong in the background."""
        saving, self._saving = self._saving, None
        if saving is not None:
            saving.result()

    @torch.no_grad()
    def load_state(self, folder: str) -> None:
        """A state that any number of ranks saved."""
        names = dcp.FileSystemReader(folder).read_metadata().state_dict_metadata.keys()
        dcp.load(self._state_for(names), checkpoint_id=folder)
        self._refresh()

    @torch.no_grad()
    def tensors(self, kind: str) -> bytes:
        """Whole tensors of the state whose names begin with `kind`, as a safetensors file, on rank 0."""
        whole = {name: _full(tensor).cpu() for name, tensor in self._state().items() if name.startswith(kind)}
        return save_bytes(whole) if self.rank == 0 else b""

    @torch.no_grad()
    def restore(self, tensors: bytes) -> None:
        """Take back a whole state, the bytes of a safetensors file; this rank keeps its rows. KeyError where it lacks a
        tensor."""
        given = load_bytes(tensors)
        for name, tensor in self._state_for(given.keys()).items():
            _fill(tensor, given[name])
        self._refresh()

    def close(self) -> None:
        """Wait for a state that is being saved, and leave the group. Raises what went wrong with saving."""
        self.finish_saving()
        dist.destroy_process_group()


def _local(x: Any) -> Tensor:
    return x.to_local() if isinstance(x, DTensor) else x


def _full(x: Any) -> Tensor:
    return x.full_tensor().detach() if isinstance(x, DTensor) else x


def _start(x: Any) -> int:
    """The first of this rank's rows of a tensor that FSDP cut as `torch.chunk` does."""
    mesh, rows = x.device_mesh, x.shape[0]
    return min(rows, mesh.get_local_rank() * -(-rows // mesh.size()))


@torch.no_grad()
def _fill(target: Any, whole: Any) -> None:
    """Copy what this rank holds of a tensor, or of a slice of a file."""
    own = _local(target)
    if own.numel():
        own.copy_(whole[_start(target) : _start(target) + len(own)] if isinstance(target, DTensor) else whole)
