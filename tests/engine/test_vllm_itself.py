"""vLLM's own chat API over a checkpoint of ours, with ponder's reasoning parser (`make vllm-test`)."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import urllib.request
from pathlib import Path
from random import Random

import pytest

from ponder.engine.local import LocalEngine
from ponder.engine.vllm_server import INSIDE, PYTHON, VllmServer, environment, free_port
from ponder.models import hub
from ponder.models.byte_export import write_byte_tokenizer
from ponder.models.tokenizer import ByteTokenizer, split_reasoning
from ponder.train.sft import SFTConfig, sft
from ponder.types import SamplingParams
from tests.helpers import user

TOKENIZER = ByteTokenizer()
QUESTIONS = [f"What is {a}*{11 - a}+{28 + a}-{a - 1}?" for a in range(2, 10)]
QUESTIONS += ["What is 2+3?", "What is 47+5+4*3-22-8*4?"]


@pytest.fixture(scope="module")
def taught(tmp_path_factory) -> Path:
    """nano answers at once; a few steps teach it to write what it does, as docs/quickstart.md does it."""
    if not os.environ.get(PYTHON):
        pytest.skip("vLLM has an environment of its own: make vllm-test")
    folder, rng = tmp_path_factory.mktemp("taught"), Random(0)
    with open(folder / "rows.jsonl", "w") as file:
        for _ in range(400):
            a, b, c, d = (rng.randint(2, most) for most in (9, 9, 40, 6))
            product, total = a * b, a * b + c
            steps = f"{a}*{b}={product}\n{product}+{c}={total}\n{total}-{d}={total - d}"
            row = {"problem": f"What is {a}*{b}+{c}-{d}?", "reasoning": steps, "answer": str(total - d)}
            file.write(json.dumps(row) + "\n")
    return sft(
        SFTConfig(
            out=str(folder / "run"), data=str(folder / "rows.jsonl"), model="nano", num_steps=20, batch_size=32,
            lr=1e-4, warmup_steps=2, num_workers=0,
        )
    )  # fmt: skip


@pytest.fixture(scope="module")
def server(taught, tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    for name in ("config.json", "model.safetensors"):
        shutil.copy(taught / name, folder / name)
    write_byte_tokenizer(folder)
    port, log = free_port(), folder / "log"
    command = [
        os.environ[PYTHON], "-m", "ponder_vllm_server", "--model", str(folder), "--served-model-name", "nano",
        "--host", "127.0.0.1", "--port", str(port), "--dtype", "float32", "--max-model-len", "1024",
        "--max-num-seqs", "16", "--enforce-eager", "--no-enable-chunked-prefill", "--max-num-batched-tokens", "8192",
        "--kv-cache-memory-bytes", str(2**29), "--reasoning-parser-plugin", str(INSIDE / "ponder_reasoning.py"),
        "--reasoning-parser", "ponder",
    ]  # fmt: skip
    with open(log, "wb") as file:
        process = subprocess.Popen(
            command, env=environment(on_cpu=True), stdin=subprocess.PIPE, stdout=file, stderr=file,
            start_new_session=True,
        )  # fmt: skip
    with VllmServer(f"http://127.0.0.1:{port}", process, log) as server:
        server.wait(2000)
        yield server


def chat(question: str, **more: object) -> dict[str, object]:
    return {"model": "nano", "messages": [{"role": "user", "content": question}], "temperature": 0,
            "max_tokens": 300, **more}  # fmt: skip


@pytest.mark.parametrize("question", QUESTIONS[-4:])
def test_reasoning_and_content_are_told_apart_whole_and_in_a_stream(server: VllmServer, question: str):
    """By ponder's own rule over the ids that vLLM drew."""
    told = server.control("/v1/chat/completions", chat(question, return_token_ids=True))["choices"][0]
    ids = told["token_ids"]
    reasoning, answer = (TOKENIZER.decode(part) for part in split_reasoning(TOKENIZER, ids, opened=True))
    message = told["message"]
    assert TOKENIZER.unthink_id in ids and reasoning and answer, "it did not close its reasoning"
    assert (message["reasoning"], message["content"]) == (reasoning, answer)
    print(f"{question} -> {len(ids)} tokens, content {answer!r}, reasoning {reasoning!r}")

    request = urllib.request.Request(
        f"{server.url}/v1/chat/completions", json.dumps(chat(question, stream=True)).encode(),
        {"Content-Type": "application/json"},
    )  # fmt: skip
    streamed = {"reasoning": "", "content": ""}
    with urllib.request.urlopen(request, timeout=600) as lines:
        for line in lines:
            if line.startswith(b"data: {"):
                for choice in json.loads(line[6:])["choices"]:
                    for name in streamed:
                        streamed[name] += choice["delta"].get(name) or ""
    assert streamed == {"reasoning": reasoning, "content": answer}


def test_reasoning_that_was_cut_is_all_reasoning(server: VllmServer):
    told = server.control("/v1/chat/completions", chat(QUESTIONS[1], max_tokens=5))["choices"][0]
    assert told["finish_reason"] == "length"
    assert told["message"]["reasoning"] and not told["message"]["content"]


def test_ponder_finds_the_same_greedy_tokens(server: VllmServer, taught: Path):
    """The folder that vLLM serves is the model that ponder knows."""
    params = SamplingParams(temperature=0.0, max_reasoning_tokens=280, max_answer_tokens=20)
    with LocalEngine(*hub.load(taught), num_workers=0) as engine:
        for question in QUESTIONS:
            [ours] = asyncio.run(engine.generate(user(question), params))
            told = server.control("/v1/chat/completions", chat(question, return_token_ids=True))["choices"][0]
            assert tuple(told["token_ids"]) == ours.token_ids


def test_the_file_needs_nothing_of_ponder():
    for file in Path(INSIDE).glob("*.py"):
        assert "import ponder" not in file.read_text() and "from ponder" not in file.read_text()
