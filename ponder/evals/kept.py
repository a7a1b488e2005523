"""Completions that are kept as they come, for measurements that ask a model for hours and reduce it all to one table.

    with KeptCompletions(folder, {"model": "...", "fingerprint": "..."}) as kept:
        engine = KeptEngine(engine, kept)       # the same command, run again, draws only what is not there yet

    FOLDER/completions.jsonl    the settings, then a line a request: a hash of what was asked, and what came back

A request is a prompt, how it is drawn, and which samples; so one folder serves every file and task that the same model
is asked about. Prompts are not kept. Of completions texts, token ids and counts are; log-probabilities and hidden
states are not.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ponder.engine.base import RedrawingWrapper
from ponder.evals.codec import decode, encode
from ponder.files import append_jsonl, lock_beside
from ponder.rollouts.progress import damaged, resumed
from ponder.types import Completion, Engine, FinishReason, Message, SamplingParams, Usage

FILE = "completions.jsonl"


@dataclass(frozen=True, kw_only=True)
class _Kept:
    """What is kept of a completion."""

    token_ids: tuple[int, ...]
    sampled: tuple[bool, ...]
    finish_reason: FinishReason
    reasoning: str
    answer: str
    num_reasoning_tokens: int
    seed: int
    counted: Usage | None

    @classmethod
    def of(cls, whole: Completion) -> _Kept:
        return cls(**{name: getattr(whole, name) for name in cls.__dataclass_fields__})

    def whole(self, prompt_ids: tuple[int, ...]) -> Completion:
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return Completion(prompt_ids=prompt_ids, sampler_logprobs=(), **fields)


@dataclass(frozen=True, kw_only=True)
class _Line:
    """A request, by its hash, and what came back."""

    asked: str
    said: tuple[_Kept, ...]


class KeptCompletions:
    """The file, held by one process. settings: of the model that is asked; a file of another is refused."""

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.path = folder / FILE
        self.num_reused = 0  # requests that were answered from the file
        self._kept: dict[str, tuple[_Kept, ...]] = {}
        self._lock = lock_beside(self.path)
        try:
            for number, line in enumerate(resumed(self.path, settings, folder), 2):
                try:
                    kept = decode(_Line, line)
                except ValueError:
                    raise damaged(self.path, number) from None
                self._kept[kept.asked] = kept.said
        except BaseException:
            self._lock.close()
            raise

    def get(self, asked: str) -> tuple[_Kept, ...] | None:
        """What came back to this request, None = it was never asked. A hit is counted in `num_reused`."""
        found = self._kept.get(asked)
        self.num_reused += found is not None
        return found

    def add(self, asked: str, said: Sequence[Completion]) -> None:
        """Keep what came back to a request; it is in the file when this returns."""
        line = _Line(asked=asked, said=tuple(_Kept.of(each) for each in said))
        append_jsonl(self.path, [encode(line)])
        self._kept[asked] = line.said

    def __enter__(self) -> KeptCompletions:
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.close()


class KeptEngine(RedrawingWrapper):
    """Another engine, asked only for what is not kept."""

    def __init__(self, engine: Engine, kept: KeptCompletions) -> None:
        super().__init__(engine)
        self._kept = kept

    async def generate(
        self, prompt: Sequence[Message] | Sequence[int], params: SamplingParams, *, n: int = 1, first: int = 0
    ) -> list[Completion]:
        """Completions from the file have neither log-probabilities nor hidden states."""
        asked = _hash_of(prompt, params, n, first)
        if (found := self._kept.get(asked)) is None:
            drawn = await self.engine.generate(prompt, params, n=n, first=first)
            if not any(each.finish_reason == "cancelled" for each in drawn):  # what was given up is asked for again
                self._kept.add(asked, drawn)
            return drawn
        ids = tuple(self.engine.prompt_ids(prompt)) if self.engine.capabilities.token_ids else ()
        return [each.whole(ids) for each in found]


def _hash_of(prompt: Sequence[Message] | Sequence[int], params: SamplingParams, n: int, first: int) -> str:
    plain = [asdict(part) if isinstance(part, Message) else int(part) for part in prompt]
    return hashlib.sha256(json.dumps([plain, asdict(params), n, first]).encode()).hexdigest()[:32]
