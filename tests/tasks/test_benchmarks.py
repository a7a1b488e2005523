"""Benchmarks come from a local folder or a hub, train only where they may, and say what is missing."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from fake_benchmarks import fakes, gated_rows, write_local  # noqa: F401 - a fixture

from ponder.config import ConfigError
from ponder.grading.verifiers import VERIFIERS
from ponder.tasks import BENCHMARKS, datahub, load_task, published
from tests.hub_double import HubReplies, served, use_hub

LABELLED = {"choices": {"text": ["tea", "rain"], "label": ["1", "2"]}, "answerKey": "2"}
# one made-up row in the columns of each hub data set -> (id, target, what else the problem must be)
HUB_ROWS: dict[str, tuple[str, dict[str, Any], str, str, dict[str, Any]]] = {
    "gsm8k": ("test", {"question": "How many?", "answer": "6*2=<<6*2=12>>12\n#### 1,012"}, "gsm8k-test-0000", "1012",
              {}),
    "math": ("train", {"problem": "p", "solution": r"so \boxed{\frac12}", "level": "Level 3", "type": "Algebra"},
             "math-train-algebra-0", r"\frac12", {"level": 3, "subject": "Algebra"}),
    "math500": ("test", {"problem": "p", "solution": "s", "answer": "x", "subject": "Algebra", "level": 2,
                         "unique_id": "test/algebra/1.json"}, "math500-test/algebra/1.json", "x", {"level": 2}),
    "amc": ("test", {"id": 3, "problem": "p", "answer": 27.0, "url": "wiki/2023_AMC_12A_Problems/Problem_1"}, "amc-3",
            "27", {"subject": "2023"}),
    "svamp": ("test", {"ID": "chal-1", "Body": "A has 3 ", "Question": "How many?", "Answer": "51.0", "Type": "Sum"},
              "svamp-chal-1", "51", {"text": "A has 3 How many?", "subject": "Sum"}),
    "asdiv": ("test", {"body": "b", "question": "q", "answer": "9 (apples)", "solution_type": "Sum"}, "asdiv-0", "9",
              {}),
    "multiarith": ("test", {"question": " q", "final_ans": "39"}, "multiarith-train-0", "39", {}),
    "olympiadbench": ("test", {"id": 7, "question": "q", "final_answer": ["$1$", "$3$"], "subfield": "Algebra"},
                      "olympiadbench-7", "1,3", {"subject": "Algebra"}),
    "minerva": ("test", {"question": "q", "answer": "4.5e33"}, "minerva-0", "4.5e33", {}),
    "mmlu_stem": ("test", {"question": "q", "choices": ["tea", "rain"], "answer": 1, "subject": "astronomy"},
                  "mmlu-abstract_algebra-0", "B", {"text": "q\nA. tea\nB. rain", "choices": ("tea", "rain")}),
    "arc_challenge": ("test", {"id": "M_1", "question": "q", **LABELLED}, "arc-M_1", "B",
                      {"text": "q\nA. tea\nB. rain"}),
    "commonsenseqa": ("test", {"id": "x", "question": "q", "question_concept": "c", **LABELLED}, "csqa-x", "B",
                      {"subject": None}),
    "aqua": ("train", {"question": "q", "options": ["A)21", "B) 22"], "rationale": "r", "correct": "B"}, "aqua-train-0",
             "B", {"text": "q\nA. 21\nB. 22"}),
}  # fmt: skip


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No data and no network unless a test makes some."""

    def none(repo: str, config: str, split: str, keep: bool = True) -> Any:
        raise ConfigError("the hub cannot be reached")

    monkeypatch.delenv("PONDER_DATA", raising=False)
    monkeypatch.setattr(published, "hub_rows", none)


def write(folder: Path, *rows: dict[str, Any]) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row) + "\n" for row in rows).encode()
    folder.write_bytes(gzip.compress(text) if folder.suffix == ".gz" else text)


