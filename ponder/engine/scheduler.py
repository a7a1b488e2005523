"""Who runs next, and when a sequence ends: bookkeeping of requests and slots, without a model.

A request asks for n samples of one prompt. Samples wait in order of arrival and take free slots; the table holds,
per occupied slot, what the rules need: how many reasoning and answer tokens there are, the caps, the seed.

The rules of a completion (all enforced here, while decoding):
  * reasoning at its cap is closed: the closing mark is forced, recorded as not sampled, and the answer follows;
  * before its minimum the reasoning can be neither closed nor ended;
  * a string of `pause` in the reasoning ends the completion unfinished (the runner looks for it, as for `stop`);
  * the cap leaves room in the context window for the answer; a prompt without room for one token ends as "window";
  * an answer holds no mark: one that is drawn in it is drawn again (the runner does; `misplaced` says which);
  * any of the model's end marks ends it; `max_tokens` cuts hard, wherever it falls;
  * `close_reasoning` puts the cap of a running request where it is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from ponder.types import FinishReason, SamplingParams, sample_seed

TINY = 1e-30  # the smallest temperature above 0, and the smallest share of a nucleus, that are told from others


@dataclass(frozen=True, kw_only=True)
class Request:
    """What travels to a worker."""

    id: int
    prompt_ids: tuple[int, ...]
    params: SamplingParams
    n: int
    first: int = 0  # index of the first sample: seeds are sample_seed(params.seed, first + j)
    opened: bool = True  # the prompt ends inside reasoning
    streamed: bool = False  # its tokens travel as they are drawn
    guarded: bool = True  # its answer may hold no mark; a prompt of plain ids is continued as the model would
    end_ids: tuple[int, ...] | None = None  # tokens that end it, in place of the model's end marks


@dataclass(kw_only=True)
class Sample:
    """What travels back for one sample."""

    index: int
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    sampled: list[bool] = field(default_factory=list)
    finish_reason: FinishReason = "stop"
    versions: list[tuple[int, int, int]] = field(default_factory=list)  # as in Completion; never empty of one that ran
    hidden: NDArray[np.float32] | None = None  # (2 D,), see engine/hidden.py


@dataclass
class Waiting:
    """A request with samples that have no slot yet; `next_index` counts from 0, not from the request's `first`."""

    request: Request
    next_index: int = 0


