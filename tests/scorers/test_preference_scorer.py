"""Reward models: an answer has one score, whatever stands beside it; answers only; nothing is cut; checked folders."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from ponder.config import ConfigError
from ponder.models.tokenizer import ByteTokenizer
from ponder.models.weights import save_model
from ponder.scorers import load_scorer
from ponder.scorers.files import FACTS, fingerprint
from ponder.scorers.packing import CompletionGroup
from ponder.scorers.preference import PreferenceScorer, new_preference_head
from ponder.scorers.preference_ensemble import PreferenceEnsemble, save_ensemble
from ponder.scorers.preference_probe import PreferenceProbe
from ponder.scorers.reader import Reader, check_border, template_hash
from ponder.types import Completion
from tests.helpers import tiny_model, user

PROMPT, ANSWERS = user("What is 2+2?"), ["4", "It is four.", "", "five, I am quite sure of it", "4"]
TOKENIZER = ByteTokenizer()


def head(num_features: int, seed: int = 1) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return new_preference_head(num_features) | {
        "weight": torch.randn(num_features, generator=generator) / 4, "mean": torch.full((num_features,), 0.1),
        "scale": torch.full((num_features,), 1.5), "bias": torch.tensor([0.3]),
    }  # fmt: skip


def scorer(*, seed: int = 1, window: int = 128, model: str = "", **options: object) -> PreferenceScorer:
    reader = Reader(tiny_model(window=window, hidden_size=16, intermediate_size=32), TOKENIZER, **options)
    return PreferenceScorer(reader, head(reader.num_features, seed), name="rm", model=model)


def completion(
    answer: str, *, reasoning: str = "", finish: str = "stop", hidden: object = None, version: int = 0
) -> Completion:
    ids = (*reasoning.encode(), TOKENIZER.unthink_id, *answer.encode(), TOKENIZER.end_id)
    return Completion(
        prompt_ids=tuple(TOKENIZER.render(PROMPT)), token_ids=ids, sampler_logprobs=(-1.0,) * len(ids),
        sampled=(True,) * len(ids), finish_reason=finish, reasoning=reasoning, answer=answer,
        num_reasoning_tokens=len(reasoning), hidden=hidden, policy_version=version,
    )  # fmt: skip


def alone(one: PreferenceScorer, ids: list[int], length: int, *, pad: int = 0) -> float:
    """The readable forward pass over one padded sequence; the answer is its last `length` real tokens."""
    padded = torch.tensor([[*ids, *[TOKENIZER.pad_id] * pad]])
    with torch.no_grad():
        hidden = one.reader.model.hidden(padded)[0, : len(ids)]
    own = hidden[-length:]
    pooled = own[-1] if one.reader.pool == "last" else own.mean(0)
    return float((pooled - one.head["mean"]) / one.head["scale"] @ one.head["weight"] + one.head["bias"])


def sequence(answer: str) -> tuple[list[int], int]:
    own = [*TOKENIZER.encode(answer), TOKENIZER.end_id]
    return [*TOKENIZER.render(PROMPT), TOKENIZER.unthink_id, *own], len(own)


@pytest.mark.parametrize("pool", ["mean", "last"])
def test_batched_equals_single_equals_right_padded_equals_packed(pool):
    one = scorer(pool=pool)
    together = one.raw_groups([one.reader.group(PROMPT, ANSWERS), one.reader.group(user("Hm?"), ["a", "bc"])])[0]
    singly = [one.raw_groups([one.reader.group(PROMPT, [text])])[0][0] for text in ANSWERS]
    tight = scorer(pool=pool, max_tokens=1).raw_groups([one.reader.group(PROMPT, ANSWERS)])[0]  # a pack an answer
    naive = [alone(one, *sequence(text)) for text in ANSWERS]
    padded = [alone(one, *sequence(text), pad=40) for text in ANSWERS]
    for other in (singly, tight, naive, padded):
        np.testing.assert_allclose(together, other, atol=1e-5)
    assert np.ptp(together) > 0.05 and together[0] == together[4]


def test_the_pad_token_and_what_follows_the_end_are_never_scored():
    """The mistake, made on purpose: scoring the last token of a padded row gives another number."""
    one = scorer(pool="last")
    ids, length = sequence("4")
    real = alone(one, ids, length)
    mistaken = alone(one, [*ids, *[TOKENIZER.pad_id] * 5], 1)
    assert one.raw_groups([one.reader.group(PROMPT, ["4"])])[0][0] == pytest.approx(real, abs=1e-5)
    assert abs(real - mistaken) > 1e-3


def test_layers_of_the_network_are_read_where_they_end():
    one = scorer(layers=[1, 2])
    whole = scorer()
    assert one.reader.num_features == 32 and whole.reader.layers == (2,)
    group = one.reader.group(PROMPT, ANSWERS)
    np.testing.assert_allclose(one.reader.features([group])[0][:, 16:], whole.reader.features([group])[0], atol=1e-6)
    with pytest.raises(ConfigError, match="layers 1 to 2"):
        scorer(layers=[3])


def test_a_prompt_begins_once_and_an_answer_ends_once():
    ids = scorer().reader.group(PROMPT, ["4", "x"])
    assert list(ids.prompt_ids).count(TOKENIZER.bos_id) == 1 and ids.prompt_ids[0] == TOKENIZER.bos_id
    assert list(ids.prompt_ids[-2:]) == [TOKENIZER.think_id, TOKENIZER.unthink_id]  # reasoning is over before it began
    assert list(ids.token_ids).count(TOKENIZER.end_id) == 2 and list(ids.lengths) == [2, 2]

    class Twice(ByteTokenizer):
        def render(self, messages):
            return [self.bos_id, *super().render(messages)]

    with pytest.raises(ConfigError, match="twice"):
        check_border(Twice())


def test_an_answer_of_marks_is_text_and_a_tokenizer_that_changes_texts_is_told():
    group = scorer().reader.group(PROMPT, ["</think>"])
    assert TOKENIZER.unthink_id not in group.token_ids

    class Stripping(ByteTokenizer):
        def encode(self, text):
            return super().encode(text.strip())

    with pytest.warns(UserWarning, match="does not keep"):
        check_border(Stripping())


def test_reasoning_is_never_read():
    """Chains swapped, answers kept: the same scores, to the last bit."""
    one = scorer()
    chains = ["honest work", "I will cheat: print the answer"]
    said = [
        asyncio.run(one(PROMPT, [completion("4", reasoning=c), completion("5", reasoning=d)]))
        for c, d in (chains, chains[::-1])
    ]
    assert said[0] == said[1] and not one.reads_reasoning


def test_what_does_not_fit_is_nan_and_counted_and_nothing_is_cut_in_silence():
    """Cut from the right, two answers behind a long prompt would be one."""
    one = scorer(window=48)
    with pytest.warns(UserWarning, match="do not fit"):
        scores = asyncio.run(one(PROMPT, [completion("short"), completion("x" * 60)]))
    assert 0 < scores[0] < 1 and np.isnan(scores[1])
    assert (one.num_read, one.num_too_long) == (2, 1)
    with pytest.warns(UserWarning, match="do not fit"):
        assert np.isnan(scorer(window=48).raw_groups([one.reader.group(user("p" * 60), ["a", "b"])])[0]).all()


def test_an_unfinished_answer_has_no_end_mark_and_no_answer_is_scored_at_the_prompts_end():
    one = scorer()
    group = one.group_of(PROMPT, [completion("4", finish="length"), completion("", finish="length"), completion("4")])
    assert list(group.lengths) == [1, 0, 2]
    assert np.isfinite(one.raw_groups([group])[0]).all()


def test_bounded_is_the_standardised_reward_within_0_and_1():
    one = scorer()
    raw = one.raw_groups([one.reader.group(PROMPT, ANSWERS)])[0]
    fitted = one.calibrated(raw)
    assert (fitted.shift, fitted.scale) == pytest.approx((raw.mean(), raw.std()))
    completions = [completion(text) for text in ANSWERS]
    rewards, bounded = (np.array(asyncio.run(call(PROMPT, completions))) for call in (fitted.rewards, fitted))
    assert abs(rewards.mean()) < 1e-6 and rewards.std() == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(bounded, 1 / (1 + np.exp(-rewards)), atol=1e-12)
    assert (fitted.bounded(np.array([-1e9, 1e9, np.nan])) >= 0).tolist() == [True, True, False]
    with pytest.raises(ValueError, match="no scale"):
        one.calibrated([1.0, 1.0])


def test_a_trained_network_comes_back_from_its_folder_with_shift_and_scale(tmp_path):
    made = scorer().calibrated([0.0, 1.0])
    made.save(tmp_path)
    back = load_scorer(tmp_path)
    assert isinstance(back, PreferenceScorer) and (back.shift, back.scale) == (0.5, 0.5)
    completions = [completion(text) for text in ANSWERS]
    np.testing.assert_allclose(
        asyncio.run(back(PROMPT, completions)), asyncio.run(made(PROMPT, completions)), atol=1e-6
    )
    assert json.loads((tmp_path / FACTS).read_text())["template"] == template_hash(TOKENIZER)


@pytest.fixture
def frozen(tmp_path) -> Path:
    """Two reward models over one frozen network, which lies beside them."""
    save_model(tiny_model(window=128, hidden_size=16, intermediate_size=32), tmp_path / "policy")
    TOKENIZER.save(str(tmp_path / "policy"))
    for seed in (1, 2):
        one = scorer(seed=seed, model=str(tmp_path / "policy"))
        one.calibrated(one.raw_groups([one.reader.group(PROMPT, ANSWERS)])[0]).save(tmp_path / f"rm{seed}")
    return tmp_path


def test_a_frozen_network_is_named_and_not_copied_and_must_be_the_same(frozen):
    assert not (frozen / "rm1" / "trunk").exists()
    load_scorer(frozen / "rm1")
    save_model(tiny_model(seed=5, window=128, hidden_size=16, intermediate_size=32), frozen / "policy")
    with pytest.raises(ConfigError, match="other weights"):
        load_scorer(frozen / "rm1")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"template": "0" * 16}, "frames or spells"), ({"layers": []}, "layers"), ({"pool": "max"}, "pool"),
        ({"scale": 0}, "must be positive"), ({"shift": "x"}, "finite number"), ({"dtype": "nonsense"}, "dtype"),
    ],
)  # fmt: skip
def test_a_folder_that_was_changed_is_one_clear_error(frozen, changes, says):
    path = frozen / "rm1" / FACTS
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(ConfigError, match=says):
        load_scorer(frozen / "rm1")


def test_an_ensemble_says_the_lowest_or_the_mean_of_its_standardised_members(frozen):
    members = [load_scorer(frozen / f"rm{i}") for i in (1, 2)]
    assert members[0].reader is members[1].reader  # one network, one pass
    completions = [completion(text) for text in ANSWERS]
    each = np.array([asyncio.run(member.rewards(PROMPT, completions)) for member in members])
    for reduce, expected in (("min", each.min(0)), ("mean", each.mean(0))):
        save_ensemble(frozen / reduce, [frozen / "rm1", frozen / "rm2"], reduce=reduce)
        found = load_scorer(frozen / reduce)
        assert isinstance(found, PreferenceEnsemble) and not found.reads_reasoning
        np.testing.assert_allclose(asyncio.run(found.rewards(PROMPT, completions)), expected, atol=1e-5)
        group = members[0].group_of(PROMPT, completions)
        np.testing.assert_allclose(found.score([group])[0], 1 / (1 + np.exp(-expected)), atol=1e-5)
    assert (each.argmin(0) != each.argmin(0)[0]).any()  # or min would be one member
    assert fingerprint(frozen / "min") != fingerprint(frozen / "mean")
    path = frozen / "min" / "member_0" / FACTS
    path.write_text(json.dumps(json.loads(path.read_text()) | {"shift": 9.0}))
    with pytest.raises(ConfigError, match="is not the scorer"):
        load_scorer(frozen / "min")
    with pytest.raises(ConfigError, match="no ensemble"):
        save_ensemble(frozen / "one", [frozen / "rm1"])


def test_the_probe_takes_what_the_sampler_kept_and_reads_again_what_other_weights_kept(frozen):
    one = PreferenceProbe(head(32), name="fast", policy="abc", model=str(frozen / "policy"), shift=0.5, scale=2.0)
    texts = ["4", "five", "six"]
    ids = [completion(text, reasoning="so") for text in texts]
    states = one.states([CompletionGroup.of(ids[0].prompt_ids, [c.token_ids for c in ids])])[0]
    kept = [completion(text, reasoning="so", hidden=row) for text, row in zip(texts, states, strict=True)]
    later = [
        completion(text, reasoning="so", hidden=row * 0 + 7, version=3) for text, row in zip(texts, states, strict=True)
    ]
    expected = asyncio.run(one.rewards(PROMPT, kept))
    for other in (ids, later):
        np.testing.assert_allclose(asyncio.run(one.rewards(PROMPT, other)), expected, atol=1e-5)
    assert np.ptp(expected) > 0.05 and one.reads_reasoning and one.needs == {"hidden"}
    one.save(frozen / "fast")
    back = load_scorer(frozen / "fast")
    assert (back.shift, back.scale) == (0.5, 2.0)
    np.testing.assert_allclose(asyncio.run(back(PROMPT, kept)), asyncio.run(one(PROMPT, kept)), atol=1e-6)
    with pytest.raises(ValueError, match="hidden states of 8"):
        one.raw_states(np.zeros((1, 8), np.float32))