def item(i: int, **more: Any) -> dict[str, Any]:
    return {"id": f"g{i}", "problem": f"What is {i}?", "answer": str(i), **more}


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_benchmark_loads_with_its_own_verifier(name: str, fakes: None) -> None:  # noqa: F811
    task = load_task(name)
    assert len(task) >= 24 and task.name == name and task.split == "test"
    assert task._verifier is VERIFIERS[BENCHMARKS[name].verifier]  # type: ignore[attr-defined]
    assert [task[i] for i in range(24)] == [load_task(name)[i] for i in range(24)]


def test_the_name_of_a_file_says_its_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PONDER_DATA", str(tmp_path))
    write(tmp_path / "gsm8k" / "train.jsonl.gz", *(item(i, subject="s", level="2") for i in range(1, 6)))
    write(tmp_path / "gsm8k" / "test_dev.jsonl", item(5), item(6))
    write(tmp_path / "gsm8k" / "test_rest.jsonl", item(6), item(7))
    write(tmp_path / "gsm8k" / "notes.jsonl", item(8))
    train, test = load_task("gsm8k", split="train", size=3), load_task("gsm8k", split="test")
    assert [train[i].id for i in range(len(train))] == ["g1", "g2", "g3"]
    assert (train[0].subject, train[0].level, train[0].text) == ("s", 2, "What is 1?")
    assert [test[i].id for i in range(len(test))] == ["g5", "g6", "g7"]  # the same item twice is one
    assert [part["file"] for part in test.origin] == ["gsm8k/test_dev.jsonl", "gsm8k/test_rest.jsonl"]  # type: ignore[attr-defined]


def test_what_is_held_out_of_training_is_the_dev_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PONDER_DATA", str(tmp_path))
    write(tmp_path / "gsm8k" / "train.jsonl", *(item(i) for i in range(2000)))
    train, dev = ({p.id for p in load_task("gsm8k", split=split)} for split in ("train", "dev"))  # type: ignore[attr-defined]
    assert not train & dev and len(train | dev) == 2000 and 90 < len(dev) < 180
    write(tmp_path / "gsm8k" / "train.jsonl", *(item(i) for i in range(1000)))  # the same ones, whatever is beside them
    assert {p.id for p in load_task("gsm8k", split="dev")} <= dev  # type: ignore[attr-defined]
    write(tmp_path / "gsm8k" / "dev.jsonl", item(5000))  # a file of one's own goes first
    assert [p.id for p in load_task("gsm8k", split="dev")] == ["g5000"]  # type: ignore[attr-defined]


def test_one_id_for_two_problems_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PONDER_DATA", str(tmp_path))
    write(tmp_path / "gsm8k" / "test.jsonl", item(1), item(1, problem="Another?"))
    with pytest.raises(ConfigError, match=r"line 2: the id 'g1' is that of another problem"):
        load_task("gsm8k")


@pytest.mark.parametrize(
    "name", [name for name, b in BENCHMARKS.items() if not any("train" in h.splits for h in b.hub)]
)
def test_what_is_for_measuring_only_refuses_to_be_trained_on(name: str, fakes: None) -> None:  # noqa: F811
    with pytest.raises(ConfigError, match="is for measuring, not for training"):
        load_task(name, split="train")


def test_a_file_whose_name_says_train_may_be_trained_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PONDER_DATA", str(tmp_path))
    write(tmp_path / "mawps" / "train_folds.jsonl", item(1))
    assert len(load_task("mawps", split="train")) == 1


@pytest.mark.parametrize("name", BENCHMARKS)
def test_without_data_and_network_one_error_says_both_ways(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_task(name)
    message = str(caught.value)
    assert "\n" not in message and f"no problems for {name} (test)" in message
    assert BENCHMARKS[name].is_gated or "PONDER_DATA is not set" in message
    assert not BENCHMARKS[name].hub or "the hub cannot be reached" in message


def test_a_folder_that_is_none_and_a_split_that_is_none_are_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="svamp has no dev split; it has test"):
        load_task("svamp", split="dev")
    monkeypatch.setenv("PONDER_DATA", "/nowhere")
    with pytest.raises(ConfigError, match="PONDER_DATA=/nowhere is no folder"):
        load_task("gsm8k")


