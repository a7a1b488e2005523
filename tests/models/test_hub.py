"""Model references: every form finds its folder, and everything else says what it could have been."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from huggingface_hub import constants

from ponder.config import ConfigError
from ponder.models import download, hub
from ponder.models.tokenizer import ByteTokenizer
from ponder.models.transformer import ModelConfig, Transformer
from ponder.models.weights import save_model
from tests.hub_double import HubReplies, served, use_hub

TINY = ModelConfig(
    vocab_size=ByteTokenizer.vocab_size, hidden_size=8, intermediate_size=8, num_hidden_layers=1,
    num_attention_heads=2, num_key_value_heads=1, head_dim=4, max_position_embeddings=32,
)  # fmt: skip


def make_model(folder: Path, seed: int = 0, config: ModelConfig = TINY) -> Path:
    model = Transformer(config)
    model.init_weights(seed)
    save_model(model, folder)
    ByteTokenizer().save(str(folder))
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder with checkpoints of steps 5 and 20, and one of step 30 that is not complete."""
    folder = tmp_path / "run"
    for step in (5, 20, 30):
        checkpoint = make_model(folder / "checkpoints" / f"step_{step:05d}", seed=step)
        if step != 30:
            (checkpoint / "checkpoint.json").write_text(json.dumps({"step": step}))
    (folder / "run.json").write_text("{}")
    (folder / "config.toml").write_text(f'model = "{make_model(tmp_path / "start")}"\n')
    return folder


@pytest.fixture(autouse=True)
def _no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("PONDER_CACHE", str(tmp_path / "cache"))
    use_hub(monkeypatch, "http://127.0.0.1:9")  # nothing listens there


def refused(reference: str | Path) -> str:
    with pytest.raises(ConfigError) as caught:
        hub.resolve(reference)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_model_folder_is_itself(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "model")
    assert hub.resolve(folder) == hub.resolve(str(folder)) == folder
    model, tokenizer = hub.load(folder, dtype=torch.bfloat16)
    assert model.model.embed_tokens.weight.dtype == torch.bfloat16
    assert isinstance(tokenizer, ByteTokenizer)


def test_a_run_is_its_newest_complete_checkpoint(run: Path) -> None:
    assert hub.resolve(run).name == "step_00020"


def test_a_checkpoint_of_a_run_is_named_by_its_step(run: Path) -> None:
    assert hub.resolve(f"{run}@5").name == "step_00005"
    assert "complete: 5, 20" in refused(f"{run}@30")
    assert "no checkpoint of step 'last'" in refused(f"{run}@last")


def test_the_base_of_a_run_is_what_its_recipe_names_or_its_step_0(run: Path) -> None:
    assert hub.resolve(f"{run}@base").name == "start"
    first = make_model(run / "checkpoints" / "step_00000")
    (first / "checkpoint.json").write_text("{}")
    assert hub.resolve(f"{run}@base") == first


def test_a_base_that_leads_round_in_a_circle_is_refused(run: Path) -> None:
    for model in (f"{run}@base", str(run)):
        (run / "config.toml").write_text(f'model = "{model}"\n')
        assert "circle" in refused(f"{run}@base")
    for text in ("model = 3", "model = ", ""):
        (run / "config.toml").write_text(text)
        assert "began from" in refused(f"{run}@base")


def test_a_run_without_checkpoints_says_so(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    assert "no complete checkpoint yet" in refused(tmp_path)


def test_an_unknown_name_gets_the_nearest_and_all_four_forms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    message = refused("nanoo")
    assert "did you mean 'nano'" in message
    assert all(form in message for form in ("nano", "model folder", "RUN@step", "owner/name[@revision]"))
    monkeypatch.chdir(tmp_path)
    make_model(tmp_path / "my-model")
    assert "did you mean 'my-model'" in refused("my-modle")
    odd = ("", " ", "a b", "a/b/c", "http://x/y", "a\nb", "x" * 300, "x" * 5000, "~nobody/x", "nano@base", "..", "\0")
    assert all("model" in refused(reference) for reference in odd)


def test_files_and_folders_of_other_things_are_refused(tmp_path: Path) -> None:
    assert "neither config.json nor run.json" in refused(tmp_path)
    (tmp_path / "file").write_text("x")
    assert "is a file" in refused(tmp_path / "file")
    assert "no run folder" in refused(f"{make_model(tmp_path / 'model')}@3")


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "model", config=replace(TINY, vocab_size=100))
    with pytest.raises(ConfigError, match="knows 264 tokens, its model only 100"):
        hub.load(folder)


