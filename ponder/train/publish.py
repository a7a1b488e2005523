"""Weights by version, through a folder that trainer and samplers see: tmpfs on one machine, a shared file system else.

    store = WeightStore(folder, window=3)                           # the trainer's driver
    base = store.begin(7, shapes, torch.bfloat16)                   # version 7 is announced; against which base?
    parts = [writer.write(store.place(7), base, rows) for ...]      # each writer, its rows of every tensor
    weights = store.commit(7, parts)                                # the mark, written last
    sampler.update_weights(weights, version=7)                      # `PublishedWeights`: read where it is used

A version is a folder, v00000007: `model.safetensors`, which all writers fill at once, and `version.json`, the mark,
with a checksum of every writer's rows; a version without its mark does not exist. With `full_every` above 1 the
versions between are deltas against the one before: only what changed, by index, as absolute values, so that one applied
twice does no harm. A writer that lost its base writes all of its rows, a reader that has none begins at the last full
version, and both end at the same checksums. The window keeps that many versions, and what their deltas need.

Left out: broadcasts by NCCL and handles of GPU memory.
"""

from __future__ import annotations

import functools
import json
import math
import os
import shutil
import stat
import uuid
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from ponder.files import read_object, write_atomic
from ponder.models.weights import CODES, DTYPES, WEIGHTS, file_header

MARK = "version.json"
MEMORY = Path("/dev/shm")  # of this machine, and of all its users
_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32}  # by bytes: numbers are compared as bits
Part = dict[
    str, Any
]  # of a version, by one writer: {"rows": {name: [first row, rows, checksum]}, "delta": file or None}


class PublishedError(ValueError):
    """A version is missing, incomplete or not what its marker describes."""


class Rows(NamedTuple):
    """Rows `start` and after of a tensor whose first dimension is cut among writers."""

    tensor: Tensor
    start: int


def checksum(tensor: Tensor) -> int:
    """CRC-32 of its bytes."""
    return zlib.crc32(memoryview(_bytes(tensor)))


def create(path: Path, shapes: Mapping[str, Sequence[int]], dtype: torch.dtype) -> None:
    """A safetensors file whose tensors are still to be written (`write_rows`)."""
    head, _ = file_header({name: tuple(shape) for name, shape in shapes.items()}, dtype)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        file.write(head)
        file.truncate(len(head) + sum(math.prod(shape) for shape in shapes.values()) * dtype.itemsize)


