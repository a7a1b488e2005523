"""The probe: a small head over the sampler's own hidden states, nearly free (arXiv:2504.05419).

Where the engine kept them (`Completion.hidden`: the last state, then the mean of all, 2 D numbers) scoring costs a
matrix product. Where it did not, as in a bank, the policy processes the completions again, in one packed pass.

Shapes: B completions, D width of the policy, F = 2 D.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ponder.config import ConfigError
from ponder.models import hub, packed
from ponder.models.segments import Layout
from ponder.models.transformer import Transformer
from ponder.models.weights import write_tensors
from ponder.scorers import files
from ponder.scorers.base import Key, TokenScorer
from ponder.scorers.logistic import expit
from ponder.scorers.outcome import check_ids
from ponder.scorers.packing import CompletionGroup, Pack, read_packed
from ponder.types import Completion

Floats = NDArray[np.float64]


def completion_states(hidden_ND: Tensor, first_B: Tensor, last_B: Tensor, prompt_last_B: Tensor) -> Tensor:
    """What the engine would have kept of each completion, (B F) float32, from the hidden states of a packed pass.

    A token is drawn from the state of the token before it: the first from the state of the prompt's last. An empty
    completion has the prompt's last state, twice.
    """
    hidden = hidden_ND.float()
    is_single = (last_B <= first_B)[:, None]
    drawn_last = torch.where(is_single, hidden[prompt_last_B], hidden[(last_B - 1).clamp(min=0)])
    sums = torch.cat([hidden.new_zeros(1, hidden.shape[1]), hidden.double().cumsum(0).float()])
    inner = sums[last_B.clamp(min=0)] - sums[torch.minimum(first_B, last_B)]  # states first..last-1
    count = (last_B - first_B + 1).clamp(min=1)[:, None]
    mean = (torch.where(is_single, 0.0, inner) + hidden[prompt_last_B]) / count
    return torch.cat([drawn_last, mean], dim=1)


class Probe(TokenScorer):
    """The chance that a completion ends correct, by a head (F,) over hidden states. ValueError where they have another
    width."""

    kind = "probe"
    needs = frozenset({"hidden"})
    needs_forward_pass = False

    def __init__(
        self, head: Mapping[str, Tensor], *, name: str, policy: str, model: str, max_tokens: int = 2048,
        key: Key | None = None,
    ) -> None:  # fmt: skip
        """model: the policy (a folder or a hub id), which computes hidden states that were not kept."""
        super().__init__(name=name, policy=policy, key=key)
        self.head, self.model, self.max_tokens = dict(head), model, max_tokens
        self._trunk: Transformer | None = None

    def _score_completions(self, completions: Sequence[Completion]) -> list[float]:
        if any(completion.hidden is None for completion in completions):
            return super()._score_completions(completions)
        if not completions:
            return []
        return self.probabilities(np.stack([np.asarray(c.hidden, np.float32) for c in completions])).tolist()

    def probabilities(self, hidden_BF: NDArray[np.float32]) -> Floats:
        """Probabilities from hidden states."""
        self.check_states(hidden_BF)
        x = (torch.from_numpy(hidden_BF) - self.head["mean"]) / self.head["scale"]
        if "inner.weight" in self.head:
            x = torch.relu(x @ self.head["inner.weight"].T + self.head["inner.bias"])
        return expit((x @ self.head["weight"] + self.head["bias"]).double().numpy())

    def check_states(self, hidden_BF: NDArray[np.float32]) -> None:
        """ValueError for hidden states of another network."""
        size = self.head["mean"].shape[0]
        if hidden_BF.shape[1] != size:
            raise ValueError(
                f"hidden states of {hidden_BF.shape[1]} numbers, where the probe {self.name!r} needs {size}; it was "
                "trained for another policy"
            )

    def score(self, groups: Sequence[CompletionGroup]) -> list[Floats]:
        return [self.probabilities(states) for states in self.states(groups)]

    @torch.inference_mode()
    def states(self, groups: Sequence[CompletionGroup]) -> list[NDArray[np.float32]]:
        """The policy's hidden states (B F) of each group, read again."""
        if self._trunk is None:
            folder = hub.resolve(self.model)
            self._trunk = hub.load(folder, dtype=None)[0]
        for group in groups:
            check_ids(group, self._trunk)
        trunk, width = self._trunk, self.head["mean"].shape[0]

        def read(pack: Pack) -> NDArray[np.float32]:
            hidden = packed.hidden(trunk, torch.from_numpy(pack.tokens_N), Layout(pack.segments))
            return completion_states(hidden, *map(torch.from_numpy, pack.ends())).numpy()

        return read_packed(groups, read, width=(width,), dtype=np.float32, max_tokens=self.max_tokens)

    def save(self, folder: str | Path) -> None:
        write_tensors(self.head, Path(folder) / files.HEAD, torch.float32)
        width = self.head["mean"].shape[0] // 2
        inner = self.head["inner.bias"].shape[0] if "inner.bias" in self.head else 0
        facts = {"name": self.name, "policy": self.policy, "model": self.model, "width": width, "inner": inner}
        files.write_facts(folder, {"kind": self.kind, **facts})

    @classmethod
    def load(cls, folder: Path, facts: dict[str, Any], *, key: Key | None = None) -> Probe:
        width, inner = facts.get("width"), facts.get("inner", 0)
        if type(width) is not int or type(inner) is not int or width < 1 or inner < 0:
            raise ConfigError(f"{folder / files.FACTS}: width and inner must be whole numbers; train the scorer again")
        if not isinstance(facts.get("model"), str):
            raise ConfigError(f"{folder / files.FACTS} does not say whose hidden states it needs (model)")
        last = inner or 2 * width
        shapes: dict[str, tuple[int, ...]] = {"weight": (last,), "bias": (1,)}
        shapes |= {"mean": (2 * width,), "scale": (2 * width,)}
        if inner:
            shapes |= {"inner.weight": (inner, 2 * width), "inner.bias": (inner,)}
        head = files.load_head(folder, shapes)
        return cls(head, name=facts["name"], policy=facts["policy"], model=facts["model"], key=key)
