"""plan, and --dry-run with a cluster."""

from __future__ import annotations

import json

import pytest

from tests.cli.typed import fails_with, ponder

pytestmark = pytest.mark.slow


def test_a_recipe_is_planned_for_several_clusters_within_80_columns(tmp_path):
    done = ponder("plan", "demo_nano_cpu", "cluster=h100:1,64", "num_steps=4", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for words in ("1 H100", "64 H100", "in turn", "lag 1, drained", "lag 4, in flight", "does NOT fit", "two pools"):
        assert words in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert not list(tmp_path.iterdir())


def test_a_plan_as_json_is_that_of_dry_run(tmp_path):
    planned, dry = (
        ponder(*words, "demo_nano_cpu", "cluster=h20:8", "max_lag=3", "--json", cwd=tmp_path)
        for words in (["plan"], ["rl", "--dry-run"])
    )
    assert planned.returncode == dry.returncode == 0, planned.stderr + dry.stderr
    found = json.loads(planned.stdout)
    assert found == json.loads(dry.stdout)
    (cluster,) = found["clusters"]
    assert [one["max_lag"] for one in cluster["plans"]] == [0, 1, 2, 3, 4]
    assert all(one["step"] > 0 for one in cluster["plans"])


def test_a_model_whose_sizes_are_known_needs_no_download(tmp_path):
    words = ("model=Qwen/Qwen2.5-7B-Instruct", "plan.tensor=1", "plan.mean_tokens=100")
    done = ponder("plan", "demo_nano_cpu", "cluster=a100:1,8", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Qwen2.5-7B, 7.6 B weights" in done.stdout
    assert "let at least 2 train" in done.stdout.replace("\n  ", " ")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["plan", "demo_nano_cpu", "lr=1e-4"], "add e.g. cluster=h100:8"),
        (["plan", "demo_nano_cpu", "cluster=h100"], "write cluster=KIND:NUMBER"),
        (["plan", "demo_nano_cpu", "cluster=h10:8"], "did you mean 'h100'"),
        (["plan", "demo_nano_cpu", "cluster=h100:8", "group_sise=4"], "did you mean 'group_size'"),
        (["plan", "demo_nano_cpu", "cluster=h100:8", "plan.mean_tokens=9999"], "must lie below the cap"),
        (["rl", "demo_nano_cpu", "cluster=h100:8"], "add --dry-run"),
    ],
)
def test_each_mistake_of_a_plan_is_one_clear_error(words, message, tmp_path):
    fails_with(ponder(*words, cwd=tmp_path), "error:", message)
