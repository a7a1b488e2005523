"""Training a scorer: the packed loss is the naive one, problems are held out, hopeless data is refused, runs resume."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ponder.config import ConfigError
from ponder.engine.local import LocalEngine
from ponder.files import InUse, read_jsonl
from ponder.models import lora
from ponder.models.tokenizer import ByteTokenizer
from ponder.models.weights import save_model
from ponder.runs import Run
from ponder.scorers import load_scorer
from ponder.scorers.calibration import auc_within
from ponder.scorers.outcome import BIAS, WEIGHT, OutcomeScorer
from ponder.scorers.packing import CompletionGroup
from ponder.train import scorer_network, scorer_outcome, scorer_probe, scorer_rollouts, state
from ponder.train.distributed import Trainer
from ponder.train.scorer import configure, load_recipe, train_scorer
from ponder.train.scorer_examples import ScorerConfig, figures
from ponder.train.scorer_features import unseen_by
from ponder.train.scorer_loss import Balance, ScoreLoss, batches, outcome_example, process_example
from ponder.train.scorer_network import order
from ponder.train.scorer_recipe import ScorerJob
from ponder.train.scorer_rollouts import Drawn, DrawPlan, split
from ponder.types import SamplingParams
from tests.helpers import LowercaseTask, tiny_model

pytestmark = pytest.mark.slow

TASK = "tests.helpers:LowercaseTask"


def drawn(name, prompt, completions, correct, steps=()):
    group = CompletionGroup.of(prompt, completions)
    group = replace(
        group,
        logprobs=np.full(len(group.token_ids), -0.5, np.float32),
        was_cut=np.zeros(len(completions), bool),
        classes=np.arange(len(completions)),
    )
    return Drawn(name, group, np.array(correct, float), tuple(steps))


ITEMS = [
    drawn("a", [1, 2], [[3, 4, 5], [6], [3, 4, 5], [7, 8]], [1, 0, 1, 0], [(0, 2, 0.5), (3, 1, 0.25)]),
    drawn("b", [9, 9, 9], [[1, 2], [2, 1, 1, 1]], [0, 1]),
    drawn("c", [5], [[5, 5], [4, 4]], [0, 0]),
]


def naive_loss(model, head, items, examples, *, pairwise, late):
    """The definition, one sample at a time."""
    balance = Balance.of(examples)
    n = sum(len(item.correct) for item in items)
    tokens, pairs = torch.zeros(()), []
    for item in items:
        ends = np.cumsum(item.group.lengths)
        finals = []
        for end, length, y in zip(ends, item.group.lengths, item.correct, strict=True):
            ids = item.group.token_ids[end - length : end]
            hidden = model.hidden(torch.tensor([[*item.group.prompt_ids, *ids]]))[0, len(item.group.prompt_ids) :]
            logits = hidden @ head[WEIGHT] + head[BIAS]
            raw = ((torch.arange(length) + 1) / length) ** late
            each = F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, y), reduction="none")
            tokens = tokens + (balance.right if y else balance.wrong) / n * (each * raw / raw.sum()).sum()
            finals.append(logits[-1])
        rights, wrongs = (np.flatnonzero((item.correct > 0.5) == side) for side in (True, False))
        if len(rights) and len(wrongs):
            pairs.append(torch.stack([F.softplus(finals[w] - finals[r]) for r in rights for w in wrongs]).mean())
    return tokens + pairwise * sum(pairs) / len(pairs)


@pytest.mark.parametrize("rank", [0, 4])
def test_gradients_of_the_packed_scorer_are_those_of_the_naive_one(rank):
    start = {WEIGHT: torch.randn(32, generator=torch.Generator().manual_seed(0)) / 4, BIAS: torch.zeros(1)}
    examples = [outcome_example(item, late=1.5) for item in ITEMS]
    model = tiny_model()
    adapter = lora.fresh(model, rank, 0) if rank else None
    trainer = Trainer(model, num_workers=0, adapter=adapter, head=start)
    parts = batches(examples, Balance.of(examples), max_tokens=64, seed=0)
    sums = trainer.backward(parts, ScoreLoss(0.0, 0.7))
    twin = tiny_model()
    head = {name: tensor.clone().requires_grad_(True) for name, tensor in start.items()}
    loss = naive_loss(twin, head, ITEMS, examples, pairwise=0.7, late=1.5)
    loss.backward()
    assert sums["loss"] == pytest.approx(loss.item(), rel=1e-5)
    for name, tensor in head.items():
        torch.testing.assert_close(trainer.parameters[name].grad, tensor.grad, atol=1e-5, rtol=1e-4)
    if not rank:
        for name, parameter in twin.named_parameters():
            torch.testing.assert_close(trainer.parameters[name].grad, parameter.grad, atol=1e-5, rtol=1e-3)
    else:
        assert not any(name.endswith("embed_tokens.weight") for name in trainer.parameters)


def test_how_problems_are_cut_into_packs_changes_neither_loss_nor_values():
    examples = [outcome_example(item, late=1.0) for item in ITEMS]
    head = {WEIGHT: torch.ones(32) / 8, BIAS: torch.zeros(1)}
    trainer = Trainer(tiny_model(), num_workers=0, head=head)
    job = ScoreLoss(0.0, 0.0)  # pairs are those inside a pack
    whole = batches(examples, Balance.of(examples), max_tokens=500, seed=0)
    cut = batches(examples, Balance.of(examples), max_tokens=6, seed=0)
    assert len(cut) > len(whole)
    assert trainer.backward(whole, job)["loss"] == pytest.approx(trainer.backward(cut, job)["loss"], rel=1e-5)
    torch.testing.assert_close(torch.cat(trainer.values(whole, job)), torch.cat(trainer.values(cut, job)))


def test_two_processes_learn_what_one_does():
    examples = [outcome_example(item, late=1.0) for item in ITEMS]
    parts = batches(examples, Balance.of(examples), max_tokens=8, seed=3)
    head = {WEIGHT: torch.ones(32) / 8, BIAS: torch.zeros(1)}
    alone = Trainer(tiny_model(), num_workers=0, head=head)
    expected = alone.backward(parts, ScoreLoss(0.2, 0.5))
    alone.step(lr=1e-2, max_norm=1.0)
    with Trainer(tiny_model(), num_workers=2, head=head) as trainer:
        found = trainer.backward(parts, ScoreLoss(0.2, 0.5))
        trainer.step(lr=1e-2, max_norm=1.0)
        after = torch.cat(trainer.values(parts, ScoreLoss(0.2, 0.5)))
    assert found == pytest.approx(expected, rel=1e-5)
    torch.testing.assert_close(trainer.parameters[WEIGHT], alone.parameters[WEIGHT], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(after, torch.cat(alone.values(parts, ScoreLoss(0.2, 0.5))), atol=1e-4, rtol=1e-4)


def test_a_bf16_policy_trains_float32_masters_and_a_float32_head():
    trainer = Trainer(tiny_model().bfloat16(), num_workers=0, head={WEIGHT: torch.zeros(32), BIAS: torch.zeros(1)})
    assert {p.dtype for p in trainer.parameters.values()} == {torch.float32}
    assert trainer.head[WEIGHT].dtype == torch.float32


def test_equal_completions_are_computed_once_and_count_as_often_as_drawn():
    example = outcome_example(ITEMS[0], late=0.0)
    assert example.group.lengths.tolist() == [3, 1, 2]
    assert example.counts.tolist() == [2, 1, 1]
    assert example.inverse.tolist() == [0, 1, 0, 2]
    assert example.correct.tolist() == [1, 0, 0]


def test_later_tokens_weigh_more_and_a_completion_weighs_one():
    example = outcome_example(ITEMS[0], late=2.0)
    assert example.weights[:3].tolist() == pytest.approx([1 / 14, 4 / 14, 9 / 14])
    assert example.weights.sum() == pytest.approx(3)


def test_process_targets_stand_at_step_ends_and_at_the_last_token():
    example = process_example(ITEMS[0])
    assert example.targets.tolist() == [0, 0.5, 1, 0, 0.25, 0]
    assert example.weights.tolist() == [0, 0.5, 0.5, 1, 0.5, 0.5]


def test_right_and_wrong_weigh_the_same_in_total():
    examples = [outcome_example(item, late=1.0) for item in ITEMS]
    balance = Balance.of(examples)
    assert 3 * balance.right == pytest.approx(5 * balance.wrong)


def test_problems_are_held_out_and_not_samples():
    items = [drawn(f"p{i}", [1], [[2], [3]], [1, 0]) for i in range(40)]
    train, held = split(items, 0.25, seed=0)
    assert len(held) == 10
    assert not {x.problem for x in train} & {x.problem for x in held}
    assert {x.problem for x in train} | {x.problem for x in held} == {x.problem for x in items}
    again = split(list(reversed(items)), 0.25, seed=0)  # whatever the order they came in
    assert {x.problem for x in again[1]} == {x.problem for x in held}
    with pytest.raises(ConfigError, match="at least 2"):
        split(items[:1], 0.5, seed=0)


def test_every_epoch_visits_every_problem_once():
    config = ScorerConfig(out="", problems_per_step=3)
    for epoch in range(2):
        seen = [place for step in range(4) for place in order(10, 4 * epoch + step, config)]
        assert sorted(seen) == list(range(10))


def test_the_last_checkpoint_has_half_of_the_samples():
    plan = DrawPlan(num_problems=1, num_samples=32, temperatures=(0.7, 1.0, 1.3), params=SamplingParams(), seed=0)
    counts = [sum(share.values()) for share in plan.shares(3)]
    assert counts == [8, 8, 16]
    assert sum(plan.shares(1)[0].values()) == 32
    assert sum(sum(share.values()) for share in replace(plan, num_samples=3).shares(3)) == 3


# --- whole runs --------------------------------------------------------------------------------------------------


def policy(folder):
    save_model(tiny_model(window=64), folder)
    ByteTokenizer().save(str(folder))
    return str(folder)


def config(tmp_path, **changes):
    values = dict(
        out=str(tmp_path / "run"), model=policy(tmp_path / "policy"), task=TASK, num_problems=16, num_samples=8,
        max_reasoning_tokens=3, max_answer_tokens=4, held_out=0.25, num_epochs=4, problems_per_step=4, lr=3e-3,
        warmup_steps=2, num_workers=0, num_slots=32,
    )  # fmt: skip
    return configure(values | changes)


def test_a_tiny_scorer_learns_to_tell_right_from_wrong_sums(tmp_path):
    encode = ByteTokenizer().encode
    items = []
    for a in range(4):
        for b in range(4):
            answers = [a + b, a + b + 1, abs(a + b - 1), a + b + 2]
            items.append(drawn(f"{a}+{b}", encode(f"{a}+{b}"), [encode(f"={x}") for x in answers], [1, 0, 0, 0]))
    settings = config(tmp_path, num_epochs=60, checks_per_epoch=1, patience=60, dropout=0.0)
    policy(tmp_path / "policy")
    run = Run(settings.out, kind="scorer", config_toml="", seed=0)
    start = tmp_path / "policy"
    scorer_outcome.train(ScorerJob(config=settings, run=run, start=start, policy="fp", train=items, held=items))
    scorer = load_scorer(settings.out)
    value, _ = auc_within([x.correct for x in items], scorer.score([x.group for x in items]))
    assert value > 0.95


OPTIONS = {"process": {"num_samples": 4, "continuations": 2}}


@pytest.mark.parametrize("kind", ["outcome", "process", "probe", "features"])
def test_a_run_draws_trains_and_says_how_good_it_is(tmp_path, kind):
    seen = []
    folder = train_scorer(
        config(tmp_path, kind=kind, **OPTIONS.get(kind, {})),
        on_draw=lambda done, total, share: seen.append((done, total)),
        consensus=lambda counts, correct, k, blank: 0.5,
    )
    assert seen[-1] == (16, 16)
    scorer = load_scorer(folder)
    assert scorer.kind == kind
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["train_problems"] == 12
    assert result["held_out"]["problems"] == 4
    assert result["curve"][0]["k"] == 1
    assert {"k", "rerank", "pass", "cons"} == set(result["curve"][-1])
    rows = list(read_jsonl(tmp_path / "run" / "rollouts.jsonl"))
    assert len(rows) == 16


def without_states(folder):
    """A run as it was before states were kept, and before scorers could draw in int8."""
    recipe = (folder / "config.toml").read_text()
    (folder / "config.toml").write_text(recipe.replace('sampling_dtype = ""\n', ""))
    path = folder / "rollouts.jsonl"
    rows = list(read_jsonl(path))
    for row in rows:
        row["samples"] = [{k: v for k, v in sample.items() if k != "hidden"} for sample in row["samples"]]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_a_probe_reads_nothing_again_and_is_the_one_that_would(tmp_path, monkeypatch):
    settings = config(tmp_path, kind="probe", num_problems=48)
    train_scorer(settings)
    kept = load_scorer(settings.out)
    items = scorer_rollouts.load(tmp_path / "run" / "rollouts.jsonl")
    read = scorer_probe._read(settings, tmp_path / "policy", [item.group for item in items])
    for item, rows in zip(items, read, strict=True):
        np.testing.assert_allclose(np.stack([item.hidden[i] for i in range(len(rows))]), rows, atol=0.02)
    without_states(tmp_path / "run")
    train_scorer(settings)
    group = CompletionGroup.of([65, 66], [[67, 68, 69], [70], [71, 72]])
    np.testing.assert_allclose(kept.score([group])[0], load_scorer(settings.out).score([group])[0], atol=0.02)

    class NoPass:
        def __init__(self, *args, **keywords):
            raise AssertionError("read again")

    monkeypatch.setattr(scorer_probe, "Trainer", NoPass)
    with pytest.raises(AssertionError, match="read again"):
        train_scorer(settings)
    train_scorer(config(tmp_path / "other", kind="probe", num_problems=48))


def test_states_are_kept_of_the_last_checkpoint_alone(tmp_path):
    run = tmp_path / "policies"
    for step in (1, 2, 3):
        save_model(tiny_model(seed=step), folder := run / "checkpoints" / f"step_{step:05d}")
        ByteTokenizer().save(str(folder))
        (folder / "checkpoint.json").write_text(json.dumps({"step": step}))
    train_scorer(config(tmp_path, kind="probe", model=str(run), num_problems=24, num_samples=16))
    rows = list(read_jsonl(tmp_path / "run" / "rollouts.jsonl"))
    assert {row["policy"] for row in rows} == {0, 1, 2}
    assert all(("hidden" in sample) == (row["policy"] == 2) for row in rows for sample in row["samples"])


def test_int8_is_of_the_engine_that_draws(tmp_path, monkeypatch):
    seen = []

    class Seen(LocalEngine):
        def __init__(self, *args, **keywords):
            seen.append(keywords["int8"])
            super().__init__(*args, **keywords)

    monkeypatch.setattr(scorer_rollouts, "LocalEngine", Seen)
    train_scorer(config(tmp_path / "a", kind="features", sampling_dtype="int8"))
    train_scorer(config(tmp_path / "b", kind="features"))
    assert seen == [True, False]


def test_features_join_an_outcome_scorer_on_what_it_has_not_seen(tmp_path):
    many = {"num_problems": 48, "num_samples": 24, "num_epochs": 1}  # the halves of what is left have right ones too
    first = config(tmp_path, held_out=0.6, **many)
    train_scorer(first)
    drawn_again = []
    folder = train_scorer(
        config(tmp_path, kind="features", joined=first.out, out=str(tmp_path / "joined")),
        on_draw=lambda *facts: drawn_again.append(facts),
    )
    assert not drawn_again
    assert load_scorer(folder).needs_forward_pass
    train, _ = split(scorer_rollouts.load(tmp_path / "run" / "rollouts.jsonl"), first.held_out, first.seed)
    used = [item.problem for part in unseen_by(config(tmp_path, kind="features", joined=first.out)) for item in part]
    assert not {item.problem for item in train} & set(used)
    with pytest.raises(ConfigError, match=r"rollouts\.jsonl"):
        train_scorer(config(tmp_path, kind="features", joined=str(tmp_path), out=str(tmp_path / "other")))


def test_a_second_sitting_draws_nothing_again_and_ends_the_same(tmp_path):
    train_scorer(config(tmp_path))
    before = (tmp_path / "run" / "rollouts.jsonl").read_bytes()
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    drawn_again = []
    train_scorer(config(tmp_path), on_draw=lambda *facts: drawn_again.append(facts))
    assert not drawn_again
    assert (tmp_path / "run" / "rollouts.jsonl").read_bytes() == before
    again = json.loads((tmp_path / "run" / "result.json").read_text())
    assert again["curve"] == result["curve"]


def test_a_run_that_was_stopped_goes_on_to_the_same_scorer(tmp_path):
    train_scorer(config(tmp_path / "whole", logprobs=False))

    class Stop(Exception):
        pass

    def stop(check):
        if check.step >= 5:
            raise Stop

    with pytest.raises(Stop):
        train_scorer(config(tmp_path / "parts", logprobs=False), on_check=stop)
    train_scorer(config(tmp_path / "parts", logprobs=False))
    a, b = (load_scorer(tmp_path / name / "run") for name in ("whole", "parts"))
    assert isinstance(a, OutcomeScorer)
    assert isinstance(b, OutcomeScorer)
    group = CompletionGroup.of([1, 2], [[3, 4], [65, 66]])
    np.testing.assert_allclose(a.score([group])[0], b.score([group])[0], atol=1e-6)


def test_a_saved_step_has_its_line_and_the_scores_beside_it(tmp_path, monkeypatch):
    path, seen = tmp_path / "run" / "metrics.jsonl", []

    def saved(run, trainer, facts):
        seen.append((facts["step"], len(list(read_jsonl(path)))))
        state.save_state(run, trainer, facts)

    monkeypatch.setattr(scorer_network, "save_state", saved)
    train_scorer(config(tmp_path))
    assert seen and all(step == lines for step, lines in seen)
    scores = tmp_path / "run" / scorer_network.SCORES
    scores.write_bytes(scores.read_bytes()[:100])
    with pytest.raises(ValueError, match="held_out.npz is damaged or of another run"):
        train_scorer(config(tmp_path))


def with_states(text):
    sample = {"ids": [1], "logprobs": [0], "correct": 1, "class": "4", "cut": False, "hidden": text}
    return json.dumps({"problem": LowercaseTask(size=2)[0].id, "policy": 0, "prompt_ids": [1], "samples": [sample]})


@pytest.mark.parametrize("damage", ["{}", '{"problem": "elsewhere", "policy": 0, "prompt_ids": [1], "samples": []}',
                                    '{"problem": 5, "policy": "0", "prompt_ids": [1], "samples": []}',
                                    with_states("AAA"), with_states("AH4="), with_states("?")])  # fmt: skip
def test_a_line_of_rollouts_that_is_damaged_or_of_another_run_is_named(damage, tmp_path):
    task, models = LowercaseTask(size=2), [tmp_path]
    plan = DrawPlan(num_problems=2, num_samples=2, temperatures=(1.0,), params=SamplingParams(), seed=0)
    row = {"policy": 0, "prompt_ids": [1], "samples": []}
    rows = "".join(json.dumps({"problem": task[i].id, **row}) + "\n" for i in range(2))
    out = tmp_path / "rollouts.jsonl"
    out.write_text(rows + damage + "\n")
    with pytest.raises(ValueError, match=r"rollouts\.jsonl:3 is damaged"):
        scorer_rollouts.draw(task, models, plan, out, num_workers=0, num_slots=4)
    out.write_text(rows)
    scorer_rollouts.draw(task, models, plan, out, num_workers=0, num_slots=4)  # all is there: nothing is opened


class AllWrong:
    """Every answer is wrong."""

    def __new__(cls, **options):
        from ponder.types import Verdict
        from tests.helpers import LowercaseTask

        task = LowercaseTask(**options)
        task.verify = lambda problem, answer: Verdict(outcome="wrong", reward=0.0)
        return task


class NeverSure:
    """No verdict at all."""

    def __new__(cls, **options):
        from ponder.types import Verdict
        from tests.helpers import LowercaseTask

        task = LowercaseTask(**options)
        task.verify = lambda problem, answer: Verdict(outcome="undecided", reward=0.0)
        return task


def test_where_every_sample_fails_there_is_nothing_to_tell_apart(tmp_path):
    with pytest.raises(ConfigError, match="nothing to tell apart"):
        train_scorer(config(tmp_path, task=f"{__name__}:AllWrong"))
    assert not (tmp_path / "run" / "scorer").exists()


def test_where_nothing_is_decided_there_is_nothing_to_learn_from(tmp_path):
    # undecided samples leave their group; a sample without an answer is wrong whatever the verifier says
    with pytest.raises(ConfigError, match="nothing to tell apart|cannot be split"):
        train_scorer(config(tmp_path, task=f"{__name__}:NeverSure"))


def test_where_none_finishes_the_cut_samples_are_still_learnt_from(tmp_path):
    settings = config(tmp_path, max_reasoning_tokens=1, max_answer_tokens=1)
    train_scorer(settings)
    items = scorer_rollouts.load(tmp_path / "run" / "rollouts.jsonl")
    assert all(item.group.was_cut.any() for item in items)


def test_a_report_on_problems_that_all_fail_is_honest_zeros():
    held = [drawn(f"p{i}", [1], [[2], [3]], [0, 0]) for i in range(3)]
    result = figures(held, [np.zeros(2)] * 3, None)
    assert [row["rerank"] for row in result["curve"]] == [0.0, 0.0]
    assert result["held_out"]["pass@1"] == 0.0


@pytest.mark.parametrize(
    "changes",
    [
        {"num_samples": 1}, {"temperatures": ()}, {"temperatures": (0.0,)}, {"held_out": 0.0}, {"dropout": 1.0},
        {"kind": "process", "continuations": 0}, {"patience": 0}, {"joined": "run"}, {"kind": "probe", "late": "2"},
        {"kind": "outcom"}, {"kind": "os:getcwd"}, {"kind": "outcome", "probe_width": 4}, {"kind": 3},
    ],
)  # fmt: skip
def test_a_config_that_cannot_work_is_refused(changes):
    with pytest.raises(ValueError):
        configure({"out": "x"} | changes)


@pytest.mark.parametrize(
    ("name", "samples"), [("scorer_nano_cpu", 16), ("scorer_smollm2_cpu", 16), ("scorer_qwen05_cpu", 2)]
)
def test_the_shipped_recipes_are_read(name, samples):
    assert load_recipe(f"recipes/{name}.toml").num_samples >= samples


def test_a_run_does_not_go_on_with_other_problems_or_another_policy(tmp_path):
    path = tmp_path / "p.jsonl"
    rows = [{"id": str(i), "problem": f"{i}", "answer": str(i), "level": 1} for i in range(16)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = config(tmp_path, task=f"file:{path}", max_reasoning_tokens=1, max_answer_tokens=1)
    with pytest.raises(ConfigError, match="nothing to tell apart"):
        train_scorer(settings)  # it has drawn: whatever these were, more of others do not mix with them
    path.write_text(path.read_text().replace('"problem": "3"', '"problem": "three"'))
    with pytest.raises(ValueError, match=r"p\.jsonl .*has changed since"):
        train_scorer(settings)
    path.write_text(path.read_text().replace("three", "3"))
    save_model(tiny_model(seed=5), tmp_path / "policy")
    with pytest.raises(ValueError, match="the model .*policy .*has changed since"):
        train_scorer(settings)


def test_two_processes_cannot_train_one_scorer(tmp_path):
    settings = config(tmp_path)
    with Run(settings.out, kind="scorer", config_toml="", seed=0), pytest.raises(InUse, match="is being written by"):
        train_scorer(settings)
