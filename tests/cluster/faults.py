"""`rl` over two Ray nodes ends with the bits of one machine, whatever breaks: run by `make cluster-test`.

Not collected by default (its name is no test's): it wants Ray, in an environment of its own, and minutes. A fault
happens within a step, after the first of its answers came, so that others are open.
"""

from __future__ import annotations

import os
import signal
import time

import pytest

from tests.cluster.nodes import Nodes, Training, every_sample_once, outcome, slowed, typical

CALM = ("cluster.engines=2", "cluster.hedge=0", "cluster.patience=60", "cluster.outage=300")
QUICK = ("cluster.engines=2", "cluster.hedge=0", "cluster.patience=10", "cluster.outage=300")


@pytest.fixture(autouse=True)
def no_driver_outlives_its_test():
    yield
    while Training.begun_here:
        Training.begun_here.pop().kill()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def one(folder):
    """The run of one machine."""
    run = Training(folder / "one")
    run.finish()
    return outcome(run.folder)


@pytest.fixture(scope="module")
def nodes():
    with Nodes() as nodes:
        nodes.add(2)
        yield nodes


@pytest.fixture(scope="module")
def calm(folder, nodes, one):
    """Nothing breaks; all that follow are compared with it."""
    run = Training(folder / "calm", nodes.address, *CALM)
    run.finish()
    assert outcome(run.folder) == one
    return run


def test_calm(calm):
    assert every_sample_once(calm) and {row["attempts"] for row in calm.answers()} == {1}
    assert {row["engine"] for row in calm.answers()} == {"engine 0", "engine 1"}


def test_a_rollout_actor_is_killed(folder, nodes, one):
    run = Training(folder / "actor", nodes.address, *CALM)
    run.wait_for(step=2)
    run.signal("engine 1", signal.SIGKILL)
    run.finish()
    (lost,) = run.events("lost")
    assert outcome(run.folder) == one and every_sample_once(run)
    again = [row for row in run.answers() if row["attempts"] > 1]
    assert 0 < len(again) == lost["open"] < 24 and {row["step"] for row in again} == {2}


def test_a_raylet_is_killed_and_another_node_takes_its_place(folder, nodes, one):
    run = Training(folder / "raylet", nodes.address, *CALM)
    run.wait_for(step=1)
    nodes.kill(2)
    run.wait_for_event("lost", 1)
    os.killpg(run.process.pid, signal.SIGSTOP)  # the driver, until the node is there: which step it is in then is ours
    nodes.add()
    os.killpg(run.process.pid, signal.SIGCONT)
    run.finish()
    (lost,) = run.events("lost")
    assert outcome(run.folder) == one and every_sample_once(run) and lost["step"] == 1


def test_an_actor_hangs(folder, nodes, one):
    run = Training(folder / "hang", nodes.address, *QUICK)
    run.wait_for(step=2)
    run.signal("engine 1", signal.SIGSTOP)
    run.finish()
    assert outcome(run.folder) == one and every_sample_once(run)
    assert "no sign of life for 10 s" in run.events("lost")[0]["why"]


def test_an_actor_that_hangs_for_less_than_the_patience_is_kept(folder, nodes, one):
    run = Training(folder / "pause", nodes.address, *CALM)
    run.wait_for(step=2)
    run.signal("engine 1", signal.SIGSTOP)
    time.sleep(5)
    run.signal("engine 1", signal.SIGCONT)
    run.finish()
    assert outcome(run.folder) == one and every_sample_once(run) and not run.events("lost")


def test_a_slow_node_costs_less_than_half_a_step(folder, nodes, one, calm):
    run = Training(folder / "slow", nodes.address, "cluster.engines=2", "cluster.hedge=0.5", "cluster.patience=60")
    run.wait_for_event("ready", 2)
    with slowed(run.pid("engine 1")):
        run.finish()
    assert outcome(run.folder) == one and every_sample_once(run)
    ratio = typical(run.step_seconds()) / typical(calm.step_seconds())
    print(f"a step with a slow node takes {ratio:.2f} times a calm one")
    assert ratio < 1.5


def test_the_driver_is_killed_and_its_command_run_again(folder, nodes, one):
    first = Training(folder / "driver", nodes.address, *CALM)
    first.wait_for(step=2)
    first.kill()
    again = Training(folder / "driver", nodes.address, *CALM)
    again.finish()
    assert outcome(again.folder) == one and every_sample_once(again)


def test_a_trainer_rank_is_killed(folder, nodes):
    """Ranks are compared with ranks of one machine: two of them add in another order than one process does."""
    here = Training(folder / "sharded", "", "backend=sharded", "num_workers=2")
    here.finish()
    nodes.add(2)
    run = Training(folder / "rank", nodes.address, *CALM, "cluster.ranks=2")
    run.wait_for(step=2)
    run.signal("rank 1", signal.SIGKILL)
    run.finish()
    assert outcome(run.folder) == outcome(here.folder) and every_sample_once(run)
    assert "is opened again" in run.log.read_text()


def test_what_does_not_fit_is_said_before_anything_starts(folder, nodes):
    run = Training(folder / "large", nodes.address, "cluster.engines=40", "cluster.cores=3")
    assert run.process.wait(300) == 1
    assert "asks for 40 engines of 3 cores each, and the cluster has room for 0" in run.said()
    assert not (folder / "large" / "requests.jsonl").exists()
