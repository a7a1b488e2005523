"""A prompt that has been prefilled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor


@dataclass(eq=False, kw_only=True)
class Prompt:
    """What the samples of a prompt need to begin. Where its keys and values lie, the network knows."""

    ids: tuple[int, ...]
    hidden_D: Tensor  # its last state, and the
    logits_V: Tensor  # of its first new token
    num_users: int = 0  # requests with samples that wait or run
    version: int = 0  # of the weights that read it


P = TypeVar("P", bound=Prompt)


def release(prompt: P, prompts: dict[tuple[int, ...], P]) -> bool:
    """One request needs it no longer. The last one takes it out of `prompts`, where it may have been replaced; True."""
    prompt.num_users -= 1
    if prompt.num_users:
        return False
    if prompts.get(prompt.ids) is prompt:
        del prompts[prompt.ids]
    return True
