"""Our losses, advantages and batching against TRL's own `_compute_loss`, from token ids to every gradient.

The same tiny Llama lives twice: in transformers under `GRPOTrainer` (prompts padded on the left, one batch), and here
(padded on the right, cut into micro-batches). What is compared is the loss and the gradient of every weight.
TRL is an oracle, not a dependency: `pip install "ponder[parity]"`. Written against trl 1.16.0.

Where TRL differs, and why these tests do not follow it:
- its truncated importance sampling defaults to one weight a completion, 0 above 3 ("sequence_mask"); ours is one a
  token, cut at the cap: its mode "token_truncate". The formula is repeated below, since TRL has it inside a
  function of 600 lines that samples;
- GSPO with per-token importance weights: TRL spreads each completion's mean gradient evenly and multiplies by the mean
  weight; ours weighs each token's own gradient by its own weight. They agree where weights agree, so GSPO is compared
  without;
- TRL multiplies the KL term by the differentiable ratio since DeepSeek-V3.2 (arXiv:2512.02556), by default; ours is
  GRPO's own term (arXiv:2402.03300, eq. 4), its `use_bias_correction_kl=False`;
- CISPO's upper bound is the ratio itself there (5.0), the distance from 1 here (clip_high=4.0);
- `RLOOTrainer` clips the ratio of whole completions (the product over tokens) and takes sums over tokens; ours clips
  tokens. With ratio 1, on the first update, the gradients are the same up to the constant, and that is compared;
- `scale_rewards="batch"` divides by the spread of the raw rewards, reinforce_pp by that of the centred ones, as its
  paper writes; not compared;
- for "grpo" and "dr_grpo" TRL averages micro-batch means, which is the batch's mean only while micro-batches have
  equally many rows; ours weighs tokens by the whole batch. Compared in one TRL batch.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ponder.models.weights import load_model
from ponder.train.advantages import advantages
from ponder.train.batches import Example, collate, micro_batches
from ponder.train.distributed import Trainer
from ponder.train.losses import LossConfig, token_weights
from ponder.train.presets import PRESETS
from ponder.train.replica import PolicyLoss
from tests.helpers import group_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.parity,
    pytest.mark.skipif(
        importlib.util.find_spec("trl") is None, reason='TRL is not installed: pip install "ponder[parity]"'
    ),
    pytest.mark.filterwarnings("ignore::FutureWarning"),  # transformers about what TRL asks of it
]

MAX_TOKENS = 12  # TRL's max_completion_length, Dr. GRPO's constant
TEMPERATURE = 0.8
PAD = 61
LENGTHS = [(3, 7), (5, 12), (2, 1), (3, 9), (4, 4), (5, 6)]  # prompt and completion of each row


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import transformers

    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=63, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, pad_token_id=PAD, eos_token_id=62, bos_token_id=None,
        initializer_range=0.2,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("tiny")
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def make_tokenizer() -> Any:
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers

    vocabulary = {f"t{i}": i for i in range(PAD)} | {"<pad>": PAD, "<eos>": 62}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="t0"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return transformers.PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", eos_token="<eos>")


REWARDS = [1.0, 0.0, 0.0, 1.0, 0.5, 0.5, 0.5, 0.5, 0.0, 0.0, 0.0, 1.0]  # three groups of four; the second all the same


def trl_trainer(kind: str, model_folder: Path, output: Path) -> Any:
    import datasets
    import transformers
    import trl

    config_class, trainer_class = {
        "grpo": (trl.GRPOConfig, trl.GRPOTrainer), "rloo": (trl.RLOOConfig, trl.RLOOTrainer)
    }[kind]  # fmt: skip
    config = config_class(
        output_dir=str(output), use_cpu=True, bf16=False, report_to=[], gradient_checkpointing=False, beta=0.0,
        num_generations=4, per_device_train_batch_size=12, max_completion_length=MAX_TOKENS, temperature=TEMPERATURE,
    )  # fmt: skip
    trainer = trainer_class(
        model=transformers.LlamaForCausalLM.from_pretrained(model_folder, dtype=torch.float32),
        reward_funcs=lambda completions, **_: REWARDS,
        args=config,
        train_dataset=datasets.Dataset.from_list([{"prompt": "t1 t2 t3"}] * 3),
        processing_class=make_tokenizer(),
    )
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1  # the training loop sets it
    return trainer


@pytest.fixture(scope="module")
def grpo_trainer(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return trl_trainer("grpo", model_folder, tmp_path_factory.mktemp("grpo"))


@pytest.fixture(scope="module")
def rloo_trainer(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return trl_trainer("rloo", model_folder, tmp_path_factory.mktemp("rloo"))


@pytest.fixture
def ours(model_folder: Path) -> Iterator[Trainer]:
    with Trainer(load_model(model_folder), num_workers=0) as trainer:
        yield trainer


# the same rows for both


@dataclass
class Rows:
    """Examples, and what each policy said of their tokens (one list a row)."""

    examples: list[Example]
    old: list[Tensor]
    reference: list[Tensor]


@pytest.fixture(scope="module")
def rows(model_folder: Path) -> Rows:
    g = torch.Generator().manual_seed(1)
    examples = []
    for number, (prompt, length) in enumerate(LENGTHS):
        ids = torch.randint(PAD, (prompt + length,), generator=g).tolist()
        trained = tuple(number != 2 and i % 5 != 4 for i in range(length))  # row 2: nothing; elsewhere a few forced
        examples.append(
            Example(
                prompt_ids=tuple(ids[:prompt]),
                token_ids=tuple(ids[prompt:]),
                trained=trained,
                advantage=[1.2, -0.7, 0.4, 0.9, -1.5, 0.0][number],
            )
        )
    batch = collate([replace(e, trained=(True,) * len(e.token_ids)) for e in examples])
    now = Trainer(load_model(model_folder), num_workers=0).logprobs([batch], TEMPERATURE)[0]
    result = Rows(examples, [], [])
    for row, (_, length) in enumerate(LENGTHS):
        said = now[row, :length]
        near = lambda spread, said=said: said + spread * torch.randn(len(said), generator=g)
        result.old.append(near(0.3))
        result.reference.append(near(0.5))
        sampler = result.old[row] - near(0.6) + said
        result.examples[row] = replace(examples[row], sampler_logprobs=tuple(sampler.tolist()))
    return result


def trl_inputs(rows: Rows, *, cap: float | None, first_update: bool) -> dict[str, Tensor]:
    def left(sequences: list[list[int]], fill: int) -> Tensor:
        width = max(map(len, sequences))
        return torch.tensor([[fill] * (width - len(ids)) + ids for ids in sequences])

    def right(sequences: list[Any], fill: float) -> Tensor:
        width = max(map(len, sequences))
        return torch.tensor([[*map(float, values)] + [fill] * (width - len(values)) for values in sequences])

    examples = rows.examples
    inputs = {
        "prompt_ids": left([list(e.prompt_ids) for e in examples], PAD),
        "prompt_mask": left([[1] * len(e.prompt_ids) for e in examples], 0),
        "completion_ids": right([e.token_ids for e in examples], PAD).long(),
        "completion_mask": right([[1] * len(e.token_ids) for e in examples], 0).long(),
        "tool_mask": right([e.trained for e in examples], 0).long(),  # TRL's word for tokens that are context
        "advantages": torch.tensor([e.advantage for e in examples]),
        "num_items_in_batch": torch.tensor(sum(e.num_trained for e in examples)),
        "ref_per_token_logps": right([values.tolist() for values in rows.reference], 0.0),
    }
    old = right([values.tolist() for values in rows.old], 0.0)
    if not first_update:
        inputs["old_per_token_logps"] = old
    if cap is not None:
        sampler = right([e.sampler_logprobs for e in examples], 0.0)
        gap = (old - sampler) * inputs["completion_mask"] * inputs["tool_mask"]
        inputs["importance_sampling_ratio"] = gap.exp().clamp(max=cap)
    return inputs


def our_loss_and_gradients(
    trainer: Trainer, rows: Rows, config: LossConfig, *, first_update: bool
) -> tuple[float, dict[str, Tensor]]:
    weights = token_weights([e.num_trained for e in rows.examples], config, max_tokens=MAX_TOKENS)
    examples = [replace(e, weight=w) for e, w in zip(rows.examples, weights, strict=True)]
    batches = micro_batches(examples, max_tokens=20)
    assert len(batches) > 2
    for batch in batches:
        placed = lambda said, batch=batch: (
            collate(
                [replace(examples[i], sampler_logprobs=tuple(said[i].tolist())) for i in batch.indices]
            ).sampler_logprobs_BT
        )
        batch.old_logprobs_BT = None if first_update else placed(rows.old)
        batch.ref_logprobs_BT = placed(rows.reference)
    sums = trainer.backward(batches, PolicyLoss(config, TEMPERATURE))
    return sums["loss"], {name: p.grad.clone() for name, p in trainer.parameters.items() if p.grad is not None}


def trl_loss_and_gradients(trainer: Any, inputs: dict[str, Tensor]) -> tuple[float, dict[str, Tensor]]:
    trainer.model.zero_grad()
    loss = trainer._compute_loss(trainer.model, inputs)
    loss.backward()
    return loss.item(), {name: p.grad.clone() for name, p in trainer.model.named_parameters()}


def assert_same_gradients(ours: dict[str, Tensor], theirs: dict[str, Tensor], scale: float = 1.0) -> None:
    assert ours.keys() == theirs.keys()
    for name, gradient in theirs.items():
        assert gradient.norm() > 1e-4, name  # a comparison of zeros would prove nothing
        assert (ours[name] * scale - gradient).norm() <= 1e-5 * gradient.norm(), name


@dataclass
class Case:
    loss: LossConfig
    trl: dict[str, Any] = field(default_factory=dict)  # attributes of the GRPOTrainer
    first_update: bool = False


def preset(name: str, **changes: Any) -> LossConfig:
    return LossConfig(**{"mismatch_cap": 0.0, **PRESETS[name]["loss"], **changes})


GSPO = {"loss_type": "grpo", "importance_sampling_level": "sequence"}
CASES = {
    "grpo": Case(preset("grpo"), {"loss_type": "grpo"}),
    "grpo, first update": Case(preset("grpo"), {"loss_type": "grpo"}, first_update=True),
    "dr_grpo": Case(preset("dr_grpo"), {"loss_type": "dr_grpo"}),
    "dapo, clip-higher": Case(preset("dapo"), {"loss_type": "dapo", "epsilon_high": 0.28}),
    "gspo": Case(preset("gspo"), GSPO | {"epsilon_low": 3e-4, "epsilon_high": 4e-4}),
    "gspo, wide clip": Case(preset("gspo", clip_low=0.2, clip_high=0.2), GSPO),
    "gspo with kl": Case(preset("gspo", clip_low=0.2, clip_high=0.2, kl=0.1), GSPO | {"beta": 0.1}),
    "cispo": Case(preset("cispo"), {"loss_type": "cispo", "epsilon_high": 5.0}),
    "cispo, tight": Case(preset("cispo", clip_high=0.1), {"loss_type": "cispo", "epsilon_high": 1.1}),
    "grpo with kl": Case(preset("grpo", kl=0.1), {"loss_type": "grpo", "beta": 0.1}),
    "dapo with kl": Case(preset("dapo", kl=0.1), {"loss_type": "dapo", "epsilon_high": 0.28, "beta": 0.1}),
    "grpo, truncated importance sampling": Case(preset("grpo", mismatch_cap=1.3), {"loss_type": "grpo"}),
    "dapo, truncated importance sampling and kl": Case(
        preset("dapo", mismatch_cap=1.3, kl=0.1), {"loss_type": "dapo", "epsilon_high": 0.28, "beta": 0.1}
    ),
    "cispo, truncated importance sampling": Case(
        preset("cispo", mismatch_cap=1.3, clip_high=0.1), {"loss_type": "cispo", "epsilon_high": 1.1}
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_loss_and_every_gradient_agree_with_trl(
    name: str, grpo_trainer: Any, ours: Trainer, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = CASES[name]
    cap = case.loss.mismatch_cap or None
    for attribute, value in {"use_vllm": cap is not None, **case.trl}.items():
        assert hasattr(grpo_trainer, attribute)  # a renamed attribute must not pass as the default
        monkeypatch.setattr(grpo_trainer, attribute, value)
    monkeypatch.setattr(grpo_trainer.args, "use_bias_correction_kl", False)
    inputs = trl_inputs(rows, cap=cap, first_update=case.first_update)
    theirs_loss, theirs = trl_loss_and_gradients(grpo_trainer, inputs)
    ours_loss, gradients = our_loss_and_gradients(ours, rows, case.loss, first_update=case.first_update)
    assert ours_loss == pytest.approx(theirs_loss, abs=1e-5)
    assert_same_gradients(gradients, theirs)


def test_the_rows_reach_both_sides_of_every_clip_and_cap(rows: Rows, ours: Trainer) -> None:
    """Otherwise the comparison above would hold for losses that never clip."""
    batch = collate(rows.examples)
    now = ours.logprobs([batch], TEMPERATURE)[0]
    said = [replace(e, sampler_logprobs=tuple(o.tolist())) for e, o in zip(rows.examples, rows.old, strict=True)]
    old = collate(said).sampler_logprobs_BT
    ratio = (now - old).exp()
    A = batch.advantages_BT
    for is_beyond in (ratio > 1.28, ratio < 0.8, (ratio > 0.8) & (ratio < 1.2)):
        assert (is_beyond & batch.mask_BT & (A > 0)).any() and (is_beyond & batch.mask_BT & (A < 0)).any()
    weight = (old - batch.sampler_logprobs_BT).exp()[batch.mask_BT]
    assert (weight > 1.3).any() and (weight < 0.8).any()


def test_rloo_first_update_has_trls_gradient(rloo_trainer: Any, ours: Trainer, rows: Rows) -> None:
    """TRL sums a completion's tokens and has no mask for forced ones: everything is trained here."""
    plain = Rows([replace(e, trained=(True,) * len(e.token_ids)) for e in rows.examples], rows.old, rows.reference)
    inputs = trl_inputs(plain, cap=None, first_update=True)
    with torch.no_grad():
        ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], 1)
        mask = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], 1)
        logps = rloo_trainer._get_per_token_logps_and_entropies(
            rloo_trainer.model, ids, mask, inputs["completion_ids"].size(1)
        )[0]
    inputs["old_logps"] = (logps * inputs["completion_mask"]).sum(1)
    _, theirs = trl_loss_and_gradients(rloo_trainer, inputs)
    config = LossConfig(average="constant", mismatch_cap=0.0)
    _, gradients = our_loss_and_gradients(ours, plain, config, first_update=True)
    assert_same_gradients(gradients, theirs, scale=MAX_TOKENS)


@pytest.mark.parametrize(("name", "scale_rewards"), [("grpo", "group"), ("dr_grpo", "none"), ("rloo", None)])
def test_advantages_agree_with_trl(
    name: str, scale_rewards: str | None, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = request.getfixturevalue("rloo_trainer" if name == "rloo" else "grpo_trainer")
    if scale_rewards:
        monkeypatch.setattr(trainer, "scale_rewards", scale_rewards)
    monkeypatch.setattr(trainer, "max_completion_length", 2)
    theirs = trainer._generate_and_score_completions([{"prompt": "t1 t2 t3"}] * 12)["advantages"]
    groups = [group_of(REWARDS[i : i + 4]) for i in (0, 4, 8)]
    ours = torch.cat([torch.tensor(values) for values in advantages(name, groups)])
    torch.testing.assert_close(ours.float(), theirs, rtol=1e-5, atol=1e-6)
    assert (theirs[4:8] == 0).all() and (theirs[:4] != 0).all()
