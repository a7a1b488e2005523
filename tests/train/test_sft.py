"""Supervised fine-tuning: it learns what it is shown, resumes exactly, and refuses broken data with its line."""

from __future__ import annotations

import gzip
import json
import warnings
from dataclasses import replace
from pathlib import Path

import pytest

from ponder.config import ConfigError
from ponder.files import InUse, read_jsonl
from ponder.models import hub
from ponder.models.tokenizer import ByteTokenizer
from ponder.runs import Run
from ponder.train.sft import (
    ArchitectureConfig,
    SFTConfig,
    open_source,
    read_solutions,
    sft,
    tell_of_another_cosine,
    to_example,
)
from ponder.trained_on import training_sources
from tests.helpers import user

SMALL = ArchitectureConfig(width=32, depth=2, heads=4, kv_heads=2, inner=64, window=512)


def config(out: Path, **changes: object) -> SFTConfig:
    values: dict[str, object] = {
        "out": str(out), "architecture": SMALL, "num_steps": 6, "batch_size": 8, "save_every": 2, "num_workers": 0,
        "warmup_steps": 2,
    }  # fmt: skip
    return SFTConfig(**(values | changes))  # type: ignore[arg-type]


def test_one_batch_overfits(tmp_path):
    data = tmp_path / "d.jsonl"
    rows = [{"problem": f"p{i}", "reasoning": f"r{i}{i}", "answer": str(i)} for i in range(4)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    sft(config(tmp_path / "run", data=str(data), num_steps=150, batch_size=4, lr=1e-2, save_every=1000))
    losses = [row["loss"] for row in read_jsonl(tmp_path / "run" / "metrics.jsonl")]
    assert losses[0] > 3
    assert losses[-1] < 0.1


def test_a_stopped_run_goes_on_to_the_same_bits(tmp_path):
    whole = sft(config(tmp_path / "whole"))

    class Stop(Exception):
        pass

    def stop(step, metrics):
        if step == 4:
            raise Stop

    with pytest.raises(Stop):
        sft(config(tmp_path / "cut"), on_step=stop)
    cut = sft(config(tmp_path / "cut"))
    assert (cut / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    steps = [row["step"] for row in read_jsonl(tmp_path / "cut" / "metrics.jsonl")]
    assert steps == list(range(6))


def test_a_run_that_is_made_longer_says_that_its_step_size_changes_and_one_that_goes_on_says_nothing(tmp_path):
    run = config(tmp_path, num_steps=6)
    facts = {"step": 4, "num_steps": 6}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tell_of_another_cosine(run, facts)
        tell_of_another_cosine(run, {"step": 4})  # of before it was kept
    with pytest.warns(UserWarning, match=r"4 steps of num_steps=6: with 60 its step size goes on at 0.001 instead of"):
        tell_of_another_cosine(replace(run, num_steps=60), facts)
    assert facts["num_steps"] == 60


def test_a_step_whose_line_cannot_be_printed_is_kept_before_that_is_an_error(tmp_path):
    def broken(step, metrics):
        if step == 2:
            raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        sft(config(tmp_path, save_every=100), on_step=broken)
    begun = []
    sft(config(tmp_path, save_every=100), on_step=lambda step, metrics: begun.append(step))
    assert begun == [3, 4, 5]


def test_the_result_is_a_model_that_loads_and_can_be_trained_further(tmp_path):
    folder = sft(config(tmp_path / "a"))
    model, tokenizer = hub.load(folder)
    assert model.config.max_position_embeddings == 512
    assert isinstance(tokenizer, ByteTokenizer)
    sft(config(tmp_path / "b", model=str(tmp_path / "a"), num_steps=1))


def test_only_the_completion_is_trained_on_and_it_ends_with_the_end_mark():
    tokenizer = ByteTokenizer()
    example = to_example(tokenizer, user("What is 2+2?"), "2+2=4", "4")
    assert all(example.trained)
    assert example.token_ids[-1] == tokenizer.end_id
    assert example.token_ids.count(tokenizer.unthink_id) == 1
    assert tokenizer.decode(example.token_ids) == "2+2=44"


def test_an_example_is_a_function_of_seed_and_index(tmp_path):
    tokenizer = ByteTokenizer()
    run = config(tmp_path)
    one, two, other = (open_source(c, tokenizer) for c in (run, run, replace(run, seed=1)))
    assert [one(i) for i in (5, 3)] == [two(5), two(3)]
    assert one(3) != other(3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no examples"),
        ("{oops\n", ":1 is not JSON"),
        ('{"problem": "p", "reasoning": "r", "answer": "a"}\n[1]\n', ":2 is not an object"),
        ('{"problem": "p", "reasoning": "r"}\n', ":1 misses the text field 'answer'"),
        ('{"problem": "p", "reasoning": null, "answer": "a"}\n', ":1 misses the text field 'reasoning'"),
    ],
)
def test_broken_data_is_one_error_with_its_line(text, message, tmp_path):
    path = tmp_path / "d.jsonl"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_solutions(path)
    with pytest.raises(ConfigError, match="no data at"):
        sft(config(tmp_path / "run", data=str(tmp_path / "absent.jsonl")))
    assert not (tmp_path / "run").exists()


ROW = '{"problem": "p", "reasoning": "r", "answer": "4"}\n'


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"\xef\xbb\xbf" + ROW.encode(), "p"),
        (ROW.replace("\n", "\r\n").encode() + b"\r\n", "p"),
        (ROW.replace('"p"', '"a\u2028b"').encode(), "a\u2028b"),
        (ROW.replace('"4"', "4").encode(), "p"),
        (gzip.compress(ROW.encode(), mtime=0), "p"),
    ],
    ids=["byte order mark", "CRLF", "line separator", "number", "gzip"],
)
def test_files_are_read_as_those_of_tasks_are(content, problem, tmp_path):
    path = tmp_path / ("d.jsonl.gz" if content[:2] == b"\x1f\x8b" else "d.jsonl")
    path.write_bytes(content)
    assert read_solutions(path) == [{"problem": problem, "reasoning": "r", "answer": "4"}]


