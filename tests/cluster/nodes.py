"""Ray nodes on the loopback of this machine, runs on them, and what breaks: for tests/cluster and bench/cluster.py.

    with Nodes() as nodes:
        nodes.add(), nodes.add()
        run = Training(folder / "calm", nodes.address)
        run.wait_for(step=2)                      # the first of its answers is there, others are not
        run.signal("engine 1", signal.SIGKILL)
        run.finish()
        outcome(folder / "calm") == outcome(folder / "one")

Everything is a process that this one started, and is ended by its id.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

from safetensors.torch import load_file

from ponder.files import read_jsonl
from tests.train.killing import untimed

ROOT = Path(__file__).parents[2]
RAY = Path(sys.executable).with_name("ray")
NUM_STEPS, PROBLEMS, GROUP = 5, 24, 8
# the demo's recipe, a few small steps of it
RECIPE = (
    "demo_nano_cpu", "task=arithmetic:level=1-3", f"num_steps={NUM_STEPS}", f"problems_per_step={PROBLEMS}",
    f"group_size={GROUP}", "max_reasoning_tokens=96", "num_workers=0", "save_every=1", "seed=3", "lr=2e-4",
    f"checkpoint_steps=[{NUM_STEPS}]",
)  # fmt: skip
os.environ["RAY_AUTH_MODE"] = "disabled"  # else every node needs the same token file
ENVIRONMENT = os.environ | {
    "RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "PONDER_TRACEBACK": "1",
    # a dead node is known after some seconds instead of a minute; a busy one is not taken for dead
    "RAY_health_check_period_ms": "2000", "RAY_health_check_timeout_ms": "10000",
    "RAY_health_check_failure_threshold": "3",
    "RAY_worker_niceness": "0",  # 15 by default: on a busy machine an engine would not start for minutes
    "RAY_memory_monitor_refresh_ms": "0",  # else Ray ends engines when others fill the machine's memory
}  # fmt: skip


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


def agent_ports() -> list[str]:
    """Given, a raylet does not wait 15 s for its agents to tell their own, and then die."""
    kinds = ("dashboard-agent-listen", "dashboard-agent-grpc", "runtime-env-agent", "metrics-export")
    return [f"--{kind}-port={free_port()}" for kind in kinds]


def family(pid: int) -> list[int]:
    """A process and all that descend from it."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(stat.parent.name))
    found = [pid]
    for one in found:
        found += children.get(one, [])
    return found


