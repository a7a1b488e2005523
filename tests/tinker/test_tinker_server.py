"""The Tinker API over HTTP: what the SDK asks in turn, asked twice, in another order, or of a server started again."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import shutil
import threading
import weakref
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from ponder.config import ConfigError
from ponder.tinker import futures as futures_module
from ponder.tinker.app import make_app
from ponder.tinker.checkpoints import SavedWeights, as_listed
from ponder.tinker.futures import Futures, RequestLine
from ponder.tinker.sampling import Base
from ponder.tinker.service import Model, TinkerService, TinkerSettings
from tests.tinker.tinkering import NAME, Client, read_output, request, sampled, server, shifted, tiny_base

PROMPT = [10, 20, 30, 40]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny_base(tmp_path_factory.mktemp("served") / "model")


@pytest.fixture(scope="module")
def client(base, tmp_path_factory):
    with server(base, tmp_path_factory.mktemp("weights"), max_models=20) as http:
        yield Client(http)


@pytest.fixture(scope="module")
def trained(client):
    """A model two steps away from its base; requests 1 to 4 are done."""
    model = client.model(0)
    for number in (1, 3):
        client.train(model, number, [shifted([5, 6, 7, 8])], "cross_entropy")
        assert "metrics" in client.result(client.step(model, number + 1))
    return model


def test_the_server_says_what_it_trains(client):
    found = client.http.get("/api/v1/get_server_capabilities").json()["supported_models"]
    assert found == [{"model_name": NAME, "max_context_length": 64, "trainable": True, "sampleable": True}]
    assert client.http.get("/api/v1/healthz").json() == {"status": "ok"}
    assert client.post("telemetry", events=[]) == {"status": "accepted"}


def test_a_model_says_what_it_is(client, trained):
    info = client.post("get_info", model_id=trained)
    assert info["model_data"]["model_name"] == NAME and info["lora_rank"] == 4 and info["is_lora"]
    assert info["model_data"]["tokenizer_id"].endswith("model")  # a folder that AutoTokenizer opens


def test_training_raises_the_likelihood_of_what_it_trains_on(client):
    model = client.model(1)
    losses = []
    for number in range(1, 13, 2):
        promised = client.train(model, number, [shifted([5, 6, 7, 8])], "cross_entropy")
        client.result(client.step(model, number + 1))
        losses.append(read_output(client.result(promised))[1]["loss:sum"])
    assert losses[-1] < 0.75 * losses[0]


def test_a_request_sent_twice_is_done_once(client):
    model = client.model(2)
    data = [shifted([5, 6, 7, 8])]
    first, second = (client.train(model, 1, data, "cross_entropy") for _ in range(2))
    assert first == second
    once, again = client.result(first), client.result(first)  # and an answer may be fetched twice
    assert once == again
    norm = client.result(client.step(model, 2))["metrics"]["grad_norm"]
    other = client.model(3)
    client.train(other, 1, data, "cross_entropy")
    assert norm == pytest.approx(client.result(client.step(other, 2))["metrics"]["grad_norm"])


def test_requests_are_done_in_the_order_of_their_numbers(client):
    model = client.model(4)
    late = client.step(model, 3)
    parts = [client.train(model, number, [shifted([5, 6, 7, number])], "cross_entropy") for number in (2, 1)]
    assert "metrics" in client.result(late)
    assert all(isinstance(client.result(each), bytes) for each in parts)


def test_what_is_wrong_with_a_request_is_told_by_its_future_and_the_next_goes_on(client):
    model = client.model(5)
    failed = client.result(client.train(model, 1, [shifted([5, 6])], "dpo"))
    assert failed["category"] == "user" and "use one of cross_entropy" in failed["error"]
    failed = client.result(client.step(model, 2))
    assert failed["category"] == "user" and "no gradient" in failed["error"]
    assert isinstance(client.result(client.train(model, 3, [shifted([5, 6])], "cross_entropy")), bytes)


def test_a_field_that_is_missing_leaves_no_hole_in_a_models_line(client):
    model = client.model(12)
    told = [client.result(client.post(path, model_id=model, seq_id=number))["error"]
            for number, path in enumerate(("load_weights", "save_weights_for_sampler"), 1)]  # fmt: skip
    assert "is no path of weights" in told[0] and "sampling_session_seq_id" in told[1]
    client.train(model, 3, [shifted([5, 6, 7, 8])], "cross_entropy")
    assert "metrics" in client.result(client.step(model, 4))


def test_samples_repeat_by_seed_and_carry_the_log_probabilities_training_finds(client, trained):
    sampler = client.snapshot(trained, 5, 0)
    (one, prompt), (two, _) = (
        client.sample(sampler, number, PROMPT, n=3, seed=7, prompt_logprobs=True) for number in (0, 1)
    )
    assert one == two and len(one) == 3
    assert client.sample(sampler, 2, PROMPT, n=3, seed=8)[0] != one
    assert np.isnan(prompt[0]) and len(prompt) == len(PROMPT)
    data = [sampled(PROMPT, ids, logprobs, 1.0) for ids, logprobs, _ in one]
    told, _ = read_output(client.result(client.train(trained, 6, data, "importance_sampling", forward_only=True)))
    for (_, logprobs, _), each in zip(one, told, strict=True):
        np.testing.assert_allclose(each[3:], logprobs, atol=1e-4)
    whole = client.train(trained, 7, [shifted(PROMPT)], "cross_entropy", forward_only=True)
    np.testing.assert_allclose(read_output(client.result(whole))[0][0], prompt[1:], atol=1e-4)


def test_a_sampler_is_the_weights_of_its_moment(client):
    model = client.model(6)
    before = client.snapshot(model, 1, 10)
    first = client.sample(before, 0, PROMPT, n=2, seed=3, temperature=0.0)[0]
    client.train(model, 2, [shifted([*PROMPT, 99, 99, 99, 99])], "cross_entropy")
    client.result(client.step(model, 3, learning_rate=0.1))
    after = client.snapshot(model, 4, 11)
    assert client.sample(after, 0, PROMPT, n=2, seed=3, temperature=0.0)[0] != first
    assert client.sample(before, 1, PROMPT, n=2, seed=3, temperature=0.0)[0] == first


def test_a_token_of_stop_ends_a_sample_and_none_at_all_does_not(client):
    sampler = client.base_sampler(20)
    ((ids, _, why),), _ = client.sample(sampler, 0, PROMPT, n=1, seed=1)
    assert why == 1 and len(ids) == 6
    ((cut, _, why),), _ = client.sample(sampler, 1, PROMPT, n=1, seed=1, stop=[ids[2]])
    assert why == 0 and cut == ids[: ids.index(ids[2]) + 1]
    ((whole, _, why),), _ = client.sample(sampler, 2, PROMPT, n=1, seed=1, stop=[])
    assert why == 1 and whole == ids


def test_a_sample_has_no_more_tokens_than_the_window_leaves(client):
    sampler = client.base_sampler(21)
    ((ids, _, _),), _ = client.sample(sampler, 0, [1] * 60, n=1, max_tokens=None, stop=[])
    assert len(ids) == 4


@pytest.mark.parametrize(
    ("prompt", "more", "why"),
    [
        ([1] * 64, {}, "the prompt has 64 tokens; the window of acme/tiny-1B is 64"),
        ([999], {}, "999 is no token of acme/tiny-1B"),
        ([], {}, "the prompt is empty"),
        (PROMPT, {"top_k": 5}, "top_k=5 is not supported"),
        (PROMPT, {"temperature": -1}, "temperature=-1"),
        (PROMPT, {"stop": [1.5]}, "stop="),
    ],
)
def test_a_sample_that_cannot_be_drawn_says_why(client, prompt, more, why):
    sampler = client.base_sampler(22)
    number = abs(hash((tuple(prompt), str(more)))) % 10**6
    failed = client.sample(sampler, number, prompt, n=1, **more)
    assert failed["category"] == "user" and why in failed["error"]


def test_unknown_models_bases_keys_and_paths_are_refused_with_the_fix(client, tmp_path):
    body = request([shifted([1, 2])], "cross_entropy", model="s0:train:0")
    found = client.http.post("/api/v1/forward_backward", content=body)
    assert found.status_code == 404 and "create_training_client_from_state_with_optimizer" in found.json()["error"]
    failed = client.result(
        client.post("create_model", session_id=client.session, model_seq_id=90, base_model="acme/tiny-2B",
                    lora_config={"rank": 4})
    )  # fmt: skip
    assert "--model acme/tiny-2B=FOLDER" in failed["error"]
    assert client.post("session_heartbeat", status=410, session_id="s0")
    assert client.post("retrieve_future", status=410, request_id="s0:train:0/1")
    found = client.post("create_sampling_session", status=400, session_id=client.session, sampling_session_seq_id=30,
                        model_path="tinker://../weights/x")  # fmt: skip
    assert "is no path of weights" in found["error"]
    assert client.http.get("/api/v1/sessions").status_code == 404
    assert client.http.post("/api/v1/create_session", content=b"[]", headers={"x-api-key": ""}).status_code == 401
    with server(tiny_base(tmp_path / "model"), tmp_path, api_key="tml-mine") as http:
        assert http.get("/api/v1/healthz").status_code == 200
        assert http.get("/api/v1/healthz", headers={"x-api-key": "tml-other"}).status_code == 401


def test_a_web_page_that_leads_a_name_of_its_own_here_is_refused_where_any_key_will_do(client, tmp_path):
    others = "evil.example", "evil.example:8010", "[", "evil.example:x", "127.0.0.1@evil.example", "evil example", ""
    for host in (*others, "127.0.0.1.evil.example", "localhost:8010", "LOCALHOST", "127.0.0.1", "[::1]:8010"):
        status = 403 if host in others or "evil" in host else 200
        assert client.http.get("/api/v1/healthz", headers={"host": host}).status_code == status
    with server(tiny_base(tmp_path / "model"), tmp_path, api_key="tml-mine") as http:
        assert http.get("/api/v1/healthz", headers={"host": "train.example"}).status_code == 200


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("create_model", {"model_seq_id": 80, "base_model": NAME, "lora_config": {"rank": 4}, "optimizer_config": [1]}),
        ("create_model", {"model_seq_id": 81, "base_model": NAME, "lora_config": {"rank": 4}, "user_metadata": "x"}),
        ("create_model", {"model_seq_id": "x", "base_model": NAME, "lora_config": {"rank": 4}}),
        ("create_sampling_session", {"sampling_session_seq_id": 80, "model_path": 5}),
        ("create_sampling_session", {"sampling_session_seq_id": 81, "base_model": [NAME]}),
    ],
)
def test_a_field_of_a_wrong_kind_is_the_clients_mistake(client, path, body):
    assert "must be given, as" in client.post(path, status=400, session_id=client.session, **body)["error"]


@pytest.mark.parametrize(
    "params", [[1], {"stop": 5.5}, {"stop": [True]}, {"seed": float("inf")}, {"seed": "x"}, {"temperature": "hot"}]
)
def test_sampling_parameters_of_a_wrong_kind_are_the_clients_mistake(client, params):
    sampler = client.base_sampler(70)
    promised = client.http.post("/api/v1/asample", content=json.dumps({
        "sampling_session_id": sampler, "seq_id": hash(str(params)) % 10**6, "sampling_params": params,
        "prompt": {"chunks": [{"type": "encoded_text", "tokens": PROMPT}]},
    })).json()  # fmt: skip
    assert client.result(promised)["category"] == "user"


def test_weights_that_could_not_be_written_leave_nothing_and_the_old_ones_stay(tmp_path):
    store = SavedWeights(tmp_path)
    store.save("s:train:0", "weights", "one", lambda folder: None, FACTS_OF)

    def full(folder):
        (folder / "adapter").write_bytes(bytes(1000))
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        store.save("s:train:0", "weights", "one", full, FACTS_OF, overwrite=True)
    assert [path.name for path in (tmp_path / "s_train_0" / "weights").iterdir()] == ["one"]


FACTS_OF = {"base_model": NAME, "rank": 4, "train_mlp": True, "train_attn": True, "user_metadata": None}


@pytest.mark.parametrize("ttl", [float("nan"), float("inf"), 1e300, -1, 0, "soon", [1]])
def test_a_time_to_live_that_is_none_is_refused_and_the_list_stays_whole(tmp_path, ttl):
    store = SavedWeights(tmp_path)
    store.save("s:train:0", "weights", "one", lambda folder: None, FACTS_OF, ttl=60)
    with pytest.raises(ConfigError, match="ttl_seconds="):
        store.save("s:train:0", "weights", "two", lambda folder: None, FACTS_OF, ttl=ttl)
    assert [as_listed(each)["checkpoint_id"] for each in store.of_run("s:train:0")] == ["weights/one"]


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"time": "x"}', '{"time": Infinity, "expires": null}', "\xff"])
def test_saved_weights_with_damaged_facts_are_not_there_and_hide_no_others(tmp_path, text):
    store = SavedWeights(tmp_path)
    for name in ("one", "two"):
        store.save("s:train:0", "weights", name, lambda folder: None, FACTS_OF)
    (tmp_path / "s_train_0" / "weights" / "two" / "checkpoint.json").write_bytes(text.encode("latin-1"))
    assert [as_listed(each)["checkpoint_id"] for each in store.of_run("s:train:0")] == ["weights/one"]
    with pytest.raises(ConfigError, match="there are no weights"):
        store.find("tinker://s:train:0/weights/two")


def test_weights_that_were_deleted_do_not_come_back_whenever_a_kill_comes(tmp_path, monkeypatch):
    store, path = SavedWeights(tmp_path), "tinker://s:train:0/weights/one"
    store.save("s:train:0", "weights", "one", lambda folder: None, FACTS_OF)
    folder, remove = store.find(path).folder, shutil.rmtree
    shutil.copytree(folder, folder.with_name(".one.new"))  # a kill before newer ones took their place

    def killed(which, **options):
        if which == folder:
            raise KeyboardInterrupt
        remove(which, **options)

    monkeypatch.setattr(shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        store.delete(path)
    with pytest.raises(ConfigError, match="there are no weights"):
        store.find(path)
    assert store.of_run("s:train:0") == []


@pytest.mark.parametrize("moves", [0, 1, 2])
def test_weights_that_are_overwritten_are_the_old_or_the_new_ones_whenever_a_kill_comes(tmp_path, monkeypatch, moves):
    store, path = SavedWeights(tmp_path), "tinker://s:train:0/weights/one"
    write = lambda text: lambda folder: (folder / "adapter").write_text(text) and None
    store.save("s:train:0", "weights", "one", write("old"), FACTS_OF)
    rename, left = Path.rename, [moves]

    def killed(self, target):
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", killed)
    with contextlib.suppress(KeyboardInterrupt):
        store.save("s:train:0", "weights", "one", write("new"), FACTS_OF, overwrite=True)
    monkeypatch.setattr(Path, "rename", rename)
    found = SavedWeights(tmp_path).find(path).folder
    assert (found / "adapter").read_text() == ("new" if moves else "old")


def test_saved_weights_outlive_the_server(tmp_path_factory):
    """Another process over the same folder: the adapter, Adam's moments and the sampler's weights are those saved."""
    model_folder, weights = tmp_path_factory.mktemp("kept") / "model", tmp_path_factory.mktemp("kept-weights")
    data = [shifted([5, 6, 7, 8])]
    with server(tiny_base(model_folder), weights) as http:
        client = Client(http)
        model = client.model()
        client.train(model, 1, data, "cross_entropy")
        client.result(client.step(model, 2))
        saved = client.result(client.post("save_weights", model_id=model, seq_id=3, path="one"))["path"]
        assert saved == f"tinker://{model}/weights/one"
        drawn = client.result(client.post("save_weights_for_sampler", model_id=model, seq_id=4, path="one"))["path"]
        taken = client.result(client.post("save_weights", model_id=model, seq_id=5, path="one"))
        assert "exists" in taken["error"]
        client.train(model, 6, data, "cross_entropy")
        norm = client.result(client.step(model, 7))["metrics"]["grad_norm"]
        final = client.train(model, 8, data, "cross_entropy", forward_only=True)
        expected = read_output(client.result(final))[1]["loss:sum"]
        made = client.post("create_sampling_session", session_id=client.session, sampling_session_seq_id=1,
                           model_path=drawn)  # fmt: skip
        samples = client.sample(made["sampling_session_id"], 0, PROMPT, n=2, seed=1)[0]
    with server(tiny_base(model_folder), weights) as http:
        client = Client(http)
        bare = client.post("load_weights", session_id=client.session, model_seq_id=9, path=drawn, optimizer=True)
        assert "no moments of the optimizer" in client.result(bare)["error"]
        info = client.post("weights_info", tinker_path=saved)
        assert (info["base_model"], info["lora_rank"]) == (NAME, 4)
        made = client.post("load_weights", session_id=client.session, model_seq_id=0, path=saved, optimizer=True)
        assert client.result(made)["path"] == saved
        model = f"{client.session}:train:0"
        client.train(model, 1, data, "cross_entropy")
        assert client.result(client.step(model, 2))["metrics"]["grad_norm"] == norm
        final = client.train(model, 3, data, "cross_entropy", forward_only=True)
        assert read_output(client.result(final))[1]["loss:sum"] == expected
        made = client.post("create_sampling_session", session_id=client.session, sampling_session_seq_id=1,
                           model_path=drawn)  # fmt: skip
        assert client.sample(made["sampling_session_id"], 0, PROMPT, n=2, seed=1)[0] == samples
        run = saved.removeprefix("tinker://").split("/")[0]
        listed = http.get(f"/api/v1/training_runs/{run}/checkpoints").json()["checkpoints"]
        assert {each["tinker_path"] for each in listed} == {saved, drawn}
        assert http.delete(f"/api/v1/training_runs/{run}/checkpoints/weights/one").status_code == 204
        assert client.post("weights_info", status=400, tinker_path=saved)


def test_an_export_is_downloaded_by_whoever_has_its_address_and_by_nobody_else(client):
    trained = client.model(40)
    promised = client.post("save_weights_external", model_id=trained, seq_id=1, path="out", ttl_seconds=3600)
    path = client.result(promised)["path"]
    assert path == f"tinker://{trained}/external_weights/out"
    place = f"/api/v1/training_runs/{trained}/checkpoints/external_weights/out"
    told = client.http.get(f"{place}/external_weights_urls").json()
    assert set(told["urls"]) == {"adapter_config.json", "adapter_model.safetensors"}
    for name, url in told["urls"].items():
        found = client.http.get(url, headers={"x-api-key": ""})
        assert found.status_code == 200 and len(found.content) > 100
        changed = url.replace(name, "checkpoint.json"), url.replace("signature=", "signature=0"), url.split("?")[0]
        later = [url.replace("expires=", f"expires={more}") for more in ("9", "9" * 5000, "-", "²")]
        assert {client.http.get(other).status_code for other in (*changed, *later)} == {403}
    promised = client.post("save_weights_external", model_id=trained, seq_id=2, path="secret",
                           age_encryption_recipients=["age1x"])  # fmt: skip
    assert "leave out age_encryption_recipients" in client.result(promised)["error"]


def test_a_session_that_is_closed_makes_room_for_the_next(tmp_path):
    with server(tiny_base(tmp_path / "model"), tmp_path, max_models=1) as http:
        first, second = Client(http), Client(http)
        first.model(0)
        assert http.post(f"/api/v1/sessions/{first.session}/finish", json={"reason": {}}).status_code == 204
        assert second.model(0)
        assert http.post("/api/v1/sessions/s0/finish", json={}).status_code == 404


def test_no_more_models_are_trained_than_there_is_room_for(tmp_path):
    with server(tiny_base(tmp_path / "model"), tmp_path, max_models=1) as http:
        client = Client(http)
        model = client.model(0)
        asked = client.post("create_model", session_id=client.session, model_seq_id=1, base_model=NAME,
                            lora_config={"rank": 4})  # fmt: skip
        assert "--max-models" in client.result(asked)["error"]
        client.post("unload_model", model_id=model)
        client.model(2)


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_a_model_that_is_unloaded_while_it_is_made_leaves_no_processes(when):
    made = SimpleNamespace(closed=False)
    made.close = lambda: setattr(made, "closed", True)
    model, begun, go = Model("m", None, None, 0), threading.Event(), threading.Event()

    def build():
        begun.set()
        go.wait(10)
        return made

    with ThreadPoolExecutor(2) as threads:
        if when == "before":
            model.close()
            with pytest.raises(ConfigError, match="unloaded before it was made"):
                model.make(build)
            return
        making = threads.submit(model.make, build)
        begun.wait(10)
        closing = threads.submit(model.close)
        go.set()
        assert making.result(10) is made and closing.result(10) is None
    assert made.closed and model.training is None


def test_a_request_that_is_cancelled_while_weights_are_changed_holds_nobody_up():
    one = object.__new__(Base)
    one._current, one._number, one._active, one._tickets = "", 0, 0, 0
    one._waiting, one._turn = deque(), asyncio.Condition()
    changing, go = threading.Event(), threading.Event()
    one.__dict__["engine"] = SimpleNamespace(update_weights=lambda *_, version: (changing.set(), go.wait(10)))
    one.merged = lambda version: {}

    async def hold(name):
        async with one._holding(SimpleNamespace(name=name)):
            return name

    async def work():
        first = asyncio.ensure_future(hold("a"))
        await asyncio.to_thread(changing.wait, 10)
        second = asyncio.ensure_future(hold("b"))
        await asyncio.sleep(0.01)
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)
        go.set()
        return await first, await asyncio.wait_for(hold("c"), 10)

    assert asyncio.run(work()) == ("a", "c") and not one._waiting


def test_models_that_are_asked_for_at_once_take_no_more_room_than_there_is(tmp_path):
    with server(tiny_base(tmp_path / "model"), tmp_path, max_models=2) as http:
        client = Client(http)
        ask = lambda i: client.post("create_model", session_id=client.session, model_seq_id=i, base_model=NAME,
                                    lora_config={"rank": 4})  # fmt: skip
        told = [client.result(promised) for promised in [ask(i) for i in range(5)]]
        assert sum("model_id" in each for each in told) == 2
        assert all("--max-models" in each["error"] for each in told if "model_id" not in each)


def test_saved_weights_that_are_drawn_from_do_not_pile_up_in_memory_and_stay_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr("ponder.tinker.service.SNAPSHOTS", 2)
    read, adapters = Base.read_adapter, []

    def watched(base, folder):
        adapters.append(weakref.ref(adapter := read(base, folder)))
        return adapter

    monkeypatch.setattr(Base, "read_adapter", watched)
    with server(tiny_base(tmp_path / "model"), tmp_path) as http:
        client = Client(http)
        model, samplers, drawn = client.model(0), [], []
        draw = lambda sampler, number: client.sample(sampler, number, PROMPT, n=2, seed=1)[0]
        for i in range(5):
            client.train(model, 3 * i + 1, [shifted([*PROMPT, 99, 99])], "cross_entropy")
            client.result(client.step(model, 3 * i + 2, learning_rate=0.05))
            body = {"model_id": model, "seq_id": 3 * i + 3, "path": f"w{i}"}
            path = client.result(client.post("save_weights_for_sampler", **body))["path"]
            made = client.post("create_sampling_session", session_id=client.session, sampling_session_seq_id=i,
                               model_path=path)  # fmt: skip
            samplers.append(made["sampling_session_id"])
            drawn.append(draw(samplers[-1], 0))
        gc.collect()
        assert sum(adapter() is not None for adapter in adapters) <= 2 and drawn[0] != drawn[4]
        assert [draw(sampler, 1) for sampler in samplers] == drawn
        body = {"model_id": model, "seq_id": 16, "path": "w0", "overwrite": True}
        client.result(client.post("save_weights_for_sampler", **body))
        assert "was overwritten" in client.sample(samplers[0], 2, PROMPT)["error"]
        assert http.post(f"/api/v1/sessions/{client.session}/finish", json={}).status_code == 204
        client.post("asample", status=404, sampling_session_id=samplers[4], seq_id=3)


def test_a_client_that_leaves_before_its_request_came_is_no_error_of_the_server(tmp_path):
    app = make_app(TinkerService({}, TinkerSettings(folder=tmp_path)), api_key="tml-mine")
    scope = {"type": "http", "method": "POST", "path": "/api/v1/asample", "query_string": b"", "scheme": "http",
             "headers": [(b"host", b"x"), (b"x-api-key", b"tml-mine")], "server": ("x", 80)}  # fmt: skip
    said = []

    async def receive():
        return {"type": "http.disconnect"}

    async def send(message):
        said.append(message.get("status"))

    asyncio.run(app(scope, receive, send))
    assert said[0] == 400


def test_a_number_that_never_comes_ends_the_wait_of_those_after_it(monkeypatch):
    monkeypatch.setattr(futures_module, "PATIENCE", 0.05)

    async def scenario():
        futures = Futures()
        line = RequestLine("m", futures)

        async def work():
            return {"done": True}

        identity = line.add(2, work)
        return await futures.wait(identity, 5.0)

    outcome = asyncio.run(scenario())
    assert outcome.category == "user" and "request 1 of m never came" in outcome.error


def test_answers_are_forgotten_only_a_while_after_they_were_fetched():
    async def scenario():
        now = [0.0]
        futures = Futures(lambda: now[0])

        async def work():
            return {"done": True}

        futures.start("a", work)
        assert await futures.wait("a", 1.0) == {"done": True}
        now[0] = futures_module.KEPT - 1
        futures.start("b", work)
        assert "a" in futures
        now[0] = futures_module.KEPT + 1
        futures.start("c", work)
        assert "a" not in futures and "b" in futures

    asyncio.run(scenario())
