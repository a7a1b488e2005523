"""A bank in other projects' formats: their fields, its numbers, and nothing that must stay here."""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from ponder.cli import app
from ponder.config import ConfigError
from ponder.engine.base import ScriptedEngine
from ponder.evals.bank import Bank
from ponder.evals.exams import RESULT, run_exam, summarise
from ponder.evals.exports import EXPORTS, write_hub
from ponder.evals.exports.shared import public_name, shared
from ponder.evals.imports import read_log
from ponder.evals.imports.foreign import write_bank
from ponder.evals.results import ExamResult
from ponder.evals.stats import Estimate
from ponder.tasks import load_task
from ponder.tasks.base import TaskWrapper
from ponder.types import SamplingParams, Verdict

pytest.importorskip("pyarrow")
SECRET = "carry the one in secret"
SAID = [(SECRET, "1/2"), (SECRET, "2"), (SECRET, "0.5"), (SECRET, "3 apples")]
NUM_PROBLEMS, NUM_SAMPLES = 3, 4


class Half(TaskWrapper):
    """1/2 is right, 3 apples are undecided."""

    def verify(self, problem, answer):
        if "apples" in answer:
            return Verdict(outcome="undecided", reward=0.0, extracted=answer, note="apples are not compared")
        return self._task.verify(problem, answer)


class Gated(Half):
    is_gated = True

    def __init__(self, task):
        super().__init__(task)
        self.is_gated = True


def sit(folder: Path, kind=Half, name: str = "halves", said=SAID) -> Path:
    rows = [{"id": f"p/{i}", "problem": f"What is {i} half?", "answer": "1/2", "level": i} for i in range(NUM_PROBLEMS)]
    (folder / "p.jsonl").write_text("\n".join(map(json.dumps, rows)))
    task = kind(load_task(f"file:{folder}/p.jsonl", verifier="math"))
    asyncio.run(
        run_exam(
            task, ScriptedEngine(said), model="me/model", name=name, num_samples=NUM_SAMPLES,
            params=SamplingParams(temperature=0.7), out=folder / "bank", fingerprint="abc",
            command="ponder eval --api-key sk-123",
        )
    )  # fmt: skip
    return folder / "bank"


@pytest.fixture(scope="module")
def bank(tmp_path_factory) -> Path:
    return sit(tmp_path_factory.mktemp("open"))


@pytest.fixture(scope="module")
def gated(tmp_path_factory) -> Path:
    return sit(tmp_path_factory.mktemp("gated"), Gated)


def everything(paths: list[Path]) -> str:
    """All bytes of files as text, zips opened."""
    texts = []
    for path in paths:
        if path.suffix == ".eval":
            with zipfile.ZipFile(path) as log:
                texts += [name + log.read(name).decode() for name in log.namelist()]
        else:
            texts.append(path.read_text())
    return "\n".join(texts)


def write(form: str, source: Path, out: Path, **kwargs) -> list[Path]:
    target = out / "x.eval" if form == "inspect" else out
    extra = {"dataset": "me/set:task"} if form == "hub" else {}
    return EXPORTS[form](shared(source, **kwargs), target, **extra)


def test_an_inspect_log_has_every_sample_as_an_epoch_and_the_banks_numbers(bank, tmp_path):
    (path,) = write("inspect", bank, tmp_path)
    found = summarise(Bank.read(bank))
    with zipfile.ZipFile(path) as log:
        header, summaries = (json.loads(log.read(name)) for name in ("header.json", "summaries.json"))
        samples = [json.loads(log.read(name)) for name in log.namelist() if name.startswith("samples/")]
    assert header["version"] == 2 and header["status"] == "success" and header["eval"]["model"] == "me/model"
    assert {(s["id"], s["epoch"]) for s in samples} == {(f"p/{i}", j) for i in range(3) for j in range(1, 5)}
    assert len(summaries) == 12 == header["results"]["total_samples"]
    values = [s["scores"]["verdict"]["value"] for s in samples if s["id"] == "p/1"]
    assert values[:3] == ["C", "I", "C"] and math.isnan(values[3])  # undecided is not zero
    scores = {score["metadata"]["ponder"]: score for score in header["results"]["scores"]}
    for k, estimate in found.metrics.pass_at.items():
        metrics = scores[f"pass@{k}"]["metrics"]
        assert [metrics[n]["value"] for n in ("accuracy", "low_95", "high_95")] == [
            estimate.value, estimate.low, estimate.high,
        ]  # fmt: skip
    assert scores["cons@4"]["metrics"]["accuracy"]["value"] == found.metrics.cons_at[4].value
    assert scores["pass@1"]["unscored_samples"] == 3
    tokens = sum(sample["output"]["usage"]["output_tokens"] for sample in samples)
    assert header["stats"]["model_usage"]["me/model"]["output_tokens"] == tokens == found.tokens.completion > 0
    assert header["eval"]["model_generate_config"]["temperature"] == 0.7


