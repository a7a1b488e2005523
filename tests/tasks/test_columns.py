"""Problems with other people's column names: aliases, CSV, sets of the hub."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from random import Random

import pytest

from ponder.config import ConfigError
from ponder.tasks import hubset, load_task
from ponder.tasks.columns import ALIASES, canonical


@pytest.mark.parametrize("name", ALIASES["problem"])
@pytest.mark.parametrize("other", ALIASES["answer"])
def test_rows_under_other_names_are_problems_numbered_by_their_lines(tmp_path, name, other):
    path = tmp_path / "p.jsonl"
    path.write_text("".join(json.dumps({name: f"{i}+1?", other: i + 1}) + "\n" for i in range(3)))
    task = load_task(f"file:{path}")
    assert [(task[i].id, task[i].text, task[i].target) for i in range(3)] == [
        ("1", "0+1?", "1"), ("2", "1+1?", "2"), ("3", "2+1?", "3")
    ]  # fmt: skip


def test_the_own_name_wins_and_two_aliases_are_refused():
    row = {"problem": "1+1?", "question": "?", "answer": "2", "target": "3"}
    assert {name: canonical(row, "p, line 4")[name] for name in ("problem", "answer", "id")} == {
        "problem": "1+1?", "answer": "2", "id": "4"
    }  # fmt: skip
    with pytest.raises(ConfigError, match="p, line 4: 'question' and 'prompt' could both be the problem; rename"):
        canonical({"question": "a", "prompt": "b"}, "p, line 4")


def test_a_conversation_of_one_question_is_a_problem_and_a_longer_one_is_not():
    question = {"role": "user", "content": "1+1?"}
    assert canonical({"prompt": [question]}, "line 1")["problem"] == "1+1?"
    with pytest.raises(ConfigError, match="one message of the user"):
        canonical({"prompt": [{"role": "system", "content": "Be brief."}, question]}, "line 1")


def test_an_answer_in_the_form_of_gsm8k_is_a_solution_and_an_answer(tmp_path):
    path = tmp_path / "p.jsonl"
    path.write_text(json.dumps({"question": "q", "answer": "2*3=<<2*3=6>>6\n#### 6"}) + "\n")
    problem = load_task(f"file:{path}")[0]
    assert problem.target == "6" and problem.meta["solution"].startswith("2*3") and problem.level == 1


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("p.csv", 'question,answer,subject\n"2, and 2?",4,sums\n"two\n\nlines?",5,\n'),
        ("p.csv", 'question;answer;subject\n"2, and 2?";4;sums\n"two\n\nlines?";5;\n'),
        ("p.tsv", 'question\tanswer\tsubject\n2, and 2?\t4\tsums\n"two\n\nlines?"\t5\t\n'),
        ("p.csv.gz", '\ufeffquestion,answer,subject\r\n"2, and 2?",4,sums\r\n"two\n\nlines?",5,\r\n'),
    ],
)
def test_a_table_is_read_with_quotes_line_breaks_and_empty_cells(tmp_path, name, text):
    path, raw = tmp_path / name, text.encode()
    path.write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)
    task = load_task(str(path))  # as a plain path: `file:` follows from its suffix
    assert [(task[i].text, task[i].target, task[i].subject) for i in range(2)] == [
        ("2, and 2?", "4", "sums"), ("two\n\nlines?", "5", None)
    ]  # fmt: skip
    assert task.origin[0]["problems"] == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("question,answer\n1+1?,2,3\n", "line 2 has more cells than the first line has names"),
        ("question,answer\n\"1+1?,2\n", "quotes"),
        ("text,answer\n1+1?,2\n", "'problem' is missing, or question or prompt .*; there are text, answer"),
        ("question,answer,choices\nq,A,red\n", "line 2: write choices as a JSON list"),
        ("question,answer,choices\nq,A," + "[" * 100_000 + "\n", "line 2: write choices as a JSON list"),
        ("question,answer,question\na,1,b\n", "two columns are called 'question'"),
        ("question,answer\n" + "q" * 200_000 + ",1\n", "Longer texts than that need a .jsonl"),
        ("", "holds no problems"),
    ],
)  # fmt: skip
def test_a_table_that_cannot_be_used_is_one_error_with_its_line(tmp_path, text, message):
    path = tmp_path / "p.csv"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_task(f"file:{path}")


@pytest.mark.parametrize("name", ["p.csv.gz", "p.jsonl.gz"])
def test_a_damaged_gzip_file_is_one_clear_error(tmp_path, name):
    rows = "".join(f'{{"question": "{i}*{i + 1}?", "answer": {i * (i + 1)}}}\n' for i in range(500))
    table = "question,answer\n" + "".join(f"{i}*{i + 1}?,{i * (i + 1)}\n" for i in range(500))
    whole, rng = gzip.compress((table if "csv" in name else rows).encode()), Random(0)
    for _ in range(60):
        data = bytearray(whole)
        data[rng.randrange(10, len(data))] ^= 1 << rng.randrange(8)
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ConfigError, match=name):
            load_task(f"file:{tmp_path / name}")


@pytest.mark.parametrize("name", ["p.jsonl.gz", "p.csv.gz"])
def test_a_small_gzip_file_whose_line_unpacks_to_very_much_fills_no_memory(tmp_path, monkeypatch, name):
    monkeypatch.setattr("ponder.files.SMALL_ENOUGH", 1 << 18)
    (tmp_path / name).write_bytes(gzip.compress(b"id,problem,answer\n" * name.count("csv") + b"x" * 40_000_000))
    tracemalloc.start()
    try:
        with pytest.raises(ConfigError, match="unpacks to more than"):
            load_task(f"file:{tmp_path / name}")
        assert tracemalloc.get_traced_memory()[1] < 30 << 20
    finally:
        tracemalloc.stop()


def test_a_table_may_have_choices(tmp_path):
    path = tmp_path / "p.csv"
    path.write_text('question,answer,options\nWhich?,B,"[""red"", ""blue""]"\n')
    assert load_task(f"file:{path}")[0].choices == ("red", "blue")


@pytest.fixture
def two_sets(monkeypatch):
    """A hub of two data sets: one configuration, and two."""
    rows = {
        ("me/one", "main", "train"): [{"question": f"{i}+1?", "answer": f"so\n#### {i + 1}"} for i in range(4)],
        ("me/two", "a", "validation"): [{"text": f"{i}*2?", "label": 2 * i, "key": f"k{i}"} for i in range(4)],
        ("me/two", "b", "test"): [{"question": "?", "answer": "1"}],
    }

    def hub_rows(repo, config, split):
        if (repo, config, split) not in rows:
            raise ConfigError(f"the data set has no {config}/{split}/*.parquet")
        return rows[repo, config, split], "abc"

    monkeypatch.setattr(hubset, "hub_rows", hub_rows)
    monkeypatch.setattr(hubset, "parts_of", lambda repo: {(c, s) for name, c, s in rows if name == repo})


def test_a_set_of_the_hub_is_a_task_by_its_id(two_sets):
    task = load_task("hub:me/one", split="train")
    assert (len(task), task[3].id, task[3].target, task.name) == (4, "3", "4", "me/one")
    assert task.origin == [{"hub": "me/one/main/train", "revision": "abc", "problems": 4}]
    other = load_task("hub:me/two,config=a,split=validation,problem=text,answer=label,id=key,size=2,verifier=exact")
    assert (len(other), other[1].id, other[1].text, other[1].target, other.verifier) == (2, "k1", "1*2?", "2", "exact")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("hub:me/one", "split test: .*; it has config=main split=train"),
        ("hub:me/two", "has 2 configurations; choose one: config=a or b"),
        ("hub:me/two,config=a,split=validation", "'problem' is missing, or question"),
        ("hub:me/two,config=a,split=validation,problem=txt", "no column 'txt'; there are key, label, text"),
        ("hub:me/two,confg=a", "no dial 'confg'.*config"),
        ("hub:me", "is not OWNER/NAME"),
        ("hub:me/one,size=no", "size=no is not valid"),
    ],
)
def test_a_set_that_cannot_be_used_says_what_there_is(two_sets, spec, message):
    with pytest.raises(ConfigError, match=message):
        load_task(spec)
