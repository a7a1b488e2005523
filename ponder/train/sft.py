"""Supervised fine-tuning on worked solutions: the cold start before reinforcement learning.

One documented form of data, JSON Lines:

    {"problem": "What is 41-7?", "reasoning": "41-7=34", "answer": "34"}

A row may have a `system` message, which is shown before the problem (`dropped_system` is kept in the file and shown to
nobody: `ponder star --drop-system`). A row may begin with `given`, reasoning that is already there and not learned, and
may then leave out the `answer`: the reasoning goes on (a choice among candidates, see `deliberations.py`). Or
demonstrations made on the fly from a procedural family (`tasks/demonstrations.py`): example i is a pure function of the
seed and i. The loss is on the completion only: reasoning, closing mark, answer, end mark.

    ponder sft recipes/nano_1_skills_cpu.toml
"""

from __future__ import annotations

import json
import math
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path
from random import Random
from typing import Any

from ponder.config import REQUIRED, ConfigError, check, completed, dumps, setting
from ponder.grading.verifiers import numbered_lines
from ponder.models.tokenizer import ByteTokenizer, Tokenizer
from ponder.models.transformer import ModelConfig, Transformer, sequence_flops
from ponder.rewarding import MonitorInReward, chosen_by_flags, training
from ponder.runs import Run
from ponder.stopping import GracefulStop
from ponder.tasks.demonstrations import DemonstrationConfig, demonstration
from ponder.train import inputs
from ponder.train.batches import Example, micro_batches
from ponder.train.distributed import pick_device, resolve_workers
from ponder.train.learner import LocalLearner
from ponder.train.policy import ONLY_RL, Policy, Precision, open_policy
from ponder.train.replica import SupervisedLoss
from ponder.train.state import load_state, refuse_shorter, save_checkpoint, save_state, state_path
from ponder.trained_on import file_source
from ponder.types import Message


@dataclass(frozen=True, kw_only=True)
class ArchitectureConfig:
    """A fresh byte-level Llama, for training from nothing."""

    width: int = setting(128, "of the residual stream", least=1, also="hidden_size")
    depth: int = setting(6, "layers", least=1, also="num_hidden_layers")
    heads: int = setting(4, "of attention", least=1, also="num_attention_heads")
    kv_heads: int = setting(2, "heads of keys and values", least=1, also="num_key_value_heads")
    inner: int = setting(384, "width of the MLP", least=1, also="intermediate_size")
    window: int = setting(1024, "tokens", least=2, also="max_position_embeddings max_length max_seq_length")

    def __post_init__(self) -> None:
        check(self)
        if self.width % (2 * self.heads) or self.heads % self.kv_heads:
            raise ValueError(
                f"width={self.width} must be heads={self.heads} times an even number, and heads a multiple of "
                f"kv_heads={self.kv_heads}"
            )

    def build(self, seed: int) -> Transformer:
        """A float32 model for the byte tokenizer, its weights drawn from `seed`."""
        model = Transformer(
            ModelConfig(
                vocab_size=ByteTokenizer.vocab_size,
                hidden_size=self.width,
                intermediate_size=self.inner,
                num_hidden_layers=self.depth,
                num_attention_heads=self.heads,
                num_key_value_heads=self.kv_heads,
                head_dim=self.width // self.heads,
                max_position_embeddings=self.window,
                extra={  # what other programs need to stop where we stop
                    "bos_token_id": ByteTokenizer.bos_id,
                    "eos_token_id": ByteTokenizer.end_id,
                    "pad_token_id": ByteTokenizer.pad_id,
                },
            )
        )
        model.init_weights(seed)
        return model


