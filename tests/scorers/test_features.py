"""Features of samples, and the probe over hidden states."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from ponder.config import ConfigError
from ponder.engine.local import LocalEngine
from ponder.models.tokenizer import ByteTokenizer
from ponder.models.weights import save_model
from ponder.scorers import load_scorer
from ponder.scorers.features import FEATURES, FeatureScorer, features
from ponder.scorers.logistic import fit
from ponder.scorers.outcome import OutcomeScorer, new_head
from ponder.scorers.packing import CompletionGroup
from ponder.scorers.probe import Probe, completion_states
from ponder.types import Completion, SamplingParams
from tests.helpers import tiny_model, user


def group(logprobs, classes, was_cut=None):
    flat = [x for row in logprobs for x in row]
    plain = CompletionGroup.of([1], [list(range(len(row))) for row in logprobs])
    return replace(
        plain,
        logprobs=np.array(flat, np.float32),
        was_cut=np.array(was_cut or [False] * len(logprobs)),
        classes=np.array(classes, np.int64),
    )


def test_features_have_the_values_of_their_names():
    rows = features(group([[-1, -3, -2], [-4], []], [0, -1, -1], [False, True, True]), window=2)
    of = dict(zip(FEATURES, rows.T.tolist(), strict=True))
    assert of["mean_logprob"] == pytest.approx([-2, -4, 0])
    assert of["worst_logprob"] == pytest.approx([-2.5, -4, 0])  # no window reaches into another completion
    assert of["lowest_logprob"] == pytest.approx([-3, -4, 0])
    assert of["log_length"] == pytest.approx(np.log([4, 2, 1]))
    assert of["was_cut"] == [0, 1, 1]
    assert of["has_answer"] == [1, 0, 0]
    assert of["class_share"] == [1, 0, 0]  # of those with an answer


def test_class_share_counts_answers_only():
    rows = features(group([[-1]] * 4, [0, 0, 1, -1]))
    assert rows[:, FEATURES.index("class_share")] == pytest.approx([2 / 3, 2 / 3, 1 / 3, 0])


def test_the_worst_window_equals_a_loop():
    generator = np.random.default_rng(0)
    logprobs = [(-generator.random(n) * 5).tolist() for n in (1, 7, 8, 9, 30)]
    rows = features(group(logprobs, [0] * 5))
    for row, values in zip(rows, logprobs, strict=True):
        width = min(8, len(values))
        expected = min(np.mean(values[i : i + width]) for i in range(len(values) - width + 1))
        assert row[FEATURES.index("worst_logprob")] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("classes", [[-1, -1], [0, 0]])
def test_features_are_finite_when_none_finishes_or_a_logprob_is_not(classes):
    assert np.isfinite(features(group([[-np.inf, -1], [-1]], classes, [True, True]))).all()


def test_without_logprobs_the_error_names_them():
    with pytest.raises(ValueError, match="logprobs"):
        features(CompletionGroup.of([1], [[2]]))


def test_a_fitted_scorer_comes_back_and_a_joined_network_is_found(tmp_path):
    OutcomeScorer(tiny_model(), new_head(32), name="o", policy="p").save(tmp_path / "o")
    samples = group([[-1, -2], [-3], [-0.1, -0.1]], [0, 1, 0])
    for joined in ("", str(tmp_path / "o")):
        outcome = load_scorer(joined) if joined else None
        x = features(samples, outcome.score([samples])[0] if outcome else None)
        model = fit(x, np.array([1.0, 0, 1]))
        scorer = FeatureScorer(model, name="f", policy="p", outcome=outcome, outcome_folder=joined)
        scorer.save(tmp_path / "f")
        back = load_scorer(tmp_path / "f")
        np.testing.assert_allclose(back.score([samples])[0], scorer.score([samples])[0])
        assert back.needs_forward_pass == bool(joined)


def test_a_joined_network_that_was_trained_again_is_refused(tmp_path):
    """Its scores would stand under the fingerprint of those before."""
    inner = tmp_path / "o"
    OutcomeScorer(tiny_model(), new_head(32), name="o", policy="p").save(inner)
    samples, outcome = group([[-1, -2], [-3], [-0.1, -0.1]], [0, 1, 0]), load_scorer(inner)
    model = fit(features(samples, outcome.score([samples])[0]), np.array([1.0, 0, 1]))
    FeatureScorer(model, name="f", policy="p", outcome=outcome, outcome_folder=str(inner)).save(tmp_path / "f")
    OutcomeScorer(tiny_model(seed=1), new_head(32), name="o", policy="p").save(inner)
    with pytest.raises(ConfigError, match="was fitted to another scorer"):
        load_scorer(tmp_path / "f")
    facts = json.loads((tmp_path / "f" / "scorer.json").read_text())
    (tmp_path / "f" / "scorer.json").write_text(json.dumps(facts | {"outcome": 5}))
    with pytest.raises(ConfigError, match="outcome = 5 must be a folder"):
        load_scorer(tmp_path / "f")


def test_a_damaged_list_of_features_is_refused(tmp_path):
    model = fit(features(group([[-1], [-2]], [0, 1])), np.array([1.0, 0]))
    FeatureScorer(model, name="f", policy="p").save(tmp_path)
    text = (tmp_path / "scorer.json").read_text()
    for old, new in (("mean_logprob", "other"), ('"scale": ', '"scale": -'), ('"weight": ', '"weight": "x", "w": ')):
        (tmp_path / "scorer.json").write_text(text.replace(old, new))
        with pytest.raises(ConfigError):
            load_scorer(tmp_path)


# --- the probe ---------------------------------------------------------------------------------------------------


def kept_by_an_engine(model, prompt, ids):
    """The state from which the last token was drawn, then the mean of those from which each was."""
    with torch.no_grad():
        hidden = model.hidden(torch.tensor([[*prompt, *ids]]))[0]
    drawn = hidden[len(prompt) - 1 : len(prompt) + max(1, len(ids)) - 1]
    return torch.cat([drawn[-1], drawn.mean(0)]).numpy()


def probe(tmp_path, inner=0):
    save_model(tiny_model(), tmp_path / "policy")
    ByteTokenizer().save(str(tmp_path / "policy"))
    generator = torch.Generator().manual_seed(0)
    head = {"mean": torch.zeros(64), "scale": torch.ones(64), "bias": torch.tensor([0.1])}
    head["weight"] = torch.randn(inner or 64, generator=generator)
    if inner:
        head |= {"inner.weight": torch.randn(inner, 64, generator=generator), "inner.bias": torch.zeros(inner)}
    return Probe(head, name="probe", policy="p", model=str(tmp_path / "policy"))


@pytest.mark.parametrize("inner", [0, 5])
def test_a_probe_gives_the_same_scores_for_kept_and_for_recomputed_states(tmp_path, inner):
    scorer = probe(tmp_path, inner)
    scorer.save(tmp_path / "probe")
    prompt, samples = (1, 2, 3), [(4, 5, 6), (7,), (8, 9)]
    model = tiny_model()
    plain = [
        Completion(
            prompt_ids=prompt, token_ids=ids, sampler_logprobs=(0.0,) * len(ids), sampled=(True,) * len(ids),
            finish_reason="stop", reasoning="", answer="", num_reasoning_tokens=0,
        )
        for ids in samples
    ]  # fmt: skip
    kept = [replace(c, hidden=kept_by_an_engine(model, prompt, c.token_ids)) for c in plain]
    free = asyncio.run(scorer(user("?"), kept))
    again = asyncio.run(load_scorer(tmp_path / "probe")(user("?"), plain))
    np.testing.assert_allclose(free, again, atol=1e-5)
    assert scorer.cost(kept) == 0


def test_a_probe_for_another_width_is_refused(tmp_path):
    with pytest.raises(ValueError, match="another policy"):
        probe(tmp_path).probabilities(np.zeros((1, 10), np.float32))


def test_an_empty_completion_has_the_state_of_its_prompt():
    hidden = torch.randn(4, 3)
    found = completion_states(hidden, torch.tensor([4]), torch.tensor([3]), torch.tensor([3]))
    assert torch.allclose(found[0], hidden[3].repeat(2))


def test_the_states_that_the_engine_keeps_are_those_that_are_recomputed(tmp_path):
    scorer = probe(tmp_path)
    with LocalEngine(tiny_model(), ByteTokenizer(), num_workers=0, num_slots=8, keep_hidden=True) as engine:
        params = SamplingParams(max_reasoning_tokens=6, max_answer_tokens=4)
        kept = asyncio.run(engine.generate(user("hi"), params, n=4))
    assert all(c.hidden is not None for c in kept)
    free = asyncio.run(scorer(user("hi"), kept))
    again = asyncio.run(scorer(user("hi"), [replace(c, hidden=None) for c in kept]))
    np.testing.assert_allclose(free, again, atol=1e-4)
