"""A frozen or trained network that reads prompts and visible answers as texts, for reward models.

    reader = Reader(model, tokenizer)                       # mean state of the answer, from the last layer
    group = reader.group(prompt, ["Paris.", "Rome."])       # ids: the prompt once, each answer with its end mark
    reader.features([group])                                # [(2, width) float32]

The border to the policy is text, and the model's own template frames it, reasoning closed at once where it has marks
for that. An answer is encoded by itself, so the border between prompt and answer is one between tokens however a text
begins. There is no padding: one packed pass, each prompt once, so a row depends on its own ids and on nothing beside
them. What does not fit into the window is nan; nothing is cut.

Shapes: N packed tokens, B completions, D width, F = D a layer that is read.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ponder.config import ConfigError
from ponder.models.packed import PackedOps
from ponder.models.segments import Layout
from ponder.models.tokenizer import Tokenizer, reasoning_is_open
from ponder.models.transformer import Transformer
from ponder.scorers.packing import CompletionGroup, Pack, read_packed
from ponder.types import Message

Pool = Literal["mean", "last"]


def pooled(hidden_ND: Tensor, pack: Pack, pool: Pool) -> Tensor:
    """(B D) float32: the mean, or the last, of each completion's own states; of an empty one the prompt's last."""
    first, last, before = (torch.from_numpy(ends).to(hidden_ND.device) for ends in pack.ends())
    if pool == "last":
        return hidden_ND[last].float()
    start = torch.where(last < first, before, first)
    lengths = last - start + 1
    rows = torch.repeat_interleave(torch.arange(len(lengths), device=lengths.device), lengths)
    within = torch.arange(len(rows), device=rows.device) - (lengths.cumsum(0) - lengths)[rows]
    sums = hidden_ND.new_zeros(len(lengths), hidden_ND.shape[1], dtype=torch.float32)
    return sums.index_add(0, rows, hidden_ND[start[rows] + within].float()) / lengths[:, None]


def template_hash(tokenizer: Tokenizer) -> str:
    """16 hex digits of how a tokenizer spells and frames: scores of another spelling would be of another model.

    Of the template's source, not of what it renders: some templates say today's date.
    """
    source = getattr(tokenizer, "template_source", type(tokenizer).__name__)
    ids = [tokenizer.encode(_PROBE), tokenizer.end_id, tokenizer.think_id, tokenizer.unthink_id]
    return hashlib.sha256(f"{source}\n{ids}".encode()).hexdigest()[:16]


_PROBE = "\n\nHello, world: 12,345 = x^2!  Ünï. 'It's' <|im_end|> </s>\tdone"


class Reader:
    """A network that reads prompts and answers as texts: (prompt, answers) -> ids -> features."""

    def __init__(
        self,
        model: Transformer,
        tokenizer: Tokenizer,
        *,
        layers: Sequence[int] = (),
        pool: Pool = "mean",
        max_tokens: int = 2048,
    ) -> None:
        """layers: whose outputs are read, from 1; () = the last one's, after the final norm."""
        count = len(model.model.layers)
        for layer in layers:
            if not 1 <= layer <= count:
                raise ConfigError(f"layers = {list(layers)}: the network has layers 1 to {count}")
        self.model, self.tokenizer, self.pool, self.max_tokens = model, tokenizer, pool, max_tokens
        self.layers = tuple(layers) or (count,)
        self.num_features = len(self.layers) * model.config.hidden_size
        check_border(tokenizer)

    def group(
        self, prompt: Sequence[Message], answers: Sequence[str], *, finished: Sequence[bool] | None = None
    ) -> CompletionGroup:
        """The ids of one prompt and its answers. An unfinished answer has no end mark."""
        tokenizer = self.tokenizer
        ids = list(tokenizer.render(prompt))
        if tokenizer.unthink_id is not None and reasoning_is_open(tokenizer, ids):
            ids.append(tokenizer.unthink_id)  # reasoning is not read: it is over before it began
        ends = [[tokenizer.end_id] if is_over else [] for is_over in (finished or [True] * len(answers))]
        return CompletionGroup.of(
            ids, [[*tokenizer.encode(text), *end] for text, end in zip(answers, ends, strict=True)]
        )

    def fits(self, group: CompletionGroup) -> NDArray[np.bool_]:
        """(B,) which completions fit into the window, after the whole prompt."""
        return len(group.prompt_ids) + group.lengths <= self.model.config.max_position_embeddings

    def hidden(self, pack: Pack) -> list[Tensor]:
        """(N D) of every layer that is read; layers above the last of them are not computed."""
        decoder = self.model.model
        ops = PackedOps(self.model, Layout(pack.segments))
        x = decoder.embed_tokens(torch.from_numpy(pack.tokens_N).to(self.model.device))
        found = {}
        for number, block in enumerate(decoder.layers[: max(self.layers)], 1):
            x = block(x, ops)
            found[number] = decoder.norm(x, ops) if number == len(decoder.layers) else x
        return [found[layer] for layer in self.layers]

    @torch.inference_mode()
    def features(self, groups: Sequence[CompletionGroup]) -> list[NDArray[np.float32]]:
        """(B F) of each group; nan for completions that do not fit. Each row depends on its own ids alone."""
        vocabulary = self.model.config.vocab_size
        for group in groups:
            for ids in (group.prompt_ids, group.token_ids):
                if len(ids) and not (ids.min() >= 0 and ids.max() < vocabulary):
                    raise ValueError(f"token ids up to {ids.max()}, where the network knows {vocabulary}")
        found = [np.full((len(group), self.num_features), np.nan, np.float32) for group in groups]
        kept = [np.flatnonzero(self.fits(group)) for group in groups]
        fitting = [_chosen(group, rows) for group, rows in zip(groups, kept, strict=True)]
        values = read_packed(
            fitting,
            lambda pack: torch.cat([pooled(hidden, pack, self.pool) for hidden in self.hidden(pack)], 1).cpu().numpy(),
            width=(self.num_features,), dtype=np.float32, max_tokens=self.max_tokens,
        )  # fmt: skip
        for rows, own, value in zip(kept, found, values, strict=True):
            own[rows] = value
        return found


def _chosen(group: CompletionGroup, rows: NDArray[np.int64]) -> CompletionGroup:
    """Some completions of a group."""
    if len(rows) == len(group):
        return group
    ends = np.cumsum(group.lengths)
    return CompletionGroup.of(
        group.prompt_ids.tolist(), [group.token_ids[ends[r] - group.lengths[r] : ends[r]].tolist() for r in rows]
    )


def check_border(tokenizer: Tokenizer) -> None:
    """A prompt has no second BOS token, and an answer keeps its text after a prompt; an error, or a warning."""
    ids = list(tokenizer.render([Message(role="user", content="a")]))
    bos = getattr(tokenizer, "bos_id", None)
    # a template whose every message begins with the same mark (<|im_start|>) may use it as bos_token
    if bos is not None and ids[:2] == [bos, bos]:
        raise ConfigError("the tokenizer begins a prompt with its first token twice; fix its chat template")
    before = tokenizer.decode(ids)
    for text in ("yes", " yes", "\nyes", "Ünï 12"):
        if tokenizer.decode([*ids, *tokenizer.encode(text)]) != before + text:
            warnings.warn(
                f"the tokenizer does not keep {text!r} after a prompt as it is: texts that differ there score alike",
                stacklevel=2,
            )
            return