def test_a_model_folder_without_tokenizer_is_refused(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "model")
    (folder / "tokenizer_config.json").unlink()
    with pytest.raises(ConfigError, match="no tokenizer.json in"):
        hub.load(folder)


def test_a_description_is_made_without_loading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_model(tmp_path / "model")
    model, _ = hub.load(folder)
    monkeypatch.setattr(hub, "load_model", None)
    facts = hub.describe(folder)
    assert facts["name"] == str(folder) and facts["window"] == 32 and facts["dtype"] == "float32"
    assert facts["parameters"] == model.num_parameters


def test_the_fingerprint_follows_the_weights_and_nothing_else(tmp_path: Path) -> None:
    one = hub.fingerprint(make_model(tmp_path / "a", seed=0))
    assert hub.fingerprint(make_model(tmp_path / "b", seed=0)) == one
    assert hub.fingerprint(make_model(tmp_path / "b", seed=1)) != one


# ------------------------------------------------------------------------------------------------------- hub ids


def snapshot(tmp_path: Path, revision: str = "main") -> Path:
    """What a finished download leaves in the hub's store."""
    commit = "a" * 40
    repo = tmp_path / "hub" / "models--someone--something"
    folder = make_model(repo / "snapshots" / commit)
    (repo / "refs").mkdir(exist_ok=True)
    (repo / "refs" / revision).write_text(commit)
    return folder


def test_a_downloaded_model_is_found_without_a_network(tmp_path: Path) -> None:
    folder = snapshot(tmp_path)
    snapshot(tmp_path, "v1")
    assert hub.resolve("someone/something").samefile(folder)
    assert hub.resolve("someone/something@v1").samefile(folder)
    assert hub.resolve(f"someone/something@{'a' * 40}").samefile(folder)
    assert "cannot be reached" in refused("someone/something@v2")


def test_a_download_that_was_cut_short_is_not_taken_for_a_model(tmp_path: Path) -> None:
    (snapshot(tmp_path) / "model.safetensors").unlink()
    assert "not a whole model (no model.safetensors" in refused("someone/something")


def test_without_a_network_there_is_one_clear_error() -> None:
    message = refused("someone/something")
    assert "no folder 'someone/something'" in message and "the hub cannot be reached" in message


def test_offline_mode_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE is set and the model was not downloaded" in refused("someone/something")


def test_without_the_extra_a_hub_id_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert 'pip install "ponder[hub]"' in refused("someone/something")


def test_a_folder_wins_over_a_hub_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot(tmp_path)
    monkeypatch.chdir(tmp_path)
    make_model(tmp_path / "someone" / "something")
    assert hub.resolve("someone/something") == Path("someone/something")


class Hub(ThreadingHTTPServer):
    """The few requests of a download, as the hub answers them: one model, revisions main and v1, one commit."""

    daemon_threads = True
    commit = "c" * 40
    opens_to: str | None = "nothing"

    def __init__(self, folder: Path, refuse: dict[str, str]) -> None:
        super().__init__(("127.0.0.1", 0), HubHandler)
        self.files = {path.name: path.read_bytes() for path in folder.iterdir()} | {"code.py": b"", "old.bin": b""}
        self.files |= {"onnx/config.json": b"{}", "consolidated.safetensors": b"the same once more"}
        self.stated = dict(self.files)  # what the hub says it has; `files` is what it sends
        self.refuse = refuse
        self.fetched: list[str] = []


