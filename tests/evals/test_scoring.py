"""Scoring a bank: every sample once, in order, resumable; banks that cannot be scored say why."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ponder.config import ConfigError
from ponder.engine.base import ScriptedEngine
from ponder.engine.local import LocalEngine
from ponder.evals import scoring
from ponder.evals.bank import Bank, BankError, BankSpec, sample_row
from ponder.evals.exams import refreshed, run_exam, up_to_date
from ponder.evals.results import ReadingCost
from ponder.evals.scoring import ScoringAsDrawn, read_answers, read_families, score_bank
from ponder.models.tokenizer import ByteTokenizer
from ponder.scorers.base import same_weights
from ponder.scorers.features import FeatureScorer, features
from ponder.scorers.logistic import fit
from ponder.scorers.outcome import BIAS, WEIGHT, OutcomeScorer
from ponder.scorers.packing import CompletionGroup
from ponder.scorers.preference import PreferenceScorer, new_preference_head
from ponder.scorers.probe import Probe
from ponder.scorers.reader import Reader
from ponder.types import Problem, SamplingParams, Verdict
from tests.helpers import LowercaseTask, tiny_model, user

SPEC = BankSpec(task="toy", split="test", model="m", fingerprint="fp", params=SamplingParams())


def problem(i):
    return Problem(id=f"toy/{i}", prompt=user(f"p{i}"), target="4", task="toy")


def outcome(folder, policy="fp"):
    head = {WEIGHT: torch.randn(32, generator=torch.Generator().manual_seed(1)) / 4, BIAS: torch.zeros(1)}
    scorer = OutcomeScorer(tiny_model(), head, name="outcome", policy=policy)
    scorer.save(folder)
    return scorer


def fill(folder, counts, answers=("4", "5", "44"), first=None):
    """A bank of some samples a problem; a later call adds those that are missing."""
    engine = ScriptedEngine([("r" * (i % 3), answer) for i, answer in enumerate(answers)])
    with Bank.open(folder, SPEC) as bank:
        for i, count in enumerate(counts):
            have = bank.num_samples(f"toy/{i}")
            if count <= have:
                continue
            found = asyncio.run(engine.generate(problem(i).prompt, SamplingParams(), n=count - have, first=have))
            rows = []
            for j, completion in enumerate(found, have):
                right = completion.answer == "4"
                verdict = Verdict(outcome="correct" if right else "wrong", reward=float(right))
                rows.append(sample_row(problem(i), j, completion, replace(verdict, key=completion.answer or None)))
            bank.append(problem(i), rows, prompt_ids=found[0].prompt_ids)


@pytest.mark.parametrize("workers", [0, 1])
def test_every_sample_gets_the_score_of_its_own_tokens(tmp_path, workers):
    scorer = outcome(tmp_path / "scorer")
    fill(tmp_path / "bank", [5, 3])
    with Bank.read(tmp_path / "bank") as bank:
        result = score_bank(bank, tmp_path / "scorer", num_workers=workers)
    assert (result.name, result.scored_now, result.samples) == ("outcome", 8, 8)
    bank = Bank.read(tmp_path / "bank")
    prompts = bank.prompt_ids()
    for row in bank.full_rows():
        alone = scorer.score([CompletionGroup.of(prompts[row.problem], [row.token_ids])])[0][0]
        assert bank.samples(row.problem).scores["outcome"][row.sample] == pytest.approx(alone, abs=1e-5)


def test_a_reward_model_scores_a_banks_answers_and_never_its_token_ids(tmp_path):
    """The ids of a bank are the policy's, reasoning included; a reward model reads answers, in its own spelling."""
    reader = Reader(tiny_model(hidden_size=16), ByteTokenizer())
    head = new_preference_head(16) | {"weight": torch.linspace(-1, 1, 16)}
    scorer = PreferenceScorer(reader, head, name="rm")
    scorer.save(tmp_path / "scorer")
    fill(tmp_path / "bank", [5, 3])
    with Bank.read(tmp_path / "bank") as bank:
        assert score_bank(bank, tmp_path / "scorer").scored_now == 8
    bank = Bank.read(tmp_path / "bank")
    for row in bank.full_rows():
        index = int(row.problem.rpartition("/")[2])
        alone = scorer.score([reader.group(problem(index).prompt, [row.answer])])[0][0]
        assert bank.samples(row.problem).scores["rm"][row.sample] == pytest.approx(alone, abs=1e-5)
    gated = replace(problem(0), prompt=user("(withheld: 12ab)"))
    with pytest.raises(ConfigError, match="does not hold the texts"):
        read_answers(SimpleNamespace(problems=[gated], folder="bank", full_rows=lambda names: []), ["toy/0"], scorer)


