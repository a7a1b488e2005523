"""What a cluster costs, on this machine: recovery after each fault, weights on their way, 1 to 4 engines.

    .venv-cluster/bin/python bench/cluster.py [faults] [weights] [engines] [--repeats 3] [--out runs/bench]

Nodes are Ray processes on the loopback of one machine, so that engines, trainer and Ray share its cores: read ratios.
`make cluster-test` makes the environment. A fault happens in step 2, after the first of its answers; its recovery is
what that step took beyond the median of the steps of a calm run in the same repetition.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # this tree, whatever is installed

from ponder.runs import machine, revision
from tests.cluster.nodes import Nodes, Training, every_sample_once, slowed, tell, typical

ROOT = Path(__file__).parents[1]
BASE = ("cluster.hedge=0", "cluster.patience=10", "cluster.outage=600")


def engine_killed(run: Training, nodes: Nodes) -> None:
    run.signal("engine 1", signal.SIGKILL)


def engine_hangs(run: Training, nodes: Nodes) -> None:
    run.signal("engine 1", signal.SIGSTOP)


def node_killed(run: Training, nodes: Nodes) -> None:
    nodes.kill(len(nodes.raylets) - 1)


FAULTS: dict[str, Callable[[Training, Nodes], None]] = {
    "an engine is killed": engine_killed, "an engine hangs (patience 10 s)": engine_hangs,
    "a node is killed": node_killed,
}  # fmt: skip


def faults(nodes: Nodes, folder: Path) -> Iterator[dict[str, Any]]:
    calm = Training(folder / "calm", nodes.address, *BASE)
    calm.finish()
    step = typical(calm.step_seconds())
    yield {"case": "calm", "step_seconds": step, "once": every_sample_once(calm)}
    for name, act in FAULTS.items():
        run = Training(folder / name.replace(" ", "_"), nodes.address, *BASE)
        run.wait_for(step=2)
        act(run, nodes)
        run.finish()
        lost = run.events("lost")
        yield {
            "case": name, "recovery_seconds": run.step_seconds()[2] - step, "step_seconds": step,
            "asked_again": sum(row["open"] for row in lost), "once": every_sample_once(run),
        }  # fmt: skip
        if act is node_killed:
            nodes.add()
    for hedge in (0, 1):
        run = Training(folder / f"slow{hedge}", nodes.address, *BASE[1:], f"cluster.hedge={hedge}")
        run.wait_for_event("ready", 2)
        with slowed(run.pid("engine 1")):
            run.finish()
        slow = typical(run.step_seconds())
        case = f"an engine runs a tenth of the time, hedge {hedge}"
        yield {"case": case, "step_seconds": slow, "times": slow / step}
    first = Training(folder / "driver", nodes.address, *BASE)
    first.wait_for(step=2)
    first.kill()
    ledger = first.folder / "requests.jsonl"  # a run that goes on forgets these; here they would be taken for its own
    ledger.write_text("".join(line for line in ledger.open() if json.loads(line)["step"] < 2))
    begun = time.monotonic()
    again = Training(folder / "driver", nodes.address, *BASE)
    again.wait_for(step=2)
    yield {"case": "the driver is killed", "until_an_answer_of_the_same_step": time.monotonic() - begun}
    again.finish()


def weights(nodes: Nodes, folder: Path) -> Iterator[dict[str, Any]]:
    """Megabytes of a model -> seconds: into the object store, into one engine, and in all until two have them."""
    import asyncio

    import ray

    from ponder.models.transformer import blank
    from ponder.train import cluster
    from ponder.train.dealing import ClusterConfig
    from ponder.train.policy import open_policy
    from tests.cluster.nodes import ENVIRONMENT

    os.environ.update(ENVIRONMENT)
    import torch

    table = ClusterConfig(address=nodes.address, engines=2)
    policy = open_policy("nano", folder, dtype="float32", lora_rank=0, seed=0, sources=[])
    with cluster.connected(table), cluster.placed(table) as group:
        start = cluster.remote_class(cluster.EngineActor, table)
        for times in (1, 8):  # nano, and nano with as many times its layers
            config = policy.model.config
            config = type(config)(**{**vars(config), "num_hidden_layers": times * config.num_hidden_layers})
            tensors = {name: torch.randn(meta.shape) for name, meta in blank(config).state_dict().items()}
            actors = [start(group, i).remote(config, policy.tokenizer, "float32", 8, 1) for i in range(2)]
            remotes = [cluster.RayRemote(actor) for actor in actors]
            ray.get([actor.ping.remote() for actor in actors])
            for version in range(4):  # the first fetches code and makes memory
                begun = time.monotonic()
                stored = ray.put(cluster.packed(tensors))
                put = time.monotonic() - begun
                for remote in remotes:
                    remote.update(stored, version)
                ray.get([remote.sent for remote in remotes])
                in_all = time.monotonic() - begun
                load = max(asyncio.run(remote.ping())["load_seconds"] for remote in remotes)
                if version:
                    size = sum(tensor.nbytes for tensor in tensors.values()) / 1e6
                    yield {"case": f"{size:.1f} MB", "put": put, "load": load, "in_all": in_all}
            for remote in remotes:
                remote.close()


def busy_share(run: Training) -> float:
    """How much of a step an engine samples, the mean over engines and the median over steps, the first left out.

    All requests of a step are dealt as it begins, so an engine is busy until the last answer that it gives.
    """
    until: dict[tuple[int, str], float] = {}
    for row in run.answers():
        key = row["step"], row["engine"]
        until[key] = max(until.get(key, 0.0), row["seconds"])
    number = len({engine for _, engine in until})
    steps = list(enumerate(run.step_seconds()))[1:]
    return statistics.median(
        sum(seconds for (at, _), seconds in until.items() if at == step) / number / whole for step, whole in steps
    )


def engines(nodes: Nodes, folder: Path) -> Iterator[dict[str, Any]]:
    """Seconds of a step's rollouts at the same batch, and how much of a step engines and driver work."""
    while len(nodes.raylets) < 5:
        nodes.add()
    for number in (1, 2, 4):
        run = Training(folder / f"engines{number}", nodes.address, *BASE, f"cluster.engines={number}")
        run.finish()
        rollout = statistics.median(row["time/rollout"] for row in run.metrics()[1:])
        step = typical(run.step_seconds())
        trains = statistics.median(
            row["time/train"] / whole for row, whole in zip(run.metrics()[1:], run.step_seconds()[1:], strict=True)
        )
        yield {
            "case": f"{number} engines", "rollout_seconds": rollout, "step_seconds": step,
            "engines_busy": busy_share(run), "driver_trains": trains,
        }  # fmt: skip


PARTS = {"faults": faults, "weights": weights, "engines": engines}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="what is measured; nothing = all")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "bench")
    asked = parser.parse_args()
    load = os.getloadavg()[0]
    found: list[dict[str, Any]] = []
    for repeat in range(asked.repeats):
        for part in asked.parts or PARTS:
            with Nodes() as nodes, tempfile.TemporaryDirectory() as folder:
                nodes.add(2)
                for row in PARTS[part](nodes, Path(folder)):
                    found.append({"part": part, "repeat": repeat, **row})
                    tell(found[-1])
    asked.out.mkdir(parents=True, exist_ok=True)
    facts = {"machine": machine(), "revision": revision(), "load_before": load}
    (asked.out / "cluster.json").write_text(json.dumps([facts, *found], indent=1) + "\n")


if __name__ == "__main__":
    main()
