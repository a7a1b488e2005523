"""kind "preference_probe": a reward model over the hidden states that the sampler kept, for rewards that cost nothing.

    r = weight . (h - mean) / scale + bias        h = `Completion.hidden`: the last state, then the mean of all tokens

It reads the reasoning as well (`reads_reasoning`), so it is no reward for a policy whose reasoning is monitored; kind
"preference" reads answers only. States kept by weights that were trained further (a policy_version above 0) are those
of another network: then, and where none were kept, the frozen `model` reads the completion again, in one packed pass.

Shapes: B completions, F = 2 widths of the policy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ponder.scorers import files
from ponder.scorers.base import Key, by_prompt
from ponder.scorers.preference import head_rewards
from ponder.scorers.probe import Probe
from ponder.scorers.reward import Floats, RewardModel
from ponder.types import Completion, Message


class PreferenceProbe(Probe, RewardModel):
    """A reward from the policy's own hidden states: nearly free, and reads reasoning too."""

    kind = "preference_probe"
    reads_reasoning = True

    def __init__(
        self, head: Mapping[str, Tensor], *, name: str, policy: str, model: str, shift: float = 0.0,
        scale: float = 1.0, max_tokens: int = 2048, key: Key | None = None,
    ) -> None:  # fmt: skip
        """model: the policy (a folder or a hub id), which computes states that were not kept."""
        Probe.__init__(self, head, name=name, policy=policy, model=model, max_tokens=max_tokens, key=key)
        self.shift, self.scale = shift, scale

    def raw_states(self, hidden_BF: NDArray[np.float32]) -> Floats:
        """r from kept states."""
        self.check_states(hidden_BF)
        return cast(Floats, head_rewards(torch.from_numpy(hidden_BF), self.head).numpy())

    def raw(self, prompt: Sequence[Message], completions: Sequence[Completion]) -> Floats:
        if not completions:
            return np.empty(0)  # without the policy, which `states` would load
        if all(c.hidden is not None and c.policy_version == 0 for c in completions):
            return self.raw_states(np.stack([np.asarray(c.hidden, np.float32) for c in completions]))
        read = by_prompt(completions, self._key, lambda groups: [self.raw_states(x) for x in self.states(groups)])
        return np.array(read, float)

    def probabilities(self, hidden_BF: NDArray[np.float32]) -> Floats:
        """The bounded reward (B,), in (0, 1): not the chance that an answer is correct."""
        return self.bounded(self.raw_states(hidden_BF))

    def save(self, folder: str | Path) -> None:
        super().save(folder)
        files.write_facts(folder, {**files.load_facts(Path(folder)), "shift": self.shift, "scale": self.scale})

    @classmethod
    def load(cls, folder: Path, facts: dict[str, Any], *, key: Key | None = None) -> PreferenceProbe:
        found = super().load(folder, facts, key=key)
        assert isinstance(found, cls)
        found.shift, found.scale = files.shift_and_scale(folder, facts)
        return found