def test_a_second_run_scores_what_is_new(tmp_path):
    outcome(tmp_path / "scorer")
    fill(tmp_path / "bank", [2, 3])
    score_bank(Bank.read(tmp_path / "bank"), tmp_path / "scorer")
    again = score_bank(Bank.read(tmp_path / "bank"), tmp_path / "scorer")
    assert again.scored_now == 0
    fill(tmp_path / "bank", [4, 3])
    seen = []
    more = score_bank(Bank.read(tmp_path / "bank"), tmp_path / "scorer", on_progress=lambda *x: seen.append(x[:2]))
    assert more.scored_now == 4  # of the problem that has grown
    assert seen[-1] == (7, 7)
    assert not np.isnan(Bank.read(tmp_path / "bank").samples("toy/0").scores["outcome"]).any()


def test_a_network_is_asked_for_few_tokens_at_a_time_so_that_an_interrupted_run_loses_little(tmp_path, monkeypatch):
    outcome(tmp_path / "scorer")
    fill(tmp_path / "bank", [3, 3, 3])
    monkeypatch.setattr(scoring, "READ", 1)
    seen = []

    def until_the_second(done, total, mean):
        seen.append((done, total))
        if len(seen) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score_bank(Bank.read(tmp_path / "bank"), tmp_path / "scorer", on_progress=until_the_second)
    assert seen == [(3, 9), (6, 9)]
    assert score_bank(Bank.read(tmp_path / "bank"), tmp_path / "scorer").scored_now == 3


def test_features_read_the_samplers_logprobs_and_the_banks_classes(tmp_path):
    fill(tmp_path / "bank", [6, 6])
    bank = Bank.read(tmp_path / "bank")
    group = read_families(bank, ["toy/0"])["toy/0"]
    assert group.classes.tolist() == [0, 1, 2, 0, 1, 2]
    assert len(group.logprobs) == len(group.token_ids)
    model = fit(features(group), (group.classes == 0).astype(float))
    FeatureScorer(model, name="features", policy="fp").save(tmp_path / "scorer")
    result = score_bank(bank, tmp_path / "scorer", name="cheap")
    assert result.cost == ReadingCost(prompt=0, sample=0, flops_per_token=0)
    assert Bank.read(tmp_path / "bank").samples("toy/1").scores["cheap"].shape == (6,)


def test_an_empty_bank_is_scored_at_once(tmp_path):
    outcome(tmp_path / "scorer")
    with Bank.open(tmp_path / "bank", SPEC):
        pass
    result = score_bank(Bank.read(tmp_path / "bank"), tmp_path / "scorer")
    assert (result.samples, result.scored_now) == (0, 0)


def test_the_bank_of_another_model_warns(tmp_path):
    outcome(tmp_path / "scorer", policy="other")
    fill(tmp_path / "bank", [2])
    with pytest.warns(UserWarning, match="other"):
        score_bank(Bank.read(tmp_path / "bank"), tmp_path / "scorer")


def test_a_bank_of_another_tokenizer_is_refused(tmp_path):
    head = {WEIGHT: torch.zeros(32), BIAS: torch.zeros(1)}
    OutcomeScorer(tiny_model(vocab_size=100), head, name="outcome", policy="fp").save(tmp_path / "scorer")
    fill(tmp_path / "bank", [2])
    with pytest.raises(ValueError, match="another tokenizer"):
        score_bank(Bank.read(tmp_path / "bank"), tmp_path / "scorer")


def test_samples_without_token_ids_say_so(tmp_path):
    outcome(tmp_path / "scorer")
    engine = ScriptedEngine(["4"])
    with Bank.open(tmp_path / "bank", SPEC) as bank:
        found = asyncio.run(engine.generate(problem(0).prompt, SamplingParams(), n=1))
        row = sample_row(problem(0), 0, found[0], Verdict(outcome="correct", reward=1.0, key="4"))
        bank.append(problem(0), [replace(row, token_ids=(), sampler_logprobs=())], prompt_ids=[])
    with pytest.raises(ConfigError, match="no token ids"):
        score_bank(Bank.read(tmp_path / "bank"), tmp_path / "scorer")


def test_samples_that_never_answered_are_scored_all_the_same(tmp_path):
    outcome(tmp_path / "scorer")
    engine = ScriptedEngine([("r" * 9, "4")])
    params = SamplingParams(max_reasoning_tokens=2, max_answer_tokens=1)
    with Bank.open(tmp_path / "bank", replace(SPEC, params=params)) as bank:
        found = asyncio.run(engine.generate(problem(0).prompt, params, n=3))
        rows = [sample_row(problem(0), j, c, Verdict(outcome="wrong", reward=0.0)) for j, c in enumerate(found)]
        bank.append(problem(0), rows, prompt_ids=found[0].prompt_ids)
    score_bank(Bank.read(tmp_path / "bank"), tmp_path / "scorer")
    scores = Bank.read(tmp_path / "bank").samples("toy/0").scores["outcome"]
    assert np.isfinite(scores).all()