def test_eee_records_are_named_as_their_store_asks_and_add_up(bank, tmp_path):
    aggregate, samples = write("eee", bank, tmp_path)
    whole, text = json.loads(aggregate.read_text()), samples.read_text()
    rows = [json.loads(line) for line in text.splitlines()]
    assert aggregate.relative_to(tmp_path).parts[:4] == ("data", "halves", "me", "model")
    detail = whole["detailed_evaluation_results"]
    assert detail["file_path"] == samples.relative_to(tmp_path).as_posix() and detail["total_rows"] == len(rows) == 12
    assert detail["checksum"] == hashlib.sha256(text.encode()).hexdigest()
    assert {row["evaluation_id"] for row in rows} == {whole["evaluation_id"]} and whole["schema_version"] == "0.3.0"
    found = summarise(Bank.read(bank)).metrics
    scores = {r["evaluation_result_id"]: r["score_details"] for r in whole["evaluation_results"]}
    assert set(scores) == {"pass_at_1", "pass_at_2", "pass_at_4", "cons_at_2", "cons_at_4"}
    assert scores["pass_at_1"]["score"] == found.pass_at[1].value == pytest.approx(
        sum(row["evaluation"]["score"] for row in rows) / 12
    )  # fmt: skip
    between = scores["cons_at_4"]["uncertainty"]["confidence_interval"]
    assert (between["lower"], between["upper"]) == (found.cons_at[4].low, found.cons_at[4].high)
    assert {row["metadata"]["outcome"] for row in rows} == {"correct", "wrong", "undecided"}


def test_lm_eval_files_have_all_responses_of_a_problem_in_a_line(bank, tmp_path):
    results, samples = write("lm-eval", bank, tmp_path)
    whole, lines = json.loads(results.read_text()), [json.loads(line) for line in samples.read_text().splitlines()]
    found = summarise(Bank.read(bank)).metrics
    scores = whole["results"]["halves"]
    assert scores["pass@1,none"] == found.pass_at[1].value and scores["cons@4,none"] == found.cons_at[4].value
    assert [len(line["resps"][0]) for line in lines] == [4, 4, 4] and lines[0]["target"] == "1/2"
    for metric in lines[0]["metrics"]:
        assert sum(line[metric] for line in lines) / 3 == pytest.approx(scores[f"{metric},none"])
    assert samples.name == f"samples_halves_{results.stem.removeprefix('results_')}.jsonl"


def test_the_hubs_file_says_on_how_many_samples_the_verifier_failed(tmp_path):
    class Crashing(Half):
        def verify(self, problem, answer):
            if "apples" in answer:
                raise RecursionError("too deep")
            return super().verify(problem, answer)

    (path,) = write("hub", sit(tmp_path, Crashing), tmp_path / "out")
    (entry,) = yaml.safe_load(path.read_text())
    assert "the verifier failed on 25.0 % of the samples, counted as not correct" in entry["notes"]


