"""kind "preference": a reward model of human preferences, Bradley-Terry over a language model's hidden states.

    r = weight . (h - mean) / scale + bias        P(a preferred to b) = 1 / (1 + exp(r_b - r_a))

h is the mean over the tokens of the answer and its end mark, or the state of the last one (scorers/reader.py): answers
only, never reasoning. With a frozen network the mean is the default: nothing ever taught the last token to sum up.
Several layers may be read. A frozen network is named by its folder and the hash of its weights, a trained one is saved.
Answers that do not fit into the window are nan and counted (`num_too_long`).

Training is in train/scorer_preference.py. Shapes: B completions, F features.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast
from weakref import WeakValueDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ponder.config import ConfigError
from ponder.models import hub
from ponder.models.hf_tokenizer import load_tokenizer
from ponder.models.transformer import flops_per_token
from ponder.models.weights import load_model, save_model, write_tensors
from ponder.scorers import files
from ponder.scorers.base import Key
from ponder.scorers.packing import CompletionGroup
from ponder.scorers.reader import Reader, template_hash
from ponder.scorers.reward import Floats, RewardModel
from ponder.types import Completion, Message

_open: WeakValueDictionary[tuple[object, ...], Reader] = WeakValueDictionary()  # an ensemble's members share one


def new_preference_head(num_features: int) -> dict[str, Tensor]:
    """A head whose every output is 0."""
    return {
        "mean": torch.zeros(num_features), "scale": torch.ones(num_features), "weight": torch.zeros(num_features),
        "bias": torch.zeros(1),
    }  # fmt: skip


def head_rewards(features_BF: Tensor, head: Mapping[str, Tensor]) -> Tensor:
    """r (B,), row by row in double: equal answers have equal rewards, whatever the rows beside them."""
    mean, scale, weight, bias = (head[name].double() for name in ("mean", "scale", "weight", "bias"))
    return ((features_BF.double() - mean) / scale * weight).sum(1) + bias


class PreferenceScorer(RewardModel):
    """See the head of this file. `score` takes groups of this model's own ids, as `reader.group` makes them."""

    kind = "preference"

    def __init__(
        self,
        reader: Reader,
        head: Mapping[str, Tensor],
        *,
        name: str,
        model: str = "",
        shift: float = 0.0,
        scale: float = 1.0,
        facts: Mapping[str, Any] | None = None,
        key: Key | None = None,
    ) -> None:
        """model: the frozen network (a folder or a hub id), which is then not saved again; "" = it was trained.
        facts: further fields of scorer.json."""
        super().__init__(name=name, shift=shift, scale=scale, key=key)
        self.reader, self.head, self.model, self.facts = reader, dict(head), model, dict(facts or {})
        self.num_read = self.num_too_long = 0
        config = reader.model.config
        share = max(reader.layers) / config.num_hidden_layers
        self.flops_per_token = share * (flops_per_token(config) - 2.0 * config.vocab_size * config.hidden_size)

    def raw(self, prompt: Sequence[Message], completions: Sequence[Completion]) -> Floats:
        return self.raw_groups([self.group_of(prompt, completions)])[0] if completions else np.zeros(0)

    def group_of(self, prompt: Sequence[Message], completions: Sequence[Completion]) -> CompletionGroup:
        """The visible answers in this model's own ids; one that was cut has no end mark."""
        answers = [completion.answer for completion in completions]
        return self.group_of_answers(prompt, answers, [c.finish_reason == "stop" for c in completions])

    def group_of_answers(
        self, prompt: Sequence[Message], answers: Sequence[str], finished: Sequence[bool]
    ) -> CompletionGroup:
        return self.reader.group(prompt, answers, finished=finished)

    def raw_groups(self, groups: Sequence[CompletionGroup]) -> list[Floats]:
        """r (B,) of each group's completions, nan for those that do not fit into the window."""
        return [self.raw_features(rows) for rows in self.reader.features(groups)]

    def raw_features(self, features_BF: NDArray[np.float32]) -> Floats:
        """r (B,) of features that the reader computed. Counts nan in `num_too_long`, with a warning at the first."""
        found = head_rewards(torch.from_numpy(features_BF), self.head).numpy()
        self._count(found)
        return cast(Floats, found)

    def score(self, groups: Sequence[CompletionGroup]) -> list[Floats]:
        return [self.bounded(r) for r in self.raw_groups(groups)]

    def cost(self, completions: Sequence[Completion]) -> int:
        """Estimated by the policy's tokens: prompts once, and answers."""
        prompts = {completion.prompt_ids: completion.num_prompt_tokens for completion in completions}
        return sum(prompts.values()) + sum(c.num_tokens - c.num_reasoning_tokens for c in completions)

    def _count(self, raw: Floats) -> None:
        too_long = int(np.isnan(raw).sum())
        if too_long and not self.num_too_long:
            window = self.reader.model.config.max_position_embeddings
            warnings.warn(
                f"{too_long} of {len(raw)} answers do not fit into the reward model's window of {window} tokens behind "
                "their prompt; their score is nan, undecided",
                stacklevel=3,
            )
        self.num_read, self.num_too_long = self.num_read + len(raw), self.num_too_long + too_long

    def save(self, folder: str | Path) -> None:
        folder = Path(folder)
        if not self.model:
            save_model(self.reader.model, folder / files.TRUNK)
            self.reader.tokenizer.save(str(folder / files.TRUNK))
        write_tensors(self.head, folder / files.HEAD, torch.float32)
        files.write_facts(folder, {**self.facts, **self._facts()})

    def _facts(self) -> dict[str, Any]:
        return {
            "kind": self.kind, "name": self.name, "policy": "", "shift": self.shift, "scale": self.scale,
            "template": template_hash(self.reader.tokenizer), "layers": list(self.reader.layers),
            "pool": self.reader.pool, "dtype": str(self.reader.model.dtype).removeprefix("torch."),
            **({"model": self.model, "fingerprint": hub.fingerprint(hub.resolve(self.model))} if self.model else {}),
        }  # fmt: skip

    @classmethod
    def load(cls, folder: Path, facts: dict[str, Any], *, key: Key | None = None) -> PreferenceScorer:
        reader = _open_reader(folder, facts)
        shapes = {name: tuple(t.shape) for name, t in new_preference_head(reader.num_features).items()}
        shift, scale = files.shift_and_scale(folder, facts)
        return cls(
            reader, files.load_head(folder, shapes), name=facts["name"], model=facts.get("model", ""), facts=facts,
            shift=shift, scale=scale, key=key,
        )  # fmt: skip


