"""Reward models are trained from comparisons: the loss as TRL writes it, whole prompts, resume, folders in use."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import random
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ponder.config import ConfigError
from ponder.files import read_jsonl
from ponder.models.tokenizer import ByteTokenizer
from ponder.models.weights import save_model
from ponder.scorers import load_scorer
from ponder.scorers.preference import PreferenceScorer
from ponder.scorers.preference_ensemble import PreferenceEnsemble
from ponder.scorers.reader import Reader
from ponder.scorers.reward import TRAINED_ON
from ponder.tasks.preferences import load_comparisons, opening
from ponder.train import scorer_preference
from ponder.train.distributed import Trainer
from ponder.train.estimate import estimate_scorer
from ponder.train.preference_examples import Grouped, JudgedPrompt, Judgements, Pair, judged
from ponder.train.preference_loss import PreferenceLoss, pair_batches, preference_loss
from ponder.train.scorer import configure, train_scorer
from ponder.types import Comparison
from tests.helpers import tiny_model, user

CHOSEN, REJECTED, MARGIN = torch.tensor([1.0, -0.5, 2.0]), torch.tensor([0.3, 0.4, -1.0]), torch.tensor([0.0, 1.0, 2.0])


def ours(margin: torch.Tensor, centre: float) -> float:
    """Half of the pairs the other way round: which side the preferred answer is on changes nothing."""
    rewards = torch.stack([CHOSEN, REJECTED], 1).flatten()
    pairs, target = torch.tensor([[0, 3, 4], [1, 2, 5]]), torch.tensor([1.0, 0.0, 1.0])
    fit, centring = preference_loss(rewards, pairs, target, torch.full((3,), 1 / 3), margin, centre=centre)
    return float(fit + centring)


@pytest.mark.parametrize("margin", [torch.zeros(3), MARGIN])
@pytest.mark.parametrize("centre", [0.0, 0.01])
def test_the_loss_is_trls_formula(margin, centre):
    theirs = -F.logsigmoid(CHOSEN - REJECTED - margin).mean() + centre * ((CHOSEN + REJECTED) ** 2).mean()
    assert ours(margin, centre) == pytest.approx(float(theirs), abs=1e-6)


@pytest.mark.parity
@pytest.mark.skipif(
    importlib.util.find_spec("trl") is None, reason='TRL is not installed: pip install "ponder[parity]"'
)
def test_the_loss_is_trls_own():
    import trl

    class Network(torch.nn.Module):
        def forward(self, **inputs):
            return SimpleNamespace(logits=torch.cat([CHOSEN, REJECTED])[:, None])

    trainer = trl.RewardTrainer.__new__(trl.RewardTrainer)  # its loss needs none of what its start loads
    trainer.args = SimpleNamespace(center_rewards_coefficient=0.01)
    gathered = SimpleNamespace(gather_for_metrics=lambda x: x, gather=lambda x: x)
    trainer.accelerator, trainer._metrics, trainer._total_train_tokens = gathered, _Ledger(), 0
    trainer.model = network = Network().eval()
    inputs = {"input_ids": torch.ones(6, 2, dtype=torch.long), "attention_mask": torch.ones(6, 2), "margin": MARGIN}
    theirs = trainer.compute_loss(network, inputs)
    assert ours(MARGIN, 0.01) == pytest.approx(float(theirs), abs=1e-6)


class _Ledger(dict):
    """Metrics by mode and name, made when they are first asked for."""

    def __missing__(self, key):
        self[key] = _Ledger() if key in ("train", "eval") else []
        return self[key]


def reader(window: int = 128) -> Reader:
    return Reader(tiny_model(window=window, hidden_size=16, intermediate_size=32), ByteTokenizer())


EXAMPLES = [
    JudgedPrompt(
        prompt=user("p"), answers=("aa", "b", "cccc"), opening="1",
        pairs=(Pair(0, 1, 1.0), Pair(2, 1, 0.0, strength=2.0), Pair(0, 2, 0.5)),
    ),
    JudgedPrompt(prompt=user("longer q"), answers=("x", "yy"), pairs=(Pair(0, 1, 0.0),), opening="2"),
]  # fmt: skip


def test_pairs_of_a_prompt_are_one_example_in_one_pack_and_weigh_one_together():
    found = Grouped.of(EXAMPLES, reader())
    for limit, parts in ((10_000, 1), (1, 2)):
        batches = pair_batches(found.examples, found.groups, max_tokens=limit, margin=0.5)
        assert len(batches) == parts  # a prompt is never divided, however small the pack
        assert sum(batch.weight_P.sum() for batch in batches) == pytest.approx(1)
    np.testing.assert_allclose(batches[0].weight_P, 1 / 6)
    np.testing.assert_allclose(batches[0].margin_P, [0, 1.0, 0])  # half of the strength, and none for a tie


def test_the_gradient_is_that_of_the_loss_and_does_not_depend_on_the_packing():
    found, loss = Grouped.of(EXAMPLES, reader()), PreferenceLoss("mean", 0.1)
    head = {"score.weight": torch.linspace(-1, 1, 16), "score.bias": torch.zeros(1)}
    sums, gradients = [], []
    for limit in (1, 10_000):
        with Trainer(reader().model, num_workers=0, head=head) as trainer:
            parts = pair_batches(found.examples, found.groups, max_tokens=limit)
            sums.append(trainer.backward(parts, loss)["loss"])
            gradients.append(torch.cat([p.grad.flatten().clone() for p in trainer.parameters.values()]))
            rewards = torch.cat(trainer.values(parts, loss)).double().numpy()
    assert sums[0] == pytest.approx(sums[1], abs=1e-5) and torch.allclose(gradients[0], gradients[1], atol=1e-4)
    pairs = Judgements.of(EXAMPLES).pairs
    d, s = rewards[pairs.first] - rewards[pairs.second], rewards[pairs.first] + rewards[pairs.second]
    each = np.logaddexp(0, -d) * pairs.target + np.logaddexp(0, d) * (1 - pairs.target) + 0.1 * s**2
    assert sums[1] == pytest.approx(float(pairs.weight @ each) / 2, abs=1e-5)


def test_a_pair_that_does_not_fit_is_left_out_and_counted_and_its_others_stay():
    long = JudgedPrompt(
        prompt=user("p"), answers=("a", "b" * 60, "c"), pairs=(Pair(0, 1, 1.0), Pair(2, 0, 1.0)), opening="1"
    )  # fmt: skip
    found = Grouped.of([long, EXAMPLES[1]], reader(window=32))
    assert found.num_too_long == 1 and found.examples[0].answers == ("a", "c")
    assert found.examples[0].pairs == (Pair(1, 0, 1.0),)
    assert [len(group) for group in found.groups] == [2, 2]


def test_comparisons_of_one_prompt_share_it_and_its_answers():
    rows = [
        Comparison(id="1", prompt=user("p"), a="x", b="y", preferred="a"),
        Comparison(id="2", prompt=user("q"), a="x", b="y", preferred="tie"),
        Comparison(id="3", prompt=user("p"), a="z", b="x", preferred="b", strength=2.0),
    ]
    first, second = judged(rows)
    assert first.answers == ("x", "y", "z") and first.pairs == (Pair(0, 1, 1.0), Pair(2, 0, 0.0, 2.0))
    assert second.pairs == (Pair(0, 1, 0.5),) and first.opening == opening(rows[0])


# ---- whole runs ------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path) -> Path:
    save_model(reader().model, tmp_path / "policy")
    ByteTokenizer().save(str(tmp_path / "policy"))
    draw = random.Random(0)
    yes, no = (lambda: draw.choice(["yes", "sure"])), (lambda: draw.choice(["no", "bad"]))
    rows = [{"question": f"q{i}?", "chosen": f"{yes()}{i % 7}", "rejected": f"{no()}{i % 5}"} for i in range(160)]
    (tmp_path / "votes.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return tmp_path


def config(folder: Path, **changes: object):
    return configure(
        {
            "kind": "preference", "model": str(folder / "policy"), "comparisons": f"file:{folder}/votes.jsonl",
            "out": str(folder / "run"), "num_workers": 0,
        }
        | changes
    )  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "made"),
    [
        ({"layers": [1, 2]}, PreferenceScorer), ({"members": 3, "label_smoothing": 0.1}, PreferenceEnsemble),
        ({"trunk": "trained", "num_epochs": 1, "lr": 1e-2, "lora_rank": 2, "warmup_steps": 2}, PreferenceScorer),
    ],
    ids=["frozen", "ensemble", "trained"],
)  # fmt: skip
def test_a_reward_model_is_trained_opened_and_right_on_prompts_it_has_not_seen(folder, changes, made):
    job = config(folder, **changes)
    assert estimate_scorer(job)["minutes"] >= 0
    train_scorer(job)
    result = json.loads((folder / "run" / "result.json").read_text())
    assert result["dev"]["accuracy"] > 0.9 and result["too_long"] == 0 and result["kind"] == "preference"
    assert any("prefers answer A" in note for note in result["notes"])
    scorer = load_scorer(folder / "run")
    assert isinstance(scorer, made) and scorer.policy == ""
    spec = f"file:{folder}/votes.jsonl"
    report = load_comparisons(spec, split="report").comparisons
    seen = set((folder / "run" / "scorer" / TRAINED_ON).read_text().split())
    assert not seen & {opening(c) for c in report}
    assert seen == {opening(c) for c in load_comparisons(spec).comparisons} - {opening(c) for c in report}
    right = []
    for c in report:
        a, b = scorer.raw(c.prompt, [_answered(c.a), _answered(c.b)])
        right.append((a > b) == (c.preferred == "a"))
    assert np.mean(right) > 0.9


def _answered(text: str):
    from ponder.evals.preference import _completion

    return _completion(text)


def rewritten(folder: Path, of_dev) -> None:
    """The rows of the dev split as `of_dev` wants them: several for one."""
    rows = [json.loads(line) for line in (folder / "votes.jsonl").read_text().splitlines()]
    dev = {c.prompt[-1].content for c in load_comparisons(f"file:{folder}/votes.jsonl", split="dev").comparisons}
    found = [new for row in rows for new in (of_dev(row) if row["question"] in dev else [row])]
    (folder / "votes.jsonl").write_text("\n".join(map(json.dumps, found)))


TRAINED = {"trunk": "trained", "num_epochs": 1, "lr": 1e-2, "lora_rank": 2, "warmup_steps": 2, "problems_per_step": 32}


def test_where_people_told_nothing_apart_the_loss_chooses_the_moment_to_stop(folder):
    """Every comparison of the dev split is a tie: no step has an accuracy, and one is the best all the same."""
    tie = lambda row: [{"question": row["question"], "a": row["chosen"], "b": row["rejected"], "preferred": "tie"}]
    rewritten(folder, tie)
    train_scorer(config(folder, **TRAINED))
    result = json.loads((folder / "run" / "result.json").read_text())
    assert result["dev"]["accuracy"] is None and result["dev"]["ties"] > 0 and result["best_step"] > 0
    assert isinstance(load_scorer(folder / "run"), PreferenceScorer)


def test_an_answer_that_was_too_long_to_read_does_not_shift_the_rewards_of_those_after_it(folder):
    """The step is chosen by what is told of it at the end."""

    def with_a_long_one(row):
        return [{**row, "rejected": "b" * 200}, row]

    rewritten(folder, with_a_long_one)
    train_scorer(config(folder, **TRAINED))
    result = json.loads((folder / "run" / "result.json").read_text())
    checks = {row["step"]: row for row in read_jsonl(folder / "run" / "metrics.jsonl") if "held/accuracy" in row}
    best = checks[result["best_step"] - 1]
    assert result["too_long"] > 0 and best["held/accuracy"] == pytest.approx(result["dev"]["accuracy"])
    assert best["held/bce"] is not None


def test_shift_and_scale_are_those_of_held_out_answers(folder):
    train_scorer(config(folder))
    scorer = load_scorer(folder / "run")
    dev = load_comparisons(f"file:{folder}/votes.jsonl", split="dev").comparisons
    said = [asyncio.run(scorer.rewards(c.prompt, [_answered(c.a), _answered(c.b)])) for c in dev]
    assert np.mean(said) == pytest.approx(0, abs=1e-3) and np.std(said) == pytest.approx(1, abs=1e-3)


def test_a_stopped_run_reads_no_answer_twice(folder, monkeypatch):
    monkeypatch.setattr(scorer_preference, "CHUNK", 16)
    read = []
    original = Reader.features
    monkeypatch.setattr(Reader, "features", lambda self, groups: read.append(len(groups)) or original(self, groups))
    train_scorer(config(folder))
    first = (folder / "run" / "scorer" / "head.safetensors").read_bytes()
    count = len(read)
    next((folder / "run" / "features").rglob("00002.npy")).unlink()
    train_scorer(config(folder))
    assert read[count:] == [16]
    assert (folder / "run" / "scorer" / "head.safetensors").read_bytes() == first


@pytest.mark.parametrize("damage", ["empty", "cut", "short", "other"])
def test_a_chunk_of_features_that_is_damaged_is_read_again(damage, tmp_path, monkeypatch):
    monkeypatch.setattr(scorer_preference, "_identity", lambda *_: "x")
    grouped, read = SimpleNamespace(groups=[[0] * 2, [0] * 3]), []

    class Double:
        def features(self, groups):
            read.append(len(groups))
            return [np.arange(2.0 * len(group), dtype=np.float32).reshape(-1, 2) for group in groups]

    whole = scorer_preference.features(Double(), grouped, tmp_path, "network")
    (path,) = tmp_path.rglob("*.npy")
    content = path.read_bytes()
    if damage in ("empty", "cut"):
        path.write_bytes(content[: 100 * (damage == "cut")])
    else:
        np.save(path, np.zeros((4, 2), np.float32) if damage == "short" else np.zeros((5, 2), np.int64))
    for _ in range(2):
        assert np.array_equal(scorer_preference.features(Double(), grouped, tmp_path, "network"), whole)
    assert read == [2, 2] and path.read_bytes() == content


def test_mistakes_are_said_before_anything_is_read(folder):
    with pytest.raises(ValueError, match="of a frozen network"):
        config(folder, trunk="trained", members=2)
    (folder / "votes.jsonl").write_text(
        "\n".join(json.dumps({"question": f"q{i}", "a": "x", "b": "y", "preferred": "tie"}) for i in range(60))
    )
    with pytest.raises(ConfigError, match="every comparison that may be trained on is a tie"):
        train_scorer(config(folder))


def test_a_reward_model_whose_training_was_stopped_says_what_it_was_trained_on(tmp_path, monkeypatch):
    def stopped(job):
        raise KeyboardInterrupt

    monkeypatch.setattr(scorer_preference, "_trained", stopped)
    config, of = SimpleNamespace(trunk="trained"), lambda name: SimpleNamespace(opening=name)
    with pytest.raises(KeyboardInterrupt):
        scorer_preference.train(SimpleNamespace(config=config, train=[of("b")], held=[of("a")], folder=tmp_path / "s"))
    assert (tmp_path / "s" / TRAINED_ON).read_text() == "a\nb\n"