@dataclass(frozen=True, kw_only=True)
class SFTConfig:
    """A run of `ponder sft`: every key, with its bounds."""

    NOT_HERE = ONLY_RL

    out: str = setting(REQUIRED, "the run's folder", also="output_dir")
    data: str = setting(
        "demonstrations", "or a JSON Lines file of problem, reasoning, answer", also="dataset dataset_name"
    )
    model: str = setting("", "what is trained; empty = a fresh model as [architecture] says", also="model_name_or_path")
    architecture: ArchitectureConfig = field(default_factory=ArchitectureConfig)
    demonstrations: DemonstrationConfig = field(default_factory=DemonstrationConfig)
    num_steps: int = setting(1000, "steps in all", least=1, also="max_steps num_train_epochs epochs num_epochs")
    batch_size: int = setting(128, "examples of a step", least=1, also="per_device_train_batch_size train_batch_size")
    lr: float = setting(1e-3, "step size after the warm-up", above=0, most=1, also="learning_rate")
    min_lr: float | None = setting(None, "the end of the cosine; default 1e-5, at most a tenth of lr", least=0, most=1)
    warmup_steps: int = setting(50, "steps of linear warm-up", least=0, also="warmup_ratio lr_warmup_steps")
    weight_decay: float = setting(0.01, "of matrices, a step and step size", least=0, most=1)
    max_norm: float = setting(1.0, "gradients are cut to this norm; 0 = never", least=0, also="max_grad_norm grad_clip")
    max_tokens_per_batch: int = setting(
        1024, "packed tokens of one forward pass", least=1, also="gradient_accumulation_steps"
    )
    dtype: Precision = setting("float32", "of computing; what is trained is float32", also="bf16 fp16 torch_dtype")
    lora_rank: int = setting(0, "of an adapter; 0 = train every weight", least=0, also="lora_r r")
    recompute: bool = setting(False, "activations again in backward: less memory", also="gradient_checkpointing")
    save_every: int = setting(200, "steps from one saved state to the next", least=1, also="save_steps")
    num_workers: int = setting(-1, "processes that train; -1 = one a core, 0 = none", least=-1)
    seed: int = setting(0, "of the order of the data, and of a fresh model", least=0)

    def __post_init__(self) -> None:
        check(self)
        if self.min_lr is None:
            object.__setattr__(self, "min_lr", min(1e-5, self.lr / 10))  # so that the run's folder says it
        elif self.min_lr > self.lr:
            raise ValueError(f"min_lr={self.min_lr} is above lr={self.lr}, so the cosine would rise; leave it out")


Source = Callable[[int], Example]
Progress = Callable[[int, dict[str, float]], None]


def sft(config: SFTConfig, *, on_step: Progress | None = None) -> Path:
    """Run or continue a supervised fine-tuning; returns the folder of the final model."""
    with training("ponder sft"):
        return _sft(config, on_step)


def _sft(config: SFTConfig, on_step: Progress | None) -> Path:
    rows = None if config.data == "demonstrations" else numbered_solutions(Path(config.data))
    source_row = training_source(config)
    read = inputs.of_model(config.model) if config.model else {}
    if source_row["kind"] == "file":
        read[source_row["path"]] = source_row["sha256"]
    with Run(
        config.out, kind="sft", config_toml=dumps(config), seed=config.seed,
        completed=partial(completed, type(config)),
    ) as run:  # fmt: skip
        policy = open_start(config, run.folder, source_row)
        source = open_source(config, policy.tokenizer, rows, window=policy.model.config.max_position_embeddings)
        run.same_inputs(read, begun=state_path(run.folder).exists(), later=inputs.SMALL_FILES)
        return learn(config, run, policy, source, on_step)


def learn(config: SFTConfig, run: Run, policy: Policy, source: Source, on_step: Progress | None) -> Path:
    """The loop."""
    window = policy.model.config.max_position_embeddings
    started = time.monotonic()
    with (
        LocalLearner(
            policy, num_workers=resolve_workers(config.num_workers), recompute=config.recompute,
            betas=(0.9, 0.98), weight_decay=config.weight_decay,
        ) as learner,
        GracefulStop() as stop,
    ):  # fmt: skip
        facts = load_state(run, learner, {"step": 0, "tokens": 0, "flops": 0.0, "seconds": 0.0})
        refuse_shorter(facts["step"], config.num_steps)
        tell_of_another_cosine(config, facts)
        run.forget_after(facts["step"])
        started -= facts["seconds"]
        for step in range(facts["step"], config.num_steps):
            examples = [source(step * config.batch_size + i) for i in range(config.batch_size)]
            longest = max(map(len, examples))
            if longest > window:  # made while training: rows of a file were measured before
                save_state(run, learner, facts)
                raise ValueError(f"a demonstration has {longest} tokens, the model's window {window}; lower the levels")
            total = sum(example.num_trained for example in examples)
            batches = micro_batches(
                [replace(example, weight=1 / total) for example in examples],
                max_tokens=config.max_tokens_per_batch, num_shares=learner.num_shares,
            )  # fmt: skip
            sums = learner.backward(batches, SupervisedLoss())
            lr = cosine(step, config)
            norm = learner.step(lr=lr, max_norm=config.max_norm)
            facts["step"], facts["seconds"] = step + 1, time.monotonic() - started
            facts["tokens"] += sum(map(len, examples))
            spans = [(0, len(example)) for example in examples]
            facts["flops"] += learner.passes * sequence_flops(learner.config, spans)
            metrics = {"loss": sums["loss"], "lr": lr, "grad_norm": norm, "tokens": facts["tokens"],
                       "seconds": facts["seconds"], "train_flops": facts["flops"]}  # fmt: skip
            run.log(step, metrics)
            lost: OSError | None = None
            try:
                if on_step:
                    on_step(step, metrics)
            except OSError as error:  # whoever read what is printed is gone; the step is kept first
                lost = error
            if (step + 1) % config.save_every == 0 or step + 1 == config.num_steps or stop.requested or lost:
                save_state(run, learner, facts)
            if stop.requested:
                raise KeyboardInterrupt
            if lost is not None:
                raise lost
        return save_checkpoint(run, learner, step=config.num_steps, facts=facts)


