"""Scorers over token ids: packed equals naive, whatever they are scored beside; folders, policies, costs."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ponder import processes
from ponder.config import ConfigError
from ponder.models.weights import save_model
from ponder.scorers import check_policy, load_scorer
from ponder.scorers.files import fingerprint
from ponder.scorers.outcome import BIAS, LOGPROB_WEIGHT, WEIGHT, OutcomeScorer
from ponder.scorers.packing import CompletionGroup, logprob_features, packs
from ponder.scorers.pool import score_chunks
from ponder.scorers.process import ProcessScorer
from ponder.types import Completion
from tests.helpers import tiny_model, user

rng = np.random.default_rng(0)
HEAD = {WEIGHT: torch.randn(32, generator=torch.Generator().manual_seed(1)) / 4, BIAS: torch.tensor([0.3])}
GROUPS = [
    CompletionGroup.of([1, 2, 3], [[4, 5, 6], [7], [], [4, 5, 6], [10, 8, 10, 9, 10, 11]]),
    CompletionGroup.of([9], [[1] * 20, [2] * 3]),
    CompletionGroup.of(list(range(30)), [list(range(k)) for k in (40, 3, 0, 17)]),
]


def make(cls=OutcomeScorer, **options):
    return cls(tiny_model(), HEAD, name="tiny", policy="abc", **options)


def naive(scorer, prompt, completion):
    """One sequence at a time through the readable forward pass."""
    with torch.no_grad():
        hidden = scorer.model.hidden(torch.tensor([[*prompt, *completion]]))[0]
    logits = hidden @ HEAD[WEIGHT] + HEAD[BIAS]
    return torch.sigmoid(scorer.scale * logits + scorer.shift).double().numpy()


def rows(group):
    ends = np.cumsum(group.lengths)
    return [group.token_ids[e - n : e].tolist() for e, n in zip(ends, group.lengths, strict=True)]


def completion(prompt, ids, seed=0):
    return Completion(
        prompt_ids=tuple(prompt), token_ids=tuple(ids), sampler_logprobs=(-0.5,) * len(ids), sampled=(True,) * len(ids),
        finish_reason="stop", reasoning="", answer=str(ids), num_reasoning_tokens=0, seed=seed,
    )  # fmt: skip


@pytest.mark.parametrize("max_tokens", [8, 64, 4096])
def test_a_packed_scorer_gives_the_scores_of_the_naive_one(max_tokens):
    scorer = make(scale=1.5, shift=-0.2, max_tokens=max_tokens)
    for group, scores in zip(GROUPS, scorer.score(GROUPS), strict=True):
        for ids, score in zip(rows(group), scores, strict=True):
            assert score == pytest.approx(naive(scorer, group.prompt_ids, ids)[-1], abs=1e-5)


def test_a_completion_has_the_same_score_alone_and_beside_others():
    scorer = make()
    together = scorer.score(GROUPS)
    for group, scores in zip(GROUPS, together, strict=True):
        for ids, score in zip(rows(group), scores, strict=True):
            alone = scorer.score([CompletionGroup.of(group.prompt_ids, [ids])])[0][0]
            assert alone == pytest.approx(score, abs=1e-5)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.lists(st.integers(0, 9), min_size=1, max_size=6), st.lists(st.lists(st.integers(0, 9), max_size=5))
        ),
        max_size=6,
    ),
    st.integers(1, 40),
)
def test_packs_hold_every_completion_once_after_its_prompt(problems, max_tokens):
    groups = [CompletionGroup.of(prompt, completions) for prompt, completions in problems]
    seen = []
    for pack in packs(groups, max_tokens=max_tokens):
        row = 0
        for group, first, end in pack.slices:
            prompt = problems[group][0]
            for i in range(first, end):
                start, last = pack.first_B[row], pack.last_B[row]
                assert pack.tokens_N[start : last + 1].tolist() == problems[group][1][i]
                at = pack.prompt_last_B[row]
                assert pack.tokens_N[at + 1 - len(prompt) : at + 1].tolist() == prompt
                seen.append((group, i))
                row += 1
        assert row == len(pack.last_B)
        assert len(pack.tokens_N) <= max_tokens or len(pack.last_B) == 1
    assert seen == [(i, j) for i, (_, completions) in enumerate(problems) for j in range(len(completions))]


@given(st.lists(st.lists(st.integers(0, 3), max_size=3), max_size=12))
def test_unique_keeps_one_of_each_and_the_index_of_each(completions):
    distinct, inverse = CompletionGroup.of([5], completions).unique()
    kept = rows(distinct)
    assert len({tuple(ids) for ids in kept}) == len(kept)
    assert [kept[i] for i in inverse] == completions


def test_the_samplers_logprobs_are_used_where_they_were_trained_on():
    head = HEAD | {LOGPROB_WEIGHT: torch.randn(4, 32, generator=torch.Generator().manual_seed(2))}
    scorer = OutcomeScorer(tiny_model(), head, name="s", policy="")
    known = np.array([-1, -2, -0.5, -9, -1], np.float32)
    group = replace(CompletionGroup.of([1, 2], [[3, 4], [5, 6, 7]]), logprobs=known)
    together = scorer.score([group, GROUP_WITH_LOGPROBS])[0]
    for row, (ids, logprobs) in enumerate((([3, 4], [-1, -2]), ([5, 6, 7], [-0.5, -9, -1]))):
        alone = replace(CompletionGroup.of([1, 2], [ids]), logprobs=np.array(logprobs, np.float32))
        assert scorer.score([alone])[0][0] == pytest.approx(together[row], abs=1e-5)
    calmer = replace(group, logprobs=np.zeros(5, np.float32))
    assert abs(scorer.score([calmer])[0] - together).max() > 1e-3
    with pytest.raises(ValueError, match="logprobs"):
        scorer.score([CompletionGroup.of([1], [[2]])])


GROUP_WITH_LOGPROBS = replace(CompletionGroup.of([9], [[1, 1]]), logprobs=np.array([-3, -4], np.float32))


@given(st.lists(st.lists(st.floats(-20, 0), max_size=4), max_size=5))
def test_logprob_features_are_the_logprob_the_lowest_and_the_mean_so_far(rows):
    flat, lengths = np.array([x for row in rows for x in row], np.float32), np.array([len(row) for row in rows], int)
    found = logprob_features(flat, lengths)
    expected = []
    for row in rows:
        row = [max(x, -10.0) for x in row]
        expected += [[x, min(row[: i + 1]), sum(row[: i + 1]) / (i + 1), 1.0] for i, x in enumerate(row)]
    np.testing.assert_allclose(found, np.array(expected).reshape(-1, 4), atol=1e-4)


def test_a_strategy_that_calls_it_gets_the_scores_in_its_order():
    scorer = make()
    mixed = [completion([1, 2], [3]), completion([5], [6, 7]), completion([1, 2], [4, 4])]
    scores = asyncio.run(scorer(user("?"), mixed))
    for c, score in zip(mixed, scores, strict=True):
        assert score == pytest.approx(naive(scorer, c.prompt_ids, c.token_ids)[-1], abs=1e-5)
    assert asyncio.run(scorer(user("?"), [])) == []
    assert scorer.cost(mixed) == 2 + 1 + 1 + 2 + 2  # each prompt once


def test_process_scores_combine_the_ends_of_steps():
    prompt, ids = [1, 2], [4, 10, 5, 10, 6]
    by = {name: make(ProcessScorer, step_ids=[10], aggregate=name) for name in ("last", "min", "product")}
    every = naive(by["last"], prompt, ids)[2:]
    ends = every[[1, 3, 4]]
    for name, expected in (("last", ends[-1]), ("min", ends.min()), ("product", ends.prod())):
        assert by[name].score([CompletionGroup.of(prompt, [ids, []])])[0][0] == pytest.approx(expected, abs=1e-4)


def test_step_ends_in_the_prompt_do_not_count():
    scorer = make(ProcessScorer, step_ids=[10], aggregate="product")
    assert scorer.score([CompletionGroup.of([10, 10, 3], [[4]])])[0][0] == pytest.approx(
        naive(scorer, [10, 10, 3], [4])[-1], abs=1e-5
    )


@pytest.mark.parametrize("kind", ["outcome", "process"])
def test_a_saved_scorer_comes_back_the_same(tmp_path, kind):
    scorer = make(ProcessScorer, step_ids=[10], scale=2.0) if kind == "process" else make(scale=2.0, shift=0.1)
    scorer.save(tmp_path / "run" / "scorer")
    back = load_scorer(tmp_path / "run")  # the run that trained it will do
    assert (back.kind, back.name, back.policy) == (kind, "tiny", "abc")
    for a, b in zip(scorer.score(GROUPS), back.score(GROUPS), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    before = fingerprint(tmp_path / "run")
    make(scale=2.5).save(tmp_path / "run" / "scorer")
    assert fingerprint(tmp_path / "run") != before


@pytest.mark.slow
def test_workers_give_the_scores_of_one_process(tmp_path):
    scorer = make()
    scorer.save(tmp_path)
    found = dict(score_chunks(tmp_path, [GROUPS[:1], GROUPS[1:], []], num_workers=2))
    for a, b in zip([*found[0], *found[1]], scorer.score(GROUPS), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    assert found[2] == []


def scoring_processes():
    return [process for process in multiprocessing.active_children() if process.name == "ponder-scorer"]


@pytest.mark.slow
@pytest.mark.parametrize("dies", ["at its start", "at work"])
def test_a_worker_that_dies_is_an_error_and_the_others_end(tmp_path, dies, monkeypatch):
    """Also those that were still starting, which hear no signal that asks."""
    make().save(tmp_path)
    workers = []

    def start(*arguments, **options):
        workers.append(started(*arguments, **options))
        if dies == "at its start":
            workers[0][1].kill()
        return workers[-1]

    started = processes.start
    monkeypatch.setattr(processes, "start", start)
    with pytest.raises(RuntimeError, match=r"a scoring process ended \(exit code -9\)"):
        for _ in score_chunks(tmp_path, [GROUPS[:1]] * 2000, num_workers=2):
            workers[0][1].kill()
    assert len(workers) == 2 and not any(worker.is_alive() for _, worker in workers)


@pytest.mark.slow
def test_scoring_that_is_given_up_leaves_no_worker(tmp_path):
    make().save(tmp_path)
    scored = score_chunks(tmp_path, [GROUPS[:1]] * 2000, num_workers=2)
    next(scored)
    assert len(scoring_processes()) == 2
    scored.close()
    assert not scoring_processes()


@pytest.mark.slow
def test_what_a_worker_fails_of_is_said(tmp_path):
    make().save(tmp_path)
    (tmp_path / "head.safetensors").unlink()
    with pytest.raises(RuntimeError, match="scoring failed: ConfigError: .*missing"):
        list(score_chunks(tmp_path, [GROUPS[:1]], num_workers=1))


def test_the_wrong_policy_warns_and_the_right_or_an_unknown_one_does_not():
    scorer = make()
    with pytest.warns(UserWarning, match="trained for the policy abc, not for xyz"):
        assert not check_policy(scorer, "xyz")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert check_policy(scorer, "abc")
        assert check_policy(scorer, "")


def _break(folder, name, data):
    (folder / name).write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda f: (f / "scorer.json").unlink(), "no scorer in"),
        (lambda f: _break(f, "scorer.json", b"{"), "not readable JSON"),
        (lambda f: _break(f, "scorer.json", b"[" * 100_000), "not readable JSON"),
        (lambda f: _break(f, "scorer.json", b'{"format": 2}'), "another format"),
        (lambda f: _break(f, "scorer.json", b'{"format": 1, "kind": "outcom"}'), "did you mean 'outcome'"),
        (lambda f: _change(f, name=3), "name = 3 must be text"),
        (lambda f: _change(f, scale="2"), "scale = '2' must be a finite number"),
        (lambda f: _change(f, scale=0), "must be positive"),
        (lambda f: _change(f, shift=float("nan")), "shift = nan must be a finite number"),
        (lambda f: _change(f, kind="process"), "step_ids must be a list"),
        (lambda f: _break(f, "head.safetensors", b"x" * 9), "damaged"),
        (lambda f: (f / "head.safetensors").unlink(), "missing"),
        (lambda f: (f / "trunk" / "model.safetensors").unlink(), "no usable network"),
        (lambda f: _break(f, "trunk/config.json", b"{}"), "no usable network"),
        (lambda f: save_model(tiny_model(hidden_size=16), f / "trunk"), "belongs to another network"),
    ],
)
def test_a_damaged_or_foreign_folder_is_one_clear_error(tmp_path, damage, says):
    make().save(tmp_path)
    damage(tmp_path)
    with pytest.raises(ConfigError, match=says):
        load_scorer(tmp_path)


def _change(folder, **facts):
    path = folder / "scorer.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | facts))


def test_a_model_folder_is_distinguished_from_a_scorer(tmp_path):
    save_model(tiny_model(), tmp_path)
    with pytest.raises(ConfigError, match="it is a model"):
        load_scorer(tmp_path)
    with pytest.raises(ConfigError, match="no scorer in"):
        load_scorer(tmp_path / "nowhere")


def test_ids_the_network_cannot_process_are_refused():
    scorer = make()
    with pytest.raises(ValueError, match="another tokenizer"):
        scorer.score([CompletionGroup.of([1], [[40_000]])])
    with pytest.raises(ValueError, match="window"):
        scorer.score([CompletionGroup.of([1], [[2] * 128])])
    with pytest.raises(ValueError, match="no token ids"):
        CompletionGroup.of([], [[1]])


def test_nothing_to_score_is_nothing():
    assert make().score([]) == []
    assert [x.tolist() for x in make().score([CompletionGroup.of([1], [])])] == [[]]
