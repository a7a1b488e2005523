"""`ponder push`: the folder is complete, its card says what the run's files say, and names nothing of this machine."""

from __future__ import annotations

import asyncio
import base64
import json
from dataclasses import replace
from http.server import ThreadingHTTPServer
from pathlib import Path
from shutil import copytree
from typing import Any, ClassVar

import pytest

from ponder.config import ConfigError
from ponder.engine.base import ScriptedEngine
from ponder.evals import card
from ponder.evals.card import prepare
from ponder.evals.exams import run_exam
from ponder.evals.results import Curves, ExamResult
from ponder.evals.scaling import scale
from ponder.files import lock, write_atomic
from ponder.models import hub, lora
from ponder.models.tokenizer import ByteTokenizer
from ponder.models.upload import publication, upload
from ponder.models.weights import save_model
from ponder.runs import Run
from ponder.trained_on import record_training
from ponder.types import SamplingParams
from tests.cli.typed import fails_with, ponder
from tests.helpers import LowercaseTask, tiny_model
from tests.hub_double import HubReplies, served, use_hub

PARAMS = SamplingParams(max_reasoning_tokens=8)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run of two checkpoints, each with an adapter beside it, and its curves."""
    home = tmp_path_factory.mktemp("secret_home")
    folder = home / "runs" / "mine"
    recipe = f'model = "{home}/bases/start"\ntask = "file:{home}/data/my_train.jsonl"\nlr = 0.001'
    with Run(folder, kind="rl", config_toml=recipe, seed=7) as made:
        for step in (0, 5):
            place = made.checkpoint_folder(step)
            place.mkdir(parents=True)
            model = tiny_model(step)
            save_model(model, place)
            ByteTokenizer().save(str(place))
            lora.save_adapter(
                lora.fresh(model, 2, step), place / "adapter", base=hub.named_base(str(home / "bases" / "start"))
            )
            source = {"kind": "task", "task": f"file:{home}/data/my_train.jsonl", "split": "train", "size": 200}
            record_training(place, place, [source])
            write_atomic(place / "checkpoint.json", json.dumps({"step": step, "train_flops": 1e9 * step}))
    engine = lambda checkpoint: ScriptedEngine(lambda prompt, seed: ("hm", "a" if seed % 3 else "9"))
    asyncio.run(
        scale(folder, task=LowercaseTask(split="test", size=6), name="lowercase, dev part", open_engine=engine,
              fingerprint=hub.fingerprint, params=PARAMS, num_samples=4, checkpoint_samples=4)
    )  # fmt: skip
    return folder


def test_the_card_says_what_the_runs_files_say_and_names_no_folder_of_this_machine(run, tmp_path):
    files = prepare(publication(str(run), "me/mine", license="apache-2.0"), tmp_path / "out")
    assert {path.name for path in files} >= {"README.md", "config.json", "model.safetensors", "training.json"}
    text = (tmp_path / "out" / "README.md").read_text()
    assert text.startswith("---\nlibrary_name: transformers\n") and "license: apache-2.0" in text
    curves = json.loads((run / "scale" / "curves.json").read_text())
    for checkpoint in curves["checkpoints"]:
        assert f"{100 * checkpoint['pass@1']['value']:.1f} %" in text
    assert "this model (step 5)" in text and "what was chosen by them is too good on them" in text
    assert "lr = 0.001" in text and "seed 7" in text and "my_train.jsonl, train split, 200 problems" in text
    for path in files:
        if path.suffix in (".md", ".json"):
            assert str(run.parent.parent) not in path.read_text(), path.name
    prepare(publication(str(run), "me/mine"), tmp_path / "out")  # its own folder is made anew
    (tmp_path / "mine.txt").write_text("kept")
    with pytest.raises(ConfigError, match="holds other files"):
        prepare(publication(str(run), "me/mine"), tmp_path)


def test_the_card_names_the_step_that_it_compares_with(run):
    curves = Curves.read(run / "scale" / "curves.json")
    first, last = curves.checkpoints
    moved = replace(curves, checkpoints=(replace(first, step=2), last))
    told = "\n".join(card._curves(publication(str(run), "me/mine"), moved))
    assert "before (step 2)" in told and "this model (step 5)" in told and "step 0" not in told


def test_the_card_tells_of_an_evaluation_that_is_not_finished(run, tmp_path):
    bank = copytree(run / "scale" / "step_00005", tmp_path / "bank")
    replace(ExamResult.read(bank / "result.json"), complete=False).write(bank / "result.json")
    told = {path: card._bank(publication(str(run), "me/mine"), path) for path in (run / "scale" / "step_00005", bank)}
    assert ["not finished" in text for text in told.values()] == [False, True]


def test_what_is_no_part_of_a_model_stays_here_and_that_is_said(run, tmp_path):
    """A server that was started in a model's folder keeps its database there, with the key to it."""
    place = run / "checkpoints" / "step_00000"
    own = ("ponder.db", "ponder.db.secret", "notes.md", "bank.json", "result.json", "keys.json")
    for name in own:
        (place / name).write_text("{}")
    try:
        with pytest.warns(UserWarning, match=r"left here.*: bank\.json, keys\.json, notes\.md, ponder\.db, "):
            files = prepare(publication(f"{run}@0", "me/mine"), tmp_path / "out")
    finally:
        for name in own:
            (place / name).unlink()
    assert not {path.name for path in files} & set(own) and {path.name for path in files} >= {"model.safetensors"}