@pytest.mark.parametrize("answer", ["true", "null", "NaN", "1e999", "[4]"])
def test_an_answer_that_is_neither_text_nor_a_number_is_refused(answer, tmp_path):
    (tmp_path / "d.jsonl").write_text(ROW + ROW.replace('"4"', answer))
    with pytest.raises(ConfigError, match=r":2 misses the text field 'answer'"):
        read_solutions(tmp_path / "d.jsonl")


def test_text_of_another_encoding_is_refused_with_its_line_and_not_trained(tmp_path):
    foreign = '{"problem": "Le café", "reasoning": "r", "answer": "2 €"}'
    (tmp_path / "d.jsonl").write_bytes(ROW.encode() + foreign.encode("cp1252"))
    with pytest.raises(ConfigError, match=r"d\.jsonl:2 is not UTF-8"):
        sft(config(tmp_path / "run", data=str(tmp_path / "d.jsonl")))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (ROW.replace('"r"', f'"{"x" * 600}"'), r"longer than the model's window of 512 tokens: .*:3 \(60\d tokens\)"),
        (ROW.replace('"r"', '"\\ud800"'), r":3: the field 'reasoning' holds half a character"),
        ('{"problem": "p", "given": "g", "reasoning": ""}\n', r":3 has neither reasoning nor answer"),
        (ROW.replace('"p"', '" "'), r":3: the field 'problem' is empty"),
    ],
)
def test_a_row_that_cannot_be_trained_on_is_told_with_its_line_before_anything_is_trained(row, message, tmp_path):
    path = tmp_path / "d.jsonl"
    path.write_text(ROW * 2 + row + ROW)
    run = config(tmp_path / "run", data=str(path), num_steps=1)
    with pytest.raises(ConfigError, match=message):
        sft(run)
    assert not (tmp_path / "run" / "metrics.jsonl").exists()
    path.write_text(ROW * 3)
    sft(run)  # corrected: the same command goes on


def test_all_rows_beyond_the_window_are_counted(tmp_path):
    (tmp_path / "d.jsonl").write_text((ROW + ROW.replace('"r"', f'"{"x" * 600}"')) * 8)
    with pytest.raises(ConfigError, match=r":2 .*:4 .*:10 \(\d+ tokens\) and 3 more"):
        sft(config(tmp_path / "run", data=str(tmp_path / "d.jsonl")))


def test_a_demonstration_beyond_the_window_loses_no_step(tmp_path):
    small = replace(SMALL, window=100)
    run = config(tmp_path / "run", architecture=small, batch_size=1, num_steps=400, save_every=1000)
    with pytest.raises(ValueError, match="a demonstration has .* tokens"):
        sft(run)
    done = [row["step"] for row in read_jsonl(tmp_path / "run" / "metrics.jsonl")]
    assert done  # some fitted
    with pytest.raises(ValueError, match="a demonstration has .* tokens"):
        sft(run, on_step=lambda step, metrics: pytest.fail("a step was taken again"))


def test_a_run_does_not_go_on_with_another_file_and_goes_on_when_it_is_back(tmp_path):
    path = tmp_path / "d.jsonl"
    path.write_text(ROW * 4)
    run = config(tmp_path / "run", data=str(path), num_steps=2)
    sft(run)
    first = training_sources(tmp_path / "run" / "checkpoints" / "step_00002")
    path.write_text(ROW * 3 + ROW.replace('"r"', '"other"'))
    with pytest.raises(ValueError, match=r"d\.jsonl has changed since"):
        sft(replace(run, num_steps=4))
    path.write_text(ROW * 4)
    assert training_sources(sft(replace(run, num_steps=4))) == first


def test_a_run_does_not_go_on_from_another_model(tmp_path):
    base = sft(config(tmp_path / "a", num_steps=1))
    run = config(tmp_path / "b", model=str(base), num_steps=2)
    sft(run)
    (sft(config(tmp_path / "c", num_steps=2)) / "model.safetensors").replace(base / "model.safetensors")
    with pytest.raises(ValueError, match="the model .* has changed since"):
        sft(replace(run, num_steps=3))


def test_two_processes_cannot_train_one_run(tmp_path):
    run = config(tmp_path / "run")
    with Run(run.out, kind="sft", config_toml="", seed=0), pytest.raises(InUse, match="is being written by process"):
        sft(run)
