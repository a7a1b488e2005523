"""The cookbook's minimal RL and SL loops, their files untouched, against `ponder tinker`: `make tinker-test`.

PONDER_TINKER_PYTHON names a Python that has the SDK and its cookbook (constraints-tinker.txt). The server runs in this
one.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.tinker import toys

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


def start_server(place: Path, log: Path) -> tuple[subprocess.Popen, str]:
    command = [
        sys.executable, "-m", "ponder.cli", "tinker", "--port", "0", "--workers", "0",
        "--model", f"{toys.MODEL}={place / toys.MODEL}", "--folder", str(place / "weights"),
    ]  # fmt: skip
    with log.open("w") as out:
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=env)
    for _ in range(3000):
        text = log.read_text()
        if " at http" in text:
            return process, text.strip().rpartition(" at ")[2]
        assert process.poll() is None, text
        time.sleep(0.1)
    raise AssertionError("the server did not start")


@pytest.fixture(scope="module")
def url(place):
    process, url = start_server(place, place / "server.log")
    yield url
    process.send_signal(signal.SIGTERM)
    assert process.wait(120) is not None


def run_loop(name: str, place: Path, url: str, out: str, **settings: object) -> tuple[list[dict], float]:
    """(its metrics, a row a step; seconds from the start of its process to the first row)."""
    log = place / out
    arguments = [f"{key}={value}" for key, value in settings.items()]
    command = [PYTHON, "-m", f"tinker_cookbook.recipes.{name}", f"log_path={log}", f"model_name={toys.MODEL}"]
    env = {
        **os.environ, "TINKER_BASE_URL": url, "TINKER_API_KEY": "tml-local", "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(place / "hf"), "PYTHONWARNINGS": "ignore",
    }  # fmt: skip
    env.pop("PYTHONPATH", None)
    begun, first = time.monotonic(), None
    with (place / f"{out}.log").open("w") as told:
        loop = subprocess.Popen([*command, *arguments], cwd=place, env=env, stdout=told, stderr=subprocess.STDOUT)
        while loop.poll() is None:
            if first is None and (log / "metrics.jsonl").exists() and (log / "metrics.jsonl").read_text():
                first = time.monotonic() - begun
            time.sleep(0.05)
    assert loop.returncode == 0, (place / f"{out}.log").read_text()[-3000:]
    rows = [json.loads(line) for line in (log / "metrics.jsonl").read_text().splitlines()]
    assert first is not None
    return rows, first


def test_the_minimal_rl_loop_learns_a_toy_task_and_takes_its_first_step_within_30_seconds(place, url):
    rows, seconds = run_loop(
        "rl_loop", place, url, "rl", batch_size=8, group_size=8, max_steps=40, max_tokens=12, learning_rate=0.003,
        loss_fn="importance_sampling", save_every=8,
    )  # fmt: skip
    rewards = [row["reward/total"] for row in rows]
    print(f"\nfirst step after {seconds:.1f} s; rewards {[round(reward, 2) for reward in rewards]}")
    assert len(rows) == 40
    assert sum(rewards[:2]) / 2 < 0.35  # one digit of five is right
    assert sum(rewards[-5:]) > 1.6 * sum(rewards[:5])
    assert seconds < 30, f"load {os.getloadavg()[0]:.0f}: is the machine busy?"
    saved = {path.name for path in (place / "weights").glob("*/weights/*")}
    assert saved == {"000008", "000016", "000024", "000032", "final"}


def test_a_killed_loop_and_server_go_on_from_the_saved_weights(place):
    """The loop reads its own checkpoints.jsonl, and asks a new server for the path that it finds there."""
    if not (place / "rl" / "checkpoints.jsonl").exists():
        pytest.skip("PONDER_TINKER_PYTHON names no Python with the Tinker SDK that could run the loop before")
    lines = (place / "rl" / "checkpoints.jsonl").read_text().splitlines()
    again = place / "again"
    again.mkdir()
    (again / "checkpoints.jsonl").write_text(lines[-2] + "\n")  # of step 32
    process, url = start_server(place, place / "second.log")
    try:
        rows, _ = run_loop(
            "rl_loop", place, url, "again", batch_size=8, group_size=8, max_steps=34, max_tokens=12,
            learning_rate=0.003, loss_fn="importance_sampling", save_every=0,
        )  # fmt: skip
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(60)
    assert [row["step"] for row in rows] == [32, 33]
    assert sum(row["reward/total"] for row in rows) / 2 > 0.25  # a fresh adapter has 0.2


def test_the_minimal_sl_loop_lowers_its_loss(place, url):
    rows, _ = run_loop("sl_loop", place, url, "sl", batch_size=8, max_steps=10, learning_rate=0.005, save_every=0)
    losses = [row["train_mean_nll"] for row in rows]
    print(f"\nlosses {[round(loss, 3) for loss in losses]}")
    assert len(losses) == 10 and losses[-1] < 0.7 * losses[0]