def write_rows(path: Path, rows: Mapping[str, Rows]) -> None:
    """Fill in some rows of a file that `create` made, in its dtype; others may write theirs meanwhile.

    Without a buffer: one that spans two of our rows would put back what it read between them, over others' rows.
    """
    with open(path, "rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
    with open(path, "r+b", buffering=0) as file:
        for name, (tensor, start) in rows.items():
            known, flat = header[name], tensor.to(DTYPES[header[name]["dtype"]])
            row = math.prod(known["shape"][1:]) * flat.element_size()
            at, left = 8 + size + known["data_offsets"][0] + start * row, memoryview(_bytes(flat))
            while left:
                written = os.pwrite(file.fileno(), left, at)
                at, left = at + written, left[written:]
        os.fsync(file.fileno())


class PartWriter:
    """One writer's rows, version after version. With deltas it keeps a copy of what it wrote last."""

    def __init__(self, number: int) -> None:
        self.number = number
        self._version: int | None = None
        self._last: dict[str, Tensor] = {}

    def write(self, folder: Path, version: int, base: int | None, keep: bool, rows: Mapping[str, Rows]) -> Part:
        """base: the version that this one is a delta against; None = all rows. keep: a delta may follow."""
        delta = None
        if base is None:
            write_rows(folder / WEIGHTS, rows)
        else:
            delta = f"delta{self.number:05}.safetensors"
            known = self._last if self._version == base else {}
            changes = {key: x for name, own in rows.items() for key, x in _changes(name, own.tensor, known).items()}
            save_file(changes, folder / delta)
        self._version = version if keep else None
        self._last = {name: own.tensor.clone() for name, own in rows.items()} if keep else {}
        checksums = {name: [own.start, len(own.tensor), checksum(own.tensor)] for name, own in rows.items()}
        return {"rows": checksums, "delta": delta}


def _changes(name: str, new: Tensor, known: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What to write where in a flat tensor, or all of it where that is smaller."""
    old = known.get(name)
    if old is None:
        return {f"{name}:all": new.contiguous()}
    bits = _INTEGERS[new.element_size()]
    at = (new.reshape(-1).view(bits) != old.reshape(-1).view(bits)).nonzero()[:, 0]
    if not len(at):
        return {}
    if len(at) * (4 + new.element_size()) >= new.nbytes or new.numel() >= 2**31:
        return {f"{name}:all": new.contiguous()}
    return {f"{name}:at": at.to(torch.int32), f"{name}:to": new.reshape(-1)[at]}


class WeightStore:
    """The driver's side of a folder: which versions there are. Begins empty; what an older one left is deleted."""

    def __init__(self, folder: Path, *, window: int = 3, full_every: int = 1) -> None:
        """window: versions that are kept. full_every: 1 = every version is whole."""
        if window < 1 or full_every < 1:
            raise ValueError(f"window={window} and full_every={full_every} must be 1 or more")
        if folder.is_dir():  # emptied and kept, as it may be nobody else's
            _empty(folder)
        self._parent, self.folder = folder, folder / uuid.uuid4().hex[:12]  # no reader takes it for an older store
        self.window, self.full_every = window, full_every
        self._bases: dict[int, int | None] = {}  # of every version that is kept
        self._num_deltas = 0  # since the last whole version
        self._shapes: dict[str, list[int]] = {}
        self._dtype = torch.float32

    @property
    def deltas(self) -> bool:
        """Whether versions between two whole ones are written as differences."""
        return self.full_every > 1

    def place(self, version: int) -> Path:
        """The folder of a version, whether it exists or not."""
        return self.folder / f"v{version:08}"

    def begin(self, version: int, shapes: Mapping[str, Sequence[int]], dtype: torch.dtype) -> int | None:
        """Announce a version; the one that its writers take as base, None = they write everything."""
        last = max(self._bases, default=-1)
        if version <= last:
            raise PublishedError(f"version {version} cannot come after version {last}: versions only grow")
        base = last if self._bases and self._num_deltas + 1 < self.full_every else None
        self._num_deltas = 0 if base is None else self._num_deltas + 1
        self._shapes, self._dtype = {name: list(shape) for name, shape in shapes.items()}, dtype
        shutil.rmtree(self.place(version), ignore_errors=True)
        self.place(version).mkdir(parents=True)
        if base is None:
            create(self.place(version) / WEIGHTS, shapes, dtype)
        return base

    def commit(self, version: int, base: int | None, parts: Sequence[Part]) -> PublishedWeights:
        """Write the mark, when all writers are done; forget what the window leaves behind."""
        for name, shape in self._shapes.items():
            ends = 0
            for start, count, _ in sorted(part["rows"][name] for part in parts if name in part["rows"]):
                ends = start + count if start == ends else ends
            if ends != shape[0]:
                raise PublishedError(f"version {version}: rows {ends} to {shape[0]} of {name} were not written")
        mark = {"version": version, "base": base, "keep": self.deltas, "dtype": CODES[self._dtype], "parts": parts}
        write_atomic(self.place(version) / MARK, json.dumps(mark | {"shapes": self._shapes}) + "\n")
        self._bases[version] = base
        needed: set[int] = set()
        for kept in sorted(self._bases)[-self.window :]:
            while kept is not None and kept not in needed:
                needed.add(kept)
                kept = self._bases[kept]  # type: ignore[assignment]
        for old in self._bases.keys() - needed:
            shutil.rmtree(self.place(old), ignore_errors=True)
            del self._bases[old]
        return PublishedWeights(str(self.folder), version)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._parent, ignore_errors=True)


@dataclass(frozen=True)
class PublishedWeights(Mapping[str, Tensor]):
    """The weights of a version, read and verified where they are first looked at; travels as a path and a number."""

    folder: str
    version: int

    def __getitem__(self, name: str) -> Tensor:
        return self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    @functools.cached_property
    def _tensors(self) -> dict[str, Tensor]:
        return _reader(self.folder).read(self.version)

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder, "version": self.version}