def tell_of_another_cosine(config: SFTConfig, facts: dict[str, Any]) -> None:
    """A run that is made longer takes other steps from here on than one of that length would have: its cosine is over
    all steps. Keeps the number that the next state is of."""
    planned, facts["num_steps"] = facts.get("num_steps", config.num_steps), config.num_steps
    if planned != config.num_steps and 0 < facts["step"] < config.num_steps:
        before, now = (cosine(facts["step"], replace(config, num_steps=n)) for n in (planned, config.num_steps))
        warnings.warn(
            f"{config.out} has taken {facts['step']} steps of num_steps={planned}: with {config.num_steps} its step "
            f"size goes on at {now:.2g} instead of {before:.2g}, which is no run of {config.num_steps} steps from the "
            "first on",
            stacklevel=2,
        )


def open_start(config: SFTConfig, run_folder: Path, source_row: dict[str, Any]) -> Policy:
    """The model a run starts from: the one it names, or a fresh one."""
    sources = [source_row]
    if config.model:
        return open_policy(
            config.model, run_folder, dtype=config.dtype, lora_rank=config.lora_rank, seed=config.seed, sources=sources
        )
    if config.lora_rank or config.dtype != "float32":
        raise ConfigError("a fresh model is trained whole and in float32; name a `model` for lora_rank or dtype")
    model = config.architecture.build(config.seed).to(pick_device())
    return Policy(model, ByteTokenizer(), None, "", None, tuple(sources))


def training_source(config: SFTConfig) -> dict[str, Any]:
    """What this run trains on, as `runs.record_training` wants it."""
    if config.data == "demonstrations":
        return {"kind": "other", "name": "demonstrations", "note": "made while training"}
    return file_source(data_file(Path(config.data)))


def data_file(path: Path) -> Path:
    """A path at which there is a file."""
    if not path.is_file():
        raise ConfigError(
            f"no data at {path}; give a JSON Lines file with problem, reasoning and answer on each line "
            "(`ponder data` makes one)"
        )
    return path


def cosine(step: int, config: SFTConfig) -> float:
    """Linear warm-up, then a cosine down to min_lr."""
    assert config.min_lr is not None
    if step < config.warmup_steps:
        return config.lr * (step + 1) / config.warmup_steps
    share = (step - config.warmup_steps) / max(1, config.num_steps - config.warmup_steps)
    return config.min_lr + (config.lr - config.min_lr) * 0.5 * (1 + math.cos(math.pi * share))


Row = dict[str, str]
ROW_FIELDS = ("system", "problem", "given", "reasoning", "answer")  # what training reads; other fields are never shown


