"""`rl` with `backend = "tinker"` through the SDK itself, against `ponder tinker`: `make tinker-test`.

PONDER_TINKER_PYTHON names a Python that has the SDK and what ponder needs (constraints-tinker.txt); `rl` runs there.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from statistics import fmean

import pytest

from ponder.files import read_jsonl
from ponder.models import hub
from ponder.models.tokenizer import ByteTokenizer
from ponder.models.weights import save_model
from tests.helpers import tiny_model
from tests.tinker.processes import start_server
from tests.tinker.tinkering import NAME

PYTHON = os.environ.get("PONDER_TINKER_PYTHON", "")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not PYTHON, reason="PONDER_TINKER_PYTHON names no Python with the Tinker SDK"),
]
ROOT = Path(__file__).parents[2]
TASK = '''
from ponder.types import Message, Problem

class Lowercase:
    """Correct = the answer holds a lower-case letter."""
    name, split = "lowercase", "train"

    def __init__(self, *, split="train", seed=0, size=16):
        self.size = size

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        if not 0 <= index < self.size:
            raise IndexError(index)
        prompt = (Message(role="user", content=f"p{index}"),)
        return Problem(id=f"lowercase/{index}", prompt=prompt, target="", task=self.name)

    def verify(self, problem, answer):
        return any("a" <= letter <= "z" for letter in answer)
'''


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("service")
    model = tiny_model()
    model.model.embed_tokens.weight.data.mul_(2.5)  # or an adapter could hardly prefer a token
    save_model(model, folder / "model")
    ByteTokenizer().save(str(folder / "model"))
    (folder / "own_task.py").write_text(TASK)
    return folder


def train(place: Path, url: str, *keys: str, expected: int = 0) -> str:
    """`ponder rl` in the environment that has the SDK; what it said."""
    recipe = place / "recipe.toml"
    recipe.write_text(
        f'out = "{place / "run"}"\nmodel = "{place / "model"}"\ntask = "own_task:Lowercase"\nbackend = "tinker"\n'
        "pool_size = 16\nproblems_per_step = 6\ngroup_size = 8\nmax_reasoning_tokens = 3\nmax_answer_tokens = 4\n"
        "lr = 0.02\nwarmup_steps = 1\nlora_rank = 8\nsave_every = 2\nmax_mismatch = 0.001\nlog_rollouts = true\n"
        f'[tinker]\nbase_model = "{NAME}"\n'
    )
    env = {**os.environ, "TINKER_API_KEY": "tml-local", "TINKER_TELEMETRY": "0", "OMP_NUM_THREADS": "1",
           "PYTHONPATH": f"{ROOT}{os.pathsep}{place}"}  # fmt: skip
    command = [PYTHON, "-m", "ponder.cli", "rl", str(recipe), f"tinker.base_url={url}", *keys]
    done = subprocess.run(command, cwd=place, env=env, capture_output=True, text=True, timeout=900)
    assert done.returncode == expected, (done.stdout + done.stderr)[-5000:]
    return done.stdout + done.stderr


def test_rl_over_the_sdk_rises_draws_from_what_it_published_and_goes_on_at_another_server(place):
    first, url = start_server(place, place / "first.log", name=NAME, model=place / "model")
    try:
        told = train(place, url, "num_steps=6")
    finally:
        first.send_signal(signal.SIGKILL)
        first.wait(60)
    assert f"tinker: {NAME} at {url}" in told and "need not have the same bits" in told
    assert "called from async context" not in told  # the SDK's warning about blocking its loop
    second, url = start_server(place, place / "second.log", name=NAME, model=place / "model")
    try:
        train(place, url, "num_steps=12")
        told = train(place, url, "num_steps=12", "loss.ratio=sequence", "updates_per_step=2",
                     f"out={place / 'gspo'}", "num_steps=2")  # fmt: skip
        for folder in (place / "weights").glob("*/weights/*"):
            (folder / "checkpoint.json").unlink()
        gone = train(place, url, "num_steps=14", expected=1)
        assert "has no state tinker://" in gone and "to start over" in gone and "Traceback" not in gone
    finally:
        second.send_signal(signal.SIGTERM)
        second.wait(120)
    rows = list(read_jsonl(place / "run" / "metrics.jsonl"))
    rewards = [row["reward/mean"] for row in rows]
    print(f"\nrewards {rewards}; mismatch at most {max(row['policy/mismatch_max'] for row in rows):.2g}")
    assert [row["step"] for row in rows] == list(range(12))
    assert fmean(rewards[-3:]) > fmean(rewards[:3]) + 0.2  # of 144 samples each
    assert max(row["policy/mismatch_max"] for row in rows) < 1e-4  # sampler and trainer say the same of every version
    assert all(0 < row["policy/grad_norm"] < 1e3 for row in rows)
    drawn = list(read_jsonl(place / "run" / "all_rollouts.jsonl"))
    assert len({(row["step"], row["which"]) for row in drawn}) == len(drawn) == 12 * 48
    assert json.loads((place / "run" / "checkpoints" / "step_00012" / "checkpoint.json").read_text())["step"] == 12
    trained, _ = hub.load(str(place / "run" / "checkpoints" / "step_00012"))
    base, _ = hub.load(str(place / "model"))
    changed = max((a - b).abs().max().item() for a, b in zip(trained.parameters(), base.parameters(), strict=True))
    assert changed > 1e-3
    assert [row["step"] for row in read_jsonl(place / "gspo" / "metrics.jsonl")] == [0, 1]
