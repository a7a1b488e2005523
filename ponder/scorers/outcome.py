"""The outcome scorer: the policy's own network with a scalar head that predicts whether a completion ends correct.

    scorer = OutcomeScorer(model, head, name="nano-outcome", policy=fingerprint)
    scorer.score([CompletionGroup.of(prompt_ids, completions)])      # probabilities

The score is the prediction at the last token of a completion, finished or not; it was trained at every token
(arXiv:2110.14168, section 4.2: all weights, a loss at every token, started from the policy). One packed pass scores all
completions of a problem, with the prompt computed once. A completion without a token is scored at the prompt's last.

Training weighs right and wrong samples equally and adds a ranking term, so its output is no probability; `scale` and
`shift` make it one for the policy's own samples (Platt scaling, fitted on held-out problems).

Shapes: N packed tokens, B completions, D width.
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
from ponder.models.transformer import Transformer, flops_per_token
from ponder.models.weights import load_model, save_model, write_tensors
from ponder.scorers import files
from ponder.scorers.base import Key, TokenScorer
from ponder.scorers.logistic import expit
from ponder.scorers.packing import NUM_LOGPROB_FEATURES, CompletionGroup, Pack, read_packed

WEIGHT, BIAS, LOGPROB_WEIGHT = "score.weight", "score.bias", "surprise.weight"  # names in head.safetensors


def new_head(width: int, *, logprobs: bool = False) -> dict[str, Tensor]:
    """A head of zeros, which predicts 1/2 for everything. logprobs: with the weights of `embedding_bias`."""
    head = {WEIGHT: torch.zeros(width), BIAS: torch.zeros(1)}
    return head | ({LOGPROB_WEIGHT: torch.zeros(NUM_LOGPROB_FEATURES, width)} if logprobs else {})


def embedding_bias(logprob_features_NC: NDArray[np.float32], head: Mapping[str, Tensor]) -> Tensor | None:
    """A projection of the sampler's logprobs (`packing.logprob_features`) that is added to the embeddings (N D); None
    where the head has none.

    From the ids alone the lower layers would have to predict again what the upper layers predicted while sampling: a
    slip in a calculation is obvious in the sampler's logprobs and nowhere else.
    """
    if LOGPROB_WEIGHT not in head:
        return None
    return torch.from_numpy(logprob_features_NC).to(head[LOGPROB_WEIGHT].device) @ head[LOGPROB_WEIGHT]


def head_logits(hidden_MD: Tensor, head: Mapping[str, Tensor]) -> Tensor:
    """Logits (M,) of hidden states, in float32."""
    return hidden_MD.float() @ head[WEIGHT] + head[BIAS]


class OutcomeScorer(TokenScorer):
    """The chance that a completion ends correct, by a whole network: one packed pass a problem. ValueError for ids that
    the network does not have."""

    kind = "outcome"

    def __init__(
        self,
        model: Transformer,
        head: Mapping[str, Tensor],
        *,
        name: str,
        policy: str,
        scale: float = 1.0,
        shift: float = 0.0,
        max_tokens: int = 2048,
        facts: Mapping[str, Any] | None = None,
        key: Key | None = None,
    ) -> None:
        """max_tokens: of one forward pass. facts: further fields of scorer.json, which `save` writes again."""
        super().__init__(name=name, policy=policy, key=key)
        self.needs = frozenset({"logprobs"}) if LOGPROB_WEIGHT in head else frozenset()
        self.model, self.head = model, {n: t.to(model.device) for n, t in head.items()}
        self.scale, self.shift, self.max_tokens, self.facts = scale, shift, max_tokens, dict(facts or {})
        config = model.config  # there is no output layer over the vocabulary
        self.flops_per_token = flops_per_token(config) - 2.0 * config.vocab_size * config.hidden_size

    @torch.inference_mode()
    def score(self, groups: Sequence[CompletionGroup]) -> list[NDArray[np.float64]]:
        for group in groups:
            check_ids(group, self.model)
            if LOGPROB_WEIGHT in self.head and group.logprobs is None:
                raise ValueError(
                    f"the scorer {self.name!r} needs the sampler's logprobs, and these completions have none; train "
                    "one with logprobs=false"
                )
        logits = read_packed(
            groups, lambda pack: self._values(pack).double().cpu().numpy(), dtype=np.float64, max_tokens=self.max_tokens
        )
        return [expit(self.scale * x + self.shift) for x in logits]

    def _values(self, pack: Pack) -> Tensor:
        """The head's output (B,) for the completions of a pack."""
        return head_logits(self._hidden(pack)[torch.from_numpy(pack.last_B).to(self.model.device)], self.head)

    def _hidden(self, pack: Pack) -> Tensor:
        tokens = torch.from_numpy(pack.tokens_N).to(self.model.device)
        bias = embedding_bias(pack.logprob_features_NC, self.head)
        return packed.hidden(self.model, tokens, Layout(pack.segments), embedding_bias_ND=bias)

    def save(self, folder: str | Path) -> None:
        folder = Path(folder)
        save_model(self.model, folder / files.TRUNK)
        write_tensors(self.head, folder / files.HEAD, torch.float32)
        files.write_facts(folder, {**self.facts, **self._facts()})

    def _facts(self) -> dict[str, Any]:
        named = {"kind": self.kind, "name": self.name, "policy": self.policy}
        return {**named, "scale": self.scale, "shift": self.shift, "logprobs": LOGPROB_WEIGHT in self.head}

    @classmethod
    def load(cls, folder: Path, facts: dict[str, Any], *, key: Key | None = None) -> OutcomeScorer:
        trunk = folder / files.TRUNK
        try:
            model = load_model(trunk, dtype=hub.stored_dtype(trunk))
        except ConfigError as error:
            raise ConfigError(f"the scorer in {folder} has no usable network: {error}") from None
        width = model.config.hidden_size
        head = new_head(width, logprobs=facts.get("logprobs") is True)
        shift, scale = files.shift_and_scale(folder, facts)
        return cls(
            model,
            files.load_head(folder, {name: tuple(tensor.shape) for name, tensor in head.items()}),
            name=facts["name"],
            policy=facts["policy"],
            scale=scale,
            shift=shift,
            facts=facts,
            key=key,
            **cls._options(facts, folder),
        )

    @classmethod
    def _options(cls, facts: dict[str, Any], folder: Path) -> dict[str, Any]:
        """Further arguments, from the fields that a subclass adds to scorer.json."""
        return {}


def check_ids(group: CompletionGroup, model: Transformer) -> None:
    """Refuse ids and lengths that the network cannot process."""
    config = model.config
    longest = len(group.prompt_ids) + int(group.lengths.max(initial=0))
    if longest > config.max_position_embeddings:
        raise ValueError(
            f"a completion with its prompt has {longest} tokens, the scorer's window {config.max_position_embeddings}; "
            "it was trained for a policy with another window"
        )
    for ids in (group.prompt_ids, group.token_ids):
        if len(ids) and not (ids.min() >= 0 and ids.max() < config.vocab_size):
            raise ValueError(
                f"token ids up to {ids.max()}, where the scorer's network knows {config.vocab_size}: these completions "
                "are of a model with another tokenizer; use a scorer that was trained for it"
            )
