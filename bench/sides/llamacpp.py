"""llama.cpp as a contender, by the C functions that llama-cpp-python binds: one sequence a row, token ids in and out.

A prompt is read once and its cache copied to its other rows (`llama_memory_seq_cp`). Then every step is one batch with
a token of each row, and a draw for each row by llama.cpp's own sampler chain: `dist` alone, which is temperature 1 from
the whole distribution. Nothing ends a row but its length.

Every row has a cache of its own (`kv_unified` off): in a common one each token would look at the cells of all rows. The
draws are shared out over as many Python threads as the products have, since ctypes lets go of the interpreter.

The files are F16 and Q8_0, which is what `ponder export` writes. Left out: 4 bits (Q4_0, Q4_K_M). `llama-quantize`
makes them of F16, but what then samples is further from the model than int8, and nothing of ponder's compares with it.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from link import Job, serve


def load(config: Job) -> Any:
    import llama_cpp as llama

    llama.llama_backend_init()
    model = llama.llama_model_load_from_file(config["model"].encode(), llama.llama_model_default_params())
    if not model:
        raise RuntimeError(f"llama.cpp cannot read {config['model']}")
    slots = min(256, -(-config["slots"] // config["processes"]))  # it has no more
    params = llama.llama_context_default_params()
    params.n_seq_max, params.n_ctx, params.kv_unified = slots, slots * config["window"], False
    params.n_outputs_max = slots  # logits are asked of one token a row; the default reserves them for every token
    params.n_threads = params.n_threads_batch = config["threads"]
    context = llama.llama_init_from_model(model, params)
    if not context:
        raise RuntimeError(f"llama.cpp has no context of {slots} x {config['window']} tokens")
    rows = Rows(llama, context, threads=config["threads"])

    def answer(job: Job) -> Job:
        rows.begin(job["seed"] * config["processes"] + config["rank"], greedy=job.get("greedy", False))
        owners = [owner for owner in range(len(job["prompts"])) for _ in range(job["n"])]
        made: list[list[int]] = []
        for start in range(0, len(owners), slots):
            made += rows.generate(job["prompts"], owners[start : start + slots], job["new_tokens"])
        assert {len(row) for row in made} <= {job["new_tokens"]}, sorted(map(len, made))
        reply = {"tokens": sum(map(len, made)), "different": len(set(map(tuple, made)))}
        return reply | ({"rows": made} if job.get("greedy") else {})

    return answer


class Rows:
    """As many sequences at a time as the context has places."""

    def __init__(self, llama: Any, context: Any, *, threads: int) -> None:
        self.llama, self.context, self.threads = llama, context, threads
        self.size = llama.llama_n_batch(context)
        self.batch = llama.llama_batch_init(self.size, 0, 1)
        self.pool = ThreadPoolExecutor(threads)
        self.chains: list[Any] = []

    def begin(self, seed: int, *, greedy: bool) -> None:
        """New samplers, one a thread: rows draw in turn from its stream of random numbers."""
        llama = self.llama
        for chain in self.chains:
            llama.llama_sampler_free(chain)
        self.chains = []
        for thread in range(self.threads):
            chain = llama.llama_sampler_chain_init(llama.llama_sampler_chain_default_params())
            last = llama.llama_sampler_init_dist((seed * self.threads + thread) % 2**32) if not greedy else None
            llama.llama_sampler_chain_add(chain, last or llama.llama_sampler_init_greedy())
            self.chains.append(chain)

    def generate(self, prompts: list[list[int]], owners: list[int], new_tokens: int) -> list[list[int]]:
        """A row for each of `owners`, the number of its prompt."""
        llama = self.llama
        memory = llama.llama_get_memory(self.context)
        llama.llama_memory_clear(memory, False)
        rows_of: dict[int, list[int]] = {}
        for row, owner in enumerate(owners):
            rows_of.setdefault(owner, []).append(row)
        rows: list[list[int]] = [[] for _ in owners]
        for batch in self._batches(prompts, list(rows_of)):
            tokens, last = [], []  # last: the place of every row's logits
            for owner in batch:
                length, (source, *others) = len(prompts[owner]), rows_of[owner]
                tokens += [(token, at, source, at + 1 == length) for at, token in enumerate(prompts[owner])]
                last += [(source, len(tokens) - 1), *((row, len(tokens) - 1) for row in others)]
            self._decode(tokens)
            for (row, _), token in zip(last, self._draw([place for _, place in last]), strict=True):
                rows[row].append(token)
        for source, *others in rows_of.values():
            for row in others:
                llama.llama_memory_seq_cp(memory, source, row, -1, -1)
        for step in range(new_tokens - 1):
            self._decode([(rows[i][-1], len(prompts[owner]) + step, i, True) for i, owner in enumerate(owners)])
            for row, token in zip(rows, self._draw(list(range(len(rows)))), strict=True):
                row.append(token)
        return rows

    def _batches(self, prompts: list[list[int]], owners: list[int]) -> list[list[int]]:
        """As many whole prompts together as a batch holds."""
        batches: list[list[int]] = []
        room = 0
        for owner in owners:
            if len(prompts[owner]) > room:
                batches.append([])
                room = self.size
            batches[-1].append(owner)
            room -= len(prompts[owner])
        return batches

    def _decode(self, tokens: list[tuple[int, int, int, bool]]) -> None:
        """(token, position, row, whether its logits are wanted)"""
        batch = self.batch
        batch.n_tokens = len(tokens)
        for i, (token, position, row, wanted) in enumerate(tokens):
            batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = token, position, 1, wanted
            batch.seq_id[i][0] = row
        status = self.llama.llama_decode(self.context, batch)
        if status:
            raise RuntimeError(f"llama_decode of {len(tokens)} tokens ended with {status}")

    def _draw(self, places: list[int]) -> list[int]:
        """A token for each of these places of the last batch."""
        self.llama.llama_get_logits(self.context)  # waits for them and puts them in order: then threads only read
        drawn = [0] * len(places)

        def draw(thread: int) -> None:
            for i in range(thread, len(places), self.threads):
                drawn[i] = self.llama.llama_sampler_sample(self.chains[thread], self.context, places[i])

        list(self.pool.map(draw, range(self.threads)))
        return drawn


if __name__ == "__main__":
    serve(load)
