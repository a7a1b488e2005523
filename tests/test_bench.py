"""The measuring side of `bench/`: ratios, tables, who is missing, and the protocol between harness and contenders."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "bench"), str(ROOT / "bench" / "sides")]

import common  # noqa: E402
import contenders  # noqa: E402
from common import Answer, Contender, Pool  # noqa: E402
from never_ends import NeverEnds  # noqa: E402
from sums import problem, reward  # noqa: E402

from tests.helpers import until  # noqa: E402

pytestmark = pytest.mark.slow

ECHO = f"""
import sys
sys.path.insert(0, {str(ROOT / "bench" / "sides")!r})
from link import serve
def load(config):
    if config.get("absent"):
        import a_library_that_is_nowhere
    print("a library that talks while it loads")
    def answer(job):
        if job.get("die"):
            raise RuntimeError("out of luck")
        return {{"tokens": len(job["prompts"]) * job["n"], "rank": config["rank"]}}
    return answer
serve(load)
"""


@pytest.fixture
def echo(tmp_path, monkeypatch):
    """A contender of two processes that needs no library."""
    monkeypatch.setattr(contenders, "LOGS", tmp_path / "logs")
    (tmp_path / "echo.py").write_text(ECHO)
    return Contender(name="echo", side=str(tmp_path / "echo.py"), processes=2)


class Ready:
    """What `result` asks of a running contender."""

    def __init__(self, name):
        self.contender = Contender(name=name, side="x.py")
        self.load_seconds = 1.0
        self.facts = [{"versions": {"torch": "2"}}]


def answers(*rates):
    return [Answer(seconds=2.0, replies=[{"tokens": rate}, {"tokens": rate}], peak_gib=rate / 10) for rate in rates]


def test_ratios_are_taken_within_a_repetition():
    # the machine halves its speed in the second repetition: both sides of the ratio feel it
    pool = Pool(running={"ponder": Ready("ponder"), "peer": Ready("peer")})
    case = common.result("c", "tokens", pool, {"ponder": answers(40, 20, 44), "peer": answers(20, 10, 20)})
    assert case["contestants"]["peer"]["ponder_over"] == {"median": 2.0, "low": 2.0, "high": 2.2, "n": 3}
    assert case["contestants"]["ponder"]["rate"]["median"] == 40.0
    assert "ponder_over" not in case["contestants"]["ponder"]


def test_fractions_use_the_ceiling_of_the_same_repetition():
    pool = Pool(running={"ponder": Ready("ponder")})
    ceiling = [
        Answer(seconds=1, replies=[{"gflops": g, "copy_gbytes": 1.0}] * 2, peak_gib=0) for g in (100.0, 50.0, 100.0)
    ]
    case = common.result("c", "tokens", pool, {"ponder": answers(40, 20, 40), common.CEILING: ceiling}, flops_each=1e9)
    assert case["contestants"]["ponder"]["of_matrix_ceiling"] == {"median": 0.2, "low": 0.2, "high": 0.2, "n": 3}
    assert common.CEILING not in case["contestants"]


def test_a_missing_peer_is_told_and_has_no_ratio():
    pool = Pool(running={"ponder": Ready("ponder")}, missing={"vLLM": "there is no .venv-vllm"})
    case = common.result("c", "tokens", pool, {"ponder": answers(40)})
    assert case["missing"] == {"vLLM": "there is no .venv-vllm"}
    assert "vLLM" not in case["contestants"]
    (line,) = [line for line in common.table(case).splitlines() if "vLLM" in line]
    assert line.split() == ["vLLM", "missing:", "there", "is", "no", ".venv-vllm"]


def test_an_absent_environment_is_a_missing_peer(tmp_path):
    peer = Contender(name="peer", side="hf.py", python=tmp_path / ".venv-none" / "bin" / "python")
    with common.start([peer]) as pool:
        assert not pool.running
        assert pool.missing == {"peer": "there is no .venv-none; run `make bench-peers`"}


def test_a_contender_of_two_processes_answers_as_one(echo):
    with common.start([echo]) as pool:
        answer = pool.running["echo"].ask(common.even({"prompts": [[1], [2], [3]], "n": 2}, 2))
        assert answer.total("tokens") == 6
        assert [reply["rank"] for reply in answer.replies] == [0, 1]
        assert answer.peak_gib > 0


def test_an_absent_library_is_a_missing_peer(echo):
    with common.start([common.with_config(echo, absent=True)]) as pool:
        assert "a_library_that_is_nowhere is not installed" in pool.missing["echo"]


def test_a_contender_that_dies_is_missing_from_then_on_and_the_others_go_on(echo):
    mortal = common.replace(echo, name="mortal")
    with common.start([echo, mortal]) as pool:

        def shares(job, processes):
            return [job] * processes

        def job(repeat):
            return {"prompts": [[1]], "n": 1}

        ask = pool.running["mortal"].ask
        pool.running["mortal"].ask = lambda cut: ask([share | {"die": True} for share in cut])
        taken = common.measure(pool, job, shares, repeats=2)
    assert list(taken) == ["echo"] and len(taken["echo"]) == 2
    assert "out of luck" in pool.missing["mortal"]


def test_the_best_setting_is_the_fastest_that_runs(echo):
    broken = common.replace(echo, python=Path("/nowhere/bin/python"), note="broken")
    best, tried = common.best_settings([broken, echo], {"prompts": [[1]], "n": 2}, common.even, "tokens")
    assert best is echo
    assert tried[broken.setting] == 0.0 < tried[echo.setting]
    assert common.best_settings([broken], {}, common.even, "tokens") == (broken, {})


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_shares_of_a_job_are_the_whole_job(processes):
    many = common.even({"prompts": [[i] for i in range(8)], "n": 2}, processes)
    assert sorted(prompt for share in many for prompt in share["prompts"]) == [[i] for i in range(8)]
    one = common.even({"prompts": [[5]], "n": 8}, processes)
    assert sum(share["n"] for share in one) == 8 and all(share["prompts"] == [[5]] for share in one)


def test_the_peak_of_memory_counts_the_children_of_a_process_and_what_they_freed_again():
    grows = "x = b'1' * 80_000_000; print('grown', flush=True); input(); del x; print('freed', flush=True); input()"
    hog = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {grows!r}])"
    process = subprocess.Popen(
        [sys.executable, "-c", hog], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )
    try:
        with contenders.PeakMemory([process.pid], every=0.02) as memory:
            assert process.stdout.readline() == "grown\n"
            until(lambda: memory._anonymous > 80e6, seconds=20)
            process.stdin.write("\n")
            assert process.stdout.readline() == "freed\n"
            assert sum(map(contenders.anonymous, contenders.family([process.pid]))) < 80e6
        assert 80e6 < memory.peak < 200e6
    finally:
        process.communicate("\n", timeout=20)


def test_the_sums_are_the_same_everywhere_and_only_the_sum_is_right():
    text, target = problem(7)
    assert problem(7) == (text, target)
    assert reward(f"5 + 5 = 10, so {target} in all.", target) == 1.0
    assert 0 < reward(f"{target} or maybe 999", target) < reward(f"I say {int(target) + 2}.", target) < 0.5
    assert reward("", target) == reward("9" * 5000, target) == 0.0


def test_the_prompts_have_the_length_that_is_asked_and_differ():
    from rollout import prompts

    from ponder.models import hub

    ids = prompts(str(hub.resolve("nano")), 4, 100, seed=1)
    assert {len(each) for each in ids} == {100}
    assert len({tuple(each) for each in ids}) == 4


def test_without_an_end_mark_a_completion_is_as_long_as_its_cap():
    from ponder.engine.local import LocalEngine
    from ponder.models import hub
    from ponder.types import SamplingParams

    model, tokenizer = hub.load("nano")
    prompt = tokenizer.render([])[:-1] + tokenizer.encode("1+1=2")  # answers end soon after
    with LocalEngine(model, NeverEnds(tokenizer), num_workers=0) as engine:
        samples = asyncio.run(engine.generate(prompt, SamplingParams(max_answer_tokens=40), n=6))
    assert {len(sample.token_ids) for sample in samples} == {40}