def test_a_probe_scores_from_kept_states_as_the_exam_draws_and_never_reads_again(tmp_path, monkeypatch):
    probe = Probe(
        {"mean": torch.zeros(64), "scale": torch.ones(64), "weight": torch.linspace(-1, 1, 64), "bias": torch.zeros(1)},
        name="probe", policy="fp-int8", model="nowhere",
    )  # fmt: skip
    probe.save(tmp_path / "scorer")
    seen = {}

    class Seeing(ScoringAsDrawn):
        async def __call__(self, bank, problem, first, completions):
            hidden = np.stack([completion.hidden for completion in completions])
            seen.setdefault(problem.id, []).extend(probe.probabilities(hidden))
            await super().__call__(bank, problem, first, completions)

    monkeypatch.setattr(Probe, "states", lambda *args: pytest.fail("read again"))
    task = LowercaseTask(size=3)

    async def exam(samples):
        engine = LocalEngine(tiny_model(), ByteTokenizer(), num_workers=0, keep_hidden=True)
        params = SamplingParams(max_reasoning_tokens=2, max_answer_tokens=2)
        with contextlib.closing(engine), Seeing(tmp_path / "scorer", policy="fp") as scored:
            await run_exam(
                task, engine, model="m", fingerprint="fp", num_samples=samples, params=params, out=tmp_path / "bank",
                on_drawn=scored,
            )  # fmt: skip

    for samples in (2, 5):
        asyncio.run(exam(samples))
    bank = Bank.read(tmp_path / "bank")
    assert score_bank(bank, tmp_path / "scorer").scored_now == 0
    for id, expected in seen.items():
        np.testing.assert_allclose(bank.samples(id).scores["probe"], expected)
    assert up_to_date(tmp_path / "bank").headline.rerank_at[5].keys() == {"probe"}


def test_a_probe_of_another_policy_reads_by_its_own_network(tmp_path):
    probe = Probe(
        {"mean": torch.zeros(64), "scale": torch.ones(64), "weight": torch.ones(64), "bias": torch.zeros(1)},
        name="probe", policy="fp", model="nowhere",
    )  # fmt: skip
    probe.save(tmp_path / "scorer")
    with pytest.warns(UserWarning, match="not for other"):
        assert not ScoringAsDrawn(tmp_path / "scorer", policy="other").keeps_hidden
    assert ScoringAsDrawn(tmp_path / "scorer", policy="fp-int8").keeps_hidden


def test_a_problem_drawn_in_parts_keeps_every_score_and_a_gap_stays_open(tmp_path):
    head = {"mean": torch.zeros(64), "scale": torch.ones(64), "weight": torch.ones(64), "bias": torch.zeros(1)}
    Probe(head, name="probe", policy="", model="nowhere").save(tmp_path / "scorer")
    fill(tmp_path / "bank", [6])
    bank = Bank.read(tmp_path / "bank")

    def part(*values):
        return [SimpleNamespace(hidden=np.full(64, value, np.float32)) for value in values]

    async def parts(scored):
        await scored(bank, problem(0), 1, part(0.0, 0.1))
        await scored(bank, problem(0), 3, part(-0.1))

    with ScoringAsDrawn(tmp_path / "scorer") as scored:
        asyncio.run(parts(scored))
    found = bank.samples("toy/0").scores["probe"]
    np.testing.assert_allclose(found[1:4], 1 / (1 + np.exp(-64 * np.array([0.0, 0.1, -0.1]))), rtol=1e-4)
    assert np.isnan(found[[0, 4, 5]]).all()


def test_a_result_is_not_written_under_an_exam_that_goes_on(tmp_path):
    fill(tmp_path / "bank", [2])
    with Bank.open(tmp_path / "bank", SPEC), pytest.raises(BankError, match="another process writes"):
        refreshed(tmp_path / "bank")
    assert refreshed(tmp_path / "bank").num_samples == 2 and not (tmp_path / "bank" / "result.json").exists()


def test_other_scorers_than_probes_leave_an_exam_alone(tmp_path):
    outcome(tmp_path / "scorer")
    with ScoringAsDrawn(tmp_path / "scorer") as scored:
        assert not scored.keeps_hidden
        asyncio.run(run_exam(
            LowercaseTask(size=1), ScriptedEngine(["a"]), model="m", num_samples=2, params=SamplingParams(),
            out=tmp_path / "bank", on_drawn=scored,
        ))  # fmt: skip
    assert not Bank.read(tmp_path / "bank").scorers


def test_products_in_int8_are_of_the_same_policy():
    assert same_weights("abc", "abc-int8") and same_weights("abc-int8", "abc") and same_weights("", "abc")
    assert not same_weights("abc", "abd-int8")
