"""What a run logged reaches a tracker once, in order, whenever it is sent; each library is called as it wants it."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from ponder import files
from ponder.cli.app import app
from ponder.config import ConfigError
from ponder.evals.logs import is_number
from ponder.evals.trackers import TRACKERS, Sent, send, tracked
from ponder.train.metrics import sample_row
from ponder.types import Completion, Problem, Rollout, Turn, Verdict
from tests.helpers import user


class Recorder:
    """A tracker that keeps what it is told."""

    def __init__(self) -> None:
        self.numbers: list[tuple[int, dict[str, float]]] = []
        self.texts: list[tuple[int, str, str]] = []

    def metrics(self, step: int, values: Any) -> None:
        self.numbers.append((step, dict(values)))

    def text(self, step: int, name: str, text: str) -> None:
        self.texts.append((step, name, text))

    def close(self) -> None: ...


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "run.json").write_text(json.dumps({"kind": "rl", "started": "2026-01-01T00:00:00Z"}))
    (folder / "config.toml").write_text('model = "nano"\n[loss]\nkl = 0.1\n')
    log(folder, 0, 1)
    return folder


def log(folder: Path, *steps: int) -> None:
    numbers = [{"step": s, "reward/mean": s / 2, "x": math.nan, "say": "no"} for s in steps]
    files.append_jsonl(folder / "metrics.jsonl", numbers)
    files.append_jsonl(folder / "samples.jsonl", [{"step": s, "answer": f"<b>{s}</b>"} for s in steps])


def test_every_line_is_sent_once_however_often_it_is_asked_for(folder):
    run, tracker = tracked(folder), Recorder()
    sent = send(run, tracker)
    assert sent == Sent(metrics=2, samples=2) and send(run, tracker, sent) == sent
    log(folder, 2)
    send(run, tracker, sent)
    assert tracker.numbers == [(s, {"reward/mean": s / 2}) for s in (0, 1, 2)]  # what is no finite number is left out
    assert [(s, name) for s, name, _ in tracker.texts] == [(s, "samples") for s in (0, 1, 2)]
    assert "<b>2</b>" in tracker.texts[-1][2]


@pytest.mark.parametrize("asked", [False, True])
def test_reasoning_is_sent_only_where_it_was_asked_for(folder, asked):
    said = Completion(
        prompt_ids=(1,), token_ids=(2, 3), sampler_logprobs=(-1.0, -1.0), sampled=(True, True), finish_reason="stop",
        reasoning="SECRET", answer="an answer", num_reasoning_tokens=1,
    )  # fmt: skip
    turns = tuple(Turn(completion=said, kind=kind) for kind in ("candidate", "choice"))
    one = Rollout(
        problem=Problem(id="1", prompt=user("2 + 2?"), target="4", task="t"), turns=turns, reward=1.0, whole=said,
        verdict=Verdict(outcome="correct", reward=1.0),
    )  # fmt: skip
    files.append_jsonl(folder / "samples.jsonl", [sample_row(2, "best", one) | {"of another version": "SECRET"}])
    tracker = Recorder()
    send(tracked(folder), tracker, with_reasoning=asked)
    told = "".join(text for *_, text in tracker.texts)
    assert told.count("SECRET") == (4 if asked else 0) and "an answer" in told and "2 + 2?" in told


def test_the_command_sends_reasoning_only_with_its_flag(folder, monkeypatch):
    files.append_jsonl(folder / "samples.jsonl", [{"step": 2, "answer": "4", "reasoning": "SECRET"}])
    for flags, number in ((), 0), (("--with-reasoning",), 1):
        tracker = Recorder()
        monkeypatch.setitem(TRACKERS, "wandb", lambda run, tracker=tracker: tracker)
        (folder / "sent" / "wandb.json").unlink(missing_ok=True)
        ran = CliRunner().invoke(app, ["log", str(folder), "--to", "wandb", *flags])
        assert ran.exit_code == 0 and "3 samples" in ran.output
        assert str(tracker.texts).count("SECRET") == number


@pytest.mark.parametrize("note", ['{"metrics": "5"}', '{"metrics": -1}', '{"samples": null}', "[]", "[[", "\xff"])
def test_a_damaged_note_of_what_was_sent_is_one_error_with_the_fix(tmp_path, note):
    (tmp_path / "wandb.json").write_bytes(note.encode("latin-1"))
    with pytest.raises(ConfigError, match=r"wandb\.json is damaged; delete it"):
        Sent.read(tmp_path / "wandb.json")


def test_a_run_keeps_its_id_and_a_run_that_replaces_it_has_another(folder):
    first = tracked(folder).id
    log(folder, 2)
    assert tracked(folder).id == first
    (folder / "run.json").write_text(json.dumps({"kind": "rl", "started": "2026-01-02T00:00:00Z"}))
    assert tracked(folder).id != first and tracked(folder).config["loss"] == {"kl": 0.1}


def test_what_is_no_run_and_a_damaged_note_are_one_clear_error(folder, tmp_path):
    with pytest.raises(ConfigError, match="is no run"):
        tracked(tmp_path)
    (tmp_path / "s.json").write_text('{"metrics": 1, "lines": 2}')
    with pytest.raises(ConfigError, match="delete it"):
        Sent.read(tmp_path / "s.json")
    for name in TRACKERS:
        if name not in sys.modules:
            with pytest.MonkeyPatch.context() as patch:
                for module in (name, "torch.utils.tensorboard"):
                    patch.setitem(sys.modules, module, None)
                with pytest.raises(ConfigError, match=f"pip install {name}"):
                    TRACKERS[name](tracked(folder))


@pytest.mark.parametrize("name", ["trackio", "wandb"])
def test_a_run_sent_in_two_parts_is_one_run_there(name, folder, monkeypatch):
    calls: list[tuple[str, Any]] = []
    module: Any = ModuleType(name)
    module.init = lambda **options: calls.append(("init", options))
    module.log = lambda values, step: calls.append(("log", (step, values)))
    module.finish = lambda: calls.append(("finish", None))
    monkeypatch.setitem(sys.modules, name, module)
    run = tracked(folder, "mine")
    for _ in range(2):
        tracker = TRACKERS[name](run)
        send(run, tracker)
        tracker.close()
    begun = [told for call, told in calls if call == "init"]
    assert begun[0] == begun[1] and begun[0]["project"] == "mine" and begun[0]["resume"] == "allow"
    assert begun[0]["config"]["model"] == "nano"
    assert ("log", (1, {"reward/mean": 0.5})) in calls and calls[-1] == ("finish", None)


def test_mlflow_gets_names_it_takes_and_finds_its_run_again(folder, monkeypatch):
    kept: dict[str, Any] = {"runs": [], "metrics": {}, "texts": {}, "params": []}
    module: Any = ModuleType("mlflow")

    def start_run(run_id=None, run_name=None, tags=None):
        if run_id is None:
            kept["runs"].append(SimpleNamespace(info=SimpleNamespace(run_id="r1"), tags=tags))

    def search_runs(filter_string, output_format):
        assert output_format == "list"
        return [run for run in kept["runs"] if run.tags["ponder.run"] in filter_string]

    module.set_experiment = lambda name: None
    module.start_run, module.search_runs = start_run, search_runs
    module.log_params = kept["params"].append
    module.log_metrics = lambda values, step: kept["metrics"].update({(name, step): v for name, v in values.items()})
    module.log_text = lambda text, path: kept["texts"].update({path: text})
    module.end_run = lambda: None
    monkeypatch.setitem(sys.modules, "mlflow", module)
    for _ in range(2):
        tracker = TRACKERS["mlflow"](tracked(folder))
        tracker.metrics(3, {"curves/pass@1": 0.5, "pool/level_<2>": 1.0})
        tracker.text(3, "samples", "said")
        tracker.text(3, "samples", "said too")  # of the same step: the best and the worst
        tracker.close()
    assert len(kept["runs"]) == 1 and len(kept["params"]) == 1
    assert kept["metrics"] == {("curves/pass_at_1", 3): 0.5, ("pool/level__2_", 3): 1.0}
    assert kept["texts"] == {"samples/000003.txt": "said", "samples/000003-2.txt": "said too"}


def test_tensorboard_reads_its_own_files(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = tracked(folder)
    tracker = TRACKERS["tensorboard"](run)
    send(run, tracker)
    tracker.close()
    read = EventAccumulator(str(folder / "tensorboard"))
    read.Reload()
    assert [(event.step, event.value) for event in read.Scalars("reward/mean")] == [(0, 0.0), (1, 0.5)]


@pytest.mark.parametrize("value", [10**400, -(10**400), float("nan"), float("inf"), True, "1", None])
def test_what_no_float_can_hold_is_no_number_of_a_log(value):
    assert not is_number(value) and is_number(1) and is_number(-2.5)
