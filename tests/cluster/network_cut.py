"""The cable between two hosts is cut in the middle of a step: run by hand, it needs root.

    sudo .venv-cluster/bin/python -m tests.cluster.network_cut [seconds that the cable stays cut]   # Linux, iproute2

The hosts are two network namespaces with a cable between them and with nothing else; the addresses are documentation's.
Printed: when the engine is lost, and whether the run ends with the bits of one machine. The Ray process of the host
that was cut off ends itself when the cable is back: something must start it again.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from tests.cluster.nodes import ENVIRONMENT, RAY, Training, agent_ports, every_sample_once, family, outcome

HOSTS = {"pondera": "198.51.100.1", "ponderb": "198.51.100.2"}
PORT = 6399


def sh(*command: str, check: bool = True) -> None:
    subprocess.run(command, check=check, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def lay_cable() -> None:
    for host in HOSTS:
        sh("ip", "netns", "add", host)
    sh("ip", "link", "add", "pveth0", "netns", "pondera", "type", "veth", "peer", "name", "pveth1", "netns", "ponderb")
    for host, device in (("pondera", "pveth0"), ("ponderb", "pveth1")):
        sh("ip", "netns", "exec", host, "ip", "addr", "add", f"{HOSTS[host]}/24", "dev", device)
        for each in ("lo", device):
            sh("ip", "netns", "exec", host, "ip", "link", "set", each, "up")


def plug(state: str) -> None:
    sh("ip", "netns", "exec", "ponderb", "ip", "link", "set", "pveth1", state)


def start(host: str, folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    command = ["ip", "netns", "exec", host, str(RAY), "start", "--block", "--disable-usage-stats", "--num-cpus=1"]
    command += [f"--node-ip-address={HOSTS[host]}", "--object-store-memory=100000000", *arguments]
    path = folder / f"{host}.log"
    with open(path, "wb") as log:
        started = subprocess.Popen(command + agent_ports(), env=ENVIRONMENT, stdout=log, stderr=log)
    while "Ray runtime started" not in path.read_text():
        assert started.poll() is None, path.read_text()[-3000:]
        time.sleep(0.5)
    return started


def main(seconds: float) -> None:
    folder = Path(tempfile.mkdtemp(prefix="cut", dir="/tmp"))
    one = Training(folder / "one")
    one.finish()
    rays: list[subprocess.Popen[bytes]] = []
    try:
        lay_cable()
        rays.append(start("pondera", folder, "--head", f"--port={PORT}", "--include-dashboard=false",
                          f"--temp-dir={folder}/a"))  # fmt: skip
        rays.append(start("ponderb", folder, f"--address={HOSTS['pondera']}:{PORT}"))
        run = Training(
            folder / "cut", f"{HOSTS['pondera']}:{PORT}", "cluster.engines=2", "cluster.patience=6", "cluster.hedge=0",
            "cluster.outage=300", prefix=("ip", "netns", "exec", "pondera"),
        )  # fmt: skip
        run.wait_for(step=2)
        begun = time.monotonic()
        plug("down")
        threading.Timer(seconds, plug, ["up"]).start()
        run.wait_for_event("lost", 1)
        print(f"lost after {time.monotonic() - begun:.1f} s: {run.events('lost')[0]['why']}", flush=True)
        run.finish()
        print(f"the run ended {time.monotonic() - begun:.1f} s after the cut, with the cable cut for {seconds:g} s")
        print("same bits:", outcome(run.folder) == outcome(one.folder), "- every sample once:", every_sample_once(run))
        time.sleep(max(0.0, begun + seconds + 10 - time.monotonic()))
        print("the Ray process that was cut off", "runs" if rays[1].poll() is None else "has ended itself")
    finally:
        for ray in rays:
            for pid in family(ray.pid):
                sh("kill", "-9", str(pid), check=False)
        for host in HOSTS:
            sh("ip", "netns", "del", host, check=False)


if __name__ == "__main__":
    main(float(sys.argv[1]) if sys.argv[1:] else 30.0)
