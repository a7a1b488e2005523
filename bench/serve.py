"""What serving costs: the same questions to the engine itself, 32 at a time, and as 32 streams through `ponder serve`.

    python bench/serve.py                    # the reference model; 3 minutes
    python bench/serve.py --model nano       # answers of some 25 tokens: what a request costs, more than a token

Each stream asks `ROUNDS` questions, one after the other. Both sides run one worker a core over the same weights, with
the same seeds and limits, so they sample the same tokens; that they do is checked. The client of the streams runs on
the same machine and is part of the cost. Printed: tokens a second, their ratio within a repetition, and the time to the
first event and to the first visible token of one stream on an idle server, beside the engine's own.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

import common
import httpx

from ponder.cli.loading import close, open_engine
from ponder.types import Message, SamplingParams

KEY, STREAMS, ROUNDS, LIMIT = "sk-bench", 32, 2, 200


def question(number: int) -> str:
    return f"What is {17 + number}+{5 + number}*3-{number}?"


async def through_engine(engine: Any, streams: int, rounds: int, limit: int) -> tuple[float, int]:
    """(seconds, tokens)"""

    async def one(number: int) -> int:
        tokens = 0
        for place in range(rounds):
            seed = number * rounds + place
            params = SamplingParams(max_reasoning_tokens=limit, max_answer_tokens=limit, max_tokens=limit, seed=seed)
            prompt = [Message(role="user", content=question(seed))]
            tokens += (await engine.generate(prompt, params))[0].num_tokens
        return tokens

    begun = time.perf_counter()
    tokens = await asyncio.gather(*(one(number) for number in range(streams)))
    return time.perf_counter() - begun, sum(tokens)


async def through_server(url: str, streams: int, rounds: int, limit: int) -> tuple[float, int]:
    """The same through the server. The client is a bare socket that looks at the last event only: what it costs is not
    the server's."""
    host, _, port = url.removeprefix("http://").partition(":")

    async def one(number: int) -> int:
        reader, writer = await asyncio.open_connection(host, int(port))
        tokens = 0
        for place in range(rounds):
            writer.write(posted(number * rounds + place, limit))
            tokens += output_tokens(await whole_body(reader))
        writer.close()
        return tokens

    begun = time.perf_counter()
    tokens = await asyncio.gather(*(one(number) for number in range(streams)))
    return time.perf_counter() - begun, sum(tokens)


def posted(seed: int, limit: int) -> bytes:
    compute = {"max_reasoning_tokens": limit, "seed": seed}
    body = {"input": question(seed), "stream": True, "store": False, "compute": compute, "max_output_tokens": limit}
    content = json.dumps(body).encode()
    head = f"POST /v1/responses HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {KEY}\r\n"
    return f"{head}Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n".encode() + content


async def whole_body(reader: asyncio.StreamReader) -> bytes:
    """A chunked body, behind its head."""
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200"), head
    body = b""
    while size := int(await reader.readline(), 16):
        body += (await reader.readexactly(size + 2))[:-2]
    await reader.readline()
    return body


def output_tokens(body: bytes) -> int:
    told = json.loads(body[body.rindex(b"data: ") + 6 :])["response"]
    assert told["status"] in ("completed", "incomplete"), told
    return int(told["usage"]["output_tokens"])


def first_event(url: str) -> tuple[float, float]:
    """Seconds to the first event, and to the first visible token, of one stream."""
    headers = {"Authorization": f"Bearer {KEY}"}
    with httpx.Client(base_url=url, headers=headers, timeout=600) as client:
        client.get("/v1/models")
        begun, event = time.perf_counter(), 0.0
        body = {"input": question(0), "stream": True, "store": False, "reasoning": {"effort": "low"}}
        with client.stream("POST", "/v1/responses", json=body) as response:
            for line in response.iter_lines():
                event = event or time.perf_counter() - begun
                if "output_text.delta" in line:
                    return event, time.perf_counter() - begun
    return event, float("nan")


async def engine_first(engine: Any) -> float:
    """Seconds until the engine itself tells anything of the same question."""
    params = SamplingParams(max_reasoning_tokens=128, max_answer_tokens=LIMIT)
    begun, first = time.perf_counter(), float("nan")
    async for _ in engine.stream([Message(role="user", content=question(0))], params):
        first = time.perf_counter() - begun
        break
    return first


def main() -> None:
    arguments = common.arguments(__doc__ or "").parse_args()
    streams, rounds, limit = (4, 1, 16) if arguments.quick else (STREAMS, ROUNDS, LIMIT)
    rounds *= 8 if arguments.model == "nano" else 1
    repeats = 1 if arguments.quick else arguments.repeats
    engine = open_engine(arguments.model, None)
    folder = tempfile.mkdtemp()
    command = [
        sys.executable, "-c", "from ponder.cli import main; main()", "serve", "--model", arguments.model, "--port", "0",
        "--api-key", KEY, "--db", f"{folder}/bench.db",
    ]  # fmt: skip
    with open(os.devnull, "w") as nowhere:
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=nowhere, text=True, cwd=common.ROOT)
    try:
        assert server.stdout is not None
        url = server.stdout.readline().split()[-1].removesuffix("/v1")
        rates: dict[str, list[float]] = {"engine": [], "served": []}
        for repeat in range(-1, repeats):  # the first one warms up
            alone, tokens = asyncio.run(through_engine(engine, streams, rounds, limit))
            served, told = asyncio.run(through_server(url, streams, rounds, limit))
            assert told == tokens, f"the server sampled {told} tokens where the engine sampled {tokens}"
            if repeat >= 0:
                rates["engine"].append(tokens / alone)
                rates["served"].append(told / served)
        firsts = [first_event(url) for _ in range(5)]
        own = statistics.median(asyncio.run(engine_first(engine)) for _ in range(5))
    finally:
        server.terminate()
        server.wait(60)
        close(engine)
    share = common.ratios(rates["served"], rates["engine"])
    event, visible = (statistics.median(each) for each in zip(*firsts, strict=True))
    row = {
        "engine_tokens_per_s": common.spread(rates["engine"]), "served_tokens_per_s": common.spread(rates["served"]),
        "served_share": common.spread(share), "first_event_s": common.rounded(event),
        "first_visible_s": common.rounded(visible), "engine_first_s": common.rounded(own),
    }  # fmt: skip
    lines = [
        f"{streams} streams of {arguments.model}, {repeats} repetitions: median (low - high)",
        f"engine {common.text(row['engine_tokens_per_s'])} tokens/s, served {common.text(row['served_tokens_per_s'])}",
        f"served / engine {common.text(row['served_share'])}",
        f"first event after {1000 * event:.1f} ms (the engine's first word after {1000 * own:.1f} ms), "
        f"first visible token after {1000 * visible:.1f} ms",
    ]
    case = common.facts("serve", case=f"{streams} streams", model=arguments.model, contestants=row, missing={})
    common.publish(arguments, [case], show="\n".join(lines))


if __name__ == "__main__":
    common.run(main)
