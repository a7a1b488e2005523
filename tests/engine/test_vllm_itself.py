"""vLLM's own chat API over a checkpoint of ours, with ponder's reasoning parser (`make vllm-test`)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import urllib.request
from pathlib import Path

import pytest

from ponder.engine.vllm_server import INSIDE, PYTHON, VllmServer, environment, free_port
from ponder.models.byte_export import write_byte_tokenizer
from ponder.models.hub import resolve
from ponder.models.tokenizer import ByteTokenizer, split_reasoning

TOKENIZER = ByteTokenizer()
CHAT = "PONDER_VLLM_CHAT_URL"  # of a server that serves nano so already
QUESTIONS = ["What is 2+3?", "What is 47+5+4*3-22-8*4?", "What is 9*8?"]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    if url := os.environ.get(CHAT):
        yield VllmServer(url)
        return
    if not os.environ.get(PYTHON):
        pytest.skip("vLLM has an environment of its own: make vllm-test")
    folder = tmp_path_factory.mktemp("nano")
    for name in ("config.json", "model.safetensors"):
        shutil.copy(resolve("nano") / name, folder / name)
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
            command, env=environment(), stdin=subprocess.PIPE, stdout=file, stderr=file, start_new_session=True
        )
    with VllmServer(f"http://127.0.0.1:{port}", process, log) as server:
        server.wait(2000)
        yield server


def chat(question: str, **more: object) -> dict[str, object]:
    return {"model": "nano", "messages": [{"role": "user", "content": question}], "temperature": 0,
            "max_tokens": 300, **more}  # fmt: skip


@pytest.mark.parametrize("question", QUESTIONS)
def test_reasoning_and_content_are_told_apart_whole_and_in_a_stream(server: VllmServer, question: str):
    """By ponder's own rule over the ids that vLLM drew."""
    told = server.control("/v1/chat/completions", chat(question, return_token_ids=True))["choices"][0]
    ids = told["token_ids"]
    reasoning, answer = (TOKENIZER.decode(part) for part in split_reasoning(TOKENIZER, ids, opened=True))
    message = told["message"]
    assert TOKENIZER.unthink_id in ids and reasoning and answer, "nano did not close its reasoning"
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


def test_ponder_finds_the_same_greedy_tokens(server: VllmServer):
    """The folder that vLLM serves is the model that ponder knows."""
    import asyncio

    from ponder.engine.local import LocalEngine
    from ponder.models import hub
    from ponder.types import SamplingParams
    from tests.helpers import user

    params = SamplingParams(temperature=0.0, max_reasoning_tokens=280, max_answer_tokens=20)
    with LocalEngine(*hub.load("nano"), num_workers=0) as engine:
        for question in QUESTIONS:
            [ours] = asyncio.run(engine.generate(user(question), params))
            told = server.control("/v1/chat/completions", chat(question, return_token_ids=True))["choices"][0]
            assert tuple(told["token_ids"]) == ours.token_ids


def test_the_file_needs_nothing_of_ponder():
    for file in Path(INSIDE).glob("*.py"):
        assert "import ponder" not in file.read_text() and "from ponder" not in file.read_text()