def test_the_hubs_file_has_percent_an_interval_and_no_number_that_chose_something(bank, tmp_path):
    (path,) = write("hub", bank, tmp_path)
    assert path == tmp_path / ".eval_results" / "halves.yaml"
    (entry,) = yaml.safe_load(path.read_text())
    one = summarise(Bank.read(bank)).metrics.pass_at[1]
    assert entry["dataset"] == {"id": "me/set", "task_id": "task"} and entry["value"] == round(100 * one.value, 2) == 50
    assert f"{100 * one.low:.1f} to {100 * one.high:.1f}" in entry["notes"]
    assert "25.0 % of the samples undecided" in entry["notes"]
    source = shared(bank)
    with pytest.raises(ConfigError, match="--dataset OWNER/NAME:TASK"):
        write_hub(source, tmp_path)
    source.bank.spec = replace(source.bank.spec, task="gsm8k, dev part")
    with pytest.raises(ConfigError, match="--part report"):
        write_hub(source, tmp_path)
    source.bank.spec = replace(source.bank.spec, task="gsm8k:size=3", split="train")
    with pytest.raises(ConfigError, match="drawn from problems to train on"):
        write_hub(source, tmp_path)
    source.bank.spec = replace(source.bank.spec, split="test")
    (path,) = write_hub(source, tmp_path)
    (entry,) = yaml.safe_load(path.read_text())
    assert "as the task gsm8k:size=3" in entry["notes"]


@pytest.mark.parametrize("form", EXPORTS)
def test_reasoning_is_shown_only_where_it_is_asked_for_and_commands_never(form, bank, tmp_path):
    closed = everything(write(form, bank, tmp_path / "a"))
    assert SECRET not in closed and "sk-123" not in closed and str(bank.parent) not in closed
    opened = everything(write(form, bank, tmp_path / "b", with_reasoning=True))
    assert opened.count(SECRET) >= 12 or form == "hub"
    assert "sk-123" not in opened


@pytest.mark.parametrize("form", EXPORTS)
def test_a_gated_benchmark_stays_without_texts_and_its_votes_can_still_be_counted(form, gated, tmp_path):
    paths = write(form, gated, tmp_path / "x", with_reasoning=True)
    text = everything(paths)
    assert not [word for word in ("half", "1/2", "apples", SECRET) if word in text]
    if form in ("inspect", "lm-eval"):
        back = write_bank(read_log(paths[-1]), tmp_path / "bank").result
        assert back.metrics == summarise(Bank.read(gated)).metrics


@pytest.mark.parametrize("form", EXPORTS)
def test_the_same_bank_gives_the_same_bytes(form, bank, tmp_path):
    first, second = (write(form, bank, tmp_path / name) for name in "ab")
    assert [p.name for p in first] == [p.name for p in second]
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]


@pytest.mark.parametrize("form", ["inspect", "lm-eval"])
def test_a_bank_that_was_exported_and_imported_has_the_same_numbers_and_samples(form, bank, tmp_path):
    bank = Path(shutil.copytree(bank, tmp_path / "asked"))
    facts = json.loads((bank / "bank.json").read_text()) | {"seed": 7, "prompting": "direct"}
    (bank / "bank.json").write_text(json.dumps(facts))
    path = write(form, bank, tmp_path, with_reasoning=True)[-1]
    back = write_bank(read_log(path), tmp_path / "bank")
    old, new = Bank.read(bank), Bank.read(tmp_path / "bank")
    assert back.result.metrics == summarise(old).metrics and back.result.tokens == summarise(old).tokens
    assert new.spec.task == "halves" and new.spec.params.temperature == 0.7
    assert new.spec.params.max_reasoning_tokens == old.spec.params.max_reasoning_tokens
    assert (new.spec.seed, new.spec.prompting) == (old.spec.seed, old.spec.prompting) == (7, "direct")

    def kept(bank: Bank) -> list[tuple[object, ...]]:
        rows = [row for problem in bank.problems for row in bank.rows(problem.id)]
        return sorted((r.problem, r.sample, r.outcome, r.answer_class, r.answer, r.reasoning, r.note) for r in rows)

    assert kept(new) == kept(old)
    assert "token ids" in back.missing and not [m for m in back.missing if m.startswith("tokens")]
    assert [(p.target, p.level) for p in new.problems] == [("1/2", 0), ("1/2", 1), ("1/2", 2)]


