"""The outcome scorer: the policy's own network with a scalar head, asked whether a completion ends correct.

    scorer = OutcomeScorer(model, head, name="nano-outcome", policy=fingerprint)
    scorer.score([Family.of(prompt_ids, completions)])      # probabilities

It is read at the last token of a completion, finished or not, and was trained to know at every token (arXiv:2110.14168,
section 4.2: all weights, a loss at every token, started from the policy). One packed pass scores all completions of a
problem, the prompt computed once. An unfinished completion without a token is read at the prompt's last.

Training weighs right and wrong alike and adds a ranking term; `scale` and `shift` make the head's output a probability
of the policy's own samples again (Platt's calibration, fitted on held-out problems).

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
from ponder.scorers.packing import SURPRISES, Family, Pack, packs

WEIGHT, BIAS, SURPRISE = "score.weight", "score.bias", "surprise.weight"


def fresh_head(width: int, *, logprobs: bool = False) -> dict[str, Tensor]:
    """A head that says 1/2 to everything: training moves it, and nothing random is left in it. logprobs: it also has
    what the network reads the sampler's logprobs with, see `added`."""
    head = {WEIGHT: torch.zeros(width), BIAS: torch.zeros(1)}
    return head | ({SURPRISE: torch.zeros(SURPRISES, width)} if logprobs else {})


def added(surprise_NC: NDArray[np.float32], head: Mapping[str, Tensor]) -> Tensor | None:
    """What is added to the embeddings (N D): how surprised the sampler was, `packing.surprise`; None = it is not read.

    A network that reads only ids must find out again, in its lower layers, what its own upper layers had thought of
    the next token: a slip of the pen stands out in the sampler's logprobs and nowhere else.
    """
    if SURPRISE not in head:
        return None
    return torch.from_numpy(surprise_NC).to(head[SURPRISE].device) @ head[SURPRISE]


def read(hidden_MD: Tensor, head: Mapping[str, Tensor]) -> Tensor:
    """Logits (M,) of hidden states, in float32."""
    return hidden_MD.float() @ head[WEIGHT] + head[BIAS]


class OutcomeScorer(TokenScorer):
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
        """max_tokens: in one pass. facts: what else scorer.json says, kept."""
        super().__init__(name=name, policy=policy, key=key)
        self.needs = frozenset({"logprobs"}) if SURPRISE in head else frozenset()
        self.model, self.head = model, {n: t.to(model.device) for n, t in head.items()}
        self.scale, self.shift, self.max_tokens, self.facts = scale, shift, max_tokens, dict(facts or {})
        config = model.config  # there is no output layer over the vocabulary
        self.flops_per_token = flops_per_token(config) - 2.0 * config.vocab_size * config.hidden_size

    @torch.inference_mode()
    def score(self, families: Sequence[Family]) -> list[NDArray[np.float64]]:
        for family in families:
            check(family, self.model)
            if SURPRISE in self.head and family.logprobs is None:
                raise ValueError(
                    f"the scorer {self.name!r} reads the sampler's logprobs, and these completions have none; train "
                    "one with logprobs=false"
                )
        kept, which = [], []
        for family in families:
            distinct, places = family.unique()
            kept.append(distinct)
            which.append(places)
        logits = [np.zeros(len(family)) for family in kept]
        for pack in packs(kept, max_tokens=self.max_tokens):
            done = 0
            values = self._values(pack).double().cpu().numpy()
            for index, first, end in pack.pieces:
                logits[index][first:end] = values[done : done + end - first]
                done += end - first
        return [expit(self.scale * x + self.shift)[places] for x, places in zip(logits, which, strict=True)]

    def _values(self, pack: Pack) -> Tensor:
        """The head's output (B,) for the completions of a pack."""
        return read(self._hidden(pack)[torch.from_numpy(pack.last_B).to(self.model.device)], self.head)

    def _hidden(self, pack: Pack) -> Tensor:
        tokens = torch.from_numpy(pack.tokens_N).to(self.model.device)
        more = added(pack.surprise_NC, self.head)
        return packed.hidden(self.model, tokens, Layout(pack.segments), added_ND=more)

    def save(self, folder: str | Path) -> None:
        folder = Path(folder)
        save_model(self.model, folder / files.TRUNK)
        write_tensors(self.head, folder / files.HEAD, torch.float32)
        files.write_facts(folder, {**self.facts, **self._facts()})

    def _facts(self) -> dict[str, Any]:
        named = {"kind": self.kind, "name": self.name, "policy": self.policy}
        return {**named, "scale": self.scale, "shift": self.shift, "logprobs": SURPRISE in self.head}

    @classmethod
    def load(cls, folder: Path, facts: dict[str, Any], *, key: Key | None = None) -> OutcomeScorer:
        trunk = folder / files.TRUNK
        try:
            model = load_model(trunk, dtype=hub.stored_dtype(trunk))
        except ConfigError as error:
            raise ConfigError(f"the scorer in {folder} has no usable network: {error}") from None
        width = model.config.hidden_size
        scale, reads = files.number(facts, "scale", 1.0, folder), facts.get("logprobs") is True
        if scale <= 0:
            raise ConfigError(f"{folder / files.FACTS}: scale = {scale} must be positive; train the scorer again")
        return cls(
            model,
            files.read_head(folder, {n: tuple(t.shape) for n, t in fresh_head(width, logprobs=reads).items()}),
            name=facts["name"],
            policy=facts["policy"],
            scale=scale,
            shift=files.number(facts, "shift", 0.0, folder),
            facts=facts,
            key=key,
            **cls._options(facts, folder),
        )

    @classmethod
    def _options(cls, facts: dict[str, Any], folder: Path) -> dict[str, Any]:
        """What a kind of its own keeps in scorer.json."""
        return {}


def check(family: Family, model: Transformer) -> None:
    """Refuse ids that the network cannot read."""
    config = model.config
    longest = len(family.prompt_ids) + int(family.lengths.max(initial=0))
    if longest > config.max_position_embeddings:
        raise ValueError(
            f"a completion with its prompt has {longest} tokens, the scorer's window {config.max_position_embeddings}; "
            "it was made for a policy with another window"
        )
    for ids in (family.prompt_ids, family.token_ids):
        if len(ids) and not (ids.min() >= 0 and ids.max() < config.vocab_size):
            raise ValueError(
                f"token ids up to {ids.max()}, where the scorer's network knows {config.vocab_size}: these completions "
                "are of a model with another tokenizer; take a scorer that was trained for it"
            )


def expit(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 / (1 + exp(-x)), within (0, 1) for any x."""
    return 1 / (1 + np.exp(-np.clip(x, -30, 30)))