def open_source(
    config: SFTConfig, tokenizer: Tokenizer, rows: Sequence[tuple[str, Row]] | None = None, *, window: int = 1 << 62
) -> Source:
    """Example i of the data, for every i. rows: those of a file, with where each stands; None = demonstrations.

    Refuses rows of more tokens than the window, and rows that teach nothing.
    """
    if rows is None:

        def made(index: int) -> Example:
            problem, reasoning, answer = demonstration(config.demonstrations, index, seed=config.seed)
            return to_example(tokenizer, problem.prompt, reasoning, answer)

        return made
    examples, too_long = [], []
    for where, row in rows:
        system = [Message(role="system", content=row["system"])] if row.get("system") else []
        prompt = [*system, Message(role="user", content=row["problem"])]
        example = to_example(tokenizer, prompt, row["reasoning"], row.get("answer"), given=row.get("given", ""))
        if not example.num_trained:
            raise ConfigError(f"{where} has neither reasoning nor answer to learn; correct or delete that line")
        if len(example) > window:
            too_long.append(f"{where} ({len(example)} tokens)")
        examples.append(example)
    if too_long:
        more = f" and {len(too_long) - 5} more" if too_long[5:] else ""
        raise ConfigError(
            f"longer than the model's window of {window} tokens: {', '.join(too_long[:5])}{more}; shorten or drop them"
        )

    @lru_cache(maxsize=2)
    def order(epoch: int) -> list[int]:
        order = list(range(len(examples)))
        Random(f"{config.seed}/epoch/{epoch}").shuffle(order)
        return order

    def shuffled(index: int) -> Example:
        epoch, position = divmod(index, len(examples))
        return examples[order(epoch)[position]]

    return shuffled


def read_solutions(path: Path) -> list[Row]:
    """Rows of problem, reasoning, answer; a broken row is one error with its line."""
    return [row for _, row in numbered_solutions(path)]


def numbered_solutions(path: Path) -> list[tuple[str, Row]]:
    """(where, row) of each: "rows.jsonl:3". Files are read as those of tasks are: UTF-8, also .gz, numbers as text.

    Rows of what was served (`ponder export URL`) carry what monitors said of them. That column is dropped, and a file
    that is a selection by it is refused (`rewarding.chosen_by_flags`).
    """
    rows = []
    flags: list[dict[str, object]] = []
    for number, line in numbered_lines(data_file(path)):
        where = f"{path}:{number}"
        if isinstance(line, ConfigError):
            raise ConfigError(f"{where} is {line}")
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"{where} is not JSON ({error}); correct or delete that line") from None
        if not isinstance(row, dict):
            raise ConfigError(f"{where} is not an object with problem, reasoning and answer")
        flags.append({key: row[key] for key in ("flagged", "flagged_in_export") if key in row})
        is_open = "given" in row and "answer" not in row
        for key in ("problem", "reasoning", *(() if is_open else ("answer",)), *({"given", "system"} & row.keys())):
            value = row.get(key)
            is_whole = isinstance(value, int) and not isinstance(value, bool)  # of any length, which isfinite refuses
            if is_whole or (isinstance(value, float) and math.isfinite(value)):
                row[key] = str(value)
            elif not isinstance(value, str):
                raise ConfigError(f"{where} misses the text field {key!r}")
            elif any("\ud800" <= sign <= "\udfff" for sign in value):  # text to JSON, and to no tokenizer
                raise ConfigError(f"{where}: the field {key!r} holds half a character (\\ud800...); correct it")
        if not row["problem"].strip():
            raise ConfigError(f"{where}: the field 'problem' is empty; correct or delete that line")
        rows.append((where, {key: row[key] for key in ROW_FIELDS if key in row}))
    if not rows:
        raise ConfigError(f"{path} holds no examples")
    if reason := chosen_by_flags(flags):
        raise MonitorInReward(f"{path} {reason}")
    return rows


def to_example(tokenizer: Tokenizer, prompt: Any, reasoning: str, answer: str | None, *, given: str = "") -> Example:
    """prompt, [think] given reasoning [/think] answer [end]; without reasoning marks, all in plain text.

    given: reasoning that is context. An answer of None leaves the reasoning open: what follows is not learned.
    """
    prompt_ids = (*tokenizer.render(prompt), *tokenizer.encode(given))
    if answer is None:
        body = tokenizer.encode(reasoning)
    elif tokenizer.unthink_id is None:
        body = [*tokenizer.encode(f"{reasoning}\n{answer}" if reasoning else answer), tokenizer.end_id]
    else:
        body = [*tokenizer.encode(reasoning), tokenizer.unthink_id, *tokenizer.encode(answer), tokenizer.end_id]
    return Example(prompt_ids=prompt_ids, token_ids=tuple(body), trained=(True,) * len(body))
