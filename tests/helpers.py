"""Tiny doubles that several rooms' tests share."""

from __future__ import annotations

import contextlib
import gc
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import torch

from ponder.models import compiled
from ponder.models.tokenizer import ByteTokenizer
from ponder.models.transformer import ModelConfig, Transformer
from ponder.types import Completion, Group, Message, Problem, Rollout, Turn, Verdict


def tiny_model(seed: int = 0, *, window: int = 128, **changes: object) -> Transformer:
    """Two layers, width 32, bytes."""
    values: dict[str, object] = {
        "vocab_size": ByteTokenizer.vocab_size, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": window,
    }  # fmt: skip
    model = Transformer(ModelConfig(**(values | changes)))  # type: ignore[arg-type]
    model.init_weights(seed)
    for parameter in model.parameters():  # fresh weights give nearly uniform tokens; sharper ones test more
        if parameter.dim() > 1:
            parameter.data.mul_(4)
    return model


def until(condition: Callable[[], object], seconds: float = 5.0) -> None:
    """Wait for something that another thread or process does."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


@contextlib.contextmanager
def takes_at_most(seconds: float) -> Iterator[None]:
    """Fail if the body takes more processor time than that.

    Another test's garbage is no part of it: a collection of a whole session's heap takes half a second by itself.
    """
    gc.disable()
    begun = time.process_time()
    try:
        yield
        took = time.process_time() - begun
    finally:
        gc.enable()
    assert took < seconds, f"{took:.2f} s of processor time, more than {seconds} s"


def user(text: str) -> tuple[Message, ...]:
    return (Message(role="user", content=text),)


class LowercaseTask:
    """A toy that a fresh tiny model can learn: correct = the answer holds a lower-case letter."""

    name, split, patience = "lowercase", "train", 0.0

    def __init__(self, *, split: str = "train", seed: int = 0, size: int = 16) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Problem:
        if not 0 <= index < self.size:
            raise IndexError(index)
        return Problem(id=f"lowercase/{index}", prompt=user(f"p{index}"), target="", task=self.name, level=index % 2)

    def verify(self, problem: Problem, answer: str) -> Verdict:
        good = any("a" <= letter <= "z" for letter in answer)
        return Verdict(outcome="correct" if good else "wrong", reward=float(good), extracted=answer or None)

    def key(self, problem: Problem, answer: str) -> str | None:
        return answer or None


def group_of(rewards: Sequence[float], *, problem: Problem | None = None, num_tokens: int = 2) -> Group:
    """Rollouts of one completion each, with these rewards; what they said does not matter."""
    problem = problem or LowercaseTask()[0]
    completion = Completion(
        prompt_ids=(1, 2), token_ids=tuple(range(97, 97 + num_tokens)), sampler_logprobs=(-5.0,) * num_tokens,
        sampled=(True,) * num_tokens, finish_reason="stop", reasoning="", answer="ab", num_reasoning_tokens=0,
    )  # fmt: skip
    rollouts = [
        Rollout(
            problem=problem, turns=(Turn(completion=completion),), reward=reward,
            verdict=Verdict(outcome="correct" if reward > 0 else "wrong", reward=reward),
        )
        for reward in rewards
    ]  # fmt: skip
    return Group(problem=problem, rollouts=tuple(rollouts))


# ---- compiled C: (source, dtype) -> the library; the test is skipped where there is none


def in_c(source: Path, dtype: torch.dtype) -> str:
    """What this CPU computes."""
    found = compiled.library(source, dtype)
    return found or pytest.skip("no compiled C here: it needs an x86 CPU with AVX2 and a C compiler")


def with_pairs(source: Path, dtype: torch.dtype) -> str:
    """What a CPU with AVX512-BF16 and no matrix units computes, its one instruction imitated."""
    if dtype == torch.float32:
        pytest.skip("pairs of numbers are bfloat16's")
    in_c(source, dtype)
    flags = [flag for flag in compiled.flags(dtype) or () if not flag.startswith("-mamx")]
    return str(compiled.build(source, [*flags, "-DEMULATE_PAIRS"]))


def on_avx2(source: Path, dtype: torch.dtype) -> str:
    """What an older CPU computes."""
    if "-mavx512f" not in (compiled.flags(dtype) or ()):
        pytest.skip("this is what C is here")
    in_c(source, dtype)
    return str(compiled.build(source, ["-mavx2", "-mfma", *(["-DBF16"] if dtype == torch.bfloat16 else [])]))


C_WAYS = {"C": in_c, "C, pairs": with_pairs, "C, AVX2": on_avx2}


def chain_model(following: dict[int, list[int]], vocab_size: int = ByteTokenizer.vocab_size) -> Transformer:
    """A model that says one thing after another: after each token the listed ones are likely, the first most of all."""
    width = -(-vocab_size // 16) * 16
    model = tiny_model(vocab_size=vocab_size, hidden_size=width, num_hidden_layers=1, tie_word_embeddings=False)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.data.zero_()
    model.model.embed_tokens.weight.data[:, :vocab_size] = torch.eye(vocab_size)
    for token, others in following.items():
        for place, other in enumerate(others):
            model.lm_head.weight.data[other, token] = 10.0 - place
    return model


@contextlib.contextmanager
def many_open_files() -> Iterator[None]:
    """What is opened meanwhile has a number above 1023, which select() does not take."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2_000:
        pytest.skip(f"this user may open {hard} files only")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2_000), hard))
    with contextlib.ExitStack() as opened:
        opened.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        while opened.enter_context(open(os.devnull, "rb")).fileno() < 1_024:
            pass
        yield
