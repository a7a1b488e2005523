"""Contenders: the processes that a bench compares, each in its own environment, asked in turn.

    pool = start([Contender(name="HF generate", side="hf.py", python=PEERS, processes=2, config={...}), ...])
    for name, contender in pool.running.items():
        answer = contender.ask([share of process 0, share of process 1])   # -> seconds, replies, peak memory
    pool.missing      # {"vLLM": "there is no .venv-vllm; run `make bench-peers`"}

A contender is one or more processes of a program in bench/sides (its protocol: bench/sides/link.py). It loads once,
answers jobs, and sleeps while the others work. Its time is the wall time from the first job sent to the last reply,
so a contender of two processes is as slow as its slower half. Memory is the peak of all its processes and their
children together, shared pages counted once (PeakMemory).
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
OURS = Path(sys.executable)
PEERS = ROOT / ".venv-peers" / "bin" / "python"  # transformers, TRL, math-verify
VLLM = ROOT / ".venv-vllm" / "bin" / "python"
LLAMA_CPP = ROOT / ".venv-llamacpp" / "bin" / "python"
OPENVINO = ROOT / ".venv-openvino" / "bin" / "python"
LOGS = ROOT / "runs" / "bench" / "logs"

Job = dict[str, Any]


class Missing(Exception):
    """A contender that cannot take part, and why."""


@dataclass(frozen=True, kw_only=True)
class Contender:
    """A program of bench/sides and how it is run."""

    name: str
    side: str  # file in bench/sides
    python: Path = OURS
    processes: int = 1  # started side by side; a job is cut into as many shares
    threads: int = 1  # OpenMP threads of each
    pinned: bool = False  # process i keeps to core i
    config: Job = field(default_factory=dict)
    note: str = ""  # what else tells this setting from the peer's other ones
    reads: Path | None = None  # a copy of the model in the peer's own form; made at the start where it is not there
    made_by: tuple[str, ...] = ()  # the command for it, to which the place is added; this is not part of loading

    @property
    def setting(self) -> str:
        parts = [f"{self.processes} x {self.threads} thread{'s' if self.threads > 1 else ''}"]
        return ", ".join([*parts, *(["pinned"] if self.pinned else []), *([self.note] if self.note else [])])


@dataclass(frozen=True, kw_only=True)
class Answer:
    seconds: float
    replies: list[Job]
    peak_gib: float

    def total(self, key: str) -> float:
        return sum(reply[key] for reply in self.replies)


class Running:
    """A contender whose processes are up and have loaded."""

    def __init__(self, contender: Contender) -> None:
        if not contender.python.exists():
            raise Missing(f"there is no {contender.python.parent.parent.name}; run `make bench-peers`")
        self.contender = contender
        LOGS.mkdir(parents=True, exist_ok=True)
        self._log = LOGS / f"{contender.name.replace(' ', '_').replace('/', '_')}.log"
        if contender.reads and not contender.reads.exists():
            self._convert(contender.reads)
        begun = time.perf_counter()
        self._processes = [self._spawn(i) for i in range(contender.processes)]
        try:
            self.facts = [self._receive(process) for process in self._processes]  # versions, what was loaded
        except Missing:
            self.close()
            raise
        self.load_seconds = time.perf_counter() - begun

    def _convert(self, place: Path) -> None:
        """Under another name until it is complete: a run that is stopped leaves nothing that looks like a model."""
        part = place.parent / "unfinished" / place.name
        shutil.rmtree(part.parent, ignore_errors=True)
        part.parent.mkdir(parents=True)
        command = [*self.contender.made_by, str(part)]
        whose = replace(self.contender, python=Path(command[0]))  # ponder's own, for what ponder exports
        with open(self._log, "w") as log:
            status = subprocess.run(command, stdout=log, stderr=log, env=environment(whose)).returncode
        if status or not part.exists():
            raise Missing(f"its model could not be made: {self._last_line()} (all of it: {os.path.relpath(self._log)})")
        part.rename(place)
        part.parent.rmdir()

    def _last_line(self) -> str:
        return (self._log.read_text(errors="replace").strip().splitlines()[-1:] or ["no output"])[0][:300]

    def _spawn(self, rank: int) -> subprocess.Popen[str]:
        contender = self.contender
        cores = sorted(os.sched_getaffinity(0))
        config = contender.config | {
            "rank": rank, "processes": contender.processes, "threads": contender.threads,
            "cores": [cores[rank % len(cores)]] if contender.pinned else None,
        }  # fmt: skip
        with open(self._log, "w" if rank == 0 else "a") as log:
            return subprocess.Popen(
                [contender.python, ROOT / "bench" / "sides" / contender.side, json.dumps(config)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, env=environment(contender),
                start_new_session=True,
            )  # fmt: skip

    def ask(self, shares: Sequence[Job]) -> Answer:
        """One job cut into a share a process; Missing if a process died over it."""
        with PeakMemory([process.pid for process in self._processes]) as memory:
            begun = time.perf_counter()
            for process, share in zip(self._processes, shares, strict=True):
                with contextlib.suppress(OSError):  # a dead process: _receive says so
                    assert process.stdin is not None
                    process.stdin.write(json.dumps(share) + "\n")
                    process.stdin.flush()
            replies = [self._receive(process) for process in self._processes]
            seconds = time.perf_counter() - begun
        return Answer(seconds=seconds, replies=replies, peak_gib=memory.peak / 2**30)

    def _receive(self, process: subprocess.Popen[str]) -> Job:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            process.wait()
            where = os.path.relpath(self._log)
            raise Missing(f"exit code {process.returncode}: {self._last_line()} (all of it: {where})")
        reply = json.loads(line)
        if "missing" in reply:
            raise Missing(reply["missing"])
        return reply

    def close(self) -> None:
        for process in self._processes:
            with contextlib.suppress(OSError):
                assert process.stdin is not None
                process.stdin.close()
        for process in self._processes:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:  # its children too: it leads a session of its own
                with contextlib.suppress(OSError):
                    os.killpg(process.pid, 9)
                process.wait()


def environment(contender: Contender) -> dict[str, str]:
    """What a side starts with: its threads, this tree on the path of ours, and nothing that reaches for a network."""
    threads = str(contender.threads)
    kept = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    ours = {"PYTHONPATH": str(ROOT)} if contender.python == OURS else {}
    preloaded = {"LD_PRELOAD": ":".join(vllm_libraries())} if contender.python == VLLM else {}
    return kept | ours | preloaded | {
        "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_LOGGING_LEVEL": "WARNING",
    }  # fmt: skip


def vllm_libraries() -> list[str]:
    """What vLLM asks to have loaded before it: Intel's OpenMP comes with it, tcmalloc if the system has it."""
    places = [VLLM.parents[1] / "lib" / "libiomp5.so", *Path("/usr/lib").glob("*/libtcmalloc_minimal.so.4")]
    return [str(place) for place in places if place.exists()]


