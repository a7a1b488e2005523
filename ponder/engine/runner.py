"""Continuous batching around one model: admit, draw, record, decode, until nothing waits.

One `step` draws one token for every running sequence. A sequence that ends frees its slot at once and the next
waiting sample takes it. All samples of a prompt share one prefill. Everything here runs in one thread; `local.py`
puts one of these into each worker process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch

from ponder.engine.form import Answers
from ponder.engine.hidden import HiddenStates
from ponder.engine.network import WeightLayout
from ponder.engine.prompts import Prompt
from ponder.engine.sampling import draw, uniforms
from ponder.engine.scheduler import Request, Sample, Scheduler
from ponder.types import FinishReason

Finished = tuple[Request, list[Sample]]


class Runner:
    """A network with slots. `decode` is only needed to look for strings that stop answers or pause reasoning."""

    def __init__(
        self,
        layout: WeightLayout,
        weights: Mapping[str, torch.Tensor],
        *,
        end_id: int,
        unthink_id: int | None,
        pad_id: int,
        decode: Callable[[list[int]], str],
        end_ids: Sequence[int] = (),
        think_id: int | None = None,
        num_slots: int = 128,
        keep_hidden: bool = False,
        closes_once: bool = False,
        answers: Answers | None = None,
        version: int = 0,
    ) -> None:
        """weights: as `layout` arranged them. end_ids: all end marks, where there are more than one. closes_once: no
        closing mark is drawn in an answer. answers: holds them to their forms, where the tokens' bytes are known.
        version: of the weights."""
        config, self.decode, self.version = layout.config, decode, version
        self.network = network = layout.network(weights, num_slots=num_slots, pad_id=pad_id)
        self.scheduler = Scheduler(
            num_slots=num_slots, window=config.max_position_embeddings, end_ids=end_ids or (end_id,),
            unthink_id=unthink_id, think_id=think_id, closes_once=closes_once,
        )  # fmt: skip
        self._prompts: dict[int, Prompt] = {}  # of each request that has been prefilled
        shape = (0, config.vocab_size)
        self.logits = torch.empty(shape, dtype=network.logits_dtype, device=network.device)  # of each slot's next token
        self._hidden = HiddenStates(num_slots, config.hidden_size, network.device) if keep_hidden else None
        self._answers = answers
        self._arrived: list[Finished] = []

    @property
    def has_work(self) -> bool:
        """Whether `step` has anything to draw or to return."""
        return self.scheduler.has_work or bool(self._arrived)

    def add(self, request: Request) -> None:
        """Queue a request; one whose prompt leaves no room comes back from the next `step`. Its form is compiled
        meanwhile."""
        if request.params.form and self._answers is not None:
            self._answers.prepare(request.params.form)
        refused = self.scheduler.add(request)
        if refused:
            self._arrived.append(refused)

    def reload(self, version: int) -> None:
        """Other weights were written over the old ones. What runs goes on with them, over the keys and values that the
        old ones made; a prompt that is asked again is read again."""
        self.network.reload()
        self.network.prompts.clear()
        self.scheduler.change_version(version)
        self.version = version

    @torch.inference_mode()
    def cancel(self, request_id: int) -> None:
        """Drop a request that waits or runs and free its slots; it gives no result. An unknown id changes nothing."""
        for source, target in self._move(self.scheduler.cancel(request_id), pending=0):
            self.logits[target] = self.logits[source]
        self.logits = self.logits[: self.scheduler.n]
        self._forget(request_id)

    def _forget(self, request_id: int) -> None:
        """A request is over; with the last one that shares its prompt, the prompt goes."""
        prompt = self._prompts.pop(request_id, None)
        if prompt is not None:
            self.network.release(prompt)
        if self._answers is not None:
            self._answers.forget(request_id)

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
        if self._hidden:
            self._hidden.drew(n)
        done = table.record(tokens, logprobs, forced)
        ended = dict(done) | self._stopped(dict(done))
        for slot in sorted(ended):
            hidden = self._hidden.read(slot, table.num_tokens(slot)) if self._hidden else None
            result = table.take(slot, ended[slot], hidden=hidden)
            if result:
                finished.append(result)
        last = tokens.copy()  # closing the gaps moves the drawn tokens along with the cache
        for source, target in self._move(table.release(sorted(ended)), pending=1):
            last[target] = last[source]
        for request, _ in finished:
            self._forget(request.id)
        if table.n:
            self._decode(last[: table.n])
        else:
            self.logits = self.logits[:0]
        return finished

    def _draw(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """One token a slot, its log-probability, and whether a budget forced it."""
        table, n, device = self.scheduler, self.scheduler.n, self.network.device
        forced, held = table.must_close(), table.may_not_close()
        uniform = uniforms(table.seed[:n], table.length[:n] - table.prompt_length[:n])
        logits, formed = self._formed()
        tokens_N, logprobs_N = draw(
            logits,
            torch.from_numpy(uniform).to(device),
            torch.from_numpy(table.temperature[:n]).to(device),
            torch.from_numpy(table.top_p[:n]).to(device),
            forbidden_N=torch.from_numpy(held).to(device) if held.any() else None,
            forbidden_ids=(table.unthink_id, *table.end_ids),
            forced_N=torch.from_numpy(forced).to(device) if forced.any() else None,
            forced_id=table.unthink_id,
        )
        tokens, logprobs = tokens_N.cpu().numpy(), logprobs_N.cpu().numpy()
        for slot in formed:
            assert self._answers is not None
            token = self._answers.steered(table.owner[slot], int(tokens[slot]), room=table.room_for_answer(slot))
            if token != tokens[slot]:
                temperature = float(table.temperature[slot]) or 1.0
                logprob = (logits[slot].float() / temperature).log_softmax(-1)[token]
                tokens[slot], logprobs[slot], forced[slot] = token, logprob.item(), True
        misplaced = np.flatnonzero(table.misplaced(tokens))
        if len(misplaced):
            tokens[misplaced], logprobs[misplaced] = self._draw_again(misplaced)
        return tokens, logprobs, forced

    def _draw_again(self, slots: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A mark was drawn in an answer, so another token is, with another number: together that draws from all tokens
        but marks, and where no mark was drawn nothing changed. Log-probabilities stay those of the whole vocabulary,
        which a trainer recomputes. (An answer of a form has no marks to draw.)"""
        table, device = self.scheduler, self.network.device
        uniform = uniforms(~table.seed[slots], table.length[slots] - table.prompt_length[slots])
        tokens, logprobs = draw(
            self.logits[torch.from_numpy(slots).to(device)],
            torch.from_numpy(uniform).to(device),
            torch.from_numpy(table.temperature[slots]).to(device),
            torch.from_numpy(table.top_p[slots]).to(device),
            forbidden_N=torch.ones(len(slots), dtype=torch.bool, device=device),
            forbidden_ids=table.marks,
        )
        return tokens.cpu().numpy(), logprobs.cpu().numpy()

    def _formed(self) -> tuple[torch.Tensor, list[int]]:
        """The logits, without what the form of an answer rules out, and whose. The reasoning has no form."""
        table, n = self.scheduler, self.scheduler.n
        slots = np.flatnonzero(table.has_form[:n] & ~table.in_reasoning[:n]).tolist()
        if not slots or self._answers is None:
            return self.logits, []
        logits = self.logits.clone()
        for slot in slots:
            mask = self._answers.mask(table.owner[slot], table.params_of(slot).form, table.answer_ids(slot))
            if mask is not None:
                ruled_out = torch.ones(logits.shape[1], dtype=torch.bool)
                ruled_out[: len(mask)] = torch.from_numpy(~mask)
                logits[slot, ruled_out.to(logits.device)] = float("-inf")
        return logits, slots

    def _stopped(self, already: dict[int, FinishReason]) -> dict[int, FinishReason]:
        """Slots whose answer has just met one of their stop strings, or whose reasoning the end of a step. An answer
        that meets one with the last token of its budget was not cut by it."""
        table = self.scheduler
        stopped: dict[int, FinishReason] = {}
        for slot in np.flatnonzero(table.has_stop[: table.n] & (table.num_answer[: table.n] > 0)).tolist():
            if already.get(slot) != "stop":
                answer = self.decode(table.answer_ids(slot))
                if any(stop in answer for stop in table.params_of(slot).stop):
                    stopped[slot] = "stop"
        for slot in np.flatnonzero(table.has_pause[: table.n] & table.in_reasoning[: table.n]).tolist():
            if slot not in already:
                step = self.decode(table.token_ids(slot)).lstrip()  # a step has words before what ends it
                if any(pause in step for pause in table.params_of(slot).pause):
                    stopped[slot] = "pause"
        return stopped

    def _move(self, moves: list[tuple[int, int]], *, pending: int) -> list[tuple[int, int]]:
        """Follow the scheduler's moves in the cache, which lacks each sequence's last `pending` tokens."""
        table = self.scheduler
        for source, target in moves:
            self.network.move(source, target, table.num_tokens(target) - pending)
            if self._hidden:
                self._hidden.move(source, target)
        self.network.keep(table.n)
        return moves

    def _decode(self, tokens: np.ndarray) -> None:
        table, n = self.scheduler, self.scheduler.n
        hidden, self.logits = self.network.decode(tokens, table.length[:n] - 1 - table.prompt_length[:n])
        if self._hidden:
            self._hidden.decoded(hidden, n)

    def _admit(self) -> None:
        """Fill free slots with waiting samples, in order of arrival."""
        table = self.scheduler
        rows = []
        while table.waiting and table.n < table.num_slots:
            waiting = table.waiting[0]
            if waiting.request.id not in self._prompts:
                self._prefill()
            prompt = self._prompts[waiting.request.id]
            while waiting.next_index < waiting.request.n and table.n < table.num_slots:
                slot = table.admit(waiting, read_by=prompt.version, version=self.version)
                self.network.insert(prompt)
                if self._hidden:
                    self._hidden.admit(slot, prompt.hidden_D)
                rows.append(prompt.logits_V)
            if waiting.next_index == waiting.request.n:
                table.waiting.popleft()
        if rows:
            self.logits = torch.cat((self.logits, torch.stack(rows)))

    def _prefill(self) -> None:
        """Compute the prompts of the waiting requests that the free slots can take, each once."""
        table, known = self.scheduler, self.network.prompts
        free = table.num_slots - table.n
        new: dict[tuple[int, ...], None] = {}
        taken: list[Request] = []
        for waiting in table.waiting:
            if free <= 0:
                break
            free -= waiting.request.n - waiting.next_index
            if waiting.request.id not in self._prompts:
                ids = waiting.request.prompt_ids
                taken.append(waiting.request)
                if ids not in known:
                    new[ids] = None
        self.network.prefill(list(new))
        for ids in new:
            known[ids].version = self.version
        for request in taken:
            prompt = self._prompts[request.id] = known[request.prompt_ids]
            prompt.num_users += 1


def run_all(runner: Runner, requests: list[Request]) -> list[list[Sample]]:
    """Every request to its end, in order: the engine without processes, for tests and small jobs."""
    for request in requests:
        runner.add(request)
    results: dict[int, list[Sample]] = {}
    while runner.has_work:
        for request, samples in runner.step():
            results[request.id] = samples
    return [results[request.id] for request in requests]