class HubHandler(HubReplies):
    server: Hub

    def do_GET(self) -> None:
        path = self.path.partition("?")[0].removeprefix("/api/models").strip("/").split("/")
        error = self.server.refuse.get("/".join(path[:2]))
        if error and self.headers.get("Authorization") != self.server.opens_to:
            return self.reply(403 if error == "GatedRepo" else 404, b"{}", {"X-Error-Code": error})
        revision = path[3] if len(path) > 3 else "main"
        if revision not in ("main", "v1", self.server.commit):
            return self.reply(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        files = self.server.files
        if path[2:3] == ["resolve"]:
            tag = hashlib.sha1(files[path[4]]).hexdigest()
            if self.command == "GET":
                self.server.fetched.append(path[4])
            return self.reply(200, files[path[4]], {"ETag": f'"{tag}"', "X-Repo-Commit": self.server.commit})
        if path[2:3] == ["tree"]:
            tree = [{"type": "file", "path": name, "size": len(data), "oid": name} for name, data in files.items()]
            return self.reply(200, json.dumps(tree).encode())
        siblings = [stated(name, data) for name, data in self.server.stated.items()]
        facts = {"id": "someone/something", "sha": self.server.commit, "siblings": siblings}
        self.reply(200, json.dumps(facts).encode())

    do_HEAD = do_GET


def stated(name: str, data: bytes) -> dict[str, object]:
    """Large files are kept by their sha256, small ones as git keeps them."""
    size = len(data)
    facts: dict[str, object] = {"rfilename": name, "size": size, "blobId": git_hash(data)}
    if name.endswith(".safetensors"):
        facts["lfs"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": size, "pointerSize": 130}
    return facts


def git_hash(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Hub]]:
    with contextlib.ExitStack() as servers:

        def start(**refuse: str) -> Hub:
            server = Hub(make_model(tmp_path / "origin"), {f"someone/{name}": error for name, error in refuse.items()})
            use_hub(monkeypatch, servers.enter_context(served(server)))
            return server

        yield start


def test_a_model_is_downloaded_once_and_without_code_or_pickles(serve: Callable[..., Hub], tmp_path: Path) -> None:
    server = serve()
    folder = hub.resolve("someone/something@v1")
    assert hub.fingerprint(folder) == hub.fingerprint(tmp_path / "origin")
    assert sorted(server.fetched) == ["config.json", "model.safetensors", "tokenizer_config.json"]
    assert hub.resolve("someone/something@v1") == folder
    assert len(server.fetched) == 3


def test_a_download_that_was_cut_short_is_taken_up_again(serve: Callable[..., Hub]) -> None:
    server = serve()
    folder = hub.resolve("someone/something")
    (folder / "model.safetensors").unlink()
    server.fetched.clear()
    assert hub.resolve("someone/something") == folder
    assert server.fetched in (["model.safetensors"], [])  # [] = from the hub's own store of blobs
    assert (folder / "model.safetensors").exists()


def test_the_weights_come_last_so_that_whole_ones_have_their_tokenizer_and_template(serve: Callable[..., Hub]) -> None:
    server = serve()
    server.files["chat_template.jinja"] = server.stated["chat_template.jinja"] = b"{{ messages[0].content }}"
    folder = hub.resolve("someone/something")
    assert server.fetched[0] == "config.json" and server.fetched[-1] == "model.safetensors"
    assert sorted(server.fetched[1:-1]) == ["chat_template.jinja", "tokenizer_config.json"]
    assert (folder / "chat_template.jinja").exists()


def test_what_the_hub_refuses_is_said_with_the_fix(serve: Callable[..., Hub]) -> None:
    serve(nothing="RepoNotFound", locked="GatedRepo")
    assert "the hub has no such model, or it is private" in refused("someone/nothing")
    assert "gated: accept its terms" in refused("someone/locked")
    assert "no revision 'v9'" in refused("someone/something@v9")


def test_a_file_that_arrives_damaged_is_removed_and_said_and_fetched_when_asked_again(
    serve: Callable[..., Hub], tmp_path: Path
) -> None:
    server = serve()
    for name in ("model.safetensors", "tokenizer_config.json"):
        good = server.files[name]
        server.files[name] = good[:-1] + b"#"
        message = refused("someone/something")
        assert f"{name} arrived damaged" in message and "run `ponder pull someone/something`" in message
        assert not list((tmp_path / "hub").rglob(name))
        server.files[name] = good
        shutil.rmtree(tmp_path / "hub")
    folder = hub.pull("someone/something")
    assert hub.fingerprint(folder) == hub.fingerprint(tmp_path / "origin")


def test_pulling_again_mends_what_was_damaged_on_the_disk(serve: Callable[..., Hub]) -> None:
    server = serve()
    weights = hub.pull("someone/something") / "model.safetensors"
    data = weights.read_bytes()
    server.fetched.clear()
    for damaged in (data[:-5] + b"\1\2\3\4\5", data[: len(data) // 2]):
        weights.resolve().write_bytes(damaged)
        assert hub.pull("someone/something") == weights.parent
        assert weights.read_bytes() == data
    assert server.fetched == ["model.safetensors"] * 2  # and nothing that was whole
    weights.resolve().write_bytes(data[:100])
    assert hub.resolve("someone/something") == weights.parent  # a file cut short is seen without asking the hub
    assert weights.read_bytes() == data


def test_a_file_cut_short_without_a_network_says_which_and_what_to_do(
    serve: Callable[..., Hub], monkeypatch: pytest.MonkeyPatch
) -> None:
    serve()
    weights = hub.pull("someone/something") / "model.safetensors"
    weights.resolve().write_bytes(weights.read_bytes()[:100])
    use_hub(monkeypatch, "http://127.0.0.1:9")
    message = refused("someone/something")
    assert "cannot be reached" in message and "model.safetensors is damaged or cut off" in message


def test_a_pull_follows_the_branch_and_a_reference_does_not(serve: Callable[..., Hub]) -> None:
    server = serve()
    old = hub.pull("someone/something")
    server.commit = "d" * 40
    assert hub.resolve("someone/something") == old
    new = hub.pull("someone/something")
    assert new != old and hub.resolve("someone/something") == new


def test_what_is_not_read_here_is_refused_before_its_weights_are_fetched(serve: Callable[..., Hub]) -> None:
    server = serve()
    config = json.loads(server.files["config.json"])
    server.files["config.json"] = json.dumps(config | {"model_type": "mamba"}).encode()
    server.stated["config.json"] = server.files["config.json"]
    assert "model_type 'mamba' is not supported" in refused("someone/something")
    assert server.fetched == ["config.json"]
    del server.stated["model.safetensors"]
    assert "no safetensors (it has old.bin" in refused("someone/something@v1")


def test_a_model_larger_than_the_disk_is_refused_before_its_weights_are_fetched(
    serve: Callable[..., Hub], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve()
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=10))
    assert "set HF_HOME to another disk" in refused("someone/something")
    assert "model.safetensors" not in server.fetched


def test_a_hub_that_never_answers_is_given_up_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "_SECONDS", 0.3)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        use_hub(monkeypatch, f"http://127.0.0.1:{silent.getsockname()[1]}")
        begun = time.monotonic()
        assert "cannot be reached" in refused("someone/something")
        assert time.monotonic() - begun < 20


def test_offline_a_pull_gives_what_is_there(serve: Callable[..., Hub], monkeypatch: pytest.MonkeyPatch) -> None:
    serve()
    folder = hub.pull("someone/something")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert hub.pull("someone/something") == folder
    with pytest.raises(ConfigError, match="HF_HUB_OFFLINE is set"):
        hub.pull("someone/other")


def test_a_token_is_sent_and_what_needs_one_says_so(serve: Callable[..., Hub], monkeypatch: pytest.MonkeyPatch) -> None:
    server = serve(private="RepoNotFound")
    server.opens_to = "Bearer hf_secret"
    assert "set HF_TOKEN" in refused("someone/private")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert hub.resolve("someone/private").exists()


def test_weights_are_used_in_the_dtype_they_are_stored_in_when_none_is_asked_for(tmp_path: Path) -> None:
    model = Transformer(TINY)
    ByteTokenizer().save(str(make_model(tmp_path / "m")))
    expected = {torch.bfloat16: torch.bfloat16, torch.float32: torch.float32, torch.float16: torch.float32}
    for stored, used in expected.items():
        save_model(model, tmp_path / "m", stored)
        assert hub.load(tmp_path / "m", dtype=None)[0].model.embed_tokens.weight.dtype == used
        assert hub.load(tmp_path / "m")[0].model.embed_tokens.weight.dtype == torch.float32
