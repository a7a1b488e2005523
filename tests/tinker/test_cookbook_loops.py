"""The cookbook's minimal RL and SL loops, their files untouched, against `ponder tinker`: `make tinker-test`.

PONDER_TINKER_PYTHON names a Python that has the SDK and its cookbook (constraints-tinker.txt). The server runs in this
one.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from tests.tinker import toys
from tests.tinker.processes import start_server

PYTHON = os.environ.get("PONDER_TINKER_PYTHON", "")  # absolute: the loops run in a directory of their own
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not PYTHON, reason="PONDER_TINKER_PYTHON names no Python with the Tinker SDK"),
]
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """The directory the loops run in."""
    folder = tmp_path_factory.mktemp("cookbook")
    toys.make(folder)
    return folder


@pytest.fixture(scope="module")
def server(place):
    """(its process, its address)."""
    process, url = start_server(place, place / "server.log", name=toys.MODEL, model=place / toys.MODEL)
    yield process, url
    process.send_signal(signal.SIGTERM)
    assert process.wait(120) is not None


def processor_seconds(process: subprocess.Popen) -> float:
    """What it has used, over all threads."""
    told = subprocess.run(["ps", "-o", "time=", "-p", str(process.pid)], capture_output=True, text=True, check=True)
    seconds = 0.0
    for part in told.stdout.strip().replace("-", ":").split(":"):  # minutes and seconds at least
        seconds = 60 * seconds + float(part)
    return seconds


def run_loop(
    name: str, place: Path, server: tuple[subprocess.Popen, str], out: str, **settings: object
) -> tuple[list[dict], float, float]:
    """(its metrics, a row a step; seconds from the start of its process to the first row; processor time of it and of
    the server in these)."""
    process, url = server
    log = place / out
    arguments = [f"{key}={value}" for key, value in settings.items()]
    command = [PYTHON, "-m", f"tinker_cookbook.recipes.{name}", f"log_path={log}", f"model_name={toys.MODEL}"]
    env = {
        **os.environ, "TINKER_BASE_URL": url, "TINKER_API_KEY": "tml-local", "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(place / "hf"), "PYTHONWARNINGS": "ignore",
    }  # fmt: skip
    env.pop("PYTHONPATH", None)
    begun, used, first = time.monotonic(), processor_seconds(process), None
    with (place / f"{out}.log").open("w") as told:
        loop = subprocess.Popen([*command, *arguments], cwd=place, env=env, stdout=told, stderr=subprocess.STDOUT)
        while loop.poll() is None:
            if first is None and (log / "metrics.jsonl").exists() and (log / "metrics.jsonl").read_text():
                first = time.monotonic() - begun
                used = processor_seconds(process) - used + processor_seconds(loop)
            time.sleep(0.05)
    assert loop.returncode == 0, (place / f"{out}.log").read_text()[-3000:]
    rows = [json.loads(line) for line in (log / "metrics.jsonl").read_text().splitlines()]
    assert first is not None
    return rows, first, used


def test_the_minimal_rl_loop_learns_a_toy_task_and_takes_its_first_step_within_30_seconds(place, server):
    rows, seconds, used = run_loop(
        "rl_loop", place, server, "rl", batch_size=8, group_size=8, max_steps=20, max_tokens=12, learning_rate=0.003,
        loss_fn="importance_sampling", save_every=8,
    )  # fmt: skip
    rewards = [row["reward/total"] for row in rows]
    print(f"\nfirst step after {seconds:.1f} s, {used:.0f} s of processor time; rewards {np.round(rewards, 2)}")
    assert len(rows) == 20
    assert rewards[0] < 0.4  # 64 answers, one digit of five is right: 0.2, and 0.4 is four standard errors away
    assert sum(rewards[-5:]) / 5 > 0.8  # of 320 answers; without learning 0.2, with a standard error of 0.02
    assert used < 30, f"{seconds:.1f} s by the clock"  # client and server take turns: by the clock too, on a free core
    saved = {path.name for path in (place / "weights").glob("*/weights/*")}
    assert saved == {"000008", "000016", "final"}


def test_a_killed_loop_and_server_go_on_from_the_saved_weights(place):
    """The loop reads its own checkpoints.jsonl, and asks a new server for the path that it finds there."""
    if not (place / "rl" / "checkpoints.jsonl").exists():
        pytest.skip("PONDER_TINKER_PYTHON names no Python with the Tinker SDK that could run the loop before")
    lines = (place / "rl" / "checkpoints.jsonl").read_text().splitlines()
    again = place / "again"
    again.mkdir()
    (again / "checkpoints.jsonl").write_text(lines[-2] + "\n")  # of step 16
    process, url = start_server(place, place / "second.log", name=toys.MODEL, model=place / toys.MODEL)
    try:
        rows, *_ = run_loop(
            "rl_loop", place, (process, url), "again", batch_size=8, group_size=8, max_steps=18, max_tokens=12,
            learning_rate=0.003, loss_fn="importance_sampling", save_every=0,
        )  # fmt: skip
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(60)
    assert [row["step"] for row in rows] == [16, 17]
    assert sum(row["reward/total"] for row in rows) / 2 > 0.6  # of 128; a fresh adapter has 0.2


def test_the_minimal_sl_loop_lowers_its_loss(place, server):
    rows, *_ = run_loop("sl_loop", place, server, "sl", batch_size=8, max_steps=10, learning_rate=0.005, save_every=0)
    losses = [row["train_mean_nll"] for row in rows]
    print(f"\nlosses {[round(loss, 3) for loss in losses]}")
    assert len(losses) == 10 and losses[-1] < 0.3 * losses[0]