def _open_reader(folder: Path, facts: dict[str, Any]) -> Reader:
    """The network that a scorer.json names, checked: its weights, its spelling, which layers are read."""
    path, model = folder / files.FACTS, facts.get("model", "")
    layers, pool, dtype = facts.get("layers"), facts.get("pool"), getattr(torch, str(facts.get("dtype")), None)
    if not (isinstance(layers, list) and layers and all(type(layer) is int for layer in layers)):
        raise ConfigError(f"{path}: layers = {layers!r} must be a list of whole numbers; train the scorer again")
    if pool not in ("mean", "last") or not isinstance(dtype, torch.dtype) or not isinstance(model, str):
        raise ConfigError(f"{path}: pool, dtype or model is not as it was written; train the scorer again")
    source = hub.resolve(model) if model else folder / files.TRUNK
    shown = (str(source.resolve()), tuple(layers), pool, dtype, facts.get("fingerprint"), facts.get("template"))
    if model and (known := _open.get(shown)):
        return known
    try:
        network, tokenizer = load_model(source, dtype=dtype), load_tokenizer(source)
    except ConfigError as error:
        raise ConfigError(f"the scorer in {folder} has no usable network: {error}") from None
    if model and hub.fingerprint(source) != facts.get("fingerprint"):
        raise ConfigError(f"{path}: {model} has other weights than those this scorer reads; train the scorer again")
    if template_hash(tokenizer) != facts.get("template"):
        raise ConfigError(
            f"{path}: the tokenizer in {source} frames or spells texts in another way than the one it was trained "
            "with; take the model's files again, or train the scorer again"
        )
    reader = Reader(network, tokenizer, layers=layers, pool=pool)
    _open[shown] = reader
    return reader
