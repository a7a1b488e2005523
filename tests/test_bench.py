"""The measuring side of `bench/`: ratios, tables, who is missing, and the protocol between harness and contenders."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "bench"), str(ROOT / "bench" / "sides")]

import common  # noqa: E402
import contenders  # noqa: E402
from common import Answer, Contender, Pool  # noqa: E402
from llamacpp import Rows  # noqa: E402
from never_ends import NeverEnds  # noqa: E402
from sums import problem, reward  # noqa: E402

from ponder.config import ConfigError  # noqa: E402
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


def test_a_peers_copy_of_the_model_is_made_once_and_before_it_loads(echo, tmp_path):
    place, runs = tmp_path / "copies" / "model.form", tmp_path / "runs"
    write = "import sys; open(sys.argv[1], 'a').write('run '); open(sys.argv[2], 'w').write('weights')"
    peer = common.replace(echo, reads=place, made_by=(sys.executable, "-c", write, str(runs)))
    for _ in range(2):
        with common.start([peer]) as pool:
            assert place.read_text() == "weights" and "echo" in pool.running
    assert runs.read_text() == "run "


def test_a_peer_whose_copy_cannot_be_made_is_missing_and_nothing_looks_like_a_model(echo, tmp_path):
    place = tmp_path / "copies" / "model.form"
    write = "import sys; open(sys.argv[1], 'w').write('half of it'); raise SystemExit('no such architecture')"
    peer = common.replace(echo, reads=place, made_by=(sys.executable, "-c", write))
    with common.start([peer]) as pool:
        assert "no such architecture" in pool.missing["echo"]
    assert not place.exists()


def test_peers_are_chosen_by_name():
    settings = {name: [Contender(name=name, side="x.py")] * 2 for name in ("a", "b", "c")}

    def kept(*flags):
        return common.chosen(settings, common.arguments("about").parse_args(flags))

    assert list(kept()) == ["a", "b", "c"]
    assert list(kept("--without", "b", "elsewhere")) == ["a", "c"]
    assert list(kept("--only", "c", "a")) == ["a", "c"]
    assert {name: len(each) for name, each in kept("--only", "c", "--no-tune").items()} == {"c": 1}
    with pytest.raises(ConfigError, match="names no peer of this bench; it has a, b, c"):
        kept("--only", "d")


def test_every_setting_of_sampling_has_a_side_and_an_environment_that_is_made_and_a_name_of_its_own(monkeypatch):
    import rollout

    from ponder.models import hub

    monkeypatch.setattr(common, "num_devices", lambda: 2)
    makefile = (ROOT / "Makefile").read_text()
    for name, settings in rollout.settings(str(hub.resolve("nano")), 128, "float32").items():
        assert len({setting.setting for setting in settings}) == len(settings)  # rates are stored under it
        for setting in settings:
            assert setting.name == name and (ROOT / "bench" / "sides" / setting.side).exists()
            if setting.python != contenders.OURS:
                assert f"$(MAKE) {setting.python.parent.parent.name}/.done" in makefile


class ScriptedLlama:
    """What the side asks of llama.cpp. The token that follows depends on every token of the sequence, as it should."""

    def __init__(self, batch):
        self.size, self.caches, self.decoded = batch, {}, []

    def llama_n_batch(self, context):
        return self.size

    def llama_batch_init(self, size, embeddings, sequences):
        names = ("token", "pos", "n_seq_id", "logits")
        return SimpleNamespace(n_tokens=0, seq_id=[[0] for _ in range(size)], **{name: [0] * size for name in names})

    def llama_get_memory(self, context):
        return self.caches

    def llama_memory_clear(self, memory, data):
        memory.clear()

    def llama_memory_seq_cp(self, memory, source, target, begin, end):
        memory[target] = list(memory[source])

    def llama_decode(self, context, batch):
        self.decoded.append(batch.n_tokens)
        self.seen = {}
        for i in range(batch.n_tokens):
            cache = self.caches.setdefault(batch.seq_id[i][0], [])
            assert batch.pos[i] == len(cache) and batch.n_seq_id[i] == 1
            cache.append(batch.token[i])
            if batch.logits[i]:
                self.seen[i] = list(cache)
        return 0

    def llama_get_logits(self, context): ...

    def llama_sampler_sample(self, chain, context, place):
        return follows(self.seen[place])

    def llama_sampler_chain_default_params(self): ...

    def llama_sampler_chain_init(self, params): ...

    def llama_sampler_init_greedy(self): ...

    def llama_sampler_chain_add(self, chain, sampler): ...


def follows(tokens):
    return sum(i * token for i, token in enumerate(tokens, start=1)) % 997


@pytest.mark.parametrize("threads", [1, 2])
def test_the_side_of_llama_cpp_gives_every_row_its_own_past_and_reads_a_prompt_once(threads):
    prompts, owners = [[5, 6, 7], [8, 9], [1, 2, 3, 4]], [0, 0, 1, 2, 2, 2]
    expected = [list(prompts[owner]) for owner in owners]
    for row in expected:
        for _ in range(4):
            row.append(follows(row))
    llama = ScriptedLlama(batch=6)
    rows = Rows(llama, None, threads=threads)
    rows.begin(1, greedy=True)
    assert rows.generate(prompts, owners, 4) == [row[-4:] for row in expected]
    assert llama.decoded == [5, 4, 6, 6, 6]  # prompts, as many as fit, and three steps of all rows


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


@pytest.mark.parametrize(("script", "peer"), [("rl_step", "TRL"), ("train", "HF")])
def test_ponders_side_of_a_bench_that_trains_runs(script, peer, tmp_path):
    command = [sys.executable, str(ROOT / "bench" / f"{script}.py"), "--quick", "--model", "nano", "--without", peer]
    subprocess.run([*command, "--out", str(tmp_path)], check=True, capture_output=True, cwd=ROOT)
    (case,) = json.loads((tmp_path / f"{script}.quick.json").read_text())
    assert not case["missing"]
    assert case["contestants"]["ponder"]["rate"]["median"] > 0


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