def test_dials_choose_by_year_level_and_subject(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PONDER_DATA", str(tmp_path))
    years = [item(i, id=f"aime-{2023 + i % 2}-{i}") for i in range(6)]
    write(tmp_path / "aime" / "test.jsonl", *years)
    write(tmp_path / "math500" / "test.jsonl", *(item(i, level=i, subject="Number Theory") for i in range(1, 6)))
    assert len(load_task("aime")) == 6 and len(load_task("aime:year=2024")) == 3
    assert load_task("aime:year=2024")[0].subject == "2024"
    assert len(load_task("math500:level=2-3")) == 2 and len(load_task("math500:subject=number_theory,level=5")) == 1
    with pytest.raises(ConfigError, match=r"no problems of year=1999; there are 2023, 2024"):
        load_task("aime:year=1999")
    with pytest.raises(ConfigError, match="did you mean 'level'"):
        load_task("math500:levle=3")
    with pytest.raises(ConfigError, match="size=0"):
        load_task("aime:size=0")


def test_mawps_has_its_parts_as_subjects(fakes: None) -> None:  # noqa: F811
    task = load_task("mawps")
    assert {task[i].subject.split()[0] for i in range(len(task))} <= {
        "addsub",
        "field",
        "contest",
        "singleeq",
        "singleop",
    }  # type: ignore[union-attr]
    assert len(task) == 4 * 24 and len(load_task("multiarith")) == 24


def test_a_fraction_that_a_program_printed_is_the_fraction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PONDER_DATA", str(tmp_path))
    rows = [item(1, answer="0.6666666666666666"), item(2, answer="3.333"), item(3, answer="0.125")]
    write(tmp_path / "mawps" / "addsub.jsonl", *rows)
    task = load_task("mawps")
    assert [task[i].target for i in range(3)] == ["2/3", "3.333", "0.125"]
    assert task.verify(task[0], "She used 2/3 cup.").is_correct and task[0].subject == "addsub"


@pytest.mark.parametrize("name", HUB_ROWS)
def test_hub_columns_become_problems(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    split, row, identity, target, more = HUB_ROWS[name]
    seen = []

    def rows(repo: str, config: str, part: str, keep: bool = True) -> tuple[list[dict[str, Any]], str]:
        seen.append((repo, config, part))
        return [row] if len(seen) == 1 else [], "abc123"

    monkeypatch.setattr(published, "hub_rows", rows)
    task = load_task(name, split=split)
    assert (task[0].id, task[0].target) == (identity, target)
    assert all(getattr(task[0], field) == value for field, value in more.items())
    assert task.verify(task[0], target).is_correct
    assert task.origin[0] == {"hub": "/".join(seen[0]), "revision": "abc123", "problems": 1}  # type: ignore[attr-defined]


def test_aime_takes_its_exam_years_from_the_hub_and_trains_on_older_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {
        "HuggingFaceH4/aime_2024": [{"id": 60, "problem": "p", "solution": "s", "answer": "204", "year": "2024"}],
        "MathArena/aime_2025": [{"problem_idx": 1, "problem": "q", "answer": 70}],
        "di-zhang-fdu/AIME_1983_2024": [{"ID": "1983-1", "Year": 1983, "Question": "r", "Answer": "60"},
                                        {"ID": "2024-I-1", "Year": 2024, "Question": "p", "Answer": "204"}],
    }  # fmt: skip
    monkeypatch.setattr(published, "hub_rows", lambda repo, config, split, keep: (rows[repo], "abc"))
    test, train = load_task("aime"), load_task("aime", split="train")
    assert [(test[i].subject, test[i].target) for i in range(2)] == [("2024", "204"), ("2025", "70")]
    assert [train[i].id for i in range(len(train))] == ["aime-1983-1"]


def test_a_hub_set_with_other_columns_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published, "hub_rows", lambda repo, config, split, keep: ([{"prompt": "p"}], "abc"))
    with pytest.raises(ConfigError, match="openai/gsm8k/main/test, row 0 does not look as expected"):
        load_task("gsm8k")


def test_a_gated_benchmark_is_fetched_without_keeping_it_and_never_read_from_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "gpqa_diamond" / "test.jsonl", item(1))
    monkeypatch.setenv("PONDER_DATA", str(tmp_path))
    kept = []
    monkeypatch.setattr(published, "hub_rows", lambda r, c, s, keep: (kept.append(keep), (gated_rows(), "abc"))[1])
    task = load_task("gpqa_diamond")
    assert kept == [False] and task.is_gated and len(task) == 24  # type: ignore[attr-defined]
    assert task[0].choices[ord(task[0].target) - ord("A")] == "right 0"
    assert task[0] == load_task("gpqa_diamond")[0]