@functools.lru_cache(maxsize=1)
def _reader(folder: str) -> WeightReader:
    """One a process: it keeps what the next delta is against."""
    return WeightReader(Path(folder))


class WeightReader:
    """A sampler's side of a folder. Where deltas may follow it keeps the weights of the last version it read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._version: int | None = None
        self._tensors: dict[str, Tensor] = {}

    def mark(self, version: int) -> dict[str, Any]:
        """The mark of a version: its base, and what each writer wrote. PublishedError where it is not complete, or not
        kept any more."""
        path = self.folder / f"v{version:08}" / MARK
        try:
            return read_object(path, "version", "base", "keep", "parts")
        except (OSError, ValueError) as error:
            there = sorted(int(p.parent.name[1:]) for p in self.folder.glob(f"v*/{MARK}"))
            raise PublishedError(
                f"version {version} is not complete in {self.folder} ({error}); there are {there or 'none'}: take the "
                "newest, or keep more of them (window)"
            ) from None

    def read(self, version: int) -> dict[str, Tensor]:
        """The tensors of a version, verified. They may be changed in place by the next read."""
        if version == self._version:
            return self._tensors
        marks = [self.mark(version)]
        while (base := marks[-1]["base"]) is not None and base != self._version:
            marks.append(self.mark(base))
        tensors, self._version, self._tensors = self._tensors, None, {}  # of no version until all is applied
        try:
            for mark in reversed(marks):
                tensors = self._apply(tensors, mark)
        except (SafetensorError, OSError, KeyError, RuntimeError, IndexError) as error:
            raise PublishedError(f"version {version} in {self.folder} is damaged ({error}); publish it again") from None
        _verify(tensors, marks[0])
        if marks[0]["keep"]:
            self._version, self._tensors = version, tensors
        return tensors

    def _apply(self, tensors: dict[str, Tensor], mark: Mapping[str, Any]) -> dict[str, Tensor]:
        folder = self.folder / f"v{mark['version']:08}"
        if mark["base"] is None:
            return load_file(folder / WEIGHTS)
        for part in mark["parts"]:
            with safe_open(folder / part["delta"], framework="pt") as file:
                known = set(file.keys())
                for name, (start, count, _) in part["rows"].items():
                    own = tensors[name][start : start + count]
                    if f"{name}:all" in known:
                        own.copy_(file.get_tensor(f"{name}:all"))
                    elif f"{name}:at" in known:
                        own.view(-1)[file.get_tensor(f"{name}:at").long()] = file.get_tensor(f"{name}:to")
        return tensors


def _verify(tensors: Mapping[str, Tensor], mark: Mapping[str, Any]) -> None:
    for part in mark["parts"]:
        for name, (start, count, known) in part["rows"].items():
            if checksum(tensors[name][start : start + count]) != known:
                raise PublishedError(
                    f"version {mark['version']}: rows {start} to {start + count} of {name} are not what was published; "
                    "read it again, or publish it again"
                )


def _bytes(tensor: Tensor) -> Any:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()


def fast_folder(run_folder: Path, size: int, *, window: int = 1) -> Path:
    """Where weights of `size` bytes travel on one machine: memory that looks like a folder, or the run's own. window:
    of the store, which has one version more while it is written."""
    name = zlib.crc32(str(run_folder.resolve()).encode())
    folder = MEMORY / f"ponder-{os.getuid()}-{name:08x}"
    if MEMORY.is_dir() and os.access(MEMORY, os.W_OK) and _is_own(folder):
        _empty(folder)  # of a kill: it would count as taken, and stay there
        if shutil.disk_usage(MEMORY).free > (window + 1) * size:
            return folder
        shutil.rmtree(folder, ignore_errors=True)
    return run_folder / "weights"


def _empty(folder: Path) -> None:
    for old in folder.iterdir():
        shutil.rmtree(old, ignore_errors=True)


def _is_own(folder: Path) -> bool:
    """Make a folder that nobody else may read. False where another user, who can write there too, was first."""
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
            return False
        folder.chmod(0o700)
    except OSError:
        return False
    return True