def test_names_are_public_without_folders_of_this_machine(tmp_path):
    assert public_name("me/model") == "me/model" and public_name("nano") == "nano"
    assert public_name("/home/me/runs/demo@20") == "demo@20" and public_name("runs/a/b") == "b"
    folder = sit(tmp_path, name=f"file:{tmp_path}/p.jsonl,verifier=math")
    assert shared(folder).task == "file:p.jsonl,verifier=math"
    assert shared(folder).slug == "file_p.jsonl_verifier_math"


def test_an_empty_bank_and_another_name_of_file_are_errors_that_say_so(bank, tmp_path):
    empty = tmp_path / "empty"
    with Bank.open(empty, Bank.read(bank).spec):
        pass
    with pytest.raises(ConfigError, match="no samples"):
        shared(empty)
    with pytest.raises(ConfigError, match=r"end in \.eval"):
        EXPORTS["inspect"](shared(bank), tmp_path / "x.zip")


def typed(*words: object) -> tuple[int, str, str]:
    """A verb in this process: exit code, what it printed, and the error it would show."""
    done = CliRunner().invoke(app, list(map(str, words)))
    return done.exit_code, done.output, str(done.exception or "")


def test_the_verbs_write_a_log_and_read_it_and_say_what_is_meant_where_words_are_wrong(bank, tmp_path):
    code, said, _ = typed("export", bank, tmp_path / "x.eval")
    assert code == 0 and str(tmp_path / "x.eval") in said
    code, said, _ = typed("import", tmp_path / "x.eval", "--out", tmp_path / "back", "--json")
    assert code == 0 and json.loads(said)["num_samples"] == 12 and "reasoning" in json.loads(said)["missing"]
    code, said, _ = typed("export", bank, tmp_path / "out", "--format", "eee", "--model-id", "you/theirs")
    assert code == 0 and "data/halves/you/theirs/" in said and "not known" not in said
    for words, error in (
        ((bank, tmp_path / "out"), "say what to write: --format inspect, eee, lm-eval or hub"),
        ((bank, tmp_path / "out", "--format", "lmeval"), "did you mean 'lm-eval'"),
        ((bank, tmp_path / "out", "--format", "eee", "--model-id", "x"), "not OWNER/NAME"),
        ((bank, tmp_path / "out", "--format", "eee", "--dataset", "a/b:c"), "--dataset is for --format hub"),
        ((tmp_path, tmp_path / "out", "--format", "eee"), "no sample bank"),
        ((bank, tmp_path / "y.eval", "--rank", "8"), "--rank is of an adapter, and this writes what is of a bank"),
        (("nano", tmp_path / "m.gguf", "--rank", "8"), "--rank is of an adapter, and this writes what is of a model"),
        (("nano", tmp_path / "m", "--type", "Q8_0"), "--type is of a model, and this writes what is of an adapter"),
        (("nano", tmp_path / "m.gguf", "--with-reasoning"), "--with-reasoning is of a bank or a server"),
        (("http://h", tmp_path / "r.jsonl", "--format", "hub"), "--format is of a bank"),
    ):
        code, _, exception = typed("export", *words)
        assert code != 0 and error in exception, exception


@pytest.mark.parametrize("form", ["inspect", "lm-eval"])
def test_an_exam_that_was_not_finished_is_none_in_another_program_either(form, tmp_path):
    bank = sit(tmp_path)
    path = bank / RESULT
    for complete in (True, False):
        replace(ExamResult.read(path), complete=complete).write(path)
        files = write(form, bank, tmp_path / f"{complete}")
        assert read_log(files[-1]).complete is complete


def test_the_hubs_file_rounds_as_every_table_does(bank, tmp_path):
    source = shared(bank)
    one = Estimate(0.1225, 0.0625, 0.1885)  # 12.25 is rounded to 12.2 by an f-string, and to 12.3 by in_percent
    metrics = replace(source.summary.metrics, pass_at={1: one}, cons_at={1: one})
    summary = replace(source.summary, metrics=metrics)
    (path,) = write_hub(replace(source, summary=summary), tmp_path, dataset="me/set:task")
    assert "95 % interval 6.3 to 18.9" in yaml.safe_load(path.read_text())[0]["notes"]