# ---- the hub's own protocol, from a small local server -------------------------------------------------------------


class Hub(HubReplies):
    files: dict[str, bytes] = {}

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        files, commit = type(self).files, "c" * 40
        if "/closed/" in path:
            return self.reply(403, b"{}", {"X-Error-Code": "GatedRepo"})
        if "/resolve/" in path:
            data = files[path.partition("/resolve/")[2].partition("/")[2]]
            return self.reply(200, data, {"ETag": f'"{len(data)}"', "X-Repo-Commit": commit})
        if "/tree/" in path:
            tree = [{"type": "file", "path": name, "size": len(data), "oid": name} for name, data in files.items()]
            return self.reply(200, json.dumps(tree).encode())
        facts = {"id": "a/b", "sha": commit, "siblings": [{"rfilename": name} for name in files]}
        return self.reply(200, json.dumps(facts).encode())

    do_HEAD = do_GET


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadingHTTPServer]:
    constants = pytest.importorskip("huggingface_hub.constants")
    pytest.importorskip("pyarrow")
    import pyarrow
    import pyarrow.parquet

    for part in ("train", "test"):
        path = tmp_path / f"{part}.parquet"
        rows = [{"question": f"{part} {i}?", "answer": f"so\n#### {i}"} for i in range(3)]
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
        Hub.files[f"main/{part}/0000.parquet"] = path.read_bytes()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "store"))
    monkeypatch.setattr(published, "hub_rows", datahub.hub_rows)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    with served(server) as url:
        use_hub(monkeypatch, url)
        yield server


def test_parquet_from_a_hub_is_read_and_found_again_without_it(hub: ThreadingHTTPServer) -> None:
    task = load_task("gsm8k")
    assert [(task[i].id, task[i].text, task[i].target) for i in range(3)][1] == ("gsm8k-test-0001", "test 1?", "1")
    assert task.origin[0]["revision"] == "c" * 40  # type: ignore[attr-defined]
    hub.shutdown()
    hub.server_close()
    assert len(load_task("gsm8k")) == 3
    with pytest.raises(ConfigError, match=r"no problems for gsm8k \(train\): PONDER_DATA is not set.*from the hub"):
        load_task("gsm8k", split="train")


def test_nothing_of_a_gated_set_is_left_on_the_disk(hub: ThreadingHTTPServer, tmp_path: Path) -> None:
    rows, _ = datahub.hub_rows("a/b", "main", "test", keep=False)
    assert len(rows) == 3 and not list((tmp_path / "store").rglob("*.parquet"))
    with pytest.raises(ConfigError, match="it is gated: accept its terms"):
        datahub.hub_rows("closed/b", "main", "test", keep=False)
    with pytest.raises(ConfigError, match="no such file"):
        datahub.hub_rows("a/b", "other", "test")


def test_a_broken_download_is_one_clear_error(hub: ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(Hub.files, "main/test/0000.parquet", b"PAR1 and no more")
    with pytest.raises(ConfigError, match="a downloaded file is broken"):
        load_task("gsm8k")


def test_the_page_on_tasks_names_every_benchmark_with_its_source() -> None:
    page = (Path(__file__).parents[2] / "docs" / "tasks.md").read_text()
    for name, entry in BENCHMARKS.items():
        assert f"`{name}`" in page, name
        for source in entry.hub:
            assert source.repo in page, source.repo


def test_the_fixture_folder_is_like_a_real_one(tmp_path: Path) -> None:
    names = {path.name for path in write_local(tmp_path).iterdir()}
    assert {"gsm8k", "mawps"} <= names and "gpqa_diamond" not in names
