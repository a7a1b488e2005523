"""Other projects' logs become banks: verdicts are the log's, what it lacks is said, damage is one clear error."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ponder.config import ConfigError
from ponder.evals.accuracy_at_compute import accuracy_at_compute
from ponder.evals.bank import Bank
from ponder.evals.comparison import comparison
from ponder.evals.imports import read_log
from ponder.evals.imports.foreign import write_bank
from ponder.evals.imports.scores import outcome_of
from ponder.evals.regrading import regrade
from ponder.evals.report import report
from ponder.evals.results import ExamResult
from ponder.files import InUse

pyarrow = pytest.importorskip("pyarrow")
DATE = "2026-01-02T03-04-05.6"


def inspect_sample(id: str, epoch: int, value: object, answer: object = "4", **more: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": f"It is {answer}."}
    return {
        "id": id, "epoch": epoch, "input": f"What is {id}?", "target": "4",
        "output": {"choices": [{"message": message, "stop_reason": "stop"}], "completion": f"It is {answer}.",
                   "usage": {"input_tokens": 7, "output_tokens": 5, "total_tokens": 12}},
        "scores": {"match": {"value": value, "answer": answer}}, **more,
    }  # fmt: skip


def inspect_log(path: Path, samples: list[dict[str, Any]], **more: Any) -> Path:
    header = {
        "version": 2, "status": "success",
        "eval": {"task": "sums", "model": "openai/x", "model_generate_config": {"temperature": 0.5},
                 "packages": {"inspect_ai": "0.3.285"}, **more},
    }  # fmt: skip
    if path.suffix == ".json":
        path.write_text(json.dumps({**header, "samples": samples}))
        return path
    with zipfile.ZipFile(path, "w") as log:
        log.writestr("header.json", json.dumps(header))
        for sample in samples:
            log.writestr(f"samples/{sample['id']}_epoch_{sample['epoch']}.json", json.dumps(sample))
    return path


def zstandard(path: Path) -> None:
    """The zip of one file as Inspect compresses it: method 93, in two frames, which Python 3.11 cannot write itself."""
    with zipfile.ZipFile(path) as log:
        files = {name: log.read(name) for name in log.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as log:
        for name, plain in files.items():
            half = len(plain) // 2
            frames = (pyarrow.compress(part, "zstd", asbytes=True) for part in (plain[:half], plain[half:]))
            log.writestr(name, b"".join(frames))
        for entry in log.filelist:  # the central directory, which is written on closing, is what a reader believes
            entry.compress_type, entry.file_size = 93, len(files[entry.filename])
            entry.CRC = zlib.crc32(files[entry.filename])


FOUR = [("a", 1, "C"), ("a", 2, "I"), ("b", 1, "C"), ("b", 2, "C")]


@pytest.mark.parametrize("name", ["x.json", "x.eval"])
def test_an_inspect_log_gives_pass_and_votes_a_report_and_a_comparison(name, tmp_path):
    samples = [inspect_sample(*each, answer="4" if each[2] == "C" else "5") for each in FOUR]
    found = write_bank(read_log(inspect_log(tmp_path / name, samples)), tmp_path / "bank")
    assert found.num_samples == 4 and found.result.metrics.pass_at[1].value == 0.75
    assert found.result.metrics.pass_at[2].value == 1 and found.result.metrics.cons_at[2].value == 0.75
    bank = Bank.read(tmp_path / "bank")
    assert bank.spec.model == "openai/x" and bank.spec.params.temperature == 0.5
    assert bank.spec.grader == "inspect_ai 0.3.285" and bank.samples("a").tokens.tolist() == [5, 5]
    assert {"token ids", "log-probabilities", "top_p (the bank says 1.0)"} <= set(found.missing)
    assert "tokens of reasoning (0 in the bank)" in found.missing
    assert "log-probabilities" in ExamResult.read(tmp_path / "bank" / "result.json").data[0]["missing"]
    if name == "x.eval":
        assert "log-probabilities" in report(tmp_path / "bank").read_text()
    assert comparison([tmp_path / "bank", tmp_path / "bank"]).rows[1].gain.pass_at[1].value == 0


def test_zstandard_frames_are_read_and_a_flipped_byte_is_found(tmp_path):
    path = inspect_log(tmp_path / "x.eval", [inspect_sample(*each) for each in FOUR])
    zstandard(path)
    assert [len(samples) for _, samples in read_log(path).samples] == [2, 2]
    with zipfile.ZipFile(path) as log:
        at = log.infolist()[0].header_offset + 60
    raw = bytearray(path.read_bytes())
    raw[at] ^= 255
    path.write_bytes(raw)
    with pytest.raises(ConfigError, match=r"header\.json is damaged"):
        read_log(path)


def test_attachments_reasoning_and_errors_of_a_log_are_read(tmp_path):
    thought = inspect_sample("a", 1, "C", input="attachment://1", attachments={"1": "A long question"})
    thought["output"]["choices"][0]["message"]["content"] = [
        {"type": "reasoning", "reasoning": "hm"}, {"type": "text", "text": "4"},
    ]  # fmt: skip
    log = read_log(inspect_log(tmp_path / "x.eval", [thought, inspect_sample("b", 1, "C", error={"message": "time"})]))
    ((problem, (sample,)),) = log.samples
    assert (problem.text, sample.reasoning, sample.answer) == ("A long question", "hm", "4")
    assert list(log.notes) == ["1 samples that ended in an error, left out"]


def test_a_small_log_that_unpacks_to_very_much_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("ponder.files.SMALL_ENOUGH", 10)
    monkeypatch.setattr("ponder.files.MOST_TIMES", 10)
    long = "x" * 20_000
    path = inspect_log(tmp_path / "x.eval", [inspect_sample(f"p{i}", 1, "C", input=long) for i in range(9)])
    with zipfile.ZipFile(path) as log, zipfile.ZipFile(tmp_path / "y.eval", "w", zipfile.ZIP_DEFLATED) as packed:
        for name in log.namelist():
            packed.writestr(name, log.read(name))
    assert len(read_log(path).samples) == 9
    with pytest.raises(ConfigError, match=r"y\.eval would unpack to more than"):
        read_log(tmp_path / "y.eval")
    parts = [{"type": "text", "text": "attachment://a"}] * 300
    sample = inspect_sample("a", 1, "C", attachments={"a": long})
    sample["output"]["choices"][0]["message"]["content"] = parts
    with pytest.raises(ConfigError, match=r"x\.json .*names its attachments so often"):
        read_log(inspect_log(tmp_path / "x.json", [sample]))


def test_scores_that_are_no_verdict_are_undecided_and_shares_are_wrong_and_both_are_told():
    seen: Counter[str] = Counter()
    values = ["C", "I", "N", 1, 0, True, False, "yes", "0.0", 1.0]
    assert [outcome_of(v, seen)[0] for v in values] == list("cwwcwcwcwc") and not +seen
    odd = ("P", 0.5, float("nan"), 7, None, {"a": 1}, "nonsense", -1)
    assert [outcome_of(value, seen)[0] for value in odd] == list("wwuuuuuu")
    assert sorted(seen.values()) == [2, 6]


def test_a_log_with_several_scores_asks_which(tmp_path):
    two = inspect_sample("a", 1, "C", scores={"match": {"value": "C"}, "judge": {"value": "I"}})
    path = inspect_log(tmp_path / "x.eval", [two])
    with pytest.raises(ConfigError, match="--score match or judge"):
        read_log(path)
    with pytest.raises(ConfigError, match="no score 'x'; it has match, judge"):
        read_log(path, score="x")
    assert read_log(path, score="judge").samples[0][1][0].outcome == "wrong"


@pytest.mark.parametrize("scale", [(1, 5), ("1", "5.0"), (1, 100), (1, -1)])
def test_a_number_is_a_verdict_only_on_the_scale_of_the_whole_log(scale, tmp_path):
    low, high = scale
    most = max(map(float, scale))
    paths = [
        inspect_log(tmp_path / "x.eval", [inspect_sample("a", 1, low), inspect_sample("b", 1, high)]),
        lm_eval_folder(tmp_path / "m", [line(i, [["4"]], ["4"], value) for i, value in enumerate(scale)]),
    ]
    for path, name in zip(paths, ("match", "exact_match,strict"), strict=True):
        with pytest.raises(ConfigError, match=f"1 need not be a right answer.*--score NAME={most:g}"):
            read_log(path)
        log = read_log(path, score=f"{name}={most:g}")
        found = [samples[0].outcome for _, samples in log.samples]
        assert found == (["correct", "undecided"] if most == 1 else ["wrong", "correct"])


def line(doc: int, resps: list[Any], filtered: list[Any], score: float, **more: Any) -> dict[str, Any]:
    arguments = {"gen_args_0": {"arg_0": f"Q{doc}: 2+2?", "arg_1": {"do_sample": False, "max_gen_toks": 64}}}
    return {
        "doc_id": doc, "doc": {"question": "2+2?"}, "target": "So it is\n#### 4", "arguments": arguments,
        "resps": resps, "filtered_resps": filtered, "filter": "strict", "metrics": ["exact_match"],
        "exact_match": score, **more,
    }  # fmt: skip


def lm_eval_folder(folder: Path, lines: list[dict[str, Any]], task: str = "gsm8k") -> Path:
    folder.mkdir(exist_ok=True)
    results = {"results": {task: {}}, "configs": {task: {"test_split": "test"}}, "model_name": "me/m",
               "lm_eval_version": "0.4.13"}  # fmt: skip
    (folder / f"results_{DATE}.json").write_text(json.dumps(results))
    (folder / f"samples_{task}_{DATE}.jsonl").write_text("".join(json.dumps(each) + "\n" for each in lines))
    return folder


def test_lm_eval_samples_have_the_score_of_the_filter_that_was_chosen(tmp_path):
    lines = [line(i, [["It is 4."]], ["4"], float(i)) for i in range(2)]
    lines += [line(i, [["It is 4."]], ["4"], 1.0, filter="flexible") for i in range(2)]
    folder = lm_eval_folder(tmp_path / "m", lines)
    for path in (folder, folder / f"results_{DATE}.json", folder / f"samples_gsm8k_{DATE}.jsonl", tmp_path):
        log = read_log(path)
        assert [samples[0].outcome for _, samples in log.samples] == ["wrong", "correct"]
    assert (log.model, log.split, log.grader, log.params.temperature) == ("me/m", "test", "lm_eval 0.4.13", 0)
    assert log.params.max_tokens == 64 and list(log.notes) == ["the score is exact_match of the filter strict"]
    flexible = read_log(folder, score="exact_match,flexible")
    assert [samples[0].outcome for _, samples in flexible.samples] == ["correct", "correct"]
    assert "tokens (0 in the bank)" in write_bank(flexible, tmp_path / "bank").missing
    with pytest.raises(ValueError, match="how many tokens the samples took is not known"):
        bank = Bank.read(tmp_path / "bank")
        accuracy_at_compute([bank.samples(problem.id) for problem in bank.problems], {})
    with pytest.raises(ConfigError, match="no score 'acc'; it has exact_match,strict"):
        read_log(folder, score="acc")


def test_responses_that_share_a_score_come_in_undecided_and_a_regrade_decides_them(tmp_path):
    folder = lm_eval_folder(tmp_path / "m", [line(0, [["It is 4.", "It is 5.", "4"]], ["It is 4."], 1.0)])
    found = write_bank(read_log(folder), tmp_path / "bank")
    assert found.result.undecided_rate == 1 and any("regrade" in note for note in found.notes)
    assert not any("one seed" in note for note in found.notes)
    again = asyncio.run(regrade(Bank.read(tmp_path / "bank"), "math", out=tmp_path / "new"))
    assert again.moves == {"undecided -> correct": 2, "undecided -> wrong": 1}
    assert ExamResult.read(tmp_path / "new" / "result.json").metrics.cons_at[3].value == 1


def test_a_conversation_behind_an_api_is_read_and_copies_of_one_response_are_told(tmp_path):
    chat = json.dumps([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2+2?"}])
    row = line(0, [["4", "4"]], ["4"], 1.0, arguments={"gen_args_0": {"arg_0": [chat], "arg_1": {}}})
    log = read_log(lm_eval_folder(tmp_path / "m", [row]))
    assert [(m.role, m.content) for m in log.samples[0][0].prompt] == [("system", "Be brief."), ("user", "2+2?")]
    assert any("one seed" in note for note in log.notes)


def test_choices_that_were_ranked_by_probability_are_letters(tmp_path):
    arguments = {f"gen_args_{i}": {"arg_0": "Sky?", "arg_1": f" {c}"} for i, c in enumerate(["red", "blue"])}
    row = line(0, [[["-3.5", "False"]], [["-0.5", "True"]]], [["-3.5", "False"], ["-0.5", "True"]], 1.0,
               arguments=arguments, target="1")  # fmt: skip
    ((problem, (sample,)),) = read_log(lm_eval_folder(tmp_path / "m", [row])).samples
    assert (problem.choices, problem.target, sample.answer, sample.outcome) == (("red", "blue"), "B", "B", "correct")


def test_a_folder_of_two_tasks_asks_which(tmp_path):
    for task in ("a", "b"):
        lm_eval_folder(tmp_path / "m", [line(0, [["4"]], ["4"], 1.0)], task)
    with pytest.raises(ConfigError, match="samples of a, b; choose one: --task NAME"):
        read_log(tmp_path / "m")
    assert read_log(tmp_path / "m", task="b").task == "b"


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("x.eval", b"no zip", "cannot be read"),
        ("x.json", b"{", "no log of Inspect"),
        ("x.json", b'{"a": 1}', "neither a log"),
        ("x.json", b'{"eval": {}, "samples": [{"id": 1}]}', "no log of Inspect"),
        ("x.json", b'{"eval": {"task": "t", "model": "m"}, "samples": []}', "no samples"),
        ("samples_t_x.jsonl", b"{\n", "line 1: not JSON"),
        ("samples_t_x.jsonl", b'{"metrics": ["m"]}\n', "no samples of lm-eval"),
        ("samples_t_x.jsonl", b"[1]\n", "no samples of lm-eval"),
        ("samples_t_x.jsonl", b"", "is empty"),
        ("x.txt", b"", "no log that is known"),
        ("samples_t_x.jsonl", b"\xff\xfe", "line 1: not JSON"),
    ],
)
def test_what_is_no_log_is_one_error_and_leaves_no_bank(name, content, says, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=says):
        write_bank(read_log(tmp_path / name), tmp_path / "bank")
    assert not (tmp_path / "bank").exists()


HOSTILE = (None, True, -1, 1.5, float("nan"), float("inf"), 10**30, "\ud800", "²", [], [1], {"a": 1})


def with_each(value: Any, whole: Any = None, path: tuple = ()) -> Iterator[Any]:
    """The value with every part of it, at any depth, replaced by something that no log has there."""
    whole = value if whole is None else whole
    for key in value if isinstance(value, dict) else range(len(value)):
        for strange in HOSTILE:
            changed = json.loads(json.dumps(whole))
            place = changed
            for part in path:
                place = place[part]
            place[key] = strange
            yield changed
        if isinstance(value[key], dict | list):
            yield from with_each(value[key], whole, (*path, key))


def kinds_of_logs(tmp_path: Path) -> Iterator[Path]:
    """Logs with one strange thing in each; one sample in several, as there are many."""
    sample = inspect_sample("a", 1, "C", choices=["x", "y"])
    sample["scores"]["match"]["metadata"] = {"outcome": "correct", "class": "4", "was_cut": False, "seed": 5}
    log = json.loads(inspect_log(tmp_path / "x.json", [sample], metadata={"grader": "g"}).read_bytes())
    for changed in with_each(log):
        (tmp_path / "x.json").write_text(json.dumps(changed))
        yield tmp_path / "x.json"
    known = {"outcome": "correct", "class": "4", "extracted": "4", "finish_reason": "stop", "was_cut": False,
             "prompt_tokens": 1, "reasoning_tokens": 1, "tokens": 2, "mean_logprob": -1.0, "note": None,
             "error": None, "seed": 1}  # fmt: skip
    path = tmp_path / "samples_t_x.jsonl"
    row = line(1, [["a"]], [["a"]], 1.0) | {"doc": {"id": "q", "samples": [known]}}
    for changed in with_each(row):
        path.write_text(json.dumps(changed) + "\n")
        yield path


def test_whatever_is_strange_in_a_log_is_taken_or_one_error_that_names_it_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("os.fsync", lambda file: None)
    num_refused = 0
    for number, path in enumerate(kinds_of_logs(tmp_path)):
        if number % 7 == 0:  # enough of them, and other ones of every place
            try:
                write_bank(read_log(path), tmp_path / "bank")
            except ConfigError as error:
                num_refused += 1
                assert str(path) in str(error)
            shutil.rmtree(tmp_path / "bank", ignore_errors=True)
            assert {each.name for each in tmp_path.iterdir()} <= {"x.json", path.name, ".bank.lock"}
    assert num_refused > 20


def test_a_text_with_ends_of_lines_that_only_unicode_knows_is_one_line_of_a_log(tmp_path):
    path = tmp_path / f"samples_t_{DATE}.jsonl"
    path.write_text(json.dumps(line(0, [["a\u2028b\x85c"]], ["c"], 1.0), ensure_ascii=False) + "\n", encoding="utf-8")
    ((_, (sample,)),) = read_log(path).samples
    assert sample.answer == "a\u2028b\x85c"


@pytest.mark.parametrize("kind", [zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_a_damaged_or_encrypted_zip_is_one_clear_error(tmp_path, kind):
    header = json.loads(inspect_log(tmp_path / "x.json", []).read_bytes()) | {"filler": list(range(300))}
    path = tmp_path / "x.eval"
    with zipfile.ZipFile(path, "w", kind) as log:
        log.writestr("header.json", json.dumps(header))
    whole = path.read_bytes()
    found: list[str] = []
    for at in range(45, 145, 4):
        data = bytearray(whole)
        data[at] ^= 16
        path.write_bytes(data)
        with contextlib.suppress(ConfigError):  # a few bits of a zip say nothing that matters
            found.append(read_log(path).task)
    assert len(found) < 10
    data = bytearray(whole)
    for at in (6, data.rindex(b"PK\x01\x02") + 8):
        data[at] |= 1
    path.write_bytes(data)
    with pytest.raises(ConfigError, match="encrypted"):
        read_log(path)


def test_a_folder_that_is_there_is_not_overwritten(tmp_path):
    (tmp_path / "bank").mkdir()
    with pytest.raises(ConfigError, match="is there already"):
        write_bank(read_log(inspect_log(tmp_path / "x.eval", [inspect_sample("a", 1, "C")])), tmp_path / "bank")


def test_of_two_imports_into_one_folder_one_is_told_who_writes_there(tmp_path, monkeypatch):
    log = read_log(inspect_log(tmp_path / "x.eval", [inspect_sample("a", 1, "C")]))
    refused, append = [], Bank.append

    def meanwhile(bank, *arguments, **options):
        with pytest.raises(InUse, match=r"bank is being written by process \d+ on ") as told:
            write_bank(log, tmp_path / "bank")
        refused.append(told)
        return append(bank, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Bank, "append", meanwhile)
        assert write_bank(log, tmp_path / "bank").num_samples == 1
    assert len(refused) == 1 and len(Bank.read(tmp_path / "bank").problems) == 1
    write_bank(log, tmp_path / "next")  # the lock goes with its holder


def test_a_log_with_the_same_problem_asked_in_two_ways_is_refused(tmp_path):
    path = inspect_log(tmp_path / "x.eval", [inspect_sample("a", 1, "C"), inspect_sample("a", 2, "C", input="Other?")])
    with pytest.raises(ConfigError, match="two problems under the id 'a'"):
        read_log(path)


def test_a_message_by_nobody_that_is_known_is_named(tmp_path):
    sample = inspect_sample("a", 1, "C", input=[{"role": "narrator", "content": "Once"}])
    with pytest.raises(ConfigError, match="by 'narrator'"):
        read_log(inspect_log(tmp_path / "x.eval", [sample]))
