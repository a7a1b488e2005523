"""Continuous batching around one model: admit, draw, record, decode, until nothing waits.

One `step` draws one token for every running sequence. A sequence that ends frees its slot at once and the next
waiting sample takes it. All samples of a prompt share one prefill. Everything here runs in one thread; `local.py`
puts one of these into each worker process.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from ponder.engine.cache import PromptCache, SlotCache
from ponder.engine.sampling import draw, uniforms
from ponder.engine.scheduler import Request, Sample, Scheduler, Waiting
from ponder.models.transformer import Transformer
from ponder.types import FinishReason

PREFILL_TOKENS = 8192  # padded prompt tokens in one forward pass

Finished = tuple[Request, list[Sample]]


class Runner:
    """A model with slots. `decode` is only needed to look for stop strings in answers."""

    def __init__(
        self,
        model: Transformer,
        *,
        end_id: int,
        unthink_id: int | None,
        pad_id: int,
        decode: Callable[[list[int]], str],
        num_slots: int = 128,
    ) -> None:
        self.model, self.decode, self.pad_id = model, decode, pad_id
        config = model.config
        self.scheduler = Scheduler(
            num_slots=num_slots, window=config.max_position_embeddings, end_id=end_id, unthink_id=unthink_id
        )
        self.cache = SlotCache(config, num_slots, model.model.embed_tokens.weight.dtype, model.device)
        self.logits = torch.empty(0, config.vocab_size, device=model.device)  # (n, V) of the next token of each slot
        self._arrived: list[Finished] = []

    @property
    def has_work(self) -> bool:
        return self.scheduler.has_work or bool(self._arrived)

    def add(self, request: Request) -> None:
        refused = self.scheduler.add(request)
        if refused:
            self._arrived.append(refused)

    @torch.inference_mode()
    def cancel(self, request_id: int) -> None:
        self._move(self.scheduler.cancel(request_id))

    @torch.inference_mode()
    def step(self) -> list[Finished]:
        """One token for every running sequence; returns the requests that are complete."""
        finished, self._arrived = self._arrived, []
        self._admit()
        table = self.scheduler
        n = table.n
        if n == 0:
            return finished
        tokens, logprobs, forced = self._draw()
        done = table.record(tokens, logprobs, forced)
        ended = dict(done) | self._stopped({slot for slot, _ in done})
        for slot in sorted(ended):
            result = table.take(slot, ended[slot])
            if result:
                finished.append(result)
        last = tokens.copy()  # closing the gaps moves the drawn tokens along with cache and logits
        for source, target in self._move(table.release(sorted(ended))):
            last[target] = last[source]
        if table.n:
            self._decode(last[: table.n])
        else:
            self.logits = self.logits[:0]
        return finished

    def _draw(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """One token a slot, its log-probability, and whether a budget forced it."""
        table, n, device = self.scheduler, self.scheduler.n, self.model.device
        forced, held = table.must_close(), table.may_not_close()
        forbidden = None
        if held.any():
            forbidden = torch.zeros_like(self.logits, dtype=torch.bool)
            held_rows = torch.from_numpy(held).to(device)
            forbidden[:, table.unthink_id] = held_rows
            forbidden[:, table.end_id] = held_rows
        uniform = uniforms(table.seed[:n], table.length[:n] - table.prompt_length[:n])
        tokens_N, logprobs_NV = draw(
            self.logits,
            torch.from_numpy(uniform).to(device),
            torch.from_numpy(table.temperature[:n]).to(device),
            torch.from_numpy(table.top_p[:n]).to(device),
            forbidden,
        )
        if forced.any():
            tokens_N = torch.where(torch.from_numpy(forced).to(device), table.unthink_id, tokens_N)
        logprobs_N = logprobs_NV.gather(-1, tokens_N[:, None])[:, 0]
        return tokens_N.cpu().numpy(), logprobs_N.cpu().numpy(), forced

    def _stopped(self, already: set[int]) -> dict[int, FinishReason]:
        """Slots whose answer has just met one of their stop strings."""
        table = self.scheduler
        stopped: dict[int, FinishReason] = {}
        for slot in np.flatnonzero(table.has_stop[: table.n]).tolist():
            if slot in already or not table.num_answer[slot]:
                continue
            stops = table.stops_of(slot)
            answer = self.decode(table.answer_ids(slot))
            if any(stop in answer for stop in stops):
                stopped[slot] = "stop"
        return stopped

    def _move(self, moves: list[tuple[int, int]]) -> list[tuple[int, int]]:
        for source, target in moves:
            self.cache.move(source, target, int(self.scheduler.length[target]))
            self.logits[target] = self.logits[source]
        self.logits = self.logits[: self.scheduler.n]
        return moves

    def _decode(self, tokens: np.ndarray) -> None:
        table, n, device = self.scheduler, self.scheduler.n, self.model.device
        positions = torch.from_numpy(table.length[:n] - 1).to(device)
        self.cache.begin_step(positions, int(table.length[:n].max()) - 1)
        hidden = self.model.hidden(torch.from_numpy(tokens)[:, None].to(device), positions[:, None], self.cache)
        self.logits = self.model.head(hidden[:, 0])

    def _admit(self) -> None:
        """Fill free slots with waiting samples, in order of arrival."""
        table = self.scheduler
        rows = []
        while table.waiting and table.n < table.num_slots:
            waiting = table.waiting[0]
            if waiting.prompt is None:
                self._prefill()
            keys, values, logits_V = waiting.prompt
            while waiting.next_index < waiting.request.n and table.n < table.num_slots:
                slot = table.admit(waiting)
                self.cache.insert(slot, keys, values)
                rows.append(logits_V)
            if waiting.next_index == waiting.request.n:
                table.waiting.popleft()
        if rows:
            self.logits = torch.cat((self.logits, torch.stack(rows)))

    def _prefill(self) -> None:
        """Compute the prompts of the waiting requests that the free slots can take, in one padded pass."""
        table = self.scheduler
        free, longest = table.num_slots - table.n, 0
        batch: list[Waiting] = []
        for waiting in table.waiting:
            length = len(waiting.request.prompt_ids)
            if free <= 0 or (batch and max(longest, length) * (len(batch) + 1) > PREFILL_TOKENS):
                break
            free -= waiting.request.n - waiting.next_index
            if waiting.prompt is None:
                batch.append(waiting)
                longest = max(longest, length)
        prompts = [waiting.request.prompt_ids for waiting in batch]
        padded = torch.full((len(batch), longest), self.pad_id, dtype=torch.long)
        for row, prompt in enumerate(prompts):
            padded[row, : len(prompt)] = torch.tensor(prompt)
        cache = PromptCache(self.model.config)
        hidden = self.model.hidden(padded.to(self.model.device), None, cache)
        ends = torch.tensor([len(prompt) - 1 for prompt in prompts], device=self.model.device)
        logits = self.model.head(hidden[torch.arange(len(batch), device=self.model.device), ends])
        for row, waiting in enumerate(batch):
            keys, values = cache.prompt(row, len(prompts[row]))
            waiting.prompt = (keys, values, logits[row])


def run_all(runner: Runner, requests: list[Request]) -> list[list[Sample]]:
    """Every request to its end, in order: the engine without processes, for tests and small jobs."""
    for request in requests:
        runner.add(request)
    results: dict[int, list[Sample]] = {}
    while runner.has_work:
        for request, samples in runner.step():
            results[request.id] = samples
    return [results[request.id] for request in requests]
