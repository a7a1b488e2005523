"""The run folder: nothing that was written is lost, whatever happens while writing."""

from __future__ import annotations

import contextlib
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ponder.files import InUse, StorageError, append_jsonl, read_jsonl, write_atomic
from ponder.runs import Run, find_checkpoints
from ponder.train.doctor import diagnose
from ponder.trained_on import file_source, record_training, training_sources


def test_a_torn_last_line_is_skipped_and_cut_off_by_the_next_append(tmp_path):
    path = tmp_path / "rows.jsonl"
    append_jsonl(path, [{"a": 1}, {"a": 2}])
    for cut in range(1, 9):
        path.write_bytes(b'{"a": 1}\n{"a": 2}\n{"a": 3}\n'[:-cut])
        assert [row["a"] for row in read_jsonl(path)] == [1, 2]
        append_jsonl(path, [{"a": 4}])
        assert [row["a"] for row in read_jsonl(path)] == [1, 2, 4]


def test_a_broken_line_before_the_last_is_an_error_with_its_number(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\nnot json\n{"a": 2}\n')
    with pytest.raises(ValueError, match="rows.jsonl:2 is not JSON"):
        list(read_jsonl(path))


def test_a_full_disk_is_one_clear_error_and_keeps_what_was_written(tmp_path, monkeypatch):
    path = tmp_path / "rows.jsonl"
    append_jsonl(path, [{"a": 1}])

    class Full:
        """A file on a disk with room for 5 more bytes."""

        def __init__(self, file):
            self.file, self.room = file, 5

        def write(self, data):
            if not self.room:
                raise OSError(28, "No space left on device")
            taken, self.room = data[: self.room], 0
            return self.file.write(taken)

        def __getattr__(self, name):
            return getattr(self.file, name)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

    real = open
    monkeypatch.setattr("builtins.open", lambda *a, **k: Full(real(*a, **k)))
    with pytest.raises(StorageError, match="No space left.*free some space"):
        append_jsonl(path, [{"a": 2}])
    monkeypatch.undo()
    assert path.read_text() == '{"a": 1}\n'


def test_a_failed_replacement_leaves_the_old_file_and_no_litter(tmp_path, monkeypatch):
    path = tmp_path / "state"
    write_atomic(path, "old")

    def refuse(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(StorageError, match="No space left"):
        write_atomic(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_in_the_place_of_a_folder_is_one_clear_error(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(StorageError, match=r"cannot write .*file/x\.json: .*choose another folder"):
        write_atomic(tmp_path / "file" / "x.json", "new")
    assert (tmp_path / "file").read_text() == "mine"


def test_reopening_a_run_keeps_its_facts_and_forgets_only_later_steps(tmp_path):
    with Run(tmp_path / "run", kind="rl", config_toml="seed = 0", seed=0) as run:
        for step in range(5):
            run.log(step, {"loss": float(step)})
    facts = (run.folder / "run.json").read_text()
    again = Run(tmp_path / "run", kind="rl", config_toml="seed = 0", seed=0)
    again.forget_after(3)
    assert (run.folder / "run.json").read_text() == facts
    assert [row["step"] for row in read_jsonl(run.folder / "metrics.jsonl")] == [0, 1, 2]


@pytest.mark.parametrize("name", ["config.toml", "run.json", "inputs.json", "metrics.jsonl", "samples.jsonl"])
def test_a_run_with_a_file_that_was_cut_off_goes_on_or_is_one_error_that_names_it(tmp_path, name, monkeypatch):
    recipe, path = 'model = "nano"\nlr = 0.1', tmp_path / name

    def go_on() -> None:
        with Run(tmp_path, kind="rl", config_toml=recipe, seed=0) as run:
            run.same_inputs({"p.jsonl": "9f86"}, begun=not run.is_new)
            run.forget_after(2)

    with Run(tmp_path, kind="rl", config_toml=recipe, seed=0) as run:
        run.same_inputs({"p.jsonl": "9f86"}, begun=False)
        for step in range(3):
            run.log(step, {"loss": 1.0})
            run.log_samples([{"step": step, "answer": "a"}])
    go_on()
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        try:
            go_on()
        except ValueError as error:
            assert str(path) in str(error) or (name == "config.toml" and "was begun with" in str(error))
        else:
            assert name.endswith(".jsonl") or size == len(whole) - 1
    for content in (b"\xff\xfe", b"[]", b"5", b'{"a": 1}', b"[" * 100_000):
        path.write_bytes(content + b"\n")
        with contextlib.suppress(ValueError):
            go_on()


def test_a_log_of_which_nothing_is_to_be_forgotten_is_not_written_again(tmp_path, monkeypatch):
    with Run(tmp_path, kind="rl", config_toml="", seed=0) as run:
        for step in range(3):
            run.log_rollouts([{"step": step}])
        monkeypatch.setattr("ponder.runs.write_atomic", lambda *_: pytest.fail("the disk may be full"))
        run.forget_after(3)
        monkeypatch.undo()
        run.forget_after(1)
        assert [row["step"] for row in read_jsonl(tmp_path / "all_rollouts.jsonl")] == [0]


def test_what_a_kill_leaves_of_a_state_is_removed_when_the_run_goes_on(tmp_path):
    Run(tmp_path, kind="rl", config_toml="", seed=0).close()
    write_atomic(tmp_path / "state" / "state.safetensors", b"whole")
    for process in (7, 8):
        (tmp_path / "state" / f".state.safetensors.{process}.part").write_bytes(b"half")
    Run(tmp_path, kind="rl", config_toml="", seed=0).close()
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["state.safetensors"]


def test_a_run_whose_samples_hold_half_a_surrogate_pair_goes_on(tmp_path):
    for _ in range(2):
        with Run(tmp_path, kind="rl", config_toml="", seed=0) as run:
            run.forget_after(2)
            run.log_samples([{"step": 1, "answer": "a\ud800b"}])
    assert {row["answer"] for row in read_jsonl(tmp_path / "samples.jsonl")} == {"a\ud800b"}


def test_a_metric_that_is_no_number_is_null_and_the_doctor_still_tells(tmp_path):
    with Run(tmp_path, kind="rl", config_toml="", seed=0) as run:
        run.log(0, {"reward/mean": 0.5})
        run.log(1, {"reward/mean": 0.5, "kl/k1": math.inf})
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert lines[1] == '{"step": 1, "reward/mean": 0.5, "kl/k1": null}'
    [first, *_] = diagnose(list(read_jsonl(tmp_path / "metrics.jsonl")), {})
    assert first.name == "non_finite" and "kl/k1 is no number at step 1" in first.evidence


def test_a_continued_run_may_be_longer_and_nothing_else(tmp_path):
    Run(tmp_path, kind="rl", config_toml="num_steps = 3\nlr = 0.1", seed=0)
    Run(tmp_path, kind="rl", config_toml="num_steps = 5\nlr = 0.1", seed=0).forget_after(3)
    assert "num_steps = 5" in (tmp_path / "config.toml").read_text()
    with pytest.raises(ValueError, match=r"begun with lr = 0\.1, not 0\.2"):
        Run(tmp_path, kind="rl", config_toml="num_steps = 5\nlr = 0.2", seed=0)


def test_a_command_that_is_refused_after_its_run_was_opened_leaves_the_recipe_as_it_was(tmp_path):
    with Run(tmp_path, kind="rl", config_toml="num_steps = 5", seed=0) as run:
        run.same_inputs({"a.jsonl": "1"}, begun=False)
    with (
        Run(tmp_path, kind="rl", config_toml="num_steps = 9", seed=0) as run,
        pytest.raises(ValueError, match="has changed"),
    ):
        run.same_inputs({"a.jsonl": "2"}, begun=True)
    assert (tmp_path / "config.toml").read_text() == "num_steps = 5\n"


@pytest.mark.parametrize(
    "name", ["metrics.jsonl", "rollouts.jsonl", "state/state.safetensors", "checkpoints/step_00002/x"]
)
def test_what_a_run_wrote_is_not_taken_over_by_another_where_its_facts_are_gone(name, tmp_path):
    with Run(tmp_path, kind="rl", config_toml="lr = 0.1", seed=0):
        write_atomic(tmp_path / name, '{"step": 0}\n')
    (tmp_path / "run.json").unlink()
    with pytest.raises(ValueError, match=rf"no run.json, but {name.partition('/')[0]} of a run.* Restore run.json"):
        Run(tmp_path, kind="rl", config_toml="lr = 0.2", seed=0)
    assert (tmp_path / "config.toml").read_text() == "lr = 0.1\n" and not (tmp_path / "run.json").exists()


@pytest.mark.parametrize("line", ["{}", '{"step": null}', '{"step": "3"}', '{"step": [3]}', '{"step": true}'])
def test_a_line_without_its_step_is_one_error_that_names_it(line, tmp_path):
    with Run(tmp_path, kind="rl", config_toml="", seed=0) as run:
        run.log(0, {"loss": 1.0})
        with open(tmp_path / "metrics.jsonl", "a") as file:
            file.write(line + "\n")
        with pytest.raises(ValueError, match=r"metrics\.jsonl:2 is damaged: its 'step' is no number; delete that line"):
            run.forget_after(1)


def test_another_kind_of_run_is_refused(tmp_path):
    Run(tmp_path, kind="sft", config_toml="", seed=0)
    with pytest.raises(ValueError, match="holds a run of kind 'sft'"):
        Run(tmp_path, kind="rl", config_toml="", seed=0)


def test_only_complete_checkpoints_are_found(tmp_path):
    for step, done in ((2, True), (10, True), (4, False)):
        folder = tmp_path / "checkpoints" / f"step_{step:05d}"
        folder.mkdir(parents=True)
        if done:
            (folder / "checkpoint.json").write_text(json.dumps({"step": step}))
    assert [folder.name for folder in find_checkpoints(tmp_path)] == ["step_00002", "step_00010"]


def test_what_was_trained_on_is_carried_from_base_to_checkpoint(tmp_path):
    first, second, third = tmp_path / "sft", tmp_path / "rl", tmp_path / "fresh"
    data = tmp_path / "d.jsonl"
    data.write_text('{"problem": "p"}\n')
    base = tmp_path / "pulled"
    base.mkdir()
    record_training(first, base, [file_source(data)], base_name="owner/name")
    record_training(second, first, [{"kind": "task", "task": "gsm8k", "split": "train", "seed": 0, "size": 64}])
    kinds = [source["kind"] for source in training_sources(second)]
    assert kinds == ["unknown", "file", "task"] and training_sources(second)[0]["name"] == "owner/name"
    assert training_sources(second)[1]["sha256"] == file_source(data)["sha256"]
    record_training(third, None, [{"kind": "other", "name": "demonstrations", "note": "made while training"}])
    assert [source["kind"] for source in training_sources(third)] == ["other"]
    record_training(second, second, [{"kind": "task", "task": "gsm8k", "split": "train", "seed": 0, "size": 64}])
    assert len(training_sources(second)) == 3  # the same source twice is one


def test_an_older_run_tells_its_training_by_its_recipe(tmp_path):
    run = Run(
        tmp_path / "run", kind="rl", config_toml='model = "nano"\ntask = "arithmetic"\npool_size = 8\nseed = 3', seed=3
    )
    checkpoint = run.checkpoint_folder(20)
    checkpoint.mkdir(parents=True)
    known, task = training_sources(checkpoint)
    assert known["kind"] == "unknown" and known["name"] == "nano"
    assert task == {"kind": "task", "task": "arithmetic", "split": "train", "seed": 3, "size": 8}


BROKEN = "", "[]", "{", '{"sources": 3}', '{"sources": [3]}', '{"sources": "ab"}', "[" * 100_000


@pytest.mark.parametrize("text", BROKEN)
def test_a_broken_record_says_nothing(tmp_path, text):
    (tmp_path / "training.json").write_text(text)
    assert training_sources(tmp_path) == []


# ---- one writer ----------------------------------------------------------------------------------------------------

ROOT = Path(__file__).parent.parent
WRITER = """
import sys
from ponder.runs import Run
run = Run(sys.argv[1], kind="rl", config_toml="", seed=0)
print("open", flush=True)
sys.stdin.read()
"""


@pytest.mark.slow
def test_a_second_process_is_refused_by_the_name_of_the_first_until_that_is_gone(tmp_path):
    folder = tmp_path / "run"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    first = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    )
    try:
        assert first.stdout.readline() == b"open\n"
        before = (folder / "run.json").read_bytes()
        with pytest.raises(InUse, match=rf"run is being written by process {first.pid} on .*; wait for it, stop it"):
            Run(folder, kind="rl", config_toml="lr = 1", seed=0)
        assert (folder / "run.json").read_bytes() == before
    finally:
        first.kill()  # as kill -9: it cannot tidy up
        first.wait()
    Run(folder, kind="rl", config_toml="", seed=0).close()


def test_a_run_that_could_not_be_opened_is_not_held(tmp_path):
    Run(tmp_path, kind="rl", config_toml="", seed=0).close()
    with pytest.raises(ValueError, match="holds a run of kind 'rl'") as caught:
        Run(tmp_path, kind="sft", config_toml="", seed=0)
    with Run(tmp_path, kind="rl", config_toml="", seed=0), pytest.raises(InUse):
        Run(tmp_path, kind="rl", config_toml="", seed=0)
    assert caught.value  # whose frames still live


# ---- what is read stays the same -----------------------------------------------------------------------------------


def test_a_begun_run_goes_on_with_what_it_began_with_only(tmp_path):
    with Run(tmp_path, kind="rl", config_toml="", seed=0) as run:
        run.same_inputs({"a.jsonl": "1"}, begun=False)
        run.same_inputs({"a.jsonl": "2"}, begun=False)  # nothing was learned of the first
        run.same_inputs({"a.jsonl": "2"}, begun=True)
        for other in ({"a.jsonl": "1"}, {"b.jsonl": "2"}, {}, {"a.jsonl": "2", "b.jsonl": "1"}):
            with pytest.raises(ValueError, match=r"[ab]\.jsonl.* has changed since .*Restore it .*another `out`"):
                run.same_inputs(other, begun=True)


def test_a_run_without_hashes_goes_on_with_a_note_and_is_held_to_them_from_then_on(tmp_path):
    with Run(tmp_path, kind="rl", config_toml="", seed=0) as run:
        with pytest.warns(UserWarning, match="kept no hash of its data"):
            run.same_inputs({"a.jsonl": "1"}, begun=True)
        with pytest.raises(ValueError, match="has changed"):
            run.same_inputs({"a.jsonl": "2"}, begun=True)


def test_checkpoints_come_in_the_order_of_their_steps_and_copies_of_ones_own_are_none(tmp_path):
    for name in ("step_99999", "step_131072", "step_00000", "step_00002_copy", "step_", "step_100000"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
        (tmp_path / "checkpoints" / name / "checkpoint.json").write_text("{}")
    names = [path.name for path in find_checkpoints(tmp_path)]
    assert names == ["step_00000", "step_99999", "step_100000", "step_131072"]
