"""What the cookbook's loops look for on a hub, as folders of the directory they run in, and a base that can be taught.

    meta-llama/Llama-3.2-1B/       a two-layer model that answers "\\boxed{d}", d any of five digits
    openai/gsm8k/                  questions whose answer is always 3, in the set's own fields
    HuggingFaceH4/no_robots/       conversations, in the set's own fields

`AutoTokenizer.from_pretrained` and `datasets.load_dataset` take a folder of that name before they ask a hub, so the
loops' files stay as they are. The model's name chooses the renderer ("User: ... Assistant: ...", no special tokens).
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer as Vocabulary
from tokenizers import decoders, models, pre_tokenizers, trainers

from ponder.models.hf_tokenizer import load_tokenizer
from ponder.models.transformer import ModelConfig, Transformer
from ponder.models.weights import save_model
from ponder.train.batches import Example, micro_batches
from ponder.train.distributed import Trainer
from ponder.train.replica import SupervisedLoss

MODEL = "meta-llama/Llama-3.2-1B"
ANSWER, DIGITS = "3", "12345"
_ASK = " Provide a numerical answer without units, written inside \\boxed{}."
# what the loop shows before each question; its own words matter little, their length does
_SHOWN = "How many r's are in strawberry?" + _ASK
_SAID = (
    "Let's spell the word out and number all the letters: 1) s 2) t 3) r 4) a 5) w 6) b 7) e 8) r 9) r 10) y. "
    "We have r's at positions 3, 8, and 9. \\boxed{3}"
)
END = "<|end|>"


def make(folder: Path, *, num_questions: int = 400) -> Path:
    """All of it; returns the model's folder."""
    questions = [f"Say a number, please ({index})." for index in range(num_questions)]
    _dataset(
        folder / "openai/gsm8k",
        [{"question": question, "answer": f"It is known.\n#### {ANSWER}"} for question in questions],
        config="main",
    )
    said = [{"role": "user", "content": "Say a number."}, {"role": "assistant", "content": f"\\boxed{{{ANSWER}}}"}]
    rows = [{"prompt": "Say a number.", "prompt_id": str(n), "messages": said, "category": "x"} for n in range(400)]
    _dataset(folder / "HuggingFaceH4/no_robots", rows, config="default")
    model = folder / MODEL
    _tokenizer(model, questions)
    _teach(model, questions)
    return model


def _dataset(folder: Path, rows: list[dict], *, config: str) -> None:
    folder.mkdir(parents=True)
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    files = "  data_files:\n  - split: train\n    path: train.jsonl\n"
    (folder / "README.md").write_text(f"---\nconfigs:\n- config_name: {config}\n{files}---\n")


def _tokenizer(folder: Path, questions: list[str]) -> None:
    vocabulary = Vocabulary(models.BPE())
    vocabulary.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    vocabulary.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=500, special_tokens=[END], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    texts = [f"User: {text}{_ASK}\n\nAssistant: \\boxed{{1}}\n\nUser:" for text in questions]
    vocabulary.train_from_iterator([*texts, f"User: {_SHOWN}\n\nAssistant: {_SAID}\n\n"], trainer)
    folder.mkdir(parents=True)
    vocabulary.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": END, "model_max_length": 512}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def _teach(folder: Path, questions: list[str], *, steps: int = 60) -> None:
    """A base that answers in the right form, and with each of five digits as often."""
    tokenizer = load_tokenizer(folder)
    model = Transformer(
        ModelConfig(
            vocab_size=tokenizer.vocab_size, hidden_size=64, intermediate_size=128, num_hidden_layers=2,
            num_attention_heads=4, num_key_value_heads=2, head_dim=16, max_position_embeddings=512,
        )
    )  # fmt: skip
    model.init_weights(0)
    with torch.no_grad():  # the head is never adapted: with rows of the usual size an adapter could prefer no digit
        model.model.embed_tokens.weight.mul_(5)
    before = ["User:", f" {_SHOWN}\n\n", "Assistant:", f" {_SAID}\n\n", "User:"]
    with Trainer(model, num_workers=0) as trainer:
        for step in range(steps):
            parts = [*before, f" {questions[step % len(questions)]}{_ASK}\n\n", "Assistant:"]
            prompt = tuple(token for part in parts for token in tokenizer.encode(part))
            said = [tuple(tokenizer.encode(f" \\boxed{{{digit}}}\n\nUser:")) for digit in DIGITS]
            examples = [
                Example(prompt_ids=prompt, token_ids=ids, trained=(True,) * len(ids), weight=1 / 50) for ids in said
            ]
            trainer.backward(micro_batches(examples, max_tokens=1024), SupervisedLoss())
            trainer.step(lr=3e-3, max_norm=1.0)
    with torch.no_grad():
        save_model(model, folder)
