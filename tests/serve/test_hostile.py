"""A hostile client with a key, against a real model with a Hugging Face tokenizer in a process of its own; and a worker
that is killed under load. Waiting is measured in CPU seconds of the server, as the machine may be busy with others."""

from __future__ import annotations

import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from ponder.models.weights import save_model
from tests.helpers import tiny_model
from tests.serve.serving import KEY

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent.parent
AUTH = {"Authorization": f"Bearer {KEY}"}
WINDOW, LONGEST = 2048, 256
TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
PROCESS = """
import sys
tried = open(sys.argv[3], "a", buffering=1)
def spy(event, arguments):
    if event in ("socket.connect", "urllib.Request", "socket.getaddrinfo"):
        if event != "socket.connect" or isinstance(arguments[1], tuple):  # not the pipes of our own workers
            print(event, arguments[-1] if event == "socket.connect" else arguments[:2], file=tried)
from ponder.serve.limits import Limiter
charged, reserve = open(sys.argv[3] + ".charged", "a", buffering=1), Limiter.reserve
def told(limiter, key, amount):
    print(amount, file=charged)
    return reserve(limiter, key, amount)
Limiter.reserve = told
from ponder.engine.local import LocalEngine
from ponder.models.hf_tokenizer import HFTokenizer
from ponder.models.weights import load_model
from ponder.serve.run import serve
from ponder.serve.served import ServedModel
from ponder.serve.service import Settings
if __name__ == "__main__":
    folder = sys.argv[1]
    engine = LocalEngine(load_model(folder), HFTokenizer(folder), num_workers=2)
    settings = Settings(api_key=sys.argv[4], db=sys.argv[2], drain=5.0, monitors=())
    def ready(url):
        sys.addaudithook(spy)
        print(url, *(worker.pid for worker in engine.worker_processes), flush=True)
    serve([ServedModel(name="tiny", engine=engine)], settings, host="127.0.0.1", port=0, on_ready=ready)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny model with a byte-level tokenizer whose longest token has 256 characters."""
    folder = tmp_path_factory.mktemp("tiny")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )  # fmt: skip
    tokenizer.train_from_iterator(["=" * LONGEST + " the answer is 42 and so on"] * 50, trainer)
    tokenizer.add_tokens([AddedToken(text, special=False, normalized=False) for text in ("<think>", "</think>")])
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"eos_token": "<|im_end|>", "bos_token": "<|endoftext|>", "chat_template": TEMPLATE}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    save_model(tiny_model(window=WINDOW, vocab_size=tokenizer.get_vocab_size()), folder)
    return folder


class Serving:
    def __init__(self, folder, tmp_path):
        self.log_path, self.tried = tmp_path / "log", tmp_path / "tried"
        script = tmp_path / "serving.py"
        script.write_text(PROCESS)
        self.tried.touch()
        command = [sys.executable, str(script), str(folder), str(tmp_path / "a.db"), str(self.tried), KEY]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=log, text=True, env=environment
            )
        first = self.process.stdout.readline().split()
        assert first, self.log_path.read_text()
        self.url, self.workers = first[0], [int(pid) for pid in first[1:]]
        self.http = httpx.Client(base_url=self.url, headers=AUTH, timeout=120)

    def cpu(self):
        """CPU seconds of the server's process, all its threads, without its workers."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def end(self):
        self.http.close()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise


@pytest.fixture
def serving(folder, tmp_path):
    made = Serving(folder, tmp_path)
    yield made
    made.end()


class Listener:
    """Says who connects."""

    def __init__(self):
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port, self.count = self.socket.getsockname()[1], 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                self.socket.accept()
            except OSError:
                return
            self.count += 1


def prompts():
    """Long ones: just inside what may fit by its characters, in forms that are slow to tokenise."""
    most = WINDOW * LONGEST - 200
    return [letter * (most // len(letter)) for letter in ("a", "the answer ")]


def schemas(port):
    """What made a server fetch, walk, or wait."""
    fetch = f"http://127.0.0.1:{port}/x"
    branches = [{"type": "string", "maxLength": 20 + i} for i in range(300)]
    twice = {f"a{i}": {"allOf": [{"$ref": f"#/$defs/a{i + 1}"}] * 2} for i in range(40)} | {"a40": {}}
    return [
        {"$ref": "#/x", "y": {"type": "integer"}, "x": {"type": "object", "required": ["a"],
         "properties": {"a": {"$id": fetch, "$ref": "#/y"}}}},
        {"$schema": fetch, "type": "object"}, {"$id": fetch, "$ref": "y"}, {"$ref": fetch}, {"$dynamicRef": fetch},
        {"anyOf": branches}, {"anyOf": [{}] * 24_000}, {"$ref": "#/$defs/a0", "$defs": twice},
        {"type": "object", "properties": {f"a{i}": {"type": "string"} for i in range(2500)}},
        {"type": "array", "items": {"enum": [f"word{i}" for i in range(6000)]}},
    ]  # fmt: skip


def attack(serving, bodies):
    """Ten times each in a row, while somebody else streams and somebody else asks whether it lives. Returns what was
    answered, the longest wait for liveness in CPU seconds of the server, and the stream's answers."""
    is_over, waits, streams = threading.Event(), [], queue.Queue()

    def look():
        with httpx.Client(base_url=serving.url, timeout=300) as client:
            while not is_over.is_set():
                before = serving.cpu()
                assert client.get("/health/live").status_code == 200
                waits.append(serving.cpu() - before)
                time.sleep(0.02)

    def stream():
        with httpx.Client(base_url=serving.url, headers=AUTH, timeout=300) as client:
            while not is_over.is_set():
                body = {"input": "the answer is", "stream": True, "max_output_tokens": 40, "store": False}
                text = client.post("/v1/responses", json=body).text
                streams.put(text.count("response.completed") + text.count("response.incomplete"))

    threads = [threading.Thread(target=look), threading.Thread(target=stream)]
    for thread in threads:
        thread.start()
    answers = []
    try:
        for body in bodies:
            for _ in range(10):
                answers.append(serving.http.post("/v1/responses", json={"max_output_tokens": 20, **body}))
    finally:
        is_over.set()
        for thread in threads:
            thread.join()
    ended = [streams.get() for _ in range(streams.qsize())]
    return answers, max(waits), ended


