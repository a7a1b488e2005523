"""A base model and the versions of its weights: what sampling clients draw from, one version at a time.

    base = Base("meta-llama/Llama-3.2-1B", "models/tiny", dtype=None, num_workers=2)
    samples = await base.sample(Version("run/3", adapter), [1, 2, 3], params, n=8, end_ids=(7,))

An adapter is merged into what samples, so the engine holds one version of the weights. Requests of another version wait
until those before them are done, then the weights are replaced: in the order of arrival, so that none starves.
"""

from __future__ import annotations

import asyncio
import functools
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ponder.config import ConfigError
from ponder.engine.local import LocalEngine
from ponder.models import hub, lora, packed
from ponder.models.lora import Adapter
from ponder.models.segments import Layout, Segment
from ponder.models.tokenizer import Tokenizer
from ponder.models.transformer import ModelConfig, Transformer
from ponder.models.weights import read_config
from ponder.train.distributed import pick_device
from ponder.train.logprobs import token_logprobs
from ponder.types import Completion, SamplingParams


@dataclass(frozen=True, eq=False)
class Version:
    """Weights under a name that no others have."""

    name: str
    adapter: Adapter | None = None  # None = the base


class Unmarked:
    """A tokenizer without reasoning marks: a client's tokens are all its own, and no budget closes anything."""

    think_id = unthink_id = None

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.vocab_size, self.end_id, self.pad_id = tokenizer.vocab_size, tokenizer.end_id, tokenizer.pad_id
        self.end_ids = tokenizer.end_ids

    def encode(self, text: str) -> list[int]:
        return self._tokenizer.encode(text)

    def decode(self, ids: Sequence[int]) -> str:
        return self._tokenizer.decode(ids)

    def render(self, messages: Sequence[Any]) -> list[int]:
        return self._tokenizer.render(messages)

    def save(self, folder: str) -> None:
        self._tokenizer.save(folder)