class Scheduler:
    """Slots 0..n-1 are occupied; arrays below are per slot."""

    def __init__(
        self,
        *,
        num_slots: int,
        window: int,
        end_ids: Sequence[int],
        unthink_id: int | None,
        think_id: int | None = None,
        closes_once: bool = False,
    ) -> None:
        self.num_slots, self.window = num_slots, window
        self.end_ids, self.unthink_id = tuple(end_ids), -1 if unthink_id is None else unthink_id
        self.marks = tuple(mark for mark in (think_id, unthink_id) if mark is not None)
        # what no answer may hold: an opening mark in no case; a closing one, unless it is for a trainer to see
        self.not_in_answers = self.marks if closes_once else tuple(mark for mark in self.marks if mark == think_id)
        self.waiting: deque[Waiting] = deque()
        self.n = 0
        self._results: dict[int, list[Sample]] = {}
        self._requests: dict[int, Request] = {}
        self.owner: list[tuple[int, int]] = [(0, 0)] * num_slots  # (request id, sample index)
        self._drawn_by: dict[tuple[int, int], list[tuple[int, int]]] = {}  # owner -> (first token, version of weights)
        self.seed = np.zeros(num_slots, np.uint64)
        self.temperature = np.ones(num_slots, np.float32)
        self.top_p = np.ones(num_slots, np.float32)
        self.prompt_length = np.zeros(num_slots, np.int64)
        self.length = np.zeros(num_slots, np.int64)  # prompt + completion so far
        self.in_reasoning = np.zeros(num_slots, bool)
        self.num_reasoning = np.zeros(num_slots, np.int64)
        self.min_reasoning = np.zeros(num_slots, np.int64)
        self.max_reasoning = np.zeros(num_slots, np.int64)
        self.num_answer = np.zeros(num_slots, np.int64)
        self.max_answer = np.zeros(num_slots, np.int64)
        self.has_stop = np.zeros(num_slots, bool)
        self.max_length = np.zeros(num_slots, np.int64)  # prompt + completion
        self.streamed = np.zeros(num_slots, bool)
        self.num_emitted = np.zeros(num_slots, np.int64)  # tokens of it that have been streamed
        self.has_pause = np.zeros(num_slots, bool)
        self.has_form = np.zeros(num_slots, bool)
        self.guarded = np.zeros(num_slots, bool)
        self.has_own_ends = np.zeros(num_slots, bool)
        self.tokens = np.zeros((num_slots, 64), np.int64)  # of the completion; grows with the longest
        self.logprobs = np.zeros((num_slots, 64), np.float32)
        self.sampled = np.zeros((num_slots, 64), bool)
        self._columns: list[np.ndarray] = [
            self.seed, self.temperature, self.top_p, self.prompt_length, self.length, self.in_reasoning,
            self.num_reasoning, self.min_reasoning, self.max_reasoning, self.num_answer, self.max_answer, self.has_stop,
            self.max_length, self.streamed, self.num_emitted,
            self.has_pause, self.has_form, self.guarded, self.has_own_ends,
        ]  # fmt: skip

    @property
    def has_work(self) -> bool:
        """Whether any sample runs or waits."""
        return bool(self.n or self.waiting)

    def add(self, request: Request) -> tuple[Request, list[Sample]] | None:
        """Queue a request; one whose prompt leaves no room comes back at once, with empty samples."""
        self._requests[request.id], self._results[request.id] = request, []
        if self._room(request) < 1:
            samples = [Sample(index=request.first + j, finish_reason="window") for j in range(request.n)]
            return self._finish(request.id, samples)
        self.waiting.append(Waiting(request))
        return None

    def _room(self, request: Request) -> int:
        """Tokens that fit after the prompt."""
        return self.window - len(request.prompt_ids)

    def cancel(self, request_id: int) -> list[tuple[int, int]]:
        """Forget a request; returns the moves that close its gaps (see `release`)."""
        self.waiting = deque(w for w in self.waiting if w.request.id != request_id)
        self._requests.pop(request_id, None)
        self._results.pop(request_id, None)
        slots = [slot for slot in range(self.n) if self.owner[slot][0] == request_id]
        for slot in slots:
            self._drawn_by.pop(self.owner[slot])
        return self.release(slots)

    def change_version(self, version: int) -> None:
        """Other weights from now on. The next token of what runs was computed already, by the old ones."""
        for slot in range(self.n):
            self._drawn_by[self.owner[slot]].append((self.num_tokens(slot) + 1, version))

    def _versions(self, owner: tuple[int, int], count: int) -> list[tuple[int, int, int]]:
        """(version, start, end) of the tokens of a sample that is over."""
        begun = [(min(first, count), version) for first, version in self._drawn_by.pop(owner)]
        ends = [first for first, _ in begun[1:]] + [count]
        spans = [(version, first, end) for (first, version), end in zip(begun, ends, strict=True)]
        return [span for span in spans if span[1] < span[2]] or spans[:1]

    def admit(self, waiting: Waiting, *, read_by: int = 0, version: int = 0) -> int:
        """The next sample of a waiting request takes slot n; the runner has put its prompt there.

        read_by: the version of the weights that computed the prompt, and with it the first token.
        """
        request, params, slot = waiting.request, waiting.request.params, self.n
        index = request.first + waiting.next_index
        waiting.next_index += 1
        self.n += 1
        room = self._room(request)
        self.owner[slot] = (request.id, index)
        self._drawn_by[request.id, index] = [(0, read_by)] if read_by == version else [(0, read_by), (1, version)]
        self.seed[slot] = sample_seed(params.seed, index)
        # float32: a smaller number divides logits to infinity, or is 0, and no token could be drawn at all
        self.temperature[slot] = params.temperature and min(max(params.temperature, TINY), 1 / TINY)
        self.top_p[slot] = max(params.top_p, TINY)
        self.prompt_length[slot] = self.length[slot] = len(request.prompt_ids)
        self.in_reasoning[slot] = request.opened and self.unthink_id >= 0
        self.num_reasoning[slot] = self.num_answer[slot] = 0
        # the answer and the closing mark keep their place in the window: half of it at most, or nothing were thought
        kept = 1 + min(params.max_answer_tokens, room // 2)
        self.max_reasoning[slot] = max(0, min(params.max_reasoning_tokens, room - kept))
        self.min_reasoning[slot] = min(params.min_reasoning_tokens, self.max_reasoning[slot])
        self.max_answer[slot] = min(params.max_answer_tokens, room + 1)  # no more than the window has: it may be huge
        self.has_stop[slot], self.has_pause[slot] = bool(params.stop), bool(params.pause)
        self.has_form[slot], self.guarded[slot] = bool(params.form), request.guarded
        self.has_own_ends[slot] = request.end_ids is not None
        self.max_length[slot] = len(request.prompt_ids) + min(room, params.max_tokens or room)
        self.streamed[slot], self.num_emitted[slot] = request.streamed, 0
        return slot

    def close_reasoning(self, request_id: int) -> None:
        """The next token of each of its samples is the closing mark, unless the reasoning is over."""
        for waiting in self.waiting:
            if waiting.request.id == request_id:
                params = replace(waiting.request.params, max_reasoning_tokens=0, min_reasoning_tokens=0)
                waiting.request = replace(waiting.request, params=params)
        for slot in range(self.n):
            if self.owner[slot][0] == request_id:
                self.max_reasoning[slot] = self.num_reasoning[slot]
                self.min_reasoning[slot] = 0

    def pending_tokens(self) -> list[tuple[int, list[int]]]:
        """(request id, tokens since the last call) of streamed requests that run."""
        pending = []
        for slot in np.flatnonzero(self.streamed[: self.n]).tolist():
            emitted, count = int(self.num_emitted[slot]), self.num_tokens(slot)
            if count > emitted:
                pending.append((self.owner[slot][0], self.tokens[slot, emitted:count].tolist()))
                self.num_emitted[slot] = count
        return pending

    def must_close(self) -> np.ndarray:
        """Slots (n,) whose next token is the closing mark, whatever the model would draw."""
        return self.in_reasoning[: self.n] & (self.num_reasoning[: self.n] >= self.max_reasoning[: self.n])

    def may_not_close(self) -> np.ndarray:
        """Slots (n,) that may draw neither the closing mark nor the end mark yet."""
        return self.in_reasoning[: self.n] & (self.num_reasoning[: self.n] < self.min_reasoning[: self.n])

    def misplaced(self, tokens: np.ndarray) -> np.ndarray:
        """Slots (n,) whose token is a mark where the answer has begun."""
        return self.guarded[: self.n] & ~self.in_reasoning[: self.n] & _is_one_of(tokens, self.not_in_answers)

    def record(self, tokens: np.ndarray, logprobs: np.ndarray, forced: np.ndarray) -> list[tuple[int, FinishReason]]:
        """Write one token a slot; returns (slot, why) for those that end with it."""
        n = self.n
        count = self.length[:n] - self.prompt_length[:n]
        self._widen(int(count.max()) + 1)
        rows = np.arange(n)
        self.tokens[rows, count], self.logprobs[rows, count], self.sampled[rows, count] = tokens, logprobs, ~forced
        self.length[:n] += 1
        thinking = self.in_reasoning[:n]
        closing, ended = thinking & (tokens == self.unthink_id), _is_one_of(tokens, self.end_ids)
        for slot in np.flatnonzero(self.has_own_ends[:n]).tolist():
            ended[slot] = int(tokens[slot]) in (self._requests[self.owner[slot][0]].end_ids or ())
        self.num_answer[:n] += ~thinking
        self.num_reasoning[:n] += thinking & ~closing & ~ended
        self.in_reasoning[:n] = thinking & ~closing
        spent = ~self.in_reasoning[:n] & (self.num_answer[:n] >= self.max_answer[:n])
        full = self.length[:n] >= self.max_length[:n]
        done: list[tuple[int, FinishReason]] = []
        for slot in np.flatnonzero(ended | spent | full).tolist():
            cut = spent[slot] or self.length[slot] < self.window
            done.append((slot, "stop" if ended[slot] else "length" if cut else "window"))
        return done

    def _widen(self, width: int) -> None:
        if width <= self.tokens.shape[1]:
            return
        for name in ("tokens", "logprobs", "sampled"):
            old = getattr(self, name)
            new = np.zeros((old.shape[0], max(width, 2 * old.shape[1])), old.dtype)
            new[:, : old.shape[1]] = old
            setattr(self, name, new)

    def num_tokens(self, slot: int) -> int:
        """Of the completion so far."""
        return int(self.length[slot] - self.prompt_length[slot])

    def token_ids(self, slot: int) -> list[int]:
        """The completion so far."""
        ids: list[int] = self.tokens[slot, : self.num_tokens(slot)].tolist()
        return ids

    def answer_ids(self, slot: int) -> list[int]:
        """The answer so far, for stop strings."""
        ids = self.token_ids(slot)
        return ids[len(ids) - int(self.num_answer[slot]) :]

    def room_for_answer(self, slot: int) -> int:
        """Tokens that the answer may still take, the end mark among them."""
        return int(min(self.max_answer[slot] - self.num_answer[slot], self.max_length[slot] - self.length[slot]))

    def params_of(self, slot: int) -> SamplingParams:
        return self._requests[self.owner[slot][0]].params

    def take(
        self, slot: int, reason: FinishReason, *, hidden: NDArray[np.float32] | None = None
    ) -> tuple[Request, list[Sample]] | None:
        """Read a finished slot out; the whole request comes back with its last sample."""
        request_id, index = self.owner[slot]
        count = self.num_tokens(slot)
        samples = self._results[request_id]
        samples.append(
            Sample(
                index=index,
                token_ids=self.token_ids(slot),
                logprobs=self.logprobs[slot, :count].tolist(),
                sampled=self.sampled[slot, :count].tolist(),
                finish_reason=reason,
                versions=self._versions((request_id, index), count),
                hidden=hidden,
            )
        )
        if len(samples) < self._requests[request_id].n:
            return None
        return self._finish(request_id, sorted(samples, key=lambda sample: sample.index))

    def _finish(self, request_id: int, samples: list[Sample]) -> tuple[Request, list[Sample]]:
        self._results.pop(request_id)
        return self._requests.pop(request_id), samples

    def release(self, slots: list[int]) -> list[tuple[int, int]]:
        """Free slots and close the gaps: returns (source, target) moves that the cache must follow, in order."""
        moves = []
        for slot in sorted(slots, reverse=True):
            last = self.n - 1
            if slot != last:
                moves.append((last, slot))
                self.owner[slot] = self.owner[last]
                for column in self._columns:
                    column[slot] = column[last]
                for rows in (self.tokens, self.logprobs, self.sampled):
                    rows[slot] = rows[last]
            self.n = last
        return moves


def _is_one_of(tokens: np.ndarray, ids: Sequence[int]) -> np.ndarray:
    found = np.zeros(tokens.shape, bool)
    for one in ids:
        found |= tokens == one
    return found