def check(serving, answers, wait, ended, listener):
    assert wait <= 0.5, f"/health/live waited {wait:.2f} CPU seconds of the server"
    assert ended and all(ended), "another client's stream broke off"
    assert listener.count == 0 and serving.tried.read_text() == "", "the server reached out"
    assert {answer.status_code for answer in answers} <= {200, 400, 422, 429, 503}
    bodies = [answer.request.content for answer in answers]
    charged = [int(line) for line in serving.tried.with_name("tried.charged").read_text().split()]
    assert sum(charged) >= sum(len(body) for body in bodies) / 4, "work was done for nothing"
    lines = serving.log_path.read_text()
    assert "Traceback" not in lines


@pytest.mark.timeout(900)
def test_the_longest_prompts_keep_nobody_waiting(serving):
    listener = Listener()
    answers, wait, ended = attack(serving, [{"input": text} for text in prompts()])
    check(serving, answers, wait, ended, listener)
    refused = [answer.json()["error"]["code"] for answer in answers]
    assert "context_length_exceeded" in refused and set(refused) <= {"context_length_exceeded", "rate_limit_exceeded"}
    # and what cannot fit is refused before it is read
    begun = serving.cpu()
    answer = serving.http.post("/v1/responses", json={"input": "a" * 3_900_000})
    assert answer.json()["error"]["code"] == "context_length_exceeded" and serving.cpu() - begun < 1.5


@pytest.mark.timeout(900)
def test_the_worst_schemas_keep_nobody_waiting_and_reach_nothing(serving):
    listener = Listener()
    usual = {"type": "json_schema", "name": "n", "strict": True}
    forms = [{**usual, "schema": schema} for schema in schemas(listener.port)]
    bodies = [{"input": "the answer is", "text": {"format": form}} for form in forms]
    bodies += [
        {"input": "the answer is", "tool_choice": "required",
         "tools": [{"type": "function", "name": "f", "strict": True, "parameters": form["schema"]}]}
        for form in forms[:6]
    ]  # fmt: skip
    check(serving, *attack(serving, bodies), listener)


def test_a_worker_that_is_killed_under_load_is_replaced_or_ends_the_process(serving):
    found: queue.Queue = queue.Queue()
    body = {"input": "the answer is", "reasoning": {"effort": "max"}, "compute": {"max_reasoning_tokens": 4000}}

    def ask():
        try:
            found.put(httpx.post(f"{serving.url}/v1/responses", headers=AUTH, json=body, timeout=120).json())
        except httpx.TransportError as error:  # only of a process that ended
            found.put({"status": "gone", "error": {"code": type(error).__name__}})

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    time.sleep(1.0)
    os.kill(serving.workers[0], signal.SIGKILL)
    begun, is_served = time.monotonic(), False
    while not is_served and serving.process.poll() is None and time.monotonic() - begun < 60:
        try:
            answer = serving.http.post("/v1/responses", json={"input": "x", "max_output_tokens": 5}).json()
            is_served = answer["status"] in ("completed", "incomplete")
        except httpx.TransportError:
            pass
    assert is_served or serving.process.wait(15) != 0
    assert time.monotonic() - begun < 15 or is_served
    for thread in threads:
        thread.join()
    results = [found.get() for _ in range(8)]
    for result in results:
        assert result["status"] in ("completed", "incomplete", "failed", "gone")
        if result["status"] == "failed":
            said = ("The model failed to produce a response.", "The server was stopped.")
            assert result["error"]["code"] == "server_error" and result["error"]["message"] in said
    assert "worker died" in serving.log_path.read_text()