def test_a_bank_is_on_the_card_only_if_it_is_of_these_weights(run, tmp_path):
    for step, folder in ((5, tmp_path / "own"), (0, tmp_path / "other")):
        asyncio.run(
            run_exam(LowercaseTask(split="test"), ScriptedEngine(["a"]), model="mine", name="lowercase, report part",
                     fingerprint=hub.fingerprint(run / "checkpoints" / f"step_{step:05d}"), num_samples=2,
                     params=PARAMS, out=folder)
        )  # fmt: skip
    prepare(publication(str(run), "me/mine"), tmp_path / "out", banks=[tmp_path / "own"])
    text = (tmp_path / "out" / "README.md").read_text()
    assert "16 problems, 2 samples each | 100.0 %" in text and "chose nothing (the report part)" in text
    with pytest.raises(ConfigError, match="is an evaluation of other weights"):
        prepare(publication(str(run), "me/mine"), tmp_path / "out", banks=[tmp_path / "other"])


def test_an_adapter_goes_with_the_name_of_its_base_or_not_at_all(run, tmp_path):
    with pytest.raises(ConfigError, match="start is a folder of this machine: push the whole model.*--base OWNER/NAME"):
        prepare(publication(str(run), "me/mine", adapter=True), tmp_path / "out")
    files = prepare(publication(f"{run}@5", "me/mine", adapter=True, base="you/start"), tmp_path / "out")
    assert {path.name for path in files} == {"README.md", "adapter_config.json", "adapter_model.safetensors"}
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "you/start"
    text = (tmp_path / "out" / "README.md").read_text()
    assert "library_name: peft" in text and "base_model: you/start" in text
    with pytest.raises(ConfigError, match="has no adapter of its own"):
        prepare(publication("nano", "me/mine", adapter=True), tmp_path / "nano")
    with pytest.raises(ConfigError, match="not OWNER/NAME"):
        prepare(publication(str(run), "mine"), tmp_path / "out")


class HubApi(HubReplies):
    """What of the hub's API a push uses: a repository is made, files are announced, one commit brings them."""

    pushed: ClassVar[dict[str, bytes]] = {}
    refuses: ClassVar[bool] = False

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        if self.refuses:
            return self.answer({"error": "no"}, 403)
        if self.path == "/api/repos/create":
            asked = json.loads(body)
            assert asked["name"] == "mine" and asked["organization"] == "me"
            return self.answer({"url": f"http://127.0.0.1:{self.server.server_port}/me/mine"})  # type: ignore[attr-defined]
        if self.path == "/api/validate-yaml":
            assert json.loads(body)["content"].startswith("---\nlibrary_name: ")
            return self.answer({"errors": [], "warnings": []})
        if "/preupload/" in self.path:
            how = {"uploadMode": "regular", "shouldIgnore": False}
            files = [{"path": file["path"], **how} for file in json.loads(body)["files"]]
            return self.answer({"files": files})
        if "/commit/" in self.path:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.pushed[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            url = f"http://127.0.0.1:{self.server.server_port}/me/mine/commit/{'c' * 40}"  # type: ignore[attr-defined]
            return self.answer({"commitUrl": url, "commitOid": "c" * 40, "success": True})
        self.answer({"error": self.path}, 404)

    def do_GET(self) -> None:
        self.answer({"id": "me/mine", "siblings": []})

    def answer(self, body: Any, status: int = 200) -> None:
        self.reply(status, json.dumps(body).encode(), {"content-type": "application/json"})


@pytest.fixture
def hub_double(monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    HubApi.pushed.clear()
    monkeypatch.setattr(HubApi, "refuses", False)
    with served(ThreadingHTTPServer(("127.0.0.1", 0), HubApi)) as url:
        use_hub(monkeypatch, url)
        yield url


def test_a_push_brings_every_file_and_no_other(run, tmp_path, hub_double, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    files = prepare(publication(str(run), "me/mine"), tmp_path / "out")
    assert "me/mine" in upload(tmp_path / "out", "me/mine")
    assert set(HubApi.pushed) == {str(path.relative_to(tmp_path / "out")) for path in files}
    assert HubApi.pushed["README.md"] == (tmp_path / "out" / "README.md").read_bytes()
    monkeypatch.setattr(HubApi, "refuses", True)
    with pytest.raises(ConfigError, match="does not let you write to me/mine: set HF_TOKEN.*the folder is ready"):
        upload(tmp_path / "out", "me/mine")


def test_a_dry_run_makes_the_folder_and_pushes_nothing(run, tmp_path):
    done = ponder("push", str(run), "me/mine", "--dry-run", "--json", cwd=tmp_path, HF_HUB_OFFLINE="1")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert {"README.md", "model.safetensors"} <= set(found["files"]) and "url" not in found
    assert (tmp_path / "push" / "mine" / "README.md").exists()
    fails_with(ponder("push", str(run), "me/mine", cwd=tmp_path, HF_HUB_OFFLINE="1"), "HF_HUB_OFFLINE", "push/mine")
    with lock(tmp_path / "push" / ".mine.lock", "it"):  # you/mine is made in the same folder
        done = ponder("push", str(run), "you/mine", "--dry-run", cwd=tmp_path)
    fails_with(done, "push/mine is being written by process")