class Base:
    """A model that adapters are trained on, loaded when it is first asked for."""

    def __init__(
        self, name: str, reference: str, *, dtype: torch.dtype | None, num_workers: int, num_slots: int = 128
    ) -> None:
        """name: by which clients ask for it; reference: what it is here, see models/hub.py."""
        self.name, self.reference = name, reference
        self._dtype, self._num_workers, self._num_slots = dtype, num_workers, num_slots
        self._current, self._number = "", 0
        self._active = 0
        self._waiting: deque[tuple[int, str]] = deque()
        self._tickets = 0
        self._turn = asyncio.Condition()
        self._scoring: tuple[str, Transformer] | None = None
        self._loading = asyncio.Lock()

    async def ready(self) -> None:
        """Load the model and start its engine, once. ConfigError where there is no such model."""
        async with self._loading:
            await asyncio.to_thread(lambda: self.engine)

    @functools.cached_property
    def _loaded(self) -> tuple[Transformer, Tokenizer]:
        return hub.load(self.reference, dtype=self._dtype, device=pick_device())

    @property
    def model(self) -> Transformer:
        """The first access loads it, which blocks; see `ready`."""
        return self._loaded[0]

    @property
    def tokenizer(self) -> Tokenizer:
        return self._loaded[1]

    @functools.cached_property
    def engine(self) -> LocalEngine:
        """The first access loads the model and starts the engine, which blocks; see `ready`."""
        return LocalEngine(
            self.model, Unmarked(self.tokenizer), num_workers=self._num_workers, num_slots=self._num_slots,
            closes_once=False,
        )  # fmt: skip

    @property
    def config(self) -> ModelConfig:
        """Read without loading the model."""
        return read_config(self.folder)

    @property
    def folder(self) -> Path:
        """The model's folder; one that is not here is downloaded first, which blocks."""
        return hub.resolve(self.reference)

    def fresh(self) -> Transformer:
        """The model once more. Its tensors are shared until a trainer takes copies of them."""
        return Transformer.over(self.model.config, self.model.state_dict())

    def read_adapter(self, folder: Path) -> Adapter:
        """An adapter in PEFT's layout, checked against the model. Blocks."""
        return lora.load_adapter(folder, self.model)

    def merged(self, version: Version) -> dict[str, Tensor]:
        """All weights of a version, in the model's dtype."""
        weights = dict(self.model.state_dict())
        if version.adapter is not None:
            base = {name: weight for name, weight in lora.targets(self.model).items() if name in version.adapter.pairs}
            merged = {name: torch.empty_like(weight) for name, weight in base.items()}
            lora.merge(base, version.adapter, merged)
            weights |= {f"{name}.weight": weight for name, weight in merged.items()}
        return weights

    def check_prompt(self, ids: Sequence[int], max_tokens: int | None) -> int:
        """How many tokens a sample may have. ConfigError for a prompt that cannot be continued."""
        config = self.model.config
        if not ids:
            raise ConfigError("the prompt is empty")
        if bad := next((token for token in ids if not 0 <= token < config.vocab_size), None):
            raise ConfigError(f"prompt: {bad} is no token of {self.name}; they are 0 to {config.vocab_size - 1}")
        if max_tokens is not None and not (type(max_tokens) is int and max_tokens >= 1):
            raise ConfigError(f"max_tokens={max_tokens!r} must be 1 or more")
        room = config.max_position_embeddings - len(ids)
        if room < 1:
            window = config.max_position_embeddings
            raise ConfigError(f"the prompt has {len(ids)} tokens; the window of {self.name} is {window}. Shorten it")
        return min(max_tokens or room, room)

    async def sample(
        self, version: Version, ids: Sequence[int], params: SamplingParams, *, n: int, end_ids: Sequence[int] | None
    ) -> list[Completion]:
        """n completions by one version; a completion depends on it, the prompt, and the parameters alone."""
        async with self._holding(version):
            if end_ids is None:
                return await self.engine.generate(ids, params, n=n)
            return await self.engine.generate_until(ids, params, end_ids, n=n)

    async def prompt_logprobs(self, version: Version, ids: Sequence[int]) -> np.ndarray:
        """Log-probability of every token of a prompt (T,); the first has none: nan."""
        async with self._holding(version):  # in its turn too, so that the weights are merged once a version
            return await asyncio.to_thread(self._score, version, list(ids))

    @torch.no_grad()
    def _score(self, version: Version, ids: list[int]) -> np.ndarray:
        if self._scoring is None or self._scoring[0] != version.name:
            self._scoring = version.name, Transformer.over(self.model.config, self.merged(version))
        model, T = self._scoring[1], len(ids)
        tokens = torch.tensor(ids, device=model.device)
        hidden = packed.hidden(model, tokens, Layout([Segment(0, T)]))
        found = np.full(T, np.nan, np.float32)
        if T > 1:
            logprobs, _ = token_logprobs(hidden[:-1], model.head_weight, tokens[1:], 1.0, with_entropy=False)
            found[1:] = logprobs.cpu().numpy()
        return found

    @asynccontextmanager
    async def _holding(self, version: Version) -> AsyncIterator[None]:
        """The engine has this version's weights meanwhile."""
        self._tickets += 1
        mine = self._tickets, version.name
        async with self._turn:
            self._waiting.append(mine)
            try:
                await self._turn.wait_for(lambda: self._may_enter(mine))
                if self._current != version.name:
                    self._current = ""  # neither, if this fails
                    weights = await asyncio.to_thread(self.merged, version)
                    self._number += 1
                    await asyncio.to_thread(self.engine.update_weights, weights, version=self._number)
                    self._current = version.name
                self._active += 1
            finally:
                self._waiting.remove(mine)
                self._turn.notify_all()
        try:
            yield
        finally:
            self._active -= 1
            async with self._turn:
                self._turn.notify_all()

    def _may_enter(self, mine: tuple[int, str]) -> bool:
        """Whoever came before wants the same weights, and so does whoever is inside."""
        before = all(name == mine[1] for ticket, name in self._waiting if ticket < mine[0])
        return before and (self._current == mine[1] or not self._active)

    async def aclose(self) -> None:
        """Stop the engine, if it was ever started."""
        if "engine" in self.__dict__:
            await self.engine.aclose()