@dataclass
class Pool:
    running: dict[str, Running] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)  # name -> why


@contextlib.contextmanager
def start(contenders: Sequence[Contender]) -> Iterator[Pool]:
    """Start them one after another (loading is timed), close them all at the end."""
    pool = Pool()
    try:
        for contender in contenders:
            try:
                pool.running[contender.name] = Running(contender)
            except Missing as reason:
                pool.missing[contender.name] = str(reason)
        yield pool
    finally:
        for running in pool.running.values():
            running.close()


class PeakMemory:
    """The peak memory, in bytes, of processes and all their children while the block runs.

    The highest sum of anonymous memory, which the kernel counts and tells for nothing, and what is shared (weights in
    shared memory, libraries) read at both ends. Reading the proportional set size walks every page: 25 ms for 2.6 GB,
    which twice a second for three processes took a seventh of a core away from whoever was being timed.
    """

    def __init__(self, pids: Sequence[int], every: float = 0.5) -> None:
        self.pids, self.every, self.peak = pids, every, 0
        self._anonymous = self._shared = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        while not self._stop.wait(self.every):
            self._anonymous = max(self._anonymous, sum(map(anonymous, family(self.pids))))

    def _look_closely(self) -> None:
        processes = family(self.pids)
        now = sum(map(anonymous, processes))
        self._anonymous = max(self._anonymous, now)
        self._shared = max(self._shared, sum(map(pss, processes)) - now)
        self.peak = self._anonymous + self._shared

    def __enter__(self) -> PeakMemory:
        self._look_closely()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._look_closely()


def family(pids: Sequence[int]) -> set[int]:
    """Processes and everything they started."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(stat.parent.name))
    found: set[int] = set()
    queue = list(pids)
    while queue:
        pid = queue.pop()
        if pid not in found:
            found.add(pid)
            queue += children.get(pid, [])
    return found


def anonymous(pid: int) -> int:
    """What a process has to itself, in bytes; 0 for one that is gone."""
    return _kilobytes(f"/proc/{pid}/status", "RssAnon:")


def pss(pid: int) -> int:
    """Proportional set size in bytes; 0 for a process that is gone."""
    return _kilobytes(f"/proc/{pid}/smaps_rollup", "Pss:")


def _kilobytes(file: str, key: str) -> int:
    with contextlib.suppress(OSError):
        for line in Path(file).read_text().splitlines():
            if line.startswith(key):
                return int(line.split()[1]) * 1024
    return 0