class Nodes:
    """A head without cores, and nodes with one core each, each a raylet of its own."""

    def __init__(self, limit: float = 300.0) -> None:
        """limit: seconds that starting one may take."""
        self.limit, self.raylets = limit, list[subprocess.Popen[bytes]]()
        # Ray keeps sockets below this path, whose names must be short
        self._folder = tempfile.mkdtemp(prefix="ray", dir="/tmp")
        port = free_port()
        self.address = f"127.0.0.1:{port}"
        head = ("--head", f"--port={port}", "--num-cpus=0", "--include-dashboard=false", f"--temp-dir={self._folder}")
        self._start(*head, "--object-store-memory=120000000")

    def add(self, count: int = 1) -> None:
        for _ in range(count):
            self._start(f"--address={self.address}", "--num-cpus=1", "--object-store-memory=80000000")

    def _start(self, *arguments: str) -> None:
        """Until one more is alive, where one that was killed counts for some seconds. On a busy machine Ray gives up
        after half a minute: once more, then."""
        command = [RAY, "start", "--block", "--node-ip-address=127.0.0.1", "--disable-usage-stats", *arguments]
        command += agent_ports()
        path, end, before = Path(self._folder) / "start.log", time.monotonic() + self.limit, self._alive()
        with open(path, "ab") as log:
            started = subprocess.Popen(command, env=ENVIRONMENT, stdout=log, stderr=log, start_new_session=True)
            while not self._alive() - before:
                assert time.monotonic() < end, path.read_text()[-3000:]
                if started.poll() is not None:
                    started = subprocess.Popen(command, env=ENVIRONMENT, stdout=log, stderr=log, start_new_session=True)
                time.sleep(0.5)
        self.raylets.append(started)

    def _alive(self) -> set[Any]:
        """Asked of the head's own process, which answers also while a node is lost."""
        from ray._raylet import GcsClient

        host, _, port = self.address.partition(":")
        with socket.socket() as known:
            if known.connect_ex((host, int(port))):
                return set()  # not yet
        nodes = GcsClient(address=self.address).get_all_node_info()
        return {name for name, node in nodes.items() if node.state == 0}

    def kill(self, number: int) -> None:
        """A node is gone, with all that ran on it: 0 is the head."""
        for pid in [] if self.raylets[number].returncode is not None else family(self.raylets[number].pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.raylets[number].wait()

    def __enter__(self) -> Nodes:
        return self

    def __exit__(self, *_: object) -> None:
        for number in reversed(range(len(self.raylets))):
            self.raylets[number].terminate()
        for number, raylet in enumerate(self.raylets):
            with contextlib.suppress(subprocess.TimeoutExpired):
                raylet.wait(20)
            self.kill(number)


class Training:
    """`ponder rl` as a process of its own, and its run folder."""

    begun_here: ClassVar[list[Training]] = []

    def __init__(self, folder: Path, address: str = "", *overrides: str, prefix: Sequence[str] = ()) -> None:
        """address: of the cluster; "" = this machine alone. prefix: a command that the driver is run by."""
        self.folder = folder
        where = [f"out={folder}"]
        if address:
            where += ["backend=cluster", f"cluster.address={address}"]
        self.command = [*prefix, sys.executable, "-m", "ponder.cli", "rl", *RECIPE, *where, *overrides]
        folder.parent.mkdir(parents=True, exist_ok=True)
        self.log = folder.parent / f"{folder.name}.log"
        self.begun = time.monotonic()
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                self.command, env=ENVIRONMENT, stdout=log, stderr=log, start_new_session=True, cwd=folder.parent
            )
        self.begun_here.append(self)

    def rows(self) -> list[dict[str, Any]]:
        return list(read_jsonl(self.folder / "requests.jsonl"))

    def answers(self) -> list[dict[str, Any]]:
        return [row for row in self.rows() if "seed" in row]

    def events(self, event: str) -> list[dict[str, Any]]:
        return [row for row in self.rows() if row.get("event") == event]

    def metrics(self) -> list[dict[str, Any]]:
        return list(read_jsonl(self.folder / "metrics.jsonl"))

    def wait_for(self, step: int, limit: float = 600.0) -> None:
        """Until the first answer of a step is there."""
        self._until(lambda: any(row["step"] == step for row in self.answers()), limit)

    def wait_for_event(self, event: str, count: int, limit: float = 600.0) -> None:
        self._until(lambda: len(self.events(event)) >= count, limit)

    def _until(self, is_so: Callable[[], bool], limit: float) -> None:
        end = time.monotonic() + limit
        while not is_so():
            assert self.process.poll() is None and time.monotonic() < end, self.said()
            time.sleep(0.005)

    def pid(self, who: str) -> int:
        """Of the newest life of an engine or a rank."""
        return int([row for row in self.events("ready") if row["engine"] == who][-1]["pid"])

    def signal(self, who: str, number: signal.Signals) -> None:
        os.kill(self.pid(who), number)

    def finish(self, limit: float = 900.0) -> None:
        try:
            assert self.process.wait(limit) == 0, self.said()
        finally:
            self.kill()

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def said(self) -> str:
        command, log = " ".join(map(str, self.command)), self.log.read_text(errors="replace")[-4000:]
        return f"{command}\n{log}\n{self.events('lost')}"

    def step_seconds(self) -> list[float]:
        return [row["time/rollout"] + row["time/train"] for row in self.metrics()]


@contextlib.contextmanager
def slowed(pid: int, share: float = 0.1, period: float = 0.5) -> Iterator[None]:
    """A process that runs only a share of the time."""
    stop = threading.Event()

    def duty() -> None:
        with contextlib.suppress(ProcessLookupError):
            while not stop.is_set():
                os.kill(pid, signal.SIGSTOP)
                stop.wait(period * (1 - share))
                os.kill(pid, signal.SIGCONT)
                stop.wait(period * share)

    thread = threading.Thread(target=duty, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def outcome(folder: Path) -> tuple[list[dict[str, Any]], dict[str, bytes]]:
    """Every metric but times, and every weight and moment, as bytes."""
    tensors: dict[str, bytes] = {}
    for path in sorted((folder / "state").rglob("*.safetensors")):
        where = path.relative_to(folder)
        tensors |= {f"{where}/{name}": tensor.numpy().tobytes() for name, tensor in load_file(path).items()}
    final = folder / "checkpoints" / f"step_{NUM_STEPS:05d}" / "model.safetensors"
    tensors |= {f"final/{name}": tensor.numpy().tobytes() for name, tensor in load_file(final).items()}
    return untimed(folder), tensors


def every_sample_once(run: Training) -> bool:
    """The ledger has each (step, problem, sample) once, and all of them."""
    counts = Counter(
        (row["step"], row["problem"], row["seed"], row["first"] + i) for row in run.answers() for i in range(row["n"])
    )
    steps = Counter(step for step, *_ in counts)
    return set(counts.values()) == {1} and steps == {step: PROBLEMS * GROUP for step in range(NUM_STEPS)}


def typical(seconds: Sequence[float]) -> float:
    """Of a step, without the first, in which everything is new."""
    return statistics.median(seconds[1:])


def tell(facts: dict[str, Any]) -> None:
    print(json.dumps(facts), flush=True)
